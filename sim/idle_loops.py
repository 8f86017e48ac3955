"""Loops in which nothing happens but time: waits of hours are one addition.

A loop whose body holds only WAIT, MARK and such loops moves the clock, the table pointer and the
mark, each by an amount that follows from the program alone:

    cycles = 1 + count (body + NEXT),    pointer += count (stride + what inner loops moved it by).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firmware_bridge import microcode
from firmware_bridge.microcode import Instruction, Op


@dataclass(frozen=True)
class IdleLoop:
    """What a whole loop comes to.

    Attributes:
        end: index behind its NEXT.
        cycles: of all its iterations, the LOOP itself included.
        moved: what is added to the table pointer.
        mark: argument of the last MARK in it; None without one.
    """

    end: int
    cycles: int
    moved: int
    mark: int | None


def idle_loop(program: Sequence[Instruction | None], index: int, depth: int = 0) -> IdleLoop | None:
    """The loop that begins at `index`, where it does nothing but wait; None where it does more.

    Args:
        program: instructions.
        index: of a LOOP.
        depth: how many loops are open around it.
    """
    head = program[index]
    if head is None or depth >= microcode.MAX_LOOP_DEPTH:
        return None
    cycles, moved, place = 0, 0, index + 1
    mark: int | None = None
    while place < len(program):
        item = program[place]
        if item is None:
            return None
        if item.op is Op.NEXT:
            once = cycles + item.cycles
            moved = head.value * (moved + item.value)
            return IdleLoop(place + 1, head.cycles + head.value * once, moved, mark)
        if item.op is Op.LOOP:
            inner = idle_loop(program, place, depth + 1)
            if inner is None:
                return None
            cycles, moved, place = cycles + inner.cycles, moved + inner.moved, inner.end
            mark = mark if inner.mark is None else inner.mark
            continue
        if item.op not in (Op.WAIT, Op.MARK):
            return None
        mark = item.value if item.op is Op.MARK else mark
        cycles, place = cycles + item.cycles, place + 1
    return None
