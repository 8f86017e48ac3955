"""Opening, refusing and leaving: whatever happens, the rails are safe and the cells untouched."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from firmware_bridge import board_spec, registers
from firmware_bridge.microcode import Op
from rram_host import open_board
from rram_host.array.pulses import ArrayProgram, PulseTrain
from rram_host.errors import BoardFault, ContractError, InputError, LinkError
from sim.board import EmulatedBoard

SPEC = board_spec.load()


def _programmed(preset: str = "ideal") -> EmulatedBoard:
    emulated = EmulatedBoard(preset, seed=1)
    rng = np.random.default_rng(1)
    emulated.bench.cells.g = rng.uniform(20e-6, 80e-6, (32, 32))
    emulated.bench.cells.formed[:] = True
    return emulated


@pytest.fixture
def emulated() -> EmulatedBoard:
    return _programmed()


def _assert_safe(emulated: EmulatedBoard, above_zero_v: float = 1e-12) -> None:
    """BLs and WLs at zero up to the offsets of their DACs, SLs grounded or open."""
    rails = emulated.truth.rails_v
    for line in range(32):
        assert rails[f"BL{line}"] <= above_zero_v
        assert rails[f"WL{line}"] <= above_zero_v
        assert math.isnan(rails[f"SL{line}"]) or rails[f"SL{line}"] == 0.0


def _run_unchecked(board, program) -> None:
    """Run a program that the host itself would refuse."""
    driver = board._core.driver
    checker, driver.checker = driver.checker, None
    try:
        driver.run(program)
    finally:
        driver.checker = checker


def _high_rails(board) -> None:
    """A program that ends with lines up and switches closed."""
    program = board._core.program()
    program.switch_sl(SPEC.sl_tia)
    program.bl_range(0x0100)
    program.bl.immediate(program, np.full(32, 47186, dtype=np.uint16))
    program.wl.immediate(program, np.full(32, 43254, dtype=np.uint16))
    program.latch()
    program.settle()
    program.close_sl(0)
    _run_unchecked(board, program)


class _Altered:
    """A link on which some words of the board read differently."""

    def __init__(self, board: EmulatedBoard, **words: int) -> None:
        self._board = board
        self._words = {registers.offset(name): word for name, word in words.items()}
        self.writes = 0
        self.closed = False

    def read(self, address, count):
        words = self._board.read(address, count)
        for place, word in self._words.items():
            if address <= place < address + 4 * count:
                words[(place - address) // 4] = word
        return words

    def write(self, address, words):
        self.writes += 1
        self._board.write(address, words)

    def close(self):
        self.closed = True


# ---- leaving --------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["ideal", "taox_180nm"])
@pytest.mark.parametrize("kind", [None, RuntimeError, KeyboardInterrupt, SystemExit])
def test_leaving_makes_the_rails_safe_whatever_the_reason(preset, kind):
    emulated = _programmed(preset)
    allowed = 5e-3 if preset == "taox_180nm" else 1e-12  # 5 sigma of 0.75 mV, and gain
    try:
        with open_board(emulated) as board:
            _high_rails(board)
            rails = emulated.truth.rails_v
            assert rails["BL3"] > 0.8 and rails["WL3"] > 3 and rails["SL3"] > 0.8
            if kind:
                raise kind
    except (RuntimeError, KeyboardInterrupt, SystemExit):
        pass
    _assert_safe(emulated, allowed)


def test_safe_works_while_the_board_stays_open_and_in_a_fault(emulated):
    with open_board(emulated) as board:
        _high_rails(board)
        board.safe()
        _assert_safe(emulated)
        _high_rails(board)
        emulated.write(registers.PROGRAM.offset, np.array([0x8000_001F], dtype=np.uint32))
        emulated.write(registers.offset("CTRL"), np.array([1], dtype=np.uint32))
        assert emulated.read(registers.offset("STATUS"), 1)[0] & registers.STATUS_FAULT
        board.safe()
        _assert_safe(emulated)


def test_closing_twice_does_nothing_more(emulated):
    board = open_board(emulated)
    board.close()
    cycles = emulated.clock.cycles
    board.close()
    assert emulated.clock.cycles == cycles


def test_every_operation_ends_with_safe_rails(emulated):
    mask = np.zeros((32, 32), dtype=bool)
    mask[2, 3] = True
    with open_board(emulated) as board:
        array, volts = board.array, np.full((32, 32), 1.5)
        for operation in (
            array.read,
            lambda: array.vmm(np.full((2, 32), 0.05)),
            lambda: array.form(mask),
            lambda: array.set_cells(mask, volts),
            lambda: array.reset_cells(mask, volts),
            lambda: array.program(np.where(mask, 50e-6, np.nan)),
            board.self_test,
        ):
            operation()
            _assert_safe(emulated)


def test_a_board_left_in_any_state_is_made_safe_by_opening_it(emulated):
    _high_rails(open_board(emulated))  # and its host is gone
    with open_board(emulated):
        _assert_safe(emulated)


def test_a_fault_that_the_last_host_left_latched_does_not_keep_the_next_one_out(emulated):
    emulated.write(registers.PROGRAM.offset, np.array([0x8000_001F], dtype=np.uint32))
    emulated.write(registers.offset("CTRL"), np.array([1], dtype=np.uint32))
    assert emulated.read(registers.offset("STATUS"), 1)[0] & registers.STATUS_FAULT
    with open_board(emulated) as board:
        assert board.array.read().shape == (32, 32)


# ---- refusing -------------------------------------------------------------------------------

ONE = np.zeros((32, 32), dtype=bool)
ONE[4, 5] = True
FULL = np.ones((32, 32))
NAN = float("nan")


def _with(value: float) -> np.ndarray:
    volts = np.zeros((2, 32))
    volts[1, 7] = value
    return volts


REFUSED = {
    "input beyond 0.1 V": (lambda a: a.vmm(_with(0.101)), "0.101 V is beyond"),
    "input below -0.1 V": (lambda a: a.vmm(_with(-0.2)), "0.2 V is beyond"),
    "NaN input": (lambda a: a.vmm(_with(NAN)), "1 are not finite"),
    "infinite input": (lambda a: a.vmm(_with(float("inf"))), "1 are not finite"),
    "one vector": (lambda a: a.vmm(np.zeros(32)), r"shape \(32,\), expected \(n, 32\)"),
    "31 columns": (lambda a: a.vmm(np.zeros((4, 31))), r"shape \(4, 31\)"),
    "no vectors": (lambda a: a.vmm(np.zeros((0, 32))), r"shape \(0, 32\)"),
    "text": (lambda a: a.vmm([["a"] * 32]), "expected numbers"),
    "row 32": (lambda a: a.products(np.zeros((1, 32)), rows=[3, 32]), "outside 0..31"),
    "row -1": (lambda a: a.products(np.zeros((1, 32)), rows=[-1]), "outside 0..31"),
    "no rows": (lambda a: a.products(np.zeros((1, 32)), rows=[]), "outside 0..31"),
    "range 4": (lambda a: a.products(np.zeros((1, 32)), tia_range=4), "range 4 is outside 0..3"),
    "average 0": (lambda a: a.read(0), "average 0"),
    "target above": (lambda a: a.program(120e-6 * FULL), r"120 .*at \(0, 0\).*5..110"),
    "target below": (lambda a: a.program(np.where(ONE, 1e-6, 50e-6)), r"at \(4, 5\).*1 such"),
    "negative target": (lambda a: a.program(np.where(ONE, -50e-6, 50e-6)), r"at \(4, 5\)"),
    "infinite target": (lambda a: a.program(np.where(ONE, np.inf, 50e-6)), r"at \(4, 5\)"),
    "target shape": (lambda a: a.program(np.zeros((32, 31))), r"shape \(32, 31\)"),
    "target text": (lambda a: a.program("high"), "expected numbers in siemens"),
    "mask shape": (lambda a: a.form(np.ones((2, 2))), r"mask has shape \(2, 2\)"),
    "gate above": (lambda a: a.set_cells(ONE, 4.6 * FULL), "WL voltage 4.6 V is outside 0..4.5 V"),
    "gate below": (lambda a: a.set_cells(ONE, -0.1 * FULL), "WL voltage -0.1 V is outside"),
    "gate NaN": (lambda a: a.set_cells(ONE, NAN * FULL), "a number for every cell"),
    "gate shape": (lambda a: a.set_cells(ONE, np.ones(32)), r"need shape \(32, 32\)"),
    "SET above": (lambda a: a.set_cells(ONE, FULL, 3.8), "SET voltage 3.8 V is outside 0..3.7 V"),
    "SET below": (lambda a: a.set_cells(ONE, FULL, -0.5), "SET voltage -0.5 V is outside"),
    "SET NaN": (lambda a: a.set_cells(ONE, FULL, NAN), "SET voltage nan V is outside"),
    "RESET above": (lambda a: a.reset_cells(ONE, 3.2 * FULL), "RESET voltage 3.2 V is outside 0"),
    "RESET that SETs": (lambda a: a.reset_cells(ONE, -0.5 * FULL), "-0.5 V is below 0 V"),
    "RESET NaN": (lambda a: a.reset_cells(ONE, NAN * FULL), "a number for every cell"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_asked_is_refused_with_its_reason_and_leaves_the_array_alone(what, emulated):
    ask, words = REFUSED[what]
    before = emulated.truth.conductances_siemens
    with open_board(emulated) as board:
        with pytest.raises(InputError, match=words):
            ask(board.array)
        _assert_safe(emulated)
        assert not emulated.truth.pulses.any()
        assert np.array_equal(emulated.truth.conductances_siemens, before)
        assert np.abs(board.array.read() - before).max() < 0.1e-6  # and the board still works


def test_a_limit_itself_is_allowed_and_the_next_code_is_not(emulated):
    lsb = 5 / 65536
    with open_board(emulated) as board:
        board.array.set_cells(ONE, 0.0 * FULL, SPEC.bl_limit_v)
        with pytest.raises(InputError, match=r"SET voltage 3.70008 V is outside 0..3.7 V"):
            board.array.set_cells(ONE, 0.0 * FULL, SPEC.bl_limit_v + lsb)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"IDENT": 0x1234_5678}, "identity word is 0x12345678, not 0x5252414d"),
        ({"CONTRACT_HASH": 0xDEAD_BEEF}, "board speaks contract 0xdeadbeef, this host"),
        ({"GEOMETRY": 16 << 16 | 32}, "16 x 32 cells.*board file says 32 x 32"),
        ({"GEOMETRY": 32 << 16 | 64}, "32 x 64 cells"),
        ({"CONVERTERS": 8 << 16 | 4}, "4 ADCs"),
        ({"CONVERTERS": 4 << 16 | 8}, "4 DAC chips"),
    ],
)
def test_another_board_is_refused_before_a_word_is_written(emulated, words, message):
    link = _Altered(emulated, **words)
    with pytest.raises(ContractError, match=message):
        open_board(link)
    assert link.writes == 0
    assert link.closed
    assert not emulated.truth.pulses.any()


def test_a_dac_that_does_not_answer_is_named_and_the_rails_are_safe(emulated):
    class Dead(type(emulated.bench.dacs[0])):
        def transfer(self, word, n_clocks=24):
            super().transfer(word, n_clocks)
            return 0

    emulated.bench.dacs[5] = Dead()
    with pytest.raises(BoardFault, match="DAC chip 5: no answer"):
        open_board(emulated)
    _assert_safe(emulated)


def test_lines_that_share_a_chip_are_refused():
    bl, wl = list(SPEC.bl_channel), list(SPEC.wl_channel)
    bl[31], wl[0] = wl[0], bl[31]
    shared = dataclasses.replace(SPEC, bl_channel=tuple(bl), wl_channel=tuple(wl))
    with pytest.raises(InputError, match="BLs and WLs share a DAC chip"):
        open_board(EmulatedBoard("ideal"), spec=shared)


# ---- the device's own limits, and faults ----------------------------------------------------


def test_a_program_beyond_the_device_limits_faults_before_a_rail_moves(emulated):
    with open_board(emulated) as board:
        program = board._core.program()
        too_high = np.full(32, 60000, dtype=np.uint16)  # 4.58 V on a 5 V range
        program.bl_range(0x00FF)
        program.bl.immediate(program, too_high)
        program.latch()
        moved = []
        monitor = emulated.bench.stress

        def watched(*a):
            moved.extend(v for v in emulated.bench.rails_v().values() if v > 0.95)
            monitor(*a)

        emulated.bench.stress = watched
        with pytest.raises(BoardFault, match=r"LIMIT: .*limit register.*DAC   addr=0x8.*made safe"):
            _run_unchecked(board, program)
        assert set(moved) <= {emulated.spec.sl_rail_v}, "lines of the safe program at most"
        assert all(code == 0 for dac in emulated.bench.dacs for code in dac.buffer)
        _assert_safe(emulated)
        board.array.read()  # the latch has been cleared
    assert not emulated.truth.pulses.any()


def test_a_fault_names_its_rule_and_its_instruction(emulated):
    with open_board(emulated) as board:
        program = board._core.program()
        program.latch()
        program.convert([3])
        # the latch is one frame of 0.5 us, and the conversion comes at once
        words = r"NOT_SETTLED: .*5 us.*\(0\.00 us\), 0\.50 us into the program, word 1: CONV  3;"
        with pytest.raises(BoardFault, match=words):
            _run_unchecked(board, program)


def test_a_program_and_a_table_that_do_not_fit_are_refused_before_they_are_sent(emulated):
    with open_board(emulated) as board:
        before = board.traffic.transactions
        program = board._core.program()
        for _ in range(registers.PROGRAM.words):
            program.add(Op.MARK, value=1)
        with pytest.raises(InputError, match="program of 16385 words; the memory holds 16128"):
            board._core.driver.run(program)
        table = np.zeros(2 * registers.TABLE.words + 1, dtype=np.uint16)
        with pytest.raises(InputError, match="input table of 262145 codes"):
            board._core.driver.run(board._core.program(), table)
        assert board.traffic.transactions == before


def test_limits_of_every_channel_are_in_the_device(emulated):
    with open_board(emulated):
        limits = emulated.read(registers.LIMITS_OFFSET, 64)
    assert limits[:32].tolist() == [round(3.7 / 5 * 65536)] * 32
    assert limits[32:].tolist() == [round(4.5 / 5 * 65536)] * 32


# ---- half-select: why unselected bit lines are inhibited ------------------------------------


def _raw_reset(board, unselected_v: float) -> None:
    """RESET cell (4, 5) with 2 V, the other bit lines at a given voltage.

    The pulse is told to be for the whole row: bit lines that are not inhibited are refused else.
    """
    bl = np.full((1, 32), unselected_v)
    bl[0, 5] = SPEC.sl_rail_v - 2.0
    wl = np.zeros((1, 32))
    wl[0, 4] = 4.0
    program = ArrayProgram(SPEC)
    row = np.zeros((1, 32, 32), dtype=bool)
    row[0, 4] = True
    program.pulse(PulseTrain(bl, wl, row, 1e-6, SPEC.sl_rail))
    board._core.driver.run(program.asm, program.table)


def test_an_inhibited_reset_leaves_the_row_alone_and_an_uninhibited_one_does_not(emulated):
    before = emulated.truth.conductances_siemens
    others = np.arange(32) != 5
    with open_board(emulated) as board:
        _raw_reset(board, SPEC.sl_rail_v)
        inhibited = emulated.truth
        _raw_reset(board, 0.0)
    truth = emulated.truth
    assert np.array_equal(inhibited.conductances_siemens[4, others], before[4, others])
    assert inhibited.pulses.sum() == inhibited.pulses[4, 5] == 1
    assert (truth.pulses[4, others] == 1).all()
    assert (truth.conductances_siemens[4, others] < before[4, others] - 5e-6).all()
    elsewhere = np.arange(32) != 4
    assert np.array_equal(truth.conductances_siemens[elsewhere], before[elsewhere])


# ---- what it tells about itself -------------------------------------------------------------


def test_self_test_finds_amplifier_offsets_and_no_faults():
    """16 conversions of 0.76 LSB on 1 LSB of 110 uV: 21 uV; 6 standard errors for 32 rows.

    The offset of its converter is part of what a row shows: 0 V is read through both.
    """
    emulated = _programmed("taox_180nm")
    with open_board(emulated) as board:
        result = board.self_test()
    assert result.passed
    bench = emulated.bench
    shown = bench.tia_offset_v + 109.9e-6 * bench.adc_offset_lsb[list(SPEC.adc_of_row)]
    error = np.abs(result.tia_offset_v - shown)
    assert error.max() < 6 * 109.9e-6 * np.hypot(0.76, 0.29) / 4
    assert not emulated.truth.pulses.any()


def test_self_test_reports_an_amplifier_beyond_its_datasheet(emulated):
    emulated.bench.tia_offset_v[9] = 3e-3
    with open_board(emulated) as board:
        result = board.self_test()
    assert len(result.faults) == 1
    assert result.faults[0].startswith("row 9: amplifier offset 2.97 mV is beyond 2 mV")


def test_info_tells_pulses_and_time_of_the_board(emulated):
    with open_board(emulated) as board:
        board.array.set_cells(ONE, 1.5 * FULL)
        info = board.info()
        assert info["pulses_since_power_up"] == 1
        assert (info["rows"], info["cols"], info["board_file"]) == (32, 32, "zc706")
        assert board.board_time_s == pytest.approx(emulated.clock.cycles / 1e8)
        assert board.traffic.programs > 0


def test_after_a_lost_answer_the_next_program_starts_cleanly():
    class Cut(EmulatedBoard):
        cut = False

        def read(self, address, count):
            if self.cut:
                raise LinkError("cut")
            return super().read(address, count)

    link = Cut("ideal", pace=1.0)
    with open_board(link) as board:
        link.cut = True
        with pytest.raises(LinkError, match="cut"):
            board.array.vmm(np.zeros((2000, 32)))
        link.cut = False
        assert board.array.vmm(np.zeros((2, 32))).shape[0] == 2
