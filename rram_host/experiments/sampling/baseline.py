"""What a user would pick instead of a flow: a tuned sampler, run beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from rram_host.experiments.sampling.figures import named
from rram_host.experiments.sampling.units import observables
from rram_host.lattice import samplers
from rram_host.lattice.actions import Action, Phi4Action
from rram_host.lattice.autocorrelation import mean_and_error

_AT_ONCE = 4096  # configurations measured together


@dataclass(frozen=True)
class Baseline:
    """A tuned sampler's run.

    Attributes:
        name: of the sampler.
        settings: its settings, tuned for action and lattice.
        n: configurations kept, of all chains.
        acceptance: as `SamplerRun`.
        wall_s: wall time of the kept updates: thermalisation is left out, as a flow's training is.
        estimates: mean, error and tau of every observable; tau in kept configurations.
    """

    name: str
    settings: dict[str, Any]
    n: int
    acceptance: float
    wall_s: float
    estimates: dict[str, dict[str, float]]


def usual(action: Action) -> str:
    """The sampler that is hybrid Monte Carlo at its best for this action."""
    return "hmc" if isinstance(action, Phi4Action) else "fourier-hmc"


def run_baseline(
    name: str,
    action: Action,
    shape: tuple[int, int],
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Baseline:
    """Run a tuned sampler and measure on its chains.

    Args:
        name: of `samplers.SAMPLERS`.
        action: the target.
        shape: lattice.
        seed: of everything random.
        progress: told of (updates done, updates in all).

    Raises:
        InputError: an unknown sampler, or one that does not take this action or lattice.
    """
    settings = samplers.tuned(name, action, shape)
    first = replace(settings, kept=1, thermalisation=0)  # loads compiled loops: no part of the rate
    samplers.run_sampler(name, action, shape, first, seed)
    run = samplers.run_sampler(name, action, shape, settings, seed, progress)
    chains, kept = run.phi.shape[:2]
    flat = run.phi.reshape(-1, *shape)
    parts = [observables(flat[i : i + _AT_ONCE]) for i in range(0, len(flat), _AT_ONCE)]
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    split = {key: v.reshape(chains, kept, *v.shape[1:]) for key, v in joined.items()}
    estimates = {key: asdict(mean_and_error(v)) for key, v in named(split, shape).items()}
    updates = settings.kept * settings.keep_every
    wall_s = run.wall_s * updates / (updates + settings.thermalisation)
    return Baseline(name, asdict(settings), len(flat), run.acceptance, wall_s, estimates)
