"""A run killed by SIGKILL at any instant: nothing committed is lost, and it can be resumed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import sim
from rram_host import open_board
from rram_host.experiments.recording import record
from rram_host.records.run_file import RunFile
from tests.records.quick import QUICK, QuickPlan

KILLS = 50
RESUMED = 10
SEED = 20
PLAN = QuickPlan(n_units=8, rows_a_unit=1)
URL = "sim://?preset=taox_180nm&seed=3"


def run(path: Path, resume: bool = False, progress=None):
    with open_board(URL) as board:
        return record(board, QUICK, PLAN, path, resume=resume, progress=progress)


def child(path: Path, resume: bool = False) -> tuple[int, int]:
    """A process that records and announces every committed unit; its number, and the pipe."""
    there, here = os.pipe()
    pid = os.fork()
    if pid:
        os.close(here)
        return pid, there
    try:
        run(path, resume, lambda done, total: os.write(here, bytes([done])))
        os._exit(0)
    except BaseException:
        os._exit(3)


def ended(pid: int, pipe: int) -> tuple[int, int]:
    """How it ended, and how many units it had announced."""
    status = os.waitpid(pid, 0)[1]
    with os.fdopen(pipe, "rb") as stream:
        announced = stream.read()
    return status, max(announced, default=0)


def killed_after(units: int, path: Path) -> None:
    """Record, and kill the process as soon as so many units are committed."""
    pid, pipe = child(path)
    for _ in range(units + 1):  # it announces the start too
        assert os.read(pipe, 1), "the child failed"
    os.kill(pid, signal.SIGKILL)
    ended(pid, pipe)


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> tuple[dict, float]:
    """Records of the uninterrupted run, and how long a process takes for them."""
    folder = tmp_path_factory.mktemp("reference")
    whole = run(folder / "whole.h5").data()
    start = time.perf_counter()
    pid, pipe = child(folder / "timed.h5")
    assert ended(pid, pipe) == (0, PLAN.n_units)
    took_s = time.perf_counter() - start
    same(RunFile(folder / "timed.h5").data(), whole)
    return whole, took_s


def same(found: dict, wanted: dict, rows: int | None = None) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values[:rows], strict=True, err_msg=name)


def check_killed(path: Path, announced: int, wanted: dict) -> str:
    """The file opens by our reader and by h5py, and holds what was announced."""
    if not path.exists():
        assert announced == 0  # killed before the first pulse
        return "none"
    killed = RunFile(path)
    state = killed.state
    assert state.units >= announced
    assert state.rows == state.units * PLAN.rows_a_unit
    assert (state.status, state.reason) in (("interrupted", "killed"), ("done", ""))
    same(killed.data(), wanted, state.rows)
    try:
        file = h5py.File(path, "r")
    except OSError:  # killed before it was closed: HDF5 wants to be told
        file = h5py.File(path, "r", swmr=True)
    with file:
        np.testing.assert_array_equal(file["wl_v"][: state.rows], wanted["wl_v"][: state.rows])
    return state.status


def test_fifty_kills_at_random_instants_lose_no_committed_record(reference, tmp_path: Path):
    wanted, took_s = reference
    rng = np.random.default_rng(SEED)
    statuses, units = [], set()
    for number, delay_s in enumerate(rng.uniform(0, 1.05 * took_s, KILLS)):
        path = tmp_path / f"{number}.h5"
        pid, pipe = child(path)
        time.sleep(delay_s)
        os.kill(pid, signal.SIGKILL)
        status, announced = ended(pid, pipe)
        assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
        statuses.append(check_killed(path, announced, wanted))
        units.add(announced)
        if number < RESUMED:
            again = run(path, resume=path.exists())
            assert again.state.status == "done"
            same(again.data(), wanted)
            left = {item.name for item in tmp_path.iterdir() if f"{number}.h5" in item.name}
            assert left == {path.name}  # no snapshot, lock or temporary file stays behind
    # instants all along a run, not the same one fifty times
    assert statuses.count("interrupted") > KILLS // 2
    assert len(units) > PLAN.n_units // 2


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(reference, tmp_path: Path):
    wanted, took_s = reference
    path, rng, kills = tmp_path / "x.h5", np.random.default_rng(SEED + 1), 0
    for _ in range(8):
        pid, pipe = child(path, path.exists())
        time.sleep(rng.uniform(0.05, 0.25) * took_s)
        os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(ended(pid, pipe)[0])
        assert code in (0, -signal.SIGKILL)
        kills += code != 0
        if code == 0:
            break
    assert kills >= 1  # how many depends on the machine
    assert run(path, resume=True).state.status == "done"
    same(RunFile(path).data(), wanted)


def test_a_killed_file_is_repaired_for_programs_that_know_nothing_of_it(tmp_path: Path):
    import xarray

    from rram_host.records.run_writer import repair

    path = tmp_path / "x.h5"
    killed_after(3, path)
    with pytest.raises(OSError):
        h5py.File(path, "r").close()  # HDF5 takes it for a file that is being written
    rows = repair(path).state.rows
    assert rows >= 3 * PLAN.rows_a_unit
    with xarray.open_dataset(path, engine="h5netcdf") as dataset:
        assert dataset.sizes["record"] == rows
        assert dataset["wl_v"].attrs["units"] == "V"
    assert RunFile(path).state.reason == "killed"
    assert run(path, resume=True).state.status == "done"


def test_a_killed_run_on_another_board_is_not_gone_on_with(tmp_path: Path):
    from rram_host.errors import InputError

    path = tmp_path / "x.h5"
    killed_after(2, path)
    with (
        open_board(sim.EmulatedBoard(seed=3)) as board,
        pytest.raises(InputError, match="board: url is .*sim://.* there"),
    ):
        record(board, QUICK, PLAN, path, resume=True)
