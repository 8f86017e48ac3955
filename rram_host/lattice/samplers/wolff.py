"""Embedded Wolff clusters of the sign of phi, with Metropolis sweeps for its size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rram_host.lattice.actions import Action
from rram_host.lattice.samplers.local_form import local_form
from rram_host.lattice.samplers.metropolis import Sweeper
from rram_host.lattice.samplers.run import (
    Lengths,
    Progress,
    SamplerRun,
    check_shape,
    collect,
    require,
    require_count,
)

__all__ = ["WolffSettings", "run"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WolffSettings(Lengths):
    """Settings of embedded Wolff with Metropolis; the defaults suit phi^4 at lam = 5 to 6.

    Attributes:
        clusters: single clusters grown and flipped in an update.
        sweeps: Metropolis hits on every site in an update; at least one, since clusters change
            signs only.
        width: largest proposed step of a hit.

    Raises:
        InputError: for a value out of range.
    """

    clusters: int = 2
    sweeps: int = 1
    width: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count(self, "clusters", 1)
        require_count(self, "sweeps", 1, ", since clusters change signs only")
        require(self, "width", 0.0 < self.width < np.inf, "> 0 and finite")


def run(
    action: Action,
    shape: tuple[int, int],
    settings: WolffSettings,
    seed: int,
    progress: Progress | None = None,
) -> SamplerRun:
    """Sample exp(-S) by embedded clusters (Brower, Tamayo, Phys. Rev. Lett. 62 (1989) 1087).

    With |phi| held, the signs are an Ising model with couplings z |phi(n) phi(n')|, because the
    potential U is even: of phi^4 and of the graphene wire, whose cosine is even, too. A single
    cluster (Wolff, Phys. Rev. Lett. 62 (1989) 361) joins neighbours of one sign with probability
    1 - exp(-2 z phi phi') and is always flipped. Metropolis sweeps move |phi|.

    Args:
        action: the action S.
        shape: lattice (L0, L1), any lengths >= 1.
        settings: lengths, clusters and sweeps in an update.
        seed: of one numpy generator for all chains.
        progress: called with (updates done, updates in all) after each one.

    Returns:
        The run; its acceptance is that of the Metropolis hits.

    Raises:
        InputError: for an action or a lattice that cannot be sampled.
    """
    from rram_host.lattice.samplers import kernels_local as kernels

    check_shape(shape)
    form = local_form(action)
    sweeper = Sweeper(form, shape, settings.chains, settings.width)

    def update(phi: Array, rng: np.random.Generator) -> float:
        flat = phi.reshape(len(sweeper.near), -1)
        kernels.clusters(flat, sweeper.near, form.stiffness, settings.clusters, rng)
        return sum(sweeper.sweep(phi, rng) for _ in range(settings.sweeps)) / settings.sweeps

    return collect(update, shape, settings, seed, progress)
