"""Runs micro-programs on the bench, one instruction after another: the reference interpreter.

`Sequencer` is the definition of what a program does. `sim.batched` does the same faster. Cells age
at the start of a program and at the start of every outermost loop, in both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge import microcode
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import dac80508, sn74hc595
from firmware_bridge.errors import InputError, RramError
from firmware_bridge.microcode import Fault, Instruction, Op
from sim.bench import Bench
from sim.clock import Clock
from sim.idle_loops import idle_loop

SETTLE_CYCLES = round(dac80508.SETTLING_S * microcode.CLOCK_HZ)
UPDATE_CYCLES = round(dac80508.UPDATE_INTERVAL_S * microcode.CLOCK_HZ)
RESET_CYCLES = round(dac80508.SOFT_RESET_S * microcode.CLOCK_HZ)
# Lines that stay on a cell until the next instruction are taken as one long pulse.
_STATIC_STRESS_S = 1e-3
_LONGEST_STRESS_CYCLES = 10 * microcode.CLOCK_HZ
_KEPT_WORDS = 1 << 16


def stressed_s(cycles: int) -> float:
    """How long a pulse lasts that ends so many cycles after the DAC update before it."""
    return min(cycles, _LONGEST_STRESS_CYCLES) / microcode.CLOCK_HZ


def is_latch(item: Instruction) -> bool:
    """Whether an instruction writes TRIGGER, given that it does so to move the outputs."""
    return item.op is Op.DAC and item.addr == dac80508.TRIGGER


class ProgramFault(RramError):
    """A program broke a rule; the sequencer stops and latches it."""

    def __init__(self, code: Fault, info: int = 0) -> None:
        super().__init__(code, info)
        self.code, self.info = code, info
        self.place: int | None = None  # index of the instruction, where it is not the one at hand


@dataclass
class Run:
    """One run of a program: its inputs, and what has come of it so far."""

    table: npt.NDArray[np.uint16]
    limits: npt.NDArray[np.int64]
    results: npt.NDArray[np.uint16]  # the memory that they are written to
    n_results: int = 0
    pointer: int = 0
    mark: int = 0
    pulses: int = 0
    fault: Fault = Fault.NONE
    fault_pc: int = 0
    fault_info: int = 0
    fault_cycles: int = 0

    def push(self, words: npt.NDArray[np.uint16]) -> None:
        """Append results, as long as they fit the memory."""
        self.room(words.size)[:] = words.ravel()

    def room(self, size: int) -> npt.NDArray[np.uint16]:
        """Memory for the next `size` results, for who writes them there himself."""
        if self.n_results + size > self.results.size:
            raise ProgramFault(Fault.RESULT_OVERRUN, self.n_results)
        self.n_results += size
        return self.results[self.n_results - size : self.n_results]

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
        spec, hz = bench.spec, microcode.CLOCK_HZ
        # in whole cycles, as the gateware counts them
        self._switch_cycles = int(np.ceil(spec.mux_switch_s * hz))
        self._tia_cycles = [int(np.ceil(spec.tia_settling_s(r) * hz)) for r in range(4)]
        self._read_cycles = [int(np.ceil(spec.settling_s(r) * hz)) for r in range(4)]
        # by chip mask
        self._chips_of = [
            tuple(chip for chip in range(spec.dac_chips) if mask >> chip & 1) for mask in range(256)
        ]
        self._ahead = 0
        self._idle_loop = idle_loop
        self.power_up()
        self._decoded: dict[bytes, tuple[list[Instruction | None], list[int]]] = {}
        self._known: dict[int, Instruction] = {}  # by word, where one word is all of it
        self._limits: npt.NDArray[np.int64] | None = None

    def power_up(self) -> None:
        """Forget what happened before: everything has settled long since."""
        self.last_update = self.last_closed = self.last_shift = -RESET_CYCLES
        self.last_reset = [-RESET_CYCLES] * self.spec.dac_chips

    @property
    def spec(self) -> BoardSpec:
        """How the board is wired."""
        return self.bench.spec

    # ---- control flow -----------------------------------------------------------------------

    def run(self, memory: npt.NDArray[np.uint32], entry: int, run: Run) -> None:
        """Run the program at `entry` until END or a fault, which ends up in `run`."""
        program, places = self._decode(memory[entry:])
        if run.limits is not self._limits:
            self._limits = run.limits
            self._limits_v = [5.0 * limit for limit in run.limits.tolist()]  # times 65536
        begun = self.clock.cycles
        self._let_time_pass()
        index = 0
        stack: list[list[int]] = []
        try:
            while True:
                item = program[index]
                if item is None:
                    raise ProgramFault(self._broken(places[index], memory.size - entry))
                if item.op is Op.LOOP:
                    index = self._loop(program, index, stack, run)
                elif item.op is Op.LINES and self._remembered(program, index, run):
                    index = self._ahead
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
            run.fault_cycles = self.clock.cycles - begun
            index = index if fault.place is None else fault.place
            run.fault_pc = entry + places[min(index, len(places) - 1)]

    def _remembered(self, program: list[Instruction | None], index: int, run: Run) -> bool:
        """Whether a stretch from here on has been done from memory; `_ahead` is where it ended."""
        return False

    def _let_time_pass(self) -> None:
        """Cells relax and their noise goes on, up to now."""
        self.bench.cells.age(self.clock.now_s)
        self.bench.noise.advance(self.clock.now_s)

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
                    program.append(self._decode_one(words, pc) if pc < words.size else None)
                except InputError:
                    program.append(None)
                pc += 1 + (len(program[-1].data) if program[-1] else 0)
            if pc > 256:
                return program, places
            if len(self._decoded) > 64:
                self._decoded.clear()
            self._decoded[key] = program, places
        return self._decoded[key]

    def _decode_one(self, words: npt.NDArray[np.uint32], pc: int) -> Instruction:
        word = int(words[pc])
        item = self._known.get(word)
        if item is None:
            item = microcode.decode_one(words, pc)
            if not item.data and len(self._known) < _KEPT_WORDS:
                self._known[word] = item
        return item

    def _loop(
        self, program: list[Instruction | None], index: int, stack: list[list[int]], run: Run
    ) -> int:
        item = program[index]
        if item is None or len(stack) >= microcode.MAX_LOOP_DEPTH:
            raise ProgramFault(Fault.BAD_INSTRUCTION)
        if not stack:
            self._let_time_pass()
        idle = self._idle_loop(program, index, len(stack))
        if idle is not None:
            self.clock.advance(idle.cycles)
            run.pointer += idle.moved
            run.mark = run.mark if idle.mark is None else idle.mark
            return idle.end
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
            self._shift(item)
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

    def _chips(self, mask: int) -> tuple[int, ...]:
        return self._chips_of[mask]

    def _dac(self, item: Instruction, run: Run) -> None:
        chips = self._chips(item.mask)
        if item.op is Op.DACT:
            base = run.pointer + item.value
            data = [run.element(base + k) for k in range(len(chips))]
        else:
            data = [item.value] * len(chips)
        self._awake(chips)
        for chip, word in zip(chips, data, strict=True):
            self._check_limit(chip, item.addr, word)
        updated = False
        for chip, word in zip(chips, data, strict=True):
            dac = self.bench.dacs[chip]
            before = dac.updates
            self.bench.frame(chip, dac80508.write_frame(item.addr, word))
            updated |= dac.updates != before
        self.clock.advance(item.cycles)
        if item.addr == dac80508.TRIGGER and item.value & 0xF == dac80508.TRIGGER_SOFT_RESET:
            for chip in chips:
                self.last_reset[chip] = self.clock.cycles
        if updated:
            self._outputs_updated()

    def _awake(self, chips: tuple[int, ...]) -> None:
        """A DAC80508 takes no frame for 250 us after a soft reset."""
        for chip in chips if self.in_reset() else ():
            passed = self.clock.cycles - self.last_reset[chip]
            if passed < RESET_CYCLES:
                raise ProgramFault(Fault.DAC_IN_RESET, passed)

    def _outputs_updated(self) -> None:
        passed = self.clock.cycles - self.last_update
        if passed < UPDATE_CYCLES:
            raise ProgramFault(Fault.DAC_UPDATE_TOO_SOON, passed)
        self.last_update = self.clock.cycles
        self._static_stress()

    def _check_limit(self, chip: int, addr: int, data: int) -> None:
        """Refuse a word that could put an output above its limit, before it is sent.

        Limits are in 5 V / 65536, so a code counts by the full scale of its channel.
        """
        dac = self.bench.dacs[chip]
        if addr >= dac80508.DAC0:
            self._check_code(chip, addr - dac80508.DAC0, data, dac.gain)
        elif addr == dac80508.BRDCAST:
            for channel in range(dac80508.N_CHANNELS):
                if dac.sync >> (8 + channel) & 1:
                    self._check_code(chip, channel, data, dac.gain)
        elif addr == dac80508.GAIN:
            for channel, code in enumerate(map(max, dac.buffer, dac.active)):
                self._check_code(chip, channel, code, data & 0x07FF)
        elif addr == dac80508.TRIGGER and data & dac80508.TRIGGER_LDAC and dac.buffer != dac.active:
            # written under higher limits, perhaps
            for channel, code in enumerate(dac.buffer):
                if dac.sync >> channel & 1:
                    self._check_code(chip, channel, code, dac.gain)

    def _check_code(self, chip: int, channel: int, code: int, gain: int) -> None:
        line = chip * dac80508.N_CHANNELS + channel
        if code * dac80508.full_scale_v(gain, channel) > self._limits_v[line]:
            raise ProgramFault(Fault.LIMIT, line)

    def _readback(self, item: Instruction, run: Run) -> None:
        words = []
        chips = self._chips(item.mask)
        self._awake(chips)
        for chip in chips:
            self.bench.frame(chip, dac80508.read_frame(item.addr))
            reply = self.bench.frame(chip, dac80508.write_frame(dac80508.NOP, 0))
            words += [reply >> 16 & 0xFF, reply & 0xFFFF]
        run.push(np.array(words, dtype=np.uint16))
        self.clock.advance(item.cycles)

    def _shift(self, item: Instruction) -> None:
        if self.bench.enable:
            raise ProgramFault(Fault.SWITCH_ADDRESS_MOVED)
        self.bench.shift(sn74hc595.outputs_from_words(item.data, item.value))
        self.clock.advance(item.cycles)
        self.last_shift = self.clock.cycles

    def _lines(self, item: Instruction) -> None:
        bench = self.bench
        enable, oe, tia_range = bool(item.value & 1), bool(item.value >> 3 & 1), item.value >> 1 & 3
        if enable and (not bench.latched or not oe):
            raise ProgramFault(Fault.ENABLE_WITHOUT_LATCH)
        if enable:
            self._past(self.last_shift, self._switch_cycles, Fault.SWITCH_TOO_SOON)
        if oe and not bench.oe:
            self.last_shift = self.clock.cycles  # select lines come up from where pull-downs held
        moved = enable and (not bench.enable or tia_range != bench.tia_range)
        bench.enable, bench.oe, bench.tia_range = enable, oe, tia_range
        self.clock.advance(item.cycles)
        if moved:
            self.last_closed = self.clock.cycles
        self._static_stress()

    def _static_stress(self) -> None:
        if self.bench.enable and not self.bench.at_rest():
            self.bench.stress(_STATIC_STRESS_S, self.clock.cycles)

    def _past(self, moment: int, cycles: int, fault: Fault) -> None:
        """At least so many cycles have passed since then."""
        passed = self.clock.cycles - moment
        if passed < cycles:
            raise ProgramFault(fault, passed)

    def _pulse(self, item: Instruction, run: Run) -> None:
        if not self.bench.latched or not self.bench.oe:
            raise ProgramFault(Fault.ENABLE_WITHOUT_LATCH)
        self._past(self.last_update, SETTLE_CYCLES, Fault.NOT_SETTLED)
        self._past(self.last_shift, self._switch_cycles, Fault.SWITCH_TOO_SOON)
        if item.value < self._switch_cycles:
            raise ProgramFault(Fault.PULSE_TOO_SHORT, item.value)
        self.clock.advance(item.cycles)
        run.pulses += 1
        # An open source line is held by the unselected bit lines through the other cells of its
        # row, so cells carry most of the voltage from the DAC update on, not from the switch.
        self.bench.stress(stressed_s(self.clock.cycles - self.last_update), self.clock.cycles)
        self.bench.enable = False

    def _convert(self, item: Instruction, run: Run) -> None:
        if item.value >= self.spec.selects:
            raise ProgramFault(Fault.BAD_SELECT, item.value)
        settling, closing = self._conversion_rules()
        self._past(self.last_update, settling, Fault.NOT_SETTLED)
        self._past(self.last_closed, closing, Fault.SWITCH_TOO_SOON)
        run.push(self.bench.convert(item.value))
        self.clock.advance(item.cycles)

    def _conversion_rules(self) -> tuple[int, int]:
        """Least cycles between an update, or a closing of the switches, and a conversion."""
        tia_range = self.bench.tia_range
        closing = self._switch_cycles + self._tia_cycles[tia_range] if self.bench.enable else 0
        return self._read_cycles[tia_range], closing

    def may_convert(self, now: int, last_update: int) -> bool:
        """Whether a conversion at cycle `now` breaks no rule of timing."""
        settling, closing = self._conversion_rules()
        return now - last_update >= settling and now - self.last_closed >= closing

    def may_pulse(self, now: int, last_update: int, cycles: int) -> bool:
        """Whether a pulse of so many cycles, at cycle `now`, breaks no rule of timing."""
        settled = now - last_update >= SETTLE_CYCLES
        turned_on = min(now - self.last_shift, cycles) >= self._switch_cycles
        return settled and turned_on

    def in_reset(self) -> bool:
        """Whether a DAC may still be resetting."""
        return self.clock.cycles - max(self.last_reset) < RESET_CYCLES
