"""The batched interpreter: loops that only move bit lines and convert, evaluated as arrays.

`BatchedSequencer` does what `sim.sequencer.Sequencer`, the reference, does: where it cannot prove
that a whole loop comes out the same, it leaves the loop to the reference.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge import microcode
from firmware_bridge.chips import ads8324, dac80508
from firmware_bridge.microcode import Instruction, Op
from sim.sequencer import SETTLE_CYCLES, UPDATE_CYCLES, Run, Sequencer

Codes = npt.NDArray[np.int64]
Volts = npt.NDArray[np.float64]


class BatchedSequencer(Sequencer):
    """The same, with loops that only move bit lines and convert evaluated as arrays."""

    def _loop(
        self, program: list[Instruction | None], index: int, stack: list[list[int]], run: Run
    ) -> int:
        item = program[index]
        body: list[Instruction] = []
        place = index + 1
        # A loop of waiting and converting is a batch; anything else is left to the reference.
        while place < len(program):
            inner = program[place]
            if inner is None or not self._batchable(inner):
                return super()._loop(program, index, stack, run)
            if inner.op is Op.NEXT:
                break
            body.append(inner)
            place += 1
        if item is None or len(stack) >= microcode.MAX_LOOP_DEPTH:
            return super()._loop(program, index, stack, run)
        if not stack:
            self.bench.cells.age(self.clock.now_s)
        closing = program[place]
        if closing is None or not self._run_batch(body, item, closing, run):
            return super()._loop(program, index, stack, run)
        return place + 1

    def _batchable(self, item: Instruction) -> bool:
        if item.op in (Op.WAIT, Op.CONV, Op.NEXT, Op.MARK):
            return True
        if item.op is Op.DACT:
            return item.addr >= dac80508.DAC0
        if item.op is Op.DAC:
            latch = item.addr == dac80508.TRIGGER and item.value == dac80508.TRIGGER_LDAC
            return latch or item.addr >= dac80508.DAC0
        return False

    def _run_batch(
        self, body: list[Instruction], head: Instruction, tail: Instruction, run: Run
    ) -> bool:
        """Run a whole loop at once. False, with nothing changed, where the reference must do it."""
        batch = _Batch(self, body, head, tail, run)
        if not batch.plan():
            return False
        batch.commit()
        return True


class _Batch:
    """All iterations of one loop as arrays.

    The control state (codes before and behind the latch) of every iteration follows from the
    table alone, so it is laid out first, for the lines that the loop touches; anything that could
    fault, or that does more than move bit lines gently, is handed back to the reference.
    """

    def __init__(
        self,
        seq: BatchedSequencer,
        body: list[Instruction],
        head: Instruction,
        tail: Instruction,
        run: Run,
    ) -> None:
        self.seq, self.bench, self.run = seq, seq.bench, run
        self.body, self.count, self.stride = body, head.value, tail.value
        self.cycles = sum(item.cycles for item in body) + tail.cycles
        self.head_cycles = head.cycles
        self.convs = [item for item in body if item.op is Op.CONV]
        self.writes = [item for item in body if item.addr >= dac80508.DAC0]
        lines = {line for item in self.writes for line in self._lines(item)}
        self.lines = sorted(lines)
        self.reads: list[tuple[int, Volts]] = []
        self.ok = True

    def _lines(self, item: Instruction) -> list[int]:
        channel = item.addr - dac80508.DAC0
        return [chip * dac80508.N_CHANNELS + channel for chip in self.seq._chips(item.mask)]

    def plan(self) -> bool:
        """Lay out every iteration; False where the reference has to run it."""
        spec, run, seq = self.bench.spec, self.run, self.seq
        n_results = len(self.convs) * self.count * spec.adcs
        every_chip = (1 << len(self.bench.dacs)) - 1
        if (
            not self.convs
            or run.n_results + n_results > run.max_results
            or any(item.value >= spec.selects for item in self.convs)
            or any(dac.sync & 0xFF != dac80508.SYNC_ALL for dac in self.bench.dacs)
            or any(i.mask & every_chip != every_chip for i in self.body if _is_latch(i))
            or set(self.lines) & set(spec.wl_channel)
            or (self.bench.enable and not self.bench.only_reads())
            or not self._latch_moves_only_own_lines()
            or not self._timing_holds()
            or not self._table_holds(seq)
        ):
            return False
        self._layout()
        return self.ok

    def _latch_moves_only_own_lines(self) -> bool:
        """No line that the loop does not write waits behind the latch, and no limit was lowered."""
        if not any(_is_latch(item) for item in self.body):
            return True
        full, active = self.bench.full_scales_v(), self.bench.active_codes()
        buffer = np.array([code for dac in self.bench.dacs for code in dac.buffer])
        waiting = set(np.flatnonzero(buffer != active).tolist())
        within = buffer * full <= self.run.limits[: buffer.size] * 5.0
        return waiting <= set(self.lines) and bool(within.all())

    def _timing_holds(self) -> bool:
        """Updates 1 us apart and conversions settled, in the first and in every later iteration."""
        last, now = self.seq._last_update, self.seq.clock.cycles + self.head_cycles
        latches = any(_is_latch(item) for item in self.body)
        checked = min(self.count, 2)
        for _ in range(checked):
            for item in self.body:
                if item.op is Op.CONV and now - last < SETTLE_CYCLES:
                    return False
                now += item.cycles
                if _is_latch(item):
                    if now - last < UPDATE_CYCLES:
                        return False
                    last = now
            now += microcode.CYCLES_STEP
        self.last_update = last + (self.count - checked) * self.cycles * latches
        return True

    def _table_holds(self, seq: BatchedSequencer) -> bool:
        last = self.run.pointer + (self.count - 1) * self.stride
        from_table = [item for item in self.writes if item.op is Op.DACT]
        reach = [last + item.value + len(seq._chips(item.mask)) for item in from_table]
        return max(reach, default=0) <= self.run.table.size

    def _layout(self) -> None:
        """Codes of every iteration, and bit-line voltages at every conversion."""
        bench, count = self.bench, self.count
        self.full = bench.full_scales_v()
        self.base = bench.active_codes()
        first_b = np.array([code for dac in bench.dacs for code in dac.buffer])[self.lines]
        first_a = self.base[self.lines]
        ends_b = np.broadcast_to(first_b, (count, first_b.size))
        ends_a = np.broadcast_to(first_a, (count, first_a.size))
        # An iteration starts from what the one before left: buffers depend on their own iteration
        # or on none, latched codes on buffers, so two passes reach the fixed point. Where all is
        # written and latched before it is used, what came before does not matter.
        for final in (True,) if self._self_contained() else (False, False, True):
            start_b = np.concatenate([first_b[None], ends_b[:-1]])
            start_a = np.concatenate([first_a[None], ends_a[:-1]])
            ends_b, ends_a = self._pass(start_b, start_a, record=final)
        self.end_buffer, self.end_active = ends_b[-1], ends_a[-1]

    def _self_contained(self) -> bool:
        order = [
            1 if _is_latch(item) else 0 if item.addr >= dac80508.DAC0 else 2
            for item in self.body
            if item.op is Op.CONV or item.op in (Op.DAC, Op.DACT)
        ]
        return order == sorted(order) and 1 in order

    def _pass(self, start_b: Codes, start_a: Codes, record: bool) -> tuple[Codes, Codes]:
        """One execution of the body for all iterations from given start states."""
        buffer, active = start_b, start_a
        starts = self.run.pointer + self.stride * np.arange(self.count)
        limit = self.run.limits * 5.0
        volts: Volts | None = None
        for item in self.body:
            if item.addr >= dac80508.DAC0:
                for k, line in enumerate(self._lines(item)):
                    column = self.lines.index(line)
                    from_table = item.op is Op.DACT
                    codes = self.run.table[starts + item.value + k] if from_table else item.value
                    buffer[:, column] = codes
                    if record:
                        self.ok &= int(np.max(codes)) * self.full[line] <= limit[line]
            elif _is_latch(item):
                active, volts = buffer.copy(), None
                if record:
                    volts = self._volts(active)
                    self.ok &= not self.bench.enable or self.bench.reads_gently(volts)
            elif item.op is Op.CONV and record:
                volts = self._volts(active) if volts is None else volts
                self.reads.append((item.value, volts))
        return buffer, active

    def _volts(self, active: Codes) -> Volts:
        codes = np.tile(self.base, (self.count, 1))
        codes[:, self.lines] = active
        return self.bench.bl_volts(codes, self.full)

    def commit(self) -> None:
        """Convert, write results in program order, and leave the state of the last iteration."""
        seq, bench = self.seq, self.bench
        wl = bench.wl_volts(self.base, self.full)
        codes = [bench.convert(volts, wl, select) for select, volts in self.reads]
        self.run.push(ads8324.to_word(np.stack(codes, axis=1)))
        self.run.pointer += self.count * self.stride
        marks = [item.value for item in self.body if item.op is Op.MARK]
        self.run.mark = marks[-1] if marks else self.run.mark
        for column, line in enumerate(self.lines):
            chip, channel = divmod(line, dac80508.N_CHANNELS)
            bench.dacs[chip].buffer[channel] = int(self.end_buffer[column])
            bench.dacs[chip].active[channel] = int(self.end_active[column])
        seq.clock.advance(self.head_cycles + self.count * self.cycles)
        seq._last_update = self.last_update


def _is_latch(item: Instruction) -> bool:
    return item.op is Op.DAC and item.addr == dac80508.TRIGGER
