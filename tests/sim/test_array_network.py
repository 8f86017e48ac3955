"""The wire network: against a nodal matrix written out here, and against circuit laws."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.errors import InputError, RramError
from sim.array.network import EffectiveMatrix, Wires

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
REAL = Wires(8.0, 2.0, 125.0, 1.5)


def nodal(g: Array, wires: Wires, open_sl: Mask) -> tuple[Array, Array]:
    """Currents out of the source lines, and cell voltages, per volt at each port.

    All conductances in one matrix; nodes with no resistance between them are one node. A floating
    line with no conductance at all is tied to 0 V, where it disturbs nothing.
    """
    rows, cols = g.shape
    ports, edges = cols + rows, []
    bl, sl = np.empty((rows, cols), dtype=int), np.empty((rows, cols), dtype=int)
    bl_lead = np.broadcast_to(wires.bl_lead_ohm, cols)
    sl_lead = np.broadcast_to(wires.sl_lead_ohm, rows)
    count = ports

    def joined(before: int, ohm: float) -> int:
        nonlocal count
        if ohm == 0:
            return before
        edges.append((before, count, 1 / ohm))
        count += 1
        return count - 1

    for r in range(rows):
        for c in range(cols):
            bl[r, c] = joined(bl[r - 1, c], wires.bl_segment_ohm) if r else joined(c, bl_lead[c])
            if c:
                sl[r, c] = joined(sl[r, c - 1], wires.sl_segment_ohm)
            elif open_sl[r]:
                sl[r, 0], count = count, count + 1
            else:
                sl[r, 0] = joined(cols + r, sl_lead[r])
            edges.append((bl[r, c], sl[r, c], g[r, c]))
    y = np.zeros((count, count))
    for i, j, siemens in edges:
        y[i, i] += siemens
        y[j, j] += siemens
        y[i, j] -= siemens
        y[j, i] -= siemens
    for r in np.flatnonzero(open_sl & ~g.any(1)):
        y[sl[r, 0], sl[r, 0]] += 1.0
    inside = -np.linalg.solve(y[ports:, ports:], y[ports:, :ports])
    volts = np.vstack([np.eye(ports), inside])
    return -(y[cols:ports] @ volts), volts[bl] - volts[sl]


def array_of(seed: int, rows: int, cols: int, zero: tuple[bool, ...]) -> tuple[Array, Wires, Mask]:
    """Conductances with closed rows and missing cells, wires of which some are 0, open lines."""
    rng = np.random.default_rng(seed)
    g = 10 ** rng.uniform(-6.5, -3.3, (rows, cols)) * (rng.random((rows, cols)) < 0.9)
    g[rng.random(rows) < 0.2] = 0.0
    bl_lead, bl_segment, sl_lead, sl_segment = (0.0 if z else 1.0 for z in zero)
    wires = Wires(
        bl_lead * rng.uniform(1, 30, cols) * (rng.random(cols) < 0.8),
        bl_segment * rng.uniform(1, 10),
        sl_lead * rng.uniform(50, 300, rows),
        sl_segment * rng.uniform(1, 10),
    )
    return g, wires, rng.random(rows) < 0.25


def ports_of(matrix: EffectiveMatrix) -> Array:
    return np.hstack([matrix.t_bl, matrix.t_sl])


def assert_close(
    found: Array, expected: Array, relative: float = 1e-10, least: float = 1e-5
) -> None:
    # volts per volt are of order 1; a nodal matrix with 1 S of wire in it is good to 1e-16 S
    assert np.abs(found - expected).max() <= relative * max(np.abs(expected).max(), least)


seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 8)
zeros = st.tuples(*[st.booleans()] * 4)


@settings(deadline=None, max_examples=80)
@given(seeds, sizes, sizes, zeros)
def test_agrees_with_the_nodal_matrix(
    seed: int, rows: int, cols: int, zero: tuple[bool, ...]
) -> None:
    g, wires, open_sl = array_of(seed, rows, cols, zero)
    currents, volts = nodal(g, wires, open_sl)
    matrix = EffectiveMatrix(rows, cols, wires).factor(g, open_sl)
    assert_close(ports_of(matrix), currents)
    v = np.random.default_rng(seed).uniform(-1, 1, (3, cols + rows))
    across = matrix.cell_voltages(v[:, :cols], v[:, cols:])
    assert_close(across, np.einsum("rcp,np->nrc", volts, v), least=1.0)


def test_agrees_with_the_nodal_matrix_at_full_size() -> None:
    g, wires, open_sl = array_of(1, 32, 32, (False,) * 4)
    matrix = EffectiveMatrix(32, 32, wires).factor(g, open_sl)
    assert_close(ports_of(matrix), nodal(g, wires, open_sl)[0])


@settings(deadline=None, max_examples=60)
@given(seeds, sizes, sizes, zeros, st.integers(1, 12))
def test_changed_cells_are_as_factored_afresh(
    seed: int, rows: int, cols: int, zero: tuple[bool, ...], changes: int
) -> None:
    g, wires, open_sl = array_of(seed, rows, cols, zero)
    rng = np.random.default_rng(seed)
    matrix = EffectiveMatrix(rows, cols, wires, max_pending=4).factor(g, open_sl)
    v = rng.uniform(-1, 1, (1, cols + rows))
    for _ in range(changes):
        row, col = int(rng.integers(rows)), int(rng.integers(cols))
        g[row, col] = 0.0 if rng.random() < 0.2 else 10 ** rng.uniform(-6.5, -3.3)
        matrix.change(row, col, g[row, col])
        fresh = EffectiveMatrix(rows, cols, wires).factor(g, open_sl)
        assert_close(ports_of(matrix), ports_of(fresh))
        ours = matrix.cell_voltages(v[:, :cols], v[:, cols:])
        assert_close(ours, fresh.cell_voltages(v[:, :cols], v[:, cols:]), least=1.0)
        assert (matrix.g == g).all()


def test_without_resistance_the_matrix_is_the_conductances() -> None:
    g = np.random.default_rng(3).uniform(1e-6, 1e-4, (5, 7))
    matrix = EffectiveMatrix(5, 7, Wires()).factor(g)
    assert_close(matrix.t_bl, g, 1e-15)
    assert_close(matrix.t_sl, -np.diag(g.sum(1)), 1e-15)
    matrix.change(4, 2, 5e-5)
    g[4, 2] = 5e-5
    assert_close(matrix.t_bl, g, 1e-14)


def test_one_cell_is_four_resistances_in_series() -> None:
    g = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1e-4]])
    matrix = EffectiveMatrix(2, 3, REAL).factor(g)
    total = 8.0 + 2.0 + 1e4 + 2 * 1.5 + 125.0
    expected = np.zeros((2, 3))
    expected[1, 2] = 1 / total
    np.testing.assert_allclose(matrix.t_bl, expected, rtol=1e-13, atol=0)
    assert matrix.cell_voltages(np.eye(3)[2:], np.zeros((1, 2)))[0, 1, 2] == pytest.approx(
        1e4 / total, rel=1e-13
    )


@settings(deadline=None)
@given(seeds, sizes, sizes, zeros)
def test_equal_voltages_carry_no_current_and_influence_is_mutual(
    seed: int, rows: int, cols: int, zero: tuple[bool, ...]
) -> None:
    g, wires, open_sl = array_of(seed, rows, cols, zero)
    matrix = EffectiveMatrix(rows, cols, wires).factor(g, open_sl)
    # a floating line follows the others, so that the law holds with open lines, too
    assert np.abs(ports_of(matrix).sum(1)).max() < 1e-16 + 1e-12 * np.abs(matrix.t_bl).max()
    assert (matrix.t_sl == matrix.t_sl.T).all()
    assert not ports_of(matrix)[open_sl].any()


def test_bit_lines_and_source_lines_exchange_roles() -> None:
    """Reciprocity: the same array driven from its source lines has the transposed matrix."""
    g = np.random.default_rng(5).uniform(1e-6, 1e-4, (6, 4))
    ours = EffectiveMatrix(6, 4, REAL).factor(g).t_bl
    turned = EffectiveMatrix(4, 6, Wires(125.0, 1.5, 8.0, 2.0)).factor(g.T).t_bl
    assert_close(ours, turned.T, 1e-13)


def test_a_floating_line_without_conductance_counts_as_zero_volt() -> None:
    g = np.full((2, 2), 1e-5)
    g[1] = 0.0
    matrix = EffectiveMatrix(2, 2, REAL).factor(g, np.array([False, True]))
    across = matrix.cell_voltages(np.ones((1, 2)), np.zeros((1, 2)))
    assert across[0, 1] == pytest.approx(1.0, abs=1e-3)
    matrix.change(1, 0, 1e-5)  # now it follows bit line 0
    across = matrix.cell_voltages(np.ones((1, 2)), np.zeros((1, 2)))
    assert across[0, 1] == pytest.approx(0.0, abs=1e-3)


def test_the_last_cell_of_a_floating_line_may_vanish() -> None:
    matrix = EffectiveMatrix(1, 1, REAL).factor(np.array([[1e-4]]), np.array([True]))
    assert matrix.cell_voltages(np.ones((1, 1)), np.zeros((1, 1)))[0, 0, 0] == pytest.approx(0.0)
    matrix.change(0, 0, 0.0)
    assert matrix.cell_voltages(np.ones((1, 1)), np.zeros((1, 1)))[0, 0, 0] == pytest.approx(1.0)


def test_impossible_requests_are_refused() -> None:
    g = np.full((2, 3), 1e-5)
    with pytest.raises(InputError, match="sl_lead_ohm is -1"):
        Wires(sl_lead_ohm=-1.0)
    with pytest.raises(InputError, match="bl_lead_ohm has shape"):
        EffectiveMatrix(2, 3, Wires(bl_lead_ohm=np.ones(2)))
    with pytest.raises(InputError, match="at least one row"):
        EffectiveMatrix(0, 3, Wires())
    matrix = EffectiveMatrix(2, 3, Wires())
    with pytest.raises(RramError, match="factor"):
        matrix.t_bl  # noqa: B018
    with pytest.raises(InputError, match="conductances \\(3, 2\\)"):
        matrix.factor(g.T)
    with pytest.raises(InputError, match="negative or not finite"):
        matrix.factor(-g)
    matrix.factor(g)
    with pytest.raises(InputError, match="cell \\(2, 0\\)"):
        matrix.change(2, 0, 1e-5)
    with pytest.raises(InputError, match="nan S"):
        matrix.change(0, 0, float("nan"))
    with pytest.raises(InputError, match="bit lines"):
        matrix.cell_voltages(np.zeros((1, 2)), np.zeros((1, 2)))


def test_agrees_with_mpimpy() -> None:
    """hdot has every resistance equal, and its source lines leave at the last column."""
    peer = pytest.importorskip("mpimpy.crossbar.crossbar")
    rng = np.random.default_rng(8)
    ohm = rng.uniform(1e4, 1e6, (8, 8))  # (bit lines, source lines)
    v, wire = rng.uniform(0.1, 1, (3, 8)), 2.5
    theirs = peer.hdot(v[:, ::-1], ohm[::-1], wire, max_iteration=60, max_error=0.0)
    matrix = EffectiveMatrix(8, 8, Wires(wire, wire, wire, wire)).factor(1 / ohm.T)
    assert_close(v @ matrix.t_bl.T, theirs)
