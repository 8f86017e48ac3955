"""Physics of cells, against the laws that the model claims, not against its own numbers."""

import dataclasses

import numpy as np
import pytest

from firmware_bridge import board_spec
from sim import presets
from sim.array.cell import Cells
from sim.bench import Bench

IDEAL, TAOX = presets.load("ideal").cells, presets.load("taox_180nm").cells
LONG_S = 1e-4  # many time constants of 0.3 us


def _cells(shape=(1, 1), preset=IDEAL, g=None, seed=0) -> Cells:
    cells = Cells(*shape, preset, np.random.default_rng(seed))
    if g is not None:
        cells.g = np.broadcast_to(np.asarray(g, dtype=float), shape).copy()
        cells.formed[:] = True
    return cells


def _pulse(cells, v, wl_v, width_s=LONG_S, now_s=0.0):
    shape = cells.g.shape
    cells.pulse(np.broadcast_to(v, shape), np.broadcast_to(wl_v, shape[:1]), width_s, now_s)
    return cells.g


# ---- SET, RESET, forming --------------------------------------------------------------------


@pytest.mark.parametrize(("gate", "siemens"), [(0.9, 20e-6), (1.2, 50e-6), (1.7, 100e-6)])
def test_a_long_set_ends_where_the_gate_says(gate, siemens):
    """G = 100 uS/V (V_WL - 0.7 V)."""
    assert _pulse(_cells(g=5e-6), 1.8, gate)[0, 0] == pytest.approx(siemens, rel=1e-9)


def test_a_short_set_goes_part_of_the_way():
    """One time constant: 1 - 1/e of the way from 10 to 50 uS."""
    g = _pulse(_cells(g=10e-6), 1.8, 1.2, width_s=3e-7)[0, 0]
    assert g == pytest.approx(10e-6 + 40e-6 * (1 - np.exp(-1)), rel=1e-9)


def test_below_v_set_nothing_moves_and_at_v_set_the_cell_sets():
    cells = _cells(g=10e-6)
    assert _pulse(cells, 0.999, 1.5)[0, 0] == 10e-6
    assert _pulse(cells, 1.0, 1.5)[0, 0] == pytest.approx(80e-6)


def test_a_set_never_lowers():
    assert _pulse(_cells(g=90e-6), 1.8, 1.2)[0, 0] == 90e-6


@pytest.mark.parametrize(
    ("volts", "siemens"), [(1.0, 110e-6), (1.5, 80e-6), (2.0, 40e-6), (2.25, 20e-6), (2.8, 1e-6)]
)
def test_a_long_reset_ends_where_its_voltage_says(volts, siemens):
    """G = 120 uS - 80 uS/V (V - 1 V), only downwards from 110 uS, never below 1 uS."""
    assert _pulse(_cells(g=110e-6), -volts, 4.0)[0, 0] == pytest.approx(siemens, rel=1e-9)


def test_a_weak_reset_and_a_reset_of_a_lower_cell_do_nothing():
    assert _pulse(_cells(g=110e-6), -0.999, 4.0)[0, 0] == 110e-6
    assert _pulse(_cells(g=30e-6), -2.0, 4.0)[0, 0] == 30e-6


def test_a_closed_gate_protects_from_everything():
    for volts in (3.6, -2.8):
        cells = _cells(g=50e-6)
        assert _pulse(cells, volts, 0.6)[0, 0] == 50e-6
        assert cells.pulses[0, 0] == 0


def test_pulses_are_counted_from_0_4_v_of_either_sign():
    cells = _cells((1, 4), g=50e-6)
    _pulse(cells, np.array([[0.39, 0.4, -0.39, -0.4]]), 3.3)
    assert cells.pulses.tolist() == [[0, 1, 0, 1]]


def test_forming_needs_its_voltage_and_its_time():
    assert _pulse(_cells(), 3.09, 1.2)[0, 0] == 1e-8
    assert _pulse(_cells(), 3.2, 1.2, width_s=4.9e-5)[0, 0] == 1e-8
    cells = _cells()
    assert _pulse(cells, 3.2, 1.2)[0, 0] == pytest.approx(50e-6)
    assert cells.formed.all()


def test_a_pristine_cell_neither_sets_nor_resets():
    for volts in (1.8, -2.8):
        cells = _cells()
        assert _pulse(cells, volts, 1.5)[0, 0] == 1e-8
        assert not cells.formed.any()


def test_cycle_to_cycle_spread_is_that_of_the_preset():
    """40000 equal SETs: std 7 % of the move and 0.4 uS; 5 standard errors, std / sqrt(2 n)."""
    preset = dataclasses.replace(IDEAL, cycle_spread=0.07, cycle_floor_siemens=4e-7)
    n = 40_000
    g = _pulse(_cells((1, n), preset, g=10e-6), 1.8, 1.2)
    std = np.hypot(0.07 * 40e-6, 4e-7)
    assert abs(g.mean() - 50e-6) < 5 * std / np.sqrt(n)
    assert abs(g.std() - std) < 5 * std / np.sqrt(2 * n)


def test_devices_differ_as_the_preset_says():
    """100 x 100 devices, 5 standard errors: mean std / 100, std std / sqrt(2) / 100."""
    cells = _cells((100, 100), TAOX, seed=2)
    for drawn, mean, std in (
        (cells.form_v, 3.1, 0.1),
        (cells.set_v, 1.0, 0.06),
        (cells.reset_v, 1.0, 0.06),
        (cells.set_slope, 1e-4, 1e-5),
        (cells.set_offset_v, 0.7, 0.03),
    ):
        assert abs(drawn.mean() - mean) < 5 * std / 100
        assert abs(drawn.std() - std) < 5 * std / 100 / np.sqrt(2)


# ---- relaxation -----------------------------------------------------------------------------

A = 7e-14  # S^2 a decade
RELAX = dataclasses.replace(
    IDEAL, relax_siemens2_per_decade=A, relax_onset_s=1e-3, relax_mean_siemens_per_decade=-3e-8
)
SIDE = 200  # 40000 cells


def _aged(times, preset=RELAX, seed=1) -> np.ndarray:
    cells = _cells((SIDE, SIDE), preset, g=50e-6, seed=seed)
    for now_s in times:
        cells.age(now_s)
    return cells.g - 50e-6


@pytest.mark.parametrize("until_s", [9e-3, 0.999, 1e3, 1e6])
@pytest.mark.parametrize("parts", [1, 7])
def test_relaxation_variance_is_a_log10_of_time_whatever_the_partition(until_s, parts):
    """40000 cells; 5 standard errors: mean std / sqrt(n), variance var sqrt(2 / n)."""
    decades, n = np.log10(1 + until_s / 1e-3), SIDE * SIDE
    moved = _aged(np.geomspace(1e-4, until_s, parts) if parts > 1 else [until_s])
    assert abs(moved.var() - A * decades) < 5 * A * decades * np.sqrt(2 / n)
    assert abs(moved.mean() + 3e-8 * decades) < 5 * np.sqrt(A * decades / n)


def test_relaxation_increments_of_separate_decades_are_independent():
    """Correlation of 40000 pairs: standard error 1 / 200; 5 of them."""
    cells = _cells((SIDE, SIDE), RELAX, g=50e-6, seed=4)
    seen = [cells.g.copy()]
    for now_s in (1e-1, 1e1, 1e3):
        cells.age(now_s)
        seen.append(cells.g.copy())
    steps = np.diff([item.ravel() for item in seen], axis=0)
    correlation = np.corrcoef(steps)
    assert np.abs(correlation - np.eye(3)).max() < 5 / SIDE


def test_a_new_pulse_starts_relaxation_anew():
    """1 ms after a pulse at 10^4 s: log10(2) decades of a fresh cell; 5 standard errors."""
    n = SIDE * SIDE
    cells = _cells((SIDE, SIDE), RELAX, g=10e-6, seed=5)
    cells.age(1e4)
    before = _pulse(cells, 1.8, 1.2, now_s=1e4).copy()
    cells.age(1e4 + 1e-3)
    moved, decades = cells.g - before, np.log10(2)
    assert abs(moved.var() - A * decades) < 5 * A * decades * np.sqrt(2 / n)


def test_pristine_cells_do_not_relax_and_time_does_not_run_back():
    cells = _cells((4, 4), RELAX)
    cells.age(1e6)
    assert (cells.g == 1e-8).all()
    cells = _cells((4, 4), RELAX, g=50e-6)
    cells.age(10.0)
    g = cells.g.copy()
    for now_s in (10.0, 5.0):
        cells.age(now_s)
        assert np.array_equal(cells.g, g)


def test_tails_are_heavy_and_the_rms_is_that_of_the_preset():
    """Amplitudes exp(s N - s^2) with s = 0.4 have a mean square of 1, and a kurtosis of
    3 exp(4 s^2) = 5.7. 5 standard errors of the variance: sqrt((kurtosis - 1) / n)."""
    preset = dataclasses.replace(RELAX, relax_spread=0.4, relax_mean_siemens_per_decade=0.0)
    moved, n = _aged([0.999], preset), SIDE * SIDE
    kurtosis = 3 * np.exp(4 * 0.4**2)
    assert abs(moved.var() / (3 * A) - 1) < 5 * np.sqrt((kurtosis - 1) / n)
    assert (moved**4).mean() / moved.var() ** 2 > 4.5


# ---- gate, read noise -----------------------------------------------------------------------


def test_a_gate_adds_its_channel_in_series():
    """1 / G' = 1 / G + 1 / (k (1.6 - 0.6)) - 1 / (k (3.3 - 0.6)), k = 1 mS/V."""
    cells = _cells((3, 1), g=100e-6)
    got = cells.gated(np.array([3.3, 1.6, 0.6]), 3.3)[:, 0]
    assert got[0] == pytest.approx(100e-6)
    assert 1 / got[1] == pytest.approx(1e4 + 1000 - 1000 / 2.7)
    assert got[2] == 0.0


def test_relative_read_noise_falls_with_the_root_of_conductance():
    preset = dataclasses.replace(IDEAL, read_noise=0.004)
    sigma = _cells((1, 2), preset, g=[[50e-6, 12.5e-6]]).read_sigma()[0]
    assert sigma[0] == pytest.approx(0.004 * 50e-6)
    assert sigma[1] == pytest.approx(0.008 * 12.5e-6)
    assert _cells((1, 2), preset).read_sigma().tolist() == [[0.0, 0.0]]  # pristine


def test_a_closed_gate_lets_no_read_noise_through():
    """Read noise of open cells: 0.4 % of 50 uS each, over 32 cells of a row."""
    preset = dataclasses.replace(
        presets.load("ideal"), cells=dataclasses.replace(IDEAL, read_noise=0.004)
    )
    bench = Bench(board_spec.load(), preset, np.random.default_rng(0))
    bench.cells.g[:], bench.cells.formed[:] = 50e-6, True
    bench.shift(np.array([1, 0] * 32, dtype=np.uint8))  # every source line at its amplifier
    bench.oe = bench.enable = True
    for dac in bench.dacs[:4]:
        dac.gain, dac.active = 0x0100, [52_428] * 8  # 1.0 V of 1.25 V on bit lines: 0.1 V
    for gate_v in (0.0, 3.3):
        for dac in bench.dacs[4:]:
            dac.gain, dac.active = 0x00FF, [round(gate_v / 5 * 65536)] * 8
        read = bench.read_plan(list(range(32)), [0, 1, 2, 3])
        codes = np.full((1000, 32), 52_428, dtype=np.uint16)
        words = read.words(codes).astype(int)
        one = np.concatenate([bench.convert(0) for _ in range(20)])
        if not gate_v:
            assert not words.any() and not one.any()
            continue
        # in LSB of 0.11 mV behind 3.5 kohm; a switch of 100 ohm and more takes a share
        alone = 0.004 * 50e-6 * 0.1 * np.sqrt(32) * 3500 / (0.9 / 8192)
        spread = words.std(0)
        assert (spread > 0.7 * alone).all() and (spread < alone).all()
        assert np.unique(one).size > 3


def test_ideal_cells_do_not_age_and_repeat_exactly():
    cells = _cells((2, 2), g=50e-6)
    cells.age(1e9)
    assert (cells.g == 50e-6).all()
    one, other = (_pulse(_cells(seed=seed), 3.3, 1.2) for seed in (1, 2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[cells]", "[cell]", r"section \[cells\] is missing"),
        ("form_v = ", "form = ", "did you mean form_v"),
        (
            "set_v = { value = 1.0,",
            "set_v = { value = -1.0,",
            "cells.set_v = -1.0 must be 0 or more",
        ),
        ("set_v = { value = 1.0,", "set_v = { value = 'x',", "cells.set_v = 'x' must be"),
        ("set_v = { value = 1.0,", "set_v = { value = nan,", "cells.set_v = nan must be"),
        ('source = "datasheet", note = "ADS8324', 'note = "ADS8324', "adc_noise_lsb needs value"),
        ("[analog]", "[analog", "not a TOML file"),
    ],
)
def test_a_preset_that_is_none_is_refused_with_key_and_reason(tmp_path, old, new, words):
    text = (presets.FOLDER / "taox_180nm.toml").read_text(encoding="utf-8")
    start = text.index("\n" + old) + 1 if not old.startswith("source") else text.index(old)
    path = tmp_path / "mine.toml"
    path.write_text(text[:start] + new + text[start + len(old) :], encoding="utf-8")
    with pytest.raises(presets.InputError, match=words):
        presets.load(str(path))
