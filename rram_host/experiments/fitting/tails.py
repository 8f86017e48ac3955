"""Heavy tails of relaxation: cells that always move more than others, or jumps of any cell.

The fitted law knows the first only. What tells them apart is a cell's own steps in time,

    K = n sum x^4 / (sum x^2)^2,    x = (step - mean) / (std that the law has for it),

their kurtosis over time, in which the cell's amplitude cancels: steps of one cell are normal under
the law, however much cells differ, and are not with jumps.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rram_host.experiments.fitting.relaxation import Law, Likelihood, drawn_steps

Array = npt.NDArray[np.float64]

_DRAWS = 200  # the scatter of K is known to 5 % from these
_SEED = 1  # the same data give the same report


def sigmas_of_kurtosis(likelihood: Likelihood, law: Law) -> float:
    """Standard errors by which the median cell's K is above what the law makes.

    The median, since a few cells jump in their readings (traps). Expectation and scatter are of
    records drawn from the law, with the same times and levels.
    """
    rng = np.random.default_rng(_SEED)
    drawn = [_median_of(drawn_steps(likelihood, law, rng), likelihood, law) for _ in range(_DRAWS)]
    seen = _median_of(likelihood.steps, likelihood, law)
    return float((seen - np.mean(drawn)) / max(float(np.std(drawn)), 1e-9))


def _median_of(steps: Array, likelihood: Likelihood, law: Law) -> float:
    decades = likelihood.decades(law)[:, None]
    read = np.diag(likelihood.noise(law))[:, None] * law.noise_variance * likelihood.level**2
    square = (steps - law.mean * decades) ** 2 / (np.exp(law.log_variance) * decades + read)
    return float(np.median(len(steps) * (square**2).sum(0) / (square.sum(0) ** 2 + 1e-300)))
