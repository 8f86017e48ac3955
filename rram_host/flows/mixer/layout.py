"""Which site belongs to which colour, patch and place within its patch."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["Group", "PatchLayout"]


@dataclass(frozen=True)
class Group:
    """Patches whose sites of one colour lie at the same places.

    Attributes:
        first: of the patches, in the order of `PatchLayout.patches`.
        last: one past the last of them.
        places: of the sites of that colour within each patch, row by row, shape (q,).
    """

    first: int
    last: int
    places: Tensor


@dataclass(frozen=True)
class PatchLayout:
    """Sites of an even periodic lattice cut into square patches, colour by colour.

    Sites of a colour are listed group by group, then by place within the patch, then by patch:
    the order in which a product over the patches of a group yields them.

    Attributes:
        shape: (L0, L1).
        patch: side p of a patch.
        patches: patches, numbered row by row, in the order of the groups, (V / p^2,).
        groups: for the even and for the odd sites.
        sites: flat indices n0 L1 + n1 of the even and of the odd sites, (2, V/2).
        entries: the same sites as patch p^2 + place, patches numbered row by row, (2, V/2).
    """

    shape: tuple[int, int]
    patch: int
    patches: Tensor
    groups: tuple[tuple[Group, ...], tuple[Group, ...]]
    sites: Tensor
    entries: Tensor

    @classmethod
    def of(cls, shape: tuple[int, int], patch: int) -> "PatchLayout":
        """Lists for even lengths that are multiples of `patch`."""
        cols = shape[1] // patch
        number = torch.arange(shape[0] // patch * cols)
        # a patch of odd side begins on an even or on an odd site; one of even side on an even one
        parity = (number // cols + number % cols) * patch % 2
        patches = torch.argsort(parity, stable=True)
        bounds = [0, *torch.cumsum(torch.bincount(parity), 0).tolist()]
        place = torch.arange(patch * patch)
        place_parity = (place // patch + place % patch) % 2

        def groups_of(colour: int) -> tuple[Group, ...]:
            return tuple(
                Group(first, last, place[place_parity == (colour + kind) % 2])
                for kind, (first, last) in enumerate(pairwise(bounds))
            )

        def entry(group: Group) -> Tensor:
            inside = group.places[:, None]
            return (patches[None, group.first : group.last] * patch**2 + inside).flatten()

        groups = groups_of(0), groups_of(1)
        entries = torch.stack([torch.cat([entry(group) for group in mine]) for mine in groups])
        at, inside = entries // patch**2, entries % patch**2
        n0 = at // cols * patch + inside // patch
        n1 = at % cols * patch + inside % patch
        return cls(shape, patch, patches, groups, n0 * shape[1] + n1, entries)
