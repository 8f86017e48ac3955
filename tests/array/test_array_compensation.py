"""Drops along lines: the host's formulas against the emulator's nodal solver, other code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rram_host.array.compensation import (
    Compensation,
    LineResistances,
    conductances,
    effective,
    exactly_effective,
    separate,
)
from sim.array.network import EffectiveMatrix, Wires

SEEDS = st.integers(0, 2**32 - 1)


def nodal(g: np.ndarray, lines: LineResistances) -> np.ndarray:
    """T by the nodal equations of the emulated array."""
    wires = Wires(lines.bl_lead_ohm, lines.bl_segment_ohm, lines.row_ohm, lines.sl_segment_ohm)
    return EffectiveMatrix(*g.shape, wires).factor(g).t_bl.copy()


def an_array(
    rng: np.random.Generator, shape: tuple[int, int], high: float, absent: float
) -> np.ndarray:
    """Conductances from 1 uS; a share of the cells, and one row in eight, conduct nothing."""
    g = rng.uniform(1e-6, high, shape) * (rng.random(shape) >= absent)
    g[rng.random(shape[0]) < 1 / 8] = 0
    return g


def taox_like(seed: int) -> tuple[np.ndarray, LineResistances]:
    """A programmed array behind switches and wires such as those of taox_180nm."""
    rng = np.random.default_rng(seed)
    lines = LineResistances(rng.uniform(70, 110, 32), 2.0, 1.0, 1.0)
    return rng.uniform(20e-6, 80e-6, (32, 32)), lines


# ---- forward --------------------------------------------------------------------------------


@given(
    SEEDS,
    st.tuples(st.integers(1, 32), st.integers(1, 32)),
    st.floats(10e-6, 110e-6),
    st.sampled_from([0.0, 0.5, 0.9]),
    st.tuples(st.floats(0, 240), st.floats(0, 5), st.floats(0, 2), st.floats(0, 2)),
)
def test_kirchhoff_s_laws_at_every_node_give_what_the_nodal_solver_gives(
    seed, shape, high, absent, ohms
):
    """To 1e-8 of every cell that conducts, up to the datasheet's worst switch and 2 ohm wires."""
    rng = np.random.default_rng(seed)
    g = an_array(rng, shape, high, absent)
    row, lead, bl, sl = ohms
    lines = LineResistances(row * rng.random(shape[0]), lead, bl, sl)
    wanted, got = nodal(g, lines), exactly_effective(g, lines)
    error = np.abs(got - wanted)
    # a cell that conducts nothing has a T of its neighbours' making, some nS: to 1e-8 of a cell
    assert (error <= 1e-8 * np.maximum(wanted, 10e-6)).all()


@settings(max_examples=30)
@given(SEEDS, st.sampled_from([0.0, 0.5]))
def test_the_fast_formula_is_within_a_thousandth_for_wires_of_an_ohm(seed, absent):
    """First order in the wires: what is left is the square of the drop along them, (2 %)^2."""
    rng = np.random.default_rng(seed)
    g, lines = taox_like(seed)
    g *= rng.random(g.shape) >= absent
    wanted, got = nodal(g, lines), effective(g, lines)
    use = g > 0
    error = got[use] / wanted[use] - 1
    assert np.abs(error).max() < 1e-3
    # it is worth it: without the wires the error is twenty times that
    without = effective(g, LineResistances(lines.row_ohm))
    assert np.abs(without[use] / wanted[use] - 1).max() > 1e-2
    # where no cell is, only what other rows push through the bit lines, up to 50 nS: to a fifth
    assert np.abs(got - wanted)[~use].max(initial=0.0) < 10e-9


@given(SEEDS, st.floats(0, 1050))
def test_without_wires_both_are_the_law_of_one_row(seed, row_ohm):
    rng = np.random.default_rng(seed)
    g = an_array(rng, (32, 32), 110e-6, 0.3)
    lines = LineResistances(row_ohm * rng.random(32))
    law = g / (1 + lines.row_ohm * g.sum(1))[:, None]
    np.testing.assert_allclose(effective(g, lines), law, rtol=1e-13, atol=0)
    np.testing.assert_allclose(exactly_effective(g, lines), law, rtol=1e-13, atol=0)


def test_without_any_resistance_a_cell_is_read_as_it_is():
    g, _ = taox_like(0)
    nothing = LineResistances(np.zeros(32))
    np.testing.assert_array_equal(effective(g, nothing), g)
    np.testing.assert_array_equal(exactly_effective(g, nothing), g)


@given(SEEDS, st.sets(st.integers(0, 31), max_size=31))
def test_a_closed_row_shows_nothing_and_leaves_the_others_as_without_it(seed, closed):
    """Closed gates are conductances of zero: the row's wires then carry no current."""
    g, lines = taox_like(seed)
    rows = sorted(closed)
    g[rows] = 0
    got = exactly_effective(g, lines)
    assert not got[rows].any()
    assert not effective(g, lines)[rows].any()
    left = np.setdiff1d(np.arange(32), rows)
    # bit lines are longer where rows are left out, so only without their wires is this the array
    # of the rows that are left
    short = LineResistances(lines.row_ohm, sl_segment_ohm=lines.sl_segment_ohm)
    alone = LineResistances(lines.row_ohm[left], sl_segment_ohm=lines.sl_segment_ohm)
    np.testing.assert_allclose(
        exactly_effective(g, short)[left], exactly_effective(g[left], alone), rtol=1e-8
    )


# ---- inverse --------------------------------------------------------------------------------


@given(
    SEEDS,
    st.tuples(st.integers(1, 32), st.integers(1, 32)),
    st.sampled_from([0.0, 0.5]),
    st.tuples(st.floats(0, 240), st.floats(0, 5), st.floats(0, 2), st.floats(0, 2)),
)
def test_conductances_undo_the_drops(seed, shape, absent, ohms):
    """To 2e-4: the iteration stops at a step of 1e-6, and gains a digit or more a step; with
    twelve steps for the worst switch under a full row of 110 uS (half of the voltage lost). Where
    no cell is, the steps make what the neighbours push ever smaller, and leave up to 20 nS."""
    rng = np.random.default_rng(seed)
    g = an_array(rng, shape, 110e-6, absent)
    row, lead, bl, sl = ohms
    lines = LineResistances(row * rng.random(shape[0]), lead, bl, sl)
    np.testing.assert_allclose(conductances(effective(g, lines), lines), g, rtol=2e-4, atol=20e-9)


@settings(max_examples=8)
@given(SEEDS)
def test_conductances_of_a_nodal_solution_are_those_of_the_network(seed):
    g, lines = taox_like(seed)
    back = conductances(nodal(g, lines), lines, exact=True)
    np.testing.assert_allclose(back, g, rtol=2e-5)
    np.testing.assert_allclose(conductances(nodal(g, lines), lines), g, rtol=1.5e-3)


def test_readings_below_zero_count_as_no_conductance():
    _, lines = taox_like(0)
    measured = np.full((32, 32), -1e-9)
    assert not conductances(measured, lines).any()


# ---- factors --------------------------------------------------------------------------------


@given(SEEDS, st.integers(1, 32), st.integers(1, 32))
def test_factors_that_are_there_are_found_and_undone(seed, rows, cols):
    rng = np.random.default_rng(seed)
    k, q = rng.uniform(0.5, 1, rows), rng.uniform(0.9, 1.1, cols)
    g = rng.uniform(20e-6, 80e-6, (rows, cols))
    factors = separate(g * np.outer(k, q), g)
    np.testing.assert_allclose(np.outer(factors.rows, factors.columns), np.outer(k, q), rtol=1e-5)
    assert np.log(factors.columns).mean() == pytest.approx(0, abs=1e-12)
    # what they are for: inputs of at most full size, and outputs as if there were no factors
    assert factors.input_scale.max() == 1.0
    undone = factors.output_scale[:, None] * (g * np.outer(k, q)) * factors.input_scale
    np.testing.assert_allclose(undone, g, rtol=1e-5)


def test_rows_and_columns_without_cells_get_the_mean_of_the_others():
    rng = np.random.default_rng(0)
    k, q = rng.uniform(0.5, 1, 32), rng.uniform(0.9, 1.1, 32)
    g = rng.uniform(20e-6, 80e-6, (32, 32))
    g[[3, 17]] = 0
    g[:, 5] = 1e-8  # pristine: below what tells anything
    factors = separate(g * np.outer(k, q), g)
    others = np.delete(np.log(factors.rows), [3, 17])
    np.testing.assert_allclose(np.log(factors.rows[[3, 17]]), others.mean(), atol=1e-12)
    assert np.log(factors.columns[5]) == pytest.approx(
        np.delete(np.log(factors.columns), 5).mean(), abs=1e-12
    )
    nothing = separate(np.zeros((4, 4)), np.zeros((4, 4)))
    assert (nothing.rows == 1).all() and (nothing.columns == 1).all()


@settings(max_examples=20)
@given(SEEDS, st.sampled_from([0.0, 0.5]))
def test_what_factors_leave_is_a_sixth_of_a_percent_of_a_cell(seed, absent):
    """T = k g q but for 0.2 % of a cell rms and 0.8 % at most: the corner far from both leads."""
    rng = np.random.default_rng(seed)
    g, lines = taox_like(seed)
    g *= rng.random(g.shape) >= absent
    compensation = Compensation(nodal(g, lines), lines)
    use = g > 0
    error = compensation.conductances[use] / g[use] - 1
    assert error.std() < 2e-3
    assert np.abs(error).max() < 8e-3


@settings(max_examples=20)
@given(SEEDS, st.sets(st.integers(0, 31), min_size=1, max_size=31))
def test_factors_of_some_rows_are_those_of_a_network_with_only_these_open(seed, chosen):
    """0.12 % of a cell rms and 0.8 % at most, which is what the factors of all rows leave, too;
    those of all rows are wrong here by the drop that the other rows made."""
    g, lines = taox_like(seed)
    rows = np.array(sorted(chosen))
    compensation = Compensation(nodal(g, lines), lines)
    alone = np.zeros_like(g)
    alone[rows] = g[rows]
    wanted = nodal(alone, lines)[rows]
    factors = compensation.of_rows(rows)
    seen = np.outer(factors.rows, factors.columns)[rows] * compensation.conductances[rows]
    error = seen / wanted - 1
    assert np.sqrt((error**2).mean()) < 2e-3
    assert np.abs(error).max() < 8e-3
    if len(rows) <= 8:
        unchanged = compensation.factors
        wrong = np.outer(unchanged.rows, unchanged.columns)[rows] * compensation.conductances[rows]
        assert np.sqrt(((wrong / wanted - 1) ** 2).mean()) > 4 * np.sqrt((error**2).mean())


def test_rows_are_the_same_in_any_order_and_all_of_them_are_the_whole_array():
    g, lines = taox_like(1)
    compensation = Compensation(nodal(g, lines), lines)
    one, other = (compensation.of_rows(np.array(rows)) for rows in ([3, 20, 9], [20, 9, 3]))
    assert one is other
    assert compensation.of_rows(np.arange(32)[::-1]) is compensation.factors
