"""A small board that is set up as a host does it, on a wall clock that only the test moves."""

from __future__ import annotations

import numpy as np

from firmware_bridge import opening, registers
from firmware_bridge.lines import LineProgram
from firmware_bridge.microcode import CLOCK_HZ
from sim.board import EmulatedBoard
from sim.control import RailEvent
from tests.sim.programs import put, register, small_spec, start

T_S = 0.25
T_CYCLES = round(T_S * CLOCK_HZ)
SPEC = small_spec()
BUSY, DONE, FAULT, LIVE = 1, 2, 4, 8


class Wall:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def passes(self, seconds: float) -> None:
        self.now_s += seconds


def board_on(wall: Wall, preset: str = "ideal", **options) -> EmulatedBoard:
    """A board with limits, safe program and a watchdog of 0.25 s; every part at rest."""
    board = EmulatedBoard(preset, seed=3, spec=SPEC, wall=wall, **options)
    for address, words in opening.opening_writes(SPEC):
        board.write(address, words)
    put(board, "WATCHDOG", T_CYCLES)
    start(board, opening.start_program(SPEC).words())
    wall.passes(0.1)  # where a program takes time, it is over
    assert register(board, "STATUS") == DONE
    return board


def reading() -> LineProgram:
    """Gates open, bit lines at rest, switches closed; nothing closes them again."""
    program = LineProgram(SPEC)
    program.open_for_reads(np.arange(SPEC.rows), 3)
    return program


def gates(board: EmulatedBoard) -> set[float]:
    return {volts for name, volts in board.truth.rails_v.items() if name.startswith("WL")}


def gates_first(board: EmulatedBoard) -> bool:
    """Whether the rails are safe, and every gate was before a bit line moved.

    The last that moved lines was the safe program, with the switches open until all is at zero; or
    a program that has ended with them so.
    """
    log, bit_lines, word_lines = board.rail_log, board.spec.bl_channel, board.spec.wl_channel

    def on(event: RailEvent, channels: tuple[int, ...]) -> list[int]:
        return [event.codes[channel] for channel in channels]

    own = next((k for k in range(len(log), 0, -1) if not log[k - 1].safe), 0)
    resting = on(log[own - 1], bit_lines) if own else [0] * len(bit_lines)
    for event in log[own:]:
        lines_moved = on(event, bit_lines) != resting
        if any(on(event, word_lines)) and (lines_moved or event.closed):
            return False
        if any(on(event, bit_lines)) and event.closed:
            return False
    return not log or not any(on(log[-1], bit_lines) + on(log[-1], word_lines))


def fault(board: EmulatedBoard) -> int:
    return register(board, "FAULT_CODE")


def load(board: EmulatedBoard, program: LineProgram) -> None:
    """Upload a program, and leave it at that."""
    board.write(registers.PROGRAM.offset, program.words())
    put(board, "ENTRY", 0)
