"""Runs micro-programs on the bench, one instruction after another: the reference interpreter.

`Sequencer` is the definition of what a program does. `sim.batched` does the same faster. Cells age
at the start of a program and at the start of every outermost loop, in both.
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

SETTLE_CYCLES = round(dac80508.SETTLING_S * microcode.CLOCK_HZ)
UPDATE_CYCLES = round(dac80508.UPDATE_INTERVAL_S * microcode.CLOCK_HZ)
# Lines that stay on a cell until the next instruction are taken as one long pulse.
_STATIC_STRESS_S = 1e-3
_LONGEST_STRESS_CYCLES = 10 * microcode.CLOCK_HZ


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
        self._last_update = -SETTLE_CYCLES
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
        if self.clock.cycles - self._last_update < UPDATE_CYCLES:
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
        if self.clock.cycles - self._last_update < SETTLE_CYCLES:
            raise ProgramFault(Fault.NOT_SETTLED, self.clock.cycles - self._last_update)

    def _pulse(self, item: Instruction, run: Run) -> None:
        if self.bench.chain is None or not self.bench.oe:
            raise ProgramFault(Fault.ENABLE_WITHOUT_LATCH)
        self._settled()
        self.clock.advance(item.cycles)
        run.pulses += 1
        # An open source line is held by the unselected bit lines through the other cells of its
        # row, so cells carry most of the voltage from the DAC update on, not from the switch.
        on_cycles = min(self.clock.cycles - self._last_update, _LONGEST_STRESS_CYCLES)
        self.bench.stress(on_cycles / microcode.CLOCK_HZ, self.clock.now_s)
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
