"""The two colours of a periodic lattice, and the translation that maps one onto the other."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rram_host.errors import InputError

__all__ = ["Checkerboard"]


@dataclass(frozen=True)
class Checkerboard:
    """Even and odd sites of a periodic L0 x L1 lattice, in matching order.

    Site j of the odd list is site j of the even list moved by one along the last axis. Seen from
    the odd sublattice, the frozen neighbours are the even sites in the order `shift`: entry j is
    the place, in the even list, of even site j moved by two. With it a network that has learnt
    "active even, frozen odd" serves "active odd, frozen even" unchanged.

    Attributes:
        shape: (L0, L1), both even.
        even: flat indices n0 L1 + n1 of the sites with n0 + n1 even, shape (V/2,).
        odd: flat indices of the others, shape (V/2,).
        shift: order of the even list as seen from the odd sites, shape (V/2,).
        merge: order that brings (even, odd) back to flat site order, shape (V,).
    """

    shape: tuple[int, int]
    even: Tensor
    odd: Tensor
    shift: Tensor
    merge: Tensor

    @classmethod
    def of(cls, shape: tuple[int, int]) -> "Checkerboard":
        """Build the lists for a lattice of the given shape.

        Raises:
            InputError: unless both lengths are even and at least 2.
        """
        rows, cols = shape
        if rows < 2 or cols < 2 or rows % 2 or cols % 2:
            raise InputError(f"a checkerboard needs even lengths >= 2, asked {rows} x {cols}")
        sites = [(i, j) for i in range(rows) for j in range(cols) if (i + j) % 2 == 0]
        even = torch.tensor([i * cols + j for i, j in sites])
        odd = torch.tensor([i * cols + (j + 1) % cols for i, j in sites])
        place = {site: k for k, site in enumerate(sites)}
        shift = torch.tensor([place[i, (j + 2) % cols] for i, j in sites])
        return cls((rows, cols), even, odd, shift, torch.argsort(torch.cat([even, odd])))
