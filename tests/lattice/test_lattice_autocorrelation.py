"""Gamma method on series whose autocorrelation is known."""

import importlib
import math
import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rram_host.errors import InputError
from rram_host.lattice.autocorrelation import (
    function_and_error,
    integrated_time,
    jackknife,
    mean_and_error,
)
from rram_host.lattice.reweighting import effective_sample_size


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


@pytest.fixture(scope="module")
def pyerrors() -> ModuleType:
    # its import of scipy.odr warns of that module's end; nothing of ours can change it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module("pyerrors")
        except ImportError as error:
            pytest.skip(f"pyerrors is not installed: {error}")


# pyerrors never lets tau fall below 1/2, we do, so independent draws are not among the cases
@pytest.mark.parametrize(("a", "chains"), [(0.3, 1), (0.9, 1), (0.7, 8)])
def test_equals_pyerrors_to_three_digits(pyerrors: ModuleType, a: float, chains: int) -> None:
    series = _ar1(a, chains, 10_000 // chains, 6)
    names = [f"ensemble|r{i}" for i in range(chains)]
    # chains share one mean, which pyerrors is told; left alone it subtracts each chain's own
    mean = float(series.mean())
    theirs = pyerrors.Obs(list(series - mean), names, means=[mean] * chains)
    theirs.gamma_method(S=1.5)
    ours = mean_and_error(series)
    assert ours.window == theirs.e_windowsize["ensemble"]
    found = [ours.error, ours.error_error, ours.tau, ours.tau_error]
    expected = [theirs.dvalue, theirs.ddvalue]
    expected += [theirs.e_tauint["ensemble"], theirs.e_dtauint["ensemble"]]
    assert found == pytest.approx(expected, rel=5e-4)


def test_functions_of_means_have_the_errors_of_pyerrors(pyerrors: ModuleType) -> None:
    x = _ar1(0.8, 1, 20_000, 7)[0]
    y = 3.0 + 0.5 * x + _ar1(0.3, 1, 20_000, 8)[0]
    pair = [pyerrors.Obs([each], ["e"]) for each in (x + 2.0, y)]
    ratio = pair[0] / pair[1] ** 2
    ratio.gamma_method(S=1.5)
    ours = function_and_error(lambda m: float(m[0] / m[1] ** 2), np.array([x + 2.0, y]))
    found = [ours.mean, ours.error, ours.tau]
    expected = [ratio.value, ratio.dvalue, ratio.e_tauint["e"]]
    assert found == pytest.approx(expected, rel=5e-4)


def test_jackknife_and_gamma_method_agree_on_a_function() -> None:
    series = np.stack([_ar1(0.5, 64, 500, 9) + 2.0, _ar1(0.7, 64, 500, 10) + 3.0])
    gamma = function_and_error(lambda m: float(m[0] / m[1]), series)
    value, error = jackknife(lambda m: float(m[0] / m[1]), series.reshape(2, -1))
    assert value == pytest.approx(gamma.mean, rel=1e-12)
    # one chain a block; an error from 64 blocks is good to 1 / sqrt(126) = 9 %: 3 of those
    assert error == pytest.approx(gamma.error, rel=3 * 0.09)


def test_a_linear_function_is_the_mean_of_the_combination() -> None:
    series = np.random.default_rng(11).standard_normal((3, 4, 500))
    found = function_and_error(lambda m: float(m[0] - 2 * m[2]), series)
    expected = mean_and_error(series[0] - 2 * series[2])
    assert found.error == pytest.approx(expected.error, rel=1e-6)
    assert math.isclose(found.mean, expected.mean, rel_tol=1e-9)


def test_function_of_means_refuses_a_bare_series() -> None:
    with pytest.raises(InputError, match="means need"):
        function_and_error(lambda m: float(m[0]), np.zeros(10))


@pytest.mark.parametrize(
    "function",
    [
        integrated_time,
        mean_and_error,
        lambda series: function_and_error(lambda m: float(m[0]), series),
        lambda series: jackknife(lambda m: float(m[0]), series, 2),
        effective_sample_size,
    ],
)
def test_refuses_chains_of_different_lengths_and_tensors_with_gradients(
    function: Callable[..., object],
) -> None:
    for bad in ([[0.0] * 9, [0.0] * 8], torch.zeros(9, requires_grad=True)):
        with pytest.raises(InputError, match="must be an array of numbers"):
            function(bad)


def test_jackknife_leaves_out_what_no_block_takes() -> None:
    series = np.random.default_rng(12).standard_normal((1, 67))
    found = jackknife(lambda m: float(m[0]), series, 8)
    assert found == jackknife(lambda m: float(m[0]), series[:, :64], 8)
