"""Gamma method on series whose autocorrelation is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rram_host.errors import InputError
from rram_host.lattice.autocorrelation import integrated_time, jackknife, mean_and_error


def _ar1(a: float, chains: int, n: int, seed: int) -> NDArray[np.float64]:
    """x_{t+1} = a x_t + noise, stationary with variance 1: rho(t) = a^t."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(chains)
    series = np.empty((chains, n))
    for t in range(n):
        series[:, t] = x
        x = a * x + np.sqrt(1 - a * a) * rng.standard_normal(chains)
    return series


@pytest.mark.parametrize("a", [0.0, 0.5, 0.9])
def test_ar1_has_its_closed_form_tau(a: float) -> None:
    # tau = 1/2 + a / (1 - a). 4 standard errors: three seeded cases, and the window's truncation
    # takes up to one of them.
    found = integrated_time(_ar1(a, 8, 20_000, 1))
    assert abs(found.tau - (0.5 + a / (1 - a))) < 4 * max(found.tau_error, 0.004)


def test_one_chain_and_many_chains_agree() -> None:
    series = _ar1(0.8, 1, 50_000, 2)[0]
    one, many = integrated_time(series), integrated_time(series.reshape(10, 5000))
    # The same data, but for the 9 cuts and the larger choice of windows: 1 standard error.
    assert abs(one.tau - many.tau) < one.tau_error


def test_error_of_the_mean_is_the_spread_of_means() -> None:
    series = _ar1(0.8, 400, 2000, 3)
    true_error = np.sqrt((1 + 0.8) / (1 - 0.8) / 2000)
    errors = np.array([mean_and_error(chain).error for chain in series[:100]])
    # Estimated errors scatter by about 8 %, so their mean over 100 chains by 0.8 %; windowing
    # biases them low by up to 3 %. The spread of 400 means is good to 1 / sqrt(800) = 3.5 %.
    assert errors.mean() == pytest.approx(true_error, rel=0.05)
    assert series.mean(1).std() == pytest.approx(true_error, rel=4 * 0.035)


def test_scale_and_offset_change_nothing_but_the_unit() -> None:
    series = _ar1(0.6, 1, 4000, 4)[0]
    plain, scaled = mean_and_error(series), mean_and_error(1e3 + 10 * series)
    assert scaled.error == pytest.approx(10 * plain.error, rel=1e-9)
    assert scaled.tau == pytest.approx(plain.tau, rel=1e-9)


def test_constant_series_has_no_error() -> None:
    found = mean_and_error(np.full(100, 0.1))
    assert (found.error, found.tau) == (0.0, 0.5)
    assert found.mean == pytest.approx(0.1)


def test_alternating_series_stays_defined() -> None:
    found = mean_and_error(np.tile([1.0, -1.0], 500))
    assert 0.0 <= found.error < 1e-2


def test_jackknife_of_a_linear_function_is_the_error_of_the_mean() -> None:
    series = np.random.default_rng(5).standard_normal((2, 6400))
    value, error = jackknife(lambda m: float(m[0] - 2 * m[1]), series)
    assert value == pytest.approx(series[0].mean() - 2 * series[1].mean())
    # relative error of a spread from 64 blocks is 1 / sqrt(126) = 9 %: 3 standard errors
    assert error == pytest.approx(np.sqrt(5 / 6400), rel=3 * 0.09)


@pytest.mark.parametrize("series", [[1.0, 2.0], [1.0, np.nan, 2.0, 3.0], np.zeros((2, 2, 8))])
def test_refuses_what_has_no_autocorrelation(series: NDArray[np.float64]) -> None:
    with pytest.raises(InputError, match="autocorrelations need"):
        integrated_time(series)


def test_jackknife_refuses_more_blocks_than_updates() -> None:
    with pytest.raises(InputError, match="64 blocks"):
        jackknife(lambda m: float(m[0]), np.zeros((1, 10)))
