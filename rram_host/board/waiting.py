"""Letting board time pass, and reading the board's clock.

A wait is a program: the rails are made safe, then the sequencer counts cycles. WAIT counts up to
2^28 - 1, so longer waits are a LOOP of 2^28 cycles a turn and a WAIT for what remains.
"""

from __future__ import annotations

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.lines import LineProgram
from firmware_bridge.microcode import CLOCK_HZ, CYCLES_STEP, Assembler, Op, total_cycles
from rram_host.board.sequencer import SequencerDriver
from rram_host.errors import InputError

MAX_WAIT_S = 1e7
_TURN_CYCLES = 1 << 28  # of the loop: WAIT of 2^28 - 2 with its step, and the step of NEXT


def wait_cycles(duration_s: float) -> int:
    """A duration in cycles of 10 ns: the nearest number, at least one unless it is 0.

    Raises:
        InputError: negative, not a number, or above 1e7 s.
    """
    if not 0 <= duration_s <= MAX_WAIT_S:
        raise InputError(
            f"a wait of {duration_s} s was asked for; it must be from 0 to {MAX_WAIT_S:g} s"
        )
    return max(round(duration_s * CLOCK_HZ), int(duration_s > 0))


def wait_program(spec: BoardSpec, cycles: int) -> Assembler:
    """A program that takes exactly `cycles`, END included, at least one.

    It begins by making the rails safe: gates closed, bit lines at zero, source lines at ground. A
    wait that is shorter than this takes (some 20 us) is spent as every program leaves the
    board: gates closed, bit lines at zero, source lines open.
    """
    safe = LineProgram(spec)
    safe.make_safe()
    left = cycles - total_cycles(safe.instructions())
    program = safe if left >= 0 else Assembler()
    _fill(program, left if left >= 0 else cycles - CYCLES_STEP)
    return program


def _fill(program: Assembler, cycles: int) -> None:
    """Add instructions that take exactly so many cycles, and do nothing else."""
    turns = (cycles - CYCLES_STEP) // _TURN_CYCLES
    if turns > 0:
        with program.loop(turns):
            program.add(Op.WAIT, value=_TURN_CYCLES - 2 * CYCLES_STEP)
        cycles -= CYCLES_STEP + turns * _TURN_CYCLES
    if cycles > 0:
        program.add(Op.WAIT, value=cycles - CYCLES_STEP)


def clock_cycles(driver: SequencerDriver) -> int:
    """The board's clock since power-up. The high word is read on both sides of the low one."""
    high = driver.read_register("CYCLES_HI")
    while True:
        low, again = driver.read_register("CYCLES_LO"), driver.read_register("CYCLES_HI")
        if again == high:
            return high << 32 | low
        high = again
