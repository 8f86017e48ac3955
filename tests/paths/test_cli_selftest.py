"""`rram selftest` as a user meets it: in a process of its own, on an emulated board."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sim.board import EmulatedBoard
from tests.paths.test_cli import refused, rram, the_json


@pytest.fixture(scope="module")
def chip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a formed chip (chip.npz) and what it holds (map.npy)."""
    folder = tmp_path_factory.mktemp("chip")
    emulated = EmulatedBoard("taox_180nm", seed=7, state=folder / "chip.npz")
    cells = emulated.bench.cells
    cells.formed[:] = True
    cells.g = np.random.default_rng(7).uniform(20e-6, 80e-6, cells.g.shape)
    np.save(folder / "map.npy", cells.g)
    emulated.close()
    return folder


def _url(chip: Path, fault: str = "") -> str:
    return f"sim://?seed=7&state={chip / 'chip.npz'}&fault={fault}"


def test_help_says_what_it_does_with_an_example():
    done = rram("selftest", "--help")
    assert done.returncode == 0
    text = done.stdout.split("Options:")[0]
    assert "Exit code" in text and "\n  rram selftest" in text and "\\b" not in done.stdout
    for option in ("--board", "--map", "--exercise", "--json", "--out"):
        assert option in done.stdout
    assert "selftest" in rram("--help").stdout


def test_a_healthy_board_passes_and_the_text_says_what_was_measured(chip: Path):
    done = rram("selftest", "--board", _url(chip), "--map", chip / "map.npy")
    assert done.returncode == 0 and done.stderr == ""
    for words in ("DAC links", "8 of 8", "bit lines", "not tested: whether cells switch"):
        assert words in done.stdout
    assert "no fault found" in done.stdout


def test_a_fault_is_named_and_the_exit_code_is_one(chip: Path, tmp_path: Path):
    out = tmp_path / "run"
    done = rram("selftest", "--board", _url(chip, "open_wl:7"), "--out", out)
    assert done.returncode == 1
    assert "FAULT open_wl, row 7: WL7" in done.stdout and "1 fault found" in done.stdout
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert record["results"]["findings"][0]["kind"] == "open_wl"
    assert np.load(out / "tia_offsets.npy").shape == (32,)


def test_json_holds_findings_checks_and_gaps(chip: Path):
    values = the_json(rram("selftest", "--board", _url(chip), "--json"))
    assert values["passed"] is True and values["findings"] == []
    assert {check["name"] for check in values["checks"]} >= {"ADC gain", "word lines", "cells"}
    assert len(values["not_tested"]) == 2 and len(values["tia_offsets_v"]) == 32
    done = rram("selftest", "--board", _url(chip, "stuck_mux:15:1"), "--json")
    assert done.returncode == 1
    (finding,) = json.loads(done.stdout)["findings"]
    assert (finding["kind"], finding["where"]) == ("stuck_mux", [15])


def test_a_board_that_cannot_be_opened_for_its_dacs_is_still_diagnosed(chip: Path):
    dead = _url(chip, "dead_dac:1")
    assert rram("info", "--board", dead).returncode == 1
    done = rram("selftest", "--board", dead)
    assert done.returncode == 1 and "FAULT dead_dac, DAC chip 1" in done.stdout


def test_exercise_finds_a_stuck_cell(chip: Path):
    done = rram("selftest", "--board", _url(chip, "stuck_high:4:5"), "--exercise")
    assert done.returncode == 1 and "FAULT stuck_high, row, column 4, 5" in done.stdout


def test_bad_input_is_one_clear_line_and_exit_code_two(chip: Path, tmp_path: Path):
    np.save(tmp_path / "small.npy", np.zeros((3, 3)))
    refused(rram("selftest", "--board", _url(chip), "--map", tmp_path / "small.npy"), "(3, 3)")
    refused(rram("selftest", "--board", _url(chip), "--map", tmp_path / "no.npy"), "no.npy")
    refused(rram("selftest", "--board", "sim://?fault=gremlin"), "gremlin", "open_wl")
