"""The law of readings over time: relaxation under the noise of readings, and its likelihood.

For a cell with amplitude a, and times t since its last pulse,

    G(t2) - G(t1) ~ N(m L, a^2 L),    L = log10((onset + t2) / (onset + t1)),

with independent increments; a is log-normal over cells, with mean square A. On top of it lies the
noise of readings, in proportion to G: a part that is new at every reading, and 1/f noise, which is
a sum of four processes with correlation times of 1 s to 1000 s, as a preset has it. Its size is
log-normal over cells too, and far larger in a few that jump (traps). Both sizes are integrated out
cell by cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.special import logsumexp

Array = npt.NDArray[np.float64]

_NOISE_TIMES_S = np.array([1.0, 10.0, 100.0, 1000.0])
_AMPLITUDES = np.linspace(-3.4, 3.4, 18)  # in sigmas of the log-normal
_NOISES = np.linspace(-2.8, 2.8, 7)
# A few cells jump (traps): with this probability the noise is larger by one of these factors.
_JUMPY, _JUMPS = 0.01, np.log([4.0, 8.0, 16.0, 32.0])
_AT_ONCE = 8  # steps whose variances are multiplied before the logarithm is taken


@dataclass(frozen=True)
class Law:
    """Parameters, in microsiemens and seconds, by their scales in the search.

    Attributes:
        log_variance: ln A.
        spread: of ln a over cells.
        mean: drift a decade.
        log_noise: ln of the noise of readings relative to G, median cell.
        noise_spread: of that over cells.
        white: share of its variance that is new at every reading.
        log_onset: ln of the onset.
    """

    log_variance: float
    spread: float
    mean: float
    log_noise: float
    noise_spread: float
    white: float
    log_onset: float

    @property
    def vector(self) -> Array:
        """As numbers in order."""
        return np.array(list(vars(self).values()))

    @property
    def noise_variance(self) -> float:
        """Mean over cells of the variance of readings relative to G."""
        return float(np.exp(2 * self.log_noise + 2 * self.noise_spread**2))


def _log_prior() -> Array:
    """Of noise and amplitude on their grids, (noise, amplitude)."""
    amplitude, usual = -0.5 * _AMPLITUDES**2, -0.5 * _NOISES**2
    usual = usual - logsumexp(usual) + np.log(1 - _JUMPY)
    noise = np.append(usual, np.full(_JUMPS.size, np.log(_JUMPY / _JUMPS.size)))
    result: Array = noise[:, None] + amplitude - logsumexp(amplitude)
    return result


_PRIOR = _log_prior()


class Likelihood:
    """Log-likelihood of every cell's increments.

    Args:
        time_s: (n,).
        g: (n, cells), microsiemens.
    """

    def __init__(self, time_s: Array, g: Array) -> None:
        self.time_s, self.g = time_s, g
        self.level = np.maximum(g.mean(0), 0.1)
        self.steps = np.diff(g, axis=0)  # (n - 1, cells)
        apart_s = np.abs(time_s[:, None] - time_s)
        flicker = np.exp(-apart_s[..., None] / _NOISE_TIMES_S).mean(-1)
        difference = np.diff(np.eye(time_s.size), axis=0)
        self.flicker = difference @ flicker @ difference.T
        self.white = difference @ difference.T

    def decades(self, law: Law) -> Array:
        """L of every step."""
        return np.diff(np.log10(np.exp(law.log_onset) + self.time_s))

    def noise(self, law: Law) -> Array:
        """Covariance of the steps' noise, of readings with variance 1."""
        result: Array = law.white * self.white + (1 - law.white) * self.flicker
        return result

    def __call__(self, law: Law) -> Array:
        """Of every cell, (cells,)."""
        decades = self.decades(law)
        root = cholesky(self.noise(law), lower=True)
        inner = solve_triangular(root, np.diag(decades), lower=True)
        relaxed, turn = eigh(solve_triangular(root, inner.T, lower=True))
        away = self.steps - law.mean * decades[:, None]
        seen = (turn.T @ solve_triangular(root, away, lower=True)).T ** 2  # (cells, n - 1)
        a2 = np.exp(law.log_variance + 2 * law.spread * _AMPLITUDES - 2 * law.spread**2)
        n2 = np.exp(2 * (law.log_noise + np.append(law.noise_spread * _NOISES, _JUMPS)))
        # (cells, noise, amplitude, steps)
        noise = (self.level[:, None] ** 2 * n2)[:, :, None, None]
        variance = noise + (a2[:, None] * np.maximum(relaxed, 0.0))
        log = -0.5 * (_log_product(variance) + _quadratic(seen, variance))
        total = logsumexp(log + _PRIOR, axis=(1, 2))
        result: Array = total - np.log(np.diag(root)).sum()
        return result


def drawn_steps(likelihood: Likelihood, law: Law, rng: np.random.Generator) -> Array:
    """Steps of as many cells as were read, drawn from the law, (n - 1, cells)."""
    cells = likelihood.level.size
    normal = rng.standard_normal((2, *likelihood.steps.shape))
    decades = likelihood.decades(law)[:, None]
    log_a = law.log_variance / 2 + law.spread * rng.standard_normal(cells) - law.spread**2
    usual = law.noise_spread * rng.standard_normal(cells)
    jumpy = rng.random(cells) < _JUMPY
    size = np.exp(law.log_noise + np.where(jumpy, rng.choice(_JUMPS, cells), usual))
    noise = cholesky(likelihood.noise(law), lower=True) @ normal[1]
    relaxed = law.mean * decades + np.exp(log_a) * np.sqrt(decades) * normal[0]
    steps: Array = relaxed + size * likelihood.level * noise
    return steps


def _log_product(variance: Array) -> Array:
    """Sum of logarithms over the last axis."""
    parts = range(0, variance.shape[-1], _AT_ONCE)
    result: Array = np.sum(
        [np.log(variance[..., k : k + _AT_ONCE].prod(-1)) for k in parts], axis=0
    )
    return result


def _quadratic(squares: Array, variance: Array) -> Array:
    """Sum of squares over variances, over the last axis."""
    result: Array = np.einsum("cs,cnas->cna", squares, 1 / variance)
    return result
