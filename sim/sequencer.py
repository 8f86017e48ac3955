"""Runs micro-programs on the bench: a scalar interpreter (the reference) and a batched one.

`Sequencer` executes instruction by instruction and is the definition of what a program does.
`BatchedSequencer` differs in one thing: a loop that only moves bit lines and converts is evaluated
for all its iterations at once. Where it cannot prove that this is the same, it does what the
reference does.

Cells age at the start of a program and at the start of every outermost loop, in both.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from firmware_bridge import microcode
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import ads8324, dac80508, sn74hc595
from firmware_bridge.errors import InputError, RramError
from firmware_bridge.microcode import Fault, Instruction, Op
from sim.bench import Bench
from sim.clock import Clock

Codes = npt.NDArray[np.int64]
Volts = npt.NDArray[np.float64]

_SETTLE_CYCLES = round(dac80508.SETTLING_S * microcode.CLOCK_HZ)
_UPDATE_CYCLES = round(dac80508.UPDATE_INTERVAL_S * microcode.CLOCK_HZ)
# Lines that stay on a cell until the next instruction are taken as one long pulse.
_STATIC_STRESS_S = 1e-3


class ProgramFault(RramError):
    """A program broke a rule; the sequencer stops and latches it."""

    def __init__(self, code: Fault, info: int = 0) -> None:
        super().__init__(code, info)
        self.code, self.info = code, info


@dataclass
class Run:
    """One run of a program: its inputs, and what has come of it so far."""

    table: npt.NDArray[np.uint16]
    limits: npt.NDArray[np.int64]
    max_results: int
    results: list[npt.NDArray[np.uint16]] = field(default_factory=list)
    n_results: int = 0
    pointer: int = 0
    mark: int = 0
    pulses: int = 0
    fault: Fault = Fault.NONE
    fault_pc: int = 0
    fault_info: int = 0

    def push(self, words: npt.NDArray[np.uint16]) -> None:
        """Append results, as long as they fit the memory."""
        if self.n_results + words.size > self.max_results:
            raise ProgramFault(Fault.RESULT_OVERRUN, self.n_results)
        self.results.append(words.ravel())
        self.n_results += words.size

    def element(self, index: int) -> int:
        """A code of the input table."""
        if index >= self.table.size:
            raise ProgramFault(Fault.TABLE_OVERRUN, index)
        return int(self.table[index])


class Sequencer:
    """The reference: one instruction after another.

    Args:
        bench: the parts.
        clock: board time.
    """

    def __init__(self, bench: Bench, clock: Clock) -> None:
        self.bench, self.clock = bench, clock
        self._last_update = -_SETTLE_CYCLES
        self._decoded: dict[bytes, tuple[list[Instruction | None], list[int]]] = {}

    @property
    def spec(self) -> BoardSpec:
        """How the board is wired."""
        return self.bench.spec

    # ---- control flow -----------------------------------------------------------------------

    def run(self, memory: npt.NDArray[np.uint32], entry: int, run: Run) -> None:
        """Run the program at `entry` until END or a fault, which ends up in `run`."""
        program, places = self._decode(memory[entry:])
        self.bench.cells.age(self.clock.now_s)
        index = 0
        stack: list[list[int]] = []
        try:
            while True:
                item = program[index]
                if item is None:
                    raise ProgramFault(self._broken(places[index], memory.size - entry))
                if item.op is Op.LOOP:
                    index = self._loop(program, index, stack, run)
                elif item.op is Op.NEXT:
                    index = self._next(item, index, stack, run)
                elif item.op is Op.END:
                    self.clock.advance(item.cycles)
                    if stack:
                        raise ProgramFault(Fault.BAD_INSTRUCTION)
                    return
                else:
                    self._execute(item, run)
                    index += 1
        except ProgramFault as fault:
            run.fault, run.fault_info = fault.code, fault.info
            run.fault_pc = entry + places[min(index, len(places) - 1)]

    @staticmethod
    def _broken(place: int, length: int) -> Fault:
        return Fault.PROGRAM_OVERRUN if place >= length else Fault.BAD_INSTRUCTION

    def _decode(self, words: npt.NDArray[np.uint32]) -> tuple[list[Instruction | None], list[int]]:
        """Instructions up to the first END or the first word that is none, with word indices."""
        key = words[:256].tobytes()
        if key not in self._decoded:
            program: list[Instruction | None] = []
            places: list[int] = []
            pc = 0
            while not program or (program[-1] is not None and program[-1].op is not Op.END):
                places.append(pc)
                try:
                    program.append(microcode.decode_one(words, pc) if pc < words.size else None)
                except InputError:
                    program.append(None)
                pc += 1 + (len(program[-1].data) if program[-1] else 0)
            if pc > 256:
                return program, places
            if len(self._decoded) > 64:
                self._decoded.clear()
            self._decoded[key] = program, places
        return self._decoded[key]

    def _loop(
        self, program: list[Instruction | None], index: int, stack: list[list[int]], run: Run
    ) -> int:
        item = program[index]
        if item is None or len(stack) >= microcode.MAX_LOOP_DEPTH:
            raise ProgramFault(Fault.BAD_INSTRUCTION)
        if not stack:
            self.bench.cells.age(self.clock.now_s)
        self.clock.advance(item.cycles)
        stack.append([index + 1, item.value])
        return index + 1

    def _next(self, item: Instruction, index: int, stack: list[list[int]], run: Run) -> int:
        if not stack:
            raise ProgramFault(Fault.BAD_INSTRUCTION)
        self.clock.advance(item.cycles)
        run.pointer += item.value
        stack[-1][1] -= 1
        if stack[-1][1]:
            return stack[-1][0]
        stack.pop()
        return index + 1

    # ---- instructions -----------------------------------------------------------------------

    def _execute(self, item: Instruction, run: Run) -> None:
        op = item.op
        if op in (Op.DAC, Op.DACT):
            self._dac(item, run)
        elif op is Op.DREAD:
            self._readback(item, run)
        elif op is Op.SHIFT:
            self.bench.shift(sn74hc595.outputs_from_words(item.data, item.value))
            self.clock.advance(item.cycles)
        elif op is Op.LINES:
            self._lines(item)
        elif op is Op.PULSE:
            self._pulse(item, run)
        elif op is Op.CONV:
            self._convert(item, run)
        else:
            if op is Op.PTR:
                run.pointer = item.value
            elif op is Op.MARK:
                run.mark = item.value
            self.clock.advance(item.cycles)

    def _chips(self, mask: int) -> list[int]:
        return [chip for chip in range(len(self.bench.dacs)) if mask >> chip & 1]

    def _dac(self, item: Instruction, run: Run) -> None:
        chips = self._chips(item.mask)
        base = run.pointer + item.value
        from_table = item.op is Op.DACT
        data = [run.element(base + k) if from_table else item.value for k in range(len(chips))]
        for chip, word in zip(chips, data, strict=True):
            self._check_limit(chip, item.addr, word, run)
        updated = False
        for chip, word in zip(chips, data, strict=True):
            dac = self.bench.dacs[chip]
            before = dac.updates
            dac.transfer(dac80508.write_frame(item.addr, word))
            updated |= dac.updates != before
        self.clock.advance(item.cycles)
        if updated:
            self._outputs_updated()

    def _outputs_updated(self) -> None:
        if self.clock.cycles - self._last_update < _UPDATE_CYCLES:
            raise ProgramFault(Fault.DAC_UPDATE_TOO_SOON)
        self._last_update = self.clock.cycles
        self._static_stress()

    def _check_limit(self, chip: int, addr: int, data: int, run: Run) -> None:
        """Refuse a word that could put an output above its limit, before it is sent.

        Limits are in 5 V / 65536, so a code counts by the full scale of its channel.
        """
        dac = self.bench.dacs[chip]
        if addr >= dac80508.DAC0:
            reached = [(addr - dac80508.DAC0, data, dac.gain)]
        elif addr == dac80508.BRDCAST:
            listening = (c for c in range(dac80508.N_CHANNELS) if dac.sync >> (8 + c) & 1)
            reached = [(channel, data, dac.gain) for channel in listening]
        elif addr == dac80508.GAIN:
            highest = map(max, dac.buffer, dac.active)
            reached = [(channel, code, data & 0x07FF) for channel, code in enumerate(highest)]
        elif addr == dac80508.TRIGGER and data & dac80508.TRIGGER_LDAC and dac.buffer != dac.active:
            # written under higher limits, perhaps
            waiting = (c for c in range(dac80508.N_CHANNELS) if dac.sync >> c & 1)
            reached = [(channel, dac.buffer[channel], dac.gain) for channel in waiting]
        else:
            return
        for channel, code, gain in reached:
            line = chip * dac80508.N_CHANNELS + channel
            if code * dac.full_scale_v(channel, gain) > run.limits[line] * 5.0:
                raise ProgramFault(Fault.LIMIT, line)

    def _readback(self, item: Instruction, run: Run) -> None:
        words = []
        for chip in self._chips(item.mask):
            dac = self.bench.dacs[chip]
            dac.transfer(dac80508.read_frame(item.addr))
            reply = dac.transfer(dac80508.write_frame(dac80508.NOP, 0))
            words += [reply >> 16, reply & 0xFFFF]
        run.push(np.array(words, dtype=np.uint16))
        self.clock.advance(item.cycles)

    def _lines(self, item: Instruction) -> None:
        enable, oe = bool(item.value & 1), bool(item.value >> 3 & 1)
        if enable and (self.bench.chain is None or not oe):
            raise ProgramFault(Fault.ENABLE_WITHOUT_LATCH)
        self.bench.enable, self.bench.oe = enable, oe
        self.bench.tia_range = item.value >> 1 & 3
        self.clock.advance(item.cycles)
        self._static_stress()

    def _static_stress(self) -> None:
        if self.bench.enable:
            self.bench.stress(_STATIC_STRESS_S, self.clock.now_s)

    def _settled(self) -> None:
        if self.clock.cycles - self._last_update < _SETTLE_CYCLES:
            raise ProgramFault(Fault.NOT_SETTLED, self.clock.cycles - self._last_update)

    def _pulse(self, item: Instruction, run: Run) -> None:
        if self.bench.chain is None or not self.bench.oe:
            raise ProgramFault(Fault.ENABLE_WITHOUT_LATCH)
        self._settled()
        self.clock.advance(item.cycles)
        run.pulses += 1
        self.bench.stress(item.value / microcode.CLOCK_HZ, self.clock.now_s)
        self.bench.enable = False

    def _convert(self, item: Instruction, run: Run) -> None:
        if item.value >= self.spec.selects:
            raise ProgramFault(Fault.BAD_SELECT, item.value)
        self._settled()
        codes, full = self.bench.active_codes(), self.bench.full_scales_v()
        bl = self.bench.bl_volts(codes[None, :], full)
        read = self.bench.convert(bl, self.bench.wl_volts(codes, full), item.value)
        run.push(ads8324.to_word(read))
        self.clock.advance(item.cycles)


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
                if item.op is Op.CONV and now - last < _SETTLE_CYCLES:
                    return False
                now += item.cycles
                if _is_latch(item):
                    if now - last < _UPDATE_CYCLES:
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
