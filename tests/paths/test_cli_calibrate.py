"""`rram calibrate` as a user meets it: in a process of its own, on an emulated board."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge import board_spec
from rram_host.array.calibration import Calibration
from rram_host.passport import Passport
from sim.board import EmulatedBoard
from tests.paths.test_cli import refused, rram, the_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calibrated")


@pytest.fixture(scope="module")
def where(folder: Path) -> list[object]:
    """A board that keeps its state, and the passport of its chip."""
    return ["--board", f"sim://?seed=7&state={folder / 'chip.npz'}", "--passport",
            folder / "chip.json"]  # fmt: skip


@pytest.fixture(scope="module")
def calibrated(folder: Path, where: list[object]) -> dict:
    """What `rram calibrate --prepare` says of a chip from the factory."""
    return the_json(
        rram(
            "calibrate", "--prepare", *where, "--turns", 32, "--json", "--out", folder / "run"
        )
    )  # fmt: skip


def test_help_says_what_it_costs_with_an_example():
    done = rram("calibrate", "--help")
    assert done.returncode == 0
    text = done.stdout.split("Options:")[0]
    assert "\n  rram calibrate" in text and "\\b" not in done.stdout
    for option in ("--board", "--passport", "--prepare", "--turns", "--json", "--out"):
        assert option in done.stdout
    assert "LOST" in done.stdout  # what the array holds, with --prepare
    assert "calibrate" in rram("--help").stdout


def test_it_says_what_it_found_and_what_that_is_worth(calibrated: dict):
    error = calibrated["rms_error_a"]
    assert set(error) == {"uncalibrated", "board file", "calibrated"}
    assert error["uncalibrated"] > error["board file"] > error["calibrated"]
    assert calibrated["times_down"] == pytest.approx(error["uncalibrated"] / error["calibrated"])
    assert calibrated["times_down"] >= 10
    assert 0.9 < calibrated["times_floor"] < 1.5
    # 2 ohm of lead and 1 ohm a segment, to what 32 turns tell
    assert calibrated["bl_lead_ohm"] == pytest.approx(2, rel=0.3)
    assert calibrated["bl_segment_ohm"] == pytest.approx(1, rel=0.1)
    assert calibrated["sl_segment_ohm"] == pytest.approx(1, rel=0.6)


def test_it_is_in_the_passport_and_is_the_chip_s(calibrated: dict, folder: Path):
    assert calibrated["passport"] == str(folder / "chip.json")
    kept = Passport.load(folder / "chip.json")
    assert kept.calibration == calibrated["calibration"]
    found = Calibration.from_dict(kept.calibration)
    spec = board_spec.load()
    true = EmulatedBoard("taox_180nm", seed=7).bench.switch_ohm[spec.sl_tia]
    assert np.abs(found.lines.row_ohm - true).max() < 4 * found.row_error_ohm.max()
    # preparing wrote every cell, and calibrating none
    truth = EmulatedBoard("taox_180nm", seed=7, state=folder / "chip.npz").truth
    contents = kept.contents
    assert np.array_equal(truth.pulses, contents.pulses + contents.form_pulses)
    assert (truth.pulses > 0).all()


def test_records_and_a_picture_are_written(calibrated: dict, folder: Path):
    run = folder / "run"
    assert (run / "calibration.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (run / "calibration.png").stat().st_size > 20_000
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["settings"]["prepare"] is True and record["settings"]["turns"] == 32
    assert record["results"]["times_down"] == calibrated["times_down"]
    with np.load(run / "products.npz") as products:
        shapes = {name: products[name].shape for name in products}
    names = ("expected_a", "uncalibrated_a", "board_file_a", "calibrated_a")
    assert shapes == dict.fromkeys(names, (2048, 32))


def test_the_next_commands_with_that_passport_use_it(
    calibrated: dict, folder: Path, where: list[object]
):
    """Products agree better with what reads say that the weights are; and cells are truly where
    they were asked to be, which without calibration a third of them is.
    """
    rng = np.random.default_rng(0)
    np.save(folder / "w.npy", rng.normal(size=(16, 12)))
    np.save(folder / "x.npy", rng.normal(size=(256, 12)))
    vmm = ["vmm", folder / "w.npy", folder / "x.npy", "--json"]
    key = "relative_rms_error_of_read_back_weights"
    with_it, without = (the_json(rram(*vmm, *options))[key] for options in (where, where[:2]))
    # 2.3 % and 3.5 %: noise of reads and products is in both
    assert with_it < 0.85 * without
    targets = rng.uniform(20e-6, 80e-6, (32, 32))
    np.save(folder / "t.npy", targets)
    report = the_json(rram("program", folder / "t.npy", *where, "--json"))
    assert report["share_within_1p5_microsiemens"] >= 0.99
    emulated = EmulatedBoard("taox_180nm", seed=7, state=folder / "chip.npz")
    conducted = emulated.truth.conductances_siemens * emulated.bench.noise.factor
    assert (np.abs(conducted - targets) <= 1.5e-6).mean() >= 0.98  # 32 turns, not 256
    assert " s old" in rram("passport", folder / "chip.json").stdout


def test_without_prepare_the_array_is_left_alone_and_text_is_for_people(
    calibrated: dict, folder: Path, where: list[object]
):
    before = EmulatedBoard("taox_180nm", seed=7, state=folder / "chip.npz").truth.pulses
    done = rram("calibrate", *where[:2], "--turns", 4)
    assert done.returncode == 0
    for words in ("rms error of a product, uncalibrated", "times down by calibration", "switches",
                  "amplifier offsets", "not kept: give --passport FILE"):  # fmt: skip
        assert words in done.stdout
    after = EmulatedBoard("taox_180nm", seed=7, state=folder / "chip.npz").truth.pulses
    assert np.array_equal(after, before)


def test_a_chip_that_is_not_formed_is_one_line_and_exit_code_one(tmp_path: Path):
    passport = tmp_path / "new.json"
    done = rram("calibrate", "--board", "sim://?seed=8", "--passport", passport, "--json")
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("rram: calibration needs") and "form and program" in line
    assert Passport.load(passport).calibration is None


def test_bad_input_is_one_clear_line_and_exit_code_two(tmp_path: Path):
    refused(rram("calibrate", "--turns", 0), "turns = 0 is outside 1..10000")
    refused(rram("calibrate", "--board", "sim://?preset=glass"), "glass")
    refused(rram("calibrate", "--passport", tmp_path / "none" / "chip.json"), "no folder")
