"""1/f and telegraph noise of cells: laws of stationary processes, whatever the steps of time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from firmware_bridge import board_spec
from sim import presets
from sim.array.noise import FLICKER_TIMES_S, SlowNoise
from sim.bench import Bench
from sim.board import EmulatedBoard
from tests.doubles import bl_codes, bring_to_reading

IDEAL = presets.load("ideal").cells
FLICKER = dataclasses.replace(IDEAL, flicker=1e-3)
TELEGRAPH = dataclasses.replace(IDEAL, telegraph=0.02, telegraph_share=1.0, telegraph_spread=0.5)
SIDE = 200
N = SIDE * SIDE


def _noise(preset, seed: int = 1, side: int = SIDE) -> SlowNoise:
    return SlowNoise(side, side, preset, np.random.default_rng(seed))


def _walk(noise: SlowNoise) -> np.ndarray:
    """The 1/f part in units of its amplitude, one number a cell."""
    return ((noise.factor - 1) / noise.flicker).ravel()


def _partitions(total_s: float) -> dict[str, np.ndarray]:
    """Moments at which noise is asked to go on, the last one at `total_s`."""
    rng = np.random.default_rng(9)
    return {
        "one step": np.array([total_s]),
        "many equal steps": np.linspace(0, total_s, 101)[1:],
        "steps of every size": np.append(np.sort(total_s * rng.random(60) ** 4), total_s),
    }


# ---- 1/f ----------------------------------------------------------------------------------------


def test_variance_is_one_amplitude_squared_a_decade_of_time():
    """Four decades, 40 000 cells: 5 standard errors, sqrt(2 / n) of 4; mean 5 x 2 / sqrt(n)."""
    noise = _noise(FLICKER)
    for now_s in (0.0, 3.0, 1e6):
        noise.advance(now_s)
        walk = _walk(noise)
        assert abs(walk.mean()) < 5 * 2 / np.sqrt(N)
        assert abs(walk.var() - 4) < 5 * 4 * np.sqrt(2 / N)


@pytest.mark.parametrize("how", _partitions(1.0))
@pytest.mark.parametrize("lag_s", [0.5, 10.0, 300.0, 1e5])
def test_autocovariance_is_that_of_four_walks_for_any_partition_of_time(lag_s, how):
    """C(t) = sum exp(-t / tau), tau = 1 to 1000 s; 5 standard errors, sqrt((16 + C^2) / n)."""
    noise = _noise(FLICKER)
    before = _walk(noise)
    for now_s in _partitions(lag_s)[how]:
        noise.advance(now_s)
    law = np.exp(-lag_s / FLICKER_TIMES_S).sum()
    found = float((before * _walk(noise)).mean())
    assert abs(found - law) < 5 * np.sqrt((16 + law**2) / N)
    assert abs(_walk(noise).var() - 4) < 5 * 4 * np.sqrt(2 / N)


def test_steps_too_short_to_matter_are_not_lost():
    """10 000 steps of 5 us: a mean square of 2 sum (1 - exp(-t / tau)); 5 standard errors."""
    noise = _noise(FLICKER)
    before = _walk(noise)
    for now_s in np.linspace(0, 0.05, 10_001)[1:]:
        noise.advance(now_s)
    wandered = (_walk(noise) - before) ** 2
    law = 2 * (1 - np.exp(-0.05 / FLICKER_TIMES_S)).sum()
    assert abs(wandered.mean() - law) < 5 * law * np.sqrt(2 / N)


def test_the_spectrum_is_one_over_f_over_two_decades():
    """400 cells, 8192 steps of 1 s, Hann window; between 1 / (2 pi 1000 s) and 1 / (2 pi 1 s)."""
    steps, side = 8192, 20
    noise = _noise(FLICKER, side=side)
    series = np.empty((steps, side * side))
    for step in range(steps):
        noise.advance(float(step))
        series[step] = _walk(noise)
    window = np.hanning(steps)[:, None]
    power = (np.abs(np.fft.rfft(series * window, axis=0)) ** 2).mean(1) / (window**2).sum()
    f = np.fft.rfftfreq(steps)
    kept = (f >= 5e-4) & (f <= 5e-2)
    # as many points in every third of a decade, or the upper end would be all of the fit
    edges = np.geomspace(5e-4, 5e-2, 13)
    bins = np.digitize(f[kept], edges)
    centre = np.array([np.log(f[kept][bins == b]).mean() for b in np.unique(bins)])
    level = np.array([np.log(power[kept][bins == b].mean()) for b in np.unique(bins)])
    slope = np.polyfit(centre, level, 1)[0]
    assert -1.2 < slope < -0.8
    # and the level is that of the four walks, sampled: (1 - a^2) / (1 - 2 a cos 2 pi f + a^2)
    a = np.exp(-1 / FLICKER_TIMES_S)[:, None]
    law = ((1 - a**2) / (1 - 2 * a * np.cos(2 * np.pi * f[kept]) + a**2)).sum(0)
    # the lowest bin is two frequencies of 400 cells: 5 standard errors are 18 %, and what the
    # window lets through from below adds to it
    ratio = [(power[kept] / law)[bins == b].mean() for b in np.unique(bins)]
    assert np.abs(np.array(ratio) - 1).max() < 0.25


def test_amplitudes_of_cells_are_log_normal():
    """Median 0.1 %, 0.6 in the logarithm; 5 standard errors."""
    noise = _noise(dataclasses.replace(FLICKER, flicker_spread=0.6))
    logs = np.log(noise.flicker / 1e-3)
    assert abs(logs.mean()) < 5 * 0.6 / np.sqrt(N)
    assert abs(logs.std() - 0.6) < 5 * 0.6 / np.sqrt(2 * N)


def test_walks_of_different_cells_are_independent():
    """Neighbours in a row and in a column: 5 / sqrt(n) of the correlation."""
    noise = _noise(FLICKER)
    noise.advance(7.0)
    walk = (noise.factor - 1) / 2e-3
    for one, other in ((walk[:, 1:], walk[:, :-1]), (walk[1:], walk[:-1])):
        assert abs((one * other).mean()) < 5 / np.sqrt(one.size)


# ---- telegraph ----------------------------------------------------------------------------------


def test_a_telegraph_cell_has_two_levels_and_is_in_each_half_of_the_time():
    """Filled in half of 40 000 cells at any time: 5 x 0.5 / sqrt(n)."""
    noise = _noise(TELEGRAPH)
    levels = np.stack([np.ones_like(noise.telegraph), 1 - noise.telegraph])
    for now_s in (0.0, 0.02, 5.0, 1e5):
        noise.advance(now_s)
        assert (np.abs(noise.factor - levels).min(0) < 1e-15).all()
        low = np.abs(noise.factor - levels[1]) < 1e-15
        assert abs(low.mean() - 0.5) < 5 * 0.5 / np.sqrt(N)


def test_mean_dwell_time_is_the_time_of_the_cell():
    """tau = 10 s, looked at every 0.1 s for 40 s: 160 000 s / 10 s = 160 000 changes or so.

    Seen are those that last: p = (1 - exp(-2 dt / tau)) / 2 a look; 5 standard errors, sqrt(n p).
    """
    noise = _noise(TELEGRAPH)
    noise.telegraph_time_s[:] = 10.0
    flips, looks = 0, 400
    for look in range(1, looks + 1):
        before = noise.filled.copy()
        noise.advance(0.1 * look)
        flips += int((noise.filled != before).sum())
    seen = N * looks * (1 - np.exp(-0.02)) / 2
    assert abs(flips - seen) < 5 * np.sqrt(seen)
    assert N * looks * 0.1 / flips == pytest.approx(10.0, rel=0.025)  # 1 % of changes unseen


@pytest.mark.parametrize("how", _partitions(1.0))
@pytest.mark.parametrize("lag_s", [1.0, 5.0, 20.0])
def test_a_trap_forgets_exponentially_for_any_partition_of_time(lag_s, how):
    """<s(0) s(t)> = exp(-2 t / tau) with s = +-1, tau = 10 s; 5 / sqrt(n)."""
    noise = _noise(TELEGRAPH)
    noise.telegraph_time_s[:] = 10.0
    before = 2.0 * noise.filled - 1
    for now_s in _partitions(lag_s)[how]:
        noise.advance(now_s)
    found = float((before * (2.0 * noise.filled - 1)).mean())
    assert abs(found - np.exp(-2 * lag_s / 10)) < 5 / np.sqrt(N)


def test_amplitudes_and_times_of_traps():
    """Median 2 %, 0.5 in the logarithm; times log-uniform over 10 ms to 1000 s; 5 standard errors.

    A uniform law over 11.5 e-folds has a spread of 11.5 / sqrt(12), and its own spread's error is
    that / sqrt(5 n).
    """
    noise = _noise(TELEGRAPH)
    logs = np.log(noise.telegraph / 0.02)
    assert abs(logs.mean()) < 5 * 0.5 / np.sqrt(N)
    assert abs(logs.std() - 0.5) < 5 * 0.5 / np.sqrt(2 * N)
    times, width = np.log(noise.telegraph_time_s), np.log(1e5)
    assert np.log(1e-2) <= times.min() and times.max() <= np.log(1e3)
    assert abs(times.mean() - np.log(1e-2 * 1e3) / 2) < 5 * width / np.sqrt(12 * N)
    assert abs(times.std() - width / np.sqrt(12)) < 5 * width / np.sqrt(12) / np.sqrt(5 * N)


def test_the_share_of_cells_with_a_trap():
    """1 % of 40 000 cells: 400 +- 5 x 20."""
    noise = _noise(dataclasses.replace(TELEGRAPH, telegraph_share=0.01))
    assert abs((noise.telegraph > 0).sum() - 400) < 5 * np.sqrt(400 * 0.99)
    noise.advance(1e5)
    assert (noise.factor[noise.telegraph == 0] == 1).all()


def test_a_conductance_never_vanishes():
    """Literals: no trap is deeper than 90 %, and no noise takes a cell below 5 % of itself."""
    wild = dataclasses.replace(TELEGRAPH, telegraph=1.0, telegraph_spread=3.0, flicker=1.0)
    noise = _noise(wild)
    assert noise.telegraph.max() == 0.9
    assert noise.factor.min() == 0.05


# ---- off, and kept ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "preset",
    [
        IDEAL,
        dataclasses.replace(IDEAL, telegraph=0.1, telegraph_share=0.0),
        dataclasses.replace(IDEAL, telegraph=0.0, telegraph_share=1.0),
    ],
    ids=["ideal", "no cell has a trap", "traps without effect"],
)
def test_without_amplitudes_nothing_fluctuates_and_nothing_is_drawn(preset):
    rng = np.random.default_rng(4)
    noise = SlowNoise(8, 8, preset, rng)
    before = rng.bit_generator.state
    for now_s in (1e-3, 1.0, 1e6):
        noise.advance(now_s)
    assert rng.bit_generator.state == before
    assert (noise.factor == 1).all()


def test_time_that_stands_still_or_goes_back_changes_nothing():
    noise = _noise(presets.load("taox_180nm").cells, side=32)
    noise.advance(5.0)
    kept, version = noise.factor.copy(), noise.version
    for now_s in (5.0, 5.0 + 1e-6, 4.0, 0.0):
        noise.advance(now_s)
    assert np.array_equal(noise.factor, kept) and noise.version == version
    noise.advance(6.0)
    assert not np.array_equal(noise.factor, kept) and noise.version > version


def test_state_is_kept_with_its_time():
    """Another array with this state and this generator has the same past and the same future."""
    preset = presets.load("taox_180nm").cells
    one = _noise(preset, seed=1, side=32)
    one.advance(50.0)
    rng = np.random.default_rng(77)
    other = SlowNoise(32, 32, preset, rng)
    assert not np.array_equal(other.factor, one.factor)
    other.restore(one.state())
    assert np.array_equal(other.factor, one.factor)
    rng.bit_generator.state = one._rng.bit_generator.state
    for now_s in (50.0, 50.3, 900.0):
        one.advance(now_s)
        other.advance(now_s)
        assert np.array_equal(other.factor, one.factor)
    # what was handed out is a copy: the first array went on without the second's state moving
    saved = one.state()
    other.restore(saved)
    other.advance(2000.0)
    assert np.array_equal(one.state()["noise_walks"], saved["noise_walks"])


def test_a_state_file_keeps_the_noise_of_a_board(tmp_path):
    path = tmp_path / "board.npz"
    board = EmulatedBoard("taox_180nm", seed=6, state=path)
    board.clock.advance(3_000_000_000)
    board.bench.noise.advance(board.clock.now_s)
    board.close()
    again = EmulatedBoard("taox_180nm", seed=6, state=path)
    assert again.clock.now_s == 30.0
    for name, value in board.bench.noise.state().items():
        assert np.array_equal(again.bench.noise.state()[name], value), name
    assert np.array_equal(again.bench.noise.factor, board.bench.noise.factor)
    for one in (board, again):
        one.bench.noise.advance(31.0)
    assert np.array_equal(again.bench.noise.factor, board.bench.noise.factor)


def test_a_filled_trap_takes_its_share_of_the_current():
    """One cell of 50 uS at 0.1 V behind 45 kohm, no wires: 2048 LSB, and 10 % less when filled."""
    spec = board_spec.load()
    bench = Bench(spec, presets.load("ideal"), np.random.default_rng(0))
    bench.switch_ohm[:] = 0.0
    bench.rewired()
    bench.cells.g[:] = 1e-12
    bench.cells.g[3, 4], bench.cells.formed[3, 4] = 50e-6, True
    bring_to_reading(bench, tia_range=2)
    volts = np.zeros((1, 32))
    volts[0, 4] = -0.1
    full, lowered = [], []
    for factor, words in ((1.0, full), (0.9, lowered)):
        bench.noise.factor = np.ones((32, 32))
        bench.noise.factor[3, 4] = factor
        bench.noise.version += 1  # as `advance` does
        words += bench.read_plan(spec.bl_channel, [0]).words(bl_codes(spec, volts))[0].tolist()
    assert full[3] == 2048 and lowered[3] == 1843
    assert full[:3] == lowered[:3] and full[4:] == lowered[4:]
