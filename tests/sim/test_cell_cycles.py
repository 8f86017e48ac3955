"""Cycle after cycle: spread of the switching voltages, wear, polarity, and loops of pulses."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import pytest

from firmware_bridge.board_file import BOARDS
from firmware_bridge.board_spec import TE_ON_SL
from firmware_bridge.microcode import Op
from sim import presets
from sim.array.cell import Cells
from sim.board import EmulatedBoard, open_url
from tests.sim.programs import (
    END,
    LATCH,
    SETTLE,
    ins,
    register,
    shift_of,
    small_spec,
    start,
    unlock,
    with_cells,
)
from tests.sim.test_emulated_interpreters import _everything

IDEAL = presets.load("ideal").cells
TAOX = presets.load("taox_180nm").cells
LONG_S = 1e-4


def _cells(shape, preset=IDEAL, g=50e-6, seed=0, **more) -> Cells:
    cells = Cells(*shape, preset, np.random.default_rng(seed), **more)
    cells.g[:], cells.formed[:] = g, True
    return cells


def _pulse(cells, v, wl_v=2.0):
    cells.pulse(np.full(cells.g.shape, v), np.full(cells.g.shape[0], wl_v), LONG_S, 0.0)


# ---- spread from cycle to cycle ---------------------------------------------------------------


def _sweep(cells, volts, wl_v) -> np.ndarray:
    """Voltage of a quasi-static sweep at which each cell first moves, (rows, cols)."""
    first = np.full(cells.g.shape, np.nan)
    for v in volts:
        before = cells.g.copy()
        _pulse(cells, v, wl_v)
        first[np.isnan(first) & (cells.g != before)] = abs(v)
    return first


def test_set_and_reset_voltages_of_many_cycles_have_the_spread_of_the_preset():
    """400 cells, 5 cycles in steps of 2 mV: mean and std within 5 standard errors, and the half
    step by which a staircase is late. V_reset as 100 uS shows it is 1 V + (120 - 100) / 80 V."""
    preset = dataclasses.replace(IDEAL, set_cycle_spread_v=0.04, reset_cycle_spread_v=0.03)
    cells = _cells((20, 20), preset, seed=2)
    _pulse(cells, -2.2)
    ups, downs = [], []
    for _ in range(5):
        ups.append(_sweep(cells, np.arange(0.8, 1.2, 0.002), wl_v=1.7))
        downs.append(_sweep(cells, -np.arange(1.05, 1.45, 0.002), wl_v=4.0))
        _pulse(cells, -2.2, 4.0)
    for seen, mean_v, std_v in ((ups, 1.0, 0.04), (downs, 1.25, 0.03)):
        seen = np.array(seen)
        n = seen.size
        assert abs(seen.mean() - mean_v - 0.001) < 5 * std_v / np.sqrt(n)
        assert abs(seen.std() - std_v) < 5 * std_v / np.sqrt(2 * n)
        # cycles of a cell are independent: their means spread by std / sqrt(5)
        spread = seen.mean(0).std()
        assert abs(spread - std_v / np.sqrt(5)) < 5 * std_v / np.sqrt(5 * 2 * 400)


def test_one_cycle_has_one_voltage():
    """A cell that has not SET at 1 V does not at the tenth pulse of 1 V: nothing is drawn anew."""
    preset = dataclasses.replace(IDEAL, set_cycle_spread_v=0.04)
    cells = _cells((40, 40), preset, g=20e-6, seed=3)
    _pulse(cells, 1.0)
    after = cells.g.copy()
    share = (after > 20e-6).mean()
    assert abs(share - 0.5) < 5 * 0.5 / 40
    for _ in range(10):
        _pulse(cells, 1.0)
    assert np.array_equal(cells.g, after)


# ---- wear -------------------------------------------------------------------------------------

WORN = dataclasses.replace(IDEAL, wear_pulses=20.0, wear_spread=0.5, wear_high_share=0.3)


def _cycled(cells, moves: int) -> None:
    """One long RESET or SET after another."""
    for move in range(moves):
        _pulse(cells, -2.2 if move % 2 else 1.8, 1.7 if move % 2 == 0 else 4.0)


def test_cells_fail_after_a_log_normal_number_of_moves():
    """1600 cells, median 20 moves, sigma 0.5: share failed by n is Phi(ln(n / 20) / 0.5)."""
    cells = _cells((40, 40), WORN, seed=4)
    for done in range(1, 61):
        _pulse(cells, -2.2 if done % 2 else 1.8, 4.0 if done % 2 else 1.7)
        if done in (10, 20, 40):
            expected = 0.5 * math.erfc(-math.log(done / 20) / 0.5 / math.sqrt(2))
            error = np.sqrt(expected * (1 - expected) / 1600)
            assert abs(cells.worn.mean() - expected) < 5 * error
    high = cells.fails_high[cells.worn].mean()
    assert abs(high - 0.3) < 5 * np.sqrt(0.21 / cells.worn.sum())


def test_a_worn_cell_holds_one_end_of_its_window_for_good():
    cells = _cells((20, 20), WORN, seed=5)
    _cycled(cells, 200)
    assert cells.worn.all()
    ends = np.where(cells.fails_high, 120e-6, 1e-6)
    assert np.array_equal(cells.g, ends)
    for v in (1.8, -2.8):
        _pulse(cells, v, 4.0)
        assert np.array_equal(cells.g, ends)
    cells.age(1e6)
    assert np.array_equal(cells.g, ends)


def test_no_cell_wears_out_where_the_preset_says_never():
    cells = _cells((4, 4))
    _cycled(cells, 300)
    assert not cells.worn.any() and cells.moves.min() > 290


def test_windows_close_towards_the_end_of_life():
    """Moves are 30 % smaller at the end: of 10 to 50 uS, half way there 0.85 of 40 uS."""
    preset = dataclasses.replace(IDEAL, wear_pulses=1e6, wear_closure=0.3)
    cells = _cells((1, 3), preset, g=10e-6)
    cells.moves[:] = [[0, 500_000, 999_998]]
    _pulse(cells, 1.8, 1.2)
    assert cells.g[0] == pytest.approx([50e-6, 44e-6, 38e-6], rel=1e-5)


def test_wear_lives_on_in_snapshots_and_state_files(tmp_path):
    path = tmp_path / "chip"
    board = with_cells(EmulatedBoard("taox_180nm", seed=3, spec=small_spec(), state=path))
    cells = board.bench.cells
    cells.lifetime[:] = 3
    _cycled(cells, 6)
    assert cells.worn[cells.formed].all()
    board.close()
    again = EmulatedBoard("taox_180nm", seed=3, spec=small_spec(), state=path)
    other = EmulatedBoard("taox_180nm", seed=3, spec=small_spec())
    other.restore(board.snapshot())
    for one in (again, other):
        assert np.array_equal(one.truth.worn, board.truth.worn) and board.truth.worn.any()
        assert np.array_equal(one.bench.cells.stuck_siemens, cells.stuck_siemens)
        _cycled(one.bench.cells, 2)
        assert np.array_equal(one.bench.cells.g[cells.worn], cells.g[cells.worn])


def test_one_cycle_costs_taox_one_of_its_ten_million_moves():
    """Median 1e7 and a factor exp(1.2) a sigma over 1e4 cells; 5 standard errors of the mean."""
    cells = Cells(100, 100, TAOX, np.random.default_rng(6))
    logs = np.log(cells.lifetime)
    assert abs(logs.mean() - np.log(1e7)) < 5 * 1.2 / 100
    assert abs(logs.std() - 1.2) < 5 * 1.2 / 100 / np.sqrt(2)


# ---- polarity ---------------------------------------------------------------------------------


def _lines(bl: int, wl: int) -> list:
    return [*[ins(Op.DAC, a, 0b011, bl) for a in (8, 9)], *[ins(Op.DAC, a, 4, wl) for a in (8, 9)]]


def _one_pulse(inputs, bl: int, gate: int = 22282) -> list:
    """All cells: source lines at an input, lines at codes of 5 V, gates at 1.7 V by default."""
    return [
        *[ins(Op.DAC, 2, 7, 0x00FF), ins(Op.DAC, 4, 7, 0x00FF), ins(Op.WAIT, value=100)],
        *[ins(Op.LINES, value=8), shift_of((inputs,) * 4)],
        *[ins(Op.DAC, a, 0b011, bl) for a in (8, 9)],
        *[ins(Op.DAC, a, 4, gate) for a in (8, 9, 10, 15)],
        *[LATCH, SETTLE, ins(Op.PULSE, value=10_000), END],
    ]


def test_with_top_electrodes_on_the_source_lines_the_rail_sets_and_bit_lines_reset():
    """The same pulses, mirrored: SL 3.7 V above BL SETs to 100 uS (V_WL - 0.7 V), BL 2 V RESETs."""
    found = {}
    for polarity in ("te_on_bl", TE_ON_SL):
        spec = dataclasses.replace(small_spec(), polarity=polarity, sl_rail_v=3.7)
        rail = spec.sl_rail
        for name, inputs, bl in (("rail", rail, 0), ("bl", spec.sl_ground, 26214)):
            board = EmulatedBoard("ideal", spec=spec)
            board.bench.switch_ohm[:] = 0.0
            board.bench.cells.g[:], board.bench.cells.formed[:] = 40e-6, True
            unlock(board)
            start(board, _one_pulse(inputs, bl))
            assert register(board, "FAULT_CODE") == 0
            found[polarity, name] = board.bench.cells.g[0, 0]
    gate_v = 22282 * 5 / 65536
    # with the gate at 1.7 V a RESET goes to 120 uS - 80 uS/V (V - 1 V), or 1 uS
    assert found["te_on_bl", "bl"] == pytest.approx(1e-4 * (gate_v - 0.7), rel=1e-6)
    assert found[TE_ON_SL, "rail"] == pytest.approx(1e-4 * (gate_v - 0.7), rel=1e-6)
    assert found["te_on_bl", "rail"] == pytest.approx(1e-6)
    down_v = 26214 * 5 / 65536
    assert found[TE_ON_SL, "bl"] == pytest.approx(min(120e-6 - 80e-6 * (down_v - 1), 40e-6))


def test_where_source_lines_set_a_gate_counts_from_the_lower_line():
    """Rail 3.7 V, bit lines at 1.9 V, gates at 1.7 V: closed. Gates at 3.4 V limit as 1.5 V do."""
    spec = dataclasses.replace(small_spec(), polarity=TE_ON_SL, sl_rail_v=3.7)
    found = []
    for gate in (22282, round(3.4 * 65536 / 5)):
        board = EmulatedBoard("ideal", spec=spec)
        board.bench.switch_ohm[:] = 0.0
        board.bench.cells.g[:], board.bench.cells.formed[:] = 40e-6, True
        unlock(board)
        start(board, _one_pulse(spec.sl_rail, round(1.9 * 65536 / 5), gate))
        assert register(board, "FAULT_CODE") == 0
        found.append((board.bench.cells.g[0, 0], board.bench.cells.pulses[0, 0]))
    assert found[0] == (40e-6, 0)
    assert found[1] == (pytest.approx(80e-6, rel=1e-4), 1)  # to a code of the DACs


def test_a_board_file_gives_the_polarity(tmp_path):
    text = (BOARDS / "zc706.toml").read_text(encoding="utf-8")
    path = tmp_path / "mirror.toml"
    for old, new in (
        ('value = "te_on_bl"', 'value = "te_on_sl"'),
        ("rail = { value = 3.0", "rail = { value = 3.7"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    board = open_url(f"sim://?preset=ideal&spec={path}")
    assert board.spec.polarity == TE_ON_SL and board.bench.cells._sign == -1.0


# ---- loops of pulses, many times over ---------------------------------------------------------


def _phase(inputs: int, table_at: int, pulses: int) -> list:
    """As a driver writes it: inhibit, choose inputs, pointer, a train from the table, idle."""
    return [
        *[ins(Op.LINES, value=8), shift_of((inputs,) * 4), ins(Op.WAIT, value=30)],
        *[ins(Op.PTR, value=table_at), ins(Op.LOOP, value=pulses)],
        *[ins(Op.DACT, 8, 0b011, 0), ins(Op.DACT, 9, 0b011, 2), ins(Op.DACT, 8, 4, 4)],
        *[ins(Op.DACT, 9, 4, 5), LATCH, SETTLE, ins(Op.PULSE, value=100), ins(Op.NEXT, value=6)],
        *[ins(Op.LINES, value=8), *_lines(0, 0), ins(Op.WAIT, value=100), LATCH],
    ]


# BL codes of four lines, then two gates; 5 V / 65536. SET 1.8 V at 1.5 V gates, RESET 2.2 V
TABLE = [23593, 0, 0, 23593, 20000, 20000, 0, 23593, 23593, 0, 21000, 19000]
TABLE += [10485, 10485, 10485, 39321, 52000, 0, 10485, 39321, 10485, 10485, 0, 52000]


def _cycling(turns: int) -> list:
    return [
        *[ins(Op.DAC, 2, 7, 0x00FF), ins(Op.DAC, 4, 7, 0x00FF), ins(Op.WAIT, value=100)],
        ins(Op.LOOP, value=turns),
        *_phase(0, 0, 2),
        *_phase(2, 12, 2),
        ins(Op.NEXT),
        END,
    ]


def _cycled_board(batched: bool, turns: int) -> EmulatedBoard:
    board = with_cells(EmulatedBoard("taox_180nm", seed=3, spec=small_spec(), batched=batched))
    board.bench.cells.lifetime[:] = np.minimum(board.bench.cells.lifetime, 400)
    unlock(board)
    start(board, _cycling(turns), TABLE)
    return board


@pytest.mark.parametrize("turns", [1, 2, 5, 6, 7, 150])
def test_cycles_done_at_once_are_cycles_done_one_after_another(turns):
    """To the bit, with noise, shifts of thresholds, and cells that fail on the way."""
    one, other = (_everything(_cycled_board(batched, turns)) for batched in (True, False))
    assert one == other
    assert one["FAULT_CODE"] == 0 and one["PULSE_COUNT"] == 4 * turns


def test_a_hundred_thousand_cycles_take_a_second():
    """4e5 pulses on 4 x 4 cells; found 0.2 s on a slow core, against 40 s turn by turn."""
    _cycled_board(True, 10)
    begun = time.perf_counter()
    board = _cycled_board(True, 100_000)
    assert time.perf_counter() - begun < 2.0
    assert board.bench.cells.moves.max() > 1e5 and board.truth.worn.any()
