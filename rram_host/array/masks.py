"""Which cells: masks of shape (rows, cols), true where a cell is meant."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError

Mask = npt.NDArray[np.bool_]


def checked(cells: npt.ArrayLike | None, shape: tuple[int, int]) -> Mask:
    """A mask of the array's shape, a copy; None means all cells.

    Raises:
        InputError: another shape.
    """
    mask: Mask = np.ones(shape, dtype=bool) if cells is None else np.array(cells, dtype=bool)
    if mask.shape != shape:
        raise InputError(f"cell mask has shape {mask.shape}, the array has {shape}")
    return mask


def checkerboard(shape: tuple[int, int], parity: int = 0) -> Mask:
    """Every second cell: those with (row + col) % 2 == parity.

    Raises:
        InputError: parity is neither 0 nor 1.
    """
    if parity not in (0, 1):
        raise InputError(f"parity {parity} of a checkerboard is neither 0 nor 1")
    row, col = np.indices(shape)
    mask: Mask = (row + col) % 2 == parity
    return mask


def block(shape: tuple[int, int], row: int, col: int, rows: int = 1, cols: int = 1) -> Mask:
    """A rectangle of cells whose first is (row, col); one cell by default.

    Raises:
        InputError: it is empty, or reaches beyond the array.
    """
    inside = row >= 0 and col >= 0 and row + rows <= shape[0] and col + cols <= shape[1]
    if not inside or rows < 1 or cols < 1:
        raise InputError(
            f"{rows} x {cols} cells from ({row}, {col}) on do not fit an array of {shape}"
        )
    mask = np.zeros(shape, dtype=bool)
    mask[row : row + rows, col : col + cols] = True
    return mask


def of_cells(shape: tuple[int, int], cells: Iterable[tuple[int, int]]) -> Mask:
    """Some cells, each (row, col).

    Raises:
        InputError: one is outside the array.
    """
    mask = np.zeros(shape, dtype=bool)
    for row, col in cells:
        mask |= block(shape, row, col)
    return mask
