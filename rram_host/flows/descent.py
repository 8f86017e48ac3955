"""The loop that every training runs: schedule, clipping, log, state on disk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rram_host.errors import InputError, RramError
from rram_host.flows.product import AdaptedLinear
from rram_host.flows.protocol import Flow
from rram_host.flows.train_settings import FinetuneSettings, TrainLog, TrainSettings
from rram_host.flows.train_state import Progress, StateFile
from rram_host.lattice.reweighting import effective_sample_size

__all__ = ["Descent", "TrainingStopped", "frozen", "noisy"]

Callback = Callable[[TrainLog], None]


class TrainingStopped(RramError):
    """A training was asked to stop before its last step.

    Attributes:
        step: optimiser steps done; the state file, if any, is at this step.
    """

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"training stopped after step {step} of {steps}")
        self.step = step


@dataclass
class Descent:
    """One training: what moves, by what rule, who is told, where its state is kept.

    Attributes:
        flow: the flow, changed in place.
        parameters: of the flow, those that move.
        settings: the schedule.
        generator: source of everything random in a step.
        step: leaves gradients behind and returns log w (n,), detached.
        callback: told each log entry as it is made.
        state: the state on disk, or None.
        should_stop: asked after every step.
    """

    flow: Flow
    parameters: list[nn.Parameter]
    settings: TrainSettings | FinetuneSettings
    generator: torch.Generator
    step: Callable[[], Tensor]
    callback: Callback | None = None
    state: StateFile | None = None
    should_stop: Callable[[], bool] | None = None

    def run(self) -> list[TrainLog]:
        """Run the schedule to its end, from the state on disk where there is one.

        Returns:
            The log, entries from before an interruption included.

        Raises:
            TrainingStopped: `should_stop` said so; the state on disk is at that step.
            InputError: loss or gradient stop being finite, or the state cannot be used.
        """
        with self.state or nullcontext(), frozen(self._others()):
            return self._run()

    def _run(self) -> list[TrainLog]:
        optimiser = torch.optim.Adam(
            self.parameters, lr=self.settings.lr, betas=(0.9, self.settings.beta2)
        )
        progress = Progress()
        if self.state:
            progress = self.state.restore(self.flow, optimiser, self.generator)
        begin = time.perf_counter() - progress.seconds
        while progress.step < self.settings.steps:
            self._advance(optimiser, progress, begin)
            self._keep(optimiser, progress)
        optimiser.zero_grad()
        return progress.log

    def _advance(self, optimiser: torch.optim.Optimizer, progress: Progress, begin: float) -> None:
        rate = _learning_rate(progress.step, self.settings)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad()
        log_w = self.step()
        _check_finite("loss", -float(log_w.mean()), progress.step)
        size = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        _check_finite("size of the gradient", float(size), progress.step)
        optimiser.step()
        progress.step += 1
        progress.seconds = time.perf_counter() - begin
        if progress.step % self.settings.log_every == 0 or progress.step == self.settings.steps:
            progress.log.append(_entry(progress, log_w, rate))
            if self.callback is not None:
                self.callback(progress.log[-1])

    def _keep(self, optimiser: torch.optim.Optimizer, progress: Progress) -> None:
        done = progress.step == self.settings.steps
        stop = not done and self.should_stop is not None and self.should_stop()
        if self.state and (done or stop or self.state.due()):
            self.state.write(self.flow, optimiser, self.generator, progress)
        if stop:
            raise TrainingStopped(progress.step, self.settings.steps)

    def _others(self) -> Iterator[nn.Parameter]:
        moving = {id(p) for p in self.parameters}
        return (p for p in self.flow.parameters() if id(p) not in moving)


@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Keep parameters out of the graph for a while."""
    held = [p for p in parameters if p.requires_grad]
    for p in held:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in held:
            p.requires_grad_(True)


@contextmanager
def noisy(
    products: list[tuple[AdaptedLinear, int]], fraction: float, generator: torch.Generator
) -> Iterator[None]:
    """Perturb the matrices of products, forward and backward inside; they come back exactly.

    Each comes with the axis along which the weights of one unit lie: a weight moves by a Gaussian
    of `fraction` times the largest |W| of its unit.
    """
    with ExitStack() as stack:
        for product, axis in products if fraction else []:
            m = product.weight().detach()
            noise = torch.randn(m.shape, generator=generator, dtype=m.dtype)
            change = fraction * m.abs().amax(axis, keepdim=True) * noise
            stack.enter_context(product.perturbed(change))
        yield


def _entry(progress: Progress, log_w: Tensor, rate: float) -> TrainLog:
    values: Any = log_w.double().numpy()
    return TrainLog(
        progress.step,
        -float(log_w.mean()),
        effective_sample_size(values),
        float(log_w.std()),
        rate,
        progress.seconds,
    )


def _check_finite(what: str, value: float, steps_done: int) -> None:
    if not math.isfinite(value):
        raise InputError(
            f"training diverged: the {what} is {value} in step {steps_done + 1}; lower the "
            "learning rate or raise the warm-up"
        )


def _learning_rate(index: int, settings: TrainSettings | FinetuneSettings) -> float:
    """Linear rise over the warm-up times a cosine to zero over the whole run."""
    rise = min(1.0, (index + 1) / settings.warmup) if settings.warmup else 1.0
    return settings.lr * rise * 0.5 * (1.0 + math.cos(math.pi * index / settings.steps))
