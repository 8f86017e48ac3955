"""Cyclic programming: cells go to their target and stay there, and every pulse is on record."""

from __future__ import annotations

import numpy as np
import pytest

from rram_host import open_board
from rram_host.errors import InputError
from rram_host.experiments.cycle import EXPERIMENT, CyclePlan, median_cycles, trajectories
from rram_host.passport import Limits
from sim import EmulatedBoard
from tests.array.rig import opened
from tests.experiments.whole import drawn, found, rows_of

CELLS = ((1, 2), (9, 30), (17, 17))
SMALL = CyclePlan(cells=CELLS, cycles=60, runs=2, set_step_v=0.03)


@pytest.fixture(scope="module")
def driven():
    """Two runs on an emulated chip, and the chip."""
    emulated = EmulatedBoard("taox_180nm", seed=4)
    with opened(emulated) as board:
        return rows_of(board, EXPERIMENT, SMALL), emulated


def test_cells_start_from_reset_and_converge(driven):
    data, _ = driven
    g, needed = trajectories(SMALL, data)
    # a RESET from some 50 uS leaves the floor of 1 uS and 7 % of the move, three sigma: 12 uS
    assert g.shape == (2, 61, 3) and (g[:, 0] < 12e-6).all()
    converged = np.isfinite(needed)
    # by design nine cells of ten do within 60 cycles; six must not fail more than once
    assert converged.sum() >= 5
    last = np.abs(g[:, -1] - SMALL.target_siemens)[converged]
    assert (last <= 2 * SMALL.tolerance_siemens).all()
    assert found(EXPERIMENT, SMALL, data)["cells that converged"].value == pytest.approx(
        100 * converged.mean()
    )


def test_pulses_go_the_way_that_the_reading_before_asks_for(driven):
    data, _ = driven
    g, _ = trajectories(SMALL, data)
    way = data["direction"].reshape(g.shape)[:, 1:]
    before = g[:, :-1] - SMALL.target_siemens
    assert (way[before > 2 * SMALL.tolerance_siemens] == -1).all()
    assert (way[before < -2 * SMALL.tolerance_siemens] == 1).all()
    assert (way[np.abs(before) <= SMALL.tolerance_siemens] == 0).all()
    volts = data["pulse_v"].reshape(g.shape)[:, 1:]
    assert (np.isfinite(volts) == (way != 0)).all()


def test_a_staircase_climbs_by_its_step(driven):
    data, _ = driven
    g, _ = trajectories(SMALL, data)
    way, volts = (data[name].reshape(g.shape)[:, 1:] for name in ("direction", "pulse_v"))
    again = (way[:, 1:] == 1) & (way[:, :-1] == 1)
    assert np.diff(volts, axis=1)[again] == pytest.approx(SMALL.set_step_v)
    assert volts[:, 0] == pytest.approx(SMALL.set_start_v)


def test_all_pulses_are_on_record_and_no_other_cell_got_any(driven):
    data, emulated = driven
    given = (data["direction"] != 0).sum(0)
    pulses = emulated.truth.pulses
    for k, cell in enumerate(CELLS):
        formed_by = pulses[cell] - given[k]
        assert 1 <= formed_by <= 11  # steps of the board file's forming ramp
        pulses[cell] = 0
    assert pulses.sum() == 0


def test_the_last_reading_is_what_the_cells_conduct(driven):
    data, emulated = driven
    index = tuple(np.array(CELLS).T)
    truth = (emulated.truth.conductances_siemens * emulated.bench.noise.factor)[index]
    # two readings of white noise 0.004 G at 50 uS, 0.14 uS; wires unknown to an uncalibrated board
    # are 0.2 % of that
    assert data["conductance_siemens"][-1] == pytest.approx(truth, abs=4 * 0.14e-6 + 0.1e-6)


def test_a_cell_that_still_gets_pulses_has_not_converged():
    plan = CyclePlan(cells=((0, 0), (1, 1), (2, 2)), cycles=4, runs=1)
    target = plan.target_siemens
    g = np.array([[1e-6] * 3, [30e-6] * 3, [target] * 3, [target] * 3, [target, target, 90e-6]])
    way = np.array([[-1] * 3, [1] * 3, [1] * 3, [0, 0, 0], [0, 1, 0]])
    data = {"conductance_siemens": g, "direction": way}
    needed = trajectories(plan, data)[1]
    assert needed[0, 0] == 2 and np.isnan(needed[0, 1:]).all()
    by_name = found(EXPERIMENT, plan, data)
    assert by_name["cycles needed, mean of cells that converged"].value == 2
    # of three cells two never do: half of them need more than this run has
    assert by_name["cycles needed, median of all"].value == np.inf
    title = drawn(EXPERIMENT, plan, data).axes[0].get_title()
    assert "median above 4 cycles" in title and "no evidence" in title
    assert "is no evidence" in " ".join(EXPERIMENT.help.split())


def test_the_median_counts_cells_that_did_not_converge_as_last():
    assert median_cycles(np.array([[10.0, 20.0, np.nan], [30.0, 40.0, np.nan]])) == 35.0
    assert median_cycles(np.array([[10.0, np.nan]])) == np.inf
    assert median_cycles(np.array([[10.0, 20.0, np.nan]])) == 20.0


def test_a_cell_of_which_the_passport_says_no_is_refused_before_the_first_pulse(tmp_path):
    plan = CyclePlan(cells=((1, 1), (2, 2)), cycles=9, runs=2)
    emulated = EmulatedBoard("ideal", seed=0)
    had = np.zeros((32, 32), dtype=np.int64)
    had[2, 2] = 10
    with open_board(emulated, passport=tmp_path / "chip.json") as board:
        board.passport.note_pulses(had)
        board.passport.note_limits(Limits(max_pulses_per_cell=29))
        with pytest.raises(InputError, match=r"20 pulses a cell; .*29, of which cell \(2, 2\)"):
            next(EXPERIMENT.run(board, plan, 0, {}))
        board.passport.note_limits(Limits())
        board.passport.note_dead(2, 2, "leaks")
        with pytest.raises(InputError, match=r"cell \(2, 2\) cannot be used: .* leaks"):
            next(EXPERIMENT.run(board, plan, 0, {}))
    assert emulated.truth.pulses.sum() == 0


def test_picture(driven):
    assert drawn(EXPERIMENT, SMALL, driven[0]).axes[0].lines


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cycles": 0}, "cycles = 0"),
        ({"runs": 0}, "runs = 0"),
        ({"tolerance_siemens": 0.0}, "tolerance"),
        ({"set_step_v": 0.0}, "climb"),
        ({"reset_start_v": -1.0}, "climb"),
        ({"backoff_v": float("nan")}, "backoff_v"),
    ],
)
def test_plans_that_cannot_run_are_refused(settings, says):
    with pytest.raises(InputError, match=says):
        CyclePlan(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cells": ((0, 32),)}, r"cell \(0, 32\) is outside"),
        ({"cells": ()}, "no cells"),
        ({"cells": ((1, 1), (1, 1))}, "twice"),
        ({"target_siemens": 200e-6}, "target 200 µS is outside"),
        ({"set_start_v": 5.0}, "set_start_v = 5.0 V is outside"),
        ({"reset_v": 3.0}, "reset_v = 3.0 V is outside"),
    ],
)
def test_what_the_board_cannot_do_is_refused_before_the_first_pulse(settings, says):
    emulated = EmulatedBoard("ideal", seed=0)
    with opened(emulated) as board, pytest.raises(InputError, match=says):
        next(EXPERIMENT.run(board, CyclePlan(**settings), 0, {}))
    assert emulated.truth.pulses.sum() == 0
