"""Runs micro-programs on the bench, one instruction after another: the reference interpreter.

`Sequencer` is the definition of what a program does. `sim.batched` does the same faster. Cells age
at the start of a program and at the start of every outermost loop, in both.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from firmware_bridge import microcode
from firmware_bridge.errors import InputError
from firmware_bridge.microcode import Fault, Instruction, Op
from sim.bench import Bench
from sim.clock import Clock
from sim.idle_loops import idle_loop
from sim.instructions import Instructions
from sim.run import ProgramFault, Run

FOREVER = 1 << 256  # cycles: longer than any program, four loops of 2^28 turns in one another
_KEPT_WORDS = 1 << 16


@dataclass
class Course:
    """A program under way.

    Attributes:
        program, places: its instructions, and the word index of each behind `entry`.
        entry: word index of its begin.
        length: words of memory from there on.
        run: what goes in and comes out.
        begun: board clock at its begin.
        index: of the instruction at hand.
        stack: index behind the LOOP, and turns left, of every loop that is open.
        owed: cycles that are left of the WAIT at hand, where it has begun.
    """

    program: list[Instruction | None]
    places: list[int]
    entry: int
    length: int
    run: Run
    begun: int
    index: int = 0
    stack: list[list[int]] = field(default_factory=list)
    owed: int = 0

    def stop(self, code: Fault, info: int, now: int, index: int | None = None) -> None:
        """Note why, where and when it has stopped."""
        place = self.index if index is None else index
        self.run.fault, self.run.fault_info = code, info
        self.run.fault_cycles = now - self.begun
        self.run.fault_pc = self.entry + self.places[min(place, len(self.places) - 1)]


class Sequencer(Instructions):
    """The reference: one instruction after another.

    Args:
        bench: the parts.
        clock: board time.
    """

    def __init__(self, bench: Bench, clock: Clock) -> None:
        super().__init__(bench, clock)
        self._ahead, self._until = 0, FOREVER
        self._idle_loop = idle_loop
        self._decoded: dict[bytes, tuple[list[Instruction | None], list[int]]] = {}
        self._known: dict[int, Instruction] = {}  # by word, where one word is all of it
        self._limits: npt.NDArray[np.int64] | None = None

    # ---- control flow -----------------------------------------------------------------------

    def begin(self, memory: npt.NDArray[np.uint32], entry: int, run: Run) -> Course:
        """Start the program at `entry`; nothing of it has been executed yet."""
        program, places = self._decode(memory[entry:])
        if run.limits is not self._limits:
            self._limits = run.limits
            self._limits_v = [5.0 * limit for limit in run.limits.tolist()]  # times 65536
        self._let_time_pass()
        return Course(program, places, entry, memory.size - entry, run, self.clock.cycles)

    def advance(self, course: Course, until: int = FOREVER) -> bool:
        """Go on with a program up to END or a fault, which ends up in its run.

        Args:
            course: the program.
            until: board clock from which on no further instruction is begun. Only a WAIT ends
                there in its middle, and is gone on with later; all others are done whole.

        Returns:
            Whether it has ended.
        """
        self._until = until
        program, stack, run, index = course.program, course.stack, course.run, course.index
        try:
            while self.clock.cycles < until:
                item = program[index]
                if item is None:
                    raise ProgramFault(self._broken(course.places[index], course.length))
                if item.op is Op.LOOP:
                    index = self._loop(program, index, stack, run)
                elif item.op is Op.LINES and self._remembered(program, index, run):
                    index = self._ahead
                elif item.op is Op.NEXT:
                    index = self._next(item, index, stack, run)
                elif item.op is Op.WAIT:
                    index += self._wait(item, course)
                elif item.op is Op.END:
                    self.clock.advance(item.cycles)
                    if stack:
                        raise ProgramFault(Fault.BAD_INSTRUCTION)
                    return True
                else:
                    self._execute(item, run)
                    index += 1
        except ProgramFault as fault:
            course.index = index
            course.stop(fault.code, fault.info, self.clock.cycles, fault.place)
            return True
        course.index = index
        return False

    def _wait(self, item: Instruction, course: Course) -> bool:
        """Let a WAIT pass, or what there is time for; whether it is over."""
        left = course.owed or item.cycles
        passed = min(left, self._until - self.clock.cycles)
        self.clock.advance(passed)
        course.owed = left - passed
        return not course.owed

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
        if idle is not None and self.clock.cycles + idle.cycles <= self._until:
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
