"""Several matrices on arrays: rectangles that do not overlap, cut where they do not fit.

A matrix that no free rectangle holds is cut into blocks; its product is then the sum (over cuts
of the inputs) and the stack (over cuts of the outputs) of the blocks' products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError


@dataclass(frozen=True)
class Rectangle:
    """Rows `row` .. `row + rows`, columns `col` .. `col + cols`."""

    row: int
    col: int
    rows: int
    cols: int

    @property
    def area(self) -> int:
        """Cells inside."""
        return self.rows * self.cols

    @property
    def place(self) -> tuple[slice, slice]:
        """The rectangle as an index of an array."""
        return slice(self.row, self.row + self.rows), slice(self.col, self.col + self.cols)


@dataclass(frozen=True)
class Block:
    """A part of a matrix (`source`, in its own cells) and where it sits on the array (`cells`)."""

    name: str
    source: Rectangle
    cells: Rectangle


@dataclass(frozen=True)
class Placement:
    """Where every block of every matrix sits on an array of `shape`."""

    shape: tuple[int, int]
    blocks: tuple[Block, ...]

    def of(self, name: str) -> tuple[Block, ...]:
        """Blocks of one matrix; none where the array holds nothing of it."""
        return tuple(block for block in self.blocks if block.name == name)

    def spread(self, matrices: Mapping[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """Matrices (in cells) laid out on the array, NaN where there is none."""
        out = np.full(self.shape, np.nan)
        for block in self.blocks:
            out[block.cells.place] = matrices[block.name][block.source.place]
        return out

    def gather(
        self,
        array: npt.NDArray[np.float64],
        into: Mapping[str, npt.NDArray[np.float64]],
    ) -> None:
        """Pick the matrices' cells up from the array, where they sit on it; undoes `spread`."""
        for block in self.blocks:
            into[block.name][block.source.place] = array[block.cells.place]


def place(sizes: Mapping[str, tuple[int, int]], shape: tuple[int, int]) -> Placement:
    """Place matrices on one array, all at once; see `place_on_arrays`.

    Raises:
        InputError: they have more cells together than the array, or one has none.
    """
    asked = sum(rows * cols for rows, cols in sizes.values())
    if asked > shape[0] * shape[1]:
        raise InputError(
            f"{asked} cells asked for, the array has {shape[0] * shape[1]} "
            f"({shape[0]} x {shape[1]})"
        )
    return place_on_arrays(sizes, shape)[0]


def place_on_arrays(
    sizes: Mapping[str, tuple[int, int]], shape: tuple[int, int]
) -> tuple[Placement, ...]:
    """Place matrices on as few arrays as have cells enough for them.

    Matrices are cut into tiles of the array's shape; largest first, each tile goes into the free
    rectangle that it fills best. One that fits nowhere is cut further: the largest part that a
    free rectangle takes, then the rest in turn. So no cell is wasted while one is asked for.

    Args:
        sizes: rows and columns of every matrix, in cells.
        shape: rows and columns of an array.

    Returns:
        One placement for each array.

    Raises:
        InputError: no matrix, or one without cells.
    """
    if not sizes or any(rows < 1 or cols < 1 for rows, cols in sizes.values()):
        raise InputError(f"matrices need at least one row and one column: {dict(sizes)}")
    arrays = -(-sum(rows * cols for rows, cols in sizes.values()) // (shape[0] * shape[1]))
    free = [(array, Rectangle(0, 0, *shape)) for array in range(arrays)]
    blocks: list[list[Block]] = [[] for _ in range(arrays)]
    todo = [(name, tile) for name, size in sizes.items() for tile in _tiles(size, shape)]
    todo.sort(key=lambda item: -item[1].area)
    while todo:
        name, source = todo.pop(0)
        hole = max(free, key=lambda found: (_overlap(found[1], source), -found[1].area))
        array, target = hole
        rows, cols = min(target.rows, source.rows), min(target.cols, source.cols)
        cells = Rectangle(target.row, target.col, rows, cols)
        part = Rectangle(source.row, source.col, rows, cols)
        blocks[array].append(Block(name, part, cells))
        free.remove(hole)
        free += [(array, piece) for piece in _rest(target, rows, cols)]
        todo[:0] = [(name, piece) for piece in _rest(source, rows, cols)]
    return tuple(Placement(shape, tuple(found)) for found in blocks)


def _tiles(size: tuple[int, int], shape: tuple[int, int]) -> list[Rectangle]:
    """A matrix cut along the grid of an array's shape; tiles at its far edges are smaller."""
    return [
        Rectangle(row, col, min(shape[0], size[0] - row), min(shape[1], size[1] - col))
        for row in range(0, size[0], shape[0])
        for col in range(0, size[1], shape[1])
    ]


def _overlap(hole: Rectangle, source: Rectangle) -> int:
    return min(hole.rows, source.rows) * min(hole.cols, source.cols)


def _rest(whole: Rectangle, rows: int, cols: int) -> list[Rectangle]:
    """What is left of a rectangle when its corner of `rows` x `cols` is taken: right, below."""
    right = Rectangle(whole.row, whole.col + cols, rows, whole.cols - cols)
    below = Rectangle(whole.row + rows, whole.col, whole.rows - rows, whole.cols)
    return [piece for piece in (right, below) if piece.area]
