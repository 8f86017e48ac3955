"""The lists of even and odd sites, and the translation between them."""

import pytest
import torch

from rram_host.errors import InputError
from rram_host.flows.checkerboard import Checkerboard


@pytest.mark.parametrize("shape", [(2, 2), (4, 4), (4, 6), (6, 4), (2, 8)])
def test_colours_partition_the_lattice_and_match_by_translation(shape: tuple[int, int]) -> None:
    board = Checkerboard.of(shape)
    rows, cols = shape
    flat = torch.arange(rows * cols)
    assert torch.equal(torch.cat([board.even, board.odd])[board.merge], flat)
    assert ((board.even // cols + board.even % cols) % 2 == 0).all()

    def moved(sites: torch.Tensor) -> torch.Tensor:
        return sites // cols * cols + (sites % cols + 1) % cols

    assert torch.equal(moved(board.even), board.odd)
    assert torch.equal(moved(board.odd), board.even[board.shift])


@pytest.mark.parametrize("shape", [(3, 4), (4, 5), (0, 4)])
def test_refuses_odd_lengths(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="even lengths"):
        Checkerboard.of(shape)
