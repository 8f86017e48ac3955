"""Pairs of an odd and an even bounded function for hidden units, with their derivatives."""

from typing import Protocol

import torch
from torch import Tensor

__all__ = ["ACTIVATIONS", "Activation"]


class Activation(Protocol):
    """An odd and an even function of the same number."""

    def values(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The odd and the even function of u, of u's shape."""
        ...

    def slopes(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Their derivatives at u."""
        ...


class Tanh:
    """The functions tanh u and tanh^2 u."""

    def values(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Both, from one tanh."""
        odd = torch.tanh(u)
        return odd, odd * odd

    def slopes(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """1 - tanh^2 u, and 2 tanh u (1 - tanh^2 u)."""
        odd = torch.tanh(u)
        slope = 1.0 - odd * odd
        return slope, 2.0 * odd * slope


class Sine:
    """The functions sin u and 1 - cos u: what a cosine in the action asks of its neighbours."""

    def values(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Both."""
        return torch.sin(u), 1.0 - torch.cos(u)

    def slopes(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The functions cos u and sin u."""
        return torch.cos(u), torch.sin(u)


ACTIVATIONS: dict[str, Activation] = {"tanh": Tanh(), "sin": Sine()}
"""Every pair by the name that settings call it."""
