"""Loops that only wait: one addition, and equal to going through them turn by turn."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.microcode import Fault, Instruction, Op, total_cycles
from sim.board import EmulatedBoard
from sim.idle_loops import idle_loop
from tests.sim.programs import END, ins, register, small_spec, start, with_cells
from tests.sim.test_emulated_interpreters import _everything

LEAF = st.one_of(
    st.builds(lambda n: [ins(Op.WAIT, value=n)], st.integers(0, 3000)),
    st.builds(lambda n: [ins(Op.MARK, value=n)], st.integers(0, 9)),
)


def _loop(body: list[list[Instruction]], count: int, stride: int) -> list[Instruction]:
    inside = [item for block in body for item in block]
    return [ins(Op.LOOP, value=count), *inside, ins(Op.NEXT, value=stride)]


def _loops(body: st.SearchStrategy) -> st.SearchStrategy:
    return st.builds(_loop, st.lists(body, max_size=3), st.integers(1, 4), st.integers(0, 5))


# up to five deep, one more than the sequencer has
IDLE = _loops(st.recursive(LEAF, _loops, max_leaves=6))


@pytest.mark.parametrize("batched", [True, False])
@given(loops=st.lists(st.one_of(IDLE, LEAF), min_size=1, max_size=3))
def test_waiting_at_once_is_waiting_turn_by_turn(batched, loops):
    """Clock, mark, pointer (seen by a table access behind the loops), noise, cells and faults."""
    items = [item for block in loops for item in block]
    look = ins(Op.DACT, addr=8, mask=1, value=0)
    boards = [
        with_cells(EmulatedBoard("taox_180nm", seed=3, spec=small_spec(), batched=batched))
        for _ in range(2)
    ]
    boards[1]._sequencer._idle_loop = lambda *_: None
    for board in boards:
        start(board, [*items, look, END], table=range(32))
    one, other = map(_everything, boards)
    assert one == other
    if register(boards[0], "FAULT_CODE") == Fault.NONE:
        assert boards[0].clock.cycles == total_cycles([*items, look, END])


def test_loops_that_do_more_than_wait_are_left_alone():
    for item in (ins(Op.CONV), ins(Op.PULSE, value=50), ins(Op.PTR, value=1), ins(Op.LINES)):
        program = [ins(Op.LOOP, value=3), ins(Op.WAIT, value=5), item, ins(Op.NEXT), END]
        assert idle_loop(program, 0) is None
    assert idle_loop([ins(Op.LOOP, value=3), ins(Op.WAIT, value=5), None], 0) is None
    assert idle_loop([ins(Op.LOOP, value=3), ins(Op.WAIT, value=5)], 0) is None


def test_the_longest_loops_take_no_wall_time():
    """Two loops of 2^28 - 1 turns in each other, around the longest WAIT, are 2e17 s."""
    most = 2**28 - 1
    program = [ins(Op.WAIT, value=most)]
    for _ in range(2):
        program = [ins(Op.LOOP, value=most), *program, ins(Op.NEXT)]
    board = EmulatedBoard("ideal", spec=small_spec())
    begun = time.perf_counter()
    start(board, [*program, END])
    assert time.perf_counter() - begun < 0.5
    assert board.clock.cycles == total_cycles([*program, END]) > 10**25
