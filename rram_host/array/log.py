"""Who is told of what is done to the cells, and may hold some of them back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rram_host.array.reports import FormReport, ProgramReport

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


class ArrayLog(Protocol):
    """What a `Crossbar` tells of; masks and arrays are (rows, cols), or broadcast to it."""

    def allowed(self, targets_siemens: Array) -> Array:
        """Targets to program: NaN in place of those of cells that are to be left out.

        Raises:
            InputError: a target is outside what this chip is to hold.
        """
        ...

    def dead(self) -> Mask:
        """Cells that are to be left out of whatever goes to all cells."""
        ...

    def formable(self) -> Mask:
        """Cells that may get forming pulses."""
        ...

    def worn(self) -> Mask:
        """Cells that have had all the SET and RESET pulses that they may get."""
        ...

    def pulsing(
        self, cells: Mask | Counts, forming: bool = False, many: bool = False
    ) -> AbstractContextManager[object]:
        """A pulse on each of `cells`, or as many as it counts, is given inside this context.

        Args:
            cells: which, or how many pulses each.
            forming: they are forming pulses.
            many: they are too many to be lost if the process is killed meanwhile.

        Raises:
            InputError: a cell may not get any more.
        """
        ...

    def pulsed(self, measured_siemens: Array) -> None:
        """SET or RESET pulses that were asked for one by one have been given; all cells, read."""
        ...

    def formed(self, report: FormReport) -> None:
        """Forming has ended."""
        ...

    def programmed(self, report: ProgramReport) -> None:
        """Write-verify has ended."""
        ...

    def read(self, measured_siemens: Array) -> None:
        """Cells have been read; NaN where not."""
        ...

    def given_up(self, reasons: Mapping[tuple[int, int], str]) -> None:
        """Cells (row, col) that are not to be programmed from now on, and why."""
        ...


class NoLog:
    """Tells nobody and holds nothing back."""

    def allowed(self, targets_siemens: Array) -> Array:
        """All of them."""
        return targets_siemens

    def dead(self) -> Mask:
        """None."""
        return np.zeros((1, 1), dtype=bool)

    def formable(self) -> Mask:
        """All."""
        return np.ones((1, 1), dtype=bool)

    def worn(self) -> Mask:
        """None."""
        return np.zeros((1, 1), dtype=bool)

    def pulsing(
        self, cells: Mask | Counts, forming: bool = False, many: bool = False
    ) -> AbstractContextManager[object]:
        """Nothing."""
        return nullcontext()

    def pulsed(self, measured_siemens: Array) -> None:
        """Nothing."""

    def formed(self, report: FormReport) -> None:
        """Nothing."""

    def programmed(self, report: ProgramReport) -> None:
        """Nothing."""

    def read(self, measured_siemens: Array) -> None:
        """Nothing."""

    def given_up(self, reasons: Mapping[tuple[int, int], str]) -> None:
        """Nothing."""
