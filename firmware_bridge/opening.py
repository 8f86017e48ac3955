"""What a board is told before anything else, by a host or by the bridge itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from firmware_bridge import limits, registers
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import dac80508
from firmware_bridge.lines import LineProgram

Words = npt.NDArray[np.uint32]

SAFE_ENTRY = registers.PROGRAM.words - 256


def register(name: str, *values: int) -> tuple[int, Words]:
    """The write of a register, and with more values of those behind it: address and words."""
    return registers.offset(name), np.array(values, dtype=np.uint32)


def opening_writes(spec: BoardSpec) -> Iterator[tuple[int, Words]]:
    """Fault latch cleared, safe program in its place, watchdog and limits set, in this order.

    Addresses and words. The limits come last: a board that has them has all of it.

    What has to follow is the program of `start_program`.
    """
    yield register("CTRL", registers.CTRL_CLEAR_FAULT)
    safe = LineProgram(spec)
    safe.make_safe()
    yield registers.PROGRAM.offset + 4 * SAFE_ENTRY, safe.words()
    yield register("SAFE_ENTRY", SAFE_ENTRY)
    yield registers.offset("WATCHDOG"), limits.guard_words(spec)
    yield registers.LIMITS_OFFSET, limits.limit_words(spec)
    yield registers.offset("WATCHDOG"), limits.guard_words(spec)


def start_program(spec: BoardSpec) -> LineProgram:
    """The program that brings every part from an unknown state to rest.

    It waits first: a program of whoever was here before may have moved the outputs just now.
    """
    program = LineProgram(spec)
    program.wait(dac80508.UPDATE_INTERVAL_S)
    program.initialise()
    return program
