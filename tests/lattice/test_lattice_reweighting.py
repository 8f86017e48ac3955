"""Importance weights of a Gaussian, in closed form."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rram_host.errors import InputError
from rram_host.lattice.reweighting import effective_sample_size, log_z


def test_gaussian_ess_and_log_z() -> None:
    # q = N(0, 1), exp(-S) = exp(-x^2 / (2 v)): Z = sqrt(2 pi v), and with r = 1 / v
    # ESS = E[w]^2 / E[w^2] = sqrt(2 r - 1) / r.
    v, n = 0.8, 200_000
    x = np.random.default_rng(0).standard_normal(n)
    log_w = -(x**2) / (2 * v) + x**2 / 2 + 0.5 * math.log(2 * math.pi)
    value, error = log_z(log_w)
    assert abs(value - 0.5 * math.log(2 * math.pi * v)) < 3 * error
    r = 1 / v
    exact_ess = math.sqrt(2 * r - 1) / r
    assert error == pytest.approx(math.sqrt((1 / exact_ess - 1) / n), rel=0.02)
    # weights are bounded by 1 here, so the ESS of 2e5 draws is good to well below 0.3 %
    assert effective_sample_size(log_w) == pytest.approx(exact_ess, rel=0.003)


def test_log_z_error_is_the_spread_of_log_z() -> None:
    log_w = 0.5 * np.random.default_rng(1).standard_normal((400, 1000))
    pairs = np.array([log_z(row) for row in log_w])
    # E exp(s x) = exp(s^2 / 2); the spread of 400 values is good to 3.5 %: 4 standard errors
    assert abs(pairs[:, 0].mean() - 0.125) < 4 * pairs[:, 1].mean() / math.sqrt(400) + 2e-4
    assert pairs[:, 0].std() == pytest.approx(pairs[:, 1].mean(), rel=4 * 0.035)


@given(
    arrays(np.float64, st.integers(1, 40), elements=st.floats(-500, 500)), st.floats(-1000, 1000)
)
def test_ess_is_a_fraction_and_ignores_constants(log_w: np.ndarray, shift: float) -> None:
    ess = effective_sample_size(log_w)
    assert 1 / log_w.size * (1 - 1e-9) <= ess <= 1 + 1e-9
    assert effective_sample_size(log_w + shift) == pytest.approx(ess, rel=1e-6)


def test_equal_weights_are_all_effective() -> None:
    assert effective_sample_size(np.full(10, -1e4)) == pytest.approx(1.0)
    assert log_z(np.full(10, -1e4)) == (pytest.approx(-1e4), 0.0)


@pytest.mark.parametrize("log_w", [[], [0.0, math.nan], [0.0, math.inf], [-math.inf], [[0.0]]])
def test_refuses_weights_without_a_mean(log_w: list[float]) -> None:
    with pytest.raises(InputError, match="log weights must"):
        effective_sample_size(log_w)


def test_log_z_needs_two_weights() -> None:
    with pytest.raises(InputError, match="at least 2"):
        log_z([0.0])
