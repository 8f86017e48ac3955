"""What all flows share: draws of the prior, sampling, density by the inverse."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from rram_host.errors import InputError, require_whole

__all__ = ["LatticeFlow"]


class LatticeFlow(nn.Module, ABC):
    """A flow over fields on one lattice; a kind adds `push`, `inverse` and `products`.

    Attributes:
        settings: of the kind; they have a shape (L0, L1).
    """

    settings: Any

    @property
    def shape(self) -> tuple[int, int]:
        """The lattice (L0, L1)."""
        rows, cols = self.settings.shape
        return rows, cols

    @abstractmethod
    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Fields phi (n, L0, L1) and log q (n,) of prior draws z."""

    @abstractmethod
    def inverse(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        """Prior draws z (n, V) and log q (n,) of fields phi (n, L0, L1)."""

    def draw(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """Prior draws z for `push`: standard normals, (n, V).

        Raises:
            InputError: for n below 1 or not whole.
        """
        require_whole(n=n)
        if n < 1:
            raise InputError(f"a flow draws at least 1 field, asked {n}")
        rows, cols = self.shape
        return torch.randn(n, rows * cols, generator=generator, dtype=dtype)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw n fields, as `push` of fresh float64 draws.

        Returns:
            phi (n, L0, L1) and log q (n,), float64.

        Raises:
            InputError: for n below 1 or not whole.
        """
        return self.push(self.draw(n, generator))

    def log_prob(self, phi: Tensor) -> Tensor:
        """Density log q (n,) of fields phi (n, L0, L1), float64, by `inverse`."""
        return self.inverse(phi)[1]

    def _flat(self, field: Tensor) -> Tensor:
        rows, cols = self.shape
        # of whole numbers, the amplitudes of a prior would be cut to whole numbers, too
        if not isinstance(field, Tensor) or not field.is_floating_point():
            kind = f"{type(field).__name__} of {getattr(field, 'dtype', 'no dtype')}"
            raise InputError(f"this flow takes a torch tensor of floats, got {kind}")
        if field.shape[:1] == (0,) or tuple(field.shape[1:]) not in ((rows * cols,), self.shape):
            raise InputError(
                f"this flow takes (n, {rows}, {cols}) or (n, {rows * cols}), n >= 1, "
                f"got {tuple(field.shape)}"
            )
        return field.flatten(1)
