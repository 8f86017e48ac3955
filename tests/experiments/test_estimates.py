"""Standard errors that are stated are the spread that repetition shows."""

from __future__ import annotations

import numpy as np
import pytest

from rram_host.experiments import estimates


@pytest.mark.parametrize("tails", [False, True], ids=["gaussian", "student t, 9 degrees"])
def test_error_of_a_std_is_the_spread_of_stds(tails: bool):
    rng, repeats, n = np.random.default_rng(1), 2000, 400
    x = rng.standard_t(9, (repeats, n)) if tails else rng.standard_normal((repeats, n))
    values, errors = np.array([estimates.std(row) for row in x]).T
    # 2000 repetitions know the spread to 1.6 %; the estimate from 400 values is low by 1 to 3 %
    # where the fourth moment has tails
    assert np.median(errors) == pytest.approx(values.std(), rel=0.08)
    if tails:
        assert np.median(errors) > 1.15 * values.mean() / np.sqrt(2 * n)


def test_error_of_a_share_is_binomial_and_never_none():
    value, error = estimates.share(300, 1000)
    assert value == 0.3 and error == pytest.approx(np.sqrt(0.3 * 0.7 / 1000), rel=1e-2)
    assert estimates.share(0, 50)[1] > 0 and estimates.share(50, 50)[1] > 0
    assert np.isnan(estimates.share(0, 0)).all()


def test_what_is_not_a_number_is_left_out_and_too_few_values_give_no_error():
    assert estimates.mean([1.0, np.nan, 3.0]) == (2.0, 1.0)
    assert np.isnan(estimates.mean([])).all() and np.isnan(estimates.std([1, 2, 3])).all()
    assert estimates.std([2.0] * 5) == (0.0, 0.0)


def test_robust_std_of_a_gaussian_is_its_std():
    x = np.random.default_rng(2).normal(5.0, 2.0, 100_000)
    # the interquartile range of n values is known to 1.17 / sqrt(n) of sigma: 4 errors
    assert estimates.robust_std(x) == pytest.approx(2.0, abs=4 * 1.17 * 2.0 / np.sqrt(x.size))
