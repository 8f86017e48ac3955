"""Metropolis-Hastings with independent proposals."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rram_host.errors import InputError
from rram_host.lattice.autocorrelation import as_floats

__all__ = ["Chain", "accept", "independence_chain"]


@dataclass(frozen=True)
class Chain:
    """A Markov chain over the proposals it was made from.

    Attributes:
        indices: entry i is the proposal the chain holds after looking at proposal i, shape (n,).
        accepted: whether proposal i was taken, shape (n,); the first one always is.
    """

    indices: NDArray[np.int64]
    accepted: NDArray[np.bool_]

    @classmethod
    def of(cls, accepted: NDArray[np.bool_]) -> Self:
        """The chain in which these proposals were taken, the first among them."""
        return cls(np.maximum.accumulate(np.where(accepted, np.arange(accepted.size), 0)), accepted)

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


def accept(
    log_w: ArrayLike, uniforms: ArrayLike, held: float = -math.inf
) -> tuple[NDArray[np.bool_], float]:
    """Accept or reject proposals one after the other, going on from an earlier piece of a chain.

    Proposal j replaces the held one i with probability min(1, w_j / w_i), w = p / q (eq. 9 of
    arXiv 2509.12812, with the Jacobian of its eq. 8 inside q). A chain cut into pieces is the chain
    in one piece: give the weight that the piece before returned.

    Args:
        log_w: log p - log q of the proposals in the order they were drawn, shape (n,), each
            finite or -infinity (a proposal p forbids); common constants do not matter.
        uniforms: a random number in [0, 1) for each.
        held: log w of what the chain holds before; -infinity where it begins, and then the first
            proposal is taken.

    Returns:
        Which were taken, shape (n,), and log w of what the chain holds after them.

    Raises:
        InputError: for an empty or not one-dimensional array, weights (or `held`) NaN or
            +infinity, a number of uniforms other than that of weights or one outside [0, 1), or
            a chain that begins with a weight of -infinity.
    """
    weights = as_floats(log_w, "log weights")
    drawn = as_floats(uniforms, "uniforms")
    if weights.ndim != 1 or weights.size == 0:
        raise InputError(f"a chain needs one series of log weights, got shape {weights.shape}")
    if not (weights < math.inf).all() or not held < math.inf:
        raise InputError("a chain needs log weights that are neither NaN nor +infinity")
    if drawn.shape != weights.shape or not ((drawn >= 0.0) & (drawn < 1.0)).all():
        raise InputError(
            f"a chain over {weights.size} proposals needs as many uniforms in [0, 1), got shape "
            f"{drawn.shape}, {drawn.min(initial=0.0):g} to {drawn.max(initial=0.0):g}"
        )
    if held == -math.inf and np.isneginf(weights[0]):
        raise InputError("a chain needs a first log weight above -infinity")
    # j replaces i when u <= w_j / w_i, u = 1 - uniform in (0, 1]: when log w_j - log u >= log w_i.
    reach = weights - np.log1p(-drawn)
    taken, values = [], weights.tolist()
    # Plain Python: a tenth of a microsecond a proposal, nothing beside what drawing one takes.
    for place, bound in enumerate(reach.tolist()):
        if bound >= held:
            held = values[place]
            taken.append(place)
    flags = np.zeros(weights.size, dtype=np.bool_)
    flags[taken] = True
    return flags, held


def independence_chain(log_w: ArrayLike, rng: np.random.Generator) -> Chain:
    """Turn independent draws of q into a Markov chain whose stationary distribution is p.

    Args:
        log_w: as for `accept`.
        rng: source of the n accept-reject numbers.

    Raises:
        InputError: as `accept`.
    """
    return Chain.of(accept(log_w, rng.random(np.shape(log_w)))[0])
