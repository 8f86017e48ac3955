"""Integrated autocorrelation times and the errors they imply (Gamma method)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rram_host.errors import InputError

__all__ = [
    "IntegratedTime",
    "MeanError",
    "as_floats",
    "function_and_error",
    "integrated_time",
    "jackknife",
    "mean_and_error",
]

# Wolff's S: how much longer than tau the true decay may be; 1 to 2 are usual.
_WINDOW_SAFETY = 1.5


@dataclass(frozen=True)
class IntegratedTime:
    """An integrated autocorrelation time, in updates.

    Attributes:
        tau: 1/2 + sum_{t=1}^{window} rho(t) (eq. 30 of arXiv 2509.12812); 1/2 for independent
            samples. One effective sample costs 2 tau updates.
        tau_error: its standard error.
        window: last lag summed.
    """

    tau: float
    tau_error: float
    window: int


@dataclass(frozen=True)
class MeanError:
    """A mean with its error.

    Attributes:
        mean: average over everything.
        error: standard error sqrt(2 tau var / N), in the unit of the mean.
        tau: integrated autocorrelation time, in updates.
        tau_error: its standard error.
        window: last lag summed.
        error_error: standard error of the error, error sqrt((window + 1/2) / N), in the unit of the
            mean (eq. 42 of U. Wolff, hep-lat/0306017).
    """

    mean: float
    error: float
    tau: float
    tau_error: float
    window: int
    error_error: float


def integrated_time(series: ArrayLike) -> IntegratedTime:
    """Integrated autocorrelation time with Wolff's automatic window.

    rho(t) is summed up to the first W at which exp(-W / tau_W) - tau_W / sqrt(W N) < 0, where
    tau_W = S / log((2 tau + 1) / (2 tau - 1)) and S = 1.5: there the truncation bias and the
    statistical error of tau balance. The O(1/N) bias of the mean is corrected.
    Error: 2 tau sqrt((W + 1/2 - tau) / N), eqs. 41, 42, 49-52 of U. Wolff, hep-lat/0306017;
    the same numbers as the package pyerrors gives with S = 1.5.

    Args:
        series: (n,) one chain, or (chains, n) independent chains of equal length, which share one
            mean and one rho.

    Returns:
        tau, its error and the window. A constant series has tau = 1/2 and error 0.

    Raises:
        InputError: for fewer than 4 updates, other shapes, chains of different lengths, or
            values that are not finite.
    """
    return _analyse(_chains(series))[1]


def mean_and_error(series: ArrayLike) -> MeanError:
    """Mean and standard error of a correlated series, by the Gamma method.

    Args:
        series: (n,) or (chains, n), as for `integrated_time`.

    Raises:
        InputError: as `integrated_time`.
    """
    chains = _chains(series)
    variance, time = _analyse(chains)
    error = math.sqrt(2.0 * time.tau * variance / chains.size)
    doubt = error * math.sqrt((time.window + 0.5) / chains.size)
    return MeanError(float(chains.mean()), error, time.tau, time.tau_error, time.window, doubt)


def function_and_error(
    function: Callable[[NDArray[np.float64]], float], series: ArrayLike
) -> MeanError:
    """Value and standard error of a function of means, by the Gamma method.

    The series are projected on the gradient of the function at the means, sum_a f_a x_a(t), and the
    error of that series is the error of f (eqs. 7, 33, 34 of U. Wolff, hep-lat/0306017). The
    gradient is taken by central differences of one standard deviation / sqrt(N). Unlike the
    jackknife it needs no block length, and it gives the tau that belongs to f.

    Args:
        function: takes the means (k,) of the k quantities; smooth where the means are.
        series: (k, n), or (k, chains, n) independent chains.

    Returns:
        The function of the means, its error, and the integrated time of the projected series.

    Raises:
        InputError: for other shapes, or as `integrated_time`.
    """
    values = as_floats(series, "series")
    if values.ndim not in (2, 3):
        raise InputError(f"means need (k, n) or (k, chains, n), got {values.shape}")
    axes = tuple(range(1, values.ndim))
    means = values.mean(axes)
    steps = values.std(axes) / math.sqrt(values[0].size)
    gradient = np.zeros_like(means)
    for a in np.flatnonzero(steps):
        shift = np.zeros_like(means)
        shift[a] = steps[a]
        gradient[a] = (function(means + shift) - function(means - shift)) / (2.0 * steps[a])
    centred = values - means.reshape(-1, *(1,) * (values.ndim - 1))
    found = mean_and_error(np.tensordot(gradient, centred, 1))
    return replace(found, mean=float(function(means)))


def jackknife(
    function: Callable[[NDArray[np.float64]], float], series: ArrayLike, blocks: int = 64
) -> tuple[float, float]:
    """Value and standard error of a function of means, by the blocked jackknife.

    Args:
        function: takes the means (k,) of the k quantities.
        series: (k, n), quantity by update.
        blocks: number of blocks; each should be many autocorrelation times long.

    Returns:
        The function of the means over all blocks, and its error sqrt((B - 1) / B sum_b (f_b -
        mean f)^2). Blocks are equal, so the last n mod B updates are left out of both.

    Raises:
        InputError: unless series is (k, n) with n >= blocks >= 2.
    """
    values = as_floats(series, "series")
    if values.ndim != 2 or not 2 <= blocks <= values.shape[1]:
        raise InputError(f"a jackknife of {blocks} blocks got a series of shape {values.shape}")
    length = values.shape[1] // blocks
    kept = values[:, : length * blocks]
    sums = kept.reshape(len(kept), blocks, length).sum(2)
    left_out = (sums.sum(1, keepdims=True) - sums) / (length * (blocks - 1))
    replicas = np.array([function(left_out[:, b]) for b in range(blocks)])
    spread = ((replicas - replicas.mean()) ** 2).sum() * (blocks - 1) / blocks
    return float(function(kept.mean(1))), math.sqrt(float(spread))


def as_floats(values: ArrayLike, what: str) -> NDArray[np.float64]:
    """Values as a float64 array.

    Args:
        values: numbers, nested sequences of them, an array or a tensor.
        what: how a message calls them.

    Raises:
        InputError: for sequences of different lengths, a tensor that wants gradients, or anything
            else that is no array of numbers.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} must be an array of numbers: {error}") from None


def _chains(series: ArrayLike) -> NDArray[np.float64]:
    values = np.atleast_2d(as_floats(series, "series"))
    if values.ndim != 2 or values.shape[1] < 4 or values.shape[0] < 1:
        raise InputError(
            f"autocorrelations need (n,) or (chains, n) with n >= 4, got {np.shape(series)}"
        )
    if not np.isfinite(values).all():
        raise InputError("autocorrelations need finite values, got NaN or infinity")
    return values


def _analyse(chains: NDArray[np.float64]) -> tuple[float, IntegratedTime]:
    """Variance of one value, and the integrated time."""
    gamma = _autocovariance(chains - chains.mean())
    scale = float(np.abs(chains).max())
    if gamma[0] <= (1e-14 * scale) ** 2:
        return 0.0, IntegratedTime(0.5, 0.0, 0)
    total = chains.size
    tau = 0.5 + np.concatenate([[0.0], np.cumsum(gamma[1:] / gamma[0])])
    window = _window(tau, total)
    found = float(tau[window])
    # The sample mean is subtracted, which lowers every Gamma(t) by 2 tau var / N (Wolff, eq. 49).
    value = found * (1.0 + (2.0 * window + 1.0) / total) / (1.0 + 1.0 / total)
    value = max(value, 0.5 / total)  # strong anticorrelation must not make a variance negative
    error = 2.0 * abs(found) * math.sqrt(abs(window + 0.5 - found) / total)
    variance = float(gamma[0]) * (1.0 + 1.0 / total)
    return variance, IntegratedTime(value, error, window)


def _autocovariance(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gamma(t) for t = 0..n/2, averaged over chains, by FFT with zero padding."""
    n = centred.shape[1]
    lags = n // 2 + 1
    size = 1 << (2 * n - 1).bit_length()
    power = np.abs(np.fft.rfft(centred, size, axis=1)) ** 2
    summed = np.fft.irfft(power.mean(0), size)[:lags]
    return np.asarray(summed / (n - np.arange(lags)), dtype=np.float64)


def _window(tau: NDArray[np.float64], total: int) -> int:
    """First lag where the automatic windowing condition turns negative."""
    lags = np.arange(1, len(tau))
    below = np.clip(tau[1:], 0.5 + 1e-12, None)
    decay = _WINDOW_SAFETY / np.log((2.0 * below + 1.0) / (2.0 * below - 1.0))
    balance = np.exp(-lags / decay) - decay / np.sqrt(lags * float(total))
    negative = np.flatnonzero(balance < 0.0)
    return int(lags[negative[0]]) if negative.size else len(tau) - 1
