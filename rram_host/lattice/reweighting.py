"""What a sample of importance weights w = exp(-S) / q tells."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rram_host.errors import InputError
from rram_host.lattice.autocorrelation import as_floats

__all__ = ["effective_sample_size", "log_z"]


def effective_sample_size(log_w: ArrayLike) -> float:
    """Effective sample size as a fraction, (sum w)^2 / (N sum w^2), in [1/N, 1].

    Eq. 11 of arXiv 2509.12812. Quote N beside it: with heavy-tailed weights a small sample has
    not met the large ones, and looks better than it is.

    Args:
        log_w: logarithms of the weights, shape (N,); a common constant does not matter.

    Raises:
        InputError: for fewer than one weight, or weights that are NaN or +infinity.
    """
    w = _scaled(log_w)[0]
    return float(w.sum() ** 2 / (w.size * (w * w).sum()))


def log_z(log_w: ArrayLike) -> tuple[float, float]:
    """Logarithm of the mean weight, an estimate of log Z where q is normalised, and its error.

    log Z = log (1/N) sum_i w_i; by the delta method its standard error is that of the mean,
    divided by the mean: std(w) / (sqrt(N) mean(w)).

    Args:
        log_w: logarithms of independent weights, shape (N,), N >= 2.

    Returns:
        The value and its standard error.

    Raises:
        InputError: for fewer than two weights, or weights that are NaN or +infinity.
    """
    w, top = _scaled(log_w, at_least=2)
    mean = w.mean()
    return float(top + np.log(mean)), float(w.std(ddof=1) / (math.sqrt(w.size) * mean))


def _scaled(log_w: ArrayLike, at_least: int = 1) -> tuple[NDArray[np.float64], float]:
    """Weights divided by the largest, and the logarithm of the largest."""
    values = as_floats(log_w, "log weights")
    if values.ndim != 1 or values.size < at_least:
        raise InputError(
            f"log weights must be one series of at least {at_least}, got shape {values.shape}"
        )
    top = float(values.max())
    if not math.isfinite(top):
        raise InputError(f"log weights must not be NaN or +infinity nor all -infinity, got {top}")
    return np.exp(values - top), top
