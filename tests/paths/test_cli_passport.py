"""`--passport FILE` and `rram passport`, in processes of their own, on an emulated board."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge import board_spec
from rram_host.passport import Limits, Passport
from sim.board import EmulatedBoard
from tests.paths.test_cli import refused, rram, the_json

OPENS_A_BOARD = ("info", "read", "program", "vmm", "sample", "train")


@pytest.fixture
def chip(tmp_path: Path) -> Path:
    return tmp_path / "chip7.json"


@pytest.fixture
def board(tmp_path: Path) -> str:
    return f"sim://?preset=ideal&seed=3&state={tmp_path / 'chip.npz'}"


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    values = np.full((32, 32), np.nan)
    values[4:12, 20:30] = np.random.default_rng(0).uniform(20e-6, 80e-6, (8, 10))
    np.save(tmp_path / "targets.npy", values)
    return tmp_path / "targets.npy"


@pytest.mark.parametrize("command", OPENS_A_BOARD)
def test_every_command_that_opens_a_board_takes_a_passport(command: str):
    text = " ".join(rram(command, "--help").stdout.split())
    assert "--passport FILE" in text and "RRAM_PASSPORT" in text


def test_help_has_examples():
    done = rram("passport", "--help")
    assert done.returncode == 0
    assert "\n  rram passport" in done.stdout.split("Options:")[0] and "\\b" not in done.stdout
    for word in ("--board", "--json", "--out", "RRAM_PASSPORT"):
        assert word in done.stdout
    assert "passport" in rram("--help").stdout


def test_a_life_of_a_chip(chip: Path, board: str, targets: Path, tmp_path: Path):
    where = ["--board", board, "--passport", chip]
    report = the_json(rram("program", targets, *where, "--json", "--out", tmp_path / "p"))
    assert report["left_out_cells"] == [] and report["converged"] == 80
    settings = json.loads((tmp_path / "p" / "run.json").read_text())["settings"]
    assert settings["passport"] == str(chip)
    the_json(rram("read", *where, "--json"))
    known = Passport.load(chip)
    known.note_dead(5, 25, "leaks")
    known.note_limits(Limits(conductance_max_siemens=90e-6))
    known.save()
    text = rram("program", targets, *where)
    assert text.returncode == 0 and "left out: row 5, column 25: leaks" in text.stdout
    assert "79 of 79 cells converged" in text.stdout
    report = the_json(rram("program", targets, *where, "--json"))
    assert report["left_out_cells"] == [{"row": 5, "col": 25, "reason": "leaks"}]
    np.save(tmp_path / "high.npy", np.full((32, 32), 100e-6))
    refused(rram("program", tmp_path / "high.npy", *where), "'chip7'", "at most 90.00 µS")
    assert the_json(rram("info", *where, "--json"))["chip"] == "chip7"

    shown = the_json(rram("passport", chip, "--json", "--out", tmp_path / "s", "--board", board))
    truth = EmulatedBoard("ideal", seed=3, state=tmp_path / "chip.npz").truth.pulses
    pulses = np.array(shown["pulses"]) + np.array(shown["form_pulses"])
    np.testing.assert_array_equal(pulses, truth)
    assert shown["agrees_with_board"] is True and shown["calibration_age_s"] is None
    assert (tmp_path / "s" / "map.png").stat().st_size > 5000
    boards = {event["board"] for event in shown["events"]}
    assert boards == {board, "no board"} and len(shown["forming"]) == 1

    before = chip.read_bytes()
    lines = rram("passport", chip, "--board", board).stdout
    for word in ("chip7", "zc706, 32 x 32", "80 of 1024 cells", "row 5, column 25: leaks", "none",
                 "targets at most 90.00 µS", "80 cells with", "agrees with the map"):  # fmt: skip
        assert word in lines
    assert chip.read_bytes() == before


def test_the_environment_names_the_passport(chip: Path, board: str):
    environment = {**os.environ, "RRAM_PASSPORT": str(chip)}
    for arguments in (["read", "--board", board], ["passport"]):
        command = [str(Path(sys.executable).with_name("rram")), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        assert done.returncode == 0, done.stderr
    assert "chip7" in done.stdout and "1024 cells read" in done.stdout


def test_a_calibration_is_shown_with_its_age(chip: Path):
    known = Passport.new(chip, board_spec.load())
    known.note_calibration({"gain": [1.0]})
    known.save()
    done = rram("passport", chip)
    assert done.returncode == 0 and " s old" in done.stdout and "has not been read" in done.stdout
    assert the_json(rram("passport", chip, "--json"))["calibration_age_s"] >= 0


def test_bad_passports_are_one_clear_line_and_exit_code_two(chip: Path, board: str, tmp_path: Path):
    read = ["read", "--board", board, "--passport"]
    refused(rram(*read, tmp_path / "none" / "chip.json"), "no folder")
    refused(rram(*read, tmp_path), "--passport")
    refused(rram("passport", chip), "there is no passport")
    refused(rram("passport"), "FILE")
    chip.write_text("{")
    refused(rram(*read, chip), "chip7.json is not JSON")
    refused(rram("passport", chip), "chip7.json is not JSON")
    chip.write_text('{"version": 9}')
    refused(rram(*read, chip), "version 9", "version 1")
    assert not (tmp_path / "chip.npz").exists()


def test_another_chip_is_refused(chip: Path, board: str, targets: Path):
    assert rram("program", targets, "--board", board, "--passport", chip).returncode == 0
    other = rram("passport", chip, "--board", "sim://?preset=ideal&seed=3")
    refused(other, "80 of 80 cells that were formed read pristine", "'chip7'")


def test_sampling_notes_its_pulses_too(chip: Path, board: str, tmp_path: Path):
    where = ["--board", board, "--passport", chip, "--json", "--out", tmp_path / "run.h5"]
    values = the_json(rram("sample", "-n", 64, "--batch", 64, "--lora-steps", 0, *where))
    assert values["left_out_cells"] == []
    assert Passport.load(chip).contents.form_pulses.any()
