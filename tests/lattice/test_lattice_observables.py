"""Observables against their definitions."""

import math

import pytest
import torch

from rram_host.errors import InputError
from rram_host.lattice.observables import measure


def _phi(n: int = 5, length: int = 6) -> torch.Tensor:
    return torch.randn(
        n, length, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )


def test_definitions_site_by_site() -> None:
    phi, length = _phi(1), 6
    found = measure(phi)
    field = phi[0].tolist()
    total = sum(map(sum, field))
    assert float(found["M"]) == pytest.approx(total / 36)
    assert float(found["absM"]) == pytest.approx(abs(total) / 36)
    assert float(found["chi2"]) == pytest.approx(total**2 / 36)
    energy = sum(
        field[i][j] * (field[(i + 1) % 6][j] + field[i][(j + 1) % 6])
        for i in range(length)
        for j in range(length)
    )
    assert float(found["E"]) == pytest.approx(energy / 72)
    assert float(found["phi2"]) == pytest.approx(sum(v * v for row in field for v in row) / 36)


def test_correlator_sums_to_the_susceptibility() -> None:
    phi = _phi()
    found = measure(phi)
    g = found["G"]
    assert g.shape == (5, 4)
    full = g[:, 0] + 2 * g[:, 1] + 2 * g[:, 2] + g[:, 3]
    torch.testing.assert_close(6 * full, found["chi2"])


def test_correlator_of_a_plane_wave_averages_both_directions() -> None:
    x = torch.arange(8, dtype=torch.float64)
    wave = torch.cos(2 * torch.pi * x / 8)
    phi = wave[None, :, None].expand(1, 8, 8)
    # along axis 0 slices are the wave: G(t) = cos(2 pi t / 8) / 2; along axis 1 they vanish
    expected = 0.5 * 0.5 * torch.cos(2 * torch.pi * torch.arange(5, dtype=torch.float64) / 8)
    torch.testing.assert_close(measure(phi)["G"][0], expected)


def test_symmetries() -> None:
    phi = _phi()
    plain = measure(phi)
    for image in (phi.roll((2, 3), (1, 2)), phi.transpose(1, 2), phi.flip(2), -phi):
        moved = measure(image)
        for name in ("absM", "chi2", "E", "phi2", "G", "M4", "cos"):
            torch.testing.assert_close(moved[name], plain[name])
    torch.testing.assert_close(measure(-phi)["M"], -plain["M"])


@pytest.mark.parametrize("turned", [False, True])
def test_rectangular_lattices_are_measured_along_the_longer_axis(turned: bool) -> None:
    phi = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = measure(phi.transpose(1, 2) if turned else phi)
    slices = phi.mean(2)
    expected = [(slices * slices.roll(-t, 1)).mean(1) for t in range(5)]
    torch.testing.assert_close(found["G"], torch.stack(expected, 1))
    g = found["G"]
    full = g[:, 0] + 2 * (g[:, 1] + g[:, 2] + g[:, 3]) + g[:, 4]
    torch.testing.assert_close(4 * full, found["chi2"])  # V / T = 4 sites across
    ahead = phi.roll(-1, 1) + phi.roll(-1, 2)
    torch.testing.assert_close(found["E"], (phi * ahead).mean((1, 2)) / 2)


def test_moments_and_cosine() -> None:
    phi = _phi(2)
    found = measure(phi)
    torch.testing.assert_close(found["M4"], found["M"] ** 4)
    assert float(found["cos"][1]) == pytest.approx(
        sum(math.cos(2 * math.sqrt(math.pi) * v) for v in phi[1].flatten().tolist()) / 36
    )


@pytest.mark.parametrize("shape", [(4, 4), (2, 0, 4), (1, 2, 3, 4)])
def test_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"\(n, L0, L1\)"):
        measure(torch.zeros(shape))


def test_refuses_what_is_no_tensor_of_floats() -> None:
    with pytest.raises(InputError, match="torch tensor of floats, got ndarray of float64"):
        measure(_phi(2).numpy())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="torch tensor of floats, got Tensor of torch.int64"):
        measure(torch.ones(2, 4, 4, dtype=torch.int64))
