"""`rram cost` as a user meets it: in a process of its own, without a board."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware_bridge import board_spec
from tests.paths.test_cli import refused, rram, the_json

PHASES = {"dac_words", "settling", "switching", "conversions", "pulses", "overhead"}


def test_help_says_what_it_does_with_an_example():
    done = rram("cost", "--help")
    assert done.returncode == 0
    examples = done.stdout.split("Options:")[0]
    assert "bound" in examples and "\n  rram cost" in examples and "\\b" not in done.stdout
    assert "--json" in done.stdout and "--spec" in done.stdout and "--vectors" in done.stdout
    assert "--board" not in done.stdout
    assert "cost" in rram("--help").stdout


def test_the_json_holds_jobs_by_phase_and_a_row_for_every_number_of_converters():
    values = the_json(rram("cost", "--json", "--vectors", 100))
    assert (values["board"], values["adcs"], values["vectors"]) == ("zc706", 8, 100)
    product = values["jobs"][0]
    assert product["job"] == "product, each of a batch" and product["ratio"] <= 1.15
    for job in values["jobs"]:
        assert set(job["phases_s"]) == PHASES
        assert job["total_s"] == pytest.approx(sum(job["phases_s"].values()))
        assert job["total_s"] == pytest.approx(job["ratio"] * job["bound_s"])
    assert [row["adcs"] for row in values["by_adcs"]] == [1, 4, 8, 32]
    for row in values["by_adcs"]:
        assert row["products_per_s"] == pytest.approx(1 / row["total_s"])
        assert 1 <= row["ratio"] <= 1.15


def test_the_tables_are_for_people():
    done = rram("cost")
    assert done.returncode == 0 and done.stderr == ""
    for word in ("DAC words", "conversions", "bound", "ratio", "4096 products", "forming step"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
    rows = [line.split() for line in done.stdout.splitlines() if line.strip().startswith("8 ")]
    assert len(rows) == 1 and float(rows[0][-2]) <= 1.15


def test_another_board_file_is_costed(tmp_path: Path):
    text = (board_spec.BOARDS / "zc706.toml").read_text(encoding="utf-8")
    (tmp_path / "slow.toml").write_text(text.replace('"zc706"', '"slow"'), encoding="utf-8")
    assert the_json(rram("cost", "--spec", tmp_path / "slow.toml", "--json"))["board"] == "slow"


def test_bad_input_is_one_clear_line_and_exit_code_two(tmp_path: Path):
    refused(rram("cost", "--vectors", 0), "vectors = 0", "1..100000")
    refused(rram("cost", "--vectors", 10**9), "vectors = 1000000000", "1..100000")
    refused(rram("cost", "--vectors", "many"), "many")
    refused(rram("cost", "--spec", "zc707"), "zc707", "zc706")
    refused(rram("cost", "--board", "sim://"), "--board")
    text = (board_spec.BOARDS / "zc706.toml").read_text(encoding="utf-8")
    bad = text.replace("3500.0", "-3500.0")
    (tmp_path / "bad.toml").write_text(bad, encoding="utf-8")
    refused(rram("cost", "--spec", tmp_path / "bad.toml"), "readout.tia_feedback[0]", "-3500.0 ohm")
