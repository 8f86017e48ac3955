"""A Gaussian prior with a trained spectrum: the free part of a lattice theory, done digitally."""

import math

import torch
from torch import Tensor, nn

__all__ = ["SpectralPrior", "momentum_classes"]


class SpectralPrior(nn.Module):
    """Stationary Gaussian fields: x = F^-1 [exp(a(k)) F z], z standard normals.

    a depends on k only through its class under the lattice's reflections (and the exchange of axes,
    where both lengths are equal), so x keeps every symmetry of the lattice. The map is its own
    transpose, and

        log q(x) = log N(z) - sum_k a(k).

    At start exp(2 a(k)) = 1 / (stiffness khat^2 + mass2), khat^2 = sum_mu 4 sin^2(k_mu / 2): the
    propagator of a free field with that action.

    Attributes:
        log_amplitude: a, one number a class, (classes,).
    """

    full: Tensor
    rfft: Tensor

    def __init__(self, shape: tuple[int, int], stiffness: float, mass2: float) -> None:
        """Start at the propagator of a free field.

        Args:
            shape: lattice (L0, L1).
            stiffness: in front of khat^2, > 0.
            mass2: constant part, > 0.
        """
        super().__init__()
        self.shape = shape
        full = momentum_classes(shape)
        self.register_buffer("full", full, persistent=False)
        self.register_buffer("rfft", full[:, : shape[1] // 2 + 1].contiguous(), persistent=False)
        start = torch.empty(int(full.max()) + 1)
        start[full.flatten()] = -0.5 * torch.log(stiffness * _khat2(shape) + mass2).flatten()
        self.log_amplitude = nn.Parameter(start)

    @property
    def width(self) -> float:
        """Standard deviation of one site of x."""
        with torch.no_grad():
            return math.sqrt(float(torch.exp(2.0 * self.log_amplitude[self.full]).mean()))

    def field(self, z: Tensor) -> Tensor:
        """Fields x (n, V) of standard normals z (n, V), in the dtype of z."""
        return self._filter(z, self.log_amplitude)

    def whitened(self, x: Tensor) -> Tensor:
        """The z (n, V) of x (n, V): the inverse of `field`."""
        return self._filter(x, -self.log_amplitude)

    def log_density(self, z: Tensor) -> Tensor:
        """Density log q (n,) of the field that z (n, V) makes."""
        volume = z.shape[1]
        log_det = self.log_amplitude.to(z.dtype)[self.full].sum()
        return -0.5 * (z * z).sum(1) - 0.5 * volume * math.log(2.0 * math.pi) - log_det

    def by_class(self, values: Tensor) -> Tensor:
        """One value of each class, (classes,), of values by momentum, (L0, L1)."""
        found = torch.empty_like(self.log_amplitude)
        found[self.full.flatten()] = values.flatten().to(found)
        return found.detach()

    def _filter(self, values: Tensor, log_factor: Tensor) -> Tensor:
        factor = log_factor.to(values.dtype).exp()[self.rfft]
        modes = torch.fft.rfft2(values.reshape(-1, *self.shape)) * factor
        filtered: Tensor = torch.fft.irfft2(modes, s=self.shape)
        return filtered.flatten(1)


def momentum_classes(shape: tuple[int, int]) -> Tensor:
    """The class of every momentum under the lattice's symmetries, int64 of the lattice's shape.

    Momenta (k0, k1), (-k0, k1) and (k0, -k1) share a class, and (k1, k0) where L0 = L1.
    """
    classes: dict[tuple[int, ...], int] = {}
    found = torch.empty(shape, dtype=torch.long)
    for i in range(shape[0]):
        for j in range(shape[1]):
            key = (min(i, shape[0] - i), min(j, shape[1] - j))
            if shape[0] == shape[1]:
                key = (min(key), max(key))
            found[i, j] = classes.setdefault(key, len(classes))
    return found


# in float32, unlike `gaussian.khat_squared`: to the last bit what the shipped flows began with
def _khat2(shape: tuple[int, int]) -> Tensor:
    parts = [4.0 * torch.sin(math.pi * torch.arange(n) / n) ** 2 for n in shape]
    return parts[0][:, None] + parts[1][None, :]
