"""How board time follows wall time while a program runs."""

from __future__ import annotations

import math
from collections.abc import Callable

from firmware_bridge.errors import InputError
from firmware_bridge.microcode import CLOCK_HZ
from sim.sequencer import FOREVER


class Pace:
    """Board seconds per wall second, from where the two clocks last met.

    Without a pace a program takes no wall time at all.

    Args:
        wall: the clock on the wall, in seconds.
        pace: board seconds per wall second; None for no wall time.

    Raises:
        InputError: the pace is not finite, or not above 0.
    """

    def __init__(self, wall: Callable[[], float], pace: float | None) -> None:
        if pace is not None and not (math.isfinite(pace) and pace > 0):
            raise InputError(f"pace {pace} (board seconds per wall second) must be above 0")
        self.wall, self._pace = wall, pace
        self._met_s, self._met_cycles = wall(), 0

    @property
    def kept(self) -> bool:
        """Whether programs take wall time."""
        return self._pace is not None

    def meet(self, wall_s: float, cycles: int) -> None:
        """From now on count from here: board clock `cycles` is wall time `wall_s`."""
        self._met_s, self._met_cycles = wall_s, cycles

    def cycles_at(self, wall_s: float) -> int:
        """Board clock at a wall time."""
        if self._pace is None or math.isinf(wall_s):
            return FOREVER
        return self._met_cycles + math.floor((wall_s - self._met_s) * self._pace * CLOCK_HZ)

    def wall_at(self, cycles: int) -> float:
        """Wall time at a board clock, in seconds."""
        if self._pace is None:
            return self._met_s
        return self._met_s + (cycles - self._met_cycles) / (self._pace * CLOCK_HZ)
