"""A board that keeps pace with the wall: programs take time, and can be watched and stopped."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge import registers
from firmware_bridge.errors import InputError
from firmware_bridge.lines import LineProgram
from firmware_bridge.microcode import CLOCK_HZ, Fault, Op
from rram_host import open_board
from rram_host.errors import BoardFault
from sim import control
from sim.board import EmulatedBoard, open_url
from tests.sim.guarded import (
    BUSY,
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
    load,
    reading,
)
from tests.sim.programs import (
    CTRL_CLEAR_FAULT,
    CTRL_RESET,
    CTRL_SAFE,
    CTRL_START,
    cases,
    put,
    register,
    run_case,
    small_spec,
    start,
    with_cells,
)
from tests.sim.test_emulated_interpreters import _everything
from tests.sim.test_watchdog import pulse_program


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def board(wall: Wall) -> EmulatedBoard:
    return board_on(wall, pace=1.0)


def waiting(seconds: float) -> LineProgram:
    """Gates open, then nothing for some seconds, in one instruction."""
    program = reading()
    program.wait(seconds)
    return program


# ---- time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pace", [1.0, 0.1, 25.0])
def test_a_program_takes_its_time_on_the_wall(wall, pace):
    board = board_on(wall, pace=pace)
    program = waiting(0.02)
    start(board, program.words())
    assert register(board, "STATUS") == BUSY | LIVE
    wall.passes(0.01 / pace)
    assert register(board, "STATUS") == BUSY | LIVE
    assert register(board, "RUN_CYCLES_LO") == pytest.approx(0.01 * CLOCK_HZ, abs=2)
    wall.passes(0.0101 / pace)
    assert register(board, "STATUS") == DONE | LIVE
    assert register(board, "RUN_CYCLES_LO") == pytest.approx(0.02 * CLOCK_HZ, rel=0.01)


def test_board_time_stands_still_between_programs(board, wall):
    before = register(board, "CYCLES_LO")
    wall.passes(1e6)
    assert register(board, "CYCLES_LO") == before


@settings(max_examples=settings.default.max_examples // 2)
@given(st.lists(cases(), min_size=1, max_size=2), st.lists(st.floats(1e-7, 1e-3), max_size=12))
def test_however_often_it_is_looked_at_a_program_does_what_it_does_at_once(programs, looks):
    """To the bit, noise and faults included: only the wall time differs."""
    wall = Wall()
    paced, at_once = (
        with_cells(EmulatedBoard("taox_180nm", 3, small_spec(), batched=False, pace=p, wall=wall))
        for p in (1.0, None)
    )
    for case in programs:
        for board in (paced, at_once):
            put(board, "CTRL", CTRL_CLEAR_FAULT)
            run_case(board, case)
        for look in looks:
            wall.passes(look)
            assert register(paced, "CYCLES_LO") <= board.clock.cycles & 0xFFFF_FFFF
        wall.passes(10.0)
        assert _everything(paced) == _everything(at_once)


def test_a_wait_of_hours_can_be_looked_at(board, wall):
    program = LineProgram(SPEC)
    with program.loop(10_000):
        program.add(Op.WAIT, value=(1 << 28) - 1)
    start(board, program.words())
    put(board, "WATCHDOG", 0)
    for _ in range(2):
        wall.passes(13_000)
        assert register(board, "STATUS") == BUSY | LIVE
    assert register(board, "RUN_CYCLES_HI") == 26_000 * CLOCK_HZ >> 32
    wall.passes(1_000)
    assert register(board, "STATUS") == DONE


def test_an_access_never_waits_long_for_a_program_that_is_slow_to_compute(monkeypatch):
    """The board is then slower than its pace, and its program still comes to its end."""
    wall = Wall()
    board = board_on(wall, pace=1.0)
    program = LineProgram(SPEC)
    with program.loop(50_000):
        program.latch()
        program.settle()
    start(board, program.words())
    put(board, "WATCHDOG", 0)
    looks = []

    def passing() -> float:  # every look at the clock costs 30 ms
        looks.append(wall.now_s)
        wall.passes(0.03)
        return wall.now_s

    monkeypatch.setattr(board._control._pace, "wall", passing)
    accesses = 0
    while register(board, "STATUS") & BUSY:
        accesses += 1
        assert len(looks) <= 4, "looked at the clock, and went on computing"
        looks.clear()
        wall.passes(0.01)
    assert accesses > 3
    assert control._LONGEST_ACCESS_S == 0.05


# ---- being stopped --------------------------------------------------------------------------


def test_safe_cuts_a_wait_short(board, wall):
    start(board, waiting(0.2).words())
    wall.passes(0.1)
    put(board, "CTRL", CTRL_SAFE)
    assert fault(board) == Fault.STOPPED
    assert register(board, "FAULT_TIME") == pytest.approx(0.1 * CLOCK_HZ, abs=2)
    assert register(board, "STATUS") == BUSY | LIVE | FAULT
    wall.passes(1e-3)
    assert gates(board) == {0.0} and register(board, "STATUS") == DONE | FAULT
    assert board.truth.safe_since_s - board.truth.written_s < 1e-4


@pytest.mark.parametrize("how", ["safe", "watchdog"])
def test_a_pulse_under_way_is_given_to_its_end(wall, monkeypatch, how):
    """Cells see the pulse as on a board that nobody stops; then the rails become safe."""
    seconds = 2 * T_S
    program, seen = pulse_program([round(seconds * CLOCK_HZ)]), []
    for pace in (None, 1.0):
        board = board_on(wall, pace=pace)
        put(board, "PULSE_LIMIT", CLOCK_HZ)
        stress = board.bench.stress_with
        monkeypatch.setattr(
            board.bench, "stress_with", lambda *a, s=stress: (seen.append(a[2]), s(*a))
        )
        start(board, program.words())
    wall.passes(0.1)
    if how == "safe":
        put(board, "CTRL", CTRL_SAFE)
    wall.passes(seconds - 0.11)
    assert register(board, "STATUS") & BUSY  # the pulse is not over, nor are the gates closed
    assert max(gates(board)) > 1
    wall.passes(0.02)
    assert gates(board) == {0.0}
    assert fault(board) == (Fault.STOPPED if how == "safe" else Fault.WATCHDOG)
    assert register(board, "FAULT_TIME") >= seconds * CLOCK_HZ
    assert register(board, "PULSE_COUNT") == 1 and (board.truth.pulses[0] == 1).all()
    at_once_s, paced_s = seen[:2]
    assert at_once_s == paced_s > seconds


def test_the_watchdog_stops_a_program_when_it_is_due_whenever_somebody_looks(wall):
    safe_after_s = set()
    for looks in (1, 7, 100):
        board = board_on(wall, pace=1.0)
        start(board, waiting(2.0).words())
        for _ in range(looks):
            wall.passes(4 * T_S / looks)
            assert register(board, "PULSE_COUNT") == 0
        truth = board.truth
        assert fault(board) == Fault.WATCHDOG and gates(board) == {0.0}
        assert register(board, "FAULT_TIME") == pytest.approx(T_CYCLES, abs=2)
        assert gates_first(board)
        safe_after_s.add(round(truth.safe_since_s - truth.written_s, 6))
    assert len(safe_after_s) == 1
    assert T_S < safe_after_s.pop() < T_S + 1e-4


def test_kicks_keep_a_long_program_running(board, wall):
    start(board, waiting(2.0).words())
    for _ in range(10):
        wall.passes(0.8 * T_S)
        put(board, "KICK", 0)
    wall.passes(0.1)
    assert register(board, "STATUS") == DONE | LIVE
    assert register(board, "WATCHDOG_TRIPS") == 0


def test_reset_ends_a_program(board, wall):
    start(board, waiting(0.2).words())
    wall.passes(0.1)
    put(board, "CTRL", CTRL_RESET)
    assert register(board, "STATUS") == 0 and gates(board) == {0.0}
    wall.passes(1.0)
    assert register(board, "STATUS") == 0


# ---- commands and writes while busy ---------------------------------------------------------


@pytest.mark.parametrize(
    "name, place",
    [
        *[(name, registers.offset(name)) for name in ("ENTRY", "SAFE_ENTRY", "TABLE_COUNT")],
        *[(name, registers.offset(name)) for name in ("LIMIT00", "PULSE_LIMIT", "PULSES_LIMIT")],
        *[(memory.name, memory.offset + 40) for memory in (registers.PROGRAM, registers.TABLE)],
    ],
)
def test_what_a_program_runs_on_cannot_be_changed_under_it(board, wall, name, place):
    start(board, waiting(0.2).words())
    before = board.read(place, 1)
    wall.passes(0.1)
    board.write(place, np.array([77], dtype=np.uint32))
    assert board.read(place, 1) == before != 77
    assert (fault(board), register(board, "FAULT_INFO")) == (Fault.BUSY, place)
    assert register(board, "STATUS") == FAULT | LIVE  # stopped; lines are where they were
    assert not board.bench.enable
    wall.passes(1.01 * T_S)
    assert gates(board) == {0.0}


@pytest.mark.parametrize("name", ["WATCHDOG", "KICK", "SCRATCH"])
def test_other_registers_can_be_written_while_a_program_runs(board, wall, name):
    start(board, waiting(0.2).words())
    put(board, name, 50_000_000)
    wall.passes(0.1)
    assert register(board, "STATUS") == BUSY | LIVE
    assert register(board, name) == (0 if name == "KICK" else 50_000_000)


def test_a_second_start_stops_the_program(board, wall):
    start(board, waiting(0.2).words())
    wall.passes(0.1)
    put(board, "CTRL", CTRL_START)
    assert fault(board) == Fault.BUSY
    assert register(board, "FAULT_INFO") == registers.offset("CTRL")
    wall.passes(0.15)
    assert register(board, "STATUS") == FAULT | LIVE


def test_a_start_waits_for_the_end_of_the_safe_program(board, wall):
    load(board, waiting(0.05))
    put(board, "CTRL", CTRL_SAFE)
    load(board, waiting(0.01))
    put(board, "CTRL", CTRL_START)
    assert register(board, "STATUS") == BUSY | LIVE
    assert register(board, "RUN_CYCLES_LO") < 0.009 * CLOCK_HZ
    wall.passes(0.009)
    assert register(board, "STATUS") == BUSY | LIVE and max(gates(board)) > 3
    wall.passes(0.002)
    assert register(board, "STATUS") == DONE | LIVE
    assert register(board, "RUN_CYCLES_LO") == pytest.approx(0.01 * CLOCK_HZ, rel=0.02)


def test_safe_takes_back_a_start_that_waits(board, wall):
    load(board, waiting(0.05))
    for command in (CTRL_SAFE, CTRL_START, CTRL_SAFE):
        put(board, "CTRL", command)
    wall.passes(0.01)
    assert register(board, "STATUS") == DONE and gates(board) == {0.0}


def test_the_safe_program_leaves_what_the_program_before_it_has_told(board, wall):
    program = reading()
    program.wait(1e-3)
    program.convert([0, 1])
    program.idle()
    start(board, program.words())
    wall.passes(0.01)
    told = [register(board, name) for name in ("RESULT_COUNT", "RUN_CYCLES_LO")]
    assert told[0] == 2 * SPEC.adcs
    put(board, "CTRL", CTRL_SAFE)
    wall.passes(0.01)
    assert [register(board, name) for name in ("RESULT_COUNT", "RUN_CYCLES_LO")] == told


# ---- state ----------------------------------------------------------------------------------


def test_no_snapshot_of_a_program_under_way(board, wall):
    start(board, waiting(0.2).words())
    with pytest.raises(InputError, match="a snapshot while a program runs: wait .* SAFE"):
        board.snapshot()
    put(board, "CTRL", CTRL_SAFE)
    blob = board.snapshot()  # the safe program has come to its end
    assert register(board, "STATUS") == DONE | FAULT
    start(board, waiting(0.2).words())
    with pytest.raises(InputError, match="a snapshot to be taken over while a program runs"):
        board.restore(blob)


def test_switching_off_in_a_program_keeps_the_pulses_that_were_given(wall, tmp_path):
    path = tmp_path / "chip"
    board = with_cells(board_on(wall, pace=1.0, state=path))
    program = pulse_program([50, 50])
    program.wait(0.2)
    program.add(Op.PULSE, value=50)
    start(board, program.words())
    wall.passes(0.1)
    board.close()
    again = EmulatedBoard("ideal", seed=3, spec=SPEC, state=path)
    assert again.truth.pulses.sum() == 2 * SPEC.cols
    assert register(board, "STATUS") & BUSY == 0


@pytest.mark.parametrize("pace", ["0", "-1", "nan", "inf", "fast"])
def test_a_pace_that_is_none_is_refused(pace):
    with pytest.raises(InputError, match=f"pace .*{pace}"):
        open_url(f"sim://?preset=ideal&pace={pace}")


# ---- with a host, on the wall's own clock ---------------------------------------------------


def test_a_host_drives_a_paced_board_as_any_other_while_others_look():
    emulated = open_url("sim://?preset=ideal&seed=1&pace=5")
    stop, looks = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            truth = emulated.truth
            looks.append((truth.live, max(truth.rails_v[f"WL{row}"] for row in range(32))))

    watchers = [threading.Thread(target=look) for _ in range(2)]
    try:
        with open_board(emulated) as board:
            for thread in watchers:
                thread.start()
            board.wait(0.2)
            g = board.array.read(1)
            trips = register(emulated, "WATCHDOG_TRIPS")
    finally:
        stop.set()
        for thread in watchers:
            thread.join()
    assert trips == 0 and g.shape == (32, 32)
    assert not any(gate > 0 and not live for live, gate in looks)
    assert any(live for live, _ in looks)
    assert not emulated.truth.live


def test_ctrl_c_in_a_wait_stops_it_and_the_next_program_runs():
    emulated = open_url("sim://?preset=ideal&seed=1&pace=1")

    def interrupted(passed_s: float, takes_s: float) -> None:
        raise KeyboardInterrupt

    with open_board(emulated) as board:
        for call in (lambda: board.wait(60.0, interrupted),):
            with pytest.raises(KeyboardInterrupt):
                call()
        assert board.array.read(1).shape == (32, 32)


def test_who_opens_a_board_that_is_still_busy_stops_it_first():
    emulated = open_url("sim://?preset=ideal&seed=1&pace=1")
    with open_board(emulated) as board:
        program = board._core.program()
        program.wait(60.0 / 32)
        load(emulated, program)
        put(emulated, "CTRL", CTRL_START)
        assert register(emulated, "STATUS") & BUSY
        with open_board(emulated) as other:
            assert other.array.read(1).shape == (32, 32)


def test_a_program_that_somebody_else_stops_is_no_answer():
    emulated = open_url("sim://?preset=ideal&seed=1&pace=1")

    def somebody(passed_s: float, takes_s: float) -> None:
        put(emulated, "CTRL", CTRL_SAFE)

    with open_board(emulated) as board:
        with pytest.raises(BoardFault, match=r"STOPPED: stopped by SAFE .*WAIT"):
            board.wait(60.0, somebody)
        assert board.array.read(1).shape == (32, 32)
