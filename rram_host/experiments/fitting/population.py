"""What cells have in common and what they differ by: posterior means of a normal population.

With few cells a maximum of the likelihood says too little spread, and an error from curvature too
little error. So value and error are mean and standard deviation of the posterior with flat priors,
integrated on a grid:

    m_c ~ N(mean, spread^2)  of every cell,    x_ci ~ N(m_c, cycle^2 + e_ci^2)  of every cycle

where x_ci may be known to an interval only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, logsumexp, ndtr

Array = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int64]

ENOUGH_CELLS = 5  # fewer leave the posterior of a spread without a variance
_GRID = (24, 28, 28, 121)  # cycle, spread, mean, cells
_REFINED = 3
_WIDE = 5.0


@dataclass(frozen=True)
class Population:
    """Each a value and its standard error; NaN where there are too few cells to tell.

    Attributes:
        mean, spread: over cells.
        cycle: std from cycle to cycle.
        cells: how many.
        values: posterior mean of each cell, (cells,).
    """

    mean: tuple[float, float]
    spread: tuple[float, float]
    cycle: tuple[float, float]
    cells: int
    values: Array


@dataclass(frozen=True)
class Observed:
    """What cycles of cells showed; arrays (n,).

    Attributes:
        cell: number of the cell, from 0.
        low, high: the interval it lies in; the same number twice where it is known.
        error: standard error of what is known, or of the interval's place.
    """

    cell: Cells
    low: Array
    high: Array
    error: Array

    @staticmethod
    def within(cell: Cells, low: Array, high: Array) -> Observed:
        """Known to an interval, whose ends may be infinite."""
        return Observed(cell, low, high, np.zeros(low.size))

    def log_likelihood(self, m: Array, cycle: Array) -> Array:
        """Of every cell, (cycle, cells, m)."""
        sigma = np.hypot(cycle[:, None], self.error)[..., None]
        known = (self.low == self.high)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            a = (self.low[:, None] - m) / sigma
            b = (self.high[:, None] - m) / sigma
            density = -0.5 * a**2 - np.log(sigma)
            log = np.where(known, density, log_between(a, b))
        cells = int(self.cell.max()) + 1
        result = np.zeros((cycle.size, cells, m.size))
        for c in range(cells):
            result[:, c] = log[:, self.cell == c].sum(1)
        return result

    def middles(self) -> Array:
        """Where each is, roughly: the middle, or the end that is finite."""
        low = np.where(np.isfinite(self.low), self.low, self.high)
        high = np.where(np.isfinite(self.high), self.high, self.low)
        middle: Array = (low + high) / 2
        return middle


def log_between(a: Array, b: Array) -> Array:
    """log(Phi(b) - Phi(a)) for a < b, also far out on either side."""
    upper = a > 0
    low, high = np.where(upper, -b, a), np.where(upper, -a, b)
    below, above = log_ndtr(low), log_ndtr(high)
    result: Array = above + np.log1p(-np.exp(np.minimum(below - above, -1e-12)))
    return np.maximum(result, -1e5)


def population(seen: Observed) -> Population:
    """Mean and spread over cells, and std from cycle to cycle.

    With fewer than five cells the spread is NaN and the mean's error is of std / sqrt(cells) and of
    what each is known to; with one cell mean and error are that cell's own.
    """
    middles, cells = seen.middles(), int(seen.cell.max()) + 1
    width = float(np.median(np.where(np.isfinite(seen.high - seen.low), seen.high - seen.low, 0)))
    own = np.array([np.median(middles[seen.cell == c]) for c in range(cells)])
    scale = max(width, float(np.median(seen.error)), 1e-12)
    reach = float(np.std(own)) + scale
    inner = float(np.std(middles - own[seen.cell])) + scale
    limits = np.array(
        [
            [inner / 50, _WIDE * inner],
            [reach / 50, _WIDE * reach],
            [own.mean() - _WIDE * reach, own.mean() + _WIDE * reach],
            [own.min() - 3 * inner - scale, own.max() + 3 * inner + scale],
        ]
    )
    if cells < ENOUGH_CELLS:
        return _few(seen, limits, cells)
    for _ in range(_REFINED):
        moments, posterior, m = _integrated(seen, limits)
        limits[:3] = _closer(limits[:3], moments)
        each = posterior @ m
        away = np.sqrt(np.maximum(posterior @ m**2 - each**2, 0)).max() * 6 + scale / 10
        limits[3] = each.min() - away, each.max() + away
    cycle, spread, mean = (tuple(row) for row in moments.tolist())
    return Population(mean, spread, cycle, cells, each)


def _closer(limits: Array, moments: Array) -> Array:
    """Limits of the next grid: where the posterior is, and never below 0 for a std."""
    value, error = moments.T
    spacing = (limits[:, 1] - limits[:, 0]) / (np.array(_GRID[:3]) - 1)
    error = np.maximum(error, spacing / 2)  # a posterior between two points of a grid
    low, high = value - 6 * error, value + 8 * error
    floor = np.array([limits[0, 0] / 4, limits[1, 0] / 4, -np.inf])
    return np.stack([np.maximum(low, floor), high], axis=1)


def _integrated(seen: Observed, limits: Array) -> tuple[Array, Array, Array]:
    """Mean and std of (cycle, spread, mean), posterior of each cell's m, and the grid of m."""
    cycle, spread, mean, m = (
        np.linspace(low, high, n) for (low, high), n in zip(limits, _GRID, strict=True)
    )
    log = seen.log_likelihood(m, cycle)
    top = log.max(2, keepdims=True)
    # what a population puts around each point of m: also right where it is narrower than the grid
    edges = np.concatenate([m - (m[1] - m[0]) / 2, m[-1:] + (m[1] - m[0]) / 2])
    prior = np.diff(ndtr((edges[:, None, None] - mean) / spread[:, None]), axis=0)
    each = np.exp(log - top)
    shared = np.maximum(each.reshape(-1, m.size) @ prior.reshape(m.size, -1), 1e-300)
    total = np.log(shared).reshape(*log.shape[:2], *prior.shape[1:]) + top[..., None]
    joint = total.sum(1)  # (cycle, spread, mean)
    weight = np.exp(joint - logsumexp(joint))
    moments = []
    for axis, grid in enumerate((cycle, spread, mean)):
        p = weight.sum(tuple(k for k in range(3) if k != axis))
        value = float(p @ grid)
        moments.append((value, float(np.sqrt(max(p @ (grid - value) ** 2, 0.0)))))
    # of each cell, at the mean of the three
    at = [
        int(np.argmin(np.abs(g - v)))
        for g, (v, _) in zip((cycle, spread, mean), moments, strict=True)
    ]
    own = each[at[0]] * prior[:, at[1], at[2]]
    return np.array(moments), own / own.sum(1, keepdims=True), m


def _few(seen: Observed, limits: Array, cells: int) -> Population:
    """Every cell on its own, one std from cycle to cycle."""
    cycle = np.linspace(limits[0, 0], limits[0, 1], 60)
    m = np.linspace(limits[3, 0], limits[3, 1], 400)
    log = seen.log_likelihood(m, cycle)
    of_cycle = logsumexp(log, axis=2).sum(1)
    p = np.exp(of_cycle - logsumexp(of_cycle))
    value = float(p @ cycle)
    within = np.exp(log - log.max((1, 2), keepdims=True)) * p[:, None, None]
    own = within.sum(0) / within.sum((0, 2))[:, None]
    each = own @ m
    errors = np.sqrt(np.maximum(own @ m**2 - each**2, 0))
    apart = float(each.std(ddof=1)) if cells > 1 else 0.0
    error = float(np.sqrt((apart**2 + (errors**2).mean()) / cells))
    spread = float(np.sqrt(max(p @ (cycle - value) ** 2, 0.0)))
    return Population((float(each.mean()), error), (np.nan, np.nan), (value, spread), cells, each)


def spread_of(values: Array, errors: Array) -> tuple[tuple[float, float], tuple[float, float]]:
    """Mean and spread of values that are known with errors each, x_c ~ N(mean, spread^2 + e_c^2).

    Args:
        values: (cells,), at least five.
        errors: (cells,).

    Returns:
        Mean and spread, each with its standard error.
    """
    centre, reach = float(np.median(values)), float(np.std(values)) + 1e-12 * abs(values).max()
    means = centre + np.linspace(-1, 1, 121) * 6 * reach / np.sqrt(values.size)
    spreads = np.linspace(0.0, 1 + 9 / np.sqrt(values.size), 121)[1:] * reach
    variance = spreads[:, None] ** 2 + errors**2  # (spread, cells)
    # sum over cells of (x - m)^2 / v is a parabola of m
    a, b, c = (1 / variance).sum(1), (values / variance).sum(1), (values**2 / variance).sum(1)
    quadratic = a[:, None] * means**2 - 2 * b[:, None] * means + c[:, None]
    log = -0.5 * (quadratic + np.log(variance).sum(1)[:, None])
    weight = np.exp(log - logsumexp(log))
    found = []
    for grid, p in ((means, weight.sum(0)), (spreads, weight.sum(1))):
        value = float(p @ grid)
        found.append((value, float(np.sqrt(max(p @ (grid - value) ** 2, 0.0)))))
    return found[0], found[1]


def jackknife(moved: Array) -> Array:
    """Standard error from how far a value moves without each of n cells, (..., n) to (...).

    Few cells tell their own scatter badly: sqrt((n - 1) / (n - 3)) makes of it the std of the
    Student law that the value is then known by. 0 with fewer than five cells.
    """
    n = moved.shape[-1]
    if n < ENOUGH_CELLS:
        return np.zeros(moved.shape[:-1])
    error: Array = np.sqrt((moved**2).sum(-1) * (n - 1) ** 2 / (n * (n - 3)))
    return error
