"""The circuit board around the array, against Ohm, Kirchhoff and datasheets."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from firmware_bridge import board_spec
from firmware_bridge.chips import dac80508
from sim import presets
from sim.array.network import EffectiveMatrix, Wires
from sim.bench import Bench
from tests.doubles import bl_codes, bring_to_reading, set_codes, source_lines_to
from tests.sim.programs import small_spec

SPEC = board_spec.load()
LSB_V = 1.8 / 2**14
GROUND, TIA, RAIL, FLOAT = range(4)


def _bench(preset: str = "ideal", spec=SPEC, seed: int = 3, **analog: float) -> Bench:
    """A bench with all cells formed, 20 to 80 uS, and some errors of its own."""
    chosen = presets.load(preset)
    chosen = dataclasses.replace(chosen, analog=dataclasses.replace(chosen.analog, **analog))
    bench = Bench(spec, chosen, np.random.default_rng(seed))
    rng = np.random.default_rng(seed + 1)
    bench.cells.g = rng.uniform(20e-6, 80e-6, bench.cells.g.shape)
    bench.cells.formed[:] = True
    return bench


def _code(word: int) -> int:
    return int(word) - 0x4000 if word >= 0x2000 else int(word)


def _codes_by_row(bench: Bench) -> np.ndarray:
    """Codes of all rows, (rows,), by the reference."""
    spec = bench.spec
    words = np.array([bench.convert(select) for select in range(spec.selects)])
    picked = zip(spec.select_of_row, spec.adc_of_row, strict=True)
    return np.array([_code(words[select, adc]) for select, adc in picked])


def _held(cells, g: np.ndarray) -> None:
    """Put conductances into cells, as a move of theirs does."""
    cells.g = g
    cells.version += 1


# ---- half-select --------------------------------------------------------------------------------


def _reset(bench: Bench, unselected_v: float) -> None:
    """RESET of cell (4, 5): rail on SL4, 1 V on BL5, gate 4 V; other rows' gates closed."""
    inputs = np.full(32, FLOAT)
    inputs[4] = RAIL
    source_lines_to(bench, inputs)
    for dac in bench.dacs:
        dac.gain = 0x00FF  # 0 to 5 V
    volts = np.full(32, unselected_v)
    volts[5] = 1.0
    set_codes(bench, SPEC.bl_channel, np.rint(volts / 5 * 65536))
    gates = np.zeros(32)
    gates[4] = 4.0
    set_codes(bench, SPEC.wl_channel, np.rint(gates / 5 * 65536))
    bench.stress(1e-4, 1.0)


def test_a_reset_with_inhibited_bit_lines_moves_its_cell_alone():
    """SL at 3 V less what 125 ohm and its own current take; G = 120 uS - 80 uS/V (V - 1 V)."""
    bench = _bench()
    bench.cells.g[4, 5] = 79e-6
    before = bench.cells.g.copy()
    _reset(bench, SPEC.sl_rail_v)
    moved = bench.cells.g != before
    assert np.argwhere(moved).tolist() == [[4, 5]]
    assert bench.cells.pulses.sum() == bench.cells.pulses[4, 5] == 1
    # SL = 3 V less the drop over its switch of 2 V x 79 uS x R (cells at 3 V carry next to nothing)
    ohm = SPEC.switch_ohm(3.0)
    drop = 2.0 * 79e-6 * ohm / (1 + before[4].sum() * ohm)
    assert bench.cells.g[4, 5] == pytest.approx(120e-6 - 80e-6 * (1 - drop), rel=2e-3)


def test_a_reset_without_inhibition_disturbs_its_whole_row_and_no_other():
    """Unselected bit lines at 0 V: all of the row is RESET, harder than what is meant.

    The row's current through its switch takes SL from 3 V down to V = (3 + R g 1 V) / (1 + R G),
    which over the others is still enough for the floor of 1 uS.
    """
    bench = _bench()
    bench.cells.g[4, 5] = 85e-6
    before = bench.cells.g.copy()
    _reset(bench, 0.0)
    ohm = SPEC.switch_ohm(3.0)
    gated = before[4] / (1 + before[4] * (1 / 3.4e-3 - 1 / 2.7e-3))  # gates at 4 V, not at 3.3 V
    sl_v = (3.0 + ohm * gated[5]) / (1 + ohm * gated.sum())
    assert 2.4 < sl_v < 2.6
    others = np.delete(np.arange(32), 5)
    assert bench.cells.g[4, others] == pytest.approx(1e-6)
    assert bench.cells.g[4, 5] == pytest.approx(120e-6 - 80e-6 * (sl_v - 2.0), rel=1e-3)
    assert (bench.cells.pulses[4] == 1).all()
    elsewhere = np.delete(np.arange(32), 4)
    assert not bench.cells.pulses[elsewhere].any()
    assert np.array_equal(bench.cells.g[elsewhere], before[elsewhere])


def test_open_source_lines_carry_no_pulse():
    bench = _bench()
    before = bench.cells.g.copy()
    _reset(bench, 0.0)
    disturbed = bench.cells.g[4].copy()
    source_lines_to(bench, FLOAT)
    bench.stress(1e-4, 2.0)
    assert np.array_equal(bench.cells.g[4], disturbed)
    assert np.array_equal(np.delete(bench.cells.g, 4, 0), np.delete(before, 4, 0))


def test_reading_voltages_stress_nothing():
    bench = bring_to_reading(_bench("taox_180nm"))
    before = bench.cells.g.copy()
    set_codes(bench, SPEC.bl_channel, bl_codes(SPEC, np.full(32, 0.1)))
    bench.stress(10.0, 1.0)
    assert np.array_equal(bench.cells.g, before) and not bench.cells.pulses.any()


# ---- gates --------------------------------------------------------------------------------------


def test_closed_gates_carry_no_current_and_see_no_pulse():
    """Threshold 0.6 V: nothing at 0.59 V, something at 0.7 V."""
    for gate_v, conducts in ((0.0, False), (0.59, False), (0.7, True)):
        bench = bring_to_reading(_bench(), gate_v=gate_v)
        set_codes(bench, SPEC.bl_channel, bl_codes(SPEC, np.full(32, 0.1)))
        assert bench.conducts(bench.wl_volts()) == conducts
        assert (_codes_by_row(bench) != 0).all() == conducts
        assert (_codes_by_row(bench) != 0).any() == conducts
        bench.stress(1e-4, 0.0)
        assert not bench.cells.pulses.any()


def test_a_gate_half_open_is_its_transistor_in_series():
    """1 / G' = 1 / G + 1 / k (V - 0.6) - 1 / k (3.3 - 0.6), k = 1 mS/V; 45 kohm, no switch."""
    spec = small_spec()
    bench = _bench(spec=spec)
    bench.switch_ohm[:] = 0.0
    bench.rewired()
    _held(bench.cells, np.diag([50e-6, 80e-6, 20e-6, 100e-6]) + 1e-15)
    for gate_v in (0.8, 1.5, 3.3, 5.0 - 5 / 65536):
        bring_to_reading(bench, gate_v=gate_v, tia_range=2)
        codes = bl_codes(spec, np.full(4, -0.1))
        set_codes(bench, spec.bl_channel, codes)
        gate = round(gate_v / 5 * 65536) * 5 / 65536
        extra = 1 / (1e-3 * (gate - 0.6)) - 1 / (1e-3 * 2.7)
        g = np.array([50e-6, 80e-6, 20e-6, 100e-6])
        current = (codes * 1.25 / 65536 - 0.9) * g / (1 + g * extra)
        assert np.abs(_codes_by_row(bench) + current * 45e3 / LSB_V).max() < 0.51


# ---- power-up, chain, DACs ----------------------------------------------------------------------


def test_after_power_up_the_chain_holds_anything_and_every_source_line_is_open():
    """SN74HC595: registers are undefined until latched; its outputs are off until OE is low."""
    first = [Bench(SPEC, presets.load("ideal"), np.random.default_rng(s)) for s in range(8)]
    held = np.array([bench.chain.storage for bench in first])
    # 512 fair bits: 256 +- 5 x 11.3
    assert abs(held.sum() - 256) < 5 * np.sqrt(512 / 4)
    for bench in first:
        assert (bench.sl_inputs() == FLOAT).all() and np.isnan(bench.source_volts()).all()
        bench.enable = bench.oe = True  # never latched: what the outputs show is no choice
        assert np.isnan(bench.source_volts()).all()
    bench = first[0]
    source_lines_to(bench, RAIL)
    assert (bench.source_volts() == 3.0).all()
    bench.oe = False
    assert np.isnan(bench.source_volts()).all()
    bench.oe = True
    bench.power_up()
    assert np.isnan(bench.source_volts()).all() and not bench.latched


RANGES = {
    "reference / 1, gain 1": (0x0000, 2.5),
    "reference / 2, gain 1": (0x0100, 1.25),
    "reference / 1, gain 2": (0x00FF, 5.0),
    "reference / 2, gain 2": (0x01FF, 2.5),
}


@pytest.mark.parametrize("what", RANGES)
def test_full_scale_of_a_dac_is_reference_over_divider_times_gain(what):
    """VOUT = CODE / 2^16 x 2.5 V / DIV x GAIN; 0x4000 is a quarter of it."""
    gain, full_v = RANGES[what]
    bench = _bench()
    bench.frame(0, dac80508.write_frame(dac80508.GAIN, gain))
    bench.frame(0, dac80508.write_frame(dac80508.SYNC, 0))
    bench.frame(0, dac80508.write_frame(dac80508.DAC0 + 3, 0x4000))
    rails = bench.rails_v()
    assert rails["BL3"] == full_v / 4
    assert bench.full_scales_v()[:8].tolist() == [full_v] * 8
    assert rails["BL4"] == 0.0 and rails["BL11"] == 0.0


def test_gain_of_one_channel_is_its_own_bit():
    bench = _bench()
    bench.frame(0, dac80508.write_frame(dac80508.GAIN, 0b0000_0100))
    assert bench.full_scales_v()[:4].tolist() == [2.5, 2.5, 5.0, 2.5]


@pytest.mark.parametrize(
    ("config", "down"),
    [(1 << 2, [2]), (0xFF, list(range(8))), (dac80508.CONFIG_REF_PWDWN, list(range(8))), (0, [])],
)
def test_a_channel_that_is_powered_down_shows_at_its_line(config, down):
    """0 V whatever code and offset; back at its code when it is powered up again."""
    bench = _bench("taox_180nm")
    set_codes(bench, SPEC.bl_channel, 0x8000)
    before = bench.bl_volts()
    assert (before > 1.2).all()
    bench.frame(0, dac80508.write_frame(dac80508.CONFIG, config))
    now = bench.bl_volts()
    assert np.flatnonzero(now == 0.0).tolist() == down
    kept = np.setdiff1d(np.arange(32), down)
    assert np.array_equal(now[kept], before[kept])
    bench.frame(0, dac80508.write_frame(dac80508.CONFIG, 0))
    assert np.array_equal(bench.bl_volts(), before)


def test_errors_of_a_dac_add_up_as_its_datasheet_defines_them():
    """Offset at 0, gain on the code, the bow highest in the middle and none at the ends."""
    bench = _bench()
    bench.dac_offset_v[3], bench.dac_gain[3], bench.dac_inl_lsb[3] = 1e-3, 1.001, 0.5
    bench.dac_offset_v[4] = -1e-3
    bench.rewired()
    for code in (0, 1, 0x4000, 0x8000, 0xFFFF):
        set_codes(bench, SPEC.bl_channel, code)
        line = code * 2.5 / 65536
        bow = 0.5 * (2.5 / 65536) * 4 * (code / 65536) * (1 - code / 65536)
        volts = bench.bl_volts()
        assert volts[3] == pytest.approx(1e-3 + 1.001 * line + bow, abs=1e-12)
        # a unipolar output does not go below ground
        assert volts[4] == pytest.approx(max(line - 1e-3, 0.0), abs=1e-12)


def test_resistance_of_a_switch_follows_the_signal_it_passes():
    """CD4051B at 15 V: 125 ohm typical in the middle of the supply, 86.28 ohm at 0.9 V."""
    bench = _bench()
    assert SPEC.switch_ohm(7.5) == pytest.approx(125.0)
    assert bench.switch_ohm[TIA] == pytest.approx(86.28, abs=0.01)
    assert (bench.switch_ohm[GROUND] < bench.switch_ohm[TIA]).all()
    assert (bench.switch_ohm[RAIL] > bench.switch_ohm[TIA]).all()


# ---- wires: one cell at a time ------------------------------------------------------------------


def _fresh(bench: Bench) -> np.ndarray:
    """Effective matrix of the present cells, from nothing."""
    a, lead = bench.preset.analog, bench.switch_ohm[TIA]
    wires = Wires(a.bl_lead_ohm, a.bl_segment_ohm, lead, a.sl_segment_ohm)
    gated = bench.cells.gated(bench.wl_volts(), SPEC.wl_read_v) * bench.connected
    return EffectiveMatrix(32, 32, wires).factor(gated).t_bl * bench.noise.factor


def test_cells_that_change_one_by_one_leave_the_matrix_of_a_fresh_factorisation():
    """40 changes, the same cell among them again, and an end where everything has moved."""
    bench = bring_to_reading(_bench("taox_180nm_worst"))
    first = bench.linear_read(bench.wl_volts()).t_bl.copy()
    assert first == pytest.approx(_fresh(bench), rel=1e-9, abs=1e-15)
    rng = np.random.default_rng(2)
    start = bench.cells.g.copy()
    for step in range(40):
        row, col = (3, 4) if step % 7 == 0 else rng.integers(0, 32, 2)
        bench.cells.g[row, col] = rng.uniform(1e-6, 110e-6)
        bench.cells.version += 1
        now = bench.linear_read(bench.wl_volts()).t_bl
        assert now == pytest.approx(_fresh(bench), rel=1e-8, abs=1e-14)
    _held(bench.cells, start)
    assert bench.linear_read(bench.wl_volts()).t_bl == pytest.approx(first, rel=1e-9, abs=1e-15)


def test_a_pulse_on_one_cell_shows_in_the_next_conversion():
    """The state of the cells is what counts, however it has changed: no stale matrix."""
    bench = bring_to_reading(_bench())
    set_codes(bench, SPEC.bl_channel, bl_codes(SPEC, np.full(32, -0.1)))
    before, g = _codes_by_row(bench), bench.cells.g.copy()
    _reset(bench, SPEC.sl_rail_v)
    bring_to_reading(bench)
    set_codes(bench, SPEC.bl_channel, bl_codes(SPEC, np.full(32, -0.1)))
    after = _codes_by_row(bench)
    lost = (g - bench.cells.g)[4, 5] * 0.1 / (1 + 86.28 * g[4].sum()) ** 2 * 3500 / LSB_V
    assert np.flatnonzero(after != before).tolist() == [4]
    assert before[4] - after[4] == pytest.approx(lost, abs=1.5)


# ---- conduction bends ---------------------------------------------------------------------------


def _one_cell(volts: float, g: float = 10e-6) -> Bench:
    """Cell (1, 2) of the small board alone, some voltage across it, 45 kohm."""
    bench = _bench(spec=small_spec())
    siemens = np.full((4, 4), 1e-12)
    siemens[1, 2] = g
    _held(bench.cells, siemens)
    bring_to_reading(bench, tia_range=2)
    at = np.zeros(4)
    at[2] = volts
    set_codes(bench, bench.spec.bl_channel, bl_codes(bench.spec, at))
    return bench


@pytest.mark.parametrize("volts", [0.25, 0.3, -0.3, 0.34, -0.34])
def test_above_0_2_v_conduction_bends_as_a_hyperbolic_sine(volts):
    """I = G V0 sinh(V / V0), V0 = 0.5 V: 6 % more at 0.3 V; to 0.5 % for transistor and switch."""
    bench = _one_cell(volts)
    exact = float(bench.bl_volts()[2]) - 0.9
    wanted = -10e-6 * 0.5 * math.sinh(exact / 0.5) * 45e3 / LSB_V
    found = _codes_by_row(bench)
    assert found[1] == pytest.approx(wanted, rel=5e-3)
    linear = -10e-6 * exact * 45e3 / LSB_V
    assert abs(found[1]) > 1.03 * abs(linear)
    assert np.abs(np.delete(found, 1)).max() <= 1


@pytest.mark.parametrize("volts", [0.05, 0.1, -0.1, 0.19])
def test_below_0_2_v_conduction_is_a_straight_line(volts):
    """Ohm's law behind 86.28 ohm, to the last bit of the converter."""
    bench = _one_cell(volts)
    exact = float(bench.bl_volts()[2]) - 0.9
    wanted = -10e-6 * exact / (1 + 86.28 * 10e-6) * 45e3 / LSB_V
    assert abs(_codes_by_row(bench)[1] - wanted) < 0.51


def test_the_bent_curve_and_the_straight_line_agree_at_reading_voltages():
    """32 x 32 cells with all wires, +-0.1 V: sinh(0.2) / 0.2 is 0.67 % more; 0.8 % with wires.

    The largest current counts: rows whose terms cancel have no relative error of their own.
    """
    bench = bring_to_reading(_bench("taox_180nm_worst", tia_offset_v=0.0))
    bench.cells.gate_offset_v[:] = 0.0  # the bent curve leaves out gate mismatch
    bench.cells.version += 1
    rng = np.random.default_rng(0)
    for volts in (np.full(32, 0.1), rng.uniform(-0.1, 0.1, 32), np.full(32, 0.02)):
        set_codes(bench, SPEC.bl_channel, bl_codes(SPEC, volts))
        dv = bench.bl_volts() - 0.9
        straight = bench.linear_read(bench.wl_volts()).t_bl @ dv
        bent = bench._nonlinear_currents(bench.bl_volts(), bench.wl_volts())
        most = np.abs(bench.cells.g * dv).sum(1).max()
        assert np.abs(bent - straight).max() < 0.008 * most
        if volts[0] == volts[1] == 0.02:
            assert np.abs(bent - straight).max() < 0.001 * most
