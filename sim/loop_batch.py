"""What every loop that is evaluated as arrays begins from."""

from __future__ import annotations

from firmware_bridge.microcode import Instruction
from sim.sequencer import Run, Sequencer


class LoopBatch:
    """All iterations of one loop, to be evaluated at once.

    Args:
        seq: the interpreter.
        body: what the loop repeats.
        head: the LOOP.
        tail: the NEXT.
        run: the run of the program.
    """

    def __init__(
        self,
        seq: Sequencer,
        body: list[Instruction],
        head: Instruction,
        tail: Instruction,
        run: Run,
    ) -> None:
        self.seq, self.bench, self.run = seq, seq.bench, run
        self.body, self.count, self.stride = body, head.value, tail.value
        self.head_cycles = head.cycles
        self.cycles = sum(item.cycles for item in body) + tail.cycles
        self.prepare()

    def prepare(self) -> None:
        """Sort out the body; changes nothing outside."""

    def plan(self) -> bool:
        """Check every iteration; False, with nothing changed, where the reference has to run it."""
        raise NotImplementedError

    def commit(self) -> None:
        """Do it, and leave the state of the last iteration."""
        raise NotImplementedError
