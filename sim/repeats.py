"""Loops that do the same every time: cycles of pulses, a hundred thousand times over.

Endurance runs a loop around whole phases: switches, ranges, trains of SET pulses, trains of RESET
pulses. Nothing but the cells and their noise changes from one turn to the next. So a turn that
ends in the digital state in which it began has to be interpreted only once; for all turns that are
left the cells take its pulses again, by the same law and with the same draws, at their own times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_bridge.microcode import Instruction, Op
from sim.array.cell import Train
from sim.straight import starting_point

if TYPE_CHECKING:
    from sim.run import Run
    from sim.sequencer import Sequencer

_FEWEST = 4  # turns, below which watching costs more than running


def repeats(program: list[Instruction | None], index: int) -> bool:
    """Whether the loop that begins at `index` pulses, and returns nothing that differs by turn."""
    depth, pulses = 0, False
    for item in program[index:]:
        if item is None or item.op in (Op.CONV, Op.DREAD, Op.END):
            return False
        pulses |= item.op is Op.PULSE
        depth += (item.op is Op.LOOP) - (item.op is Op.NEXT)
        if not depth:
            return pulses
    return False


@dataclass
class Turn:
    """A turn under way.

    Attributes:
        state: in which it began.
        cycles: clock at its begin.
        given: pulses of the run before it.
        trains: what it has put on the cells so far.
    """

    state: object
    cycles: int
    given: int
    trains: list[Train]


class Repeater:
    """Watches the turns of outermost loops, and does the ones that are left at once.

    Args:
        seq: the interpreter.
        horizon: cycles after which an event is forgotten.
    """

    def __init__(self, seq: Sequencer, horizon: int) -> None:
        self._seq, self._horizon = seq, horizon
        self._turn: Turn | None = None
        self.watching = False

    def watch(self, program: list[Instruction | None], index: int) -> None:
        """An outermost loop begins; look at its turns where that may pay."""
        self._leave()
        head = program[index]
        self.watching = head is not None and head.value > _FEWEST and repeats(program, index)

    def forget(self) -> None:
        """No loop is under way."""
        self._leave()
        self.watching = False

    def _leave(self) -> None:
        self._turn = None
        self._seq.bench.witness = None

    def turn_ended(self, run: Run, left: int) -> int:
        """A turn has ended and `left` more are to come; how many have been done at once."""
        seq, known = self._seq, self._turn
        state = self._state(run)
        if known is not None and state is not None and known.state == state:
            self.forget()
            # what goes beyond the pulses of a program is left to the reference, which faults
            given = run.pulses - known.given
            at_once = min(left, run.pulses_left() // given) if given else left
            if at_once:
                self._again(known, run, at_once)
            return at_once
        self._leave()
        if state is not None and left >= _FEWEST:
            self._turn = Turn(state, seq.clock.cycles, run.pulses, [])
            seq.bench.witness = self._turn.trains
        return 0

    def _state(self, run: Run) -> object | None:
        seq = self._seq
        start = starting_point(seq, run, self._horizon)
        closed = min(seq.clock.cycles - seq.last_closed, self._horizon)
        return None if start is None else (start, seq.bench.enable, closed, run.pointer, run.mark)

    def _again(self, turn: Turn, run: Run, left: int) -> None:
        """Do a turn `left` times more."""
        seq, begun = self._seq, self._seq.clock.cycles
        period = begun - turn.cycles
        if turn.trains:
            bench, again = seq.bench, Train.joined(turn.trains)
            again.end_cycles[:] += period
            bench.cells.train(again, bench.connected, bench.spec.wl_read_v, left, period)
        run.pulses += left * (run.pulses - turn.given)
        seq.clock.advance(left * period)
        self._shift(begun, left * period)

    def _shift(self, begun: int, cycles: int) -> None:
        """Events that are not forgotten yet are as long ago as they were after one turn."""
        seq = self._seq

        def later(moment: int) -> int:
            return moment + cycles if begun - moment < self._horizon else moment

        seq.last_update, seq.last_closed = later(seq.last_update), later(seq.last_closed)
        seq.last_shift = later(seq.last_shift)
        seq.last_reset = [later(moment) for moment in seq.last_reset]
