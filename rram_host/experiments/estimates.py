"""Estimates with their standard errors, as findings state them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# What makes the interquartile range of a Gaussian its standard deviation.
IQR_OF_SIGMA = 1.349


def finite(values: npt.ArrayLike) -> Array:
    """Values that are numbers, as one row."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    known: Array = flat[np.isfinite(flat)]
    return known


def mean(values: npt.ArrayLike) -> tuple[float, float]:
    """Mean and its standard error, s / sqrt(n); NaN where there are too few values."""
    x = finite(values)
    value = float(x.mean()) if x.size else np.nan
    return value, float(x.std(ddof=1) / np.sqrt(x.size)) if x.size > 1 else np.nan


def std(values: npt.ArrayLike) -> tuple[float, float]:
    """Standard deviation and its standard error, whatever the distribution.

    Var[s^2] = (m4 - s^4 (n - 3) / (n - 1)) / n with the fourth central moment m4, and the error
    of s is half of its root over s. Heavy tails make it larger than the s / sqrt(2 n) of Gaussians.
    NaN for fewer than four values.
    """
    x = finite(values)
    if x.size < 4:
        return np.nan, np.nan
    variance = float(x.var(ddof=1))
    if variance == 0.0:
        return 0.0, 0.0
    m4 = float(np.mean((x - x.mean()) ** 4))
    spread = (m4 - variance**2 * (x.size - 3) / (x.size - 1)) / x.size
    return float(np.sqrt(variance)), float(np.sqrt(max(spread, 0.0) / variance) / 2)


def robust_std(values: npt.ArrayLike) -> float:
    """Interquartile range over 1.349: the standard deviation without its tails."""
    x = finite(values)
    return float(np.subtract(*np.percentile(x, [75, 25])) / IQR_OF_SIGMA) if x.size else np.nan


def share(hits: int, n: int) -> tuple[float, float]:
    """Share of n and its binomial standard error.

    The error is taken at (hits + 1/2) / (n + 1), so that none or all of n leave one too.
    """
    if not n:
        return np.nan, np.nan
    p = (hits + 0.5) / (n + 1)
    return hits / n, float(np.sqrt(p * (1 - p) / n))
