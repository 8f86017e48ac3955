"""Hybrid Monte Carlo for scalar fields, many chains at once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rram_host.errors import InputError
from rram_host.lattice.actions import Action

__all__ = ["HmcResult", "HmcSettings", "run_hmc"]

# Minimises the leading error of the second-order integrator with two force evaluations a step:
# Omelyan, Mryglod, Folk, Comput. Phys. Commun. 151 (2003) 272.
_OMELYAN = 0.1931833275037836


@dataclass(frozen=True)
class HmcSettings:
    """Settings of `run_hmc`; the defaults suit phi^4 at L = 4, lam = 5 to 6.

    Attributes:
        chains: independent chains, advanced together.
        trajectories: configurations kept from each chain, one after every trajectory.
        thermalisation: trajectories dropped from the beginning of each chain.
        step: mean integrator step, molecular dynamics time. steps * step = 2.4 to 2.8 decorrelates
            M best; length 1 takes twice to three times as many trajectories.
        steps: integrator steps in a trajectory.
        jitter: the step of each trajectory is drawn from step (1 +- jitter), so that no mode
            comes back to where it started; in [0, 1).
        start_width: standard deviation of the random starting field.

    Raises:
        InputError: for a value out of range.
    """

    chains: int = 64
    trajectories: int = 1000
    thermalisation: int = 200
    step: float = 0.24
    steps: int = 10
    jitter: float = 0.2
    start_width: float = 0.5

    def __post_init__(self) -> None:
        for name, least in (("chains", 1), ("trajectories", 1), ("thermalisation", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be >= {least}, got {getattr(self, name)}")
        if self.steps < 1 or not self.step > 0.0:
            raise InputError(f"steps >= 1 and step > 0 needed, got {self.steps}, {self.step}")
        if not 0.0 <= self.jitter < 1.0:
            raise InputError(f"jitter must be in [0, 1), got {self.jitter}")
        if not self.start_width >= 0.0:
            raise InputError(f"start_width must be >= 0, got {self.start_width}")


@dataclass(frozen=True)
class HmcResult:
    """What `run_hmc` returns.

    Attributes:
        phi: configurations, shape (chains, trajectories, L0, L1), float64.
        acceptance: fraction of trajectories accepted after thermalisation.
    """

    phi: Tensor
    acceptance: float


def run_hmc(
    action: Action,
    shape: tuple[int, int],
    settings: HmcSettings,
    generator: torch.Generator,
    progress: Callable[[int, int], None] | None = None,
) -> HmcResult:
    """Sample exp(-S) by hybrid Monte Carlo (Duane et al., Phys. Lett. B 195 (1987) 216).

    Momenta are standard normal; each trajectory is accepted with min(1, exp(-dH)).

    Args:
        action: the action S.
        shape: lattice (L0, L1).
        settings: lengths and steps.
        generator: source of all random numbers.
        progress: called with (trajectories done, trajectories in all) after each one.

    Returns:
        Configurations after every trajectory, and the acceptance.

    Raises:
        InputError: for a shape that is not two lengths >= 1.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise InputError(f"a lattice needs two lengths >= 1, asked {shape}")
    phi = settings.start_width * _normal((settings.chains, *shape), generator)
    kept = torch.empty(settings.chains, settings.trajectories, *shape, dtype=torch.float64)
    total = settings.thermalisation + settings.trajectories
    accepted = 0.0
    for trajectory in range(total):
        phi, taken = _trajectory(action, phi, settings, generator)
        index = trajectory - settings.thermalisation
        if index >= 0:
            kept[:, index] = phi
            accepted += float(taken.double().mean())
        if progress is not None:
            progress(trajectory + 1, total)
    return HmcResult(kept, accepted / settings.trajectories)


def _trajectory(
    action: Action, phi: Tensor, settings: HmcSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """One trajectory of all chains: the new fields, and which were accepted (chains,)."""
    momentum = _normal(phi.shape, generator)
    draw = 2.0 * _uniform((len(phi), 1, 1), generator) - 1.0
    step = settings.step * (1.0 + settings.jitter * draw)
    start = action(phi) + 0.5 * (momentum * momentum).sum((1, 2))
    moved, momentum = _integrate(action, phi, momentum, step, settings.steps)
    change = action(moved) + 0.5 * (momentum * momentum).sum((1, 2)) - start
    taken = _uniform((len(phi),), generator) < torch.exp(-change)
    return torch.where(taken[:, None, None], moved, phi), taken


def _integrate(
    action: Action, phi: Tensor, momentum: Tensor, step: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Omelyan's position-first step, repeated; neighbouring drifts are joined."""
    outer, inner = _OMELYAN * step, (1.0 - 2.0 * _OMELYAN) * step
    phi = phi + outer * momentum
    for index in range(steps):
        momentum = momentum - 0.5 * step * action.force(phi)
        phi = phi + inner * momentum
        momentum = momentum - 0.5 * step * action.force(phi)
        phi = phi + (outer if index == steps - 1 else 2.0 * outer) * momentum
    return phi, momentum


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64)
