"""The Gaussian theory nearest to an interacting one: its self-consistent mass and propagator."""

import math

import numpy as np
from numpy.typing import NDArray

from rram_host.lattice.actions import Action
from rram_host.lattice.samplers.local_form import PERIOD, local_form

__all__ = ["gap_mass", "khat_squared", "propagator"]

Array = NDArray[np.float64]


def gap_mass(action: Action, shape: tuple[int, int]) -> float:
    """Self-consistent mu^2: the mean curvature of the potential U over the Gaussian that it makes.

    mu^2 = 2 a + 12 b s + c^2 u exp(-c^2 s / 2), s = mean over k of 1 / (z khat^2 + mu^2), for
    U = a x^2 + b x^4 - u cos(c x) (`LocalForm`), solved by damped iteration. For u = b = 0 it is
    2 a: the action itself. In phi^4 this is the Hartree mass.

    Args:
        action: the action S.
        shape: lattice (L0, L1).
    """
    form = local_form(action)
    momenta = form.stiffness * khat_squared(shape)
    mass = max(2.0 * form.square, 1.0)
    if not (form.quartic or form.cosine):
        return 2.0 * form.square
    for _ in range(500):
        spread = float((1.0 / (momenta + mass)).mean())
        wave = PERIOD**2 * form.cosine * math.exp(-0.5 * PERIOD**2 * spread)
        wanted = 2.0 * form.square + 12.0 * form.quartic * spread + wave
        mass = 0.7 * mass + 0.3 * max(wanted, 0.1 * mass)
    return mass


def propagator(action: Action, shape: tuple[int, int]) -> Array:
    """<|phi_k|^2> = 1 / (z khat^2 + mu^2) of that Gaussian theory, by momentum, (L0, L1)."""
    momenta = local_form(action).stiffness * khat_squared(shape)
    found: Array = 1.0 / (momenta + gap_mass(action, shape))
    return found


def khat_squared(shape: tuple[int, int]) -> Array:
    """Lattice momenta squared, sum over mu of 4 sin^2(k_mu / 2), (L0, L1)."""
    rows, columns = (4.0 * np.sin(np.pi * np.arange(n) / n) ** 2 for n in shape)
    found: Array = rows[:, None] + columns[None, :]
    return found
