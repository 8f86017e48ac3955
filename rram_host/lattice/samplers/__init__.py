"""Samplers of exp(-S) that a user would pick without a flow, tuned, many chains at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rram_host.errors import InputError
from rram_host.lattice.actions import Action
from rram_host.lattice.samplers import fourier_hmc, hmc, metropolis, tuning, wolff
from rram_host.lattice.samplers.fourier_hmc import FourierHmcSettings
from rram_host.lattice.samplers.hmc import HmcSettings
from rram_host.lattice.samplers.metropolis import MetropolisSettings
from rram_host.lattice.samplers.run import Lengths, Progress, SamplerRun
from rram_host.lattice.samplers.wolff import WolffSettings

__all__ = [
    "SAMPLERS",
    "FourierHmcSettings",
    "HmcSettings",
    "Lengths",
    "MetropolisSettings",
    "Sampler",
    "SamplerRun",
    "WolffSettings",
    "run_sampler",
    "tuned",
]


@dataclass(frozen=True)
class Sampler:
    """One way to sample.

    Attributes:
        settings: class of its settings.
        run: `run(action, shape, settings, seed, progress=None) -> SamplerRun`.
        tuned: `tuned(action, shape) -> settings`.
    """

    settings: type[Lengths]
    run: Callable[..., SamplerRun]
    tuned: Callable[[Action, tuple[int, int]], Lengths]


SAMPLERS: dict[str, Sampler] = {
    "hmc": Sampler(HmcSettings, hmc.run, tuning.hmc),
    "fourier-hmc": Sampler(FourierHmcSettings, fourier_hmc.run, tuning.fourier_hmc),
    "metropolis": Sampler(MetropolisSettings, metropolis.run, tuning.metropolis),
    "wolff": Sampler(WolffSettings, wolff.run, tuning.wolff),
}


def tuned(name: str, action: Action, shape: tuple[int, int]) -> Any:
    """Settings of a sampler that suit an action and a lattice; `dataclasses.replace` adapts them.

    Raises:
        InputError: for an unknown sampler, or an action or lattice it cannot sample.
    """
    return _sampler(name).tuned(action, shape)


def run_sampler(
    name: str,
    action: Action,
    shape: tuple[int, int],
    settings: Lengths | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> SamplerRun:
    """Run a sampler by its name, with tuned settings where none are given.

    Raises:
        InputError: for an unknown sampler, another sampler's settings, or an action or lattice
            that cannot be sampled.
    """
    sampler = _sampler(name)
    chosen = sampler.tuned(action, shape) if settings is None else settings
    if not isinstance(chosen, sampler.settings):
        wanted, got = sampler.settings.__name__, type(chosen).__name__
        raise InputError(f"sampler {name} takes {wanted}, got {got}")
    return sampler.run(action, shape, chosen, seed, progress)


def _sampler(name: str) -> Sampler:
    if name not in SAMPLERS:
        raise InputError(f"no sampler {name!r}; known: {', '.join(SAMPLERS)}")
    return SAMPLERS[name]
