"""The batched interpreter: loops of reads and trains of pulses, evaluated as arrays.

`BatchedSequencer` does what `sim.sequencer.Sequencer`, the reference, does: where it cannot prove
that a whole loop comes out the same, it leaves the loop to the reference.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge import microcode
from firmware_bridge.chips import dac80508
from firmware_bridge.microcode import Instruction, Op
from sim.batched_pulses import PulseBatch
from sim.batched_reads import ReadBatch
from sim.bench import Bench
from sim.clock import Clock
from sim.loop_batch import LoopBatch
from sim.repeats import Repeater
from sim.run import RESET_CYCLES, ProgramFault, Run, is_latch
from sim.sequencer import Course, Sequencer
from sim.straight import MOST_OUTCOMES, Stretch, outcome, put_in_place, starting_point, stretches

_KEPT_PROGRAMS = 64


class BatchedSequencer(Sequencer):
    """The same, with loops of one kind evaluated as arrays.

    Either loops that only move bit lines and convert, or such that write lines, latch and pulse.
    """

    def __init__(self, bench: Bench, clock: Clock) -> None:
        super().__init__(bench, clock)
        self._stretches: dict[int, tuple[list[Instruction | None], dict[int, Stretch]]] = {}
        self._batches: dict[int, tuple[list[Instruction | None], dict[int, LoopBatch | None]]] = {}
        self._horizon = max(RESET_CYCLES, *self._read_cycles)
        self._repeater = Repeater(self, self._horizon)

    def begin(self, memory: npt.NDArray[np.uint32], entry: int, run: Run) -> Course:
        """As the reference does."""
        self._repeater.forget()  # a fault may have left a turn
        return super().begin(memory, entry, run)

    def _remembered(self, program: list[Instruction | None], index: int, run: Run) -> bool:
        """Put a stretch's outcome in place, or let the reference run it and remember."""
        kept = self._stretches.get(id(program))
        if kept is None or kept[0] is not program:
            if len(self._stretches) > _KEPT_PROGRAMS:
                self._stretches.clear()
            kept = self._stretches[id(program)] = (program, stretches(program))
        stretch = kept[1].get(index)
        start = None if stretch is None else self._start_of(stretch, run)
        if stretch is None or start is None:
            return False
        known = stretch.outcomes.get(start)
        if known is not None:
            put_in_place(self, known)
            run.pointer = run.pointer if stretch.pointer is None else stretch.pointer
            run.mark = run.mark if stretch.mark is None else stretch.mark
        else:
            self._watch(program, stretch, start, run)
        self._ahead = stretch.end
        return True

    def _start_of(self, stretch: Stretch, run: Run) -> object | None:
        return starting_point(self, run, self._horizon, stretch.overwritten)

    def _watch(
        self, program: list[Instruction | None], stretch: Stretch, start: object, run: Run
    ) -> None:
        """Run a stretch and remember what it leaves; a fault in it is told with its place."""
        begun = self.clock.cycles
        for place in range(stretch.start, stretch.end):
            item = program[place]
            if item is not None:
                try:
                    self._execute(item, run)
                except ProgramFault as fault:
                    fault.place = place
                    raise
        if len(stretch.outcomes) >= MOST_OUTCOMES:
            stretch.outcomes.clear()
        stretch.outcomes[start] = outcome(self, begun)

    def _next(self, item: Instruction, index: int, stack: list[list[int]], run: Run) -> int:
        """As the reference does; turns that only repeat the one before are done at once."""
        place = super()._next(item, index, stack, run)
        watched = self._repeater.watching and len(stack) == 1 and place <= index
        if watched:
            stack[-1][1] -= self._repeater.turn_ended(run, stack[-1][1])
            if not stack[-1][1]:
                stack.pop()
                return index + 1
        return place

    def _loop(
        self, program: list[Instruction | None], index: int, stack: list[list[int]], run: Run
    ) -> int:
        if not stack:
            self._repeater.watch(program, index)
        batch = self._batch(program, index)
        if batch is None or len(stack) >= microcode.MAX_LOOP_DEPTH:
            return super()._loop(program, index, stack, run)
        if not stack:
            self._let_time_pass()
        if not batch.plan(run):
            return super()._loop(program, index, stack, run)
        batch.commit()
        return batch.end

    def _batch(self, program: list[Instruction | None], index: int) -> LoopBatch | None:
        """The loop at `index` as a batch, sorted out once; None where it is none."""
        kept = self._batches.get(id(program))
        if kept is None or kept[0] is not program:
            if len(self._batches) > _KEPT_PROGRAMS:
                self._batches.clear()
            kept = self._batches[id(program)] = (program, {})
        if index not in kept[1]:
            kept[1][index] = self._new_batch(program, index)
        return kept[1][index]

    def _new_batch(self, program: list[Instruction | None], index: int) -> LoopBatch | None:
        head = program[index]
        body: list[Instruction] = []
        for place in range(index + 1, len(program)):
            item = program[place]
            # A loop without loops in it may be a batch; anything else is left to the reference.
            if head is None or item is None or not self._batchable(item):
                return None
            if item.op is Op.NEXT:
                pulses = any(inner.op is Op.PULSE for inner in body)
                kind: type[LoopBatch] = PulseBatch if pulses else ReadBatch
                return kind(self, body, head, item, place + 1)
            body.append(item)
        return None

    def _dac(self, item: Instruction, run: Run) -> None:
        """The two writes that programs are full of, without their frames: a code, and the latch.

        Only where every output waits for the latch; anything else is left to the reference.
        """
        chips = self._chips(item.mask)
        dacs = [self.bench.dacs[chip] for chip in chips]
        latches = is_latch(item) and item.value == dac80508.TRIGGER_LDAC
        waits = all(dac.sync & 0xFF == dac80508.SYNC_ALL and not dac.config for dac in dacs)
        if not (waits and dacs and (latches or item.addr >= dac80508.DAC0)) or self.in_reset():
            super()._dac(item, run)
        elif latches:
            for chip in chips:
                self._check_limit(chip, item.addr, item.value)
            for dac in dacs:
                dac.active[:] = dac.buffer
            self.clock.advance(microcode.CYCLES_SPI_WRITE)
            self._outputs_updated()
        else:
            self._write_codes(item, chips, run)

    def _write_codes(self, item: Instruction, chips: tuple[int, ...], run: Run) -> None:
        channel = item.addr - dac80508.DAC0
        codes = [item.value] * len(chips)
        if item.op is Op.DACT:
            first = run.pointer + item.value
            codes = [run.element(first + k) for k in range(len(chips))]
        dacs = self.bench.dacs
        for chip, code in zip(chips, codes, strict=True):
            self._check_code(chip, channel, code, dacs[chip].gain)
        for chip, code in zip(chips, codes, strict=True):
            dacs[chip].buffer[channel] = code
        self.clock.advance(microcode.CYCLES_SPI_WRITE)

    def _batchable(self, item: Instruction) -> bool:
        if item.op in (Op.WAIT, Op.CONV, Op.NEXT, Op.MARK, Op.PULSE):
            return True
        if item.op is Op.DACT:
            return item.addr >= dac80508.DAC0
        if item.op is Op.DAC:
            latch = item.addr == dac80508.TRIGGER and item.value == dac80508.TRIGGER_LDAC
            return latch or item.addr >= dac80508.DAC0
        return False
