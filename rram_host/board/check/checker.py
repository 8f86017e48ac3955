"""Checker: what the driver asks before every upload, and what it need not ask again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import dac80508
from firmware_bridge.microcode import Op
from rram_host.board.check.limits import Limits, board_of, idle_state, power_up_state
from rram_host.board.check.program_check import as_codes, as_words, walked

Codes = npt.NDArray[np.uint16]
Words = npt.NDArray[np.uint32]

_KEPT = 256
_READ_TOP_V = 1.25


@dataclass(frozen=True)
class _Passed:
    """A program passes with every table of at least `size` codes, all of low..high."""

    size: int
    low: int
    high: int

    def holds(self, table: Codes) -> bool:
        """Whether that is such a table."""
        if table.size < self.size:
            return False
        if not table.size or (self.low, self.high) == (0, 0xFFFF):
            return True
        return bool(table.min() >= self.low and table.max() <= self.high)


class Checker:
    """Checks programs of one open board.

    A program without pulses is walked once with every input code being any of a range: it then
    passes with every table within, and of later tables only the lowest and the highest code are
    looked at. A program with pulses is walked whenever it runs, code by code.

    Args:
        spec: the board.
        limits: default those of the board file.
    """

    def __init__(self, spec: BoardSpec, limits: Limits | None = None) -> None:
        self._board = board_of(spec, limits or Limits.of(spec))
        self._passed: dict[bytes, _Passed] = {}
        self._idle = idle_state(spec, self._board)
        # a board that nobody knows begins with a reset
        self._begins = power_up_state(spec, self._board)
        code = dac80508.FULL_SCALE / _READ_TOP_V
        reach_v = spec.read_voltage_v
        self._window = tuple(
            round(at_v * code) for at_v in (spec.tia_bias_v - reach_v, spec.tia_bias_v + reach_v)
        )

    def check(self, words: Words, table: Codes | None) -> None:
        """Refuse a program that breaks a rule.

        Raises:
            InputError: names the first violation, and how many more there are.
        """
        codes = as_codes(None) if table is None else np.ascontiguousarray(table).ravel()
        key = words.tobytes()
        known = self._passed.get(key)
        if known is None or not known.holds(codes):
            self._walk(key, as_words(words), codes, known)
        self._begins = self._idle

    def _walk(self, key: bytes, words: Words, codes: Codes, known: _Passed | None) -> None:
        pulses = bool((words >> 28 == Op.PULSE).any())
        if codes.size and not pulses:
            low, high = int(codes.min()), int(codes.max())
            if self._window[0] <= low and high <= self._window[1]:
                low, high = self._window
            if known is not None:
                low, high = min(low, known.low), max(high, known.high)
            if self._passes(words, codes, (low, high)):
                self._keep(key, _Passed(codes.size, low, high))
                return
        found = walked(self._board, self._begins.copy(), words, as_codes(codes))
        found.raise_violations()
        if not (words >> 28 == Op.DACT).any():
            self._keep(key, _Passed(0, 0, 0xFFFF))

    def _passes(self, words: Words, codes: Codes, bounds: tuple[int, int]) -> bool:
        return walked(self._board, self._begins.copy(), words, codes, bounds).passed

    def _keep(self, key: bytes, passed: _Passed) -> None:
        if len(self._passed) >= _KEPT:
            self._passed.clear()
        if self._begins is self._idle:
            self._passed[key] = passed
