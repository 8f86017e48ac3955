"""The Gaussian prior with a spectrum."""

import math

import pytest
import torch

from rram_host.flows.prior import SpectralPrior, momentum_classes
from rram_host.lattice.actions import GrapheneAction

_SHAPES = [(4, 4), (2, 6), (6, 4), (3, 5), (12, 12)]


def _bent(shape: tuple[int, int]) -> SpectralPrior:
    prior = SpectralPrior(shape, 2.0, 0.9).double()
    with torch.no_grad():
        noise = torch.randn(prior.log_amplitude.shape, generator=torch.Generator().manual_seed(1))
        prior.log_amplitude += 0.3 * noise
    return prior


@pytest.mark.parametrize("shape", _SHAPES)
def test_density_is_that_of_the_filtered_normals(shape: tuple[int, int]) -> None:
    prior = _bent(shape)
    volume = shape[0] * shape[1]
    matrix = prior.field(torch.eye(volume, dtype=torch.float64)).detach()
    torch.testing.assert_close(matrix, matrix.T)  # symmetric: its own transpose
    z = torch.randn(5, volume, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(prior.field(z).detach(), z @ matrix)
    torch.testing.assert_close(prior.whitened(prior.field(z)), z)
    expected = (
        -0.5 * (z * z).sum(1)
        - 0.5 * volume * math.log(2 * math.pi)
        - torch.linalg.slogdet(matrix).logabsdet
    )
    torch.testing.assert_close(prior.log_density(z).detach(), expected)
    assert prior.width == pytest.approx(float((matrix @ matrix).diagonal().mean().sqrt()))


def test_starts_as_a_free_field() -> None:
    # at u = 0 the action of a graphene wire is a free field: its weights are then all equal
    action = GrapheneAction(g=1.0, m_over_g=0.0)
    prior = SpectralPrior((4, 6), 1.0, 1.0 / math.pi).double()
    z = torch.randn(50, 24, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    log_w = -action(prior.field(z).reshape(-1, 4, 6)) - prior.log_density(z)
    assert float(log_w.detach().std()) < 1e-5  # the start is kept in float32


@pytest.mark.parametrize("shape", _SHAPES)
def test_filter_has_the_symmetries_of_the_lattice(shape: tuple[int, int]) -> None:
    prior = _bent(shape)
    z = torch.randn(3, *shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    x = prior.field(z.flatten(1)).reshape(-1, *shape)
    moves = [lambda t: t.roll((1, 2), (1, 2)), lambda t: t.flip(1)]
    if shape[0] == shape[1]:
        moves.append(lambda t: t.transpose(1, 2))
    for move in moves:
        moved = prior.field(move(z).flatten(1)).reshape(-1, *shape)
        torch.testing.assert_close(moved, move(x))


def test_classes_of_a_square_lattice() -> None:
    assert int(momentum_classes((12, 12)).max()) + 1 == 28  # pairs out of 0..6
    assert int(momentum_classes((4, 6)).max()) + 1 == 12
