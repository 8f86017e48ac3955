"""The register window of the emulated board: faults, limits, safe state, state files, URLs."""

import math
import shutil

import numpy as np
import pytest

from firmware_bridge import registers
from firmware_bridge.contract import contract_hash
from firmware_bridge.errors import InputError
from firmware_bridge.microcode import Op
from rram_host import open_board
from sim import snapshot
from sim.board import EmulatedBoard, open_url
from tests.sim.programs import (
    ALL_CHIPS,
    BL_CHIPS,
    CTRL_CLEAR_FAULT,
    CTRL_RESET,
    CTRL_SAFE,
    CTRL_START,
    DONE,
    END,
    FAULT,
    LATCH,
    REST,
    SETTLE,
    ins,
    put,
    register,
    results,
    shift_of,
    small_spec,
    start,
    state,
    unlock,
)

SYNC_ALL = ins(Op.DAC, 2, ALL_CHIPS, 0x00FF)
ENABLE = ins(Op.LINES, value=9)
TURNED_ON = ins(Op.WAIT, value=23)  # CD4051B at 15 V: an address settles in 240 ns


@pytest.fixture
def board() -> EmulatedBoard:
    return EmulatedBoard("ideal", spec=small_spec())


def _fault(board) -> tuple[int, int, int]:
    return tuple(register(board, f"FAULT_{name}") for name in ("CODE", "PC", "INFO"))


# ---- who it is ------------------------------------------------------------------------------


def test_identity_words(board):
    words = board.read(0, 5).tolist()
    assert words == [0x5252414D, contract_hash(), 0x0001_0000, 4 << 16 | 4, 3 << 16 | 2]


def test_read_only_registers_ignore_writes_and_writable_ones_keep_them(board):
    before = board.read(0, 0x55).tolist()
    for entry in registers.REGISTERS:
        if entry.access == "ro":
            board.write(entry.offset, np.array([0xFFFF_FFFF], dtype=np.uint32))
    assert board.read(0, 0x55).tolist() == before
    for entry in registers.REGISTERS:
        if entry.access == "rw":
            put(board, entry.name, entry.offset + 1)
    for entry in registers.REGISTERS:
        if entry.access == "rw":
            assert register(board, entry.name) == entry.offset + 1


def test_program_and_table_memories_keep_what_is_written_and_results_do_not(board):
    words = np.arange(1, 9, dtype=np.uint32)
    for memory in (registers.PROGRAM, registers.TABLE):
        for place in (memory.offset, memory.end - 32):
            board.write(place, words)
            assert np.array_equal(board.read(place, 8), words)
    board.write(registers.RESULTS.offset, words)
    assert not board.read(registers.RESULTS.offset, 8).any()


@pytest.mark.parametrize(
    ("address", "count"), [(2, 1), (-4, 1), (0x20_0000, 1), (0x1F_FFFC, 2), (0, -1)]
)
def test_addresses_outside_the_window_are_refused(board, address, count):
    with pytest.raises(InputError, match="window"):
        board.read(address, count)
    if count > 0:
        with pytest.raises(InputError, match="window"):
            board.write(address, np.zeros(count, dtype=np.uint32))


# ---- rules ----------------------------------------------------------------------------------

# rule: program, code, word index, info
RULES = {
    "loop never opened": ([ins(Op.WAIT), ins(Op.NEXT), END], 1, 1, 0),
    "END in a loop": ([ins(Op.LOOP, value=2), END], 1, 1, 0),
    "five deep": ([*[ins(Op.LOOP, value=1)] * 5, *[ins(Op.NEXT)] * 5, END], 1, 4, 0),
    "update too soon": (
        [ins(Op.DAC, 8, 1, 1), ins(Op.DAC, 8, 1, 2), END],
        *(3, 1, 50),  # outputs move at the end of a frame of 50 cycles: that long after the first
    ),
    "conversion unsettled": (
        [ins(Op.DAC, 8, 1, 1), ins(Op.WAIT, value=498), ins(Op.CONV), END],
        *(4, 2, 499),
    ),
    "pulse unsettled": (
        [ins(Op.DAC, 8, 1, 1), shift_of((0,) * 4), ins(Op.LINES, value=8), ins(Op.PULSE), END],
        *(4, 4, 45),
    ),
    "table": ([SYNC_ALL, ins(Op.PTR, value=1), ins(Op.DACT, 8, BL_CHIPS), END], 5, 2, 2),
    "select": ([ins(Op.CONV, value=2), END], 7, 0, 2),
    "enable before latch": ([ins(Op.LINES, value=9), END], 9, 0, 0),
    "enable without outputs": ([shift_of((0,) * 4), ins(Op.LINES, value=1), END], 9, 2, 0),
    "pulse before latch": ([ins(Op.PULSE, value=9), END], 9, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule_is_latched_with_code_place_and_subject(board, rule):
    items, *expected = RULES[rule]
    unlock(board)
    start(board, items, [1, 2])
    assert state(board) == FAULT
    assert list(_fault(board)) == expected


def test_exact_settling_and_update_times_are_enough(board):
    """Update to update 1 us; update to conversion sqrt(5 us^2 + 0.46 us^2), in range 0.

    0.46 us is what the amplifier takes to half an LSB of 14 bit: ln(2^15) time constants of the
    3.6 MHz that 20 MHz of gain-bandwidth leave behind 3500 ohm and 70 pF.
    """
    unlock(board)
    # the write itself takes 50 cycles, of the 100 of an update interval
    write = ins(Op.DAC, 8, 1, 1)
    start(board, [write, ins(Op.WAIT, value=49), write, ins(Op.WAIT, value=502), ins(Op.CONV), END])
    assert state(board) == DONE
    start(board, [write, ins(Op.WAIT, value=48), write, END])
    assert _fault(board) == (3, 2, 99)
    start(board, [write, ins(Op.WAIT, value=501), ins(Op.CONV), END])
    assert _fault(board) == (4, 2, 502)


def test_a_program_that_runs_off_the_memory_stops(board):
    words = np.full(registers.PROGRAM.words, 0x6000_0000, dtype=np.uint32)
    start(board, words)
    assert _fault(board) == (8, registers.PROGRAM.words, 0)
    put(board, "CTRL", CTRL_CLEAR_FAULT)
    put(board, "ENTRY", registers.PROGRAM.words + 5)
    put(board, "CTRL", CTRL_START)
    assert register(board, "FAULT_CODE") == 8


def test_more_results_than_the_memory_holds_stop_the_program(board):
    n = 2 * registers.RESULTS.words // 2  # two ADCs
    full = [SYNC_ALL, ins(Op.LOOP, value=n), ins(Op.CONV), ins(Op.NEXT)]
    start(board, [*full, END])
    assert (state(board), register(board, "RESULT_COUNT")) == (DONE, 2 * n)
    start(board, [*full, ins(Op.CONV), END])
    assert _fault(board) == (6, 4, 2 * n)


def test_a_latched_fault_keeps_programs_from_running_until_it_is_cleared(board):
    start(board, [ins(Op.CONV, value=9), END])
    put(board, "CTRL", CTRL_START)
    assert register(board, "FAULT_CODE") == 7
    before = board.clock.cycles
    board.write(registers.PROGRAM.offset, np.array([0x6000_0010, 0], dtype=np.uint32))
    put(board, "CTRL", CTRL_START)
    assert (board.clock.cycles, state(board)) == (before, FAULT)
    put(board, "CTRL", CTRL_CLEAR_FAULT)
    put(board, "CTRL", CTRL_START)
    assert (board.clock.cycles - before, state(board)) == (18, DONE)


def test_safe_runs_in_a_fault_and_leaves_the_fault_latched(board):
    board.write(registers.PROGRAM.offset + 400, np.array([0xC000_0005, 0], dtype=np.uint32))
    put(board, "SAFE_ENTRY", 100)
    start(board, [ins(Op.CONV, value=9), END])
    put(board, "CTRL", CTRL_SAFE)
    assert register(board, "LAST_MARK") == 5
    assert register(board, "STATUS") & FAULT
    assert register(board, "FAULT_CODE") == 7


def test_a_fault_opens_the_source_line_switches(board):
    start(board, [ins(Op.LINES, value=8), shift_of((0,) * 4), TURNED_ON, ENABLE, END])
    assert not any(math.isnan(board.truth.rails_v[f"SL{row}"]) for row in range(4))
    start(board, [ins(Op.CONV, value=9), END])
    assert all(math.isnan(board.truth.rails_v[f"SL{row}"]) for row in range(4))


def test_reset_returns_registers_and_rails_to_power_up_and_keeps_cells_and_clock(board):
    unlock(board)
    put(board, "SCRATCH", 7)
    start(board, [ins(Op.DAC, 8, 1, 30000), END])
    cycles, g = board.clock.cycles, board.truth.conductances_siemens
    assert board.truth.rails_v["BL1"] == pytest.approx(2.5 * 30000 / 65536)
    put(board, "CTRL", CTRL_RESET)
    assert board.truth.rails_v["BL1"] == 0.0
    assert (register(board, "SCRATCH"), register(board, "LIMIT00")) == (0, 0)
    assert register(board, "CYCLES_LO") == cycles
    assert register(board, "CONTRACT_HASH") == contract_hash()
    assert np.array_equal(board.truth.conductances_siemens, g)


# ---- limits, in the device ------------------------------------------------------------------

LIMIT_CODE = 24576  # of 5 V / 65536: 1.875 V


@pytest.mark.parametrize(
    ("gain", "code"), [(0x00FF, 24576), (0x0000, 49152), (0x01FF, 49152)], ids=hex
)
@pytest.mark.parametrize("way", ["DAC", "DACT", "BRDCAST"])
def test_an_output_reaches_its_limit_and_one_code_more_faults_before_it_moves(gain, code, way):
    for more in (0, 1):
        board = EmulatedBoard("ideal", spec=small_spec())
        unlock(board)
        put(board, "LIMIT09", LIMIT_CODE)
        write = {
            "DAC": ins(Op.DAC, 9, 2, code + more),
            "DACT": ins(Op.DACT, 9, 2, 0),
            "BRDCAST": ins(Op.DAC, 6, 2, code + more),
        }[way]
        start(board, [ins(Op.DAC, 4, 2, gain), ins(Op.WAIT, value=100), write, END], [code + more])
        volts = board.truth.rails_v["BL0"]  # channel 9
        if more:
            assert _fault(board) == (2, 2, 9)
            assert volts == 0.0
        else:
            assert state(board) == DONE
            assert volts == pytest.approx(1.875)


def test_a_larger_range_that_would_lift_an_output_above_its_limit_faults_before_it_moves(board):
    unlock(board)
    put(board, "LIMIT00", LIMIT_CODE)
    start(board, [ins(Op.DAC, 8, 1, 40000), ins(Op.WAIT, value=100), ins(Op.DAC, 4, 1, 0xFF), END])
    assert _fault(board) == (2, 2, 0)
    assert board.truth.rails_v["BL1"] == pytest.approx(2.5 * 40000 / 65536)


def test_every_output_is_locked_after_power_up(board):
    start(board, [ins(Op.DAC, 8, 1, 1), END])
    assert _fault(board) == (2, 0, 0)
    start(board, [ins(Op.DAC, 8, 1, 0), END])
    assert state(board) == DONE


# ---- chain, readback ------------------------------------------------------------------------


def test_a_short_shift_moves_the_chain_on_by_as_many_places(board):
    """Bits 1 0 1 behind 8 ones: 1 0 1 at the near end, the ones move on."""
    items = [
        ins(Op.SHIFT, value=8, data=(0xFF00_0000,)),
        ins(Op.SHIFT, value=3, data=(0x4000_0000,)),
    ]
    start(board, [*items, END])
    assert board.bench.chain.storage.tolist() == [0, 1, 0, 1, 1, 1, 1, 1]
    long = ins(Op.SHIFT, value=40, data=(0xFFFF_FFFF, 0x0F00_0000))
    start(board, [long, TURNED_ON, ENABLE, END])
    assert state(board) == DONE
    assert board.bench.chain.storage.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


def test_readback_returns_echo_and_data_chip_by_chip(board):
    unlock(board)
    items = [SYNC_ALL, ins(Op.DAC, 9, 0b010, 0x1234), ins(Op.DREAD, 9, ALL_CHIPS), END]
    start(board, items)
    assert results(board).tolist() == [0x89, 0, 0x89, 0x1234, 0x89, 0]


def test_chips_that_the_board_lacks_take_nothing_from_the_table(board):
    unlock(board)
    start(board, [SYNC_ALL, ins(Op.DACT, 8, 0b1111_1010), END], [7])
    assert [dac.buffer[0] for dac in board.bench.dacs] == [0, 7, 0]


@pytest.mark.parametrize(
    ("offset", "word", "fault"), [(0, 10, (10, 1, 0)), (10, 16, (0, 0, 0))], ids=["reset", "latch"]
)
def test_a_reset_from_the_table_counts_by_its_word_and_not_by_its_place(board, offset, word, fault):
    """TRIGGER: word 10 is a soft reset, behind which no frame is taken for 250 us; 16 is LDAC."""
    unlock(board)
    start(board, [ins(Op.DACT, 5, 2, offset), ins(Op.DREAD, 1, 2), END], [word] * 11)
    assert _fault(board) == fault


# ---- URLs -----------------------------------------------------------------------------------


def test_a_url_names_preset_seed_and_wiring():
    board = open_url("sim://?preset=ideal&seed=12&spec=zc706")
    assert (board.preset.name, board.seed, board.spec.name) == ("ideal", 12, "zc706")
    assert open_url("sim://").preset.name == "taox_180nm"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sim://board", "sim://\\?key=value"),
        ("sim:///path", "sim://\\?key=value"),
        ("sim://?sed=7", "unknown key 'sed'; known: preset, seed, state, spec"),
        ("sim://?seed=x", "seed 'x' is not a whole number"),
        ("sim://?seed=1.5", "seed '1.5' is not a whole number"),
        ("sim://?seed=", "seed '' is not a whole number"),
        ("sim://?seed=-1", "seed -1 is outside"),
        (f"sim://?seed={2**63}", "is outside"),
        ("sim://?preset=", "unknown preset ''; known: ideal, relax_40"),
        ("sim://?preset=gold", "unknown preset 'gold'; known: ideal, relax_40"),
        ("sim://?spec=zc999", "known boards: zc706"),
        ("sim://?state=/no/such/folder/board.npz", "no folder /no/such/folder"),
    ],
)
def test_a_url_that_names_no_board_is_refused_with_the_reason(url, words):
    with pytest.raises(InputError, match=words):
        open_url(url)
    with pytest.raises(InputError, match=words):
        open_board(url)


def test_the_same_url_is_the_same_board_and_another_seed_is_another():
    targets = np.full((32, 32), np.nan)
    targets[3:5] = 40e-6

    def programmed(url):
        emulated = open_url(url)
        with open_board(emulated) as board:
            return board.array.program(targets).measured_siemens, emulated.truth

    one, same, other = (programmed(f"sim://?seed={seed}") for seed in (7, 7, 8))
    assert np.array_equal(one[0], same[0], equal_nan=True)
    assert np.array_equal(one[1].conductances_siemens, same[1].conductances_siemens)
    assert not np.array_equal(one[0], other[0], equal_nan=True)


# ---- state files ----------------------------------------------------------------------------


def _use(transport, number: int) -> np.ndarray:
    targets = np.full((32, 32), np.nan)
    targets[number] = 50e-6
    with open_board(transport) as board:
        board.array.program(targets)
        return board.array.read()


def test_a_board_goes_on_where_its_state_file_left_it(tmp_path):
    url = f"sim://?preset=taox_180nm&seed=4&state={tmp_path / 'board.npz'}"
    through = EmulatedBoard("taox_180nm", seed=4)
    for number in range(3):
        board = open_url(url)
        assert np.array_equal(_use(through, number), _use(board, number))
        assert board.clock.cycles == through.clock.cycles
    reopened = open_url(url)
    assert reopened.clock.cycles == through.clock.cycles > 0
    assert register(reopened, "CYCLES_LO") == reopened.clock.cycles & 0xFFFF_FFFF
    kept, truth = reopened.truth, through.truth
    assert np.array_equal(kept.conductances_siemens, truth.conductances_siemens)
    assert np.array_equal(kept.pulses, truth.pulses)
    assert truth.pulses[:3].all() and not truth.pulses[3:].any()


def test_what_pulses_did_is_in_the_state_file_before_the_board_is_closed(tmp_path):
    """A killed process closes nothing."""
    url = f"sim://?preset=ideal&seed=4&state={tmp_path / 'board.npz'}"
    board = open_board(url)
    try:
        board.array.form()
        again = open_url(url)
        assert (again.truth.conductances_siemens > 1e-6).all()
        assert (again.truth.pulses > 0).all()
    finally:
        board.close()


def test_a_board_without_a_state_file_starts_anew(tmp_path):
    board = open_url(f"sim://?seed=4&state={tmp_path / 'board.npz'}")
    assert board.clock.cycles == 0
    assert not (tmp_path / "board.npz").exists()
    board.close()
    assert [path.name for path in tmp_path.iterdir()] == ["board.npz"]


@pytest.mark.parametrize(
    "kind", ["empty", "text", "npy", "no meta", "meta", "cut", "list", "lacks"]
)
def test_a_file_that_is_no_state_is_refused(tmp_path, kind):
    good, path = tmp_path / "good", tmp_path / "board"
    EmulatedBoard("ideal", seed=4, state=good).close()
    if kind in ("empty", "text"):
        path.write_bytes(b"" if kind == "empty" else b"conductances: high")
    elif kind == "npy":
        with path.open("wb") as stream:
            np.save(stream, np.zeros(3))
    elif kind == "cut":
        path.write_bytes(good.read_bytes()[:-2000])
    elif kind == "lacks":
        meta, arrays = snapshot.unpack(good.read_bytes())
        path.write_bytes(snapshot.pack(meta, {"g": arrays["g"]}))
    else:
        content = {"no meta": {"g": np.zeros(3)}, "meta": {"meta": "{}"}, "list": {"meta": "[]"}}
        with path.open("wb") as stream:
            np.savez(stream, **content[kind])
    with pytest.raises(InputError, match="board is not the state of an emulated board"):
        EmulatedBoard("ideal", seed=4, state=path)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"seed": 5}, "seed 4; asked for preset ideal, seed 5"),
        ({"preset": "taox_180nm"}, "preset ideal, seed 4; asked for preset taox_180nm"),
        ({"spec": small_spec()}, r"of shape \(4, 4\)"),
    ],
)
def test_the_state_of_another_board_is_refused_and_kept(tmp_path, other, words):
    path, copy = tmp_path / "board", tmp_path / "copy"
    EmulatedBoard("ideal", seed=4, state=path).close()
    shutil.copy(path, copy)
    with pytest.raises(InputError, match=words):
        EmulatedBoard(**{"preset": "ideal", "seed": 4, "state": path, **other})
    assert path.read_bytes() == copy.read_bytes()


# ---- one conversion by hand -----------------------------------------------------------------


def test_a_conversion_is_ohm_kirchhoff_and_the_feedback_resistor(board):
    """g = 40, 0, 60, 0 uS; 25 mV on BL0, -50 mV on BL2; Rf = 45 kohm, LSB = 1.8 V / 2^14.

    The switch is 86.28 ohm at the 0.9 V that it passes (CD4051B at 15 V: 125 ohm at 7.5 V), and
    all of the row's 100 uS hang behind it.
    """
    g = np.full((4, 4), 1e-15)  # 0 to any converter
    g[1, [0, 2]] = 40e-6, 60e-6
    board.bench.cells.g = g
    unlock(board)
    lsb = 1.25 / 65536
    steps = {0: round(0.025 / lsb), 2: round(-0.05 / lsb)}
    spec, codes = small_spec(), [REST] * 4
    for column, step in steps.items():
        codes[column] += step
    bl = [
        ins(Op.DAC, 8 + spec.bl_channel[c] % 8, 1 << spec.bl_channel[c] // 8, codes[c])
        for c in range(4)
    ]
    wl = [ins(Op.DAC, 8 + ch % 8, 1 << ch // 8, 43254) for ch in spec.wl_channel]
    items = [
        SYNC_ALL,
        ins(Op.DAC, 4, 4, 0xFF),
        ins(Op.WAIT, value=99),
        ins(Op.DAC, 4, BL_CHIPS, 0x100),
    ]
    items += [ins(Op.LINES, value=8), shift_of((1,) * 4), *bl, *wl, LATCH, SETTLE]
    items += [ins(Op.LINES, value=9 | 2 << 1), SETTLE]  # the amplifier settles once it sees a cell
    start(board, [*items, ins(Op.CONV, value=1), END])  # row 1 is input 1 of ADC 0
    rest = 0.9 - REST * lsb  # the virtual ground is not on the DAC's grid
    bl_v = [(codes[c] * lsb) - 0.9 for c in range(4)]
    assert abs(rest) < lsb
    current = (40e-6 * bl_v[0] + 60e-6 * bl_v[2]) / (1 + 86.28 * 100e-6)
    code = round(-current * 45e3 / (1.8 / 16384))
    assert results(board).tolist()[0] == code % 2**14
    assert code > 0  # a net current out of the source line
