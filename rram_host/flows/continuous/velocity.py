"""The velocity of a continuous flow: time features x sine features x symmetric kernel."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from rram_host.flows.continuous.kernels import Measured, Operator, kernels_of
from rram_host.flows.continuous.settings import ContinuousSettings
from rram_host.flows.prior import momentum_classes
from rram_host.flows.product import AdaptedLinear

__all__ = ["Moment", "Velocity"]


class _Sine(torch.autograd.Function):
    """sin and cos of the same angles; differentiates the sine with the cosine at hand."""

    @staticmethod
    def forward(ctx: Any, angle: Tensor) -> tuple[Tensor, Tensor]:
        sin, cos = torch.sin(angle), torch.cos(angle)
        ctx.save_for_backward(cos)
        ctx.mark_non_differentiable(cos)
        return sin, cos

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (cos,) = ctx.saved_tensors
        grad: Tensor = grads[0] * cos
        return grad


class Moment:
    """The velocity field at one time.

    Args:
        onsite: weight of sin(omega_f phi(x)) in the velocity of x itself, (F,).
        omega: frequencies, (F,).
        operator: all kernels, the site itself included.
    """

    def __init__(self, onsite: Tensor, omega: Tensor, operator: Operator) -> None:
        self._onsite, self._omega, self._operator = onsite, omega, operator

    def rates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity (n, V) of fields x (n, V) and its divergence (n,), in the dtype of x.

        div v = sum_{x, f} W_f(0) omega_f cos(omega_f phi(x)).
        """
        angle = self._angle(x)
        v = self._operator.gather(torch.sin(angle)).to(x.dtype)
        return v, self._divergence(torch.cos(angle), x.dtype)

    def rates_with_score(self, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Velocity, and detached the divergence and d score / dt = -(dv/dx)^T score - grad div v.

        Args:
            x: fields, (n, V).
            score: d log q / dx along the path, (n, V).
        """
        sin, cos = _Sine.apply(self._angle(x))  # type: ignore[no-untyped-call]
        v = self._operator.gather(sin).to(x.dtype)
        with torch.no_grad():
            pulled = self._operator.spread(score.to(cos.dtype)).mul_(cos)
            turned = torch.tensordot(pulled, -self._omega, ([1], [0]))
            turned += torch.tensordot(sin, self._onsite * self._omega**2, ([1], [0]))
            return v, self._divergence(cos, x.dtype), turned.to(x.dtype)

    def _divergence(self, cos: Tensor, dtype: torch.dtype) -> Tensor:
        local: Tensor = torch.tensordot(cos, self._onsite * self._omega, ([1], [0]))
        return local.to(dtype).sum(1)

    def _angle(self, x: Tensor) -> Tensor:
        return x.to(self._omega.dtype)[:, None, :] * self._omega[:, None]


class Velocity(nn.Module):
    """v(x, t) = sum_d cos(pi d t) sum_f sum_y W_df(x - y) sin(omega_f phi(y)).

    W_df depends on x - y through its class under the lattice's symmetries alone (arXiv 2207.00283).
    The term y = x, which alone enters the divergence, is digital. The means of the sine over the
    members of the other classes are vectors of F (C - 1) numbers within +-1, a vector for each
    site, that one product takes; where it is a plain matrix, circulant kernels give the same
    numbers faster.

    Attributes:
        product: W times the members of a class, without the site itself, (D, F (C - 1)), starting
            at zero.
        onsite: W_df(0), (D, F), starting at zero.
        log_omega: log of the frequencies, (F,).
    """

    members: Tensor

    def __init__(self, settings: ContinuousSettings) -> None:
        """Build a field that is zero everywhere."""
        super().__init__()
        times, frequencies = settings.times, settings.frequencies
        members = torch.bincount(momentum_classes(settings.shape).flatten())
        self.register_buffer("members", members[1:], persistent=False)  # class 0: the site itself
        self.classes = len(members)
        inputs = frequencies * (self.classes - 1)
        self.product = AdaptedLinear(inputs, times, settings.lora_rank)
        nn.init.zeros_(self.product.weight())
        self.onsite = nn.Parameter(torch.zeros(times, frequencies))
        start = settings.highest * torch.arange(1, frequencies + 1) / frequencies
        self.log_omega = nn.Parameter(start.log())
        self.kernels = kernels_of(settings.shape)

    @property
    def plain(self) -> bool:
        """Whether the product is a plain matrix, and not something that is read."""
        return type(self.product.base) is nn.Linear

    def moments(self, steps: int) -> list[Moment]:
        """The field at times 0, 1, ..., 2 `steps`, in units of half a step."""
        features = self._time_features(steps)
        onsite, omega = features @ self.onsite, self.log_omega.exp()
        operators = self._plain(features) if self.plain else self._measured(features, onsite)
        return [
            Moment(local, omega, operator)
            for local, operator in zip(onsite.unbind(), operators, strict=True)
        ]

    def _time_features(self, steps: int) -> Tensor:
        """cos(pi d t) at all times, (2 steps + 1, D)."""
        like = self.onsite
        t = torch.arange(2 * steps + 1, dtype=like.dtype, device=like.device) / (2 * steps)
        return torch.cos(math.pi * t[:, None] * torch.arange(len(like), device=like.device))

    def _plain(self, features: Tensor) -> list[Operator]:
        others = self.product.matrix().reshape(*self.onsite.shape, self.classes - 1)
        table = torch.cat([self.onsite[:, :, None], others / self.members], 2)
        return self.kernels.operators(torch.tensordot(features, table, 1))

    def _measured(self, features: Tensor, onsite: Tensor) -> list[Operator]:
        one_class = torch.eye(self.classes, dtype=features.dtype, device=features.device)[1:]
        means = self.kernels.operators((one_class / self.members[:, None])[:, None, :])
        return [
            Measured(self.product, means, at, local)
            for at, local in zip(features.unbind(), onsite.unbind(), strict=True)
        ]
