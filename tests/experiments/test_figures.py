"""The figure of all panels: runs are made or found, drawn as one picture, told as one table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from rram_host import open_board
from rram_host.array.calibrate import CalibrationPlan
from rram_host.cli import cli
from rram_host.errors import InputError
from rram_host.experiments import figures
from rram_host.experiments.catalogue import EXPERIMENTS
from rram_host.experiments.figures import FIG2, Panel
from rram_host.records.run_file import RunFile

SMALL = (
    Panel("2h", "pattern", {"text": "A", "read_average": 1}),
    Panel("2k", "vmm-example", {"matrices": 1, "vectors": 8}),
)
URL = "sim://?preset=taox_180nm&seed=7"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both panels, recorded with their short settings."""
    where = tmp_path_factory.mktemp("fig2")
    with open_board(URL) as board:
        shown = list(figures.record_panels(board, where, SMALL, quick=True))
    assert [each.panel.place for each in shown] == ["2h", "2k"]
    return where


def test_the_figure_has_every_panel_of_the_paper_and_short_settings_are_valid():
    assert [panel.place for panel in FIG2] == [f"2{letter}" for letter in "defghijk"]
    for panel in FIG2:
        plan = EXPERIMENTS[panel.experiment].plan
        assert plan(**panel.quick) != plan() or not panel.quick


def test_runs_that_are_done_are_not_done_again(folder: Path):
    before = [path.stat().st_mtime_ns for path in sorted(folder.glob("*.h5"))]
    with open_board(URL) as board:
        shown = list(figures.record_panels(board, folder, SMALL, quick=True))
        assert board.traffic.programs < 10  # nothing was programmed
    assert len(shown) == 2
    assert [path.stat().st_mtime_ns for path in sorted(folder.glob("*.h5"))] == before


def test_a_run_of_other_settings_in_the_way_is_refused(folder: Path):
    with open_board(URL) as board, pytest.raises(InputError, match="text is"):
        list(figures.record_panels(board, folder, SMALL, quick=False))


def test_a_stop_ends_with_what_is_done(folder: Path, tmp_path: Path):
    with open_board(URL) as board:
        shown = list(
            figures.record_panels(board, tmp_path, SMALL, quick=True, should_stop=lambda: True)
        )
    assert shown == []


def test_recorded_runs_are_found_and_the_newest_counts(folder: Path, tmp_path: Path):
    shown = figures.recorded_panels(folder, SMALL)
    assert [each.plan.text if i == 0 else each.plan.vectors for i, each in enumerate(shown)] == [
        "A",
        8,
    ]
    again = tmp_path / "a"
    again.mkdir()
    for path in folder.glob("*.h5"):
        (again / path.name).write_bytes(path.read_bytes())
    (again / "other.h5").write_bytes(b"no run")
    with open_board(URL) as board:
        newer = (Panel("2h", "pattern", {"text": "B", "read_average": 1}),)
        list(figures.record_panels(board, tmp_path, newer, quick=True))
    assert figures.recorded_panels(tmp_path, SMALL)[0].plan.text == "B"
    with pytest.raises(InputError, match="no finished run of iv, set-curve"):
        figures.recorded_panels(folder, FIG2)


def test_the_table_holds_every_finding_with_its_panel(folder: Path):
    shown = figures.recorded_panels(folder, SMALL)
    rows = figures.table(shown)
    assert len(rows) == sum(len(each.findings) for each in shown)
    within = next(row for row in rows if row["name"] == "cells within ±3.5 µS")
    assert within["figure"] == "2h" and within["paper"] == "over 95" and within["value"] > 95


def test_the_picture_has_all_panels_side_by_side(folder: Path, tmp_path: Path):
    figures.draw(tmp_path / "f.png", figures.recorded_panels(folder, SMALL), columns=2)
    pixels = np.asarray(Image.open(tmp_path / "f.png").convert("L"))
    height, width = pixels.shape
    assert width > 1.9 * height
    assert all(
        (half < 128).mean() > 0.01 for half in (pixels[:, : width // 2], pixels[:, width // 2 :])
    )


def test_calibration_is_measured_once_and_then_that_of_the_runs(tmp_path: Path):
    with open_board(URL) as board:
        nominal = board.array.calibration
        assert figures.calibrate(board, tmp_path, SMALL, CalibrationPlan(turns=8))
        measured = board.array.calibration.to_dict()
        assert measured != nominal.to_dict()
        list(figures.record_panels(board, tmp_path, SMALL[:1], quick=True))
    with open_board(URL) as board:
        assert not figures.calibrate(board, tmp_path, SMALL)
        assert board.array.calibration.to_dict() == measured
        assert board.traffic.programs < 10
    assert RunFile(tmp_path / "2h-pattern.h5").header.calibration == json.loads(
        json.dumps(measured)
    )


def test_the_command_draws_and_tells(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(figures, "FIG2", SMALL)
    out = tmp_path / "out"
    asked = ["figures", "fig2", "--runs", str(folder), "--out", str(out)]
    told = json.loads(CliRunner().invoke(cli, [*asked, "--json"], catch_exceptions=False).stdout)
    assert told["finished"] is True and told["picture"] == str(out / "fig2.png")
    with (out / "fig2.csv").open(encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert [row["name"] for row in table] == [row["name"] for row in told["rows"]]
    text = CliRunner().invoke(cli, asked, catch_exceptions=False).stdout
    assert "over 95" in text and "rms error of a product" in text
    assert (out / "fig2.png").stat().st_size > 10_000


def test_a_folder_that_cannot_be_written_is_refused_before_a_board_is_opened(tmp_path: Path):
    (tmp_path / "file").touch()
    asked = ["figures", "fig2", "--board", "no://such", "--out", str(tmp_path / "file" / "x")]
    failed = CliRunner().invoke(cli, asked)
    assert isinstance(failed.exception, InputError) and "cannot write" in str(failed.exception)


def test_a_figure_that_is_refused_leaves_no_folder_but_a_given_one(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    for name in ("made", "mine"):
        asked = ["figures", "fig2", "--board", "no://such", "--out", str(tmp_path / name)]
        assert isinstance(CliRunner().invoke(cli, asked).exception, InputError)
    assert [folder.name for folder in tmp_path.iterdir()] == ["mine"]
