"""A run killed by SIGKILL at any instant: nothing committed is lost, and it can be resumed."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
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


@dataclass
class Child:
    """A process that records: it announces every committed unit, then waits for leave to go on."""

    pid: int
    announcements: int
    leave: int
    seen: int = 0

    def goes_on(self, units: int) -> None:
        os.write(self.leave, bytes(units))

    def wait_for(self, announced: int) -> None:
        """Until it has announced so many units; 0 is the start."""
        while True:
            said = os.read(self.announcements, 1)
            assert said, "the child failed"
            self.seen = said[0]
            if self.seen >= announced:
                return

    def ended(self, kill: bool = True) -> tuple[int, int]:
        """How it ended, and the last unit that it had announced."""
        if kill:
            os.kill(self.pid, signal.SIGKILL)
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.leave)
        with os.fdopen(self.announcements, "rb") as stream:
            announced = stream.read()
        return os.waitstatus_to_exitcode(status), max(announced, default=self.seen)


def child(path: Path, resume: bool = False) -> Child:
    there, here = os.pipe()
    stay, leave = os.pipe()
    pid = os.fork()
    if pid:
        os.close(here)
        os.close(stay)
        return Child(pid, there, leave)

    def announce(done: int, total: int) -> None:
        os.write(here, bytes([done]))
        os.read(stay, 1)

    try:
        os.close(leave)  # with the parent gone, nobody is waited for
        run(path, resume, announce)
        os._exit(0)
    except BaseException:
        os._exit(3)


def killed_after(units: int, path: Path) -> None:
    """Record, and kill the process as soon as so many units are committed."""
    process = child(path)
    process.goes_on(units)
    process.wait_for(units)
    process.ended()


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> tuple[dict, float, float]:
    """Records of the uninterrupted run, and how long its start and a unit of it take."""
    folder = tmp_path_factory.mktemp("reference")
    whole = run(folder / "whole.h5").data()
    process = child(folder / "timed.h5")
    times = [time.perf_counter()]
    for units in (0, PLAN.n_units):
        process.wait_for(units)
        times.append(time.perf_counter())
        process.goes_on(PLAN.n_units)
    assert process.ended(kill=False) == (0, PLAN.n_units)
    same(RunFile(folder / "timed.h5").data(), whole)
    return whole, times[1] - times[0], (times[2] - times[1]) / PLAN.n_units


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
    wanted, start_s, unit_s = reference
    rng = np.random.default_rng(SEED)
    # -1: while it starts; 0 to 7: in the unit after so many; 8: while it closes its file. It gets
    # leave for one unit at a time, so where it is killed does not depend on the machine's speed.
    for number, units in enumerate(rng.permutation(np.arange(KILLS) % (PLAN.n_units + 2) - 1)):
        path = tmp_path / f"{number}.h5"
        process = child(path)
        if units >= 0:
            process.goes_on(units + 1)
            process.wait_for(units)
        time.sleep(rng.uniform(0, start_s if units < 0 else unit_s))
        code, announced = process.ended()
        status = check_killed(path, announced, wanted)
        if units < 0:
            assert status in ("none", "interrupted")
        elif units < PLAN.n_units:
            assert (code, status) == (-signal.SIGKILL, "interrupted")
        if number < RESUMED:
            again = run(path, resume=path.exists())
            assert again.state.status == "done"
            same(again.data(), wanted)
            left = {item.name for item in tmp_path.iterdir() if f"{number}.h5" in item.name}
            assert left == {path.name}  # no snapshot, lock or temporary file stays behind


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(reference, tmp_path: Path):
    wanted, _, unit_s = reference
    path, rng = tmp_path / "x.h5", np.random.default_rng(SEED + 1)
    for _ in range(6):
        process = child(path, path.exists())
        process.wait_for(0)
        process.goes_on(1)
        time.sleep(rng.uniform(0, 1.5 * unit_s))
        assert process.ended()[0] == -signal.SIGKILL
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
