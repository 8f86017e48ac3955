"""One trajectory of hybrid Monte Carlo, compiled: chains side by side in the lanes of vectors."""

import numpy as np
from numpy.typing import NDArray

from rram_host.lattice.samplers.compiled import jit

Array = NDArray[np.float64]

# Chains worked on together: their fields and momenta fit the first-level cache at L = 12, and
# every innermost loop is a few full vectors.
LANES = 16
_PERIOD = 2.0 * np.sqrt(np.pi)


@jit
def trajectory(
    phi: Array,
    momentum: Array,
    form: tuple[float, float, float, float],
    step: float,
    omelyan: float,
    steps: int,
    change: Array,
) -> Array:
    """Where Omelyan's integrator takes every chain.

    Args:
        phi: fields (L0, L1, chains).
        momentum: theirs.
        form: stiffness, square, quartic, cosine of `LocalForm`.
        step: molecular dynamics time of an integrator step.
        omelyan: length of its first drift, in steps.
        steps: how many.
        change: receives H after minus H before, (chains,).

    Returns:
        The fields at the end, (L0, L1, chains); `momentum` is left as it was.
    """
    rows, columns, chains = phi.shape
    moved = np.empty_like(phi)
    # A ghost column on each side makes the row's inner loop one piece.
    x = np.empty((rows, (columns + 2) * LANES))
    p = np.empty((rows, columns * LANES))
    energy = np.empty(LANES)
    for first in range(0, chains, LANES):
        many = min(LANES, chains - first)
        x[:] = 0.0
        p[:] = 0.0
        for r in range(rows):
            for c in range(columns):
                for lane in range(many):
                    x[r, (c + 1) * LANES + lane] = phi[r, c, first + lane]
                    p[r, c * LANES + lane] = momentum[r, c, first + lane]
        drift(x, p, 0.0)
        energies(x, p, form, energy)
        for lane in range(many):
            change[first + lane] = -energy[lane]
        drift(x, p, omelyan * step)
        for k in range(steps):
            kick(x, p, form, 0.5 * step)
            drift(x, p, (1.0 - 2.0 * omelyan) * step)
            kick(x, p, form, 0.5 * step)
            drift(x, p, (1.0 if k == steps - 1 else 2.0) * omelyan * step)
        energies(x, p, form, energy)
        for lane in range(many):
            change[first + lane] += energy[lane]
        for r in range(rows):
            for c in range(columns):
                for lane in range(many):
                    moved[r, c, first + lane] = x[r, (c + 1) * LANES + lane]
    return moved


@jit
def drift(x: Array, p: Array, length: float) -> None:
    """Field += length * momentum, and the ghost columns anew."""
    wide = p.shape[1]
    for r in range(x.shape[0]):
        row, speed = x[r], p[r]
        for j in range(wide):
            row[LANES + j] += length * speed[j]
        for j in range(LANES):
            row[j] = row[wide + j]
            row[LANES + wide + j] = row[LANES + j]


@jit
def kick(x: Array, p: Array, form: tuple[float, float, float, float], length: float) -> None:
    """Momentum -= length * dS/dphi."""
    z, a, b, u = form
    rows, wide = p.shape
    linear = 4.0 * z + 2.0 * a
    for r in range(rows):
        row, up, down, speed = (
            x[r],
            x[r - 1 if r else rows - 1],
            x[r + 1 if r + 1 < rows else 0],
            p[r],
        )
        for j in range(wide):
            value = row[LANES + j]
            near = row[j] + row[2 * LANES + j] + up[LANES + j] + down[LANES + j]
            speed[j] -= length * (value * (linear + 4.0 * b * value * value) - z * near)
        if u != 0.0:
            for j in range(wide):
                speed[j] -= length * u * _PERIOD * np.sin(_PERIOD * row[LANES + j])


@jit
def energies(x: Array, p: Array, form: tuple[float, float, float, float], energy: Array) -> None:
    """Energy p^2 / 2 + S of every lane."""
    z, a, b, u = form
    rows, wide = p.shape
    energy[:] = 0.0
    for r in range(rows):
        row, down = x[r], x[r + 1 if r + 1 < rows else 0]
        for c in range(0, wide, LANES):
            for lane in range(LANES):
                value = row[LANES + c + lane]
                square = value * value
                ahead = row[2 * LANES + c + lane] + down[LANES + c + lane]
                site = square * (2.0 * z + a + b * square) - z * value * ahead
                energy[lane] += site + 0.5 * p[r, c + lane] * p[r, c + lane]
            if u != 0.0:
                for lane in range(LANES):
                    energy[lane] -= u * np.cos(_PERIOD * row[LANES + c + lane])
