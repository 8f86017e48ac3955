"""Compiled loops of the nonlinear array: see sim/array/nonlinear.py for the circuit.

Vectors are solved several at a time, in lanes. Arrays hold, per row, all columns and within each
all lanes, (rows, cols * lanes), and every innermost loop runs over lanes or over a whole row: so
the vector units of the processor work on the chains of wires, too, whose steps depend on each
other along a line. The number of lanes is an argument, not a constant: loops of a short constant
length would be unrolled before they could be vectorised.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_F = TypeVar("_F", bound=Callable[..., object])

# 1 / (2 k + 1)!, for the series of sinh
_C3, _C5, _C7, _C9 = 1 / 6, 1 / 120, 1 / 5040, 1 / 362880
_C11, _C13, _C15 = 1 / 39916800, 1 / 6227020800, 1 / 1307674368000
# A floating line whose transistors pinch off one after the other can swing for ever: after each
# so many rounds such lines go half as far.
_PATIENCE = 30
_TINY = 1e-60  # keeps a cell of no conductance behind a closed gate from dividing by zero


def compiled(function: _F) -> _F:
    """Compile a loop, kept on disk.

    Multiplications and additions may fuse, and no value is expected to be a NaN or to have a
    signed zero, without which max() would not be vectorised: callers check what comes out.
    """
    fast = {"contract", "nnan", "nsz"}
    return cast(_F, njit(cache=True, fastmath=fast, error_model="numpy")(function))


@compiled
def sinh(x: float) -> float:
    """Hyperbolic sine for |x| < 40 to 1e-10, below 27 to 1e-13, without a branch.

    The series at x / 27, then sinh(3 y) = sinh(y) (3 + 4 sinh(y)^2) three times.
    """
    y = x * (1.0 / 27.0)
    z = y * y
    tail = _C7 + z * (_C9 + z * (_C11 + z * (_C13 + z * _C15)))
    a = y * (1.0 + z * (_C3 + z * (_C5 + z * tail)))
    a = a * (3.0 + 4.0 * a * a)
    a = a * (3.0 + 4.0 * a * a)
    return a * (3.0 + 4.0 * a * a)


@compiled
def solve(
    v_bl: Array,
    v_sl: Array,
    pinch_v: Array,
    element: Array,
    knee_v: Array,
    slope: float,
    bl_ohm: Array,
    sl_ohm: Array,
    open_sl: Mask,
    tolerance: float,
    floor_a: float,
    max_iterations: int,
    lanes: int,
    keep: bool,
) -> tuple[Array, Array, int, int]:
    """Solve all vectors.

    Args:
        v_bl: (n, cols), volt.
        v_sl: (n, rows), volt.
        pinch_v: P = V_WL - V_th, (rows, cols), volt.
        element: G_m, (rows, cols), siemens.
        knee_v: V0, (rows, cols), volt.
        slope: k, siemens per volt.
        bl_ohm: resistance before each bit-line node, (rows, cols), ohm.
        sl_ohm: resistance before each source-line node, (rows, cols), ohm.
        open_sl: (rows,).
        tolerance: of currents, relative to the largest.
        floor_a: what rounding does to the current of a row, ampere.
        max_iterations: of the outer loop.
        lanes: how many vectors are solved at a time.
        keep: whether node voltages are wanted.

    Returns:
        Source-line currents (n, rows); node voltages (3, n, rows, cols), or n = 0: bit line,
        source line, inner; the largest number of iterations; the first vector of those that did
        not converge, -1 for none.
    """
    n, cols = v_bl.shape
    rows, wide = v_sl.shape[1], cols * lanes
    # b, s, m: node voltages; then per cell what _linearise and the lines leave for the next stage
    state = np.empty((3, rows, wide))
    b, s, m = state[0], state[1], state[2]
    cells, line = np.empty((rows, 6, wide)), np.empty((6, wide))
    # G V0, 1 / V0, P and the bit-line wire above of every cell, for every lane
    law = np.empty((rows, 4, wide))
    for r in range(rows):
        for c in range(cols):
            law[r, 0, c * lanes : (c + 1) * lanes] = element[r, c] * knee_v[r, c]
            law[r, 1, c * lanes : (c + 1) * lanes] = 1.0 / knee_v[r, c]
            law[r, 2, c * lanes : (c + 1) * lanes] = pinch_v[r, c]
            law[r, 3, c * lanes : (c + 1) * lanes] = bl_ohm[r, c]
    drive, source = np.empty(wide), np.empty((rows, lanes))
    out, moved = np.empty((rows, lanes)), np.empty((rows, lanes))
    last, limits = np.empty(lanes), np.empty((2, lanes))
    currents, nodes = np.empty((n, rows)), np.empty((3, n if keep else 0, rows, cols))
    most = 0
    for first in range(0, n, lanes):
        for lane in range(lanes):  # lanes past the end repeat the last vector
            k = min(first + lane, n - 1)
            drive[lane::lanes] = v_bl[k]
            low, high = v_bl[k].min(), v_bl[k].max()
            for r in range(rows):
                if not open_sl[r]:
                    low, high = min(low, v_sl[k, r]), max(high, v_sl[k, r])
            limits[0, lane], limits[1, lane] = low, high
            for r in range(rows):  # a floating line starts where all its transistors conduct
                source[r, lane] = low if open_sl[r] else v_sl[k, r]
        for r in range(rows):
            for c in range(cols):
                s[r, c * lanes : (c + 1) * lanes] = source[r]
            b[r] = drive
            _start(b[r], s[r], law[r], slope, m[r])
        done = False
        last[:] = 0.0
        for iteration in range(max_iterations):
            relax = 0.5 ** (iteration // _PATIENCE)
            for r in range(rows):
                _linearise(b[r], s[r], m[r], law[r], slope, cells[r], line)
                _source_line(
                    source[r],
                    limits,
                    sl_ohm[r],
                    open_sl[r],
                    relax,
                    pinch_v[r].max(),
                    s[r],
                    cells[r],
                    line,
                    moved[r],
                )
            _bit_lines(drive, law, b, s, m, cells, out, moved)
            most = max(most, iteration + 1)
            done = _settled(cells, out, moved, last, tolerance, floor_a)
            if done:
                break
        if not done:
            return currents, nodes, most, first
        for lane in range(min(lanes, n - first)):
            for r in range(rows):
                currents[first + lane, r] = 0.0 if open_sl[r] else out[r, lane]
            if keep:
                for which in range(3):
                    nodes[which, first + lane] = state[which, :, lane::lanes]
    return currents, nodes, most, -1


@compiled
def _start(b: Array, s: Array, law: Array, slope: float, m: Array) -> None:
    """Inner nodes of a row to begin with: cells divided as at small signal.

    The element never sees more than what the saturated transistor lets through: without that
    limit Newton's method would come down from a steep sinh one knee at a time.
    """
    amp, per_knee, pinch = law[0], law[1], law[2]
    for i in range(b.size):
        g = amp[i] * per_knee[i]
        over = max(pinch[i] - s[i], 0.0)
        on = slope * over
        x = (b[i] - s[i]) * on / (on + g + _TINY)
        knees = x * per_knee[i]
        limit = 0.5 * slope * over * over
        if knees > 1.0 and g * x * (1.0 + knees * knees / 6.0) > limit:
            x = min(x, math.asinh(limit / amp[i]) / per_knee[i])
        m[i] = b[i] - x


@compiled
def _linearise(
    b: Array, s: Array, m: Array, law: Array, slope: float, cells: Array, line: Array
) -> None:
    """One Newton step of every cell of a row, as lines in the voltages of its two nodes.

    With gate overdrives p_s = (P - s)_+, p_m = (P - m)_+ the transistor carries
    f = k / 2 (p_s^2 - p_m^2), in triode, saturation, cut-off and either direction; the element
    carries e = G V0 sinh((b - m) / V0). With g_e = de/db, g_t = k p_m, and m eliminated,

        I = (g_t e + g_e f) / (g_e + g_t) + g_b db - g_s ds,
        g_b = g_e g_t / (g_e + g_t),  g_s = g_e k p_s / (g_e + g_t),
        dm = (e - f + g_e db + k p_s ds) / (g_e + g_t).

    Fills `cells`: I, g_b, the step of m, dm/db; and `line`: g_s, dm/ds, |e - f|.
    """
    current, slope_b, inner, slope_m = cells[0], cells[1], cells[2], cells[3]
    slope_s, inner_s, gap = line[0], line[1], line[2]
    amp, per_knee, pinch = law[0], law[1], law[2]
    for i in range(b.size):
        sh = sinh((b[i] - m[i]) * per_knee[i])
        e, ge = amp[i] * sh, amp[i] * per_knee[i] * math.sqrt(1.0 + sh * sh)
        ps, pm = max(pinch[i] - s[i], 0.0), max(pinch[i] - m[i], 0.0)
        f = 0.5 * slope * (ps - pm) * (ps + pm)
        gt = slope * pm
        den = 1.0 / (ge + gt + _TINY)
        part = ge * den
        current[i], slope_b[i] = (gt * e + ge * f) * den, gt * part
        inner[i], slope_m[i] = (e - f) * den, part
        slope_s[i], inner_s[i] = part * slope * ps, slope * ps * den
        gap[i] = abs(e - f)


@compiled
def _source_line(
    source: Array,
    limits: Array,
    ohm: Array,
    is_open: bool,
    relax: float,
    top: float,
    s: Array,
    cells: Array,
    line: Array,
    moved: Array,
) -> None:
    """Solve one source line with its bit-line nodes held.

    From the far end inwards the line is y s - j as seen through the wire before each node; then
    the voltages follow outwards. `s`, and in `cells` the currents and the steps of m, become what
    they are at the new voltages; `moved` becomes the sum of |e - f| and of changes of current.
    A floating line stays within `limits`, the lowest and the highest source, (2, lanes), goes
    the share `relax` of its way, and knows the highest pinch-off `top` of its transistors.
    """
    lanes, cols = source.size, ohm.size
    current, inner = cells[0], cells[2]
    slope_s, inner_s, gap, ys, js, new = line[0], line[1], line[2], line[3], line[4], line[5]
    y, j, volts = np.zeros(lanes), np.zeros(lanes), np.empty(lanes)
    for c in range(cols - 1, -1, -1):
        at, wire = c * lanes, ohm[c] if c > 0 else 0.0
        for i in range(lanes):
            k = at + i
            yy, jj = y[i] + slope_s[k], j[i] + current[k] + slope_s[k] * s[k]
            shrink = 1.0 / (1.0 + wire * yy)
            yy *= shrink
            jj *= shrink
            y[i], j[i], ys[k], js[k] = yy, jj, yy, jj
    for i in range(lanes):
        if is_open:
            # Above `top` no transistor lets current in, and just below it Newton's step knows no
            # bounds: the line goes half the way there at most. Where it is above, it must fall.
            floating = 0.5 * (s[i] + limits[0, i]) if j[i] < 0.0 else s[i]
            if y[i] > 0.0:
                floating = min(j[i] / y[i], s[i] + 0.5 * max(top - s[i], 0.0))
            floating = min(max(floating, limits[0, i]), limits[1, i])
            volts[i] = s[i] + relax * (floating - s[i])
        else:
            volts[i] = (source[i] + ohm[0] * j[i]) / (1.0 + ohm[0] * y[i])
    moved[:] = 0.0
    for c in range(cols):
        at, wire = c * lanes, ohm[c] if c > 0 else 0.0
        for i in range(lanes):
            volts[i] -= wire * (ys[at + i] * volts[i] - js[at + i])
            new[at + i] = volts[i]
    for k in range(s.size):
        ds = new[k] - s[k]
        di = slope_s[k] * ds
        current[k] -= di
        inner[k] += inner_s[k] * ds
        gap[k] += abs(di)
        s[k] = new[k]
    for c in range(cols):
        for i in range(lanes):
            moved[i] += gap[c * lanes + i]


@compiled
def _bit_lines(
    drive: Array, law: Array, b: Array, s: Array, m: Array, cells: Array, out: Array, moved: Array
) -> None:
    """Solve all bit lines with their source-line nodes held, and step the inner nodes.

    As _source_line, for all columns at once. Fills `out` with the sum of the currents of each
    row, (rows, lanes), leaves the currents in `cells`, and adds their changes to `moved`.
    """
    rows, wide = b.shape
    lanes = out.shape[1]
    y, j, gap = np.zeros(wide), np.zeros(wide), np.empty(wide)
    for r in range(rows - 1, -1, -1):
        _bit_lines_up(law[r, 3], b[r], y, j, cells[r])
    volts = drive.copy()
    for r in range(rows):
        _bit_lines_down(law[r, 3], volts, b[r], s[r], m[r], cells[r], gap)
        current, row_out, row_moved = cells[r, 0], out[r], moved[r]
        row_out[:] = 0.0
        for at in range(0, wide, lanes):
            for i in range(lanes):
                row_out[i] += current[at + i]
                row_moved[i] += gap[at + i]


@compiled
def _bit_lines_up(wire: Array, b: Array, y: Array, j: Array, cells: Array) -> None:
    """Bit lines from a row downwards, seen through the wires above it, as y b - j."""
    current, slope_b, ys, js = cells[0], cells[1], cells[4], cells[5]
    for k in range(b.size):
        yy, jj = y[k] + slope_b[k], j[k] + slope_b[k] * b[k] - current[k]
        shrink = 1.0 / (1.0 + wire[k] * yy)
        yy *= shrink
        jj *= shrink
        y[k], j[k], ys[k], js[k] = yy, jj, yy, jj


@compiled
def _bit_lines_down(
    wire: Array, volts: Array, b: Array, s: Array, m: Array, cells: Array, moved: Array
) -> None:
    """Bit-line nodes of a row from those above it, `volts`, which they replace; and inner nodes.

    Inner nodes are kept between the nodes of the lines, where they must lie.
    """
    current, slope_b, inner, slope_m = cells[0], cells[1], cells[2], cells[3]
    ys, js = cells[4], cells[5]
    for k in range(b.size):
        new = volts[k] - wire[k] * (ys[k] * volts[k] - js[k])
        db = new - b[k]
        volts[k], b[k] = new, new
        di = slope_b[k] * db
        moved[k] = abs(di)
        current[k] += di
        mid = m[k] + inner[k] + slope_m[k] * db
        m[k] = min(max(mid, min(new, s[k])), max(new, s[k]))


@compiled
def _settled(
    cells: Array, out: Array, moved: Array, last: Array, tolerance: float, floor_a: float
) -> bool:
    """Whether in every lane the currents of each row are known to the tolerance.

    What is still to come is about moved x / (1 - x), where x is the factor by which moves
    shrank in this round, but not taken below 1/20: a round of Newton's convergence says nothing
    about the linear one that source and bit lines have with each other. `last` keeps the moves.
    """
    rows, lanes = out.shape
    worst, largest = np.zeros(lanes), np.zeros(lanes)
    for r in range(rows):
        for i in range(lanes):
            worst[i] = max(worst[i], moved[r, i])
            largest[i] = max(largest[i], abs(out[r, i]))
        current = cells[r, 0]
        for at in range(0, current.size, lanes):
            for i in range(lanes):
                largest[i] = max(largest[i], abs(current[at + i]))
    settled = True
    for i in range(lanes):
        shrink = max(min(worst[i] / last[i], 0.5), 0.05) if last[i] > 0.0 else 0.5
        if 2.0 * worst[i] * shrink > tolerance * largest[i] + floor_a:
            settled = False
        last[i] = worst[i]
    return settled
