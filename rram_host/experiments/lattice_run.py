"""A run of a classical sampler: configurations, and observables with errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rram_host.errors import InputError
from rram_host.lattice.actions import Action, range_notes, settings_of
from rram_host.lattice.autocorrelation import mean_and_error
from rram_host.lattice.derived import derived
from rram_host.lattice.observables import measure
from rram_host.lattice.samplers import SamplerRun, run_sampler, tuned
from rram_host.records.plots import figure_of

__all__ = ["LatticePlan", "LatticeRun", "draw", "run"]

Array = npt.NDArray[np.float64]
LEAST_KEPT = 4  # configurations of a chain that an autocorrelation time needs
MAX_BYTES = 8e9  # of configurations held in memory
_AVERAGED = ("M", "absM", "chi2", "E", "phi2", "cos")


@dataclass(frozen=True)
class LatticePlan:
    """What to sample, and how long.

    Attributes:
        action: the action.
        shape: lattice (L0, L1).
        sampler: a name of `samplers.SAMPLERS`.
        n: configurations to keep, of all chains together; rounded up to a multiple of chains.
        chains: independent chains, advanced together.
        thermalisation: updates dropped from the beginning of each chain; tuned where None.
        keep_every: updates from one kept configuration to the next; tuned where None.
        seed: of everything random.

    Raises:
        InputError: for a value out of range.
    """

    action: Action
    shape: tuple[int, int]
    sampler: str = "hmc"
    n: int = 20_000
    chains: int = 64
    thermalisation: int | None = None
    keep_every: int | None = None
    seed: int = 7

    def __post_init__(self) -> None:
        """Refuse a plan that cannot run."""
        for name, least in (("n", 1), ("chains", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} = {getattr(self, name)} must be at least {least}")
        if self.kept < LEAST_KEPT:
            raise InputError(
                f"n = {self.n} configurations in {self.chains} chains are {self.kept} a chain; an"
                f" autocorrelation time needs at least {LEAST_KEPT}"
            )
        needed = 8.0 * self.kept * self.chains * math.prod(self.shape)
        if needed > MAX_BYTES:
            raise InputError(
                f"n = {self.n} configurations of {self.shape[0]} x {self.shape[1]} sites take"
                f" {needed / 1e9:.1f} GB, limit {MAX_BYTES / 1e9:.0f} GB"
            )

    @property
    def kept(self) -> int:
        """Configurations of each chain."""
        return math.ceil(self.n / self.chains)


@dataclass(frozen=True)
class LatticeRun:
    """What `run` returns.

    Attributes:
        sampled: configurations (chains, kept, L0, L1), acceptance, wall time.
        history: "M", "absM", "chi2", "E", "phi2", "cos" (chains, kept), "G" (chains, kept, T).
        results: settings, "observables" with error, tau and effective samples a second, "derived"
            with errors, "G" as (value, error), "notes"; plain values.
    """

    sampled: SamplerRun
    history: dict[str, Array]
    results: dict[str, Any]


def run(plan: LatticePlan, progress: Callable[[int, int], None] | None = None) -> LatticeRun:
    """Sample and measure.

    Raises:
        InputError: for an action or lattice that the sampler cannot sample.
    """
    settings = replace(
        tuned(plan.sampler, plan.action, plan.shape), chains=plan.chains, kept=plan.kept
    )
    for name in ("thermalisation", "keep_every"):
        if getattr(plan, name) is not None:
            settings = replace(settings, **{name: getattr(plan, name)})
    sampled = run_sampler(plan.sampler, plan.action, plan.shape, settings, plan.seed, progress)
    measured = measure(torch.from_numpy(sampled.phi.reshape(-1, *plan.shape)))
    history = {
        name: each.numpy().reshape(plan.chains, plan.kept, *each.shape[1:])
        for name, each in measured.items()
    }
    n = plan.chains * plan.kept
    results = {
        "action": settings_of(plan.action),
        "shape": list(plan.shape),
        "sampler": plan.sampler,
        "settings": asdict(settings),
        "seed": plan.seed,
        "n": n,
        "acceptance": sampled.acceptance,
        "wall_s": sampled.wall_s,
        "observables": _observables(history, n, sampled.wall_s),
        "derived": derived(measured, plan.action, plan.shape, min(64, n)),
        "G": [_pair(history["G"][..., t]) for t in range(history["G"].shape[2])],
        "notes": list(range_notes(plan.action, plan.shape)),
    }
    return LatticeRun(sampled, history, results)


def _observables(history: dict[str, Array], n: int, wall_s: float) -> dict[str, Any]:
    """Mean, error, tau (in kept configurations), and n / (2 tau) a second of the whole run."""
    found = {}
    for name in _AVERAGED:
        value = mean_and_error(history[name])
        found[name] = {
            **asdict(value),
            "effective_per_s": n / (2.0 * value.tau) / wall_s,
        }
    return found


def _pair(series: Array) -> tuple[float, float]:
    found = mean_and_error(series)
    return found.mean, found.error


def draw(path: Path, made: LatticeRun) -> None:
    """A picture: history of M in a few chains, its distribution, and the correlator."""
    figure = figure_of(12.0, 3.4)
    left, middle, right = figure.subplots(1, 3)
    for chain in made.history["M"][:4]:
        left.plot(chain[:500], linewidth=0.8)
    left.set(xlabel="configuration", ylabel="M", title="history of four chains")
    middle.hist(made.history["M"].ravel(), bins=80, density=True, histtype="step")
    middle.set(xlabel="M", ylabel="density", title="distribution of M")
    values, errors = np.array(made.results["G"]).T
    right.errorbar(np.arange(len(values)), values, errors, fmt="o", markersize=3)
    if (values > 0).all():
        right.set_yscale("log")
    right.set(xlabel="t", ylabel="G(t)", title="correlator at zero momentum")
    figure.savefig(path, dpi=120)
