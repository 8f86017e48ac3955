"""The monotone map of one site, h(x) = alpha x + beta tanh(gamma x), and its inverse."""

import torch
from torch import Tensor

from rram_host.errors import InputError

__all__ = ["map_derivative", "map_forward", "map_inverse"]

_MAX_ITERATIONS = 100


def map_forward(x: Tensor, alpha: Tensor, beta: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """Apply h(x) = alpha x + beta tanh(gamma x), alpha, beta, gamma > 0.

    The on-site weight of phi^4 is quartic: its tails are lighter than the prior's, and tanh takes
    the wide part of a Gaussian in faster than an affine map can.

    Args:
        x: any shape.
        alpha: slope at infinity, scalar.
        beta: height of the bend, scalar.
        gamma: steepness of the bend, scalar.

    Returns:
        h(x) and tanh(gamma x), both of x's shape; `map_derivative` takes the second.
    """
    bend = torch.tanh(gamma * x)
    return alpha * x + beta * bend, bend


def map_derivative(bend: Tensor, alpha: Tensor, beta: Tensor, gamma: Tensor) -> Tensor:
    """Slope dh/dx = alpha + beta gamma (1 - bend^2) > 0, with bend = tanh(gamma x)."""
    return alpha + beta * gamma * (1.0 - bend * bend)


def map_inverse(y: Tensor, alpha: Tensor, beta: Tensor, gamma: Tensor) -> Tensor:
    """Solve h(x) = y for x by Newton's method, to rounding.

    h is odd, and concave for x > 0; both (alpha + beta gamma) x and alpha x + beta lie above it
    there. Newton's iteration from below the root of a concave increasing function rises to it
    without overshooting, so it converges from max(y / (alpha + beta gamma), (y - beta) / alpha)
    for every y.

    Args:
        y: any shape, float64 for a result good to 1e-12.
        alpha: scalar, > 0.
        beta: scalar, > 0.
        gamma: scalar, > 0.

    Returns:
        x, of y's shape.

    Raises:
        InputError: if y is not finite or the iteration does not settle.
    """
    target = y.abs()
    if not bool(torch.isfinite(target).all()):
        raise InputError("the inverse of a flow was asked for a field that is not finite")
    x = torch.maximum(target / (alpha + beta * gamma), (target - beta) / alpha)
    tolerance = 16.0 * torch.finfo(y.dtype).eps
    for _ in range(_MAX_ITERATIONS):
        value, bend = map_forward(x, alpha, beta, gamma)
        change = (target - value) / map_derivative(bend, alpha, beta, gamma)
        x = x + change
        if bool((change.abs() <= tolerance * (1.0 + x.abs())).all()):
            return torch.copysign(x, y)
    raise InputError(
        f"the inverse of a flow did not settle in {_MAX_ITERATIONS} Newton steps "
        f"(alpha {float(alpha):.3g}, beta {float(beta):.3g}, gamma {float(gamma):.3g})"
    )
