"""Settings and log entries of training, checked when made."""

from dataclasses import dataclass
from typing import Literal

from rram_host.errors import InputError, require_whole

__all__ = ["FinetuneSettings", "TrainLog", "TrainSettings"]


@dataclass(frozen=True)
class TrainSettings:
    """How to train a flow from scratch.

    Attributes:
        steps: optimiser steps.
        batch: fields drawn in each.
        lr: highest learning rate; rises linearly over `warmup`, then falls as a cosine to zero.
        warmup: steps of the rise.
        clip: largest norm of the gradient.
        beta2: of Adam; 0.99 forgets the wild gradients of the start sooner than the usual 0.999.
        weight_noise: standard deviation of Gaussian noise added afresh to every dense weight in
            each step, as a fraction of the largest |W| of its unit (`noise_axes` of the flow, or
            its output row); 0 for none. It buys robustness against imperfect products with a
            little of the noise-free ESS.
        estimator: "own" for the loss that the flow brings, where it brings one (coupling flows:
            the path gradient); "plain" to differentiate mean(log q + S) as it stands.
        log_every: steps between entries of the log.
        seed: of the prior draws and the noise.

    Raises:
        InputError: for a value out of range.
    """

    steps: int = 25_000
    batch: int = 512
    lr: float = 6e-3
    warmup: int = 100
    clip: float = 1.0
    beta2: float = 0.99
    weight_noise: float = 0.04
    estimator: Literal["own", "plain"] = "own"
    log_every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        _check_schedule(self.steps, self.batch, self.lr, self.warmup, self.clip, self.log_every)
        if not 0.0 < self.beta2 < 1.0:
            raise InputError(f"beta2 must be in (0, 1), got {self.beta2}")
        if not 0.0 <= self.weight_noise < 1.0:
            raise InputError(f"weight_noise must be in [0, 1), got {self.weight_noise}")
        if self.estimator not in ("own", "plain"):
            raise InputError(f"estimator must be 'own' or 'plain', got {self.estimator!r}")


@dataclass(frozen=True)
class FinetuneSettings:
    """How to adapt a trained flow whose dense weights stay what they are.

    Attributes:
        parameters: "lora" trains the low-rank corrections, "digital" everything but the dense
            weights.
        also: with "lora", names of further parameters of the flow (or of the modules that hold
            them) to train, e.g. ("prior", "bends").
        steps: optimiser steps.
        batch: fields drawn in each.
        lr: highest learning rate, with warm-up and cosine as in training.
        warmup: steps of the rise.
        clip: largest norm of the gradient.
        beta2: of Adam, as in training.
        log_every: steps between entries of the log.
        seed: of the prior draws.

    Raises:
        InputError: for a value out of range.
    """

    parameters: Literal["lora", "digital"] = "digital"
    also: tuple[str, ...] = ()
    steps: int = 300
    batch: int = 512
    lr: float = 3e-3
    warmup: int = 20
    clip: float = 1.0
    beta2: float = 0.99
    log_every: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        _check_schedule(self.steps, self.batch, self.lr, self.warmup, self.clip, self.log_every)
        if not 0.0 < self.beta2 < 1.0:
            raise InputError(f"beta2 must be in (0, 1), got {self.beta2}")
        if self.parameters not in ("lora", "digital"):
            raise InputError(f"parameters must be 'lora' or 'digital', got {self.parameters!r}")
        if self.also and self.parameters != "lora":
            raise InputError("also is for parameters = 'lora': 'digital' trains all of them")


@dataclass(frozen=True)
class TrainLog:
    """One entry of a training log, about the batch of that step.

    Attributes:
        step: optimiser steps done.
        loss: mean of log q + S, nats; never below -log Z but for statistics.
        ess: effective sample size of the batch, a fraction (optimistic at a small batch).
        std_log_w: standard deviation of log w, nats.
        lr: learning rate.
        seconds: wall time spent so far, pauses of a resumed run left out.
    """

    step: int
    loss: float
    ess: float
    std_log_w: float
    lr: float
    seconds: float


def _check_schedule(
    steps: int, batch: int, lr: float, warmup: int, clip: float, log_every: int
) -> None:
    for name, value, least in (
        ("steps", steps, 1),
        ("batch", batch, 2),
        ("warmup", warmup, 0),
        ("log_every", log_every, 1),
    ):
        require_whole(**{name: value})
        if value < least:
            raise InputError(f"{name} must be >= {least}, got {value}")
    if not (lr > 0.0 and clip > 0.0):
        raise InputError(f"lr and clip must be > 0, got {lr} and {clip}")
