"""Simulated board time: an integer count of cycles that only the board advances."""

from __future__ import annotations

from firmware_bridge.microcode import CLOCK_HZ


class Clock:
    """Board clock since power-up."""

    def __init__(self, cycles: int = 0) -> None:
        self.cycles = cycles

    def advance(self, cycles: int) -> None:
        """Let `cycles` pass."""
        self.cycles += cycles

    @property
    def now_s(self) -> float:
        """Board time in seconds."""
        return self.cycles / CLOCK_HZ
