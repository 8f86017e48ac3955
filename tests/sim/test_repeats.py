"""Turns that are done at once are the turns that would have been interpreted, to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from firmware_bridge.board_spec import load
from firmware_bridge.microcode import Fault, Op
from rram_host import open_board
from rram_host.array import masks
from sim import EmulatedBoard, repeats
from tests.sim.programs import (
    END,
    LATCH,
    SETTLE,
    ins,
    put,
    register,
    shift_of,
    small_spec,
    start,
    unlock,
)

CELLS = masks.block((32, 32), 3, 4, 3, 2)


def cycled(turns: int, fewest: int, monkeypatch: pytest.MonkeyPatch) -> dict:
    """All that a loop of RESET and SET pulses leaves behind, and how often cells were pulsed."""
    monkeypatch.setattr(repeats, "_FEWEST", fewest)
    emulated = EmulatedBoard("taox_180nm", seed=9)
    wl_v, reset_v = np.full((32, 32), 1.6), np.full((32, 32), 2.4)
    with open_board(emulated) as board:
        board.array.form(CELLS)
        executed = 0
        run_one = emulated._sequencer._execute

        def execute(item, run):
            nonlocal executed
            executed += 1
            run_one(item, run)

        monkeypatch.setattr(emulated._sequencer, "_execute", execute)
        board.array.cycle_cells(CELLS, wl_v, reset_v, turns, np.full((32, 32), 90e-6))
        seq, cells = emulated._sequencer, emulated.bench.cells
        left = {
            "g": emulated.truth.conductances_siemens,
            "pulses": emulated.truth.pulses,
            "born": cells.born_s.copy(),
            "clock": emulated.clock.cycles,
            "moments": [seq.last_update, seq.last_shift, seq.last_closed, *seq.last_reset],
            "counted": emulated._words[8:].tolist(),
            "later": board.array.read(4),
        }
    return {"left": left, "executed": executed}


@pytest.mark.parametrize("turns", [1, 4, 5, 6, 7, 40])
def test_a_loop_of_cycles_leaves_what_interpreting_it_leaves(
    turns: int, monkeypatch: pytest.MonkeyPatch
):
    quick = cycled(turns, 4, monkeypatch)["left"]
    plain = cycled(turns, 10**9, monkeypatch)["left"]
    for name, value in plain.items():
        np.testing.assert_array_equal(quick[name], value, err_msg=name)
    assert (quick["pulses"][CELLS] >= 2 * turns).all()


def test_turns_are_not_interpreted_one_by_one(monkeypatch: pytest.MonkeyPatch):
    few = cycled(8, 4, monkeypatch)["executed"]
    assert cycled(2000, 4, monkeypatch)["executed"] == few


def test_both_polarities_cycle(monkeypatch: pytest.MonkeyPatch):
    # forming is rail minus bit line there
    spec = replace(load("zc706"), polarity="te_on_sl", sl_rail_v=3.7)
    emulated = EmulatedBoard("taox_180nm", seed=9, spec=spec)
    wl_v, reset_v = np.full((32, 32), 1.6), np.full((32, 32), 2.4)
    with open_board(emulated, spec=spec) as board:
        board.array.form(CELLS)
        before = emulated.truth.pulses
        board.array.cycle_cells(CELLS, wl_v, reset_v, 50, np.full((32, 32), 90e-6))
        g = board.array.read()
    given = emulated.truth.pulses - before
    np.testing.assert_array_equal(given, 100 * CELLS)
    # the last pulse was a SET of 0.9 V above the threshold: 90 uS, spread by 13 % from cell to cell
    assert g[CELLS].mean() == pytest.approx(90e-6, abs=4 * 0.13 * 90e-6 / np.sqrt(6))


def test_loops_that_read_or_stand_still_are_left_alone():
    emulated = EmulatedBoard("ideal", seed=1)
    with open_board(emulated) as board:
        program = board._core.program()
        with program.loop(10):
            program.wait(1e-6)
        with program.loop(10):
            program.add(Op.CONV, value=0)
        items = program.instructions()
    assert not repeats.repeats(items, 0)
    assert not repeats.repeats(items, 3)


@pytest.mark.parametrize("most", [0, 1, 7, 40, 57, 60, 61])
def test_turns_at_once_stop_where_the_pulses_of_a_program_do(most: int, monkeypatch):
    """A loop of 20 turns of 3 pulses, with fewer allowed: pulses, clock and fault are the same."""
    told = []
    for fewest in (4, 10**9):
        monkeypatch.setattr(repeats, "_FEWEST", fewest)
        board = EmulatedBoard("ideal", seed=3, spec=small_spec())
        unlock(board)
        put(board, "PULSES_LIMIT", most)
        pulse = [LATCH, SETTLE, ins(Op.PULSE, value=50)]
        turn = [*pulse, ins(Op.LINES, value=8), *pulse, ins(Op.LINES, value=8), *pulse]
        loop = [ins(Op.LOOP, value=20), *turn, ins(Op.NEXT), END]
        prologue = [ins(Op.DAC, 2, 0b111, 0xFF), ins(Op.LINES, value=8), shift_of((0, 0, 0, 0))]
        start(board, [*prologue, SETTLE, *loop])
        names = ("PULSE_COUNT", "FAULT_CODE", "FAULT_PC", "FAULT_INFO", "FAULT_TIME", "CYCLES_LO")
        told.append({name: register(board, name) for name in names})
    assert told[0] == told[1]
    assert told[0]["PULSE_COUNT"] == min(most, 60)
    assert told[0]["FAULT_CODE"] == (0 if most >= 60 else Fault.PULSES_LIMIT)
