"""Monotone maps of one site, with their slopes, curvatures and inverses."""

from typing import Protocol

import torch
from torch import Tensor

from rram_host.errors import InputError

__all__ = ["BENDS", "Bend", "SineBend", "TanhBend"]

_MAX_ITERATIONS = 200


class Bend(Protocol):
    """An odd increasing map h of the real line, with three parameters of any value."""

    start: tuple[float, float, float]

    def constants(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the formulas take, of the free parameters (3,)."""
        ...

    def forward(self, x: Tensor, constants: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """h(x) and its slope, both of x's shape."""
        ...

    def curvature(self, x: Tensor, constants: tuple[Tensor, ...]) -> Tensor:
        """Second derivative h''(x)."""
        ...

    def bracket(self, y: Tensor, constants: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Two bounds between which h(x) = y >= 0 has its root."""
        ...


class TanhBend:
    """h(x) = alpha x + beta tanh(gamma x), all three > 0: the parameters are their logarithms.

    The on-site weight of phi^4 is quartic: its tails are lighter than the prior's, and tanh takes
    the wide part of a Gaussian in faster than an affine map can.
    """

    start = (-0.22314355, -1.6094379, 0.0)  # log of 0.8, 0.2, 1: slope 1 at the origin

    def constants(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """alpha, beta, gamma."""
        alpha, beta, gamma = raw.exp().unbind()
        return alpha, beta, gamma

    def forward(self, x: Tensor, constants: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """h(x), and h'(x) = alpha + beta gamma (1 - tanh^2(gamma x))."""
        alpha, beta, gamma = constants
        bend = torch.tanh(gamma * x)
        return alpha * x + beta * bend, alpha + beta * gamma * (1.0 - bend * bend)

    def curvature(self, x: Tensor, constants: tuple[Tensor, ...]) -> Tensor:
        """Curvature -2 beta gamma^2 tanh (1 - tanh^2) at gamma x."""
        _, beta, gamma = constants
        bend = torch.tanh(gamma * x)
        return -2.0 * beta * gamma * gamma * bend * (1.0 - bend * bend)

    def bracket(self, y: Tensor, constants: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The map lies below (alpha + beta gamma) x and alpha x + beta, and above alpha x."""
        alpha, beta, gamma = constants
        return torch.maximum(y / (alpha + beta * gamma), (y - beta) / alpha), y / alpha


class SineBend:
    """h(x) = alpha [x + rho sin(gamma x) / gamma], alpha, gamma > 0, |rho| < 1.

    For a weight with a cosine of the field: the map follows its wells and hills. The parameters are
    log alpha, atanh rho and log gamma.
    """

    start = (0.0, 0.0, 1.2655121)  # gamma = 2 sqrt(pi), as in the action of a graphene wire

    def constants(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """alpha, rho, gamma."""
        return raw[0].exp(), torch.tanh(raw[1]), raw[2].exp()

    def forward(self, x: Tensor, constants: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """h(x), and h'(x) = alpha [1 + rho cos(gamma x)]."""
        alpha, rho, gamma = constants
        angle = gamma * x
        value = alpha * (x + rho / gamma * torch.sin(angle))
        return value, alpha * (1.0 + rho * torch.cos(angle))

    def curvature(self, x: Tensor, constants: tuple[Tensor, ...]) -> Tensor:
        """Curvature -alpha rho gamma sin(gamma x)."""
        alpha, rho, gamma = constants
        return -alpha * rho * gamma * torch.sin(gamma * x)

    def bracket(self, y: Tensor, constants: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The map differs from alpha x by at most alpha |rho| / gamma."""
        alpha, rho, gamma = constants
        reach = rho.abs() / gamma
        return (y / alpha - reach).clamp(min=0.0), y / alpha + reach


BENDS: dict[str, Bend] = {"tanh": TanhBend(), "sin": SineBend()}
"""Every map by the name that settings call it."""


def invert(bend: Bend, y: Tensor, constants: tuple[Tensor, ...]) -> Tensor:
    """Solve h(x) = y for x to rounding, by Newton's method kept inside a bracket.

    A step that leaves the bracket is replaced by bisection; the bracket shrinks with every value
    seen, so this converges for every increasing map.

    Args:
        bend: the map h.
        y: any shape, float64 for a result good to 1e-12.
        constants: of the map.

    Returns:
        x, of y's shape.

    Raises:
        InputError: if y is not finite or the iteration does not settle.
    """
    target = y.abs()
    if not bool(torch.isfinite(target).all()):
        raise InputError("the inverse of a flow was asked for a field that is not finite")
    low, high = bend.bracket(target, constants)
    x = low
    eps = torch.finfo(y.dtype).eps
    for _ in range(_MAX_ITERATIONS):
        value, slope = bend.forward(x, constants)
        excess = value - target
        low, high = torch.where(excess < 0, x, low), torch.where(excess > 0, x, high)
        newton = x - excess / slope
        inside = (newton >= low) & (newton <= high)
        moved = torch.where(inside, newton, 0.5 * (low + high))
        settled = (moved - x).abs() <= 16.0 * eps * (1.0 + x.abs())
        # h(x) itself is no better than the rounding of its terms, alpha x the largest
        exact = excess.abs() <= 4.0 * eps * (target + constants[0] * x.abs())
        x = moved
        if bool((settled | exact).all()):
            return torch.copysign(x, y)
    raise InputError(
        f"the inverse of a flow did not settle in {_MAX_ITERATIONS} steps (constants "
        f"{', '.join(f'{float(c):.3g}' for c in constants)})"
    )
