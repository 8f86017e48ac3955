"""An emulated board whose programs take as long as the test says."""

import threading
import time

import numpy as np

from firmware_bridge import registers

_CTRL, _KICK = registers.offset("CTRL"), registers.offset("KICK")
_STATUS = registers.offset("STATUS")


class HeldBoard:
    """Shows BUSY from START on until `release`, while `hold` is in force.

    Args:
        board: does all the rest, programs too.

    Attributes:
        kicks: writes to KICK.
    """

    def __init__(self, board):
        self.board, self.spec, self.kicks = board, board.spec, 0
        self._held, self._busy = False, threading.Event()

    def hold(self):
        self._held = True

    def release(self):
        self._held = False
        self._busy.clear()

    def until(self, holds, patience_s=30.0):
        """Wait until something holds."""
        end_s = time.monotonic() + patience_s
        while not holds():
            assert time.monotonic() < end_s, "it did not come to pass"
            time.sleep(1e-3)

    def read(self, address, count):
        words = self.board.read(address, count)
        if address <= _STATUS < address + 4 * count and self._busy.is_set():
            words[(_STATUS - address) // 4] = registers.STATUS_BUSY
        return words

    def write(self, address, words):
        words = np.asarray(words, dtype=np.uint32)
        if address == _KICK:
            self.kicks += 1
        if address == _CTRL and int(words[0]) & registers.CTRL_START and self._held:
            self._busy.set()
        if address == _CTRL and int(words[0]) & registers.CTRL_SAFE:
            self._busy.clear()
        self.board.write(address, words)
