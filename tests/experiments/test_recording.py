"""Recording and resuming: the same records, bit for bit, and clear words where that cannot be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import sim
from firmware_bridge import board_spec
from rram_host import open_board
from rram_host.array.calibration import Calibration
from rram_host.errors import BoardFault, InputError
from rram_host.experiments.recording import record
from rram_host.records.run_file import RunFile
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

    def __init__(self) -> None:
        self._board = sim.EmulatedBoard(seed=5)
        self.read, self.write = self._board.read, self._board.write

    def close(self) -> None:
        """The board stays on."""


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
        record(board, QUICK, PLAN, path, should_stop=after(2))
    with pytest.raises(InputError, match='passport: chip is "chip5" there, "" here'):
        run(path, resume=True)
    # the passport has seen cells formed; a new board is put back before it is looked at
    snapshot = (tmp_path / ".x.h5.snapshot-2").read_bytes()
    with open_board(URL + "&fault=", passport=passport, snapshot=snapshot) as board:
        assert record(board, QUICK, PLAN, path, resume=True).state.text == "done"
