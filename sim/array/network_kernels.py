"""Compiled loops of the linear wire network: see sim/array/network.py for the circuit.

One identity carries all of it. Let M be the admittance matrix of some ports (currents into them
= M V). A resistance R in series with port c leaves

    M_cc' = M_cc / (1 + R M_cc),    M_ij' = M_ij - M_ic M_jc R / (1 + R M_cc),

which holds for R = 0 as it stands and, when the port is left open, in the limit of R without
bound: so wires of no resistance and floating lines need no other code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_F = TypeVar("_F", bound=Callable[..., object])


def compiled(function: _F) -> _F:
    """Compile a loop to machine code, kept on disk, with every operation rounded as IEEE 754 says.

    A decorator with a type, which the one of numba has not.
    """
    return cast(_F, njit(cache=True)(function))


@compiled
def factor(
    g: Array, bl_ohm: Array, sl_ohm: Array, open_sl: Mask, passed: Array, chains: Array
) -> tuple[Array, Array]:
    """Build the admittance matrix of all ports, from the row farthest from the sources inwards.

    The working matrix has a port for every bit line, at the row reached so far, and one for the
    source of every source line done: currents into the network are M V.

    Args:
        g: (rows, cols), siemens.
        bl_ohm: resistance above each bit-line node, towards its source, (rows, cols), ohm.
        sl_ohm: resistance before each source-line node, towards its source, (rows, cols), ohm.
        open_sl: source lines without a source, (rows,).
        passed: filled with the bit-line block of M as seen through the resistances above each
            row, (rows, cols, cols).
        chains: filled with the admittance of each source line from a node to its far end,
            without and with the resistance before it, (2, rows, cols).

    Returns:
        T_bl (rows, cols) and T_sl (rows, rows): I_sl = T_bl V_bl + T_sl V_sl.
    """
    rows, cols = g.shape
    ports = cols + rows
    m = np.zeros((ports, ports))  # only its lower triangle; port cols + k is row rows - 1 - k
    a = np.zeros((cols, cols))
    w = np.zeros(cols)
    v = np.zeros(ports)
    for row in range(rows - 1, -1, -1):
        _add_row(g[row], sl_ohm[row], open_sl[row], a, w, chains[:, row])
        n = cols + rows - row
        for i in range(cols):
            for j in range(i + 1):
                m[i, j] += a[i, j]
            m[n - 1, i] = -w[i]
        m[n - 1, n - 1] = 0.0 if open_sl[row] else chains[1, row, 0]
        for c in range(cols):
            if bl_ohm[row, c] > 0.0:
                _pass_port(m, n, c, bl_ohm[row, c], v)
        for i in range(cols):
            for j in range(i + 1):
                passed[row, i, j] = m[i, j]
                passed[row, j, i] = m[i, j]
    t_bl, t_sl = np.empty((rows, cols)), np.empty((rows, rows))
    for row in range(rows):
        k = ports - 1 - row
        t_bl[row] = -m[k, :cols]
        for other in range(row, rows):
            t_sl[row, other] = -m[k, ports - 1 - other]
            t_sl[other, row] = t_sl[row, other]
    return t_bl, t_sl


@compiled
def _pass_port(m: Array, n: int, c: int, ohm: float, v: Array) -> None:
    """Put `ohm` in series with port c of the n ports of m, in place, lower triangle."""
    y = m[c, c]
    shrink = 1.0 / (1.0 + ohm * y)
    for i in range(c):
        v[i] = m[c, i]
    for i in range(c, n):
        v[i] = m[i, c]
    scale = ohm * shrink
    for i in range(n):
        f = scale * v[i]
        for j in range(i + 1):
            m[i, j] -= f * v[j]
    for i in range(c):
        m[c, i] = v[i] * shrink
    for i in range(c, n):
        m[i, c] = v[i] * shrink


@compiled
def _add_row(g: Array, sl_ohm: Array, is_open: bool, a: Array, w: Array, chain: Array) -> None:
    """Ports of one row alone: cell currents = a V_bl - w V_sl, source line folded in.

    Args:
        g: (cols,).
        sl_ohm: (cols,).
        is_open: nothing at the end of the source line.
        a: filled, (cols, cols), lower triangle.
        w: filled, (cols,).
        chain: filled, (2, cols): see `factor`.
    """
    cols = g.size
    a[:] = 0.0
    w[:] = 0.0
    y = 0.0
    for c in range(cols - 1, -1, -1):
        # the cell joins: its current is g (b - s), that of the source line s
        a[c, c] = g[c]
        w[c] = g[c]
        y += g[c]
        chain[0, c] = y
        scale, shrink = sl_ohm[c] / (1.0 + sl_ohm[c] * y), 1.0 / (1.0 + sl_ohm[c] * y)
        if c == 0 and is_open:
            scale, shrink = (1.0 / y if y > 0.0 else 0.0), 0.0
        for i in range(c, cols):
            f = scale * w[i]
            for j in range(c, i + 1):
                a[i, j] -= f * w[j]
        for i in range(c, cols):
            w[i] *= shrink
        y *= shrink
        chain[1, c] = y


@compiled
def _line_volts(
    g: Array, sl_ohm: Array, chain: Array, is_open: bool, pushed: Array, source_v: float, s: Array
) -> float:
    """Voltages s of one source line for currents pushed into its nodes; its current at the end.

    Args:
        g: (cols,).
        sl_ohm: (cols,).
        chain: (2, cols), of `factor`.
        is_open: no source.
        pushed: current into each node at zero node voltage, (cols,), ampere.
        source_v: voltage of the source.
        s: filled, (cols,). Zero along a floating line with no conductance: it has no potential.

    Returns:
        Current out of the line into its source, ampere.
    """
    cols = g.size
    j = 0.0
    for c in range(cols - 1, -1, -1):
        j += pushed[c]
        s[c] = j  # what flows out of the node at zero voltage, kept where s will be
        if c > 0:
            j /= 1.0 + sl_ohm[c] * chain[0, c]
    y = chain[0, 0]
    if is_open:
        into, volts = 0.0, (j / y if y > 0.0 else 0.0)
    else:
        into = (y * source_v - j) / (1.0 + sl_ohm[0] * y)
        volts = source_v - sl_ohm[0] * into
    out = -into
    for c in range(cols):
        if c > 0:
            into = (chain[0, c] * volts - s[c]) / (1.0 + sl_ohm[c] * chain[0, c])
            volts -= sl_ohm[c] * into
        s[c] = volts
    return out


@compiled
def solve(
    g: Array,
    bl_ohm: Array,
    sl_ohm: Array,
    open_sl: Mask,
    passed: Array,
    chains: Array,
    bl_v: Array,
    sl_v: Array,
    row: int,
    col: int,
    ampere: float,
) -> tuple[Array, Array, Array]:
    """Voltages across all cells for voltages at the ports and a current forced through one cell.

    Args:
        g: as given to `factor`, and so the next three.
        bl_ohm: (rows, cols).
        sl_ohm: (rows, cols).
        open_sl: (rows,).
        passed: as filled by `factor`.
        chains: as filled by `factor`.
        bl_v: (cols,), volt.
        sl_v: (rows,), volt.
        row: of the cell through which a current flows besides its own; -1 for none.
        col: of that cell.
        ampere: that current, bit line to source line.

    Returns:
        Cell voltages, bit line minus source line (rows, cols), volt; currents into the bit lines
        (cols,) and out of the source lines (rows,), ampere.
    """
    rows, cols = g.shape
    s, pushed = np.empty(cols), np.zeros(cols)
    norton = np.zeros((rows, cols))  # at each row: current out of its bit-line nodes at 0 V
    total = np.zeros(cols)
    for r in range(rows - 1, -1, -1):
        if r == row:
            pushed[col] = ampere
            total[col] -= ampere
        if sl_v[r] != 0.0 or r == row:
            _line_volts(g[r], sl_ohm[r], chains[:, r], open_sl[r], pushed, sl_v[r], s)
            for c in range(cols):
                total[c] += g[r, c] * s[c]
        pushed[:] = 0.0
        for c in range(cols):
            drop = bl_ohm[r, c] * total[c]
            norton[r, c] = total[c]
            s[c] = drop
        for c in range(cols):
            for i in range(cols):
                norton[r, i] -= passed[r, c, i] * s[c]
        total[:] = norton[r]
    across, sl_i, bl_i = np.empty((rows, cols)), np.empty(rows), np.empty(cols)
    b, down = bl_v.copy(), np.empty(cols)
    for r in range(rows):
        down[:] = -norton[r]
        for c in range(cols):
            for i in range(cols):
                down[i] += passed[r, c, i] * b[c]
        if r == 0:
            bl_i[:] = down
        for c in range(cols):
            b[c] -= bl_ohm[r, c] * down[c]
            pushed[c] = g[r, c] * b[c]
        if r == row:
            pushed[col] += ampere
        sl_i[r] = _line_volts(g[r], sl_ohm[r], chains[:, r], open_sl[r], pushed, sl_v[r], s)
        for c in range(cols):
            across[r, c] = b[c] - s[c]
    return across, bl_i, sl_i
