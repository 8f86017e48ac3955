"""The nonlinear array: against ngspice, against the linear network, and against device laws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.errors import InputError, RramError
from sim.array.network import EffectiveMatrix, Wires
from sim.array.nonlinear import Stacks, element_siemens, solve

Array = npt.NDArray[np.float64]
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
SLOPE, THRESHOLD, KNEE = 1e-3, 0.6, 0.25
REAL = Wires(5.0, 1.0, 125.0, 1.0)


def random_stacks(seed: int, rows: int, cols: int) -> Stacks:
    g = 10 ** np.random.default_rng(seed).uniform(-5.5, -4, (rows, cols))
    return Stacks(g, KNEE, SLOPE, THRESHOLD)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_agrees_with_ngspice(path: Path) -> None:
    """Currents to 1e-11 of the largest, node voltages to 2 pV: both solvers' rounding."""
    point = json.loads(path.read_text())
    wires = Wires(
        np.array(point["bl_lead_ohm"]),
        point["bl_segment_ohm"],
        np.array(point["sl_lead_ohm"]),
        point["sl_segment_ohm"],
    )
    stacks = Stacks(
        np.array(point["element_siemens"]),
        point["knee_v"],
        point["gate_slope_siemens_per_v"],
        point["gate_threshold_v"],
    )
    v_sl = np.array(point["v_sl"], dtype=np.float64)  # null, which is nan, where it is open
    open_sl = np.isnan(v_sl)
    v_bl, v_wl = np.array([point["v_bl"]]), np.array(point["v_wl"])
    found = solve(stacks, wires, v_bl, v_sl, v_wl, open_sl=open_sl, nodes=True, tolerance=1e-13)
    expected = np.array(point["sl_a"])
    np.testing.assert_allclose(found.sl_a[0], expected, rtol=0, atol=1e-11 * abs(expected).max())
    for key in ("bl_node_v", "sl_node_v", "inner_node_v"):
        np.testing.assert_allclose(getattr(found, key)[0], point[key], rtol=0, atol=2e-12)
    default = solve(stacks, wires, v_bl, v_sl, v_wl, open_sl=open_sl)
    np.testing.assert_allclose(default.sl_a[0], expected, rtol=0, atol=1e-9 * abs(expected).max())


def test_golden_values_cover_every_regime() -> None:
    names = {p.stem for p in GOLDEN}
    assert names == {"iv_point", "open_line", "read", "reverse", "saturated"}


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 8), st.booleans())
def test_at_small_signal_the_array_is_the_linear_network(
    seed: int, rows: int, cols: int, wired: bool
) -> None:
    rng = np.random.default_rng(seed)
    stacks, wires = random_stacks(seed, rows, cols), REAL if wired else Wires()
    common, gate, signal = 0.9, 3.3, 1e-3
    channel = SLOPE * (gate - THRESHOLD - common)
    open_sl = rng.random(rows) < 0.2
    g = 1 / (1 / np.asarray(stacks.element_siemens) + 1 / channel)
    linear = EffectiveMatrix(rows, cols, wires).factor(g, open_sl).t_bl
    dv = signal * rng.uniform(-1, 1, (3, cols))
    found = solve(
        stacks, wires, common + dv, np.full(rows, common), np.full(rows, gate), open_sl=open_sl
    ).sl_a
    # curvature: half a millivolt of V_DS in 1.8 V of overdrive, (1 mV / V0)^2 / 6
    expected = dv @ linear.T
    scale = signal * g.sum(1).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4 * scale)


def residuals(
    stacks: Stacks, found: tuple[Array, Array, Array], v_wl: Array
) -> tuple[Array, Array]:
    """Currents of elements and of transistors from node voltages, as textbooks write them."""
    b, s, m = found
    e = np.asarray(stacks.element_siemens) * KNEE * np.sinh((b - m) / KNEE)
    low, drop = np.minimum(m, s), np.abs(m - s)
    over = np.maximum(v_wl[:, None] - THRESHOLD - low, 0)
    triode = SLOPE * (over * drop - drop**2 / 2)
    f = np.where(drop < over, triode, SLOPE / 2 * over**2) * np.sign(m - s)
    return e, f


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
def test_nodes_obey_kirchhoff_ohm_and_the_laws_of_both_devices(
    seed: int, rows: int, cols: int
) -> None:
    rng = np.random.default_rng(seed)
    stacks = random_stacks(seed, rows, cols)
    v_bl, v_sl = rng.uniform(0, 2, (11, cols)), rng.uniform(0, 2, (11, rows))
    v_wl = rng.uniform(0, 3.3, rows)
    found = solve(stacks, REAL, v_bl, v_sl, v_wl, nodes=True, tolerance=1e-13)
    b, s = found.bl_node_v, found.sl_node_v
    e, f = residuals(stacks, (b, s, found.inner_node_v), v_wl)
    largest = max(np.abs(found.sl_a).max(), np.abs(e).max(), 1e-6)
    default = solve(stacks, REAL, v_bl, v_sl, v_wl)
    each = np.maximum(np.abs(found.sl_a).max(1), np.abs(e).max((1, 2)))
    assert (np.abs(default.sl_a - found.sl_a).max(1) <= 1e-9 * each + 1e-15).all()
    assert np.abs(e - f).max() < 1e-11 * largest
    assert np.abs(e.sum(2) - found.sl_a).max() < 1e-11 * largest
    # every wire carries what the cells beyond it carry
    beyond = np.cumsum(e[:, ::-1], axis=1)[:, ::-1]
    drop = np.concatenate([v_bl[:, None] - b[:, :1], -np.diff(b, axis=1)], axis=1)
    ohm = REAL.before_nodes(rows, cols)[0]
    assert np.abs(drop - ohm * beyond).max() < 1e-11 * largest * 125
    beyond = np.cumsum(e[:, :, ::-1], axis=2)[:, :, ::-1]
    drop = np.concatenate([s[:, :, :1] - v_sl[:, :, None], np.diff(s, axis=2)], axis=2)
    ohm = REAL.before_nodes(rows, cols)[1]
    assert np.abs(drop - ohm * beyond).max() < 1e-11 * largest * 125


def test_a_vector_does_not_depend_on_its_batch() -> None:
    stacks, rng = random_stacks(2, 4, 5), np.random.default_rng(2)
    v_bl, v_sl, v_wl = rng.uniform(0, 1.8, (19, 5)), np.full(4, 0.9), np.full(4, 3.3)
    batch = solve(stacks, REAL, v_bl, v_sl, v_wl).sl_a
    for k in (0, 7, 18):
        alone = solve(stacks, REAL, v_bl[k : k + 1], v_sl, v_wl).sl_a
        np.testing.assert_allclose(batch[k], alone[0], rtol=0, atol=1e-9 * abs(batch[k]).max())


def test_steep_elements_and_weak_gates_converge() -> None:
    """Voltages of 36 knees across the stack: the transistor limits the current."""
    stacks = Stacks(np.full((3, 3), 1e-5), 0.05, SLOPE, THRESHOLD)
    found = solve(stacks, REAL, np.full((1, 3), 1.8), np.zeros(3), np.full(3, 0.8)).sl_a
    np.testing.assert_allclose(found, 3 * SLOPE / 2 * 0.2**2, rtol=0.1)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
def test_floating_lines_carry_nothing_whatever_their_gates(seed: int, rows: int, cols: int) -> None:
    rng = np.random.default_rng(seed)
    stacks = Stacks(
        10 ** rng.uniform(-7, -3.5, (rows, cols)),
        KNEE,
        SLOPE,
        THRESHOLD + 0.05 * rng.standard_normal((rows, cols)),
    )
    open_sl, v_bl = rng.random(rows) < 0.5, rng.uniform(0, 2, (2, cols))
    found = solve(
        stacks,
        Wires(50.0, 10.0, 125.0, 10.0),
        v_bl,
        rng.uniform(0, 2, rows),
        rng.uniform(0, 3.3, rows),
        open_sl=open_sl,
        nodes=True,
        tolerance=1e-12,
    )
    element = np.asarray(stacks.element_siemens)
    cells = element * KNEE * np.sinh((found.bl_node_v - found.inner_node_v) / KNEE)
    assert not found.sl_a[:, open_sl].any()
    assert np.abs(cells.sum(2)[:, open_sl]).max(initial=0) < 1e-10 * max(np.abs(cells).max(), 1e-6)


def test_closed_gates_and_missing_elements_carry_nothing() -> None:
    g = np.full((2, 3), 5e-5)
    g[0] = 0.0
    stacks = Stacks(g, KNEE, SLOPE, THRESHOLD)
    found = solve(stacks, REAL, np.full((1, 3), 1.5), np.full(2, 0.9), np.array([3.3, 0.0])).sl_a
    assert not found.any()


def test_each_cell_has_its_threshold() -> None:
    thresholds = np.array([[0.6, 5.0]])
    stacks = Stacks(np.full((1, 2), 5e-5), KNEE, SLOPE, thresholds)
    both = solve(
        stacks, Wires(), np.array([[1.0, 0.9], [0.9, 1.0]]), np.array([0.9]), np.array([3.3])
    )
    assert both.sl_a[0, 0] > 4e-6
    assert both.sl_a[1, 0] == 0


def test_element_and_channel_in_series_are_the_stack() -> None:
    stack = np.array([0.0, 1e-6, 2e-4])
    element = element_siemens(stack, SLOPE, 1.8)
    np.testing.assert_allclose(element / (1 + element / 1.8e-3), stack, rtol=1e-15)
    with pytest.raises(InputError, match="transistor"):
        element_siemens(np.array([2e-3]), SLOPE, 1.8)


def test_impossible_requests_are_refused() -> None:
    stacks, v_wl = random_stacks(1, 2, 3), np.full(2, 3.3)
    v_bl, v_sl = np.full((1, 3), 1.0), np.full(2, 0.9)
    with pytest.raises(InputError, match="for 2 x 3 cells"):
        solve(stacks, REAL, v_bl[0], v_sl, v_wl)
    with pytest.raises(InputError, match="not finite"):
        solve(stacks, REAL, np.full((1, 3), np.nan), v_sl, v_wl)
    with pytest.raises(InputError, match="knees"):
        solve(stacks, REAL, np.full((1, 3), 100.0), v_sl, v_wl)
    with pytest.raises(InputError, match="knee voltage"):
        Stacks(np.ones((2, 3)), 0.0, SLOPE, THRESHOLD)
    with pytest.raises(InputError, match="negative"):
        Stacks(-np.ones((2, 3)), KNEE, SLOPE, THRESHOLD)
    with pytest.raises(InputError, match="must"):
        Stacks(np.ones((2, 3)), np.ones(3), SLOPE, THRESHOLD)
    with pytest.raises(RramError, match="no solution of the array within 2 rounds"):
        solve(stacks, REAL, v_bl, v_sl, v_wl, max_iterations=2)
