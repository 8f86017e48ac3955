"""From series to points: autocorrelation, times, errors, derived quantities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rram_host.experiments.lattice_figures.samples import SERIES
from rram_host.lattice.actions import Action
from rram_host.lattice.autocorrelation import IntegratedTime, integrated_time, mean_and_error
from rram_host.lattice.derived import derived
from rram_host.lattice.reweighting import effective_sample_size

Array = npt.NDArray[np.float64]
Arrays = Mapping[str, npt.NDArray[Any]]
Pair = tuple[float, float]

_BLOCKS = 60  # of the jackknife: whole chains, or sixths of them


def tau(sample: Arrays, name: str) -> IntegratedTime:
    """Integrated autocorrelation time of an observable, in updates or proposals."""
    return integrated_time(sample[name].astype(np.float64))


def autocorrelation(sample: Arrays, name: str, lags: int) -> tuple[Array, Array]:
    """Normalised autocorrelation rho(t), t = 0 .. lags, and its error from the spread of chains.

    All chains share one mean and one variance.
    """
    values = sample[name].astype(np.float64)
    values = values - values.mean()
    n = values.shape[1]
    gamma = np.stack(
        [(values[:, : n - t] * values[:, t:]).mean(1) for t in range(min(lags, n // 4) + 1)], 1
    )
    rho = gamma / gamma[:, 0].mean()
    return rho.mean(0), rho.std(0, ddof=1) / np.sqrt(len(rho))


def mean(sample: Arrays, name: str) -> Pair:
    """Mean and error of an observable."""
    found = mean_and_error(sample[name].astype(np.float64))
    return found.mean, found.error


def by_repeat(sample: Arrays, name: str, repeats: int) -> Array:
    """Mean of an observable in every repeat, (repeats,)."""
    values = sample[name].astype(np.float64)
    return np.asarray(values.reshape(repeats, -1).mean(1))


def error_against_n(sample: Arrays, name: str, fewest: int = 32) -> list[tuple[int, float, float]]:
    """(N, relative error, its error) of one chain of N, N = powers of two, from all chains.

    The spread of the chains' means over their first N entries is the error of one of them; its own
    relative error is 1 / sqrt(2 (chains - 1)).
    """
    values = sample[name].astype(np.float64)
    whole, doubt = values.mean(), 1.0 / np.sqrt(2.0 * (len(values) - 1))
    found = []
    n = fewest
    while n <= values.shape[1]:
        error = values[:, :n].mean(1).std(ddof=1) / whole
        found.append((n, float(error), float(error * doubt)))
        n *= 2
    return found


def quantities(sample: Arrays, action: Action, shape: tuple[int, int]) -> dict[str, Pair]:
    """Correlation lengths, gap, condensate and so on, with jackknifed errors."""
    chains, n = sample["M"].shape
    flat = {
        name: torch.from_numpy(sample[name].reshape(chains * n, *sample[name].shape[2:]))
        for name in (*SERIES, "G")
    }
    return derived(flat, action, shape, _BLOCKS)


def correlator(sample: Arrays) -> tuple[Array, Array]:
    """G(t) and its error, t = 0 .. L // 2."""
    values = sample["G"].astype(np.float64)
    found = [mean_and_error(values[:, :, t]) for t in range(values.shape[2])]
    return np.array([f.mean for f in found]), np.array([f.error for f in found])


def density(sample: Arrays, edges: Array) -> tuple[Array, Array]:
    """Density of the field at a site in bins, and its error from the spread of chains."""
    counts = sample["counts"].astype(np.float64)
    each = counts / counts.sum(1, keepdims=True) / np.diff(edges)
    return each.mean(0), each.std(0, ddof=1) / np.sqrt(len(each))


def ess(sample: Arrays) -> Array:
    """ESS of every repeat of a flow."""
    return np.array([effective_sample_size(log_w) for log_w in sample["log_w"]])
