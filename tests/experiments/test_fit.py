"""`rram fit`: recorded runs of a hidden preset give its parameters back, within stated errors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

import sim
from rram_host import open_board
from rram_host.cli import cli
from rram_host.errors import InputError
from rram_host.experiments import iv, linearity, retention, set_curve
from rram_host.experiments.fitting.picture import draw
from rram_host.experiments.fitting.report import fit_files
from rram_host.experiments.recording import record
from sim import presets
from tests.experiments.fit_records import HIDDEN

_PRESETS = Path(sim.__file__).parent / "presets"
CELLS = [(1, 2), (4, 9), (8, 30), (13, 17), (17, 5), (22, 26), (27, 11), (30, 21)]
TOLD = set(HIDDEN)


def hidden_preset(folder: Path) -> Path:
    """taox_180nm with other values, as a file."""
    text = (_PRESETS / "taox_180nm.toml").read_text(encoding="utf-8")
    for key, value in HIDDEN.items():
        text, n = re.subn(
            rf"(?m)^({key} = {{ value = )[^,]*,", lambda m, v=value: f"{m[1]}{v!r},", text
        )
        assert n == 1, key
    path = folder / "hidden.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Run files of I-V of eight cells, a set curve and retention, all of one board.

    Of 16 seeds, and so 288 pulls, one was beyond 3; this one is like most.
    """
    folder = tmp_path_factory.mktemp("fit")
    with open_board(f"sim://?preset={hidden_preset(folder)}&seed=4") as board:
        for k, cell in enumerate(CELLS):
            plan = iv.IvPlan(cell=cell, cycles=5, compliance_v=2.0, step_v=0.1, average=1)
            record(board, iv.EXPERIMENT, plan, folder / f"iv{k}.h5")
        curve = set_curve.SetCurvePlan(wl_start_v=1.0, wl_step_v=0.175, repetitions=3, per_row=3)
        record(board, set_curve.EXPERIMENT, curve, folder / "set.h5")
        kept = retention.RetentionPlan(cells=96, points_per_decade=2)
        record(board, retention.EXPERIMENT, kept, folder / "retention.h5")
    return folder


@pytest.fixture(scope="module")
def files(recorded):
    return [*sorted(recorded.glob("iv*.h5")), recorded / "set.h5", recorded / "retention.h5"]


@pytest.fixture(scope="module")
def report(files):
    return fit_files(files)


def test_runs_recorded_on_a_board_give_the_hidden_preset_back(report):
    found = {item.name: item for item in report.estimates}
    assert set(found) == TOLD
    pulls = {name: (item.value - HIDDEN[name]) / item.error for name, item in found.items()}
    assert {name: pull for name, pull in pulls.items() if abs(pull) > 3} == {}
    # 18 pulls, most of them of independent quantities: rms 1 to 1 / sqrt(36)
    assert 0.5 < np.sqrt(np.mean(np.square(list(pulls.values())))) < 1.6


@pytest.mark.parametrize(
    ("name", "relative"),
    [
        ("set_slope_siemens_per_v", 0.03),
        ("reset_slope_siemens_per_v", 0.01),
        ("reset_top_siemens", 0.01),
        ("set_v", 0.05),
        ("reset_v", 0.05),
        ("set_offset_v", 0.02),
        ("cycle_spread", 0.05),
        ("cycle_floor_siemens", 0.5),
        ("relax_siemens2_per_decade", 0.3),
    ],
)
def test_stated_errors_are_small_enough_to_be_of_use(report, name, relative):
    item = next(item for item in report.estimates if item.name == name)
    assert item.error < relative * HIDDEN[name]


def test_data_lie_on_the_fitted_laws(report):
    assert len(report.residuals) == 5
    for _, residual in report.residuals:
        assert residual.dof > 0 and residual.sigmas < 4, residual


def test_the_command_writes_a_preset_a_picture_and_a_table(recorded, files, report):
    out, picture = recorded / "mine.toml", recorded / "fit.png"
    asked = ["fit", *map(str, files[:-1]), "--out", str(out), "--picture", str(picture)]
    done = CliRunner().invoke(cli, asked, catch_exceptions=False)
    assert done.exit_code == 0
    assert "set_slope_siemens_per_v" in done.output and "µS/V" in done.output
    assert "readings were not calibrated" in done.output
    assert picture.read_bytes()[:4] == b"\x89PNG"
    fitted, base = presets.load(str(out)), presets.load(str(recorded / "hidden.toml"))
    for item in report.estimates:
        if not item.name.startswith("relax"):
            assert getattr(fitted.cells, item.name) == pytest.approx(item.value, rel=1e-5)
    assert fitted.cells.relax_onset_s == base.cells.relax_onset_s
    assert fitted.cells.form_v == base.cells.form_v and fitted.analog == base.analog
    with open_board(f"sim://?preset={out}&seed=1") as board:
        assert board.array.read(1).shape == (32, 32)


def test_every_law_has_a_panel_with_data_and_units(report):
    figure = Figure(layout="constrained")
    draw(figure, report)
    figure.canvas.draw()
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 7
    for axes in shown:
        assert axes.has_data() and axes.get_legend() is not None
        assert "(V)" in axes.get_xlabel() or "(s)" in axes.get_xlabel()
        assert "(µS)" in axes.get_ylabel() or "share" in axes.get_ylabel()
    assert any("relax_onset_s is not told" in note for note in report.notes)


def test_a_run_whose_tails_are_of_jumps_says_so(tmp_path):
    plan = retention.RetentionPlan(
        cells=32, points_per_decade=1, low_siemens=10e-6, high_siemens=38e-6
    )
    with open_board("sim://?preset=relax_40&seed=2") as board:
        record(board, retention.EXPERIMENT, plan, tmp_path / "jumps.h5")
    report = fit_files([tmp_path / "jumps.h5"])
    assert "relax_spread" not in {item.name for item in report.estimates}
    assert any("relax_spread is not told by jumps.h5" in note for note in report.notes)


def test_staircases_that_move_the_cell_at_once_tell_no_read_noise(tmp_path):
    plan = iv.IvPlan(cell=(3, 3), cycles=8, reset_start_v=1.4, step_v=0.1, average=1)
    with open_board("sim://?seed=3") as board:
        record(board, iv.EXPERIMENT, plan, tmp_path / "iv.h5")
    report = fit_files([tmp_path / "iv.h5"])
    found = {item.name: item for item in report.estimates}
    assert "read_noise" not in found
    assert found["cycle_floor_siemens"].note == "with the noise of readings"
    assert any("read_noise is not told" in note for note in report.notes)


def test_json_says_the_same_in_si_units(recorded, files, report):
    some = [str(path) for path in files[-2:-1]]
    done = CliRunner().invoke(cli, ["fit", *some, "--json"], catch_exceptions=False)
    told = json.loads(done.output)
    by_name = {item["name"]: item for item in told["parameters"]}
    slope = by_name["set_slope_siemens_per_v"]
    known = next(item for item in report.estimates if item.name == "set_slope_siemens_per_v")
    # the noise of a reading, known from the I-V, moves weights and nothing else
    assert slope["value"] == pytest.approx(known.value, rel=2e-3)
    assert slope["unit"] == "S/V" and slope["runs"] == ["set.h5"]
    assert told["residuals"][0]["dof"] == 3 and told["preset"] is None


def test_what_is_no_run_or_too_little_is_refused_in_one_line(recorded, files, tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("no run")
    with open_board("sim://?preset=ideal") as board:
        few = retention.RetentionPlan(cells=3, stop_s=10.0)
        record(board, retention.EXPERIMENT, few, tmp_path / "few.h5")
        record(board, retention.EXPERIMENT, few, tmp_path / "empty.h5", should_stop=lambda: True)
        record(board, linearity.EXPERIMENT, linearity.LinearityPlan(), tmp_path / "other.h5")
    for paths, words in (
        ([text], "not a run file"),
        ([tmp_path / "none.h5"], "no run file"),
        ([tmp_path / "few.h5"], "3 cells at"),
        ([tmp_path / "empty.h5"], "has no records"),
        ([tmp_path / "other.h5"], "a run of linearity; fits are of iv, set-curve, retention"),
        ([files[0], files[0]], "named twice"),
        ([], "no run files"),
    ):
        with pytest.raises(InputError, match=words) as refused:
            fit_files(paths)
        assert "\n" not in str(refused.value)
    mixed = fit_files([tmp_path / "other.h5", recorded / "set.h5"])  # as a folder of runs is
    assert "left out: other.h5, of linearity" in mixed.notes and len(mixed.boards) == 1
