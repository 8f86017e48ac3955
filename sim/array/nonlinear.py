"""The array at voltages where cells are not resistors: 1T1R cells in a network of wires.

Circuit. Between bit-line node b and source-line node s of a cell lie

* the element, from b to an inner node m: I = G_m V0 sinh((b - m) / V0);
* its access transistor, from m to s, with gate voltage V_WL against ground: a level-1 NMOS
  without channel-length modulation and body effect, which with P = V_WL - V_th is

      I = k / 2 ((P - s)_+^2 - (P - m)_+^2).

  That is triode, saturation and cut-off in either direction at once: for m > s it is
  k ((P - s)(m - s) - (m - s)^2 / 2) while m < P, and k / 2 (P - s)^2 above.

Wires, leads and open source lines are those of sim/array/network.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.errors import InputError, RramError
from sim.array import nonlinear_kernels as kernels
from sim.array.network import Wires

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_LANES = 8  # vectors at a time: their state, 0.7 MB of 32 x 32 cells, stays in the L2 cache
_MAX_KNEES = 40.0  # up to here the kernel's sinh is good; sinh(40) is 10^17


def element_siemens(stack_siemens: Array, gate_slope_siemens_per_v: float, over_v: float) -> Array:
    """Small-signal conductance of the element alone, from that of its 1T1R stack.

    G_m = G / (1 - G / (k V_over)): at small V_DS the transistor is a resistance
    1 / (k V_over) in series, with V_over = V_WL - V_th - V_S.

    The conductance of a cell in sim/array/cell.py means a read gate and counts the overdrive from
    ground: over_v = V_WL,read - V_th. A conductance measured with the source line at a virtual
    ground V_S has that much less overdrive: over_v = V_WL,read - V_th - V_S.

    Args:
        stack_siemens: conductance of the stack, any shape.
        gate_slope_siemens_per_v: k of the transistor.
        over_v: overdrive at which the stack was measured, volt.

    Returns:
        Same shape, siemens.

    Raises:
        InputError: a stack conducts as well as its transistor alone, or better, or is negative.

    >>> round(1e6 * float(element_siemens(np.array(90e-6), 1e-3, 0.9)))
    100
    """
    channel = gate_slope_siemens_per_v * over_v
    stack = np.asarray(stack_siemens, dtype=np.float64)
    if not (channel > 0 and (stack >= 0).all() and (stack < channel).all()):
        raise InputError(
            f"stack conductances up to {stack.max(initial=0.0):.3g} S through a transistor of "
            f"{channel:.3g} S: they must lie between 0 and that of the transistor"
        )
    element: Array = stack / (1 - stack / channel)
    return element


@dataclass(frozen=True)
class Stacks:
    """Elements and transistors of an array.

    Attributes:
        element_siemens: G_m of every element, (rows, cols); 0 is an element that is missing.
        knee_v: V0, one for all or (rows, cols).
        gate_slope_siemens_per_v: k.
        gate_threshold_v: V_th, one for all or (rows, cols).

    Raises:
        InputError: a shape or a value is impossible.
    """

    element_siemens: Array
    knee_v: float | Array
    gate_slope_siemens_per_v: float
    gate_threshold_v: float | Array

    def __post_init__(self) -> None:
        g, knee = np.asarray(self.element_siemens), np.asarray(self.knee_v)
        threshold = np.asarray(self.gate_threshold_v)
        if g.ndim != 2 or g.size == 0 or {knee.shape, threshold.shape} - {(), g.shape}:
            raise InputError(
                f"elements {g.shape}, knees {knee.shape}, thresholds {threshold.shape}: they must "
                "be (rows, cols), the latter two or a number"
            )
        if not (np.isfinite(g).all() and (g >= 0).all()):
            raise InputError("the conductance of an element is negative or not finite")
        if not (np.isfinite(knee).all() and (knee > 0).all()):
            raise InputError("a knee voltage is not finite and above 0 V")
        if not np.isfinite(threshold).all():
            raise InputError("a threshold is not finite")
        if not 0 < self.gate_slope_siemens_per_v < np.inf:
            raise InputError(f"slope {self.gate_slope_siemens_per_v} S/V must be above 0")


@dataclass(frozen=True)
class Solution:
    """Currents and, if they were asked for, node voltages of a batch.

    Attributes:
        sl_a: current out of every source line into its source, (n, rows), ampere.
        bl_node_v, sl_node_v, inner_node_v: (n, rows, cols), volt; n = 0 if not asked for.
        iterations: rounds that the slowest vector took.
    """

    sl_a: Array
    bl_node_v: Array
    sl_node_v: Array
    inner_node_v: Array
    iterations: int


def solve(
    stacks: Stacks,
    wires: Wires,
    v_bl: Array,
    v_sl: Array,
    v_wl: Array,
    *,
    open_sl: Mask | None = None,
    nodes: bool = False,
    tolerance: float = 1e-9,
    max_iterations: int = 200,
) -> Solution:
    """Solve the array for a batch of voltages.

    Each round takes a Newton step of every cell, solves all source lines with the bit lines held,
    then all bit lines with the source lines held, exactly along each line: what remains is how
    source and bit lines act on each other, a factor of R G / (1 + R G) each. It ends when what
    is still to come, judged by how fast moves shrink, is below `tolerance` of the largest current
    of the vector, or below what rounding of node voltages does to the current of a row.

    Args:
        stacks: the cells.
        wires: resistances of the lines.
        v_bl: sources of the bit lines, (n, cols), volt.
        v_sl: sources of the source lines, (rows,) or (n, rows), volt; ignored for open ones.
        v_wl: gates, against ground, (rows,), volt.
        open_sl: source lines without a source, (rows,); none by default. One on which no
            transistor conducts has no potential of its own and stays at the lowest source.
        nodes: whether node voltages are wanted.
        tolerance: relative to the largest current of the vector.
        max_iterations: rounds after which to give up.

    Returns:
        The solution.

    Raises:
        InputError: a shape is wrong, a voltage is not finite, or the voltages span more than 40
            knees.
        RramError: a vector did not converge.
    """
    rows, cols = np.shape(stacks.element_siemens)
    bl, wl = np.asarray(v_bl, dtype=np.float64), np.asarray(v_wl, dtype=np.float64)
    mask = np.zeros(rows, dtype=bool) if open_sl is None else np.array(open_sl, dtype=bool)
    sl = np.asarray(v_sl, dtype=np.float64)
    n = bl.shape[0] if bl.ndim == 2 else 0
    sl = np.broadcast_to(sl, (n, rows)) if sl.shape == (rows,) else sl
    if (bl.shape, sl.shape, wl.shape, mask.shape) != ((n, cols), (n, rows), (rows,), (rows,)):
        raise InputError(
            f"bit lines {bl.shape}, source lines {np.shape(v_sl)}, word lines {wl.shape}, open "
            f"lines {mask.shape} for {rows} x {cols} cells"
        )
    sl = np.where(mask, 0.0, sl)
    if not all(np.isfinite(v).all() for v in (bl, sl, wl)):
        raise InputError("a voltage is not finite")
    knee = np.array(np.broadcast_to(stacks.knee_v, (rows, cols)), dtype=np.float64)
    driven = np.hstack([bl, sl[:, ~mask]])
    span = float(np.ptp(driven, axis=1).max()) if n else 0.0
    if span > _MAX_KNEES * knee.min():
        raise InputError(
            f"voltages span {span:.3g} V, {span / knee.min():.3g} knees of {knee.min():.3g} V: "
            f"at most {_MAX_KNEES:g}"
        )
    pinch = np.array(np.broadcast_to(wl[:, None] - stacks.gate_threshold_v, (rows, cols)))
    k = float(stacks.gate_slope_siemens_per_v)
    # rounding of node voltages, seen through elements and transistors of a row
    volts = max(float(np.abs(v).max(initial=0.0)) for v in (bl, sl, pinch))
    steepest = float(np.max(stacks.element_siemens)) + k * max(float(pinch.max()), 0.0)
    floor = float(4 * np.finfo(np.float64).eps) * cols * steepest * volts
    lanes = max(1, min(_LANES, n))
    currents, found, iterations, failed = kernels.solve(
        np.ascontiguousarray(bl),
        sl,
        pinch,
        np.ascontiguousarray(stacks.element_siemens, dtype=np.float64),
        knee,
        k,
        *wires.before_nodes(rows, cols),
        mask,
        tolerance,
        floor,
        max_iterations,
        lanes,
        nodes,
    )
    if failed < 0 and not np.isfinite(currents).all():
        failed = int(np.nonzero(~np.isfinite(currents).all(1))[0][0])
    if failed >= 0:
        raise RramError(
            f"no solution of the array within {max_iterations} rounds to {tolerance:g} of the "
            f"largest current, for vector {failed} or one of the {lanes - 1} after it"
        )
    return Solution(currents, found[0], found[1], found[2], iterations)
