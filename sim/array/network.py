"""The array as a network of linear resistances: what wires and switches do to a read.

Circuit. Cell (r, c) is a conductance between node (r, c) of bit line c and node (r, c) of source
line r; the access transistor is part of it, and a closed gate is a conductance of 0. Bit line c
is driven by an ideal source behind `bl_lead_ohm` at row 0 and has `bl_segment_ohm` between
neighbouring rows. Source line r leaves at column 0 through `sl_lead_ohm` to an ideal source
(the virtual ground of its amplifier), or is open there, and has `sl_segment_ohm` between
neighbouring columns. Every resistance may be 0.

The network is linear in its port voltages, so all of it is two matrices,

    I_sl = T_bl V_bl + T_sl V_sl,

found once for a state of the cells; a product then costs what it costs without wires.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from firmware_bridge.errors import InputError, RramError
from sim.array import network_kernels as kernels

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# A change that the rank-one form would carry with fewer good digits is factored afresh.
_MAX_CONDITION = 1e3


@dataclass(frozen=True)
class Wires:
    """Resistances of the lines, in ohm, all finite and at least 0.

    Attributes:
        bl_lead_ohm: between a bit line's source and row 0; one for all, or (cols,).
        bl_segment_ohm: of a bit line between neighbouring rows.
        sl_lead_ohm: between column 0 of a source line and its source; one for all, or (rows,).
        sl_segment_ohm: of a source line between neighbouring columns.

    Raises:
        InputError: a resistance is negative or not finite.
    """

    bl_lead_ohm: float | Array = 0.0
    bl_segment_ohm: float = 0.0
    sl_lead_ohm: float | Array = 0.0
    sl_segment_ohm: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            ohm = np.asarray(value, dtype=np.float64)
            if not (np.isfinite(ohm).all() and (ohm >= 0).all()):
                raise InputError(f"{name} is {value}: it must be finite and at least 0 ohm")

    def before_nodes(self, rows: int, cols: int) -> tuple[Array, Array]:
        """Resistance between each node and the next one towards its source, in ohm.

        Args:
            rows: of the array.
            cols: of the array.

        Returns:
            Of bit lines and of source lines, both (rows, cols).

        Raises:
            InputError: a lead has another shape.
        """
        bl = np.full((rows, cols), self.bl_segment_ohm, dtype=np.float64)
        sl = np.full((rows, cols), self.sl_segment_ohm, dtype=np.float64)
        for name, value, edge in (
            ("bl_lead_ohm", self.bl_lead_ohm, bl[0]),
            ("sl_lead_ohm", self.sl_lead_ohm, sl[:, 0]),
        ):
            lead = np.asarray(value, dtype=np.float64)
            if lead.shape not in ((), edge.shape):
                raise InputError(
                    f"{name} has shape {lead.shape}: it must be a number or {edge.shape}"
                )
            edge[:] = lead
        return bl, sl


class EffectiveMatrix:
    """Port matrices of the array, kept up to date while cells change one at a time.

    Changed cells are carried by a low-rank correction of the last factorisation (Woodbury). Let
    u be the voltage across a cell for one volt at each port, and rho_ij the voltage across cell
    i for one ampere taken through cell j; then changes D = diag(dg) of the cells S add

        dT = -U_sl^T D (1 + rho D)^-1 U,    U = u of the cells S,

    where U_sl, by reciprocity, is also what the source lines get from a current through a cell.
    After `max_pending` different cells, or where the form would lose digits, the network is
    factored afresh.

    Args:
        rows, cols: geometry.
        wires: resistances.
        max_pending: how many different cells may be carried by the correction.

    Raises:
        InputError: the geometry is empty, or does not fit the wires.
    """

    def __init__(self, rows: int, cols: int, wires: Wires, max_pending: int = 8) -> None:
        if rows < 1 or cols < 1:
            raise InputError(f"{rows} x {cols} cells: at least one row and one column")
        self.rows, self.cols, self._max_pending = rows, cols, max_pending
        self._bl_ohm, self._sl_ohm = wires.before_nodes(rows, cols)
        self._passed = np.empty((rows, cols, cols))
        self._chains = np.empty((2, rows, cols))
        self._t: Array | None = None

    def factor(self, g: Array, open_sl: Mask | None = None) -> Self:
        """Find the port matrices of the conductances `g` from scratch.

        Args:
            g: conductance of every cell with its gate as it stands, (rows, cols), siemens.
            open_sl: source lines whose switch is open, (rows,); none by default.

        Returns:
            This object.

        Raises:
            InputError: a shape is wrong, or a conductance is negative or not finite.
        """
        rows, cols = self.rows, self.cols
        g = np.array(g, dtype=np.float64)
        mask = np.zeros(rows, dtype=bool) if open_sl is None else np.array(open_sl, dtype=bool)
        if g.shape != (rows, cols) or mask.shape != (rows,):
            raise InputError(
                f"conductances {g.shape} and open lines {mask.shape} for {rows} x {cols} cells"
            )
        if not (np.isfinite(g).all() and (g >= 0).all()):
            raise InputError("a conductance is negative or not finite")
        self._open, self._base, self._now = mask, g, g.copy()
        t_bl, t_sl = kernels.factor(g, self._bl_ohm, self._sl_ohm, mask, self._passed, self._chains)
        self._t_base = np.hstack([t_bl, t_sl])
        self._t = self._t_base
        self._pending: list[tuple[int, int]] = []
        self._ports = np.empty((0, cols + rows))  # U
        self._across = np.empty((0, rows, cols))  # voltage of every cell per ampere through S
        self._correction = np.empty((0, 0))  # D (1 + rho D)^-1
        return self

    def change(self, row: int, col: int, g_siemens: float) -> None:
        """Give one cell another conductance.

        Raises:
            InputError: there is no such cell, or the conductance is negative or not finite.
            RramError: nothing was factored yet.
        """
        self._ready()
        if not (0 <= row < self.rows and 0 <= col < self.cols):
            raise InputError(f"cell ({row}, {col}) of {self.rows} x {self.cols} cells")
        if not (np.isfinite(g_siemens) and g_siemens >= 0):
            raise InputError(f"conductance {g_siemens} S: it must be finite and at least 0")
        self._now[row, col] = g_siemens
        # a floating line with no conductance has no potential to correct
        floating = self._open[row] and not self._base[row].any()
        full = (row, col) not in self._pending and len(self._pending) == self._max_pending
        if floating or full or not self._correct(row, col):
            self.factor(self._now, self._open)

    def _correct(self, row: int, col: int) -> bool:
        """Bring the correction up to date; False where too many digits would be lost."""
        if (row, col) not in self._pending:
            across, into_bl, out_of_sl = self._solve(
                np.zeros(self.cols), np.zeros(self.rows), row, col, 1.0
            )
            # reciprocity: u is the current that a source of one ampere draws out of each port
            ports = np.concatenate([into_bl, -out_of_sl])
            self._ports = np.vstack([self._ports, ports])
            self._across = np.concatenate([self._across, across[None]])
            self._pending.append((row, col))
        at = tuple(np.array(self._pending).T)
        change = self._now[at] - self._base[at]
        mixed = np.eye(change.size) - self._across[:, at[0], at[1]].T * change
        try:
            inverse = np.linalg.inv(mixed)
        except np.linalg.LinAlgError:
            return False
        # 1 counts, too: a single 1 + rho dg that nearly vanishes has lost what it was made of
        size = max(1.0, float(np.linalg.norm(mixed)))
        if size * float(np.linalg.norm(inverse)) > _MAX_CONDITION:
            return False
        self._correction = change[:, None] * inverse
        self._t = self._t_base - (self._ports[:, self.cols :].T @ self._correction) @ self._ports
        return True

    def _ready(self) -> Array:
        if self._t is None:
            raise RramError("no conductances yet: call factor() first")
        return self._t

    def _solve(
        self, v_bl: Array, v_sl: Array, row: int = -1, col: int = -1, ampere: float = 0.0
    ) -> tuple[Array, Array, Array]:
        wires = (self._bl_ohm, self._sl_ohm, self._open, self._passed, self._chains)
        return kernels.solve(self._base, *wires, v_bl, v_sl, row, col, ampere)

    @property
    def g(self) -> Array:
        """Conductances now, (rows, cols), siemens; a copy."""
        self._ready()
        return self._now.copy()

    @property
    def t_bl(self) -> Array:
        """Currents out of the source lines per volt on the bit lines, (rows, cols), siemens."""
        return self._ready()[:, : self.cols]

    @property
    def t_sl(self) -> Array:
        """Currents out of the source lines per volt at their sources, (rows, rows), siemens.

        Its diagonal is negative: a higher source takes less current. Zero for open lines.
        """
        return self._ready()[:, self.cols :]

    def cell_voltages(self, v_bl: Array, v_sl: Array) -> Array:
        """Voltage across every cell, bit line minus source line.

        Args:
            v_bl: sources of the bit lines, (n, cols), volt.
            v_sl: sources of the source lines, (n, rows), volt; ignored for open ones.

        Returns:
            (n, rows, cols), volt. A floating source line on which every conductance is 0 has no
            potential of its own and is counted as 0 V.

        Raises:
            InputError: a shape is wrong.
            RramError: nothing was factored yet.
        """
        self._ready()
        bl, sl = np.asarray(v_bl, dtype=np.float64), np.asarray(v_sl, dtype=np.float64)
        if bl.ndim != 2 or bl.shape[1] != self.cols or sl.shape != (len(bl), self.rows):
            raise InputError(
                f"bit lines {bl.shape}, source lines {sl.shape}: "
                f"must be (n, {self.cols}) and (n, {self.rows})"
            )
        sl = np.where(self._open, 0.0, sl)
        out = np.empty((len(bl), self.rows, self.cols))
        for k in range(len(bl)):
            out[k] = self._solve(np.ascontiguousarray(bl[k]), sl[k])[0]
        # what the changed conductances carry besides flows as a current forced through the cell
        rows, cols = np.array(self._pending, dtype=np.int64).reshape(-1, 2).T
        forced = out[:, rows, cols] @ self._correction.T
        return out + np.tensordot(forced, self._across, 1)
