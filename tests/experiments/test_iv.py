"""Pulsed I-V: what a sweep reads is what the cell holds, and where it switches is where it does."""

from __future__ import annotations

from dataclasses import replace
from math import erf

import numpy as np
import pytest

from firmware_bridge import board_spec
from rram_host import open_board
from rram_host.array.pulses import reset_source
from rram_host.errors import InputError
from rram_host.experiments.common import step_mean, step_std
from rram_host.experiments.iv import EXPERIMENT, IvPlan, cycles
from rram_host.passport import Limits, Passport
from sim import EmulatedBoard
from tests.array.rig import opened, sparse
from tests.experiments.whole import drawn, found, rows_of

CELL = (3, 5)
SMALL = IvPlan(cell=CELL, cycles=16)


@pytest.fixture(scope="module")
def swept():
    """A few cycles on an emulated chip, and the chip."""
    emulated = EmulatedBoard("taox_180nm", seed=2)
    with opened(emulated) as board:
        return rows_of(board, EXPERIMENT, SMALL), emulated


def first_passage(threshold_v: float, spread_v: float, steps_v: np.ndarray) -> float:
    """Mean of the middle of the step at which a rising staircase first beats a threshold.

    Every pulse draws its own threshold, so that early steps have several chances.
    """
    each = [
        float(v >= threshold_v)
        if spread_v == 0
        else 0.5 * (1 + erf((v - threshold_v) / spread_v / 2**0.5))
        for v in steps_v
    ]
    still = np.cumprod([1.0, *(1 - np.array(each))])
    width_v = steps_v[1] - steps_v[0]
    return float((-np.diff(still) * (steps_v - width_v / 2)).sum() / (1 - still[-1]))


def test_a_cell_sets_where_its_threshold_is(swept):
    data, emulated = swept
    stated = found(EXPERIMENT, SMALL, data)["V_set, mean"]
    cells = emulated.bench.cells
    spread_v = getattr(emulated.preset.cells, "set_cycle_spread_v", 0.0)
    expected_v = first_passage(float(cells.set_v[CELL]), spread_v, SMALL.set_v)
    # 3 mV: three sigma of the offset and gain of the bit line's converter
    assert stated.value == pytest.approx(expected_v, abs=3 * stated.error + 3e-3)


def test_a_cell_gives_way_where_its_law_of_reset_says(swept):
    data, emulated = swept
    runs = cycles(SMALL, data)
    p, cells = emulated.preset.cells, emulated.bench.cells
    # G = top - slope (V - V_0) falls below what a cycle's SET left at V_0 + (top - G) / slope; the
    # switch of some 90 ohm takes 1 % of V. A cycle's shift of V_0 is in the scatter.
    onset_v = cells.reset_v[CELL] + (p.reset_top_siemens - runs.high) / p.reset_slope_siemens_per_v
    away_v = runs.reset_v - 1.01 * onset_v
    assert np.isfinite(away_v).all()
    # 2.5 sigma of readings, 0.2 uS, are late by 6 mV; 4 mV for the part of the switch and of its
    # converter that is not known here
    error_v = away_v.std(ddof=1) / away_v.size**0.5
    assert abs(away_v.mean() - 6e-3) < 3 * error_v + 4e-3


def staircase_mean(mean_v: float, spread_v: float, steps_v: np.ndarray) -> float:
    """Mean of the middle of the step that first beats a Gaussian threshold, one for a cycle."""
    below = np.array([0.5 * (1 + erf((v - mean_v) / spread_v / 2**0.5)) for v in steps_v])
    return float((np.diff(below) * (steps_v[1:] + steps_v[:-1]) / 2).sum() / np.diff(below).sum())


@pytest.mark.parametrize("step_v", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_v_reset_is_the_first_passage_of_a_gradual_reset(step_v, noise):
    """Cycles by the law, 80 uS/V from 70 uS, thresholds of 30 mV: 3 standard errors of 2000 cycles
    (2 mV at most) to the exact mean. Readings that scatter by 0.2 % make it late: what a cell held
    is known better than that, so by 2.5 of them, 0.35 uS or 4.4 mV, half of which is allowed for
    more. The step of the largest current is 10 to 45 mV off.
    """
    plan, rng = IvPlan(cycles=2000, step_v=step_v), np.random.default_rng(0)
    threshold_v = 1.0 + 0.03 * rng.standard_normal(2000)
    rising = np.where(plan.set_v >= 1.0, 70e-6, 13e-6) * np.ones((2000, 1))
    line = 120e-6 - 80e-6 * (plan.reset_v - threshold_v[:, None])
    g = np.concatenate([rising, np.clip(line, 1e-6, 70e-6)], axis=1)
    g = g * (1 + noise * rng.standard_normal(g.shape))
    by_name = found(EXPERIMENT, plan, {"conductance_siemens": g.ravel()})
    late_v = 2.5 * noise * 70 / 80
    expected_v = staircase_mean(1.0 + 50 / 80 + late_v, 0.03, plan.reset_v)
    mean, spread = by_name["V_reset, mean"], by_name["V_reset, std"]
    assert mean.error < 2e-3
    assert mean.value == pytest.approx(expected_v, abs=3 * mean.error + late_v / 2)
    # 3 mV: steps three times the spread are known to leave a little of their own
    assert spread.value == pytest.approx(0.03, abs=3 * spread.error + 3e-3 * (step_v > 0.05))
    assert by_name["cycles that did not switch both ways"].value == 0


def test_the_last_reading_is_what_the_cell_holds(swept):
    data, emulated = swept
    truth = emulated.truth.conductances_siemens[CELL] * emulated.bench.noise.factor[CELL]
    # white noise 0.004 sqrt(50 uS G) over 4 readings, 0.03 uS at 6 uS, and codes of 0.024 uS
    assert data["conductance_siemens"][-1] == pytest.approx(truth, abs=4 * 0.04e-6)
    assert data["current_a"] == pytest.approx(data["conductance_siemens"] * data["voltage_v"])


@pytest.mark.parametrize("polarity", ["te_on_bl", "te_on_sl"])
def test_without_noise_every_step_is_read_to_a_code_and_no_other_cell_moves(polarity):
    spec = replace(board_spec.load(), polarity=polarity, sl_rail_v=3.7)  # forming needs 3.6 V
    emulated = EmulatedBoard("ideal", seed=0, spec=spec)
    with opened(emulated, spec) as board:
        board.array.program(sparse({(3, 4): 80e-6, (3, 6): 30e-6, (2, 5): 60e-6}))
        before = emulated.truth.conductances_siemens
        plan = IvPlan(cell=CELL, cycles=2)
        data = rows_of(board, EXPERIMENT, plan)
        ohm = spec.switch_ohm(reset_source(spec)[1])
    p, after = emulated.preset.cells, emulated.truth.conductances_siemens
    others = np.ones(before.shape, dtype=bool)
    others[CELL] = False
    assert (after[others] == before[others]).all()
    runs = cycles(plan, data)
    high = p.set_slope_siemens_per_v * (plan.compliance_v - p.set_offset_v)
    falling, g = [], high
    for volts in plan.reset_v:  # less what the switch takes, beside 110 uS that hold the line
        across_v = volts * (1 - ohm * g / (1 + ohm * (g + 110e-6)))
        low = p.reset_top_siemens - p.reset_slope_siemens_per_v * (across_v - p.reset_v)
        g = min(g, low)
        falling.append(g)
    # a code is 0.024 uS; the emulated switch has its typical resistance
    assert runs.g[:, plan.set_v.size - 1] == pytest.approx(high, abs=0.05e-6)
    assert runs.g[0, plan.set_v.size :] == pytest.approx(np.array(falling), abs=0.06e-6)
    assert runs.g[0] == pytest.approx(runs.g[1], abs=0.05e-6)


def test_every_step_is_one_pulse_on_the_cell_alone():
    emulated = EmulatedBoard("taox_180nm", seed=2)
    with opened(emulated) as board:
        rows_of(board, EXPERIMENT, IvPlan(cell=CELL, cycles=1))
        before = emulated.truth.pulses
        programs = board.traffic.programs
        steps_v = np.array([0.8, 1.0, 1.2, -0.8, -1.0, 1.1])
        g = board.array.sweep(CELL, steps_v, wl_v=1.3)
        assert board.traffic.programs == programs + 2  # a look at the array, and the sweep
    given = emulated.truth.pulses - before
    assert g.shape == (6,) and given[CELL] == 6 and given.sum() == 6


def test_the_passport_knows_what_the_swept_cell_holds(tmp_path):
    emulated = EmulatedBoard("ideal", seed=2)
    with open_board(emulated, passport=tmp_path / "chip.json") as board:
        data = rows_of(board, EXPERIMENT, IvPlan(cell=CELL, cycles=1))
        known = Passport.load(tmp_path / "chip.json").contents.map.siemens
    assert known[CELL] == data["conductance_siemens"][-1] and np.isfinite(known).all()
    assert known[CELL] == pytest.approx(emulated.truth.conductances_siemens[CELL], abs=0.1e-6)


def test_more_steps_than_the_passport_allows_are_refused_before_the_first(tmp_path):
    plan = IvPlan(cell=CELL, cycles=2)
    planned = 2 * plan.steps_v.size + plan.reset_v.size
    emulated = EmulatedBoard("ideal", seed=2)
    with open_board(emulated, passport=tmp_path / "chip.json") as board:
        for limit in (planned - 1, 0):
            board.passport.note_limits(Limits(max_pulses_per_cell=limit))
            with pytest.raises(InputError, match=f"{planned} pulses a cell; .* allows {limit},"):
                next(EXPERIMENT.run(board, plan, 0, {}))
        assert emulated.truth.pulses.sum() == 0
        board.passport.note_limits(Limits(max_pulses_per_cell=planned))
        rows_of(board, EXPERIMENT, plan)
        assert board.passport.contents.pulses[CELL] == planned


def test_the_passport_counts_every_step(tmp_path):
    emulated = EmulatedBoard("taox_180nm", seed=2)
    with open_board(emulated, passport=tmp_path / "chip.json") as board:
        board.array.form(sparse({CELL: 1.0}) == 1.0)
        formed_by = emulated.truth.pulses[CELL]
        rows_of(board, EXPERIMENT, IvPlan(cell=CELL, cycles=2))
        counted = board.passport.contents.pulses[CELL]
    assert counted == emulated.truth.pulses[CELL] - formed_by


def test_states_ratio_and_picture(swept):
    data, _ = swept
    by_name = found(EXPERIMENT, SMALL, data)
    runs = cycles(SMALL, data)
    assert by_name["on state"].value == pytest.approx(runs.high.mean() / 1e-6)
    ratio = by_name["on/off ratio, mean of cycles"]
    assert ratio.value == pytest.approx((runs.high / runs.low).mean()) and ratio.value > 5
    assert by_name["cycles that did not switch both ways"].value == 0
    assert len(drawn(EXPERIMENT, SMALL, data).axes) == 2


def test_a_cell_that_never_switches_is_counted_as_such():
    n = SMALL.steps_v.size
    g = np.full((3, n), 5e-6) + 1e-8 * np.arange(n)
    data = {"conductance_siemens": g.ravel()}
    by_name = found(EXPERIMENT, SMALL, data)
    assert by_name["cycles that did not switch both ways"].value == 3
    assert np.isnan(by_name["V_set, mean"].value)
    drawn(EXPERIMENT, SMALL, data)


def test_the_width_of_steps_is_taken_off_a_spread():
    rng = np.random.default_rng(5)
    true_v = 1.0 + 0.04 * rng.standard_normal(4000)
    middle_v = 0.05 * np.floor(true_v / 0.05) + 0.025
    mean_v, error_v = step_mean(middle_v, 0.05)
    assert mean_v == pytest.approx(1.0, abs=3 * error_v)
    spread_v, error_v = step_std(middle_v, 0.05)
    assert spread_v == pytest.approx(0.04, abs=3 * error_v)
    # all in one step: the mean is known to the step only
    assert step_mean(np.full(9, 0.875), 0.05)[1] == pytest.approx(0.05 / 12**0.5)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cycles": 0}, "cycles = 0"),
        ({"average": 0}, "average = 0"),
        ({"step_v": 0.0}, "steps must be above"),
        ({"set_start_v": 1.7}, "steps must be above"),
        ({"set_start_v": 0.0}, "start above 0 V"),
        ({"reset_stop_v": 0.8}, "two steps"),
        ({"step_v": 1e-6}, "at most"),
        ({"set_stop_v": float("nan")}, "steps must be above"),
    ],
)
def test_plans_that_cannot_run_are_refused(settings, says):
    with pytest.raises(InputError, match=says):
        IvPlan(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cell": (32, 0)}, r"cell \(32, 0\) is outside"),
        ({"cell": (0, -1)}, r"cell \(0, -1\) is outside"),
        ({"set_stop_v": 3.8}, "set_stop_v = 3.8 V is outside 0..3.7 V"),
        ({"reset_stop_v": 2.9}, "reset_stop_v = 2.9 V is outside"),
        ({"compliance_v": 4.6}, "compliance_v = 4.6 V is outside"),
        ({"step_v": 0.0005}, "a sweep of"),
    ],
)
def test_what_the_board_cannot_do_is_refused_before_the_first_sweep(settings, says):
    emulated = EmulatedBoard("ideal", seed=0)
    plan = IvPlan(**settings)
    with opened(emulated) as board, pytest.raises(InputError, match=says):
        next(EXPERIMENT.run(board, plan, 0, {}))
    assert emulated.truth.pulses.sum() == 0


@pytest.mark.parametrize("steps_v", [[], [0.0], [np.nan], [[1.0]], ["x"], [3.8], [-3.1]])
def test_sweeps_of_no_voltages_are_refused(steps_v):
    with opened(EmulatedBoard("ideal")) as board, pytest.raises(InputError):
        board.array.sweep(CELL, steps_v, wl_v=1.2)
