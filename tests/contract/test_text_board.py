"""What the text dialect does with a board: programs, set-up, cells, products."""

import threading

import numpy as np
import pytest

from firmware_bridge import dac_check, limits, opening, registers
from firmware_bridge.microcode import Assembler, Op
from firmware_bridge.text import board as text_board
from firmware_bridge.text import scpi
from firmware_bridge.text.instrument import TextSession
from rram_host import open_board
from sim.board import EmulatedBoard
from tests.held_board import HeldBoard
from tests.text_rig import Bench, DirectAccess, errors, unblock


@pytest.fixture
def bench():
    bench = Bench(EmulatedBoard(preset="ideal", seed=7))
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def programmed():
    """A board with a ramp of conductances, and what its cells conduct."""
    board = EmulatedBoard(preset="ideal", seed=7)
    with open_board(board) as opened:
        opened.array.program(np.linspace(20e-6, 80e-6, 1024).reshape(32, 32))
    return Bench(board), board.truth.conductances_siemens


# ---- programs -------------------------------------------------------------------------------


def test_programs_run_and_answer(bench):
    ask = bench.client()
    program = dac_check.readback_program(bench.board.spec)
    ask("PROG:LOAD ", scpi.block(program.words().astype("<u4").tobytes()))
    assert ask("*OPC?;PROG:STAT?") == b'1;IDLE,0,""\n'
    ask("PROG:RUN")
    assert ask("*OPC?;PROG:STAT?") == b'1;DONE,32,""\n'
    words = unblock(ask("PROG:RES?"), "<u2")
    assert dac_check.faults_in(words, bench.board.spec) == {}
    assert errors(ask) == []


def test_the_table_goes_with_the_program(bench):
    ask = bench.client()
    program = Assembler()
    program.add(Op.DACT, addr=8, mask=1, value=2)
    ask("PROG:LOAD ", scpi.block(program.words().astype("<u4").tobytes()))
    ask("PROG:TABL ", scpi.block(np.zeros(2, "<u2").tobytes()))
    ask("PROG:RUN")
    (said,) = errors(ask)
    assert said.startswith("-240") and "TABLE_OVERRUN" in said and "element 2" in said
    assert ask("PROG:STAT?").startswith(b'FAULT,0,"TABLE_OVERRUN')
    ask("PROG:TABL ", scpi.block(np.zeros(3, "<u2").tobytes()), ";RUN")
    assert ask("*OPC?;PROG:STAT?") == b'1;DONE,0,""\n'


def test_a_fault_names_rule_and_word_and_leaves_the_rails_safe(bench):
    ask = bench.client()
    program = Assembler()
    program.add(Op.MARK, value=1)
    program.add(Op.DAC, addr=8, mask=0x10, value=0xFFFF)  # a gate far beyond its limit
    ask("PROG:LOAD ", scpi.block(program.words().astype("<u4").tobytes()))
    ask("PROG:RUN")
    (said,) = errors(ask)
    assert "LIMIT" in said and "word 1" in said
    rails = bench.board.truth.rails_v
    assert all(rails[f"WL{row}"] == 0 for row in range(32))
    assert ask("READ? 0,0") != b""  # the latch is cleared


def test_who_did_not_start_a_program_is_told_its_fault_too():
    emulated = EmulatedBoard(preset="ideal", seed=7)
    words = np.array([0xFFFFFFFF], dtype=np.uint32)  # no instruction
    emulated.write(registers.PROGRAM.offset, words)
    for name, value in (("ENTRY", 0), ("CTRL", registers.CTRL_START)):
        emulated.write(registers.offset(name), np.array([value], dtype=np.uint32))
    bench = Bench(emulated)
    ask = bench.client()
    for _ in range(2):  # a look changes nothing
        assert ask("PROG:STAT?").startswith(b'FAULT,0,"BAD_INSTRUCTION')
    assert errors(ask) == []
    bench.close()


def test_a_running_program_can_be_waited_for_stopped_and_not_disturbed():
    held = HeldBoard(EmulatedBoard(preset="ideal", seed=7))
    bench = Bench(held)
    ask, other = bench.client(), bench.client("other")
    ask("*RST;*CLS")
    program = dac_check.readback_program(held.spec)
    ask("PROG:LOAD ", scpi.block(program.words().astype("<u4").tobytes()))
    held.hold()
    ask("PROG:RUN;*OPC")
    assert ask("PROG:STAT?").startswith(b"RUNNING,")
    assert ask("*ESR?") == b"0\n"
    ask("PROG:RES?")
    ask("READ? 0,0")
    assert [said[:4] for said in errors(ask)] == ["-221", "-221"]
    kicks = held.kicks
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(ask("*WAI;PROG:STAT?")))
    waiting.start()
    held.until(lambda: held.kicks > kicks + 2)  # it waits, and keeps the watchdog from running out
    assert other("REG? IDENT;*OPC;:PROG:STAT?").startswith(b"1381122381;RUNNING")
    assert answers == []
    held.release()
    waiting.join(30)
    assert answers == [b'DONE,32,""\n']
    assert int(ask("*ESR?")) & 1
    bench.close()


def test_safe_stops_a_program_under_way():
    bench = Bench(EmulatedBoard(preset="ideal", seed=7, pace=1.0))
    ask = bench.client()
    program = Assembler()
    with program.loop(100):
        program.add(Op.WAIT, value=250_000_000)
    ask("*RST;:REG WATCHDOG,0")  # however long this machine sleeps
    ask("PROG:LOAD ", scpi.block(program.words().astype("<u4").tobytes()), ";RUN")
    assert ask("PROG:STAT?").startswith(b"RUNNING")
    ask("SAFE")
    assert ask("*OPC?;PROG:STAT?").startswith(b'1;FAULT,0,"STOPPED')
    assert [said[:4] for said in errors(ask)] == ["-240"]
    assert ask("READ? 0,0") != b""
    bench.close()


def test_who_goes_away_breaks_off_the_waiting():
    held = HeldBoard(EmulatedBoard(preset="ideal", seed=7))
    gone = threading.Event()
    session = TextSession(DirectAccess(held), gone.is_set)
    session.execute(b"*RST")
    program = dac_check.readback_program(held.spec)
    block = scpi.block(program.words().astype("<u4").tobytes())
    session.execute(b"PROG:LOAD " + block)
    held.hold()
    session.execute(b"PROG:RUN")
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(session.execute(b"*OPC?")))
    waiting.start()
    kicks = held.kicks
    held.until(lambda: held.kicks > kicks)
    gone.set()
    waiting.join(30)
    assert answers == [b""]
    assert b"-365" in session.execute(b"SYST:ERR?")
    held.release()


# ---- set-up ---------------------------------------------------------------------------------


def test_a_board_as_after_power_up_is_set_up_first(bench):
    ask = bench.client()
    assert not bench.board.read(registers.LIMITS_OFFSET, 64).any()
    assert float(ask("READ? 1,2")) == pytest.approx(0, abs=1e-7)
    words = bench.board.read(registers.LIMITS_OFFSET, 64)
    assert (words == limits.limit_words(bench.board.spec)).all()
    assert bench.board.read(registers.offset("SAFE_ENTRY"), 1)[0] == opening.SAFE_ENTRY


def test_what_a_host_has_set_up_stays():
    board = EmulatedBoard(preset="ideal", seed=7)
    bench = Bench(board)
    with open_board(board):
        pass
    lower = limits.limit_words(board.spec) // 2
    board.write(registers.LIMITS_OFFSET, lower)
    ask = bench.client()
    ask("*TST?")
    assert (board.read(registers.LIMITS_OFFSET, 64) == lower).all()
    ask("*RST")
    assert (board.read(registers.LIMITS_OFFSET, 64) == limits.limit_words(board.spec)).all()
    bench.close()


def test_self_test_passes_and_names_what_is_wrong():
    for defects, code, words in (("", 0, []), ("dead_dac:3", 16, ["DAC chip 3", "no answer"])):
        bench = Bench(EmulatedBoard(preset="ideal", seed=7, defects=defects))
        ask = bench.client()
        assert ask("*TST?") == b"%d\n" % code
        said = " ".join(errors(ask))
        assert all(word in said for word in words)
        assert bool(said) == bool(code)
        bench.close()


def test_safe_brings_the_rails_down(bench):
    ask = bench.client()
    ask("*RST")
    program = Assembler()
    program.add(Op.DAC, addr=8, mask=0x10, value=0x8000)
    program.add(Op.DAC, addr=5, mask=0xFF, value=0x10)
    ask("PROG:LOAD ", scpi.block(program.words().astype("<u4").tobytes()), ";RUN")
    assert bench.board.truth.rails_v["WL0"] == pytest.approx(2.5)
    ask("SAFE")
    assert bench.board.truth.rails_v["WL0"] == 0
    assert errors(ask) == []


# ---- the array ------------------------------------------------------------------------------


def test_cells_read_as_they_conduct(programmed):
    bench, truth = programmed
    ask = bench.client()
    g = unblock(ask("READ:ARR?"), "<f4").reshape(32, 32)
    # half a code of 24 nS, and drops along lines, which `ideal` has none of
    assert np.abs(g - truth).max() < 0.02e-6
    for row, col in ((0, 0), (3, 17), (31, 31)):
        assert float(ask(f"READ? {row},{col}")) == pytest.approx(truth[row, col], abs=0.02e-6)
    assert errors(ask) == []
    bench.clients.pop().close()


def test_products_are_what_the_cells_make(programmed):
    bench, truth = programmed
    ask = bench.client()
    rng = np.random.default_rng(3)
    volts = rng.uniform(-0.1, 0.1, (100, 32)).astype("<f4")
    wanted = volts @ truth.T
    # one code of each range: half of it the conversion, half of it that of the zeros
    for extra, lsb_a in (("", 31.4e-9), (",0", 31.4e-9), (",1", 11e-9)):
        amperes = unblock(ask("VMM? ", scpi.block(volts.tobytes()), extra), "<f4").reshape(100, 32)
        assert np.abs(amperes - wanted).max() < 1.2 * lsb_a
    assert errors(ask) == []
    bench.clients.pop().close()


def test_voltages_beyond_the_read_voltage_are_refused(programmed):
    bench, _ = programmed
    ask = bench.client()
    before = int(ask("REG? CYCLES_LO"))
    for worst, word in ((0.1001, "0.1 V (read voltage)"), (np.nan, "not finite")):
        volts = np.zeros((2, 32), "<f4")
        volts[1, 5] = worst
        assert ask("VMM? ", scpi.block(volts.tobytes())) == b""
        (said,) = errors(ask)
        assert said.startswith("-222") and word in said
    assert int(ask("REG? CYCLES_LO")) == before
    full = np.full((1, 32), 0.1, "<f4")  # a little above 0.1 V as a float32
    assert ask("VMM? ", scpi.block(full.tobytes())) != b""
    bench.clients.pop().close()


def test_currents_beyond_a_range_are_refused(programmed):
    bench, _ = programmed
    ask = bench.client()
    full = np.full((3, 32), 0.1, "<f4")
    assert ask("VMM? ", scpi.block(full.tobytes()), ",3") == b""
    (said,) = errors(ask)
    assert said.startswith("-222") and "range 3" in said
    bench.clients.pop().close()


def test_a_batch_is_one_program(programmed):
    bench, _ = programmed
    ask = bench.client()
    ask("READ? 0,0")
    executed = bench.agent.executed
    volts = np.zeros((4096, 32), "<f4")
    ask("VMM? ", scpi.block(volts.tobytes()))
    assert bench.agent.executed - executed < 30
    many = np.zeros((8192, 32), "<f4")
    assert ask("VMM? ", scpi.block(many.tobytes())) == b""
    assert errors(ask)[0].startswith("-223")
    bench.clients.pop().close()


def test_a_program_is_not_waited_for_without_end(monkeypatch):
    """Nobody sees that a client on a serial line is gone: the watchdog is not kept from it."""
    monkeypatch.setattr(text_board, "_KEPT_S", 0.05)
    # its wall clock stands still: a program that was begun goes on for ever
    bench = Bench(EmulatedBoard(preset="ideal", seed=7, pace=1.0, wall=lambda: 0.0))
    access = bench.client()
    program = Assembler()
    program.add(Op.WAIT, value=10**8)
    board = bench.board
    board.write(registers.PROGRAM.offset, program.words())
    board.write(registers.offset("CTRL"), np.array([registers.CTRL_START], np.uint32))
    assert access("*OPC?") == b""
    (said,) = errors(access)
    assert said.startswith("-365") and "PROGram:STATe?" in said
    bench.close()
