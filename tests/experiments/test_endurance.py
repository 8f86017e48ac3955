"""Endurance: every cycle is given and counted, failures are found, states are what cells hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rram_host.array import masks
from rram_host.errors import BoardFault, InputError
from rram_host.experiments.endurance import EXPERIMENT, EndurancePlan, windows
from rram_host.passport import Passport
from rram_host.passport.parts import Limits
from rram_host.session import open_board
from sim import EmulatedBoard
from tests.array.rig import opened
from tests.experiments.boards import exact_board
from tests.experiments.whole import drawn, found, rows_of

PLAN = EndurancePlan(cycles=300, row=5, col=9, block_rows=2, block_cols=3)


def block(truth: np.ndarray) -> np.ndarray:
    return truth[5:7, 9:12]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    emulated = exact_board(tmp_path_factory.mktemp("preset"), 4, read_noise=0.0, flicker=0.0)
    with opened(emulated) as board:
        board.array.form(masks.block((32, 32), 5, 9, 2, 3))
        before = emulated.truth.pulses
        data = rows_of(board, EXPERIMENT, PLAN)
    return data, before, emulated.truth


def test_checkpoints_go_one_two_five_and_end_where_asked():
    assert PLAN.checkpoints.tolist() == [1, 2, 5, 10, 20, 50, 100, 200, 300]
    assert EndurancePlan(cycles=1).checkpoints.tolist() == [1]
    assert EndurancePlan().checkpoints[-2:].tolist() == [50_000, 100_000]


def test_every_cell_of_the_block_gets_every_pulse_and_no_other_cell_any(run):
    data, before, truth = run
    given = truth.pulses - before
    np.testing.assert_array_equal(block(given), 2 * 300)
    assert given.sum() == 6 * 2 * 300
    assert data["cycles"].tolist() == PLAN.checkpoints.tolist()
    assert (np.diff(data["clock_s"]) > 0).all()


def test_states_are_what_the_cells_hold(run):
    data, _, truth = run
    # the last pulse was a RESET; relaxation of a few milliseconds and the converter's noise differ
    held = block(truth.conductances_siemens)
    np.testing.assert_allclose(data["hrs_siemens"][-1], held, atol=0.5e-6)
    # a SET ends where the gate voltage says: 100 uS/V (1.6 - 0.7 V), cells differ by 10 % in slope
    # and by 0.03 V in offset, and each SET by 7 % of its move: 12 uS for one, over 6 cells
    assert data["lrs_siemens"].mean(0).mean() == pytest.approx(90e-6, abs=4 * 12e-6 / np.sqrt(6))
    by_name = found(EXPERIMENT, PLAN, data)
    assert by_name["cells that fail at the end"].value == 0
    assert by_name["median of LRS over HRS after 300 cycles"].value > 4
    assert by_name["cells cycled"].value == 6


def test_a_cell_that_stops_switching_is_found_and_named(tmp_path: Path):
    plan = replace(PLAN, cycles=5)
    faults = "stuck_high:5:10,stuck_low:6:9:3e-6"
    with opened(exact_board(tmp_path, 4, faults=faults)) as board:
        data = rows_of(board, EXPERIMENT, plan)
    by_name = found(EXPERIMENT, plan, data)
    assert by_name["cells that fail at the end"].value == 2
    assert by_name["cells stuck at high conductance"].value == 1
    assert by_name["cells stuck at low conductance"].value == 1
    assert by_name["cell (5, 10) first failed at checkpoint"].value == 1
    assert by_name["cell (6, 9) first failed at checkpoint"].value == 1
    share = by_name["share of cells that fail at the end"]
    assert share.value == pytest.approx(100 / 3) and 10 < share.error < 25


def test_stuck_cells_are_dead_in_the_passport_and_not_programmed_again(tmp_path: Path):
    plan = replace(PLAN, cycles=5)
    emulated = exact_board(tmp_path, 4, faults="stuck_high:5:10,stuck_low:6:9:3e-6")
    with open_board(emulated, passport=tmp_path / "chip.json") as board:
        data = rows_of(board, EXPERIMENT, plan)
        dead = {
            (d.row, d.col): d.reason for d in Passport.load(tmp_path / "chip.json").contents.dead
        }
        # stuck at checkpoint 1 and again at 2; cycled to the end all the same
        assert dead == {
            (5, 10): "stuck at high conductance after 2 cycles",
            (6, 9): "stuck at low conductance after 2 cycles",
        }
        assert np.isfinite(data["hrs_siemens"]).all()
        before = emulated.truth.pulses
        report = board.array.program(np.where(plan.mask(board.spec), 50e-6, np.nan))
        assert report.asked.sum() == 4 and set(board.left_out) == set(dead)
        given = emulated.truth.pulses - before
        assert given[5, 10] == given[6, 9] == 0 and given.sum() > 0


def test_a_cell_that_is_stuck_once_and_switches_again_is_not_dead(tmp_path: Path):
    """At the last checkpoint once is enough; the reason says when."""
    plan = replace(PLAN, cycles=5)
    emulated = exact_board(tmp_path, 4)
    cells = emulated.bench.cells
    with open_board(emulated, passport=tmp_path / "chip.json") as board:
        board.array.form(plan.mask(board.spec))
        kept = cells.set_slope[5, 10], cells.set_slope[6, 11]
        cells.set_slope[5, 10] = 0.0  # a SET leaves it where it is
        for unit, _ in enumerate(EXPERIMENT.run(board, plan, 0, {})):
            cells.set_slope[5, 10] = kept[0]
            if unit == 1:
                cells.set_slope[6, 11] = 0.0
        dead = [(d.row, d.col, d.reason) for d in board.passport.contents.dead]
    assert dead == [(6, 11, "stuck at low conductance after 5 cycles")]


def test_worn_and_dead_cells_of_the_block_are_left_out(tmp_path: Path):
    plan = replace(PLAN, cycles=2)
    emulated = exact_board(tmp_path, 4)
    with open_board(emulated, passport=tmp_path / "chip.json") as board:
        worn = np.zeros((32, 32), dtype=np.int64)
        worn[5, 9] = 100
        board.passport.note_pulses(worn)
        board.passport.note_dead(6, 10, "leaks")
        board.passport.note_limits(Limits(max_pulses_per_cell=100))
        data = rows_of(board, EXPERIMENT, plan)
    unused = np.isnan(data["hrs_siemens"][0])
    assert unused.tolist() == [[True, False, False], [False, True, False]]
    assert emulated.truth.pulses[5, 9] == emulated.truth.pulses[6, 10] == 0


def test_cells_that_wear_out_fail_at_the_checkpoint_behind_their_last_move(tmp_path: Path):
    plan = EndurancePlan(cycles=1000, block_rows=4, block_cols=4)
    emulated = exact_board(tmp_path, 11, wear_pulses=2000.0, wear_spread=0.8)
    with opened(emulated) as board:
        data = rows_of(board, EXPERIMENT, plan)
    worn = emulated.truth.worn[:4, :4].ravel()
    assert 4 <= worn.sum() <= 15  # some fail and some do not
    seen = windows(plan, data)
    np.testing.assert_array_equal(seen.failed[-1], worn)
    np.testing.assert_array_equal(seen.stuck[-1], worn)
    assert found(EXPERIMENT, plan, data)["cells that fail at the end"].value == worn.sum()
    # two moves a cycle, or a few less where a pulse finds its cell there already; then the next
    # checkpoint, 2.5 times later at most
    cycles = emulated.bench.cells.lifetime[:4, :4].ravel()[worn] / 2
    first = seen.cycles[np.argmax(seen.failed[:, worn], axis=0)]
    assert (first >= cycles - 1).all() and (first <= 2.5 * 1.2 * cycles).all()


def test_failures_are_counted_from_the_records(run):
    data = {name: values.copy() for name, values in run[0].items()}
    data["hrs_siemens"][:, 0, 0] = 10e-6
    data["lrs_siemens"][:, 0, 0] = 60e-6
    data["lrs_siemens"][4:, 0, 0] = 15e-6  # half open from checkpoint 20 on: failed, not stuck
    data["lrs_siemens"][2, 1, 1] = 0.0  # lost once, and back
    by_name = found(EXPERIMENT, PLAN, data)
    assert by_name["cells that fail at the end"].value == 1
    assert by_name["cells that failed at any checkpoint"].value == 2
    assert by_name["cells stuck at low conductance"].value == 0
    assert by_name["cell (5, 9) first failed at checkpoint"].value == 20
    assert by_name["cell (6, 10) first failed at checkpoint"].value == 5
    assert windows(PLAN, data).failed.sum(1).tolist() == [0, 0, 1, 0, 1, 1, 1, 1, 1]


def test_a_cell_that_did_not_form_is_left_out(tmp_path: Path):
    plan = replace(PLAN, cycles=2)
    with opened(exact_board(tmp_path, 4, faults="stuck_low:5:9:1e-8")) as board:
        data = rows_of(board, EXPERIMENT, plan)
    np.testing.assert_array_equal(np.isnan(data["hrs_siemens"]).sum((1, 2)), [1, 1])
    assert np.isnan(data["lrs_siemens"][:, 0, 0]).all()
    assert found(EXPERIMENT, plan, data)["cells cycled"].value == 5
    one = replace(plan, block_rows=1, block_cols=1)
    with (
        opened(exact_board(tmp_path, 4, faults="stuck_low:5:9:1e-8")) as board,
        pytest.raises(BoardFault, match="none of the 1 cells"),
    ):
        list(EXPERIMENT.run(board, one, 0, {}))


def test_a_resumed_run_leaves_out_the_same_cells_and_forms_nothing(tmp_path: Path):
    plan = replace(PLAN, cycles=10)
    emulated = exact_board(tmp_path, 4)
    with opened(emulated) as board:
        whole = rows_of(board, EXPERIMENT, replace(plan, cycles=5))
        whole["hrs_siemens"][0, 1, 2] = np.nan
        before = emulated.truth.pulses
        rest = rows_of(board, EXPERIMENT, plan, 3, whole)
    given = block(emulated.truth.pulses - before)
    assert given.tolist() == [[10, 10, 10], [10, 10, 0]]
    assert rest["cycles"].tolist() == [10] and np.isnan(rest["lrs_siemens"][0, 1, 2])


def test_the_passport_counts_pulses_of_loops(tmp_path: Path):
    emulated = EmulatedBoard("taox_180nm", seed=4)
    with open_board(emulated, passport=tmp_path / "chip.json") as board:
        rows_of(board, EXPERIMENT, PLAN)
    known = Passport.load(tmp_path / "chip.json").contents
    np.testing.assert_array_equal(block(known.pulses), 600)
    assert known.pulses.sum() == 6 * 600
    np.testing.assert_array_equal(known.pulses + known.form_pulses, emulated.truth.pulses)


def test_more_cycles_than_the_passport_allows_are_refused_before_the_first_pulse(tmp_path: Path):
    emulated = EmulatedBoard("taox_180nm", seed=4)
    with open_board(emulated, passport=tmp_path / "chip.json") as board:
        known = board.passport
        known.note_limits(Limits(max_pulses_per_cell=500))
        with pytest.raises(InputError, match="600 pulses a cell; .*allows 500"):
            list(EXPERIMENT.run(board, PLAN, 0, {}))
        assert emulated.truth.pulses.sum() == 0
        # the array itself refuses a loop that would go beyond, too
        cells, volts = masks.block((32, 32), 5, 9), np.full((32, 32), 1.5)
        board.array.form(cells)
        formed = emulated.truth.pulses.sum()
        with pytest.raises(InputError, match="is to get 502"):
            board.array.cycle_cells(cells, volts, volts, 251, np.zeros((32, 32)))
        assert emulated.truth.pulses.sum() == formed


def test_the_picture_shows_both_states(run):
    top, _ = drawn(EXPERIMENT, PLAN, run[0]).axes
    assert len(top.lines) == 2 * (6 + 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cycles": 0},
        {"row": -1},
        {"block_cols": 0},
        {"min_ratio": 1.0},
        {"set_wl_v": 0.0},
        {"read_average": 0},
    ],
)
def test_cycles_of_nothing_are_refused(wrong: dict):
    with pytest.raises(InputError):
        replace(PLAN, **wrong)


@pytest.mark.parametrize("wrong", [{"row": 31}, {"col": 30}, {"set_wl_v": 9.0}, {"reset_v": 3.0}])
def test_what_the_board_has_not_is_refused(wrong: dict):
    with opened(EmulatedBoard("ideal")) as board, pytest.raises(InputError):
        EXPERIMENT.columns(replace(PLAN, **wrong), board.spec)
