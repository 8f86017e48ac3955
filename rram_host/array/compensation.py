"""Series resistance of lines: from what is measured to what the cells hold, and back.

A read drives bit lines and measures the currents of source lines, I = T V. T is not the matrix of
the cells' conductances g, because current drops voltage on its way: in the switch of its source
line, and along the wires of both lines (geometry as in `LineResistances`). To first order in the
wires, and exactly in the switches,

    T = alpha_r g (1 - s - b) + alpha_r m,        alpha_r = 1 / (1 + R_r S_r),  S_r = sum_c g_rc
    s_rc = r_sl (sum_{k<=c} A_rk - R_r alpha_r sum_k A_rk^2),    A_rk = sum_{j>=k} g_rj,  k >= 1
    b_rc = sum_r' L_rr' J_r'c,     L_rr' = R_bl + r_bl min(r, r'),   J = g - R alpha g^2
    m    = (L * g g^T * (R alpha)_r') g

s is the drop along the source line, b along the bit line, and m what other rows' source-line
potentials push into the row through the bit lines. (Perturbation theory of the nodal equations:
each wire segment takes r i j, with i its current from the input and j from the output.)

Products need T to be g up to factors of rows and columns, T = k_r g q_c: inputs are then divided by
q and currents by k. What is left of T / g beyond such factors is 0.2 % of a cell rms for wires of
an ohm, and 0.7 % in the corner far from both leads; conductances are therefore told, and verified,
as T / (k q): as products see them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# How far a source line may be pulled from its source in a RESET. Inhibited neighbours see this
# voltage the wrong way round, and a selected bit line has to reach beyond it.
MAX_SAG_V = 0.15
_ROUNDS = 12
_SMALL = 0.1e-6  # cells below this conductance say nothing about factors, in siemens


@dataclass(frozen=True)
class LineResistances:
    """Resistances between cells and their sources, in ohm.

    Bit line c: source, `bl_lead_ohm`, row 0, `bl_segment_ohm`, row 1, ... Source line r:
    amplifier, `row_ohm[r]` (switch and lead), column 0, `sl_segment_ohm`, column 1, ...
    """

    row_ohm: Array
    bl_lead_ohm: float = 0.0
    bl_segment_ohm: float = 0.0
    sl_segment_ohm: float = 0.0

    @staticmethod
    def typical(spec: BoardSpec) -> LineResistances:
        """What the board file knows: the typical switch. Wires belong to the chip."""
        return LineResistances(np.full(spec.rows, spec.mux_r_on_ohm))


def effective(g: Array, lines: LineResistances) -> Array:
    """T of conductances g, (rows, cols), in siemens; a closed row is a row of zeros."""
    row_ohm = lines.row_ohm
    alpha = 1.0 / (1.0 + row_ohm * g.sum(1))
    drop = np.zeros_like(g)
    if lines.sl_segment_ohm:
        beyond = np.cumsum(g[:, ::-1], axis=1)[:, ::-1]
        beyond[:, 0] = 0.0  # column 0 sits at the lead: no segment before it
        shared = row_ohm * alpha * np.sum(beyond**2, axis=1)
        drop += lines.sl_segment_ohm * (np.cumsum(beyond, axis=1) - shared[:, None])
    pushed = np.zeros_like(g)
    if lines.bl_lead_ohm or lines.bl_segment_ohm:
        index = np.arange(len(g))
        along = lines.bl_lead_ohm + lines.bl_segment_ohm * np.minimum.outer(index, index)
        drop += along @ (g - (row_ohm * alpha)[:, None] * g**2)
        pushed = (along * (g @ g.T) * (row_ohm * alpha)) @ g
    result: Array = alpha[:, None] * (g / (1.0 + drop) + pushed)
    return result


def exactly_effective(g: Array, lines: LineResistances) -> Array:
    """T of conductances g by Kirchhoff's laws at every node, to 1e-9, for all inputs at once.

    Iterates cell currents and node voltages: switches are solved with their row, so that what is
    left converges as (wire resistance x conductance). Some fifty times slower than `effective`.
    """
    rows, cols = g.shape
    row_ohm = lines.row_ohm[:, None]
    alpha = 1.0 / (1.0 + row_ohm * g.sum(1, keepdims=True))
    # wire that the currents of two cells of a line share, on the way to its source
    shared_sl = lines.sl_segment_ohm * np.minimum.outer(np.arange(cols), np.arange(cols))
    shared_bl = lines.bl_segment_ohm * np.minimum.outer(np.arange(rows), np.arange(rows))
    shared_bl = shared_bl + lines.bl_lead_ohm
    cell, inputs = g[:, :, None], np.eye(cols)
    volts = np.broadcast_to(inputs, (rows, cols, cols))  # across cells, switches apart, by input
    total = np.zeros((rows, cols))
    for _ in range(_ROUNDS):
        before, total = total, alpha * (cell * volts).sum(1)
        amperes = cell * (volts - (row_ohm * total)[:, None, :])
        along_bl = (shared_bl @ amperes.reshape(rows, -1)).reshape(amperes.shape)
        volts = inputs - along_bl - shared_sl @ amperes
        if np.abs(total - before).max() < 1e-9 * np.abs(total).max():
            break
    return total


def conductances(measured: Array, lines: LineResistances, exact: bool = False) -> Array:
    """Conductances g whose T is `measured`: the inverse of `effective`, by iteration.

    Args:
        measured: (rows, cols), siemens; readings below zero count as zero.
        lines: resistances.
        exact: invert `exactly_effective` instead.
    """
    wanted = np.maximum(measured, 0.0)
    g = wanted.copy()
    for _ in range(_ROUNDS):
        now = exactly_effective(g, lines) if exact else effective(g, lines)
        ratio = np.divide(wanted, now, out=np.ones_like(g), where=now > 0)
        g = g * ratio
        if np.abs(ratio - 1.0).max(initial=0.0) < 1e-6:
            break
    return g


@dataclass(frozen=True)
class Factors:
    """T = row k, column q, times conductance: `rows` (rows,) and `columns` (cols,)."""

    rows: Array
    columns: Array

    @cached_property
    def input_scale(self) -> Array:
        """What inputs are multiplied by, (cols,), at most 1: q_min / q_c."""
        scale: Array = self.columns.min() / self.columns
        return scale

    @cached_property
    def output_scale(self) -> Array:
        """What currents are multiplied by, (rows,): 1 / (k_r q_min)."""
        scale: Array = 1.0 / (self.rows * self.columns.min())
        return scale


def separate(measured: Array, g: Array) -> Factors:
    """Factors of rows and columns nearest to measured / g, weighted by conductance.

    Rows and columns without conductance get the mean of the others.
    """
    use = (g > _SMALL) & (measured > _SMALL)
    log = np.log(np.divide(measured, g, out=np.ones_like(g), where=use))
    weight = np.where(use, g, 0.0)
    rows, columns = np.zeros(len(g)), np.zeros(g.shape[1])
    for _ in range(8):
        rows = _mean(log - columns, weight, 1)
        columns = _mean(log - rows[:, None], weight, 0)
        columns -= columns.mean()
    return Factors(np.exp(rows), np.exp(columns))


def _mean(values: Array, weight: Array, axis: int) -> Array:
    total = weight.sum(axis)
    mean = np.divide((values * weight).sum(axis), total, out=np.zeros_like(total), where=total > 0)
    known = total > 0
    return np.where(known, mean, mean[known].mean() if known.any() else 0.0)


@dataclass(frozen=True)
class Expected:
    """What some rows were measured as, negative readings as zero.

    Attributes:
        weights: siemens, (cols, rows), float32: enough to choose a range by.
        largest_row_siemens: largest sum of a row.
    """

    weights: npt.NDArray[np.float32]
    largest_row_siemens: float


@dataclass
class Compensation:
    """Factors of a chip in the state of its last whole read, for all rows or some of them.

    Args:
        measured: T with all rows open, (rows, cols), siemens.
        lines: resistances.
    """

    measured: Array
    lines: LineResistances
    _cache: dict[bytes, Factors] = field(default_factory=dict)
    _expected: dict[bytes, Expected] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find the factors for all rows."""
        self._g = conductances(self.measured, self.lines)
        self.factors = separate(self.measured, self._g)
        seen = np.outer(self.factors.rows, self.factors.columns)
        self.conductances: Array = self.measured / seen

    def of_rows(self, rows: Rows) -> Factors:
        """Factors with only `rows` open: the others take no current from the bit lines."""
        asked = rows.tobytes()
        if asked not in self._cache:
            key = np.sort(rows).tobytes()
            if key not in self._cache:
                whole = len(np.unique(rows)) == len(self.measured)
                self._cache[key] = self.factors if whole else self._of_some(rows)
            self._cache[asked] = self._cache[key]
        return self._cache[asked]

    def _of_some(self, rows: Rows) -> Factors:
        alone = np.zeros_like(self._g)
        alone[rows] = self._g[rows]
        full = effective(self._g, self.lines)
        now = effective(alone, self.lines)
        # what was measured, changed as the model says that it changes
        change = np.divide(now, full, out=np.ones_like(full), where=full > _SMALL)
        return separate(np.where(alone > 0, self.measured * change, 0.0), self.conductances)

    def expected(self, rows: Rows) -> Expected:
        """What currents of `rows` are to be expected from."""
        key = rows.tobytes()
        if key not in self._expected:
            positive = np.maximum(self.measured[rows], 0.0)
            largest = float(positive.sum(1).max(initial=0.0))
            self._expected[key] = Expected(np.ascontiguousarray(positive.T, np.float32), largest)
        return self._expected[key]


def reset_bl_volts(
    reset_v: Array, selected: npt.NDArray[np.bool_], g: Array, source_v: float, row_ohm: Array
) -> Array:
    """Bit-line voltages that put a RESET voltage across cells of one row, (n, cols).

    The current of all cells of the row pulls its source line away from its source, down from a
    rail or up from ground, by

        sag = sum_sel(g V) / (1 / R_on + sum_unsel g)

    with unselected bit lines inhibited, at the source's voltage. A selected bit line is then
    V_src - sag - V below a rail, and sag + V above ground.

    Args:
        reset_v: wanted voltages between the lines, (n, cols), one row of the array per line.
        selected: which cells to RESET, (n, cols).
        g: conductances of that row, (n, cols), in siemens.
        source_v: of the source lines: the programming rail, or 0.
        row_ohm: series resistance of each of these source lines, (n,).
    """
    driven = np.where(selected, g * reset_v, 0.0).sum(1)
    held = np.where(selected, 0.0, g).sum(1)
    sag = row_ohm * driven / (1.0 + row_ohm * held)
    away = sag[:, None] + reset_v
    return np.where(selected, source_v - away if source_v else away, source_v)


def reset_groups(columns: Rows, sag_v: Array, parallel: int) -> list[list[int]]:
    """Cells of one row in groups that may be RESET by one pulse.

    Args:
        columns: which cells.
        sag_v: how far each cell of the row alone would pull the source line down, (cols,).
        parallel: most cells of a group.
    """
    groups: list[list[int]] = []
    sag = 0.0
    for column, drop in zip(columns.tolist(), sag_v[columns].tolist(), strict=True):
        sag += drop
        if not groups or len(groups[-1]) >= parallel or sag > MAX_SAG_V:
            groups.append([])
            sag = drop
        groups[-1].append(column)
    return groups
