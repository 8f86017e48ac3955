"""Several matrices on one array: rectangles that do not overlap, cut where they do not fit.

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
        """Blocks of one matrix.

        Raises:
            InputError: no such matrix.
        """
        found = tuple(block for block in self.blocks if block.name == name)
        if not found:
            known = sorted({block.name for block in self.blocks})
            raise InputError(f"no matrix {name!r} is placed; known: {', '.join(known)}")
        return found

    def spread(self, matrices: Mapping[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """Matrices (in cells) laid out on the array, NaN where there is none."""
        out = np.full(self.shape, np.nan)
        for block in self.blocks:
            out[block.cells.place] = matrices[block.name][block.source.place]
        return out

    def gather(self, array: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        """Matrices (in cells) picked up from the array; the inverse of `spread`."""
        sizes: dict[str, tuple[int, int]] = {}
        for block in self.blocks:
            rows, cols = sizes.get(block.name, (0, 0))
            s = block.source
            sizes[block.name] = max(rows, s.row + s.rows), max(cols, s.col + s.cols)
        out = {name: np.full(size, np.nan) for name, size in sizes.items()}
        for block in self.blocks:
            out[block.name][block.source.place] = array[block.cells.place]
        return out


def place(sizes: Mapping[str, tuple[int, int]], shape: tuple[int, int]) -> Placement:
    """Place matrices on one array, all at once.

    Largest first; each goes into the free rectangle that it fills best. One that fits nowhere is
    cut: the largest part that a free rectangle takes, then the rest in turn.

    Args:
        sizes: rows and columns of every matrix, in cells.
        shape: rows and columns of the array.

    Raises:
        InputError: they have more cells together than the array, or one has none.
    """
    asked = sum(rows * cols for rows, cols in sizes.values())
    if asked > shape[0] * shape[1]:
        raise InputError(
            f"{asked} cells asked for, the array has {shape[0] * shape[1]} "
            f"({shape[0]} x {shape[1]})"
        )
    if any(rows < 1 or cols < 1 for rows, cols in sizes.values()):
        raise InputError(f"matrices need at least one row and one column: {dict(sizes)}")
    free = [Rectangle(0, 0, *shape)]
    blocks: list[Block] = []
    todo = [(name, Rectangle(0, 0, *size)) for name, size in sizes.items()]
    todo.sort(key=lambda item: -item[1].area)
    while todo:
        name, source = todo.pop(0)
        target = max(free, key=lambda hole: (_overlap(hole, source), -hole.area))
        rows, cols = min(target.rows, source.rows), min(target.cols, source.cols)
        cells = Rectangle(target.row, target.col, rows, cols)
        part = Rectangle(source.row, source.col, rows, cols)
        blocks.append(Block(name, part, cells))
        free.remove(target)
        free += _rest(target, rows, cols)
        todo[:0] = [(name, piece) for piece in _rest(source, rows, cols)]
    return Placement(shape, tuple(blocks))


def _overlap(hole: Rectangle, source: Rectangle) -> int:
    return min(hole.rows, source.rows) * min(hole.cols, source.cols)


def _rest(whole: Rectangle, rows: int, cols: int) -> list[Rectangle]:
    """What is left of a rectangle when its corner of `rows` x `cols` is taken: right, below."""
    right = Rectangle(whole.row, whole.col + cols, rows, whole.cols - cols)
    below = Rectangle(whole.row + rows, whole.col, whole.rows - rows, whole.cols)
    return [piece for piece in (right, below) if piece.area]
