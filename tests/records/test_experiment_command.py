"""Experiments and run files on the command line, as a user meets them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import h5py
import numpy as np
import pytest
import xarray
from click.testing import CliRunner

from rram_host import open_board
from rram_host.cli.plan_options import options_of, plan_from
from rram_host.experiments.experiment import setting
from rram_host.experiments.recording import record
from rram_host.records.process import Process
from rram_host.records.run_file import RunFile
from sim import EmulatedBoard
from tests.records.quick import QUICK, QuickPlan

URL = "sim://?preset=taox_180nm&seed=5"
ROOT = Path(__file__).parents[2]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.records.quick_cli", *map(str, arguments)]


def started(path: Path, *arguments: object) -> subprocess.Popen[str]:
    """A run in a process of its own, at work on its third unit."""
    more = ("--board", URL, "--out", path, *arguments)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command("quick", *more), cwd=ROOT, **pipes)
    deadline = time.monotonic() + 60
    while not (path.exists() and RunFile(path).state.units >= 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def data_of(plan: QuickPlan, path: Path) -> dict[str, np.ndarray]:
    with open_board(URL) as board:
        return record(board, QUICK, plan, path).data()


def same(found: dict, wanted: dict) -> None:
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.fixture
def invoke(monkeypatch, tmp_path: Path):
    """`rram` in this process, in a folder of its own."""
    from rram_host.experiments.catalogue import EXPERIMENTS
    from tests.records.quick_cli import cli

    monkeypatch.setitem(EXPERIMENTS, "quick", QUICK)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object):
        return CliRunner().invoke(cli, [str(item) for item in arguments])

    return call


def test_the_first_ctrl_c_ends_the_unit(invoke, tmp_path: Path):
    path = tmp_path / "x.h5"
    process = started(path, "--units", 30, "--slow", 0.1, "--json")
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    told = json.loads(out)
    assert (told["status"], told["reason"]) == ("interrupted", "asked to stop")
    assert 2 <= told["units"] < 30 and told["records"] == 3 * told["units"]
    assert "finishing this unit" in errors and f"rram quick --resume {path}" in errors
    assert RunFile(path).state.units == told["units"]
    with xarray.open_dataset(path, engine="h5netcdf") as dataset:  # a whole file
        assert dataset.sizes["record"] == told["records"]
    # settings are the run's; one that is given again has to be the same
    refused = invoke("quick", "--resume", path, "--slow", 0.2)
    assert "slow_s is 0.1 there, 0.2 here" in str(refused.exception)


def test_the_second_ctrl_c_stops_now(tmp_path: Path):
    path = tmp_path / "x.h5"
    process = started(path, "--units", 4, "--slow", 2)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert "finishing" in process.stderr.readline() + process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - start < 1.9  # not at the end of the unit
    assert process.returncode == 130
    assert "rails of an open board were made safe" in errors and "--resume" in errors
    state = RunFile(path).state
    assert (state.status, state.reason) == ("interrupted", "Ctrl-C")
    assert state.rows == 3 * state.units


def test_sigterm_stops_now_and_the_resumed_run_is_the_uninterrupted_one(invoke, tmp_path: Path):
    path = tmp_path / "x.h5"
    process = started(path, "--units", 5, "--slow", 0.3)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert RunFile(path).state.text == "interrupted (SIGTERM)"
    done = invoke("quick", "--resume", path, "--no-picture", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["units"] == 5
    plan = QuickPlan(n_units=5, slow_s=0.3)
    same(RunFile(path).data(), data_of(plan, tmp_path / "whole.h5"))


# ---- without a process of their own -------------------------------------------------------------


def test_a_command_records_draws_and_tells_what_it_found(invoke, tmp_path: Path):
    done = invoke("quick", "--board", URL, "--units", 2, "--target", 49.5, "--cell", "7,8")
    assert done.exit_code == 0, done.output
    assert "conductance of the array" in done.output and " ± " in done.output
    (path,) = (tmp_path / "runs").glob("*-quick.h5")
    assert path.with_suffix(".png").stat().st_size > 5000
    plan = RunFile(path).header.plan
    assert (plan["target_siemens"], plan["cells"], plan["n_units"]) == (49.5e-6, [[7, 8]], 2)
    assert plan["set_wl_v"] == QuickPlan.set_wl_v


def test_runs_lists_shows_plots_exports_and_compares(invoke, tmp_path: Path):
    for name, seed in (("a", 7), ("b", 8)):
        given = ("--board", URL, "--units", 2, "--seed", seed, "--no-picture", "--json")
        assert invoke("quick", "--out", f"{name}.h5", *given).exit_code == 0
    (tmp_path / "bad.h5").write_text("nothing")
    rows = json.loads(invoke("runs", "list", ".", "--json").output)["runs"]
    assert [row["status"] for row in rows if row["experiment"]] == ["done", "done"]
    assert any("is not a run file" in row["status"] for row in rows)
    assert "quick" in invoke("runs", "list", ".").output
    shown = invoke("runs", "show", "a.h5").output
    for word in ("A few SET pulses", "done", "set_wl_v = 1.6", "git", URL, "2 of 2, 6 records"):
        assert word in shown
    assert invoke("runs", "plot", "a.h5").exit_code == 0 and (tmp_path / "a.png").exists()
    assert invoke("runs", "export", "a.h5", "--to", "a.csv").exit_code == 0
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + 6 * 32 * 32  # a line a cell
    told = json.loads(invoke("runs", "compare", "a.h5", "b.h5", "--json").output)
    assert [row["what"] for row in told["differ"]] == ["seed", "plan seed"]
    a, b = (RunFile(f"{name}.h5").data()["conductance_siemens"] for name in "ab")
    means = [1e6 * values.mean(axis=(1, 2)) for values in (a, b)]
    errors = [values.std(ddof=1) / np.sqrt(values.size) for values in means]
    wanted = (means[1].mean() - means[0].mean()) / np.hypot(*errors)
    assert told["findings"][0]["standard_errors"] == pytest.approx(wanted)
    assert "conductance of the array" in invoke("runs", "compare", "a.h5", "b.h5").output


def test_what_cannot_be_is_refused_in_words(invoke, tmp_path: Path):
    for arguments, text in (
        (("runs", "show", "no.h5"), "no run file no.h5"),
        (("runs", "list", "nowhere"), "no folder nowhere"),
        (("quick", "--out", "nowhere/x.h5"), "there is no folder nowhere"),
        (("quick", "--resume", "x.h5", "--out", "y.h5"), "exclude each other"),
        (("quick", "--units", "0"), "n_units = 0 must be at least 1"),
    ):
        done = invoke(*arguments)
        assert done.exit_code == 1 and text in str(done.exception), arguments
    assert "is not a number" in invoke("quick", "--target", "much").output
    assert "is not 2 values" in invoke("quick", "--cell", "1,2,3").output


def test_a_refused_resume_leaves_the_chip_as_it_is(invoke, tmp_path: Path):
    state = tmp_path / "chip.npz"
    url, given = f"{URL}&state={state}", ("--no-picture", "--json")

    def pulses() -> np.ndarray:
        return EmulatedBoard(seed=5, state=state).truth.pulses

    with open_board(url) as board:
        plan = QuickPlan(n_units=3)
        record(board, QUICK, plan, tmp_path / "x.h5", should_stop=iter([False, True]).__next__)
    assert invoke("quick", "--board", url, "--cell", "7,8", *given).exit_code == 0
    before = pulses()
    assert before[7, 8] > 0
    refused = invoke("quick", "--resume", "x.h5", "--set-wl", 1.5, *given)
    assert "set_wl_v is 1.6 there, 1.5 here" in str(refused.exception)
    refused = invoke("quick", "--resume", "x.h5", *given)
    assert "puts the chip back to where the run stopped" in str(refused.exception)
    np.testing.assert_array_equal(pulses(), before)
    assert invoke("quick", "--resume", "x.h5", "--force", *given).exit_code == 0
    assert pulses()[7, 8] == 0
    assert "goes with --resume" in str(invoke("quick", "--board", url, "--force").exception)


def test_runs_repair_takes_a_writer_elsewhere_for_dead_with_force(invoke, tmp_path: Path):
    data_of(QuickPlan(n_units=1), tmp_path / "x.h5")
    elsewhere = asdict(Process.this()) | {"boot": "earlier", "host": "old-name"}
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["state/writer"][()] = json.dumps(elsewhere).encode()
        file["state/status"][()] = b"running"
    assert "on old-name, or was" in str(invoke("runs", "repair", "x.h5").exception)
    done = invoke("runs", "repair", "--force", "x.h5")
    assert done.exit_code == 0 and "interrupted (killed), 3 records" in done.output


def test_a_run_with_a_passport_goes_on_without_a_state_file(invoke, tmp_path: Path):
    """The new board is pristine, its passport says formed: it is put back before it is judged."""
    given = ("--passport", "chip.json", "--no-picture", "--json")
    with open_board(URL, passport="chip.json") as board:
        plan = QuickPlan(n_units=3)
        record(board, QUICK, plan, tmp_path / "x.h5", should_stop=iter([False, True]).__next__)
    done = invoke("quick", "--resume", "x.h5", *given)
    assert done.exit_code == 0, done.exception
    same(RunFile("x.h5").data(), data_of(plan, tmp_path / "whole.h5"))


# ---- options ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OddPlan:
    cell: tuple[int, int] = setting((1, 2), "one cell")
    times_s: tuple[float, ...] = setting((1.0, 10.0), "times")
    window_siemens: tuple[float, float] = setting((20e-6, 80e-6), "window")
    limit_a: float | None = setting(None, "limit")
    fast: bool = setting(False, "be fast")
    name: str = setting("x", "a name", flag="called")


def given(*arguments: str) -> OddPlan:
    made = []
    command = click.Command(
        "odd", params=options_of(OddPlan), callback=lambda **p: made.append(plan_from(OddPlan, p))
    )
    command.main(list(arguments), standalone_mode=False)
    return made[0]


def test_options_follow_the_fields():
    assert given() == OddPlan()
    plan = given("--cell", "3,4", "--times", "1,2e3", "--window", "30,70", "--limit", "1e-3")
    assert plan == OddPlan((3, 4), (1.0, 2000.0), (30e-6, 70e-6), 1e-3)
    assert given("--fast", "--called", "y") == OddPlan(fast=True, name="y")
    text = CliRunner().invoke(click.Command("odd", params=options_of(OddPlan)), ["--help"]).output
    for line in ("--cell ROW,COL", "--window µS,...", "default: 20,80", "--limit A", "--no-fast"):
        assert line in text
