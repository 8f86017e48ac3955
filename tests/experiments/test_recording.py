"""Recording and resuming: the same records, bit for bit, and clear words where that cannot be."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest

import sim
from firmware_bridge import board_spec, registers
from rram_host import open_board
from rram_host.array.calibration import Calibration
from rram_host.errors import BoardFault, InputError
from rram_host.experiments.recording import record
from rram_host.passport import Passport
from rram_host.records.run_file import RunFile
from rram_host.records.run_writer import RunWriter
from tests.records.quick import QUICK, QuickPlan

URL = "sim://?preset=taox_180nm&seed=5"
PLAN = QuickPlan(n_units=4, rows_a_unit=2)


def run(path: Path, url: str = URL, plan=PLAN, experiment=QUICK, **more) -> RunFile:
    """On a newly opened board."""
    with open_board(url) as board:
        return record(board, experiment, plan, path, **more)


def after(n: int):
    """Asked after every unit whether to stop; yes when n units are done."""
    answers = iter([False] * n + [True] * 99)
    return lambda: next(answers)


def same(found: RunFile, wanted: RunFile) -> None:
    a, b = found.data(), wanted.data()
    assert a.keys() == b.keys()
    for name, values in b.items():
        np.testing.assert_array_equal(a[name], values, strict=True, err_msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunFile:
    return run(tmp_path_factory.mktemp("whole") / "w.h5")


@pytest.mark.parametrize("units", [0, 1, 3])
def test_a_resumed_run_ends_with_the_records_of_an_uninterrupted_one(
    units: int, whole: RunFile, tmp_path: Path
):
    cut = run(tmp_path / "x.h5", should_stop=after(units))
    assert (cut.state.status, cut.state.units) == ("interrupted", units)
    told = []
    with open_board(URL) as board:
        board.array.read(9)  # another past of this session must not matter
        board.array.use(
            dataclasses.replace(board.array.calibration, range_gain=np.full((4, 32), 1.1))
        )
        again = record(board, QUICK, PLAN, tmp_path / "x.h5", True, lambda *now: told.append(now))
    assert told == [(n, 4) for n in range(units, 5)]
    assert again.state.text == "done"
    same(again, whole)
    assert [item.name for item in tmp_path.iterdir()] == ["x.h5"]


def test_an_error_in_a_unit_fails_the_run_which_can_go_on(whole: RunFile, tmp_path: Path):
    def broken(board, plan, start, done):
        for unit, batch in enumerate(QUICK.run(board, plan, start, done), start):
            if unit == 2:
                raise BoardFault("lines 3 and 4 fight")
            yield batch

    with pytest.raises(BoardFault, match="fight"):
        run(tmp_path / "x.h5", experiment=dataclasses.replace(QUICK, run=broken))
    state = RunFile(tmp_path / "x.h5").state
    assert (state.units, state.text) == (2, "failed (BoardFault: lines 3 and 4 fight)")
    same(run(tmp_path / "x.h5", resume=True), whole)


@pytest.mark.parametrize(
    ("error", "reason"), [(KeyboardInterrupt(), "Ctrl-C"), (SystemExit(143), "SIGTERM")]
)
def test_a_signal_within_a_unit_interrupts_the_run(error, reason, whole: RunFile, tmp_path: Path):
    def stopped(board, plan, start, done):
        work = QUICK.run(board, plan, start, done)
        yield next(work)
        board.array.form(np.ones((32, 32), dtype=bool))  # half of the next unit
        raise error

    with pytest.raises(type(error)):
        run(tmp_path / "x.h5", experiment=dataclasses.replace(QUICK, run=stopped))
    state = RunFile(tmp_path / "x.h5").state
    assert (state.status, state.reason, state.units) == ("interrupted", reason, 1)
    same(run(tmp_path / "x.h5", resume=True), whole)


def test_an_experiment_that_ends_too_early_fails(tmp_path: Path):
    short = dataclasses.replace(QUICK, units=lambda plan, spec: plan.n_units + 1)
    with pytest.raises(InputError, match="ended after 4 of 5 units"):
        run(tmp_path / "x.h5", experiment=short)
    assert RunFile(tmp_path / "x.h5").state.units == 4


def test_a_run_that_is_done_is_only_read(whole: RunFile):
    before = whole.path.read_bytes()
    assert run(whole.path, resume=True).state == whole.state
    assert whole.path.read_bytes() == before


def test_another_run_is_not_gone_on_with(tmp_path: Path):
    path = tmp_path / "x.h5"
    run(path, should_stop=after(1))
    other = dataclasses.replace(PLAN, set_wl_v=1.5, seed=8)
    with pytest.raises(InputError, match=r"plan: set_wl_v is 1.6 there, 1.5 here; plan: seed"):
        run(path, plan=other, resume=True)
    with pytest.raises(InputError, match=r"board: url is .*seed=5.* there, .*seed=6"):
        run(path, URL.replace("=5", "=6"), resume=True)
    with pytest.raises(InputError, match="holds a run of quick, not of slow"):
        run(path, experiment=dataclasses.replace(QUICK, name="slow"), resume=True)
    wired = dataclasses.replace(board_spec.load(), read_voltage_v=0.09)
    with (
        open_board(sim.EmulatedBoard(seed=5, spec=wired), wired) as board,
        pytest.raises(InputError, match="board file: read_voltage_v is 0.1 there, 0.09 here"),
    ):
        record(board, QUICK, PLAN, path, resume=True)
    with pytest.raises(InputError, match="no run file"):
        run(tmp_path / "y.h5", resume=True)
    assert RunFile(path).state.units == 1


def test_without_its_snapshot_a_run_is_not_gone_on_with(tmp_path: Path):
    run(tmp_path / "x.h5", should_stop=after(2))
    (tmp_path / ".x.h5.snapshot-2").unlink()
    with pytest.raises(InputError, match="snapshot after unit 2 is missing"):
        run(tmp_path / "x.h5", resume=True)


class Silicon:
    """A link that only reads and writes: its chip keeps its state itself."""

    def __init__(self, seed: int = 5) -> None:
        self._board = sim.EmulatedBoard(seed=seed)
        self.read, self.write = self._board.read, self._board.write

    def close(self) -> None:
        """The board stays on."""

    def switch_off_and_on(self) -> None:
        self.write(registers.offset("CTRL"), np.array([registers.CTRL_RESET], dtype=np.uint32))


def test_a_board_without_snapshots_just_goes_on(tmp_path: Path):
    link, path = Silicon(), tmp_path / "x.h5"
    with open_board(link) as board:
        assert board.snapshot() is None
        record(board, QUICK, PLAN, path, should_stop=after(2))
    assert [item.name for item in tmp_path.iterdir()] == ["x.h5"]
    with open_board(link) as board:
        done = record(board, QUICK, PLAN, path, resume=True)
    assert done.state.text == "done"
    assert done.data()["unit"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (np.diff(done.data()["clock_s"]) > 0).all()  # one chip, one clock


def test_a_resumed_run_uses_the_calibration_it_began_with(tmp_path: Path):
    path, marked = tmp_path / "x.h5", None
    with open_board(URL) as board:
        marked = dataclasses.replace(Calibration.nominal(board.spec), measured="2026-01-01")
        board.array.use(marked)
        record(board, QUICK, PLAN, path, should_stop=after(1))
    with open_board(URL) as board:
        record(board, QUICK, PLAN, path, resume=True)
        assert board.array.calibration.measured == "2026-01-01"


def test_a_chip_with_a_passport_is_known_by_it(tmp_path: Path):
    path, passport = tmp_path / "x.h5", tmp_path / "chip5.json"
    with open_board(URL, passport=passport) as board:
        board.array.form()
        record(board, QUICK, PLAN, path, should_stop=after(2))
    with pytest.raises(InputError, match='passport: chip is "chip5" there, "" here'):
        run(path, resume=True)
    # the passport has seen cells formed; a new board is put back before it is looked at
    with pytest.raises(InputError, match="is not of this chip"):
        open_board(URL, passport=passport)
    with open_board(URL + "&fault=", passport=passport, check_map=False) as board:
        assert record(board, QUICK, PLAN, path, resume=True).state.text == "done"


# ---- a chip that was used since -----------------------------------------------------------------


def pulse(board) -> None:
    """One SET pulse on a cell that the run does not know."""
    mask = np.zeros((32, 32), dtype=bool)
    mask[9, 9] = True
    board.array.set_cells(mask, np.full((32, 32), 1.5))


def worked_on(url: str, **more) -> None:
    """A session of somebody else."""
    with open_board(url, **more) as board:
        pulse(board)


def pulses_in(state: Path) -> np.ndarray:
    return sim.EmulatedBoard(seed=5, state=state).truth.pulses


def test_work_done_since_is_not_undone_unasked(whole: RunFile, tmp_path: Path):
    path, state = tmp_path / "x.h5", tmp_path / "chip.npz"
    url = f"{URL}&state={state}"
    with open_board(url):
        """The file is there from now on."""
    run(path, url, should_stop=after(2))
    worked_on(url)
    before = pulses_in(state)
    with pytest.raises(InputError, match=r"worked 0\.0\d* s .* puts the chip back .*--force"):
        run(path, url, resume=True)
    with pytest.raises(InputError, match="set_wl_v"):  # refused for another reason
        run(path, url, plan=dataclasses.replace(PLAN, set_wl_v=1.5), resume=True, force=True)
    assert before[9, 9] == 1
    np.testing.assert_array_equal(pulses_in(state), before)
    again = run(path, url, resume=True, force=True)
    assert pulses_in(state)[9, 9] == 0
    for name in ("wl_v", "unit"):
        np.testing.assert_array_equal(again.data()[name], whole.data()[name])


def test_a_passport_names_every_run_and_how_it_ended(tmp_path: Path):
    path, passport = tmp_path / "x.h5", tmp_path / "chip.json"
    with open_board(URL, passport=passport) as board:
        record(board, QUICK, PLAN, path, should_stop=after(1))
        record(board, QUICK, PLAN, path, resume=True)
    events = [event.what for event in Passport.load(passport).contents.events]
    assert f"quick: interrupted, 1 of 4 units, {path}" in events
    assert events[-1] == f"quick: done, 4 of 4 units, {path}"


def killed_after_two_units(path: Path, url: str, passport: Path | None = None) -> None:
    """In the middle of the third."""

    def killed(board, plan, start, done):
        work = QUICK.run(board, plan, start, done)
        yield next(work)
        yield next(work)
        pulse(board)
        os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if not pid:
        try:
            with open_board(url, passport=passport) as board:
                record(board, dataclasses.replace(QUICK, run=killed), PLAN, path)
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("killed", [False, True])
def test_what_was_only_opened_since_goes_on(killed: bool, tmp_path: Path):
    path, url = tmp_path / "x.h5", f"{URL}&state={tmp_path / 'chip.npz'}"
    if killed:
        killed_after_two_units(path, url)
    else:
        run(path, url, should_stop=after(2))
    for _ in range(3):
        with pytest.raises(InputError, match="set_wl_v"):
            run(path, url, plan=dataclasses.replace(PLAN, set_wl_v=1.5), resume=True)
    assert run(path, url, resume=True).state.text == "done"


def test_a_passport_tells_pulses_from_reads(tmp_path: Path):
    path, passport = tmp_path / "x.h5", tmp_path / "chip5.json"
    url = f"{URL}&state={tmp_path / 'chip.npz'}"
    with open_board(url, passport=passport) as board:
        record(board, QUICK, PLAN, path, should_stop=after(1))
    with open_board(url, passport=passport) as board:
        board.array.read(20)  # half a second of board time, and no pulse
    with open_board(url, passport=passport, check_map=False) as board:
        record(board, QUICK, PLAN, path, resume=True, should_stop=after(2))
    worked_on(url, passport=passport)
    with open_board(url, passport=passport, check_map=False) as board:
        with pytest.raises(InputError, match="its passport has noted 1 pulses more"):
            record(board, QUICK, PLAN, path, resume=True)
        assert record(board, QUICK, PLAN, path, resume=True, force=True).state.text == "done"


def test_a_passport_tells_who_opened_the_chip_of_a_killed_run(tmp_path: Path):
    passport, state = tmp_path / "chip5.json", tmp_path / "chip.npz"
    url = f"{URL}&state={state}"
    killed_after_two_units(tmp_path / "x.h5", url, passport)
    with open_board(url, passport=passport, check_map=False) as board:
        again = record(
            board, QUICK, PLAN, tmp_path / "x.h5", resume=True, should_stop=after(1)
        )  # the pulse of the broken-off unit is no other's
    assert again.state.units == 3
    state.unlink()
    passport.unlink()
    killed_after_two_units(tmp_path / "y.h5", url, passport)
    with open_board(url, passport=passport) as board:
        pulse(board)
    with open_board(url, passport=passport, check_map=False) as board:
        with pytest.raises(InputError, match="noted 2 pulses more, .* and 1 openings"):
            record(board, QUICK, PLAN, tmp_path / "y.h5", resume=True)
        done = record(board, QUICK, PLAN, tmp_path / "y.h5", resume=True, force=True)
    assert done.state.text == "done"


def test_silicon_that_was_used_or_off_since_is_told(tmp_path: Path):
    link, path = Silicon(), tmp_path / "x.h5"
    with open_board(link) as board:
        record(board, QUICK, PLAN, path, should_stop=after(1))
        pulse(board)
        with pytest.raises(InputError, match="the board has given 1 pulses more"):
            record(board, QUICK, PLAN, path, resume=True)
        record(board, QUICK, PLAN, path, resume=True, force=True, should_stop=after(1))
    link.switch_off_and_on()
    with open_board(link) as board:
        with pytest.raises(InputError, match="was switched off: it counts 0 pulses and"):
            record(board, QUICK, PLAN, path, resume=True)
        assert record(board, QUICK, PLAN, path, resume=True, force=True).state.text == "done"


def test_another_chip_of_silicon_is_found_by_the_map_when_a_run_is_resumed(tmp_path: Path):
    path, passport = tmp_path / "x.h5", tmp_path / "chip.json"
    with open_board(Silicon(), passport=passport) as board:
        board.array.form()
        record(board, QUICK, PLAN, path, should_stop=after(1))
    with (
        open_board(Silicon(seed=6), passport=passport, check_map=False) as board,
        pytest.raises(InputError, match="is not of this chip"),
    ):
        record(board, QUICK, PLAN, path, resume=True, force=True)


def test_a_file_without_counts_goes_on(whole: RunFile, tmp_path: Path):
    """As files of earlier versions are."""
    run(tmp_path / "x.h5", should_stop=after(1))
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        del file["state/counts"]
    same(run(tmp_path / "x.h5", resume=True), whole)


# ---- interrupts at bad moments ------------------------------------------------------------------


def test_an_interrupt_right_behind_the_commit_counter_can_be_resumed(
    monkeypatch, whole: RunFile, tmp_path: Path
):
    path, flush, commits = tmp_path / "x.h5", h5py.Dataset.flush, []

    def interrupted(self) -> None:
        flush(self)
        if self.name == "/state/commit":
            commits.append(1)
            if len(commits) == 2:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(h5py.Dataset, "flush", interrupted)
        run(path)
    assert RunFile(path).state.units == 2
    assert (tmp_path / ".x.h5.snapshot-2").exists()
    same(run(path, resume=True), whole)


@pytest.mark.parametrize("moment", ["before the first unit", "at the end"])
def test_an_interrupt_outside_of_units_interrupts_the_run(
    moment: str, monkeypatch, whole: RunFile, tmp_path: Path
):
    path, finish, asked = tmp_path / "x.h5", RunWriter.finish, []

    def interrupted(self, *args):
        asked.append(1)
        if len(asked) == 1:
            raise KeyboardInterrupt
        return finish(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if moment == "at the end":
            patch.setattr(RunWriter, "finish", interrupted)
        else:
            patch.setattr(RunFile, "data", interrupted)
        run(path)
    state = RunFile(path).state
    assert state.text == "interrupted (Ctrl-C)"
    assert (tmp_path / f".x.h5.snapshot-{state.units}").exists()
    same(run(path, resume=True), whole)
