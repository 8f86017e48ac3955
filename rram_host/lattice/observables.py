"""Observables of scalar fields, one value for each configuration."""

import math

import torch
from torch import Tensor

from rram_host.errors import InputError

__all__ = ["measure", "time_axis"]


def measure(phi: Tensor) -> dict[str, Tensor]:
    """Measure every configuration; averages and errors are the caller's.

    <phi> is 0 by symmetry in phi^4 and in the graphene wire, so nothing is subtracted anywhere.

    Args:
        phi: fields, shape (n, L0, L1), periodic.

    Returns:
        Tensors of phi's dtype, shape (n,) unless said otherwise:

        * "M": mean of phi over the V = L0 L1 sites; "absM": |M|; "M4": M^4 (Binder cumulant).
        * "chi2": V M^2, whose mean is the susceptibility.
        * "E": Ising energy, mean over sites and both directions mu of phi(n) phi(n+mu) (eq. 26 of
          arXiv 2509.12812 with <phi> = 0).
        * "phi2": mean of phi^2; "cos": mean of cos(2 sqrt(pi) phi) (chiral condensate, eq. 39).
        * "G": zero-momentum correlator, shape (n, T // 2 + 1), T the longer length: G(t) = mean
          over slices x of s(x) s(x+t), where s(x) is the mean (not the sum) of phi over the slice
          x across the longer axis; on a square lattice averaged over both directions. Hence
          chi2 = (V / T) sum_{t=0}^{T-1} G(t).

    Raises:
        InputError: unless phi is a tensor of floats of shape (n, L0, L1), lengths >= 1.
    """
    if not isinstance(phi, Tensor) or not phi.is_floating_point():
        kind = f"{type(phi).__name__} of {getattr(phi, 'dtype', 'no dtype')}"
        raise InputError(f"observables need a torch tensor of floats, got {kind}")
    if phi.dim() != 3 or min(phi.shape[1:]) < 1:
        raise InputError(f"observables need fields (n, L0, L1), got shape {tuple(phi.shape)}")
    m = phi.mean((1, 2))
    square = m * m
    bonds = torch.roll(phi, -1, 1) + torch.roll(phi, -1, 2)
    return {
        "M": m,
        "absM": m.abs(),
        "M4": square * square,
        "chi2": phi.shape[1] * phi.shape[2] * square,
        "E": 0.5 * (phi * bonds).mean((1, 2)),
        "phi2": (phi * phi).mean((1, 2)),
        "cos": torch.cos(2.0 * math.sqrt(math.pi) * phi).mean((1, 2)),
        "G": _correlator(phi),
    }


def time_axis(shape: tuple[int, int]) -> int:
    """The axis along which correlators are taken: the longer one, 0 on a square lattice."""
    return 0 if shape[0] >= shape[1] else 1


def _correlator(phi: Tensor) -> Tensor:
    length0, length1 = phi.shape[1:]
    if length0 == length1:
        return 0.5 * (_slice_correlator(phi.mean(2)) + _slice_correlator(phi.mean(1)))
    return _slice_correlator(phi.mean(2 - time_axis((length0, length1))))


def _slice_correlator(s: Tensor) -> Tensor:
    """Mean over x of s(x) s(x+t) for s (n, T); shape (n, T // 2 + 1)."""
    lags = range(s.shape[1] // 2 + 1)
    return torch.stack([(s * torch.roll(s, -t, 1)).mean(1) for t in lags], 1)
