"""Scatter of moves: a part in proportion to the move, and one that every move has.

    Var = (cycle_spread Delta)^2 + cycle_floor^2 + variance of the reading

by the restricted likelihood of residuals: a residual of leverage h counts as 1 - h of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from rram_host.experiments.fitting.population import jackknife

Array = npt.NDArray[np.float64]

_STEP = 1e-3


@dataclass(frozen=True)
class Scatter:
    """Residuals of moves; arrays (n,), siemens.

    Attributes:
        residual: what was read, less the law.
        move: of the conductance.
        read_variance: of the reading, siemens^2.
        counts: 1 - leverage.
        group: number of what each is of, a cell: those of a group may be off together.
    """

    residual: Array
    move: Array
    read_variance: Array
    counts: Array
    group: npt.NDArray[np.int64]

    def and_also(self, other: Scatter) -> Scatter:
        """Both together."""
        names = ("residual", "move", "read_variance", "counts", "group")
        return Scatter(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in names))


@dataclass(frozen=True)
class MoveNoise:
    """Spread relative to a move, and absolute, siemens, each with its standard error."""

    spread: tuple[float, float]
    floor_siemens: tuple[float, float]

    def variance(self, move: Array) -> Array:
        """Of moves, siemens^2."""
        result: Array = (self.spread[0] * move) ** 2 + self.floor_siemens[0] ** 2
        return result


def move_noise(seen: Scatter) -> MoveNoise:
    """Both parts with errors from the curvature of the likelihood, or from groups where larger.

    The latter is the jackknife, one Newton step for each group left out: cells differ by more than
    the law says, with slow noise and relaxation of their own, and that does not average out within
    a cell. A part that the data cannot tell from zero has an error above itself.
    """
    squares = np.stack([seen.move**2, np.ones_like(seen.move)])
    scale = np.median(np.abs(seen.residual)) / 0.67 + 1e-12
    start = np.array([scale / np.sqrt(np.mean(seen.move**2)), scale])

    def lost(x: Array) -> float:
        variance = (x * start) ** 2 @ squares + seen.read_variance
        return float(0.5 * (seen.counts * np.log(variance) + seen.residual**2 / variance).sum())

    bounds = [(1e-3, 1e3)] * 2
    found = minimize(lost, np.full(2, 0.7), bounds=bounds, method="L-BFGS-B").x
    value = found * start
    # Fisher information of variances: sum of (1 - h) (d ln v)^2 / 2
    variance = value**2 @ squares + seen.read_variance
    slope = 2 * value[:, None] * squares / variance
    information = 0.5 * (seen.counts * slope) @ slope.T
    inverse = np.linalg.pinv(information)
    off = (seen.residual**2 / variance - seen.counts) * slope / 2  # scores, (2, n)
    error = np.maximum(np.sqrt(np.diag(inverse)), _left_out(inverse, off, seen.group))
    # near zero it is the square of a part that has an error, 2 x dx, and its root is the part's
    error = np.minimum(error, np.sqrt(2 * value * error))
    return MoveNoise((float(value[0]), float(error[0])), (float(value[1]), float(error[1])))


def _left_out(inverse: Array, scores: Array, group: npt.NDArray[np.int64]) -> Array:
    """Errors by leaving out one group after another, (2,)."""
    of_group = np.stack([np.bincount(group, row) for row in scores])
    present = np.bincount(group) > 0
    n = int(present.sum())
    return jackknife(inverse @ of_group[:, present] * n / max(n - 1, 1))
