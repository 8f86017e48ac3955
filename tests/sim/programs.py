"""Random micro-programs, and a board small enough to run many of them.

The board has 3 DAC chips, 4 rows and 4 columns, every wiring table scrambled. Programs start with
a proper prologue (all outputs behind LDAC, chain latched, everything settled), so that most of
them reach their END and their loops are such as can be evaluated as arrays.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import strategies as st

from firmware_bridge import board_spec, registers
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.microcode import Instruction, Op, encode
from sim.board import EmulatedBoard

CHIPS = 3
BL_CHIPS, WL_CHIPS, ALL_CHIPS = 0b011, 0b100, 0b111
GATE_READ = 43254  # 3.3 V of 5 V
REST = 47186  # 0.9 V of 1.25 V
N_LIMITS = 64
CTRL_START, CTRL_SAFE, CTRL_CLEAR_FAULT, CTRL_RESET = 1, 2, 4, 8
DONE, FAULT, LIVE = 2, 4, 8
UNGUARDED = (0, 0xFFF_FFFF, 0xFFFF_FFFF)  # WATCHDOG off, PULSE_LIMIT and PULSES_LIMIT


def small_spec() -> BoardSpec:
    """3 DAC chips, 2 ADCs, 4 x 4 cells, no table in order."""
    return dataclasses.replace(
        board_spec.load(),
        name="small",
        rows=4,
        cols=4,
        dac_chips=3,
        bl_channel=(9, 0, 8, 1),
        wl_channel=(18, 16, 23, 17),
        sl_bit0=(3, 0, 6, 5),
        sl_bit1=(1, 7, 2, 4),
        adcs=2,
        adc_of_row=(1, 0, 0, 1),
        select_of_row=(0, 1, 0, 1),
    )


class Case:
    """A program with everything that its run depends on."""

    def __init__(self, items, table, table_count: int, limits, guards=UNGUARDED) -> None:
        self.items, self.table = tuple(items), tuple(table)
        self.table_count, self.limits, self.guards = table_count, tuple(limits), guards

    @property
    def words(self) -> np.ndarray:
        return encode(self.items)

    def __repr__(self) -> str:
        """Short enough to be read when a law is broken."""
        lowered = {line: top for line, top in enumerate(self.limits) if top != 0xFFFF}
        text = "\n".join(str(item) for item in self.items)
        told = f"limits {lowered} guards {self.guards}"
        return f"\n{text}\ntable {list(self.table)}[:{self.table_count}] {told}"


def ins(op: Op, addr: int = 0, mask: int = 0, value: int = 0, data=()) -> Instruction:
    return Instruction(op, addr, mask, value, tuple(data))


END = ins(Op.END)
LATCH = ins(Op.DAC, addr=5, mask=ALL_CHIPS, value=0x0010)
SETTLE = ins(Op.WAIT, value=700)
CONV_0, CONV_1 = ins(Op.CONV, value=0), ins(Op.CONV, value=1)


def register(board: EmulatedBoard, name: str) -> int:
    """A register of the board as a number."""
    return int(board.read(registers.offset(name), 1)[0])


def state(board: EmulatedBoard) -> int:
    """What became of the last program: STATUS without LIVE, which tells of the lines."""
    return register(board, "STATUS") & ~LIVE


def put(board: EmulatedBoard, name: str, *values: int) -> None:
    """Write a register, and with more values the ones behind it."""
    board.write(registers.offset(name), np.array(values, dtype=np.uint32))


def results(board: EmulatedBoard) -> np.ndarray:
    """The 16-bit results of the last program."""
    count = register(board, "RESULT_COUNT")
    return board.read(registers.RESULTS.offset, -(-count // 2)).view("<u2")[:count]


def start(board: EmulatedBoard, items, table=(), entry: int = 0) -> None:
    """Upload instructions (or ready words) with a table, and run them."""
    words = items if isinstance(items, np.ndarray) else encode(items)
    board.write(registers.PROGRAM.offset + 4 * entry, words)
    codes = np.zeros(len(table) + len(table) % 2, dtype="<u2")
    codes[: len(table)] = table
    board.write(registers.TABLE.offset, codes.view("<u4"))
    put(board, "TABLE_COUNT", len(table))
    put(board, "ENTRY", entry)
    put(board, "CTRL", CTRL_CLEAR_FAULT)
    put(board, "CTRL", CTRL_START)


def unlock(board: EmulatedBoard, limit: int = 0xFFFF) -> None:
    """Write every limit register, and switch the watchdog off."""
    board.write(0x100, np.full(N_LIMITS, limit, dtype=np.uint32))
    put(board, "WATCHDOG", *UNGUARDED)


def run_case(board: EmulatedBoard, case: Case) -> None:
    """Run a case on a board."""
    board.write(0x100, np.array(case.limits, dtype=np.uint32))
    put(board, "WATCHDOG", *case.guards)
    board.write(registers.PROGRAM.offset, case.words)
    board.write(registers.TABLE.offset, np.array(case.table, dtype="<u2").view("<u4"))
    put(board, "TABLE_COUNT", case.table_count)
    put(board, "ENTRY", 0)
    put(board, "CTRL", CTRL_START)


def with_cells(board: EmulatedBoard, seed: int = 5) -> EmulatedBoard:
    """The board with three of four cells formed, 20 to 100 uS."""
    rng = np.random.default_rng(seed)
    cells = board.bench.cells
    cells.formed = rng.random(cells.g.shape) < 0.75
    cells.g = np.where(cells.formed, rng.uniform(20e-6, 100e-6, cells.g.shape), cells.g)
    return board


# ---- strategies -----------------------------------------------------------------------------

CODES = st.one_of(st.integers(42000, 52000), st.integers(0, 0xFFFF), st.just(REST))
MASKS = st.one_of(st.sampled_from([BL_CHIPS, 1, 2, ALL_CHIPS, WL_CHIPS]), st.integers(0, 0xFF))
WAITS = st.one_of(st.integers(0, 200), st.integers(450, 800), st.integers(0, 5000))
# WATCHDOG off, PULSE_LIMIT and PULSES_LIMIT such that some programs come beyond them
GUARDS = st.tuples(st.just(0), st.sampled_from([0, 100, 300, 9_999, 10_000]), st.integers(0, 12))
WIDTHS = st.one_of(st.integers(24, 300), st.just(10_000))  # the switch needs 24 cycles to turn on
ROW_INPUTS = st.one_of(
    st.just((1, 1, 1, 1)),
    st.tuples(*[st.sampled_from([1, 3])] * 4),
    st.tuples(*[st.integers(0, 3)] * 4),
)


def shift_of(inputs) -> Instruction:
    """A SHIFT that puts SL switch inputs on the rows of the small board."""
    spec, level = small_spec(), [0] * 8
    for row, code in enumerate(inputs):
        level[spec.sl_bit0[row]], level[spec.sl_bit1[row]] = code & 1, code >> 1
    # the bit sent first ends at the far end of the chain
    word = sum(bit << (31 - time) for time, bit in enumerate(reversed(level)))
    return ins(Op.SHIFT, value=8, data=(word,))


def _dact(addresses=(8, 9)) -> st.SearchStrategy[Instruction]:
    return st.builds(
        lambda addr, mask, at: ins(Op.DACT, addr, mask, at),
        st.sampled_from(addresses),
        st.sampled_from([BL_CHIPS, 1, 2]),
        st.integers(0, 6),
    )


def _dac_line(addresses=(8, 9)) -> st.SearchStrategy[Instruction]:
    return st.builds(
        lambda addr, mask, code: ins(Op.DAC, addr, mask, code),
        st.sampled_from(addresses),
        st.sampled_from([BL_CHIPS, 1, 2]),
        CODES,
    )


CONV = st.builds(lambda s: ins(Op.CONV, value=s), st.integers(0, 1))
MARK = st.builds(lambda n: ins(Op.MARK, value=n), st.integers(0, 2**28 - 1))


@st.composite
def _batch_body(draw, calm: bool) -> list[Instruction]:
    """What a loop of reads looks like, in the usual order or, where not `calm`, in none."""
    writes = draw(st.lists(st.one_of(_dact(), _dac_line(), _dac_line((10, 15))), max_size=4))
    if draw(st.integers(0, 9)) == 9:
        writes.append(ins(Op.DAC, 8, WL_CHIPS, draw(CODES)))
    waits = st.integers(700, 5000)  # the most sensitive range settles in 666 cycles
    if not calm:
        waits = st.one_of(st.just(700), st.just(700), st.integers(490, 680), WAITS)
    wait = ins(Op.WAIT, value=draw(waits))
    latches = [LATCH] * draw(st.sampled_from([1, 1, 1, 0] if calm else [1, 1, 1, 0, 2]))
    body = [*writes, *latches, wait, *draw(st.lists(CONV, min_size=1, max_size=3))]
    if draw(st.booleans()):
        body.append(draw(MARK))
    if calm or draw(st.integers(0, 3)) < 3:
        return body
    return list(draw(st.permutations(body)))


def _loop(body: list[Instruction], count: int, stride: int) -> list[Instruction]:
    return [ins(Op.LOOP, value=count), *body, ins(Op.NEXT, value=stride)]


@st.composite
def _read_loop(draw, calm: bool = False) -> list[Instruction]:
    """A read loop, perhaps inside loops that set the pointer back."""
    stride = draw(st.sampled_from([0, 1, 4, 8]))
    block = _loop(draw(_batch_body(calm)), draw(st.integers(1, 6)), stride)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        back = ins(Op.PTR, value=draw(st.integers(0, 9)))
        block = _loop([back, *block], draw(st.integers(1, 3)), 0)
    return block


def _open_for_pulses(inputs) -> list[Instruction]:
    """Inhibit, choose inputs of the source lines, and the wide range of the bit lines."""
    return [
        ins(Op.LINES, value=8),
        shift_of(inputs),
        ins(Op.DAC, 4, BL_CHIPS, 0x00FF),
        ins(Op.WAIT, value=100),
    ]


def _back_to_reading(tia_range: int) -> list[Instruction]:
    """From pulses to bit lines at rest and amplifiers that have settled."""
    return [
        *[ins(Op.DAC, addr, BL_CHIPS, 0) for addr in (8, 9)],
        ins(Op.WAIT, value=100),
        LATCH,
        ins(Op.WAIT, value=100),
        ins(Op.DAC, 4, BL_CHIPS, 0x0100),
        shift_of((1, 1, 1, 1)),
        *[ins(Op.DAC, addr, BL_CHIPS, REST) for addr in (8, 9)],
        LATCH,
        SETTLE,
        ins(Op.LINES, value=9 | tia_range << 1),
        SETTLE,
    ]


PULSED_INPUTS = st.sampled_from([(0,) * 4, (2,) * 4, (0, 2, 3, 1), (3, 0, 0, 2)])
PULSED_CODES = st.one_of(st.just(0), st.integers(10_000, 48_000), st.integers(20_000, 48_000))


@st.composite
def _pulse(draw) -> list[Instruction]:
    """Inhibit, move lines, settle, pulse, and come back to reading."""
    gate = draw(st.integers(20_000, 52_000))
    lines = [
        ins(Op.DAC, addr, mask, draw(st.one_of(st.just(0), st.integers(20_000, 48_000))))
        for addr, mask in ((8, 1), (9, 1), (8, 2), (9, 2))
    ]
    return [
        *_open_for_pulses(draw(PULSED_INPUTS)),
        *lines,
        ins(Op.DAC, 8, WL_CHIPS, gate),
        ins(Op.DAC, 10, WL_CHIPS, gate),
        LATCH,
        SETTLE,
        ins(Op.PULSE, value=draw(WIDTHS)),
        *_back_to_reading(draw(st.integers(0, 3))),
    ]


@st.composite
def _train_body(draw, calm: bool) -> list[Instruction]:
    """What a loop of pulses looks like; where not `calm`, things may be amiss or out of order."""
    gate = st.builds(
        lambda addr, at: ins(Op.DACT, addr, WL_CHIPS, at),
        st.sampled_from([8, 9, 10, 15]),
        st.integers(0, 6),
    )
    writes = draw(st.lists(st.one_of(_dact(), _dact(), gate, gate, _dac_line()), max_size=6))
    wait = 700 if calm else draw(st.sampled_from([700, 700, 499, 498, 100]))
    latches = [LATCH] * (1 if calm else draw(st.sampled_from([1, 1, 1, 0, 2])))
    width = draw(WIDTHS if calm else st.one_of(WIDTHS, WIDTHS, st.integers(20, 25)))
    body = [*writes, *latches, ins(Op.WAIT, value=wait), ins(Op.PULSE, value=width)]
    if draw(st.booleans()):
        body.append(draw(MARK))
    if not calm and draw(st.integers(0, 3)) == 3:
        body.append(draw(st.one_of(CONV, _dac_line(), st.just(LATCH))))
    if calm or draw(st.integers(0, 3)) < 3:
        return body
    return list(draw(st.permutations(body)))


@st.composite
def _train(draw, calm: bool = False) -> list[Instruction]:
    """One or two loops of pulses, perhaps inside a loop that sets the pointer back."""
    items = _open_for_pulses(draw(PULSED_INPUTS))
    gate = draw(st.sampled_from([0, 16_000, 30_000, 52_000]))  # of lines that a loop leaves alone
    items += [ins(Op.DAC, addr, WL_CHIPS, gate) for addr in (8, 9, 10, 15)]
    for _ in range(draw(st.integers(1, 2))):
        stride = draw(st.sampled_from([0, 1, 4, 8]))
        block = _loop(draw(_train_body(calm)), draw(st.integers(1, 6)), stride)
        if draw(st.integers(0, 3)) == 3:
            back = ins(Op.PTR, value=draw(st.integers(0, 9)))
            block = _loop([back, *block], draw(st.integers(1, 3)), 0)
        items += block
    return [*items, *_back_to_reading(draw(st.integers(0, 3)))]


def _odd() -> st.SearchStrategy[list[Instruction]]:
    """Single instructions of every kind, many of them at the wrong moment."""
    one = st.one_of(
        _dac_line((8, 9, 10, 15)),
        _dact((8, 9, 15)),
        MARK,
        CONV,
        st.builds(lambda a, m, v: ins(Op.DAC, a, m, v), st.integers(8, 15), MASKS, CODES),
        st.builds(lambda m, v: ins(Op.DACT, 8, m, v), MASKS, st.integers(0, 60)),
        st.builds(lambda m: ins(Op.DAC, 5, m, 0x0010), MASKS),
        st.builds(lambda m, v: ins(Op.DAC, 6, m, v), MASKS, CODES),
        st.builds(lambda m, v: ins(Op.DAC, 2, m, v), MASKS, st.sampled_from([0xFF, 0x1FF, 0xFF0F])),
        st.builds(
            lambda m, v: ins(Op.DAC, 4, m, v), MASKS, st.sampled_from([0xFF, 0x100, 0x1FF, 0])
        ),
        st.builds(lambda m: ins(Op.DAC, 5, m, 0xA), MASKS),
        st.builds(lambda a, m: ins(Op.DREAD, a, m), st.integers(0, 15), MASKS),
        st.builds(shift_of, ROW_INPUTS),
        st.builds(lambda v: ins(Op.LINES, value=v), st.integers(0, 15)),
        st.builds(lambda v: ins(Op.WAIT, value=v), WAITS),
        st.builds(lambda v: ins(Op.PULSE, value=v), st.integers(0, 500)),
        st.just(ins(Op.WAIT, value=25_000)),
        st.builds(lambda v: ins(Op.CONV, value=v), st.integers(0, 3)),
        st.builds(lambda v: ins(Op.PTR, value=v), st.integers(0, 60)),
        st.builds(lambda v: ins(Op.NEXT, value=v), st.integers(0, 4)),
        st.builds(lambda v: ins(Op.LOOP, value=v), st.integers(1, 3)),
    )
    return st.lists(one, min_size=1, max_size=2)


@st.composite
def _prologue(draw) -> list[Instruction]:
    """All outputs behind LDAC, chain latched, reading gently, everything settled."""
    rest = [ins(Op.DAC, addr, BL_CHIPS, REST) for addr in (8, 9)]
    gate = st.sampled_from([GATE_READ, 0])
    gates = [ins(Op.DAC, addr, WL_CHIPS, draw(gate)) for addr in (8, 9, 10, 15)]
    on = draw(st.sampled_from([1, 1, 1, 0]))
    return [
        ins(Op.DAC, 2, ALL_CHIPS, 0x00FF),
        ins(Op.DAC, 4, WL_CHIPS, 0x00FF),
        ins(Op.WAIT, value=100),
        ins(Op.DAC, 4, BL_CHIPS, 0x0100),
        ins(Op.LINES, value=8),
        shift_of(draw(ROW_INPUTS)),
        *rest,
        *gates,
        LATCH,
        SETTLE,
        ins(Op.LINES, value=8 | draw(st.integers(0, 3)) << 1 | on),
        SETTLE,
    ]


@st.composite
def cases(draw, odd: bool = True, prologue: bool = True) -> Case:
    """A program with table and limits.

    Args:
        odd: let in instructions that are likely to break a rule, in any order.
        prologue: begin from whatever state the board is in where False.
    """
    items = draw(_prologue()) if prologue else []
    # What does no harm comes first in every choice: draws favour the first.
    rough = odd and draw(st.sampled_from([False, False, True]))
    blocks = [_read_loop(not rough), _train(not rough), _read_loop(not rough), _pulse()]
    if rough:
        blocks += [_odd(), _odd()]
    for block in draw(st.lists(st.one_of(*blocks), min_size=1, max_size=4)):
        items += block
    if not rough or draw(st.integers(0, 9)) < 9:
        items.append(END)
    limits = [0xFFFF] * N_LIMITS
    if odd and draw(st.integers(0, 7)) == 7:
        limits[draw(st.sampled_from([0, 1, 8, 9, 16]))] = draw(st.integers(0, 0xFFFF))
    table = draw(st.lists(CODES, min_size=64, max_size=64))
    count = draw(st.integers(0, 64)) if odd and draw(st.integers(0, 7)) == 7 else 64
    guards = draw(GUARDS) if odd and draw(st.integers(0, 3)) == 3 else UNGUARDED
    return Case(tuple(items), tuple(table), count, tuple(limits), guards)


@st.composite
def _spaced_loop(draw) -> list[Instruction]:
    """A loop of writes, latches and conversions in any order, each settled before the next."""
    write = st.one_of(_dact(), _dact(), _dac_line((8, 9, 10)))
    body = [draw(write) for _ in range(draw(st.integers(1, 3)))]
    if draw(st.integers(0, 5)) == 0:
        body.append(ins(Op.DACT, 8, WL_CHIPS, draw(st.integers(0, 3))))
    body += [LATCH] * draw(st.sampled_from([1, 1, 0, 2]))
    body += draw(st.lists(CONV, min_size=1, max_size=2))
    if draw(st.booleans()):
        body.append(draw(MARK))
    spaced = [item for one in draw(st.permutations(body)) for item in (one, SETTLE)]
    return _loop(spaced, draw(st.integers(1, 6)), draw(st.sampled_from([0, 1, 4, 8])))


@st.composite
def read_cases(draw) -> Case:
    """Programs of loops that only read, in every order that timing allows."""
    gates = [ins(Op.DAC, addr, WL_CHIPS, GATE_READ) for addr in (8, 9, 10, 15)]
    items = [
        *[ins(Op.DAC, 2, ALL_CHIPS, 0x00FF), ins(Op.DAC, 4, WL_CHIPS, 0x00FF)],
        *[ins(Op.WAIT, value=100), ins(Op.DAC, 4, BL_CHIPS, 0x0100), ins(Op.LINES, value=8)],
        *[shift_of((1, 1, 1, 1)), ins(Op.DAC, 8, BL_CHIPS, REST), ins(Op.DAC, 9, BL_CHIPS, REST)],
        *[*gates, LATCH, SETTLE, ins(Op.LINES, value=9), SETTLE],
    ]
    for _ in range(draw(st.integers(1, 3))):
        items += draw(_spaced_loop())
    limits = [0xFFFF] * N_LIMITS
    if draw(st.sampled_from([True, False])):  # in 5 V / 65536: four codes of the 1.25 V range
        limits[draw(st.sampled_from([0, 1, 8, 9]))] = draw(st.integers(11_800, 12_300))
    codes = st.integers(44_000, 50_000)
    table = draw(st.lists(codes, min_size=64, max_size=64))
    count = draw(st.integers(0, 30)) if draw(st.integers(0, 3)) == 0 else 64
    return Case([*items, END], table, count, limits)


@st.composite
def train_cases(draw) -> Case:
    """Programs of pulse trains, some of them with something amiss, and a read behind them."""
    items = [ins(Op.DAC, 2, ALL_CHIPS, 0x00FF), ins(Op.DAC, 4, WL_CHIPS, 0x00FF)]
    items.append(ins(Op.WAIT, value=100))
    calm = draw(st.sampled_from([True, False]))
    for _ in range(draw(st.integers(1, 3))):
        items += draw(_train(calm))
    items += [*_loop([CONV_0, CONV_1], 2, 0), END]
    limits = [0xFFFF] * N_LIMITS
    if draw(st.integers(0, 3)) == 3:  # BL and WL of the wide range: limits are codes
        limits[draw(st.sampled_from([0, 1, 8, 9, 16, 18]))] = draw(st.integers(30_000, 50_000))
    table = draw(st.lists(PULSED_CODES, min_size=64, max_size=64))
    count = draw(st.integers(0, 64)) if not calm and draw(st.integers(0, 3)) == 3 else 64
    guards = draw(GUARDS) if draw(st.integers(0, 3)) == 3 else UNGUARDED
    return Case(items, table, count, limits, guards)
