"""The instruction set: encode and decode are inverse, and costs are those of the board's clock."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from firmware_bridge import microcode
from firmware_bridge.errors import InputError
from firmware_bridge.microcode import Instruction, Op, decode, disassemble, encode, total_cycles
from sim.board import EmulatedBoard
from tests.sim.programs import DONE, cases, ins, register, run_case, small_spec, start, with_cells

END = ins(Op.END)
WIDE = (Op.WAIT, Op.PULSE, Op.PTR, Op.MARK)


@st.composite
def _instruction(draw) -> Instruction:
    op = draw(st.sampled_from([o for o in Op if o not in (Op.END, Op.LOOP, Op.NEXT)]))
    if op in (Op.DAC, Op.DACT, Op.DREAD):
        value = 0 if op is Op.DREAD else draw(st.integers(0, 0xFFFF))
        return ins(op, draw(st.integers(0, 15)), draw(st.integers(0, 255)), value)
    if op is Op.SHIFT:
        bits = draw(st.integers(1, 100))
        n_words = -(-bits // 32)
        words = st.lists(st.integers(0, 2**32 - 1), min_size=n_words, max_size=n_words)
        return ins(op, value=bits, data=draw(words))
    top = {Op.LINES: 15, Op.CONV: 31}.get(op, 2**28 - 1)
    return ins(op, value=draw(st.integers(0, top)))


@st.composite
def _block(draw, depth: int = 0) -> list[Instruction]:
    items: list[Instruction] = []
    for _ in range(draw(st.integers(0, 3))):
        if depth < 4 and draw(st.booleans()):
            body = draw(_block(depth + 1))
            count, stride = draw(st.integers(1, 2**28 - 1)), draw(st.integers(0, 0xFFFF))
            items += [ins(Op.LOOP, value=count), *body, ins(Op.NEXT, value=stride)]
        else:
            items.append(draw(_instruction()))
    return items


PROGRAMS = _block().map(lambda items: [*items, END])


@given(PROGRAMS)
def test_decode_is_the_inverse_of_encode(program):
    assert decode(encode(program)) == program


@given(PROGRAMS)
def test_disassembly_has_a_line_an_instruction_with_its_operation_and_word(program):
    lines = disassemble(encode(program)).splitlines()
    assert len(lines) == len(program)
    place = 0
    for line, item in zip(lines, program, strict=True):
        index, name, *_ = line.split()
        assert (int(index), name) == (place, item.op.name)
        place += len(item.encode())


@given(st.integers(0, 2**32 - 1))
def test_a_word_decodes_to_an_instruction_that_encodes_to_it_or_is_refused(word):
    assume(word >> 28 != Op.SHIFT)
    try:
        item = microcode.decode_one([word], 0)
    except InputError:
        return
    assert item.encode() == [word]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (ins(Op.END), [0x0000_0000]),
        (ins(Op.DAC, 8, 0b11, 0x8000), [0x1803_8000]),
        (ins(Op.DACT, 0xF, 0xF0, 0x20), [0x2FF0_0020]),
        (ins(Op.DREAD, 1, 0xFF), [0x31FF_0000]),
        (ins(Op.SHIFT, value=40, data=(0xDEAD_BEEF, 127)), [0x4000_0028, 0xDEAD_BEEF, 127]),
        (ins(Op.LINES, value=0b1011), [0x5000_000B]),
        (ins(Op.WAIT, value=500), [0x6000_01F4]),
        (ins(Op.PULSE, value=100), [0x7000_0064]),
        (ins(Op.CONV, value=3), [0x8000_0003]),
        (ins(Op.LOOP, value=4096), [0x9000_1000]),
        (ins(Op.NEXT, value=32), [0xA000_0020]),
        (ins(Op.PTR, value=64), [0xB000_0040]),
        (ins(Op.MARK, value=7), [0xC000_0007]),
    ],
    ids=lambda value: value.op.name if isinstance(value, Instruction) else "",
)
def test_words_are_these_literal_ones(item, words):
    assert item.encode() == words
    assert microcode.decode_one(words, 0) == item


@pytest.mark.parametrize(
    "word",
    [
        0xD000_0000,  # no such operation
        0xE000_0000,
        0xF000_0000,
        0x0000_0001,  # END takes nothing
        0x31FF_0001,  # DREAD [15:0]
        0x5000_0010,  # LINES [27:4]
        0x8000_0020,  # CONV [27:5]
        0xA001_0000,  # NEXT [27:16]
        0x9000_0000,  # LOOP of no times
        0x4000_0000,  # SHIFT of nothing
        0x4000_0401,  # SHIFT of 1025 bits
    ],
    ids=hex,
)
def test_reserved_and_unknown_words_are_refused_by_host_and_board(word):
    with pytest.raises(InputError):
        microcode.decode_one([word, 0, 0], 0)
    board = EmulatedBoard("ideal", spec=small_spec())
    start(board, np.array([0x6000_0000, word, 0], dtype=np.uint32))
    assert (register(board, "FAULT_CODE"), register(board, "FAULT_PC")) == (1, 1)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "ends with END"),
        ([ins(Op.WAIT)], "ends with END"),
        ([ins(Op.NEXT), END], "loops must match"),
        ([ins(Op.LOOP, value=1), END], "END inside a loop"),
        ([ins(Op.LOOP, value=1)] * 5 + [ins(Op.NEXT)] * 5 + [END], "at most 4 deep"),
    ],
)
def test_programs_that_do_not_close_are_refused(items, words):
    with pytest.raises(InputError, match=words):
        decode(encode(items))


def test_a_shift_that_the_program_cuts_off_is_refused():
    with pytest.raises(InputError, match="40 bits need 2 data words"):
        decode([0x4000_0028, 0])


@pytest.mark.parametrize(
    "fields",
    [
        {"op": Op.WAIT, "value": 2**28},
        {"op": Op.WAIT, "value": -1},
        {"op": Op.DAC, "addr": 16},
        {"op": Op.DAC, "mask": 256},
        {"op": Op.DAC, "value": 0x1_0000},
        {"op": Op.CONV, "value": 32},
        {"op": Op.LINES, "value": 16},
        {"op": Op.WAIT, "addr": 1},
        {"op": Op.CONV, "mask": 1},
        {"op": Op.LOOP, "value": 0},
        {"op": Op.SHIFT, "value": 8},
        {"op": Op.SHIFT, "value": 8, "data": (0, 0)},
    ],
    ids=str,
)
def test_fields_that_do_not_fit_their_bits_are_refused(fields):
    with pytest.raises(InputError, match=fields["op"].name):
        Instruction(**fields)


# ---- cycles ---------------------------------------------------------------------------------

CYCLE_S = 10e-9


def test_a_dac_write_is_24_bits_at_50_mhz_and_chip_select_high_for_15_ns():
    """SLASEL1D: 24 * 20 ns + 15 ns = 495 ns; more than 50 cycles would waste time."""
    assert ins(Op.DAC).cycles == ins(Op.DACT).cycles == 50
    assert 24 * 20e-9 + 15e-9 <= 50 * CYCLE_S < 24 * 20e-9 + 15e-9 + CYCLE_S


def test_a_readback_is_two_frames_at_no_more_than_18_mhz():
    assert ins(Op.DREAD).cycles * CYCLE_S >= 2 * (24 / 18e6 + 15e-9)


def test_a_conversion_is_24_clocks_at_no_more_than_1_2_mhz():
    """SBAS172A: 24 clocks a sample, 20 us at 1.2 MHz; and above 24 kHz."""
    assert 20e-6 <= ins(Op.CONV).cycles * CYCLE_S <= 24 / 24e3


def test_a_chain_of_64_bits_is_shifted_at_no_more_than_25_mhz_and_latched():
    cycles = ins(Op.SHIFT, value=64, data=(0, 0)).cycles
    assert cycles * CYCLE_S >= 64 / 25e6 + 14e-9
    assert cycles == 64 * 5 + 4  # 20 MHz


def test_waits_and_pulses_take_their_cycles_and_the_step():
    assert (ins(Op.WAIT, value=500).cycles, ins(Op.PULSE, value=100).cycles) == (501, 101)


def test_cycles_of_nested_loops_by_hand():
    """LOOP 1 + 3 * (50 + LOOP 1 + 2 * (11 + NEXT 1) + NEXT 1) + END 1."""
    program = [
        ins(Op.LOOP, value=3),
        ins(Op.DAC),
        ins(Op.LOOP, value=2),
        ins(Op.WAIT, value=10),
        ins(Op.NEXT),
        ins(Op.NEXT),
        END,
    ]
    assert total_cycles(program) == 1 + 3 * (50 + 1 + 2 * 12 + 1) + 1


def test_the_first_end_ends_the_count():
    assert total_cycles([ins(Op.WAIT, value=9), END, ins(Op.WAIT, value=1000), END]) == 11


@pytest.mark.parametrize("batched", [False, True], ids=["scalar", "batched"])
def test_cost_is_what_the_clock_of_the_board_advances(batched):
    finished = 0

    @settings(max_examples=60)
    @given(cases(odd=False))
    def law(case):
        nonlocal finished
        board = with_cells(EmulatedBoard("ideal", spec=small_spec(), batched=batched))
        before = board.clock.cycles
        run_case(board, case)
        if not register(board, "STATUS") & DONE:
            return
        finished += 1
        cost = total_cycles(decode(case.words))
        assert board.clock.cycles - before == cost
        assert register(board, "RUN_CYCLES_LO") | register(board, "RUN_CYCLES_HI") << 32 == cost
        assert register(board, "CYCLES_LO") == board.clock.cycles & 0xFFFF_FFFF
        assert register(board, "CYCLES_HI") == board.clock.cycles >> 32

    law()
    assert finished > 5


def test_cycle_registers_carry_into_their_high_words():
    board = EmulatedBoard("ideal", spec=small_spec())
    longest = 2**28 - 1
    start(board, [ins(Op.LOOP, value=20), ins(Op.WAIT, value=longest), ins(Op.NEXT), END])
    cost = 1 + 20 * (2**28 + 1) + 1
    assert register(board, "RUN_CYCLES_LO") | register(board, "RUN_CYCLES_HI") << 32 == cost
    assert register(board, "RUN_CYCLES_HI") == 1


def test_fault_codes_are_these_literal_ones_and_each_has_a_text():
    """What gateware latches: a change of this table is a change of the gateware."""
    assert {int(fault): fault.name for fault in microcode.Fault} == {
        0: "NONE",
        1: "BAD_INSTRUCTION",
        2: "LIMIT",
        3: "DAC_UPDATE_TOO_SOON",
        4: "NOT_SETTLED",
        5: "TABLE_OVERRUN",
        6: "RESULT_OVERRUN",
        7: "BAD_SELECT",
        8: "PROGRAM_OVERRUN",
        9: "ENABLE_WITHOUT_LATCH",
        10: "DAC_IN_RESET",
        11: "SWITCH_ADDRESS_MOVED",
        12: "SWITCH_TOO_SOON",
        13: "PULSE_TOO_SHORT",
        14: "WATCHDOG",
        15: "PULSE_LIMIT",
        16: "PULSES_LIMIT",
        17: "BUSY",
        18: "STOPPED",
    }
    assert set(microcode.FAULT_TEXT) == set(microcode.Fault) - {microcode.Fault.NONE}
    assert {int(fault) for fault in microcode.TIMING_FAULTS} == {3, 4, 10, 12, 13, 14, 15}
