"""Moves of the mean field of the graphene wire, given everything else, from well to well."""

import math

import numpy as np
from numpy.typing import NDArray

from rram_host.lattice.samplers.local_form import PERIOD, LocalForm

__all__ = ["move_mean"]

Array = NDArray[np.float64]


def move_mean(
    form: LocalForm, phi: Array, tries: int, rng: np.random.Generator, work: Array
) -> None:
    """Add constants d to fields, each drawn to leave exp(-S) as it is; in place.

    Of S = z/2 sum bonds^2 + a sum phi^2 - u sum cos(c phi), c = 2 sqrt(pi), only

        V a (M + d)^2 - [C cos(c d) - s sin(c d)],   C, s = u sum cos(c phi), u sum sin(c phi),

    depends on d. The first term is a Gaussian of M + d of variance 1 / (2 V a), and proposals come
    from it, independent of what M was; the second decides (Metropolis, Hastings). Where sqrt(V) g
    is small M has several wells of the cosine, sqrt(pi) apart, which trajectories cross seldom.

    Args:
        form: the action; square > 0, no quartic term.
        phi: fields (L0, L1, chains), changed in place.
        tries: proposals, one after the other, for every chain.
        rng: where random numbers come from.
        work: of the shape of phi, overwritten.
    """
    sites = phi.shape[0] * phi.shape[1]
    mean = phi.mean((0, 1))
    np.multiply(phi, PERIOD, out=work)
    even = form.cosine * np.cos(work).sum((0, 1))
    odd = form.cosine * np.sin(work).sum((0, 1))
    spread = 1.0 / math.sqrt(2.0 * sites * form.square)
    moved, depth = np.zeros_like(mean), even
    for _ in range(tries):
        proposed = spread * rng.standard_normal(mean.shape) - mean
        there = even * np.cos(PERIOD * proposed) - odd * np.sin(PERIOD * proposed)
        taken = depth - there < rng.standard_exponential(mean.shape)
        moved, depth = np.where(taken, proposed, moved), np.where(taken, there, depth)
    phi += moved
