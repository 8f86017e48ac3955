"""Observables of scalar fields, one value for each configuration."""

import torch
from torch import Tensor

from rram_host.errors import InputError

__all__ = ["measure"]


def measure(phi: Tensor) -> dict[str, Tensor]:
    """Measure every configuration; averages and errors are the caller's.

    <phi> is 0 in phi^4 by symmetry, so nothing is subtracted anywhere.

    Args:
        phi: fields, shape (n, L, L), periodic.

    Returns:
        Tensors of phi's dtype, shape (n,) unless said otherwise:

        * "M": mean of phi over the V = L^2 sites; "absM": |M|.
        * "chi2": V M^2, whose mean is the susceptibility.
        * "E": Ising energy, mean over sites and both directions mu of phi(n) phi(n+mu) (eq. 26 of
          arXiv 2509.12812 with <phi> = 0).
        * "phi2": mean of phi^2.
        * "G": zero-momentum correlator, shape (n, L // 2 + 1): G(t) = mean over slices x of
          s(x) s(x+t), where s(x) is the mean (not the sum) of phi over slice x, averaged over
          both directions. Hence chi2 = L sum_{t=0}^{L-1} G(t).

    Raises:
        InputError: unless phi has shape (n, L, L).
    """
    if phi.dim() != 3 or phi.shape[1] != phi.shape[2]:
        raise InputError(f"observables need fields (n, L, L), got shape {tuple(phi.shape)}")
    m = phi.mean((1, 2))
    bonds = torch.roll(phi, -1, 1) + torch.roll(phi, -1, 2)
    return {
        "M": m,
        "absM": m.abs(),
        "chi2": phi.shape[1] * phi.shape[2] * m * m,
        "E": 0.5 * (phi * bonds).mean((1, 2)),
        "phi2": (phi * phi).mean((1, 2)),
        "G": 0.5 * (_slice_correlator(phi.mean(2)) + _slice_correlator(phi.mean(1))),
    }


def _slice_correlator(s: Tensor) -> Tensor:
    """Mean over x of s(x) s(x+t) for s (n, L); shape (n, L // 2 + 1)."""
    lags = range(s.shape[1] // 2 + 1)
    return torch.stack([(s * torch.roll(s, -t, 1)).mean(1) for t in lags], 1)
