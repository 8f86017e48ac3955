"""Training any flow by its reverse Kullback-Leibler divergence, or adapting a trained one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rram_host.errors import InputError
from rram_host.flows.descent import Callback, Descent, TrainingStopped, noisy
from rram_host.flows.lora import digital_parameters
from rram_host.flows.protocol import Flow
from rram_host.flows.train_settings import FinetuneSettings, TrainLog, TrainSettings
from rram_host.flows.train_state import StateFile, fingerprint
from rram_host.lattice.actions import Action, settings_of

__all__ = [
    "FinetuneSettings",
    "TrainLog",
    "TrainSettings",
    "TrainingStopped",
    "finetune",
    "moving",
    "train",
]

Loss = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
_OUTPUT_ROWS = 1


def train(
    flow: Flow,
    action: Action,
    settings: TrainSettings,
    callback: Callback | None = None,
    state: Path | str | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[TrainLog]:
    """Train every parameter but the low-rank corrections, in place; reproducible from the seed.

    Minimises KL(q || p) = E_q[log q + S] + log Z with Adam, in the dtype of the parameters. A flow
    with `loss(action, z, generator)` is trained by it, another by mean(log q + S). A flow with
    `balance()` is balanced at the end, which changes its matrices and not the flow.

    Args:
        flow: the flow, changed in place.
        action: the target's action.
        settings: schedule, noise and seed.
        callback: told each log entry as it is made.
        state: file that holds the state of the training, written every few seconds and at the end;
            where it exists, training goes on from it, to the same weights bit for bit.
        should_stop: asked after every step; the state is written before it stops.

    Returns:
        The log.

    Raises:
        TrainingStopped: `should_stop` said so.
        InputError: if loss or gradient stop being finite, the flow has nothing to train, or the
            state is of another training.
    """
    chosen = [p for name, p in flow.named_parameters() if ".lora_" not in name]
    axes = noise_axes(flow)
    dense = [(product, axes[name]) for name, product in flow.products().items()]
    loss_of = _loss(flow, action, settings.estimator)
    generator = torch.Generator().manual_seed(settings.seed)

    def step() -> Tensor:
        with noisy(dense, settings.weight_noise, generator):
            return _backward(flow, chosen, loss_of, settings.batch, generator)

    kept = _state_file("train", flow, action, settings, state)
    log = Descent(flow, chosen, settings, generator, step, callback, kept, should_stop).run()
    balance = getattr(flow, "balance", None)
    if balance is not None:
        balance()
    return log


def finetune(
    flow: Flow,
    action: Action,
    settings: FinetuneSettings,
    callback: Callback | None = None,
    state: Path | str | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[TrainLog]:
    """Adapt a flow to an action, or to the dense weights it has, training digital numbers only.

    Args:
        flow: the flow, changed in place; its products must have matrices (read back, if they
            stand for something measured), which stay as they are.
        action: the target's action.
        settings: what to train, and for how long.
        callback: told each log entry as it is made.
        state: as of `train`.
        should_stop: as of `train`.

    Returns:
        The log.

    Raises:
        TrainingStopped: `should_stop` said so.
        InputError: if there is nothing to train (rank 0 and "lora"), a product has no matrix, loss
            or gradient stop being finite, or the state is of another training.
    """
    chosen = list(moving(flow, settings).values())
    loss_of = _loss(flow, action, "own")
    generator = torch.Generator().manual_seed(settings.seed)

    def step() -> Tensor:
        return _backward(flow, chosen, loss_of, settings.batch, generator)

    kept = _state_file("finetune", flow, action, settings, state)
    return Descent(flow, chosen, settings, generator, step, callback, kept, should_stop).run()


def moving(flow: Flow, settings: FinetuneSettings) -> dict[str, nn.Parameter]:
    """What `finetune` trains, by name.

    Raises:
        InputError: nothing, or a name of `settings.also` that the flow does not have.
    """
    digital = digital_parameters(flow)
    if settings.parameters == "digital":
        return digital
    found = {name: p for name, p in digital.items() if ".lora_" in name}
    for asked in settings.also:
        some = {n: p for n, p in digital.items() if n == asked or n.startswith(f"{asked}.")}
        if not some:
            heads = dict.fromkeys(n.partition(".")[0] for n in digital if ".lora_" not in n)
            raise InputError(f"no digital parameter {asked!r}; this flow has {', '.join(heads)}")
        found |= some
    if not found:
        raise InputError(
            "nothing to fine-tune: the flow has no corrections, and only 'lora' was asked"
        )
    return found


def noise_axes(flow: Flow) -> dict[str, int]:
    """For every product the axis of its matrix (out, in) along which one unit's weights lie.

    A flow says so by a method of this name; without it a unit is an output row.
    """
    said = getattr(flow, "noise_axes", None)
    axes = dict.fromkeys(flow.products(), _OUTPUT_ROWS)
    return axes if said is None else axes | said()


def _backward(
    flow: Flow, chosen: list[nn.Parameter], loss_of: Loss, batch: int, generator: torch.Generator
) -> Tensor:
    loss, log_w = loss_of(flow.draw(batch, generator, chosen[0].dtype), generator)
    loss.backward()  # type: ignore[no-untyped-call]
    return log_w


def _loss(flow: Flow, action: Action, estimator: str) -> Loss:
    own: Any = getattr(flow, "loss", None)
    if estimator == "own" and own is not None:
        return lambda z, generator: own(action, z, generator)

    def plain(z: Tensor, _: torch.Generator) -> tuple[Tensor, Tensor]:
        phi, log_q = flow.push(z)
        free_energy = log_q + action(phi)
        return free_energy.mean(), -free_energy.detach()

    return plain


def _state_file(
    job: str,
    flow: Flow,
    action: Action,
    settings: TrainSettings | FinetuneSettings,
    path: Path | str | None,
) -> StateFile | None:
    if path is None:
        return None
    key = {
        "job": job,
        "kind": flow.kind,
        "flow": asdict(flow.settings),
        "action": settings_of(action),
        "settings": asdict(settings),
        "weights at the start": fingerprint(flow),
    }
    return StateFile(Path(path), key)
