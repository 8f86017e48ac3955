"""Training a coupling flow by its reverse Kullback-Leibler divergence, and repairing one."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rram_host.errors import InputError
from rram_host.flows.coupling import CouplingFlow
from rram_host.flows.path_gradient import path_gradient_loss
from rram_host.flows.train_settings import FinetuneSettings, TrainLog, TrainSettings
from rram_host.lattice.actions import Action
from rram_host.lattice.reweighting import effective_sample_size

__all__ = ["FinetuneSettings", "TrainLog", "TrainSettings", "finetune", "train"]

Callback = Callable[[TrainLog], None]


def train(
    flow: CouplingFlow,
    action: Action,
    settings: TrainSettings,
    callback: Callback | None = None,
) -> list[TrainLog]:
    """Train every parameter but the low-rank corrections, in place; reproducible from the seed.

    Minimises KL(q || p) = E_q[log q + S] + log Z with Adam, in the dtype of the parameters. At the
    end the gauge of the hidden units is fixed by `CouplingFlow.balance`, which changes the
    matrices and not the flow.

    Args:
        flow: the flow, changed in place.
        action: the target's action.
        settings: schedule, noise and seed.
        callback: told each log entry as it is made.

    Returns:
        The log.

    Raises:
        InputError: if the loss stops being finite.
    """
    corrections = [p for name, p in flow.named_parameters() if ".lora_" in name]
    parameters = [p for name, p in flow.named_parameters() if ".lora_" not in name]
    optimiser = torch.optim.Adam(parameters, lr=settings.lr, betas=(0.9, settings.beta2))
    generator = torch.Generator().manual_seed(settings.seed)
    products = flow.products().items()
    dense = [(product.weight(), 1 if name == "w1" else 0) for name, product in products]

    def loss_of(z: Tensor) -> tuple[Tensor, Tensor]:
        if settings.estimator == "path":
            return path_gradient_loss(flow, action, z)
        return _total_loss(flow, action, z)

    def step() -> Tensor:
        z = flow.draw(settings.batch, generator, flow.shift_s.dtype)
        with _noisy(dense, settings.weight_noise, generator):
            loss, log_w = loss_of(z)
            loss.backward()  # type: ignore[no-untyped-call]
        return log_w

    with _frozen(corrections):
        log = _descend(optimiser, parameters, step, settings, callback)
    flow.balance()
    return log


def finetune(
    flow: CouplingFlow,
    action: Action,
    settings: FinetuneSettings,
    callback: Callback | None = None,
) -> list[TrainLog]:
    """Adapt a flow to the dense weights it has, training digital parameters only.

    Args:
        flow: the flow, changed in place; its products must have matrices (read back, if they
            stand for something measured), which stay as they are.
        action: the target's action.
        settings: what to train, and for how long.
        callback: told each log entry as it is made.

    Returns:
        The log.

    Raises:
        InputError: if there is nothing to train (rank 0 and "lora"), a product has no matrix, or
            the loss stops being finite.
    """
    dense = {id(product.weight()) for product in flow.products().values()}
    named = [(name, p) for name, p in flow.named_parameters() if id(p) not in dense]
    if settings.parameters == "lora":
        named = [(name, p) for name, p in named if ".lora_" in name]
    if not named:
        raise InputError("nothing to fine-tune: the flow has lora_rank 0 and only 'lora' was asked")
    parameters = [p for _, p in named]
    optimiser = torch.optim.Adam(parameters, lr=settings.lr, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(settings.seed)

    def step() -> Tensor:
        z = flow.draw(settings.batch, generator, flow.shift_s.dtype)
        loss, log_w = path_gradient_loss(flow, action, z)
        loss.backward()  # type: ignore[no-untyped-call]
        return log_w

    with _frozen(p for p in flow.parameters() if all(p is not q for q in parameters)):
        return _descend(optimiser, parameters, step, settings, callback)


def _descend(
    optimiser: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    step: Callable[[], Tensor],
    settings: TrainSettings | FinetuneSettings,
    callback: Callback | None,
) -> list[TrainLog]:
    """Run the schedule; `step` leaves gradients behind and returns log weights."""
    log: list[TrainLog] = []
    begin = time.perf_counter()
    for index in range(settings.steps):
        rate = _learning_rate(index, settings)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad()
        log_w = step()
        nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimiser.step()
        done = index + 1
        if done % settings.log_every == 0 or done == settings.steps:
            log.append(_entry(done, log_w, rate, time.perf_counter() - begin))
            if callback is not None:
                callback(log[-1])
    optimiser.zero_grad()
    return log


def _entry(step: int, log_w: Tensor, rate: float, seconds: float) -> TrainLog:
    loss = -float(log_w.mean())
    if not math.isfinite(loss):
        raise InputError(f"training diverged: loss {loss} at step {step}; lower the learning rate")
    ess = effective_sample_size(log_w.double().numpy())
    return TrainLog(step, loss, ess, float(log_w.std()), rate, seconds)


def _learning_rate(index: int, settings: TrainSettings | FinetuneSettings) -> float:
    """Linear rise over the warm-up times a cosine to zero over the whole run."""
    rise = min(1.0, (index + 1) / settings.warmup) if settings.warmup else 1.0
    return settings.lr * rise * 0.5 * (1.0 + math.cos(math.pi * index / settings.steps))


def _total_loss(flow: CouplingFlow, action: Action, z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of log q + S, differentiated as it stands, and log w (n,), detached."""
    phi, log_q = flow.push(z)
    free_energy = log_q + action(phi)
    return free_energy.mean(), -free_energy.detach()


@contextmanager
def _noisy(
    matrices: list[tuple[Tensor, int]], fraction: float, generator: torch.Generator
) -> Iterator[None]:
    """Perturb matrices in place, forward and backward inside; they come back exactly.

    Each comes with the axis along which the weights of one hidden unit lie.
    """
    if fraction == 0.0:
        yield
        return
    with torch.no_grad():
        clean = [m.clone() for m, _ in matrices]
        for m, axis in matrices:
            noise = torch.randn(m.shape, generator=generator, dtype=m.dtype)
            m += fraction * m.abs().amax(axis, keepdim=True) * noise
    try:
        yield
    finally:
        with torch.no_grad():
            for (m, _), before in zip(matrices, clean, strict=True):
                m.copy_(before)


@contextmanager
def _frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Keep parameters out of the graph for a while."""
    held = [p for p in parameters if p.requires_grad]
    for p in held:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in held:
            p.requires_grad_(True)
