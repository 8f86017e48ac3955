"""Products: Ohm and Kirchhoff to the last bit of the converter, and calibration of its errors."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge import board_spec
from rram_host.array.compensation import LineResistances, exactly_effective
from sim.board import EmulatedBoard
from tests.array.rig import (
    BIAS_V,
    GRID_V,
    CountingTransport,
    conducted,
    emulated_with,
    on_grid,
    opened,
    random_g,
)

SPEC = board_spec.load()


def _inputs(n: int, seed: int = 0, scale: float = 0.1) -> np.ndarray:
    return on_grid(np.random.default_rng(seed).uniform(-scale, scale, (n, 32)))


def _worst(products, exact: np.ndarray, codes: float) -> bool:
    """Whether every current is within so many codes of the exact one.

    Apart from that, 3e-5 of the current, for the row sums behind the series resistance: the 0.1 V
    of a read is 5243 DAC steps to 2.3e-5, times R_on S < 0.31; and rounding of 64 conversions of
    2.4 nA is 0.028 uS, times 86 ohm: 2.4e-6, of which 32 rows show 4 standard deviations.
    """
    error = np.abs(products.currents_a - exact) - 3e-5 * np.abs(exact)
    return bool((error <= (codes + 1e-3) * products.lsb_a).all())


@pytest.mark.parametrize(("scale", "tia_range"), [(0.1, 0), (0.03, 0), (0.03, 1), (0.002, 1)])
def test_products_are_exact_to_half_a_code(scale, tia_range):
    g, volts = random_g(1, 20e-6, 80e-6), _inputs(300, scale=scale)
    with opened(emulated_with(g)) as board:
        products = board.array.products(volts, tia_range=tia_range)
    assert products.saturated == 0
    assert _worst(products, volts @ g.T, 0.5)
    assert not _worst(products, volts @ g.T, 0.45)  # the converter is there


@pytest.mark.parametrize("tia_range", range(4))
def test_without_calibration_every_range_is_exact_to_half_a_code_and_shows_series_resistance(
    tia_range,
):
    """G_eff = G / (1 + R_on sum G), R_on = 86 ohm: that of the switch at the virtual ground."""
    g, volts = random_g(16), _inputs(100, 17, 0.001)
    with opened(emulated_with(g)) as board:
        raw = board.array.products(volts, tia_range=tia_range, calibrate=False)
    exact = volts @ (g / (1 + SPEC.switch_ohm(0.9) * g.sum(1, keepdims=True))).T
    assert (np.abs(raw.currents_a - exact) / raw.lsb_a).max() <= 0.5 + 1e-3
    if tia_range == 3:
        assert np.abs(raw.currents_a - volts @ g.T).max() > 5 * raw.lsb_a.max()


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.1, 0.01]))
def test_products_are_exact_for_any_array_and_input(seed, pristine, scale):
    """To a code: half of the product and half of the zero input that is subtracted."""
    rng = np.random.default_rng(seed)
    g = rng.uniform(5e-6, 110e-6, (32, 32)) * (rng.random((32, 32)) >= pristine)
    volts = GRID_V * np.rint(rng.uniform(-scale, scale, (20, 32)) / GRID_V * 0.999)
    emulated = emulated_with(g)
    with opened(emulated) as board:
        products = board.array.products(volts)
        exact = volts @ emulated.truth.conductances_siemens.T
    assert products.saturated == 0
    assert _worst(products, exact, 1.0)


def test_one_batch_is_the_same_vectors_in_several_calls_bit_for_bit():
    volts, g = _inputs(4096, seed=2), random_g(3)
    volts[100:140] *= 0.0
    with opened(emulated_with(g)) as board:
        whole = board.array.products(volts, tia_range=0).currents_a
        parts = np.split(volts, [1, 2, 7, 1000, 1001, 4000])
        pieces = [board.array.products(part, tia_range=0).currents_a for part in parts]
    assert np.array_equal(whole, np.concatenate(pieces))


def test_4096_products_are_one_program_and_7_transactions():
    """Program, table, count, entry, start, one poll, results: and 2 + 1/8 words a product each."""
    link = CountingTransport(emulated_with(random_g(4)))
    with opened(link) as board:
        board.array.read()
        programs, transactions, words = board.traffic.programs, link.transactions, link.words
        board.array.vmm(_inputs(4096))
        assert board.traffic.programs - programs == 1
        assert link.transactions - transactions == 7
        # 16 zero inputs for the calibration; two 16-bit codes a word, in and out
        assert link.words - words <= 2 * (4096 + 16) * 16 + 150


def test_more_vectors_than_the_memory_holds_take_more_programs():
    volts, g = _inputs(9000, seed=5), random_g(6)
    with opened(emulated_with(g)) as board:
        board.array.read()
        programs = board.traffic.programs
        products = board.array.products(volts)
        assert board.traffic.programs - programs == 2
    assert products.currents_a.shape == (9000, 32)
    assert _worst(products, volts @ g.T, 0.5)


def test_two_inputs_superpose():
    """Kirchhoff: three conversions of half a code each."""
    one, other = _inputs(50, 7, 0.049), _inputs(50, 8, 0.049)
    with opened(emulated_with(random_g(9))) as board:
        a, b, both = (
            board.array.products(v, tia_range=0) for v in (one, other, on_grid(one + other))
        )
    error = np.abs(both.currents_a - a.currents_a - b.currents_a)
    assert (error / both.lsb_a).max() <= 1.54


def test_a_negative_input_gives_the_opposite_current():
    volts = _inputs(20, 10)
    with opened(emulated_with(random_g(11))) as board:
        plus, minus = (board.array.products(s * volts, tia_range=0) for s in (1, -1))
    # the resting voltage is 0.3 DAC steps off the virtual ground, at both signs the same
    error = np.abs(plus.currents_a + minus.currents_a) / plus.lsb_a
    assert error.max() <= 2.0


def test_the_range_follows_the_expected_current():
    g = random_g(14)
    with opened(emulated_with(g)) as board:
        chosen = [board.array.products(_inputs(5, 15, s)).tia_range for s in (0.1, 0.01, 0.0)]
    assert chosen == sorted(chosen)
    assert chosen[0] < chosen[-1]


def test_a_product_at_the_end_of_its_range_is_counted_as_saturated():
    with opened(emulated_with(np.full((32, 32), 100e-6))) as board:
        products = board.array.products(np.full((3, 32), 0.1), tia_range=3)
        assert products.saturated == 3 * 32
        assert board.array.products(np.full((3, 32), -0.1), tia_range=3).saturated == 3 * 32
        # 32 x 100 uS x 0.1 V / (1 + 86.28 ohm x 3.2 mS) = 250.8 uA, of 254
        assert board.array.products(np.full((3, 32), 0.1), tia_range=0).saturated == 0


def test_calibration_removes_the_offsets_of_amplifiers_and_dacs():
    """4000 zero inputs with noise of s LSB: the mean of a row has s sqrt(1/4000 + 1/16) of error,
    the second from 16 calibration reads; 5 standard errors, 1 in 10^4 for 32 rows."""
    n, zeros = 4000, np.zeros((4000, 32))
    with opened(emulated_with(random_g(18), "taox_180nm", seed=19)) as board:
        board.array.read()
        cal = board.array.products(zeros, tia_range=0)
        raw = board.array.products(zeros, tia_range=0, calibrate=False)
    noise = cal.currents_a.std(0, ddof=1)
    error = np.abs(cal.currents_a.mean(0)) / (noise * np.sqrt(1 / n + 1 / 16))
    assert error.max() < 5
    offset = np.abs(raw.currents_a.mean(0)) / (noise * np.sqrt(1 / n))
    assert np.median(offset) > 50


def test_calibrated_products_of_a_real_board_are_within_a_percent_of_full_scale(calibration_of):
    """Of 66 uA: 0.2 % rms calibrated, 1 % by the board file, and 3 % as they come. The first is
    noise, 75 nA, and what wires and switches leave; the second a lot of switches, and wires."""
    g, volts = random_g(20, 20e-6, 80e-6), _inputs(500, 21)
    emulated = emulated_with(g, "taox_180nm", seed=1)
    with opened(emulated) as board:
        by_file = board.array.vmm(volts)
        raw = board.array.vmm(volts, calibrate=False)
        board.array.use(calibration_of(1))
        board.array.read(16)
        currents = board.array.vmm(volts)
        exact = volts @ conducted(emulated).T
    full = np.abs(exact).max()
    error = [np.sqrt(((y - exact) ** 2).mean()) / full for y in (currents, by_file, raw)]
    assert error[0] < 0.002
    assert 0.003 < error[1] < 0.015
    assert error[2] > 0.02


def test_read_noise_of_a_product_is_the_sum_of_v2_sigma2_of_its_cells():
    """Variance of 4000 conversions of 32 rows, against quantisation, converter and cells; the
    ratio of measured to expected has a standard error of sqrt(2 / 4000), 5 of them."""
    n, g, volts = 4000, random_g(23), _inputs(1, 24)
    emulated = emulated_with(g, "taox_180nm", seed=25)
    with opened(emulated) as board:
        board.array.read()
        g = emulated.truth.conductances_siemens
        raw = board.array.products(np.repeat(volts, n, 0), tia_range=1, calibrate=False)
    sigma = 0.004 * np.sqrt(50e-6 / g) * g
    bench, wires = emulated.bench, emulated.preset.analog
    lines = LineResistances(
        bench.switch_ohm[SPEC.sl_tia],
        wires.bl_lead_ohm,
        wires.bl_segment_ohm,
        wires.sl_segment_ohm,
    )
    passed = exactly_effective(g, lines) / g  # of a cell's noise, as of its current
    dv = volts[0] + bench.dac_offset_v[:32] + BIAS_V * (bench.dac_gain[:32] - 1)
    cells = dv**2 @ ((sigma * passed) ** 2).T
    lsb = SPEC.current_lsb_a(1)
    expected = cells + lsb**2 * (0.76**2 + 1 / 12)
    ratio = raw.currents_a.var(0, ddof=1) / expected
    assert raw.saturated == 0
    # 0.4 % for gains of amplifiers and DACs, which the expectation leaves out
    assert np.abs(ratio - 1).max() < 5 * np.sqrt(2 / n) + 0.004
    assert (cells / expected > 0.3).all()  # the cells' part is not small beside the converter's


def test_a_read_frees_every_row_of_its_series_resistance():
    g = random_g(26)
    g[7] = 0
    with opened(emulated_with(g)) as board:
        assert np.abs(board.array.read() - np.maximum(g, 1e-8)).max() < 0.05e-6


@pytest.mark.parametrize("adcs", [1, 4, 32])
def test_any_number_of_converters_gives_the_same_products(adcs):
    spec = dataclasses.replace(
        SPEC,
        adcs=adcs,
        adc_of_row=tuple(row % adcs for row in range(32)),
        select_of_row=tuple(row // adcs for row in range(32)),
    )
    emulated = EmulatedBoard("ideal", spec=spec)
    g, volts = random_g(27), _inputs(20, 28)
    emulated.bench.cells.g, emulated.bench.cells.formed = g, np.ones((32, 32), dtype=bool)
    with opened(emulated, spec) as board:
        products = board.array.products(volts, tia_range=0)
    assert _worst(products, volts @ g.T, 0.5)
