"""Batch normalisation whose statistics belong to a coupling step and stay put."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["StepNorm", "live"]

_EPSILON = 1e-5  # as in torch's BatchNorm


class StepNorm(nn.Module):
    """y = gain (x - mean_k) / sqrt(variance_k + 1e-5) + shift, by feature, for step k of a flow.

    Batch normalisation with one set of statistics for each step that shares the layer. They are
    constants of the flow, so that the density of a field does not depend on what else is in its
    batch. Only inside `live` are they those of the batch.

    Attributes:
        gain: (features,), shared by all steps.
        shift: (features,), shared by all steps.
        mean: (steps, features).
        variance: (steps, features), without Bessel's correction.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, features: int, steps: int) -> None:
        """Start as the identity: mean 0, variance 1."""
        super().__init__()
        self.gain = nn.Parameter(torch.ones(features))
        self.shift = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(steps, features))
        self.register_buffer("variance", torch.ones(steps, features))
        self.pace: float | None = None

    def forward(self, x: Tensor, step: int, axis: int = -1) -> Tensor:
        """Normalise x, of any shape, along the features of `axis`."""
        if self.pace is None:
            scale, offset = self.affine(step)
        else:
            others = [d for d in range(x.dim()) if d != axis % x.dim()]
            mean = x.mean(others)
            # three times as fast as torch.var_mean on a core
            variance = (x - _along(mean, x, axis)).square().mean(others)
            with torch.no_grad():
                self.mean[step].lerp_(mean.to(self.mean.dtype), self.pace)
                self.variance[step].lerp_(variance.to(self.variance.dtype), self.pace)
            scale, offset = self._affine(mean, variance)
        return torch.addcmul(_along(offset, x, axis), x, _along(scale, x, axis))

    def affine(self, step: int) -> tuple[Tensor, Tensor]:
        """The map of a step as y = scale x + offset, each (features,)."""
        return self._affine(self.mean[step], self.variance[step])

    def _affine(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.gain * (variance + _EPSILON).rsqrt()
        return scale, self.shift - mean * scale


def _along(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """Values (features,) in the shape that broadcasts along an axis of x."""
    shape = [1] * x.dim()
    shape[axis] = -1
    return values.view(shape)


@contextmanager
def live(norms: Iterable[StepNorm], pace: float) -> Iterator[None]:
    """Inside, norms take the statistics of their batch and remember them.

    Args:
        norms: which.
        pace: weight of the batch in what is remembered; 1 to forget what was before.
    """
    norms = list(norms)
    for norm in norms:
        norm.pace = pace
    try:
        yield
    finally:
        for norm in norms:
            norm.pace = None
