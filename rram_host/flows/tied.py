"""Matrices tied by the symmetries of the lattice: one number for all pairs of like distance."""

import torch
from torch import Tensor, nn

from rram_host.flows.checkerboard import Checkerboard

__all__ = ["TiedMatrix", "distance_classes"]


class TiedMatrix(nn.Module):
    """A product whose matrix commutes with the lattice's symmetries; stands in for a dense one.

    Its hidden side is `channels` fields, one unit a site of the active colour. The weight between
    a unit and a site depends on their distance alone, up to reflections (and the exchange of axes,
    where both lengths are equal): a convolution with a kernel as wide as the lattice, written out
    as the dense matrix that an array holds.

    Attributes:
        kernel: one number a channel and distance, (channels, classes).
        offset: added to the dense matrix while set; None for nothing.
    """

    table: Tensor

    def __init__(self, table: Tensor, channels: int, *, to_hidden: bool) -> None:
        """Start at zero.

        Args:
            table: class of the distance between active site i and the site j it looks at,
                (V/2, V/2), as `distance_classes` gives it.
            channels: hidden fields.
            to_hidden: (channels V/2, V/2) if true, else (V/2, channels V/2).
        """
        super().__init__()
        self.to_hidden = to_hidden
        self.register_buffer("table", table, persistent=False)
        self.kernel = nn.Parameter(torch.zeros(channels, int(table.max()) + 1))
        self.offset: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """The dense matrix, differentiable in the kernel."""
        blocks = self.kernel[:, self.table]
        dense = blocks.flatten(0, 1) if self.to_hidden else torch.cat(blocks.unbind(), 1)
        return dense if self.offset is None else dense + self.offset

    def forward(self, x: Tensor) -> Tensor:
        """Multiply the vectors x (n, in); returns (n, out)."""
        return nn.functional.linear(x, self.weight)


def distance_classes(board: Checkerboard, *, across: bool) -> Tensor:
    """Class of the distance of every pair of sites, int64 (V/2, V/2).

    Args:
        board: the two colours.
        across: from active sites (rows) to frozen ones, else to active ones. Rows and columns are
            in the order of the even list; frozen sites in that of the odd list.
    """
    rows, cols = board.shape
    classes: dict[tuple[int, ...], int] = {}
    found = torch.empty(len(board.even), len(board.even), dtype=torch.long)
    other = board.odd if across else board.even
    for i, here in enumerate(board.even.tolist()):
        for j, there in enumerate(other.tolist()):
            apart = (there // cols - here // cols) % rows, (there - here) % cols
            key = (min(apart[0], rows - apart[0]), min(apart[1], cols - apart[1]))
            if rows == cols:
                key = (min(key), max(key))
            found[i, j] = classes.setdefault(key, len(classes))
    return found
