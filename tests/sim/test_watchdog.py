"""The watchdog: silence while lines are live ends in safe rails, at the moment when it is due."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_bridge import opening, registers
from firmware_bridge.lines import OE, LineProgram
from firmware_bridge.microcode import Fault, Op
from rram_host import open_board
from rram_host.errors import BoardFault
from sim.board import EmulatedBoard
from tests.sim.guarded import (
    DONE,
    FAULT,
    LIVE,
    SPEC,
    T_CYCLES,
    T_S,
    Wall,
    board_on,
    fault,
    gates,
    gates_first,
    reading,
)
from tests.sim.programs import CTRL_CLEAR_FAULT, CTRL_RESET, CTRL_SAFE, ins, put, register, start


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture(params=[True, False], ids=["batched", "scalar"])
def board(wall: Wall, request) -> EmulatedBoard:
    return board_on(wall, batched=request.param)


def test_lines_left_live_become_safe_when_the_time_is_over_and_not_before(board, wall):
    start(board, reading().words())
    assert register(board, "STATUS") == DONE | LIVE
    wall.passes(0.999 * T_S)
    assert max(gates(board)) > 3 and board.truth.live and board.truth.safe_since_s is None
    wall.passes(0.001 * T_S)
    assert gates(board) == {0.0} and not board.truth.live
    assert register(board, "STATUS") == DONE | FAULT
    assert (register(board, "WATCHDOG_TRIPS"), fault(board)) == (1, Fault.WATCHDOG)
    assert register(board, "FAULT_INFO") == T_CYCLES


def test_the_trip_counts_from_when_it_was_due_not_from_when_somebody_looked(board, wall):
    start(board, reading().words())
    wall.passes(1000 * T_S)
    truth = board.truth
    assert truth.safe_since_s == truth.written_s + T_S


def test_gates_close_before_bit_lines_move(wall):
    board = board_on(wall, batched=False)
    start(board, reading().words())
    assert not gates_first(board)  # they are live
    last_s = board.truth.written_s
    wall.passes(2 * T_S)
    assert gates_first(board)
    moved = [event for event in board.rail_log if event.safe]
    assert {event.wall_s for event in moved} == {last_s + T_S}
    assert len(moved) >= 4  # switches, gates, bit lines, switches at ground


def test_a_safe_program_in_the_wrong_order_is_seen_to_be_wrong(wall):
    """The safe program that drops bit lines first: what the tests look for does tell it."""
    board = board_on(wall, batched=False)
    wrong = LineProgram(SPEC)
    wrong.add(Op.LINES, value=OE)
    for group in (wrong.bl, wrong.wl):
        group.immediate(wrong, np.zeros(4, dtype=np.uint16))
        wrong.wait(1e-6)
        wrong.latch()
    board.write(registers.PROGRAM.offset + 4 * opening.SAFE_ENTRY, wrong.words())
    start(board, reading().words())
    wall.passes(2 * T_S)
    assert gates(board) == {0.0} and not gates_first(board)


def test_every_write_restarts_it_and_no_read_does(board, wall):
    start(board, reading().words())
    for name in ("KICK", "SCRATCH", "PULSES_LIMIT"):
        wall.passes(0.9 * T_S)
        put(board, name, 1)
    for _ in range(3):
        wall.passes(0.3 * T_S)
        assert register(board, "STATUS") & LIVE
    wall.passes(0.2 * T_S)
    assert register(board, "WATCHDOG_TRIPS") == 1


def test_a_board_that_is_not_live_is_left_alone(board, wall):
    for item in (None, reading()):  # as opened; and after the safe program
        if item is not None:
            start(board, item.words())
            put(board, "CTRL", CTRL_SAFE)
            assert board.bench.enable  # source lines are held at ground
        assert register(board, "STATUS") == DONE
        wall.passes(1e6)
        assert (register(board, "WATCHDOG_TRIPS"), fault(board)) == (0, 0)
    start(board, LineProgram(SPEC).words())
    assert register(board, "STATUS") & (DONE | FAULT) == DONE


def test_switches_that_a_program_leaves_on_are_live_with_every_output_at_zero(board, wall):
    program = LineProgram(SPEC)
    program.switch_sl(SPEC.sl_rail)
    program.close_sl(0)
    start(board, program.words())
    assert register(board, "STATUS") == DONE | LIVE
    wall.passes(T_S)
    assert register(board, "WATCHDOG_TRIPS") == 1
    assert {board.truth.rails_v[f"SL{row}"] for row in range(SPEC.rows)} == {0.0}


def test_zero_switches_it_off(board, wall):
    put(board, "WATCHDOG", 0)
    start(board, reading().words())
    wall.passes(1e6)
    assert max(gates(board)) > 3
    assert register(board, "STATUS") == DONE | LIVE


def test_after_a_trip_nothing_starts_until_the_fault_is_cleared(board, wall):
    start(board, reading().words())
    wall.passes(T_S)
    cycles = register(board, "CYCLES_LO")
    put(board, "CTRL", 1)
    assert register(board, "CYCLES_LO") == cycles
    put(board, "CTRL", CTRL_CLEAR_FAULT)
    assert register(board, "STATUS") == 0 and fault(board) == 0
    put(board, "CTRL", 1)
    assert register(board, "STATUS") == DONE | LIVE


def test_a_safe_program_that_leaves_lines_live_is_not_run_again_and_again(board, wall):
    put(board, "SAFE_ENTRY", 8000)
    start(board, reading().words(), entry=8000)
    for silence in (1, 1000):
        wall.passes(silence * T_S)
        assert register(board, "WATCHDOG_TRIPS") == 1
    put(board, "KICK", 0)
    wall.passes(T_S)
    assert register(board, "WATCHDOG_TRIPS") == 2


def test_reset_puts_it_back_to_two_seconds_and_ends_being_live(board, wall):
    start(board, reading().words())
    put(board, "CTRL", CTRL_RESET)
    assert register(board, "WATCHDOG") == 200_000_000
    assert register(board, "STATUS") == 0
    assert register(board, "PULSE_LIMIT") == register(board, "PULSES_LIMIT") == 0
    wall.passes(1e3)
    assert register(board, "WATCHDOG_TRIPS") == 0


def test_a_snapshot_knows_whether_lines_are_live(wall):
    one, other = board_on(wall), board_on(wall)
    start(one, reading().words())
    other.restore(one.snapshot())
    put(other, "WATCHDOG", T_CYCLES)
    assert other.truth.live and register(other, "STATUS") == DONE | LIVE
    put(one, "CTRL", CTRL_SAFE)
    other.restore(one.snapshot())
    start(other, [ins(Op.END)])
    assert other.bench.enable and other.truth.live  # it was this program that left them on
    other.restore(one.snapshot())
    assert not other.truth.live


def test_a_host_that_is_slow_between_programs_notices_nothing():
    wall = Wall()
    emulated = EmulatedBoard("ideal", seed=1, wall=wall)
    with open_board(emulated) as board:
        for _ in range(3):
            wall.passes(1e4)
            board.array.read(1)
        wall.passes(1e4)
        assert register(emulated, "WATCHDOG_TRIPS") == 0
        assert register(emulated, "WATCHDOG") == 200_000_000
    assert not emulated.truth.live


def test_a_host_whose_board_has_tripped_is_told_so_and_goes_on(monkeypatch):
    wall = Wall()
    emulated = EmulatedBoard("ideal", seed=1, wall=wall)
    with open_board(emulated) as board:
        program = board._core.program()
        program.open_for_reads(np.arange(32), 3)  # and does not close them
        board._core.driver.checker = None  # which would refuse just that
        board._core.driver.run(program)
        wall.passes(2.0)
        with pytest.raises(BoardFault, match="WATCHDOG: no write .*2000000.00 us.* made safe"):
            board.array.read(1)
        board.array.read(1)


@pytest.mark.parametrize("limit, width, expected", [(100, 100, 0), (100, 101, 15), (0, 24, 15)])
def test_a_pulse_longer_than_its_limit_faults_before_the_switches_close(
    board, limit, width, expected
):
    put(board, "PULSE_LIMIT", limit)
    pulses = register(board, "PULSE_COUNT")
    start(board, pulse_program([width]).words())
    assert fault(board) == expected
    assert register(board, "PULSE_COUNT") - pulses == int(expected == 0)
    assert board.truth.pulses.sum() == 4 * int(expected == 0)  # one row with its gate open
    if expected:
        assert register(board, "FAULT_INFO") == width


@pytest.mark.parametrize("looped", [False, True])
@pytest.mark.parametrize("limit", [0, 1, 4, 5, 6])
def test_one_pulse_too_many_in_a_program_faults_before_it_is_given(board, limit, looped):
    put(board, "PULSES_LIMIT", limit)
    for _ in range(2):  # it counts by program
        put(board, "CTRL", CTRL_CLEAR_FAULT)
        before = register(board, "PULSE_COUNT")
        start(board, pulse_program([50] * 5, looped).words())
        assert register(board, "PULSE_COUNT") - before == min(limit, 5)
        assert fault(board) == (0 if limit >= 5 else Fault.PULSES_LIMIT)
        assert register(board, "FAULT_INFO") == (limit if limit < 5 else 0)
        put(board, "CTRL", CTRL_SAFE)


def pulse_program(widths: list[int], looped: bool = False) -> LineProgram:
    """Gates of row 0 open, bit lines at 2 V, pulses."""
    program = LineProgram(SPEC)
    program.switch_sl(SPEC.sl_ground, np.array([0]))
    program.bl_range(0x00FF)
    program.bl.immediate(program, np.full(SPEC.cols, 26_000, dtype=np.uint16))
    rows = np.zeros(SPEC.rows, dtype=np.uint16)
    rows[0] = 20_000
    program.wl.immediate(program, rows)
    program.latch()
    program.settle()
    if looped:
        with program.loop(len(widths)):
            program.latch()
            program.settle()
            program.add(Op.PULSE, value=widths[0])
    else:
        for width in widths:
            program.add(Op.PULSE, value=width)
            program.add(Op.LINES, value=OE)
    return program
