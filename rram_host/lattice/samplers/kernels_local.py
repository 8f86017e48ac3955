"""Single-site Metropolis sweeps and Wolff clusters, compiled.

A numpy generator gives the same numbers here as in numpy, so that the plain Python of these loops
makes the same chain.
"""

import numpy as np
from numpy.typing import NDArray

from rram_host.lattice.samplers.compiled import jit

Array = NDArray[np.float64]
Sites = NDArray[np.int64]

_PERIOD = 2.0 * np.sqrt(np.pi)


@jit
def sweep(
    phi: Array,
    order: Sites,
    near: Sites,
    form: tuple[float, float, float, float],
    move: Array,
    bar: Array,
) -> int:
    """One Metropolis hit on every site of every chain, in place.

    Args:
        phi: fields (V, chains).
        order: sites, in the order in which they are hit.
        near: neighbours of every site, (V, 2 D).
        form: stiffness, square, quartic, cosine of `LocalForm`.
        move: proposed steps (V, chains).
        bar: standard exponentials (V, chains): a move is taken where dS is below.

    Returns:
        How many moves were taken.
    """
    z, a, b, u = form
    chains, others = phi.shape[1], near.shape[1]
    linear = a + 0.5 * z * others
    field = np.empty(chains)
    taken = 0
    for n in order:
        field[:] = 0.0
        for k in range(others):
            other = phi[near[n, k]]
            for c in range(chains):
                field[c] += other[c]
        here, step, least = phi[n], move[n], bar[n]
        if u == 0.0:
            for c in range(chains):
                old = here[c]
                new = old + step[c]
                sums, both = new + old, new * new + old * old
                change = step[c] * (sums * (linear + b * both) - z * field[c])
                fine = change < least[c]
                here[c] = new if fine else old
                taken += fine
        else:
            for c in range(chains):
                old = here[c]
                new = old + step[c]
                change = step[c] * ((new + old) * linear - z * field[c])
                # cos x - cos y = 2 sin((x + y) / 2) sin((y - x) / 2)
                middle = np.sin(0.5 * _PERIOD * (new + old)) * np.sin(0.5 * _PERIOD * step[c])
                if change + 2.0 * u * middle < least[c]:
                    here[c] = new
                    taken += 1
    return taken


@jit
def clusters(
    phi: Array, near: Sites, stiffness: float, many: int, rng: np.random.Generator
) -> None:
    """Grow and flip `many` single clusters of equal sign in every chain, in place.

    Args:
        phi: fields (V, chains).
        near: neighbours of every site, (V, 2 D).
        stiffness: z; a bond joins two sites of one sign with probability 1 - exp(-2 z x x').
        many: clusters.
        rng: of all random numbers.
    """
    volume, chains = phi.shape
    others = near.shape[1]
    x = np.empty(volume)
    stack = np.empty(volume, dtype=np.int64)
    for c in range(chains):
        for n in range(volume):
            x[n] = phi[n, c]
        for _ in range(many):
            seed = int(rng.random() * volume)
            sign = 1.0 if x[seed] > 0.0 else -1.0
            x[seed] = -x[seed]
            stack[0] = seed
            size = 1
            while size:
                size -= 1
                n = stack[size]
                # n is flipped already, so what it was is -x[n]; flipped neighbours do not match
                reach = -2.0 * stiffness * x[n]
                for k in range(others):
                    m = near[n, k]
                    if sign * x[m] > 0.0 and rng.standard_exponential() < reach * x[m]:
                        x[m] = -x[m]
                        stack[size] = m
                        size += 1
        for n in range(volume):
            phi[n, c] = x[n]
