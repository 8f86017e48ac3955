"""Exact values: phi^4 on 4 x 4 sites, m2 = -4, and the free field on any lattice."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rram_host.errors import InputError
from rram_host.lattice.actions import Action, GrapheneAction

__all__ = ["EXACT_M2", "ExactValues", "exact_4x4", "free_field"]

EXACT_M2 = -4.0


@dataclass(frozen=True)
class ExactValues:
    """Exact expectation values of one action on one lattice.

    Attributes:
        log_z: log of Z = integral exp(-S) over the V sites.
        abs_m: <|M|>, M = mean of phi.
        chi2: V <M^2>.
        energy: Ising energy, mean over the two directions of <phi(n) phi(n+mu)>.
        phi2: <phi^2>.
        g: zero-momentum correlator G(t) = <s(0) s(t)>, s = mean of phi over a slice, for
            t = 0 .. T // 2, T the longer length.
        cos: <cos(2 sqrt(pi) phi)>.
        u4: Binder cumulant 1 - <M^4> / (3 <M^2>^2).
        gap: lowest energy above the vacuum of the states that s makes, in lattice units, of slices
            of this width and infinite length in the direction of t.
    """

    log_z: float
    abs_m: float
    chi2: float
    energy: float
    phi2: float
    g: tuple[float, ...]
    cos: float
    u4: float
    gap: float


_VALUES = {
    5.0: ExactValues(
        log_z=5.6710073,
        abs_m=0.34377245,
        chi2=2.316422,
        energy=0.15570663,
        phi2=0.25074494,
        g=(0.17439758, 0.13839382, 0.12792029),
        cos=0.01092677,
        u4=0.4804472,
        gap=0.345779,
    ),
    5.5: ExactValues(
        log_z=4.8694903,
        abs_m=0.29258381,
        chi2=1.7594541,
        energy=0.12147216,
        phi2=0.21948256,
        g=(0.14067938, 0.10337929, 0.092425565),
        cos=0.09714761,
        u4=0.4252416,
        gap=0.4403638,
    ),
    6.0: ExactValues(
        log_z=4.217724,
        abs_m=0.25422104,
        chi2=1.3793922,
        energy=0.097759338,
        phi2=0.19683829,
        g=(0.11719257, 0.079544782, 0.068565901),
        cos=0.163307,
        u4=0.374542,
        gap=0.5274106,
    ),
}


def exact_4x4(lam: float) -> ExactValues:
    """Exact values of the 4 x 4 lattice at m2 = -4.

    Source: the transfer matrix of one slice, two programs with quadratures of their own that agree
    to 1e-7; one is `transfer_matrix.exact_values`, which makes these with 10 points in 20 s.

    Args:
        lam: quartic coupling; 5, 5.5 or 6.

    Raises:
        InputError: for a coupling without stored values.
    """
    values = _VALUES.get(float(lam))
    if values is None:
        known = ", ".join(str(key) for key in _VALUES)
        raise InputError(f"no exact 4 x 4 values at lam = {lam}; known: {known}")
    return values


def free_field(action: Action, shape: tuple[int, int]) -> ExactValues:
    """Exact values of the graphene wire at m = 0, a free field of mass mu = g / sqrt(pi).

    Every mode k is Gaussian with <|phi_k|^2> = D(k) = 1 / (khat^2 + mu^2), khat^2 = sum over the
    two directions of 4 sin^2(k / 2). So log Z = 1/2 sum_k log(2 pi D(k)) (the determinant),
    chi2 = D(0) = pi / g^2, phi^2 = mean of D, E = mean of D(k) (cos k_0 + cos k_1) / 2, G(t) the
    transform of D at zero momentum across, <cos(c phi)> = exp(-c^2 <phi^2> / 2),
    gap = 2 asinh(mu / 2) on every lattice.

    Args:
        action: a graphene wire with m_over_g = 0.
        shape: lattice (L0, L1).

    Raises:
        InputError: for an action that is not free, or a shape that is not two lengths >= 1.
    """
    if not isinstance(action, GrapheneAction) or action.u != 0.0:
        raise InputError(f"the free field is the graphene wire with m_over_g = 0, not {action}")
    if len(shape) != 2 or min(shape) < 1:
        raise InputError(f"a lattice needs two lengths >= 1, asked {shape}")
    across, along = (2.0 * math.pi * np.arange(n) / n for n in sorted(shape))
    mass2 = action.g**2 / math.pi
    cosines = np.cos(across)[:, None] + np.cos(along)
    d = 1.0 / (4.0 - 2.0 * cosines + mass2)
    phi2 = float(d.mean())
    return ExactValues(
        log_z=0.5 * float(np.log(2.0 * math.pi * d).sum()),
        abs_m=math.sqrt(2.0 / (math.pi * mass2 * d.size)),
        chi2=1.0 / mass2,
        energy=0.5 * float((d * cosines).mean()),
        phi2=phi2,
        g=_correlator(d[0], along, len(across)),
        cos=math.exp(-2.0 * math.pi * phi2),
        u4=0.0,
        gap=2.0 * math.asinh(0.5 * math.sqrt(mass2)),
    )


def _correlator(
    d: NDArray[np.float64], momenta: NDArray[np.float64], width: int
) -> tuple[float, ...]:
    """G(t) = sum_k D(k) cos(k t) / V."""
    length = len(momenta)
    t = np.arange(length // 2 + 1)
    return tuple(float(v) for v in np.cos(np.outer(t, momenta)) @ d / (length * width))
