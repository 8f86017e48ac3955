"""Faults that can be injected: how a URL says them, and what each does to volts and currents."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from firmware_bridge import board_spec
from firmware_bridge.errors import InputError
from firmware_bridge.microcode import Op
from sim.board import EmulatedBoard, open_url
from sim.faults import CATALOGUE, parse
from tests.doubles import bl_codes, bring_to_reading, set_codes, source_lines_to
from tests.sim.programs import END, ins, results, start, unlock

SPEC = board_spec.load()
LSB_V = 1.8 / 2**14
GROUND, TIA, RAIL, FLOAT = range(4)

# ---- as text ------------------------------------------------------------------------------------

# text: places, value
GOOD = {
    "stuck_dac:5": ((5,), 0.5),
    "stuck_dac:63:1.25": ((63,), 1.25),
    "stuck_dac:0:0": ((0,), 0.0),
    "swapped_dac:3:40": ((3, 40), 0.0),
    "dead_dac:7": ((7,), 0.0),
    "dac_reference:2": ((2,), 0.95),
    "dac_reference:2:1.0625": ((2,), 1.0625),
    "stuck_mux:14": ((14,), 1.0),
    "stuck_mux:14:0": ((14,), 0.0),
    "swapped_mux:0:63": ((0, 63), 0.0),
    "open_wl:31": ((31,), 0.0),
    "open_bl:0": ((0,), 0.0),
    "shorted_cell:31:0": ((31, 0), 2e-3),
    "shorted_cell:3:4:0.0004": ((3, 4), 4e-4),
    "stuck_high:4:5": ((4, 5), 100e-6),
    "stuck_low:9:9:0": ((9, 9), 0.0),
    "stuck_low:9:9": ((9, 9), 2e-6),
    "tia_offset:6": ((6,), 5e-3),
    "tia_saturated:9": ((9,), 0.0),
    "adc_gain:2": ((2,), 0.9),
    "adc_gain:2:0.8": ((2,), 0.8),
    "dead_adc:7": ((7,), 0.0),
    "adc_reference": ((), 0.9),
    "adc_reference:1.125": ((), 1.125),
}


@pytest.mark.parametrize("text", GOOD)
def test_a_fault_is_read_printed_and_installed(text):
    (fault,) = parse(text)
    assert fault.kind == text.partition(":")[0]
    assert (fault.places, fault.value) == GOOD[text]
    assert str(fault) == text
    assert parse(str(fault)) == [fault]
    open_url(f"sim://?preset=ideal&fault={text}")


def test_every_kind_is_among_them_and_says_what_it_is():
    assert {text.partition(":")[0] for text in GOOD} == set(CATALOGUE) == set(EFFECTS)
    assert all(kind.doc for kind in CATALOGUE.values())


def test_several_faults_are_joined_by_commas():
    texts = [str(fault) for fault in parse("open_wl:7,adc_gain:2:0.8,,adc_reference,")]
    assert texts == ["open_wl:7", "adc_gain:2:0.8", "adc_reference"]
    assert parse("") == []
    board = open_url("sim://?preset=ideal&fault=open_wl:7,dead_adc:1")
    assert board.bench.open_wl[7] and board.bench.dead_adcs[1]


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1.2345678, 2e-3, 1e-12])
def test_a_value_comes_back_as_it_was(value):
    (fault,) = parse(f"stuck_dac:5:{value!r}")
    assert parse(str(fault)) == [fault]


BAD = {
    "gremlin:3": "fault 'gremlin' is not known; known: stuck_dac, swapped_dac",
    ":3": "fault '' is not known",
    "OPEN_WL:3": "fault 'OPEN_WL' is not known",
    "open_wl": "fault 'open_wl' has not the form open_wl:ROW",
    "open_wl:": "fault 'open_wl:' has not the form open_wl:ROW with numbers",
    "open_wl:x": "has not the form open_wl:ROW with numbers",
    "open_wl:1.5": "has not the form open_wl:ROW with numbers",
    "open_wl:3:4": "has not the form open_wl:ROW",
    "open_wl:32": "fault open_wl:32: row 32 is outside 0..31",
    "open_wl:-1": "fault open_wl:-1: row -1 is outside 0..31",
    "open_bl:32": "column 32 is outside 0..31",
    "stuck_dac:64": "channel 64 is outside 0..63",
    "stuck_dac": "has not the form stuck_dac:CHANNEL[:VALUE]",
    "stuck_dac:1:2:3": "has not the form stuck_dac:CHANNEL[:VALUE]",
    "stuck_dac:1:high": "has not the form stuck_dac:CHANNEL[:VALUE] with numbers",
    "stuck_dac:1:nan": "value nan is outside 0..5",
    "stuck_dac:1:inf": "value inf is outside 0..5",
    "stuck_dac:1:-0.1": "value -0.1 is outside 0..5",
    "stuck_dac:1:1000": "value 1000 is outside 0..5",
    "swapped_dac:3:3": "exchanges channel 3 with itself",
    "swapped_mux:8:8": "exchanges position 8 with itself",
    "shorted_cell:1:1:5": "value 5 is outside 0..0.01",
    "tia_offset:6:3": "value 3 is outside -0.1..0.1",
    "swapped_dac:3": "has not the form swapped_dac:CHANNEL:CHANNEL",
    "swapped_dac:3:64": "channel 64 is outside 0..63",
    "dead_dac:8": "chip 8 is outside 0..7",
    "dac_reference:8:0.9": "chip 8 is outside 0..7",
    "stuck_mux:64": "position 64 is outside 0..63",
    "stuck_mux:3:2": "value 2",
    "stuck_mux:3:0.5": "value 0.5",
    "swapped_mux:0:64": "position 64 is outside 0..63",
    "shorted_cell:3": "has not the form shorted_cell:ROW:COLUMN[:VALUE]",
    "shorted_cell:3:32": "column 32 is outside 0..31",
    "stuck_high:32:3": "row 32 is outside 0..31",
    "stuck_low:0:0:-1e-6": "value -1e-06 is outside 0..0.01",
    "tia_offset:32": "row 32 is outside 0..31",
    "tia_saturated:-1": "row -1 is outside 0..31",
    "adc_gain:8": "converter 8 is outside 0..7",
    "adc_gain:1:0": "value 0 is outside 0.1..2",
    "dead_adc:8": "converter 8 is outside 0..7",
    "adc_reference:0": "value 0 is outside 0.5..1.5",
    "adc_reference:1:1": "has not the form adc_reference[:VALUE]",
}


@pytest.mark.parametrize("text", BAD)
def test_a_fault_that_cannot_be_is_refused_with_its_form_or_place(text):
    with pytest.raises(InputError) as refusal:
        open_url(f"sim://?preset=ideal&fault={text}")
    assert BAD[text] in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_one_bad_fault_among_good_ones_is_named():
    with pytest.raises(InputError, match="fault dead_adc:9: converter 9"):
        open_url("sim://?preset=ideal&fault=open_wl:7,dead_adc:9")


# ---- what they do -------------------------------------------------------------------------------


def _board(defects: str = "") -> EmulatedBoard:
    """All cells 50 uS, every line at its reading voltage: 50 mV on bit lines, range 0."""
    query = f"&fault={defects}" if defects else ""
    board = open_url(f"sim://?preset=ideal{query}")
    cells = board.bench.cells
    cells.g = np.where(np.isinf(cells.stuck_siemens), 50e-6, cells.stuck_siemens)
    cells.formed[:] = True
    cells.version += 1
    bring_to_reading(board.bench)
    set_codes(board.bench, SPEC.bl_channel, bl_codes(SPEC, np.full(32, 0.05)))
    return board


def _read(board: EmulatedBoard) -> np.ndarray:
    """Codes of all rows by the reference, (rows,); a batch has to say the same."""
    bench = board.bench
    words = np.concatenate([bench.convert(select) for select in range(4)])
    codes = bench.active_codes()[list(SPEC.bl_channel)].astype(np.uint16)
    assert np.array_equal(bench.read_plan(SPEC.bl_channel, range(4)).words(codes[None])[0], words)
    signed = words.astype(int)
    return np.where(signed >= 0x2000, signed - 0x4000, signed)  # row = 8 select + converter


def _but(*lines: int) -> np.ndarray:
    return np.setdiff1d(np.arange(32), lines)


def _current_lsb(siemens_volts: float, row_siemens: float = 32 * 50e-6) -> float:
    """Code of sum g v behind a switch of 86.28 ohm and 3500 ohm."""
    return -siemens_volts / (1 + 86.28 * row_siemens) * 3500 / LSB_V


def _volts(board: EmulatedBoard, line: str) -> np.ndarray:
    return np.array([board.truth.rails_v[f"{line}{k}"] for k in range(32)])


def stuck_dac() -> None:
    """The line stays where it is whatever its code, and cells on it carry that much more."""
    board = _board("stuck_dac:5:0.98")
    for code in (0, 40_000, 0xFFFF):
        set_codes(board.bench, SPEC.bl_channel[5:6], code)
        assert _volts(board, "BL")[5] == 0.98
    extra = _current_lsb(50e-6 * (0.98 - 0.95))
    assert np.abs(_read(board) - _read(_board()) - extra).max() <= 1.5
    board = _board("stuck_dac:40:2")
    assert _volts(board, "WL")[8] == 2.0 and (_volts(board, "WL")[_but(8)] > 3.29).all()


def swapped_dac() -> None:
    """BL3 follows channel 40, WL8 channel 3."""
    board = _board("swapped_dac:3:40")
    assert _volts(board, "BL")[3] == pytest.approx(3.3, abs=1e-3)
    assert _volts(board, "WL")[8] == pytest.approx(0.95, abs=1e-3)
    healthy = _board()
    for line, other in (("BL", 3), ("WL", 8)):
        rest = _but(other)
        assert np.array_equal(_volts(board, line)[rest], _volts(healthy, line)[rest])


def dead_dac() -> None:
    """BL8 to BL15 at 0 V, and no echo from chip 1 to a readback."""
    board = _board("dead_dac:1")
    volts = _volts(board, "BL")
    assert (volts[8:16] == 0).all() and (np.delete(volts, np.s_[8:16]) > 0.94).all()
    unlock(board)
    start(board, [ins(Op.DREAD, 2, 0xFF), END])
    echoes = results(board)[::2].tolist()
    assert echoes == [0x82, 0, *[0x82] * 6]


def dac_reference() -> None:
    """Chip 2 drives BL16 to BL23: 0.9 of everything."""
    board, healthy = _board("dac_reference:2:0.9"), _board()
    ratio = _volts(board, "BL") / _volts(healthy, "BL")
    assert ratio[16:24] == pytest.approx(0.9) and (np.delete(ratio, np.s_[16:24]) == 1).all()


def stuck_mux() -> None:
    """Position 14 is bit 0 of SL7, 15 bit 1: of the input 1, 0 is left, and 3 comes of it."""
    for defect, expected in (("14:0", 0.0), ("15:1", math.nan), ("14:1", 0.9), ("15:0", 0.9)):
        volts = _volts(_board(f"stuck_mux:{defect}"), "SL")
        assert volts[7] == expected or (math.isnan(expected) and math.isnan(volts[7]))
        assert (volts[_but(7)] == 0.9).all()
    board = _board("stuck_mux:14")
    source_lines_to(board.bench, GROUND)
    volts = _volts(board, "SL")
    assert volts[7] == 0.9 and (volts[_but(7)] == 0).all()
    board.bench.oe = False  # off is off, whatever the level would be
    assert np.isnan(_volts(board, "SL")).all()


def swapped_mux() -> None:
    """Positions 8 and 20 are bit 0 of SL4 and of SL10: what one is sent, the other does."""
    board = _board("swapped_mux:8:20")
    inputs = np.full(32, GROUND)
    inputs[4] = TIA
    source_lines_to(board.bench, inputs)
    assert board.bench.sl_inputs()[[4, 10]].tolist() == [GROUND, TIA]
    assert (board.bench.sl_inputs()[_but(4, 10)] == GROUND).all()
    assert _volts(board, "SL")[[4, 10]].tolist() == [0.0, 0.9]


def open_wl() -> None:
    """Gates of row 7 stay at 0 V: no current, no pulse; other rows as ever."""
    board, healthy = _board("open_wl:7"), _board()
    assert _volts(board, "WL")[7] == 0 and (_volts(board, "WL")[_but(7)] > 3.29).all()
    read = _read(board)
    assert read[7] == 0 and np.array_equal(read[_but(7)], _read(healthy)[_but(7)])
    set_codes(board.bench, SPEC.bl_channel, 0)
    source_lines_to(board.bench, RAIL)
    board.bench.stress(1e-4, 0.0)
    assert not board.bench.cells.pulses[7].any()
    assert (board.bench.cells.pulses[_but(7)] == 1).all()


def open_bl() -> None:
    """Nothing flows through column 9, and nothing happens to it; the others are there."""
    board = _board("open_bl:9")
    volts = np.zeros(32)
    volts[9] = 0.1
    set_codes(board.bench, SPEC.bl_channel, bl_codes(SPEC, volts))
    assert np.abs(_read(board)).max() <= 1
    volts[9], volts[10] = 0.0, 0.1
    set_codes(board.bench, SPEC.bl_channel, bl_codes(SPEC, volts))
    exact = float(board.bench.bl_volts()[10]) - 0.9
    rest = float(board.bench.bl_volts()[11]) - 0.9
    wanted = _current_lsb(50e-6 * (exact + 30 * rest), 31 * 50e-6)
    assert np.abs(_read(board) - wanted).max() < 0.51
    set_codes(board.bench, SPEC.bl_channel, 0)
    source_lines_to(board.bench, RAIL)
    board.bench.stress(1e-4, 0.0)
    assert not board.bench.cells.pulses[:, 9].any()
    assert (np.delete(board.bench.cells.pulses, 9, 1) == 1).all()


def _holds(defect: str, row: int, col: int, siemens: float) -> EmulatedBoard:
    """The cell conducts so much before and after RESET, SET and a year; its neighbours move."""
    board = _board(defect)
    cells = board.bench.cells
    for bl_code, sl, gate in ((0, RAIL, 4.0), (0xFFFF, GROUND, 1.5)):
        for dac in board.bench.dacs:
            dac.gain = 0x0000 if dac in board.bench.dacs[:4] else 0x00FF
        set_codes(board.bench, SPEC.bl_channel, bl_code)
        set_codes(board.bench, SPEC.wl_channel, round(gate / 5 * 65536))
        source_lines_to(board.bench, sl)
        before = cells.g.copy()
        board.bench.stress(1e-4, 0.0)
        assert cells.g[row, col] == siemens
        others = np.arange(32) != col
        assert (cells.g[row, others] != before[row, others]).sum() > 20
    cells.age(3e7)
    assert cells.g[row, col] == siemens
    fresh = _board(defect)
    difference = (siemens - 50e-6) * (float(fresh.bench.bl_volts()[col]) - 0.9)
    read, healthy = _read(fresh), _read(_board())
    # dI = dg (V_BL - V_SL), with the row's own drop over its switch in both
    total = 32 * 50e-6
    shift = _current_lsb(difference / (1 + 86.28 * (total + siemens - 50e-6)), total)
    assert read[row] - healthy[row] == pytest.approx(shift, abs=1.5)
    assert np.array_equal(read[_but(row)], healthy[_but(row)])
    return board


def shorted_cell() -> None:
    """2 mS, 40 times what a cell carries at most."""
    _holds("shorted_cell:3:4", 3, 4, 2e-3)


def stuck_high() -> None:
    """100 uS."""
    _holds("stuck_high:4:5", 4, 5, 100e-6)


def stuck_low() -> None:
    """2 uS."""
    _holds("stuck_low:9:9", 9, 9, 2e-6)


def tia_offset() -> None:
    """5 mV on the virtual ground: 46 LSB with closed gates; 1.6 mS x 5 mV less current besides."""
    board = _board("tia_offset:6")
    assert _volts(board, "SL")[6] == pytest.approx(0.905)
    set_codes(board.bench, SPEC.wl_channel, 0)
    read = _read(board)
    assert read[6] == round(5e-3 / LSB_V) and not read[_but(6)].any()
    opened = _board("tia_offset:6")
    extra = 5e-3 / LSB_V - _current_lsb(1.6e-3 * 5e-3)
    assert _read(opened)[6] - _read(_board())[6] == pytest.approx(extra, abs=1.5)


def tia_saturated() -> None:
    """10 mV below 1.8 V: 0.89 V above the bias, whatever flows, with switches open, too."""
    board = _board("tia_saturated:9")
    for volts in (0.05, 0.0, -0.1):
        set_codes(board.bench, SPEC.bl_channel, bl_codes(SPEC, np.full(32, volts)))
        read = _read(board)
        assert read[9] == round(0.89 / LSB_V)
        assert np.abs(read[_but(9)]).max() < 6000
    board.bench.enable = False
    assert _read(board)[9] == round(0.89 / LSB_V)


def adc_gain() -> None:
    """Converter 2 has rows 2, 10, 18 and 26."""
    read, healthy = _read(_board("adc_gain:2:0.8")), _read(_board())
    mine = np.arange(2, 32, 8)
    assert np.abs(read[mine] - 0.8 * healthy[mine]).max() <= 1
    assert np.array_equal(read[_but(*mine)], healthy[_but(*mine)])


def dead_adc() -> None:
    """Converter 3 has rows 3, 11, 19 and 27."""
    read, healthy = _read(_board("dead_adc:3")), _read(_board())
    mine = np.arange(3, 32, 8)
    assert not read[mine].any() and healthy[mine].all()
    assert np.array_equal(read[_but(*mine)], healthy[_but(*mine)])


def adc_reference() -> None:
    """A reference of 0.8 of what it should be: codes 1.25 times as large, in all rows."""
    read, healthy = _read(_board("adc_reference:0.8")), _read(_board())
    assert np.abs(read - 1.25 * healthy).max() <= 1.2
    assert np.abs(healthy).min() > 1000


EFFECTS: dict[str, Callable[[], object]] = {
    effect.__name__: effect
    for effect in (
        *(stuck_dac, swapped_dac, dead_dac, dac_reference, stuck_mux, swapped_mux, open_wl),
        *(open_bl, shorted_cell, stuck_high, stuck_low, tia_offset, tia_saturated, adc_gain),
        *(dead_adc, adc_reference),
    )
}


@pytest.mark.parametrize("kind", EFFECTS)
def test_a_fault_does_what_it_says(kind):
    EFFECTS[kind]()


def test_faults_put_in_later_act_at_once():
    """Nothing that was worked out before a fault came outlives it."""
    board, healthy = _board(), _read(_board())
    assert np.array_equal(_read(board), healthy)
    for defect in ("adc_gain:2:0.8", "open_wl:7", "tia_offset:6", "shorted_cell:3:4"):
        before = _read(board)
        board.inject(defect)
        assert not np.array_equal(_read(board), before), defect
    assert np.array_equal(_read(board)[[0, 1, 4]], healthy[[0, 1, 4]])


def test_faults_outlive_a_reset_of_the_board():
    board = _board("open_wl:7,stuck_dac:5:0.98,stuck_mux:14:0")
    board.bench.power_up()
    bring_to_reading(board.bench)
    assert _volts(board, "WL")[7] == 0 and _volts(board, "BL")[5] == 0.98
    assert _volts(board, "SL")[7] == 0 and _volts(board, "SL")[8] == 0.9
