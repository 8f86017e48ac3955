"""The static check: what passes never faults, what the host makes passes, and every rule bites."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge import board_spec, microcode, registers
from firmware_bridge.assembly import assemble
from firmware_bridge.lines import LineProgram
from firmware_bridge.microcode import Instruction, Op, encode
from rram_host import open_board
from rram_host.array.pulses import ArrayProgram, set_train
from rram_host.board.check import Limits, check_program
from rram_host.board.check.checker import Checker
from rram_host.board.check.limits import board_of
from rram_host.errors import InputError
from sim.board import EmulatedBoard
from tests.board.host_programs import KINDS, SPECS, host_program, pulsing, reading
from tests.sim import programs
from tests.sim.programs import (
    DONE,
    cases,
    put,
    read_cases,
    register,
    run_case,
    small_spec,
    train_cases,
)

SPEC = board_spec.load()
SMALL = small_spec()
TRIED = EmulatedBoard("ideal", spec=SMALL)
OPEN = Limits.of(SMALL).but(
    channel_words=np.full(64, 0xFFFF, dtype=np.uint32), pulse_s=2.6, pulses=0xFFFF_FFFF
)


def _check(case: programs.Case):
    limits = OPEN.but(channel_words=np.array(case.limits, dtype=np.uint32))
    return check_program(case.words, case.table[: case.table_count], SMALL, limits, True)


def _rules(words, table=None, **changes) -> list[str]:
    found = check_program(words, table, SPEC, Limits.of(SPEC).but(**changes))
    return [violation.rule for violation in found.violations]


# ---- what passes does not fault -------------------------------------------------------------


@settings(deadline=None)
@given(st.one_of(cases(), read_cases(), train_cases()))
def test_a_program_that_passes_does_not_fault_and_one_that_faults_does_not_pass(case):
    found = _check(case)
    put(TRIED, "CTRL", programs.CTRL_RESET)
    run_case(TRIED, case)
    board = TRIED
    if register(board, "STATUS") & DONE == 0:
        assert not found.passed
    elif found.passed:
        assert register(board, "RUN_CYCLES_LO") == round(found.total_s * microcode.CLOCK_HZ)
        assert register(board, "RESULT_COUNT") == found.results
        assert register(board, "PULSE_COUNT") == found.pulse_count


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.name}-{spec.polarity}")
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_host_makes_passes_and_runs(kind, spec):
    words, table = host_program(kind, spec)
    found = check_program(words, table, spec, from_power_up=kind == "start")
    assert [str(violation) for violation in found.violations] == []
    emulated = EmulatedBoard("ideal", spec=spec)
    with open_board(emulated, spec=spec) as board:
        driver, before = board._core.driver, board.pulses_since_power_up
        driver.checker = None if kind == "start" else driver.checker
        driver.run(_Raw(words), table)
        assert board.pulses_since_power_up - before == found.pulse_count


class _Raw(microcode.Assembler):
    """Words as a program."""

    def __init__(self, words) -> None:
        self._items = microcode.decode(words.tolist())[:-1]


# ---- what is told ---------------------------------------------------------------------------


def test_pulses_energy_peaks_and_time_of_a_set():
    cells = np.zeros((32, 32), dtype=bool)
    cells[3, 5] = cells[4, 5] = cells[7, 9] = True
    program = ArrayProgram(SPEC)
    program.pulse(set_train(SPEC, cells, np.full(cells.shape, 1.5), 1.8, 2e-6))
    found = check_program(program.asm.words(), program.table, SPEC)
    assert found.passed
    assert np.array_equal(found.pulses > 0, cells) and found.pulses.max() == 1
    # from the update to the end of the pulse: 5 us of settling, which is rounded up, and 2 us, and
    # a cycle each
    energy_j = 1.8**2 * SPEC.conductance_max_siemens * (5e-6 + 2e-6 + 3 * 10e-9)
    np.testing.assert_allclose(found.energy_j[cells], energy_j, rtol=1e-4)
    assert found.energy_j[~cells].max() == 0
    np.testing.assert_allclose(found.bl_peak_v[[5, 9, 6]], [1.8, 1.8, 0], atol=1e-4)
    np.testing.assert_allclose(found.wl_peak_v[[3, 7, 0]], [1.5, 1.5, 0], atol=1e-4)
    np.testing.assert_allclose(found.peak_v[cells], 1.8, atol=1e-4)
    cycles = microcode.total_cycles(program.asm.instructions())
    assert found.total_s == cycles / microcode.CLOCK_HZ
    assert found.pulse_count == 2  # one a column


BODY = st.lists(
    st.one_of(
        st.builds(lambda v: Instruction(Op.WAIT, value=v), st.sampled_from([0, 60, 500, 26_000])),
        st.builds(lambda v: Instruction(Op.PULSE, value=v), st.sampled_from([30, 90])),
        st.builds(lambda c: Instruction(Op.DAC, 8, 1, c), st.sampled_from([0, 20_000])),
        st.builds(lambda c: Instruction(Op.DAC, 9, 1, c), st.sampled_from([0, 30_000])),
        st.builds(lambda c: Instruction(Op.DAC, 8, 4, c), st.sampled_from([0, 40_000])),
        st.builds(lambda v: Instruction(Op.DACT, 9, 1, v), st.integers(0, 3)),
        st.builds(lambda v: Instruction(Op.PTR, value=v), st.integers(0, 5)),
        st.just(programs.LATCH),
        st.just(Instruction(Op.LINES, value=9)),
        st.just(Instruction(Op.LINES, value=8)),
        st.just(programs.CONV_0),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None)
@given(BODY, BODY, st.integers(1, 9), st.integers(1, 3), st.sampled_from([0, 0, 1]))
def test_loops_are_worth_what_their_turns_are(inner, outer, count, turns, stride):
    """Counted turns against turns that are written out; the steps of LOOP and NEXT are waits."""
    start = [Instruction(Op.DAC, 2, 7, 0xFF), Instruction(Op.DAC, 4, 7, 0xFF)]
    start += [Instruction(Op.LINES, value=8), programs.shift_of((0, 0, 2, 3)), programs.SETTLE]
    step = [Instruction(Op.WAIT, value=0)]
    moved = [Instruction(Op.LOOP, value=1), Instruction(Op.NEXT, value=stride)]
    looped = [
        Instruction(Op.LOOP, value=turns),
        *outer,
        Instruction(Op.LOOP, value=count),
        *inner,
        Instruction(Op.NEXT, value=stride),
        Instruction(Op.NEXT, value=0),
    ]
    # a turn ends with NEXT: one cycle, and the pointer; here a loop of one turn, of two cycles
    one = [*inner, *moved]
    plain = [*step, *([*outer, *step, *(one * count), *step] * turns)]
    table = list(range(10_000, 60_000, 1_000))
    limits = OPEN.but(waiting_s=1.0)
    rolled = check_program(encode([*start, *looped, programs.END]), table, SMALL, limits, True)
    written = check_program(encode([*start, *plain, programs.END]), table, SMALL, limits, True)
    assert rolled.results == written.results
    assert rolled.pulse_count == written.pulse_count
    assert np.array_equal(rolled.pulses, written.pulses)
    if stride == 0 and not any(item.op is Op.DACT for item in (*inner, *outer)):
        extra = count * turns  # cycles that the written turns take longer
        cycles = round((written.total_s - rolled.total_s) * microcode.CLOCK_HZ)
        assert cycles == extra
    assert np.array_equal(rolled.peak_v, written.peak_v)
    assert np.array_equal(rolled.bl_peak_v, written.bl_peak_v)


def test_a_million_cycles_are_counted_without_being_walked():
    cells = np.zeros((32, 32), dtype=bool)
    cells[3, 5] = True
    program = ArrayProgram(SPEC)
    with program.asm.loop(1_000_000):
        program.pulse(set_train(SPEC, cells, np.full(cells.shape, 1.5), 1.8, 1e-6))
    found = check_program(program.asm.words(), program.table, SPEC)
    assert found.passed
    assert found.pulses[3, 5] == found.pulse_count == 1_000_000
    assert found.total_s == microcode.total_cycles(program.asm.instructions()) / 1e8
    assert _rules(program.asm.words(), program.table, cell_pulses=999_999) == ["CELL_PULSES"]


# ---- rules, one by one ----------------------------------------------------------------------


def test_the_two_programs_that_the_rules_are_tried_on_pass():
    assert _rules(assemble(reading())) == []
    assert _rules(assemble(pulsing())) == []


CASES = {
    "LIMIT": (pulsing().replace("data=19661", "data=65535"), "BL0"),
    "DAC_UPDATE_TOO_SOON": (reading(after="DAC addr=5 chips=1 data=16\n" * 2), ""),
    "NOT_SETTLED": (pulsing().replace("WAIT 500", "WAIT 498"), ""),
    "TABLE_OVERRUN": (reading(after="DACT addr=8 chips=1 table=7"), "table element 7"),
    "RESULT_OVERRUN": (reading(after="LOOP 40000\nCONV 0\nNEXT 0"), "result"),
    "BAD_SELECT": (reading(after="CONV 4"), "input 4"),
    "DAC_IN_RESET": (
        reading(
            after="LINES enable=0 range=0 oe=1\nDAC addr=5 chips=8 data=10\nDREAD addr=1 chips=8"
        ),
        "DAC chip",
    ),
    "SWITCH_ADDRESS_MOVED": (reading(after="SHIFT bits=64 0 0"), ""),
    "SWITCH_TOO_SOON": (reading().replace("WAIT 700", "WAIT 30"), ""),
    "ENABLE_WITHOUT_LATCH": (reading(after="LINES enable=1 range=0 oe=0"), ""),
    "PULSE_TOO_SHORT": (pulsing(width=20), ""),
    "PULSE_LIMIT": (pulsing(width=100_001), ""),
    "REGISTER": (reading(after="DAC addr=3 chips=1 data=0x800"), "address 3 of DAC chip 0"),
    "UNLATCHED": (
        reading(
            after="LINES enable=0 range=0 oe=1\nWAIT 100\nDAC addr=5 chips=0x10 data=10\n"
            "WAIT 26000\nDAC addr=11 chips=0x10 data=0"
        ),
        "DAC chip 4",
    ),
    "RANGE_MOVED": (reading(after="DAC addr=4 chips=2 data=0xFF"), "DAC chip 1"),
    "RANGE_UNKNOWN": (reading().replace("DAC addr=4 chips=0x0F data=0x0100", ""), "DAC chip 0"),
    "CHAIN_LENGTH": (reading().replace("SHIFT bits=64", "SHIFT bits=63"), ""),
    "READ_VOLTAGE": (reading(bl_code=53_500), "cell (3, 0)"),
    "FIGHT": (reading(inputs=2), "cell (3, 0)"),
    "HALF_SELECT": (pulsing(bl="DAC addr=9 chips=0x02 data=5000"), "cell (3, 9)"),
    "GATES_FIRST": (reading().replace("DAC addr=11 chips=0x10 data=0\n", ""), ""),
    "NOT_IDLE": (reading().replace("DAC addr=8 chips=0x0F data=0\n", "", 1), "BL0"),
    "LINES_WAITING": (pulsing().replace("WAIT 500", "WAIT 6000"), ""),
    "TOO_LONG": (
        reading(after="LINES enable=0 range=0 oe=1\nLOOP 0xFFFFFFF\nWAIT 0xFFFFFFF\nNEXT 0"),
        "",
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_every_rule_bites_and_names_what_it_is_about(rule):
    text, subject = CASES[rule]
    found = check_program(assemble(text), None, SPEC)
    mine = [violation for violation in found.violations if violation.rule == rule]
    assert mine, [str(violation) for violation in found.violations]
    assert subject in mine[0].subject
    assert str(mine[0]).startswith(rule)
    with pytest.raises(InputError, match="program refused"):
        found.raise_violations()


def test_lines_do_not_stand_on_open_gates_without_a_pulse_either():
    behind = pulsing(after="WAIT 6000")
    for text in (behind, behind.replace("PULSE", "WAIT")):
        assert _rules(assemble(text)) == ["LINES_WAITING"], text


@pytest.mark.parametrize(
    "words",
    [[], [0x6000_0001], [0xF000_0000, 0], [0xA000_0000, 0], [0x9000_0001, 0], [0x4000_0040, 1]],
)
def test_words_that_are_no_program_are_refused(words):
    found = check_program(words, None, SPEC)
    assert {violation.rule for violation in found.violations} <= {
        "BAD_INSTRUCTION",
        "PROGRAM_OVERRUN",
    }
    assert not found.passed


def test_budgets_are_limits():
    program = ArrayProgram(SPEC)
    cells = np.ones((32, 32), dtype=bool)
    program.pulse(set_train(SPEC, cells, np.full(cells.shape, 1.5), 1.8, 1e-6))
    words, table = program.asm.words(), program.table
    assert _rules(words, table) == []
    assert _rules(words, table, pulses=31) == ["PULSES_LIMIT"]
    assert _rules(words, table, cell_energy_j=1e-9) == ["CELL_ENERGY"]
    assert _rules(words, table, cell_pulses=0) == ["CELL_PULSES"]
    assert "TOO_LONG" in _rules(words, table, total_s=100e-6)


# ---- the driver -----------------------------------------------------------------------------


class _Watched:
    """A link that counts writes to the program memory."""

    def __init__(self, board) -> None:
        self._board, self.uploads = board, 0

    def read(self, address, count):
        return self._board.read(address, count)

    def write(self, address, words):
        self.uploads += address == registers.PROGRAM.offset
        self._board.write(address, words)

    def close(self):
        self._board.close()


def test_run_refuses_before_anything_is_uploaded():
    link = _Watched(EmulatedBoard("ideal"))
    with open_board(link) as board:
        program = LineProgram(SPEC)
        program.bl.immediate(program, np.full(32, 9000, dtype=np.uint16))
        program.latch()
        before = link.uploads
        with pytest.raises(InputError, match="RANGE_UNKNOWN, DAC chip 0: .*more violations?$"):
            board._core.driver.run(program)
        assert link.uploads == before
        board.array.read()  # and the board goes on


def _opened_checker() -> Checker:
    """As after opening a board: the first program is the one that resets the DACs."""
    checker = Checker(SPEC)
    checker.check(host_program("start", SPEC)[0], None)
    return checker


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(40_000, 54_000), st.integers(40_000, 54_000)), min_size=1, max_size=6
    )
)
def test_a_checker_lets_through_only_what_a_whole_check_lets_through(ranges):
    checker, program = _opened_checker(), ArrayProgram(SPEC)
    program.add_read(3, 0, np.arange(32), 0)
    words = program.asm.words()
    for one, other in ranges:
        table = np.linspace(one, other, 96).astype(np.uint16)
        passes = True
        try:
            checker.check(words, table)
        except InputError:
            passes = False
        assert passes == check_program(words, table, SPEC).passed


def test_a_shorter_table_is_looked_at_again():
    checker, program = _opened_checker(), ArrayProgram(SPEC)
    program.add_read(3, 0, np.arange(32), 0)
    words, table = program.asm.words(), np.full(96, 47_186, dtype=np.uint16)
    for _ in range(2):
        checker.check(words, table)
    with pytest.raises(InputError, match="TABLE_OVERRUN"):
        checker.check(words, table[:-1])


PLAIN = """
import json, numpy as np
from rram_host.board.check import check_program
from tests.board.host_programs import SPECS, host_program
out = []
for kind in ("read", "set"):
    words, table = host_program(kind, SPECS[0], few=True)
    for codes in (table, np.minimum(table, 40_000), table[:-1]):
        found = check_program(words, codes, SPECS[0])
        out.append([[str(v) for v in found.violations], found.total_s, found.energy_j.sum()])
said = json.dumps(out)
"""


def test_plain_python_says_the_same():
    """Where numba is not installed; its decorator left away stands for that."""
    here: dict[str, str] = {}
    exec(PLAIN, here)
    run = [sys.executable, "-c", PLAIN + "print(said)"]
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    plain = subprocess.run(run, env=env, capture_output=True, text=True, check=True).stdout
    assert json.loads(plain) == json.loads(here["said"])
    assert json.loads(plain)[0][0] == [] and json.loads(plain)[2][0] != []


def test_a_board_of_another_geometry_is_known():
    small = board_of(SMALL, OPEN)
    assert small.line[[9, 0, 18, 5]].tolist() == [0, 1, -2, -1]
    other = dataclasses.replace(SPEC, polarity="te_on_sl", sl_rail_v=3.7)
    assert board_of(other, OPEN).n.tolist() != board_of(SPEC, OPEN).n.tolist()
