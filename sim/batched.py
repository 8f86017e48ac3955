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
from sim import kernels
from sim.batched_pulses import PulseBatch
from sim.bench import Bench
from sim.clock import Clock
from sim.loop_batch import LoopBatch
from sim.sequencer import RESET_CYCLES, UPDATE_CYCLES, ProgramFault, Run, Sequencer, is_latch
from sim.straight import MOST_OUTCOMES, Stretch, outcome, put_in_place, starting_point, stretches

Codes = npt.NDArray[np.uint16]

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

    def _remembered(self, program: list[Instruction | None], index: int, run: Run) -> bool:
        """Put a stretch's outcome in place, or let the reference run it and remember."""
        kept = self._stretches.get(id(program))
        if kept is None or kept[0] is not program:
            if len(self._stretches) > _KEPT_PROGRAMS:
                self._stretches.clear()
            kept = self._stretches[id(program)] = (program, stretches(program))
        stretch = kept[1].get(index)
        start = starting_point(self, run, self._horizon) if stretch else None
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

    def _loop(
        self, program: list[Instruction | None], index: int, stack: list[list[int]], run: Run
    ) -> int:
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


class ReadBatch(LoopBatch):
    """A loop of reads.

    The control state (codes before and behind the latch) of every iteration follows from the
    table alone, so it is laid out first, for the lines that the loop touches; anything that could
    fault, or that does more than move bit lines gently, is handed back to the reference.
    """

    def prepare(self) -> None:
        """Which lines are written, in which order, and what is converted."""
        body, spec = self.body, self.bench.spec
        self.selects = [item.value for item in body if item.op is Op.CONV]
        self.writes = [item for item in body if item.addr >= dac80508.DAC0]
        self.latches = [item for item in body if is_latch(item)]
        # line of every code written, in the order of writing
        self.written = [line for item in self.writes for line in self._lines(item)]
        self.lines = list(dict.fromkeys(self.written))
        self.table: Codes | None = None
        self.places = [divmod(line, dac80508.N_CHANNELS) for line in self.lines]
        self.line_array = np.array(self.lines, dtype=np.int64)
        self.is_bl = self.bench.is_bl[self.line_array]
        still = self.bench.bl_channels
        self.still_lines = still[~np.isin(still, self.line_array)] if self.latches else still
        self.moments = [(item.op is Op.CONV, is_latch(item), item.cycles) for item in body]
        self.n_results = len(self.selects) * self.count * spec.adcs
        every_chip = (1 << len(self.bench.dacs)) - 1
        self.usual = (
            bool(self.selects)
            and all(select < spec.selects for select in self.selects)
            and all(item.mask & every_chip == every_chip for item in self.latches)
            and set(self.lines).isdisjoint(self.bench.wl_channels.tolist())
        )
        self.first_element = self._first_element()
        from_table = [item for item in self.writes if item.op is Op.DACT]
        reach = [item.value + len(self.seq._chips(item.mask)) for item in from_table]
        self.reach = (self.count - 1) * self.stride + max(reach) if reach else -(1 << 62)

    def _lines(self, item: Instruction) -> list[int]:
        channel = item.addr - dac80508.DAC0
        return [chip * dac80508.N_CHANNELS + channel for chip in self.seq._chips(item.mask)]

    def plan(self, run: Run) -> bool:
        """Lay out every iteration; False where the reference has to run it."""
        self.run = run
        # groups of conversions at the same voltages: (codes (count, lines), selects)
        self.reads: list[tuple[Codes, list[int]]] = []
        self.written_codes: list[tuple[int, int]] = []
        self.shown_codes: list[Codes] = []
        self.largest_v = 0.0
        seq, bench = self.seq, self.bench
        if (
            not self.usual
            or run.n_results + self.n_results > run.max_results
            or run.pointer + self.reach > run.table.size
            or any(dac.sync & 0xFF != dac80508.SYNC_ALL or dac.config for dac in bench.dacs)
            or (bench.enable and not bench.only_reads())
            or (bool(self.writes) and seq.in_reset())
            or not self._latch_moves_only_own_lines()
            or not self._timing_holds()
        ):
            return False
        self._layout()
        return self._within_limits() and self._gentle()

    def _latch_moves_only_own_lines(self) -> bool:
        """No line that the loop does not write waits behind the latch, and no limit was lowered."""
        if not self.latches:
            return True
        dacs, full = self.bench.dacs, self.bench.full_scales_v()
        moved = [d for d in range(len(dacs)) if dacs[d].buffer != dacs[d].active]
        waiting = {
            d * dac80508.N_CHANNELS + channel
            for d in moved
            for channel, code in enumerate(dacs[d].buffer)
            if code != dacs[d].active[channel]
        }
        buffer = np.array([dac.buffer for dac in dacs]).ravel()
        within = buffer * full <= self.run.limits[: buffer.size] * 5.0
        return waiting <= set(self.lines) and bool(within.all())

    def _timing_holds(self) -> bool:
        """Updates 1 us apart and conversions settled, in the first and in every later iteration."""
        seq = self.seq
        last, now = seq.last_update, seq.clock.cycles + self.head_cycles
        checked = min(self.count, 2)
        for _ in range(checked):
            for converts, latches, cycles in self.moments:
                if converts and not seq.may_convert(now, last):
                    return False
                now += cycles
                if latches:
                    if now - last < UPDATE_CYCLES:
                        return False
                    last = now
            now += microcode.CYCLES_STEP
        self.last_update = last + (self.count - checked) * self.cycles * bool(self.latches)
        return True

    # ---- layout -----------------------------------------------------------------------------

    def _layout(self) -> None:
        """Codes of every iteration at every conversion."""
        rows = self._rows_of_table()
        if rows is not None:
            self.table = rows
            self.reads = [(rows, self.selects)]
            self.end_buffer = self.end_active = rows[-1]
            return
        self.table = None
        bench, count = self.bench, self.count
        first_b = np.array([code for dac in bench.dacs for code in dac.buffer])[self.lines]
        first_a = bench.active_codes()[self.lines]
        ends_b = np.broadcast_to(first_b, (count, first_b.size))
        ends_a = np.broadcast_to(first_a, (count, first_a.size))
        # An iteration starts from what the one before left: buffers depend on their own iteration
        # or on none, latched codes on buffers, so two passes reach the fixed point.
        for final in (False, False, True):
            start_b = np.concatenate([first_b[None], ends_b[:-1]])
            start_a = np.concatenate([first_a[None], ends_a[:-1]])
            ends_b, ends_a = self._pass(start_b, start_a, record=final)
        self.end_buffer, self.end_active = ends_b[-1], ends_a[-1]

    def _rows_of_table(self) -> Codes | None:
        """The table itself as codes (count, lines), where the body allows it."""
        if self.first_element is None:
            return None
        table, step = self.run.table, self.run.table.itemsize
        return np.ndarray(
            (self.count, len(self.lines)),
            table.dtype,
            table,
            (self.run.pointer + self.first_element) * table.strides[0],
            (self.stride * step, step),
        )

    def _first_element(self) -> int | None:
        """Table element, from the pointer, where the codes of an iteration lie as `lines` do.

        Such is the body of every usual program: each line is written from the table once, then all
        are latched, then converted, and an iteration takes its codes from one stretch of the
        table, stretch behind stretch. None where it is not.
        """
        order = [
            1 if is_latch(item) else 0 if item.addr >= dac80508.DAC0 else 2
            for item in self.body
            if item.op is Op.CONV or item.addr
        ]
        if order != sorted(order) or order.count(1) != 1 or len(self.lines) != len(self.written):
            return None
        place = self.writes[0].value if self.writes else -1
        expected = place
        for item in self.writes:
            if item.op is not Op.DACT or item.value != expected:
                return None
            expected += len(self._lines(item))
        return place if self.lines and self.stride >= len(self.lines) else None

    def _pass(self, start_b: Codes, start_a: Codes, record: bool) -> tuple[Codes, Codes]:
        """One execution of the body for all iterations from given start states."""
        buffer, active = start_b.astype(np.uint16), start_a.astype(np.uint16)
        starts = self.run.pointer + self.stride * np.arange(self.count)
        shown: Codes | None = None
        for item in self.body:
            if item.addr >= dac80508.DAC0:
                for k, line in enumerate(self._lines(item)):
                    from_table = item.op is Op.DACT
                    codes = self.run.table[starts + item.value + k] if from_table else item.value
                    buffer[:, self.lines.index(line)] = codes
                    if record:
                        self.written_codes.append((line, int(np.max(codes))))
            elif is_latch(item):
                active, shown = buffer.copy(), None
                if record:
                    self.shown_codes.append(active)
            elif item.op is Op.CONV and record:
                if shown is None:
                    shown = active.copy()
                    self.reads.append((shown, []))
                self.reads[-1][1].append(item.value)
        return buffer, active

    def _within_limits(self) -> bool:
        """Every code written keeps its line within its limit."""
        full, limit = self.bench.full_scales_v(), self.run.limits * 5.0
        if self.table is None:
            return all(code * full[line] <= limit[line] for line, code in self.written_codes)
        self.ends = kernels.extremes(self.table)
        lines = self.line_array
        return bool((self.ends[1] * full[lines] <= limit[lines]).all())

    def _gentle(self) -> bool:
        """Bit lines stay near the virtual ground, so that nothing is stressed; how near."""
        bench = self.bench
        bias_v, lines, still = bench.spec.tia_bias_v, self.line_array, self.still_lines
        if still.size:
            rest_v = bench.line_law(still, bias_v).volts(bench.active_codes()[still])
            self.largest_v = float(np.abs(rest_v).max())
        # the transfer curve is monotonic: the ends of a line's codes bound its voltage
        ends = [self.ends] if self.table is not None else map(kernels.extremes, self.shown_codes)
        for codes in ends if lines.size else ():
            away = np.abs(bench.line_law(lines, bias_v).volts(codes))[:, self.is_bl]
            self.largest_v = max(self.largest_v, float(away.max(initial=0.0)))
        if bench.reads_gently(self.largest_v):
            return True
        return not bench.enable or not bench.conducts(bench.wl_volts())

    def commit(self) -> None:
        """Convert, write results in program order, and leave the state of the last iteration."""
        seq, bench = self.seq, self.bench
        words = [
            bench.read_plan(self.lines, selects, self.largest_v).words(codes)
            for codes, selects in self.reads
        ]
        self.run.push(words[0] if len(words) == 1 else np.concatenate(words, axis=1))
        self.run.pointer += self.count * self.stride
        self.run.mark = self.run.mark if self.mark is None else self.mark
        ends = zip(self.places, self.end_buffer.tolist(), self.end_active.tolist(), strict=True)
        for (chip, channel), behind, shown in ends:
            bench.dacs[chip].buffer[channel] = behind
            bench.dacs[chip].active[channel] = shown
        seq.clock.advance(self.head_cycles + self.count * self.cycles)
        seq.last_update = self.last_update
