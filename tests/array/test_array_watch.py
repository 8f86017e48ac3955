"""Means of readings since the last pulse, and their standard errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rram_host.array.watch import Watch

SHAPE = (3, 4)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_means_counts_and_scatter_are_those_of_the_readings_since_the_last_pulse(seed, looks):
    """Against numpy, cell by cell: squares about each run's own mean, one freedom lost a run."""
    rng, watch = np.random.default_rng(seed), Watch(SHAPE)
    runs: dict[tuple[int, int], list[list[float]]] = {at: [[]] for at in np.ndindex(SHAPE)}
    for _ in range(looks):
        g, pulsed = rng.uniform(20e-6, 80e-6, SHAPE), rng.random(SHAPE) < 0.2
        watch.see(g)
        for at, kept in runs.items():
            kept[-1].append(float(g[at]))
            assert watch.count[at] == len(kept[-1])
            assert watch.mean[at] == pytest.approx(np.mean(kept[-1]))
            squares = sum(len(run) * np.var(run) for run in kept if run)
            freedom = sum(len(run) - 1 for run in kept if run)
            sigma = np.sqrt((4 * 0.2e-6**2 + squares) / (4 + freedom))
            assert watch.standard_error[at] == pytest.approx(sigma / np.sqrt(len(kept[-1])))
            if pulsed[at]:
                kept.append([])
        watch.forget(pulsed)
        assert not watch.count[pulsed].any()
        assert np.isinf(watch.standard_error[pulsed]).all()


def test_a_cell_that_fluctuates_is_known_less_well_than_a_quiet_one():
    """60 readings of 1 uS and of 0.1 uS noise: standard errors of the mean are 0.13 uS and, with
    the first guess, 0.014 uS; a std of 60 readings is known to 9 %."""
    rng, watch = np.random.default_rng(0), Watch((1, 2))
    for _ in range(60):
        watch.see(50e-6 + np.array([[1e-6, 0.1e-6]]) * rng.standard_normal((1, 2)))
    noisy, quiet = watch.standard_error[0]
    assert noisy == pytest.approx(1e-6 / np.sqrt(60), rel=4 * 0.09)
    assert quiet == pytest.approx(0.11e-6 / np.sqrt(60), rel=4 * 0.09)
    assert abs(watch.mean[0, 0] - 50e-6) < 4 * noisy


def test_cells_that_cannot_be_read_stay_apart():
    watch, g = Watch((1, 3)), np.array([[50e-6, np.nan, 40e-6]])
    watch.see(g)
    watch.see(g)
    assert watch.mean[0, [0, 2]] == pytest.approx([50e-6, 40e-6])
    assert np.isnan(watch.mean[0, 1])
    watch.forget(np.array([[False, True, False]]))
    watch.see(np.full((1, 3), 45e-6))
    assert watch.mean[0, 1] == pytest.approx(45e-6)
