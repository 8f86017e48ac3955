"""Reads of a batch: bit for bit the reference without noise, the stated law with it, Kirchhoff."""

from __future__ import annotations

import dataclasses
from statistics import NormalDist

import numpy as np
import pytest

from firmware_bridge import board_spec
from sim import faults, kernels, presets
from sim.bench import Bench
from sim.board import EmulatedBoard
from sim.readout import LineLaw, OutputLaw, ReadPlan
from tests.doubles import bl_codes, bring_to_reading, set_codes, source_lines_to
from tests.sim.programs import small_spec

SPEC = board_spec.load()
LSB_V = 1.8 / 2**14
QUIET_CELLS = {
    "cycle_spread": 0.0,
    "cycle_floor_siemens": 0.0,
    "read_noise": 0.0,
    "relax_siemens2_per_decade": 0.0,
    "relax_mean_siemens_per_decade": 0.0,
    "flicker": 0.0,
    "telegraph": 0.0,
    "telegraph_share": 0.0,
}


def _preset(name: str, cells: dict[str, float], analog: dict[str, float]) -> presets.Preset:
    """A preset with some numbers of its own."""
    preset = presets.load(name)
    return dataclasses.replace(
        preset,
        cells=dataclasses.replace(preset.cells, **cells),
        analog=dataclasses.replace(preset.analog, **analog),
    )


def _bench(preset: presets.Preset, spec=SPEC, seed: int = 3, tia_range: int = 0) -> Bench:
    """A bench that reads, all cells formed, 20 to 100 uS."""
    bench = Bench(spec, preset, np.random.default_rng(seed))
    rng = np.random.default_rng(seed + 1)
    bench.cells.g = rng.uniform(20e-6, 100e-6, bench.cells.g.shape)
    bench.cells.formed[:] = True
    return bring_to_reading(bench, tia_range=tia_range)


def _by_row(words: np.ndarray, spec) -> np.ndarray:
    """Codes (n, rows) out of words (n, selects x adcs)."""
    codes = words.astype(np.int64)
    codes = np.where(codes >= 0x2000, codes - 0x4000, codes)
    places = [s * spec.adcs + a for s, a in zip(spec.select_of_row, spec.adc_of_row, strict=True)]
    return codes[:, places]


def _one_by_one(bench: Bench, channels, codes: np.ndarray, selects) -> np.ndarray:
    """The reference: every vector by itself, every multiplexer input by itself."""
    words = []
    for vector in codes:
        set_codes(bench, channels, vector)
        words.append(np.concatenate([bench.convert(select) for select in selects]))
    return np.array(words)


# ---- without noise: the reference, bit for bit --------------------------------------------------

WORST = _preset("taox_180nm_worst", QUIET_CELLS, {"adc_noise_lsb": 0.0})


def test_the_board_of_the_comparison_has_every_error_that_a_part_can_have():
    """A comparison of straight lines would prove less."""
    bench = _bench(WORST)
    for errors in (
        bench.dac_offset_v,
        bench.dac_gain - 1,
        bench.dac_inl_lsb,
        bench.tia_offset_v,
        bench.tia_gain - 1,
        bench.adc_gain - 1,
        bench.adc_offset_lsb,
        bench.adc_inl_lsb,
    ):
        assert np.unique(errors).size == errors.size and (errors != 0).all()
    assert WORST.analog.bl_lead_ohm > 0 and WORST.analog.sl_segment_ohm > 0


@pytest.mark.parametrize("tia_range", range(4))
def test_a_batch_is_the_reference_bit_for_bit(tia_range):
    """All of +-0.1 V on 32 x 32 cells: ranges 1 to 3 clamp, most amplifiers or some of them."""
    bench = _bench(WORST, tia_range=tia_range)
    rng = np.random.default_rng(tia_range)
    volts = rng.uniform(-0.1, 0.1, (24, 32))
    volts[0], volts[1], volts[2] = 0.0, 0.1, -0.1
    codes, selects = bl_codes(SPEC, volts), range(SPEC.selects)
    words = bench.read_plan(SPEC.bl_channel, selects).words(codes)
    assert np.array_equal(words, _one_by_one(bench, SPEC.bl_channel, codes, selects))
    read = _by_row(words, SPEC)
    clamped = np.abs(read).max(1) > 7900
    assert clamped.any() == (tia_range > 0)
    assert np.unique(read).size > 300


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 64, 257])
def test_a_batch_of_any_size_is_the_same_bit_for_bit(batch):
    bench = _bench(WORST)
    codes = bl_codes(SPEC, np.random.default_rng(5).uniform(-0.1, 0.1, (257, 32)))
    plan = bench.read_plan(SPEC.bl_channel, range(4))
    whole = plan.words(codes)
    parts = [plan.words(codes[k : k + batch]) for k in range(0, 257, batch)]
    assert np.array_equal(np.concatenate(parts), whole)


SOME = {
    "some lines, in no order": ([9, 0, 8], [1, 0, 1], ""),
    "one line": ([8], [0], ""),
    "a channel that is no bit line": ([9, 15, 1], [0, 1], ""),
    "a dead converter": ([9, 0, 8, 1], [0, 1], "dead_adc:1"),
    "an amplifier at its rail": ([9, 0, 8, 1], [0, 1], "tia_saturated:2"),
    "a broken bit line": ([9, 0, 8, 1], [0, 1], "open_bl:1"),
    "a stuck bit line": ([9, 0, 8, 1], [0, 1], "stuck_dac:8:0.93"),
    "lines exchanged": ([9, 0, 8, 1], [0, 1], "swapped_dac:9:1"),
}


@pytest.mark.parametrize("what", SOME)
@pytest.mark.parametrize("inputs", [(1, 1, 1, 1), (1, 3, 1, 3), (0, 1, 1, 3)], ids=str)
def test_parts_of_a_board_read_as_the_reference_does(what, inputs):
    """Lines that are not given stay where they are; rows may be open or grounded."""
    channels, selects, defect = SOME[what]
    spec = small_spec()
    bench = _bench(WORST, spec, tia_range=1)
    for fault in faults.parse(defect):
        faults.install(bench, fault)
    source_lines_to(bench, inputs)
    set_codes(bench, spec.bl_channel, bl_codes(spec, [0.03, -0.02, 0.05, 0.01]))
    codes = bl_codes(spec, np.random.default_rng(6).uniform(-0.1, 0.1, (12, len(channels))))
    plan = bench.read_plan(channels, selects)
    words = plan.words(codes)
    assert np.array_equal(words, _one_by_one(bench, channels, codes, selects))
    assert np.unique(words).size > 3


# ---- with noise: the law ------------------------------------------------------------------------

N = 20_000
NOISY = _preset("ideal", {"read_noise": 0.004}, {"adc_noise_lsb": 0.76})
INPUTS = {
    "zero": (0.0, 0.0, 0.0, 0.0),
    "one line": (0.05, 0.0, 0.0, 0.0),
    "all lines": (0.04, -0.05, 0.03, 0.05),
    "little": (0.004, -0.003, 0.0, 0.002),
}


def _noisy(lead_ohm: float) -> Bench:
    """Range 2 of the small board: 45 kohm, 4 cells a row, no wires but the switch."""
    bench = _bench(NOISY, small_spec(), tia_range=2)
    bench.switch_ohm[:] = lead_ohm
    bench.rewired()
    return bench


def _law(bench: Bench, volts, lead_ohm: float) -> np.ndarray:
    """Variance of every row's code, LSB^2, (rows,): sum_c V_c^2 sigma_rc^2 + 0.76^2 + 1/12.

    A cell of g has readings of rms 0.4 % x (50 uS / g)^(1/2) x g, and its row's current 1 + R G
    times less behind the switch. 1/12 is the converter's quantisation.
    """
    g = bench.cells.g
    sigma = 0.004 * np.sqrt(50e-6 * g) / (1 + lead_ohm * g.sum(1, keepdims=True))
    exact = bl_codes(bench.spec, volts) * (1.25 / 65536) - 0.9  # what the converter's grid gives
    result: np.ndarray = sigma**2 @ exact**2 * (45e3 / LSB_V) ** 2 + 0.76**2 + 1 / 12
    return result


@pytest.mark.parametrize("lead_ohm", [0.0, 400.0])
@pytest.mark.parametrize("what", INPUTS)
def test_variance_of_a_read_is_that_of_its_cells_and_the_converter(what, lead_ohm):
    """20 000 draws a row; 5 standard errors of a variance, sqrt(2 / n) of it: 5 %."""
    bench, volts = _noisy(lead_ohm), INPUTS[what]
    codes = np.tile(bl_codes(bench.spec, volts), (N, 1))
    read = _by_row(bench.read_plan(bench.spec.bl_channel, (0, 1)).words(codes), bench.spec)
    law = _law(bench, volts, lead_ohm)
    assert (np.abs(read.var(0, ddof=1) - law) < 5 * law * np.sqrt(2 / N)).all()
    if what == "zero":
        assert law == pytest.approx(0.76**2 + 1 / 12, rel=1e-4)
    else:
        assert law.min() > 0.69, "cells must show beside the converter's 0.66"


@pytest.mark.parametrize("what", ["zero", "all lines"])
def test_the_reference_obeys_the_same_law(what):
    """2000 draws: 5 standard errors are 16 %, and cells are 50 times the converter."""
    n = 2000
    bench, volts = _noisy(0.0), INPUTS[what]
    spec = bench.spec
    codes = np.tile(bl_codes(spec, volts), (n, 1))
    read = _by_row(_one_by_one(bench, spec.bl_channel, codes, (0, 1)), spec)
    law = _law(bench, volts, 0.0)
    assert (np.abs(read.var(0, ddof=1) - law) < 5 * law * np.sqrt(2 / n)).all()


def test_the_mean_of_noisy_reads_is_the_read_without_noise():
    """5 standard errors of a mean; 0.01 LSB is what products in float32 may be off."""
    bench, volts = _noisy(0.0), INPUTS["all lines"]
    codes = np.tile(bl_codes(bench.spec, volts), (N, 1))
    read = _by_row(bench.read_plan(bench.spec.bl_channel, (0, 1)).words(codes), bench.spec)
    exact = codes[0] * (1.25 / 65536) - 0.9
    wanted = -(bench.cells.g @ exact) * 45e3 / LSB_V
    error = np.abs(read.mean(0) - wanted)
    assert (error < 5 * np.sqrt(_law(bench, volts, 0.0) / N) + 0.01).all()


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = one - one.mean(0), other - other.mean(0)
    result: np.ndarray = (one.T @ other) / len(one) / np.outer(one.std(0), other.std(0))
    return result


def test_outputs_of_one_conversion_and_successive_ones_are_independent():
    """32 rows, all pairs, and lags of 1, 2 and 32: 3500 numbers, each within 5 / sqrt(n)."""
    bench = _bench(NOISY)
    codes = np.tile(bl_codes(SPEC, np.full(32, 0.08)), (N, 1))
    words = bench.read_plan(SPEC.bl_channel, range(4)).words(codes)
    read = _by_row(words, SPEC).astype(float)
    among = _correlation(read, read)
    assert (np.abs(among[~np.eye(32, dtype=bool)]) < 5 / np.sqrt(N)).all()
    for lag in (1, 2, 32):
        assert (np.abs(_correlation(read[lag:], read[:-lag])) < 5 / np.sqrt(N - lag)).all()


def test_two_batches_are_as_independent_as_two_parts_of_one():
    bench = _bench(NOISY, small_spec(), tia_range=2)
    plan = bench.read_plan(bench.spec.bl_channel, (0, 1))
    codes = np.tile(bl_codes(bench.spec, INPUTS["all lines"]), (N, 1))
    one, other = (_by_row(plan.words(codes), bench.spec).astype(float) for _ in range(2))
    assert (np.abs(_correlation(one, other)) < 5 / np.sqrt(N)).all()


# ---- the kernels' Gaussian ----------------------------------------------------------------------


def _only_noise(outputs: int, n: int, seed: np.ndarray, noise_lsb: float) -> np.ndarray:
    """Codes (n, outputs) of amplifiers at rest and of converters whose only error is noise."""
    nothing, much = np.zeros(outputs), np.full(outputs, 1e6)
    line = LineLaw(*[np.zeros(1)] * 4)
    law = OutputLaw(-much, much, nothing + 1, nothing, nothing, nothing + noise_lsb)
    plan = ReadPlan(line, nothing[None], nothing, nothing[None], nothing, law, seed)
    words = plan.words(np.zeros((n, 1), dtype=np.uint16)).astype(np.int64)
    return np.where(words >= 0x2000, words - 0x4000, words)


@pytest.fixture(scope="module")
def gaussians() -> np.ndarray:
    """10^6 draws of the kernel, in 1/1000 of their standard deviation, as integers."""
    seed = np.array([12345], dtype=np.uint64)
    draws = _only_noise(16, 62_500, seed, 1000.0).ravel()
    assert seed[0] != 12345
    return draws


def test_moments_of_the_gaussian(gaussians):
    """5 standard errors; the sum of two draws out of 4096 quantiles has a kurtosis of -0.003."""
    n, x = gaussians.size, gaussians / 1000
    z = (x - x.mean()) / x.std()
    assert abs(x.mean()) < 5 / np.sqrt(n)
    assert abs(x.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs((z**3).mean()) < 5 * np.sqrt(6 / n)
    assert abs((z**4).mean() - 3) < 5 * np.sqrt(24 / n) + 0.004
    assert np.sum(kernels.quantiles().astype(float) ** 2) / 4096 == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("sigmas", [1.0, 2.0, 3.0, 4.0])
def test_tails_of_the_gaussian_on_either_side(gaussians, sigmas):
    """Counts beyond 1 to 4 sigma: 5 standard errors, sqrt(n p (1 - p)); at 4 sigma 32 are due."""
    n = gaussians.size
    p = NormalDist().cdf(-sigmas - 0.0005)
    for count in ((gaussians < -1000 * sigmas).sum(), (gaussians > 1000 * sigmas).sum()):
        assert abs(count - n * p) < 5 * np.sqrt(n * p * (1 - p))
    assert np.abs(gaussians).max() < 5200


def test_kolmogorov_distance_of_the_gaussian(gaussians):
    """10^6 draws: sqrt(-ln(p / 2) / 2 n) = 0.0027 for p = 10^-6; steps of 0.001 sigma."""
    values, counts = np.unique(gaussians, return_counts=True)
    below = np.cumsum(counts) / gaussians.size
    law = np.array([NormalDist().cdf((value + 0.5) / 1000) for value in values.tolist()])
    assert np.abs(below - law).max() < 0.0027
    assert values.size > 5000


@pytest.mark.parametrize("outputs", [1, 2, 7, 8])
def test_every_output_has_a_draw_of_its_own_for_odd_and_even_numbers_of_them(outputs):
    """Two draws come out of one random word; none may be left at 0 or used twice."""
    n = 4096
    draws = _only_noise(outputs, n, np.zeros(1, dtype=np.uint64), 1000.0)
    assert (np.abs(draws.var(0) / 1e6 - 1) < 5 * np.sqrt(2 / n)).all()
    among = np.abs(np.corrcoef(draws.T).reshape(outputs, outputs))
    assert (among[~np.eye(outputs, dtype=bool)] < 5 / np.sqrt(n)).all()


def test_the_generator_is_splitmix64(monkeypatch):
    """First three words of seed 1234567, from the published test vectors of splitmix64.

    With a table of 0 to 4095 for quantiles, a draw is the sum of two fields of 12 bits.
    """
    monkeypatch.setattr(kernels, "quantiles", lambda: np.arange(4096, dtype=np.float32))
    taken = _only_noise(2, 3, np.array([1234567], dtype=np.uint64), 1.0)
    known = (6457827717110365317, 3203168211198807973, 9817491932198370423)
    fields = [[z >> at & 4095 for at in (0, 16, 32, 48)] for z in known]
    assert taken.tolist() == [[a + b, c + d] for a, b, c, d in fields]


def test_noise_goes_on_and_a_state_file_keeps_where_it_is(tmp_path):
    """Same board, same noise: what comes after saving is what would have come anyway."""
    path, selects = tmp_path / "board.npz", range(4)
    codes = np.tile(bl_codes(SPEC, np.zeros(32)), (50, 1))

    def words(board):
        bring_to_reading(board.bench)
        return board.bench.read_plan(SPEC.bl_channel, selects).words(codes)

    board = EmulatedBoard("taox_180nm", seed=4, state=path)
    first = words(board)
    board.close()
    second, third = words(board), words(board)
    assert not np.array_equal(first, second) and not np.array_equal(second, third)
    again = EmulatedBoard("taox_180nm", seed=4, state=path)
    assert np.array_equal(words(again), second) and np.array_equal(words(again), third)
    fresh = EmulatedBoard("taox_180nm", seed=4)
    assert np.array_equal(words(fresh), first)


# ---- amplifiers at their clamps: Kirchhoff ------------------------------------------------------

WIRES = {"bl_lead_ohm": 150.0, "bl_segment_ohm": 20.0, "sl_segment_ohm": 20.0}
CLAMP_V = 0.9 - 0.01  # 10 mV from either rail, from a bias in the middle of 1.8 V


def _nodal(g: np.ndarray, bl_v: np.ndarray, lead_ohm, feedback_ohm: float) -> np.ndarray:
    """Output voltages of all amplifiers above the bias, (rows,), from Kirchhoff's current law.

    Every node of every wire is an unknown. An amplifier that holds its line is a source of 0 V
    behind the switch; one at its clamp is a source of V_clamp behind switch and feedback. Which
    are clamped is found by trying: the output of one that holds must lie between the clamps, and
    the line of one that does not must lie on the side that its output would like to go to.
    """
    rows, cols = g.shape
    clamped = np.zeros(rows)  # 0, or the clamp
    for _ in range(10):
        n = rows * cols
        y, source = np.zeros((2 * n, 2 * n)), np.zeros(2 * n)

        def tie(one: int, other: int, siemens: float, y: np.ndarray = y) -> None:
            y[one, one] += siemens
            y[other, other] += siemens
            y[one, other] -= siemens
            y[other, one] -= siemens

        ground = np.where(clamped != 0, lead_ohm + feedback_ohm, lead_ohm)
        for r in range(rows):
            for c in range(cols):
                bl, sl = r * cols + c, n + r * cols + c
                tie(bl, sl, g[r, c])
                if r:
                    tie(bl, bl - cols, 1 / WIRES["bl_segment_ohm"])
                if c:
                    tie(sl, sl - 1, 1 / WIRES["sl_segment_ohm"])
        for c in range(cols):
            y[c, c] += 1 / WIRES["bl_lead_ohm"]
            source[c] += bl_v[c] / WIRES["bl_lead_ohm"]
        for r in range(rows):
            first = n + r * cols
            y[first, first] += 1 / ground[r]
            source[first] += clamped[r] / ground[r]
        v = np.linalg.solve(y, source)
        current = (v[n::cols] - clamped) / ground
        line_v = np.where(clamped != 0, clamped + current * feedback_ohm, 0.0)
        out = np.where(clamped != 0, clamped, -current * feedback_ohm)
        now = np.where(
            clamped == 0,
            np.where(np.abs(out) > CLAMP_V, np.sign(out) * CLAMP_V, 0.0),
            np.where(line_v * clamped < 0, clamped, 0.0),
        )
        if np.array_equal(now, clamped):
            return out
        clamped = now
    raise AssertionError("no consistent set of clamped amplifiers")


VECTORS = {
    "one row": (0.09, 0.09, 0.09, 0.09),
    "downwards": (-0.09, -0.09, -0.09, -0.09),
    "some of each": (0.1, 0.1, -0.1, 0.02),
    "barely": (0.05, 0.045, 0.05, 0.04),
    "none": (0.02, -0.02, 0.01, 0.0),
}
G = np.array([[95, 90, 100, 85], [20, 22, 25, 21], [60, 100, 20, 30], [10, 12, 8, 9]]) * 1e-6


@pytest.mark.parametrize("what", VECTORS)
def test_a_lost_virtual_ground_obeys_kirchhoff(what):
    """90 kohm clamp at 9.9 uA: the line sits at V_clamp + I R_f, and other rows feel it."""
    spec = small_spec()
    bench = Bench(spec, _preset("ideal", {}, WIRES), np.random.default_rng(0))
    bench.cells.g[:], bench.cells.formed[:] = G, True
    bring_to_reading(bench, tia_range=3)
    codes = bl_codes(spec, np.array([VECTORS[what]]))
    bl_v = codes[0] * (1.25 / 65536) - 0.9
    out = _nodal(G, bl_v, 86.28, 90e3)
    read = _by_row(bench.read_plan(spec.bl_channel, (0, 1)).words(codes), spec)[0]
    assert np.abs(read - out / LSB_V).max() < 0.51
    reference = _by_row(_one_by_one(bench, spec.bl_channel, codes, (0, 1)), spec)[0]
    assert np.array_equal(read, reference)
    # without the lost grounds, rows that are not clamped would read otherwise
    held = -(bench.linear_read(bench.wl_volts()).t_bl @ bl_v) * 90e3 / LSB_V
    inside = np.abs(read) < 8000
    felt = np.abs(read - held)[inside]
    clamped = int((~inside).sum())
    assert clamped == {"none": 0, "barely": 1}.get(what, clamped)
    assert (felt.max() > 5) == (clamped > 0) == (what != "none")


def test_a_clamped_line_is_where_the_cells_say_it_is():
    """The network's own cell voltages: current of the row into R_f, from V_clamp up to the line."""
    spec = small_spec()
    bench = Bench(spec, _preset("ideal", {}, WIRES), np.random.default_rng(0))
    bench.cells.g[:], bench.cells.formed[:] = G, True
    bring_to_reading(bench, tia_range=3)
    read = bench.linear_read(bench.wl_volts())
    bl_v = np.array([0.09, 0.09, 0.09, 0.09])
    raw = read.t_bl @ bl_v
    (currents,) = bench._lost_grounds(read, raw[None])
    (clamped,) = np.nonzero(raw > CLAMP_V / 90e3)
    assert clamped.tolist() == [0, 2]
    line_v = np.zeros(4)
    line_v[clamped] = -CLAMP_V + currents[clamped] * 90e3
    assert (line_v[clamped] > 0.01).all(), "lifted towards the bit lines"
    network = next(iter(bench._networks.values()))
    across = network.cell_voltages(bl_v[None], line_v[None])[0]
    assert (G * across).sum(1) == pytest.approx(currents, rel=1e-6)


def test_amplifiers_that_saturate_are_seen_by_those_who_read_other_rows():
    """A plan of one multiplexer input does not see every amplifier, and corrects all the same."""
    spec = small_spec()
    bench = Bench(spec, _preset("ideal", {}, WIRES), np.random.default_rng(0))
    bench.cells.g[:], bench.cells.formed[:] = G, True
    bring_to_reading(bench, tia_range=3)
    codes = bl_codes(spec, np.array([VECTORS["one row"], VECTORS["none"]]))
    both = bench.read_plan(spec.bl_channel, (0, 1)).words(codes)
    for select in (0, 1):
        words = bench.read_plan(spec.bl_channel, (select,)).words(codes)
        assert np.array_equal(words, both[:, 2 * select : 2 * select + 2])


def test_an_amplifier_at_its_clamp_shows_the_noise_of_the_converter_alone():
    """Range 3, 28 uA of 9.9 uA: 20 000 and 500 draws, 5 standard errors."""
    spec = small_spec()
    bench = _bench(NOISY, spec, tia_range=3)
    bench.cells.g[:] = 90e-6
    bench.cells.version += 1  # as every move of a cell does
    bring_to_reading(bench, tia_range=3)
    codes = np.tile(bl_codes(spec, np.full(4, 0.08)), (N, 1))
    words = bench.read_plan(spec.bl_channel, (0, 1)).words(codes)
    reference = _one_by_one(bench, spec.bl_channel, codes[:500], (0, 1))
    law = 0.76**2 + 1 / 12
    for taken in (words, reference):
        read = _by_row(taken, spec)
        assert (np.abs(read.mean(0) + 0.89 / LSB_V) < 0.5).all()
        assert (np.abs(read.var(0, ddof=1) - law) < 5 * law * np.sqrt(2 / len(read))).all()
