"""What every loop that is evaluated as arrays begins from."""

from __future__ import annotations

from abc import ABC, abstractmethod

from firmware_bridge.microcode import Instruction, Op
from sim.run import Run
from sim.sequencer import Sequencer


class LoopBatch(ABC):
    """All iterations of one loop, to be evaluated at once, as often as the loop is run.

    Args:
        seq: the interpreter.
        body: what the loop repeats.
        head: the LOOP.
        tail: the NEXT.
        end: index in the program of what comes behind.
    """

    run: Run

    def __init__(
        self,
        seq: Sequencer,
        body: list[Instruction],
        head: Instruction,
        tail: Instruction,
        end: int,
    ) -> None:
        self.seq, self.bench, self.end = seq, seq.bench, end
        self.body, self.count, self.stride = body, head.value, tail.value
        self.head_cycles = head.cycles
        self.cycles = sum(item.cycles for item in body) + tail.cycles
        marks = [item.value for item in body if item.op is Op.MARK]
        self.mark = marks[-1] if marks else None
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Sort out the body."""

    @abstractmethod
    def plan(self, run: Run) -> bool:
        """Check every iteration; False, with nothing changed, where the reference has to run it."""

    @abstractmethod
    def commit(self) -> None:
        """Do what was planned last, and leave the state of the last iteration."""
