"""What any sampler of lattice fields with a known density must offer."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = ["Flow"]


@runtime_checkable
class Flow(Protocol):
    """A distribution q over fields phi of shape (L0, L1), whose density is exact as computed."""

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw n fields; returns phi (n, L0, L1) and log q (n,), normalised, in nats."""
        ...

    def log_prob(self, phi: Tensor) -> Tensor:
        """Logarithm of the density of phi (n, L0, L1), shape (n,), normalised, in nats."""
        ...
