"""What every sampler takes and gives back: lengths of a run, starting fields, kept fields."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from rram_host.errors import InputError, require_whole

__all__ = ["Lengths", "Progress", "SamplerRun", "Update", "collect"]

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]
Update = Callable[[Array, np.random.Generator], float]


@dataclass(frozen=True)
class Lengths:
    """How long a run is; every sampler's settings begin with these.

    Attributes:
        chains: independent chains, advanced together.
        kept: configurations kept from each chain.
        keep_every: updates from one kept configuration to the next.
        thermalisation: updates dropped from the beginning of each chain.
        start_width: standard deviation of the random starting field.

    Raises:
        InputError: for a value out of range.
    """

    chains: int = 64
    kept: int = 1000
    keep_every: int = 1
    thermalisation: int = 200
    start_width: float = 0.5

    def __post_init__(self) -> None:
        least_of = {"chains": 1, "kept": 1, "keep_every": 1, "thermalisation": 0}
        for name, least in least_of.items():
            require_count(self, name, least)
        require(self, "start_width", 0.0 <= self.start_width < np.inf, ">= 0 and finite")


@dataclass(frozen=True)
class SamplerRun:
    """What a sampler returns.

    Attributes:
        phi: configurations, shape (chains, kept, L0, L1), float64.
        acceptance: fraction of proposals accepted after thermalisation; of trajectories in
            hybrid Monte Carlo, of single-site moves in Metropolis.
        wall_s: wall time of the run, with thermalisation and without compilation.
    """

    phi: Array
    acceptance: float
    wall_s: float


def require(settings: object, name: str, right: bool, wanted: str) -> None:
    """Refuse a value of settings that cannot run."""
    if not right:
        raise InputError(f"{name} must be {wanted}, got {getattr(settings, name)}")


def require_count(settings: object, name: str, least: int, because: str = "") -> None:
    """Refuse a count that is not whole (1e3 is a float) or too small to run."""
    value = getattr(settings, name)
    whole = isinstance(value, Integral) and int(value) >= least
    require(settings, name, whole, f"a whole number, at least {least}{because}")


def check_shape(shape: tuple[int, int]) -> None:
    """Refuse what is not a two-dimensional lattice."""
    if len(shape) != 2 or not all(isinstance(n, Integral) and n >= 1 for n in shape):
        raise InputError(f"a lattice needs two lengths >= 1, asked {tuple(shape)}")


def collect(
    update: Update,
    shape: tuple[int, int],
    lengths: Lengths,
    seed: int,
    progress: Progress | None = None,
) -> SamplerRun:
    """Run a sampler: thermalise, update, keep.

    Args:
        update: advances fields (L0, L1, chains) in place by one update, and returns the
            acceptance.
        shape: lattice (L0, L1).
        lengths: how long.
        seed: >= 0, of the one numpy generator (PCG64) from which every random number of the run
            comes.
        progress: called with (updates done, updates in all) after each update.

    Raises:
        InputError: for a seed that is negative or not whole.
    """
    require_whole(seed=seed)
    if seed < 0:
        raise InputError(f"a seed must be >= 0, got {seed}")
    rng = np.random.default_rng(seed)
    phi = lengths.start_width * rng.standard_normal((*shape, lengths.chains))
    update(phi.copy(), np.random.default_rng(seed))  # compiles, where something is compiled
    start = time.perf_counter()
    kept = np.empty((lengths.chains, lengths.kept, *shape))
    first = lengths.thermalisation
    total = first + lengths.kept * lengths.keep_every
    accepted = 0.0
    for done in range(1, total + 1):
        share = update(phi, rng)
        if done > first:
            accepted += share
            if (done - first) % lengths.keep_every == 0:
                kept[:, (done - first) // lengths.keep_every - 1] = np.moveaxis(phi, 2, 0)
        if progress is not None:
            progress(done, total)
    return SamplerRun(kept, accepted / (total - first), time.perf_counter() - start)
