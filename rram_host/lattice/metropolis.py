"""Metropolis-Hastings with independent proposals."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rram_host.errors import InputError

__all__ = ["Chain", "independence_chain"]


@dataclass(frozen=True)
class Chain:
    """A Markov chain over the proposals it was made from.

    Attributes:
        indices: entry i is the proposal the chain holds after looking at proposal i, shape (n,).
        accepted: whether proposal i was taken, shape (n,); the first one always is.
    """

    indices: NDArray[np.int64]
    accepted: NDArray[np.bool_]

    @property
    def acceptance(self) -> float:
        """Fraction of the proposals after the first that were taken; NaN for a single one."""
        return float(self.accepted[1:].mean()) if self.accepted.size > 1 else math.nan

    @property
    def longest_rejection(self) -> int:
        """Longest run of proposals rejected one after the other."""
        taken = np.flatnonzero(self.accepted)
        ends = np.append(taken, self.accepted.size)
        return int(np.diff(ends).max()) - 1


def independence_chain(log_w: ArrayLike, rng: np.random.Generator) -> Chain:
    """Turn independent draws of q into a Markov chain whose stationary distribution is p.

    Proposal j replaces the held one i with probability min(1, w_j / w_i), w = p / q (eq. 9 of
    arXiv 2509.12812, with the Jacobian of its eq. 8 inside q).

    Args:
        log_w: log p - log q of the proposals in the order they were drawn, shape (n,), each
            finite or -infinity (a proposal p forbids); common constants do not matter.
        rng: source of the n accept-reject numbers.

    Raises:
        InputError: for an empty or not one-dimensional array, or weights NaN or +infinity, or a
            first weight of -infinity.
    """
    weights = np.asarray(log_w, dtype=np.float64)
    if weights.ndim != 1 or weights.size == 0:
        raise InputError(f"a chain needs one series of log weights, got shape {weights.shape}")
    if np.isnan(weights).any() or np.isposinf(weights).any() or np.isneginf(weights[0]):
        raise InputError("a chain needs log weights below +infinity, and a finite first one")
    # accept j over i when log u < log w_j - log w_i, that is, when log w_j - log u > log w_i;
    # u = 1 - random() is in (0, 1], so its logarithm is finite.
    reach = weights - np.log1p(-rng.random(weights.size))
    held = -math.inf
    accepted = [False] * weights.size
    for i, (bound, weight) in enumerate(zip(reach.tolist(), weights.tolist(), strict=True)):
        if bound > held or bound == weight == held:
            held = weight
            accepted[i] = True
    flags = np.array(accepted, dtype=np.bool_)
    return Chain(np.maximum.accumulate(np.where(flags, np.arange(weights.size), 0)), flags)
