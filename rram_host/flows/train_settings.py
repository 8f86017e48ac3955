"""Settings and log entries of training, checked when made."""

from dataclasses import dataclass
from typing import Literal

from rram_host.errors import InputError
from rram_host.lattice.actions import Phi4Action

__all__ = ["FinetuneSettings", "TrainLog", "TrainSettings"]


@dataclass(frozen=True)
class TrainSettings:
    """How to train a flow from scratch.

    Attributes:
        m2: bare mass squared of the phi^4 action.
        lam: its quartic coupling, > 0.
        steps: optimiser steps.
        batch: fields drawn in each.
        lr: highest learning rate; rises linearly over `warmup`, then falls as a cosine to zero.
        warmup: steps of the rise.
        clip: largest norm of the gradient.
        beta2: of Adam; 0.99 forgets the wild gradients of the start sooner than the usual 0.999.
        weight_noise: standard deviation of Gaussian noise added afresh to every dense weight in
            each step, as a fraction of the largest |W| of its hidden unit, which is the matrix's
            largest once the flow is balanced; 0 for none. It buys robustness against imperfect
            products with a little of the noise-free ESS.
        estimator: "path" for the path gradient, "total" for plain differentiation of log q + S.
        log_every: steps between entries of the log.
        seed: of the prior draws and the noise.

    Raises:
        InputError: for a value out of range.
    """

    m2: float = -4.0
    lam: float = 5.5
    steps: int = 25_000
    batch: int = 512
    lr: float = 6e-3
    warmup: int = 100
    clip: float = 1.0
    beta2: float = 0.99
    weight_noise: float = 0.04
    estimator: Literal["path", "total"] = "path"
    log_every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        _check_schedule(self.steps, self.batch, self.lr, self.warmup, self.clip, self.log_every)
        if not 0.0 < self.beta2 < 1.0:
            raise InputError(f"beta2 must be in (0, 1), got {self.beta2}")
        if not 0.0 <= self.weight_noise < 1.0:
            raise InputError(f"weight_noise must be in [0, 1), got {self.weight_noise}")
        if self.estimator not in ("path", "total"):
            raise InputError(f"estimator must be 'path' or 'total', got {self.estimator!r}")
        Phi4Action(self.m2, self.lam)

    @property
    def action(self) -> Phi4Action:
        """The target's action."""
        return Phi4Action(self.m2, self.lam)


@dataclass(frozen=True)
class FinetuneSettings:
    """How to repair a flow whose dense weights are not what they were.

    Attributes:
        parameters: "lora" trains the low-rank corrections only; "digital" everything but the
            dense weights.
        steps: optimiser steps.
        batch: fields drawn in each.
        lr: highest learning rate, with warm-up and cosine as in training.
        warmup: steps of the rise.
        clip: largest norm of the gradient.
        log_every: steps between entries of the log.
        seed: of the prior draws.

    Raises:
        InputError: for a value out of range.
    """

    parameters: Literal["lora", "digital"] = "digital"
    steps: int = 300
    batch: int = 512
    lr: float = 3e-3
    warmup: int = 20
    clip: float = 1.0
    log_every: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        _check_schedule(self.steps, self.batch, self.lr, self.warmup, self.clip, self.log_every)
        if self.parameters not in ("lora", "digital"):
            raise InputError(f"parameters must be 'lora' or 'digital', got {self.parameters!r}")


@dataclass(frozen=True)
class TrainLog:
    """One entry of a training log, about the batch of that step.

    Attributes:
        step: optimiser steps done.
        loss: mean of log q + S, nats; never below -log Z but for statistics.
        ess: effective sample size of the batch, a fraction (optimistic at a small batch).
        std_log_w: standard deviation of log w, nats.
        lr: learning rate.
        seconds: wall time since the start.
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
        if value < least:
            raise InputError(f"{name} must be >= {least}, got {value}")
    if not (lr > 0.0 and clip > 0.0):
        raise InputError(f"lr and clip must be > 0, got {lr} and {clip}")
