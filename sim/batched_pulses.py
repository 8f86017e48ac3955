"""Trains of pulses as arrays: loops that write lines, latch, wait and pulse.

Line voltages, rules of timing and limits of all pulses follow from the table alone, so they are
found and checked for the whole loop before anything happens. Then the cells take one pulse after
another, by the same law and with the same draws of noise as in `sim.sequencer`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge import microcode
from firmware_bridge.chips import dac80508
from firmware_bridge.microcode import Op
from sim.loop_batch import LoopBatch
from sim.run import UPDATE_CYCLES, Run, is_latch, stressed_s

Codes = npt.NDArray[np.uint16]

_CHUNK = 1024  # pulses laid out at a time


class PulseBatch(LoopBatch):
    """A loop of pulses: writes to lines, then the latch, then one PULSE; WAIT and MARK anywhere."""

    def prepare(self) -> None:
        """Where every code comes from, and where it goes."""
        self.lines: list[int] = []  # of every code written, in the order of writing
        self.offsets: list[int] = []  # in the table, -1 for a code of the program
        self.fixed: list[int] = []  # codes of the program
        acting = [item for item in self.body if item.op not in (Op.WAIT, Op.MARK)]
        kinds = [2 if item.op is Op.PULSE else int(is_latch(item)) for item in acting]
        self.writes = acting[:-2]
        every_chip = (1 << len(self.bench.dacs)) - 1
        self.usual = (
            kinds == [0] * (len(acting) - 2) + [1, 2]
            and all(item.addr >= dac80508.DAC0 for item in self.writes)
            and acting[-2].mask & every_chip == every_chip
        )
        if self.usual:
            self.latch, self.pulse = acting[-2:]
            self._place()

    def plan(self, run: Run) -> bool:
        """Check every iteration; False, with nothing changed, where the reference has to run it."""
        self.run = run
        bench, seq = self.bench, self.seq
        if (
            not self.usual
            or bench.enable
            or not (bench.latched and bench.oe)
            or any(dac.sync & 0xFF != dac80508.SYNC_ALL or dac.config for dac in bench.dacs)
            or seq.in_reset()
            or self.pulse.value > run.pulse_limit
            or self.count > run.pulses_left()
            or not self._timing_holds()
        ):
            return False
        return self._table_holds() and self._within_limits()

    def _timing_holds(self) -> bool:
        """Rules of time, in the first iteration and in the second, which all others are like."""
        seq = self.seq
        last, now = seq.last_update, seq.clock.cycles + self.head_cycles
        for _ in range(min(self.count, 2)):
            for item in self.body:
                if item.op is Op.PULSE and not seq.may_pulse(now, last, item.value):
                    return False
                now += item.cycles
                if is_latch(item):
                    if now - last < UPDATE_CYCLES:
                        return False
                    last = now
                elif item.op is Op.PULSE:
                    self.pulse_s = stressed_s(now - last)
            now += microcode.CYCLES_STEP
        return True

    def _place(self) -> None:
        """Where every code comes from, and where it goes."""
        for item in self.writes:
            channel = item.addr - dac80508.DAC0
            for k, chip in enumerate(self.seq._chips(item.mask)):
                from_table = item.op is Op.DACT
                self.lines.append(chip * dac80508.N_CHANNELS + channel)
                self.offsets.append(item.value + k if from_table else -1)
                self.fixed.append(0 if from_table else item.value)
        # codes that differ between pulses come from the table, or there are none
        self.rows = self.count if self.stride and max(self.offsets, default=-1) >= 0 else 1

    def _table_holds(self) -> bool:
        last = self.run.pointer + (self.rows - 1) * self.stride
        furthest = max(self.offsets, default=-1)
        return furthest < 0 or last + furthest < self.run.table.size

    def _written(self, first: int, end: int) -> Codes:
        """Codes written in iterations first..end - 1, (iterations, codes)."""
        starts = self.run.pointer + self.stride * np.arange(first, end)
        offsets = np.array(self.offsets, dtype=np.int64)
        constant = offsets < 0
        codes = np.empty((end - first, offsets.size), dtype=np.uint16)
        codes[:, ~constant] = self.run.table[starts[:, None] + offsets[~constant]]
        codes[:, constant] = np.array(self.fixed, dtype=np.uint16)[constant]
        return codes

    def _within_limits(self) -> bool:
        """Every code that is written, or waits to be latched, keeps its line within its limit."""
        full = self.bench.full_scales_v()
        limit = self.run.limits[: full.size] * 5.0
        if not (self._buffer() * full <= limit).all():
            return False
        return all(
            bool((codes.max(0, initial=0) * full[self.lines] <= limit[self.lines]).all())
            for codes in map(self._written, *self._chunks())
        )

    def _chunks(self) -> tuple[list[int], list[int]]:
        firsts = list(range(0, self.rows, _CHUNK))
        return firsts, [min(first + _CHUNK, self.rows) for first in firsts]

    def _buffer(self) -> npt.NDArray[np.int64]:
        return np.array([code for dac in self.bench.dacs for code in dac.buffer])

    def _ends(self) -> npt.NDArray[np.int64]:
        """Board clock at the end of every pulse."""
        place = self.body.index(self.pulse)
        now = self.seq.clock.cycles + self.head_cycles
        now += sum(item.cycles for item in self.body[: place + 1])
        return now + self.cycles * np.arange(self.count)

    def commit(self) -> None:
        """Give all pulses, and leave the state of the last one."""
        bench, seq, run = self.bench, self.seq, self.run
        ends = self._ends()
        codes = self._buffer()[None]
        for first, end in zip(*self._chunks(), strict=True):
            written = self._written(first, end)
            codes = np.repeat(codes[-1:], end - first, axis=0)
            for column, line in enumerate(self.lines):
                codes[:, line] = written[:, column]
            bl_v, wl_v = bench.bl_volts(codes), bench.wl_volts(codes)
            if self.rows == 1:
                bl_v, wl_v = (np.broadcast_to(v, (self.count, v.shape[1])) for v in (bl_v, wl_v))
            given = ends[first : first + len(bl_v)]
            bench.stress_with(bl_v, wl_v, self.pulse_s, given)
        for chip, dac in enumerate(bench.dacs):
            mine = codes[-1, chip * dac80508.N_CHANNELS :][: dac80508.N_CHANNELS].tolist()
            dac.buffer[:], dac.active[:] = mine, mine
        run.pulses += self.count
        run.pointer += self.count * self.stride
        run.mark = run.mark if self.mark is None else self.mark
        seq.clock.advance(self.head_cycles + self.count * self.cycles)
        after_latch = self.body[self.body.index(self.latch) + 1 :]
        passed = sum(item.cycles for item in after_latch) + microcode.CYCLES_STEP
        seq.last_update = seq.clock.cycles - passed
