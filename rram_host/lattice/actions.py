"""Euclidean lattice actions; the weight of a field is exp(-S)."""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from rram_host.errors import InputError

__all__ = ["Action", "Phi4Action"]


class Action(Protocol):
    """A real scalar action on periodic two-dimensional lattices."""

    @property
    def name(self) -> str:
        """Short name, as written into files."""
        ...

    def __call__(self, phi: Tensor) -> Tensor:
        """Action S (n,) of the fields phi (n, L0, L1)."""
        ...

    def force(self, phi: Tensor) -> Tensor:
        """Gradient dS/dphi, of phi's shape."""
        ...


@dataclass(frozen=True)
class Phi4Action:
    """Action of phi^4 theory on a periodic square lattice, lattice spacing 1.

    S = sum_n phi(n) [4 phi(n) - sum_{4 neighbours} phi] + m2 phi(n)^2 + lam phi(n)^4

    (eq. 22 of arXiv 2509.12812; there is no factor 1/2 before the kinetic term). S is invariant
    under translations, the lattice's rotations and reflections, and phi -> -phi.

    Attributes:
        m2: bare mass squared, any finite number (-4 in the paper).
        lam: quartic coupling, > 0 (5 to 6 in the paper).

    Raises:
        InputError: for values that do not give a normalisable weight.
    """

    m2: float
    lam: float
    name: ClassVar[str] = "phi4"

    def __post_init__(self) -> None:
        if not math.isfinite(self.m2):
            raise InputError(f"m2 must be finite, got {self.m2}")
        if not (math.isfinite(self.lam) and self.lam > 0.0):
            raise InputError(f"lam must be > 0 for a normalisable weight, got {self.lam}")

    def __call__(self, phi: Tensor) -> Tensor:
        """Action S of each field.

        Args:
            phi: fields, shape (n, L0, L1).

        Returns:
            S, shape (n,).

        Raises:
            InputError: for a tensor that is not three-dimensional.
        """
        _check(phi)
        square = phi * phi
        # Every bond once: phi(n) [phi(n+0) + phi(n+1)] is half of the sum over four neighbours.
        ahead = torch.roll(phi, -1, 1) + torch.roll(phi, -1, 2)
        density = square * (4.0 + self.m2 + self.lam * square) - 2.0 * phi * ahead
        return density.sum((1, 2))

    def force(self, phi: Tensor) -> Tensor:
        """Gradient dS/dphi(n) = 2 (4 + m2) phi - 2 sum_{4 neighbours} phi + 4 lam phi^3.

        Args:
            phi: fields, shape (n, L0, L1).

        Returns:
            The gradient, of phi's shape.

        Raises:
            InputError: for a tensor that is not three-dimensional.
        """
        _check(phi)
        around = torch.roll(phi, 1, 1) + torch.roll(phi, -1, 1)
        around = around + torch.roll(phi, 1, 2) + torch.roll(phi, -1, 2)
        return phi * (2.0 * (4.0 + self.m2) + 4.0 * self.lam * phi * phi) - 2.0 * around


def _check(phi: Tensor) -> None:
    if phi.dim() != 3:
        raise InputError(f"an action takes fields (n, L0, L1), got shape {tuple(phi.shape)}")
