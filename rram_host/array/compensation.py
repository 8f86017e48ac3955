"""Series resistance of source lines: from what is measured to what the cells hold, and back.

A row's current flows through its switch, R_on, before it reaches the virtual ground, so every
cell of the row appears smaller by one common factor (Kirchhoff at the source line):

    G_eff[r, c] = g[r, c] / (1 + R_on S_r),     S_r = sum_c g[r, c].

Summing over c and solving for S gives the inverse, g = G_eff / (1 - R_on S_eff).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# How far a source line may hang below its rail in a RESET. Inhibited neighbours see this voltage
# the wrong way round, and a selected bit line has to reach below it.
MAX_SAG_V = 0.15


def row_factor(row_sum_eff_siemens: Array, r_on_ohm: float) -> Array:
    """Factor by which a row's true conductances exceed the measured ones, (rows,).

    Args:
        row_sum_eff_siemens: sum of measured conductances of each row, (rows,).
        r_on_ohm: series resistance of a source line.
    """
    return 1.0 / (1.0 - r_on_ohm * np.maximum(row_sum_eff_siemens, 0.0))


def reset_bl_volts(
    reset_v: Array, selected: npt.NDArray[np.bool_], g: Array, rail_v: float, r_on_ohm: float
) -> Array:
    """Bit-line voltages that put a RESET voltage across cells of one row, (n, cols).

    The row's source line hangs below the rail by the current of all cells of the row:
    V_SL = V_rail - sum_sel(g V) / (1 / R_on + sum_unsel g), with unselected bit lines inhibited at
    the rail; a selected bit line is then V_SL - V.

    Args:
        reset_v: wanted SL minus BL voltages, (n, cols), one row of the array per line.
        selected: which cells to RESET, (n, cols).
        g: conductances of that row, (n, cols), in siemens.
        rail_v: programming rail.
        r_on_ohm: series resistance of the source line.
    """
    driven = np.where(selected, g * reset_v, 0.0).sum(1)
    held = np.where(selected, 0.0, g).sum(1)
    sl = rail_v - r_on_ohm * driven / (1.0 + r_on_ohm * held)
    return np.where(selected, sl[:, None] - reset_v, rail_v)


def reset_groups(columns: npt.NDArray[np.int64], sag_v: Array, parallel: int) -> list[list[int]]:
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
