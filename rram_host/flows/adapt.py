"""A trained flow made to fit another action, or dense weights that are not what they should be."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from rram_host.errors import InputError
from rram_host.flows.descent import Callback
from rram_host.flows.lora import attach
from rram_host.flows.prior import SpectralPrior
from rram_host.flows.protocol import Flow
from rram_host.flows.training import FinetuneSettings, finetune, moving
from rram_host.lattice.actions import Action
from rram_host.lattice.samplers.gaussian import propagator
from rram_host.lattice.samplers.local_form import local_form

__all__ = ["AdaptPlan", "adapted", "follow", "with_errors"]

_PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the way that `follow` tries


@dataclass(frozen=True)
class AdaptPlan:
    """Which corrections a flow gets, and how it is trained.

    Attributes:
        rank: of the low-rank corrections; None leaves those of the flow as they are.
        attach: names of the products that get one, the others lose theirs; None for all.
        finetune: what else moves, and for how long.

    Raises:
        InputError: names of products without a rank.
    """

    rank: int | None = None
    attach: tuple[str, ...] | None = None
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)

    def __post_init__(self) -> None:
        if self.rank is None and self.attach is not None:
            raise InputError("where to attach corrections was said, but not of which rank")

    def fitted(self, base: Flow) -> Flow:
        """A copy of a flow with the corrections of this plan.

        Raises:
            InputError: as of `lora.attach`.
        """
        flow = copy.deepcopy(base)
        if self.rank is not None:
            attach(flow, self.rank, self.attach)
        return flow


def adapted(
    base: Flow,
    action: Action,
    plan: AdaptPlan,
    callback: Callback | None = None,
    state: Path | str | None = None,
    should_stop: Callable[[], bool] | None = None,
    trained_for: Action | None = None,
) -> Flow:
    """A copy of a flow, fitted to an action with its dense weights as they are.

    Where the plan lets the prior move, its spectrum begins where `follow` puts it.

    Args:
        base: a trained flow; not changed.
        action: the target's action.
        plan: corrections and schedule.
        callback: as of `training.train`.
        state: as of `training.train`.
        should_stop: as of `training.train`.
        trained_for: the action that the flow was trained for; None for the target's.

    Raises:
        TrainingStopped: `should_stop` said so.
        InputError: as of `lora.attach` and `training.finetune`.
    """
    flow = plan.fitted(base)
    settings = plan.finetune
    if trained_for is not None and "prior.log_amplitude" in moving(flow, settings):
        follow(flow, trained_for, action, settings.batch, settings.seed)
    finetune(flow, action, plan.finetune, callback, state, should_stop)
    return flow


@torch.no_grad()
def follow(flow: Flow, before: Action, action: Action, draws: int, seed: int) -> None:
    """Move the trained spectrum of a prior as free propagators move from one action to another.

    a(k) grows by a part of log[D'(k) / D(k)] / 2, with D and D' the propagators of the Gaussian
    theories nearest to both actions (`gaussian.propagator`): the part, in quarters from 0 to 1,
    whose mean of log q + S over the same draws is least. A few tens of optimiser steps at the
    usual rates cannot move the spectrum as far; this costs as much as two of them. For actions with
    a free theory in them, like a graphene wire: the quadratic part of phi^4 at m2 < 0 is no weight,
    the spectrum in front of such a flow is its own, and stays.

    Args:
        flow: changed in place; one without a `SpectralPrior` is left as it is.
        before: what it was trained for.
        action: what it shall fit.
        draws: configurations behind each mean.
        seed: of the draws.
    """
    prior = getattr(flow, "prior", None)
    if not isinstance(prior, SpectralPrior) or before == action:
        return
    if min(local_form(before).square, local_form(action).square) <= 0.0:
        return
    ratio = torch.from_numpy(propagator(action, prior.shape) / propagator(before, prior.shape))
    start, way = prior.log_amplitude.clone(), prior.by_class(0.5 * ratio.log())
    z = flow.draw(draws, torch.Generator().manual_seed(seed))

    def free_energy(part: float) -> float:
        prior.log_amplitude.copy_(start + part * way)
        phi, log_q = flow.push(z)
        return float((log_q + action(phi)).mean())

    prior.log_amplitude.copy_(start + min(_PARTS, key=free_energy) * way)


def with_errors(flow: Flow, fraction: float, seed: int) -> Flow:
    """A copy whose dense weights are off, once and for all, by Gaussian errors.

    Each weight w moves by N(0, (fraction * range)^2), where range = 2 max |W| of its matrix is what
    a medium that holds -max |W| to max |W| spans.

    Args:
        flow: its products must have matrices.
        fraction: standard deviation of an error over that range, >= 0.
        seed: of the errors.

    Raises:
        InputError: for a fraction that is negative or not finite.
    """
    if not (math.isfinite(fraction) and fraction >= 0.0):
        raise InputError(f"errors of weights must be a fraction >= 0 of full scale, got {fraction}")
    untied = getattr(flow, "untied", None)  # errors respect no symmetry
    found: Flow = copy.deepcopy(flow) if untied is None else untied()
    generator = torch.Generator().manual_seed(seed)
    for product in found.products().values():
        weight = product.weight().detach()
        noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        product.set_weight_(weight + 2.0 * fraction * weight.abs().max() * noise)
    return found
