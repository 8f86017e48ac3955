"""One array for a model that takes several: programmed anew whenever it lacks what is asked for.

A stand-in for boards that are not there. Every programming has errors of its own, so the model's
matrices differ a little from product to product; one read per product keeps log q exact all the
same. It costs board time and pulses, which are counted: large batches make it bearable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rram_host.analog.deploy import Deployment, program_layout
from rram_host.array.policies import Policy
from rram_host.mapping.engine import ArrayEngine, ArraysEngine, Layout, Products
from rram_host.session import Board

Progress = Callable[[int, int], None]


class ReprogrammedArray:
    """A board that stands for as many arrays as a model takes, one at a time.

    Args:
        board: the board.
        layouts: what each array would hold.
        average: reads averaged for the read-back after every programming.
        policy: write-verify policy; default that of `Crossbar.program`.

    Attributes:
        held: which of the layouts is on the array; None before the first.
        programmings: how often the array was programmed.
        pulses: pulses that this took, of all cells.
        board_time_s: board time that this took, read-backs included.
    """

    def __init__(
        self,
        board: Board,
        layouts: Sequence[Layout],
        average: int = 16,
        policy: Policy | None = None,
    ) -> None:
        self.board, self.layouts = board, tuple(layouts)
        self._average, self._policy = average, policy
        self.held: int | None = None
        self.programmings = 0
        self.pulses = 0
        self.board_time_s = 0.0

    def program(self, index: int, progress: Progress | None = None) -> Deployment:
        """Program a layout now, and read it back."""
        begin, self.held = self.board.board_time_s, None
        found = program_layout(
            self.board, self.layouts[index], self._policy, self._average, progress
        )
        self.held = index
        self.programmings += 1
        self.pulses += int(found.report.pulses.sum())
        self.board_time_s += self.board.board_time_s - begin
        return found

    def program_all(self, progress: Progress | None = None) -> tuple[Deployment, ...]:
        """Program every layout once, in turn: what each of them came to hold."""
        found = []
        for index in range(len(self.layouts)):
            found.append(self.program(index))
            if progress:
                progress(index + 1, len(self.layouts))
        return tuple(found)

    def products(
        self, index: int, voltages: npt.NDArray[np.float64], rows: Any, tia_range: int | None
    ) -> Products:
        """Products with a layout, which is programmed first where it is not on the array."""
        if self.held != index:
            self.program(index)
        return self.board.array.products(voltages, rows=rows, tia_range=tia_range)

    def engine(self) -> ArraysEngine:
        """What multiplies with all layouts."""
        read_v = self.board.spec.read_voltage_v
        engines = [
            ArrayEngine(_Turn(self, index), layout, read_v)
            for index, layout in enumerate(self.layouts)
        ]
        return ArraysEngine(engines, read_v)

    def values(self) -> dict[str, Any]:
        """What a result says of it: that it was done, how often, and what it cost."""
        return {
            "tile_sets": len(self.layouts),
            "programmings": self.programmings,
            "pulses": self.pulses,
            "board_time_s": self.board_time_s,
        }


class _Turn:
    """One layout's turn on the array, as a multiplier."""

    def __init__(self, array: ReprogrammedArray, index: int) -> None:
        self._array, self._index = array, index

    @property
    def at_hand(self) -> bool:
        """Whether it is its turn already."""
        return self._array.held == self._index

    def products(
        self, voltages: npt.NDArray[np.float64], rows: npt.ArrayLike | None, tia_range: int | None
    ) -> Products:
        """As of `Multiplier`."""
        return self._array.products(self._index, voltages, rows, tia_range)
