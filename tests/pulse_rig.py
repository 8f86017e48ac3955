"""A host that pulses single cells of an emulated board over a bad line, and keeps the books."""

from functools import lru_cache

import numpy as np

from firmware_bridge import registers
from firmware_bridge.chips import dac80508
from firmware_bridge.limits import codes_for
from firmware_bridge.lines import LineProgram
from firmware_bridge.microcode import CLOCK_HZ, Op
from rram_host.board.core import BoardCore
from rram_host.board.sequencer import Compiled
from rram_host.errors import LinkError

WIDTH_S = 1e-6
BL_V, WL_V = 1.2, 2.0
CTRL = registers.offset("CTRL")


@lru_cache(maxsize=2048)
def pulses(spec, row, col, n):
    """A program of n SET pulses on one cell; no other cell sees one."""
    program = LineProgram(spec)
    bl, wl = np.zeros(spec.cols), np.zeros(spec.rows)
    bl[col], wl[row] = BL_V, WL_V
    program.switch_sl(spec.sl_ground, np.array([row]))
    program.bl_range(dac80508.GAIN_0_TO_5_V)
    program.bl.immediate(program, codes_for(bl, spec.bl_limit_v, 5.0, "BL"))
    program.wl.immediate(program, codes_for(wl, spec.wl_limit_v, 5.0, "WL"))
    with program.loop(n):
        program.latch()
        program.settle()
        program.add(Op.PULSE, value=round(WIDTH_S * CLOCK_HZ))
    program.idle()
    return Compiled.of(program)


class TimedTransport:
    """A transport that must answer or fail within its time, by the clock of the line.

    Attributes:
        start: "not sent", "sent" or "done": what is known of the last START.
    """

    def __init__(self, transport, clock):
        self._link, self._clock = transport, clock
        self.start = "not sent"

    def read(self, address, count):
        return self._in_time(count, lambda: self._link.read(address, count))

    def write(self, address, words):
        starts = address == CTRL and int(words[0]) & registers.CTRL_START
        self.start = "sent" if starts else self.start
        self._in_time(len(words), lambda: self._link.write(address, words))
        self.start = "done" if starts else self.start

    def close(self):
        self._link.close()

    def _in_time(self, count, action):
        settings, begun_s = self._link._settings, self._clock()
        frames = -(-count // settings.frame_words)
        try:
            return action()
        finally:
            took_s = self._clock() - begun_s
            limit_s = settings.connect_s + frames * settings.timeout_s + 0.1
            assert took_s <= limit_s, f"{took_s} s for {frames} frames; the limit is {limit_s} s"


class PulseHost:
    """Asks for pulses over a link that may fail, and keeps the books.

    Args:
        transport: the link.
        clock: of the line, seconds.
        spec: how the board is wired.

    Attributes:
        done: pulses of runs that were surely started, by cell.
        unknown: pulses of runs whose START was given up, by cell: given once or never.
        errors: LinkErrors.
    """

    def __init__(self, transport, clock, spec):
        self.transport, self.spec = TimedTransport(transport, clock), spec
        self.done = np.zeros((spec.rows, spec.cols), dtype=np.int64)
        self.unknown = np.zeros_like(self.done)
        self.errors = 0
        self._core = None

    def open(self):
        """Check the board and set its limits, as every host does; raises LinkError."""
        if self._core is None:
            self._core = BoardCore(self.transport, self.spec, check=False)
        return self._core

    def ask(self, row, col, n):
        """Run a program of n pulses; the LinkError that ended it, or None."""
        failed = None
        try:
            core = self.open()
            self.transport.start = "not sent"
            core.driver.run(pulses(self.spec, row, col, n))
        except LinkError as error:
            failed = error
            self.errors += 1
            if self._core is None:
                return failed
        if self.transport.start == "done":
            self.done[row, col] += n
        elif self.transport.start == "sent":
            self.unknown[row, col] += n
        return failed

    def check(self, truth):
        """Every pulse that was asked for was given once, and no other.

        Args:
            truth: pulses that the cells have seen, (rows, cols).
        """
        assert (self.done <= truth).all(), "pulses are missing"
        assert (truth <= self.done + self.unknown).all(), "pulses that nobody asked for"

    def settle(self, truth):
        """What was unknown is known: no request of before can be executed any more."""
        self.check(truth)
        self.done, self.unknown = truth.copy(), np.zeros_like(truth)
