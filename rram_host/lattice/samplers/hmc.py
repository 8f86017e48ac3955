"""Hybrid Monte Carlo for scalar fields, many chains at once."""

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from rram_host.lattice.actions import Action
from rram_host.lattice.samplers import compiled
from rram_host.lattice.samplers.local_form import LocalForm, local_form
from rram_host.lattice.samplers.run import (
    Lengths,
    Progress,
    SamplerRun,
    check_shape,
    collect,
    require,
    require_count,
)

__all__ = ["OMELYAN", "HmcSettings", "run"]

Array = NDArray[np.float64]

# Minimises the leading error of the second-order integrator with two force evaluations a step:
# Omelyan, Mryglod, Folk, Comput. Phys. Commun. 151 (2003) 272.
OMELYAN = 0.1931833275037836


@dataclass(frozen=True)
class HmcSettings(Lengths):
    """Settings of hybrid Monte Carlo; the defaults suit phi^4 at L = 4, lam = 5 to 6.

    Attributes:
        step: mean integrator step, molecular dynamics time. The trajectory's length steps * step
            matters most: 2.5 to 4 decorrelates M best in phi^4; length 1 takes two to three
            times as many trajectories.
        steps: integrator steps in a trajectory.
        jitter: the step of each trajectory is drawn from step (1 +- jitter), the same for all
            chains, so that no mode comes back to where it started; in [0, 1).

    Raises:
        InputError: for a value out of range.
    """

    step: float = 0.24
    steps: int = 10
    jitter: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "step", 0.0 < self.step < np.inf, "> 0 and finite")
        require_count(self, "steps", 1)
        require(self, "jitter", 0.0 <= self.jitter < 1.0, "in [0, 1)")


def run(
    action: Action,
    shape: tuple[int, int],
    settings: HmcSettings,
    seed: int,
    progress: Progress | None = None,
) -> SamplerRun:
    """Sample exp(-S) by hybrid Monte Carlo (Duane et al., Phys. Lett. B 195 (1987) 216).

    Momenta are standard normal; each trajectory is accepted with min(1, exp(-dH)). The chain is
    the same, up to rounding, with numba and without.

    Args:
        action: the action S.
        shape: lattice (L0, L1), any lengths >= 1.
        settings: lengths and steps. One update is one trajectory.
        seed: of one numpy generator for all chains.
        progress: called with (trajectories done, trajectories in all) after each one.

    Raises:
        InputError: for an action or a lattice that cannot be sampled.
    """
    check_shape(shape)
    form = local_form(action)
    momentum = np.empty((*shape, settings.chains))

    def update(phi: Array, rng: np.random.Generator) -> float:
        rng.standard_normal(out=momentum)
        step = settings.step * (1.0 + settings.jitter * (2.0 * rng.random() - 1.0))
        # a trajectory that ran away is infinite or NaN, and refused
        with np.errstate(over="ignore", invalid="ignore"):
            moved, change = _trajectory(form, phi, momentum, step, settings.steps)
        # -log u of a uniform u is a standard exponential: u < exp(-dH)
        taken = change < rng.standard_exponential(settings.chains)
        np.copyto(phi, moved, where=taken)
        return float(taken.mean())

    return collect(update, shape, settings, seed, progress)


def _trajectory(
    form: LocalForm, phi: Array, momentum: Array, step: float, steps: int
) -> tuple[Array, Array]:
    """Fields at the end of a trajectory, and H after minus H before (chains,)."""
    # numba's sine is a scalar call: torch's, over whole fields, is faster than all that it saves
    if compiled.has_numba() and not form.cosine:
        from rram_host.lattice.samplers import kernels_hmc as kernels

        change = np.empty(phi.shape[2])
        constants = astuple(form)
        moved = kernels.trajectory(phi, momentum, constants, step, OMELYAN, steps, change)
        return moved, change
    moved, speed, work, force = phi.copy(), momentum.copy(), np.empty_like(phi), np.empty_like(phi)
    before = _energy(form, moved, speed, work)
    integrate(form, moved, speed, step, steps, (force, work))
    return moved, _energy(form, moved, speed, work) - before


def integrate(
    form: LocalForm, phi: Array, momentum: Array, step: float, steps: int, work: tuple[Array, Array]
) -> None:
    """Omelyan's position-first step, repeated, in place; neighbouring drifts are joined.

    Args:
        form: the action.
        phi: fields (L0, L1, chains).
        momentum: theirs.
        step: molecular dynamics time of a step.
        steps: how many.
        work: two arrays of phi's shape, overwritten.
    """
    force, other = work

    def drift(length: float) -> None:
        np.add(phi, np.multiply(momentum, length, out=other), out=phi)

    def kick() -> None:
        form.force(phi, force, other)
        np.subtract(momentum, np.multiply(force, 0.5 * step, out=force), out=momentum)

    drift(OMELYAN * step)
    for index in range(steps):
        kick()
        drift((1.0 - 2.0 * OMELYAN) * step)
        kick()
        drift((1.0 if index == steps - 1 else 2.0) * OMELYAN * step)


def _energy(form: LocalForm, phi: Array, momentum: Array, work: Array) -> Array:
    found = form.action(phi, work)
    found += 0.5 * np.multiply(momentum, momentum, out=work).sum((0, 1))
    return found
