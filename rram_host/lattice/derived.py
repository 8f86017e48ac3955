"""Quantities that are functions of averages: correlation lengths, gap, condensate, cumulant."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rram_host.errors import InputError
from rram_host.lattice.actions import COSINE_PER_MASS, Action, GrapheneAction
from rram_host.lattice.autocorrelation import jackknife
from rram_host.lattice.observables import time_axis

__all__ = [
    "binder",
    "condensate",
    "cosh_gap",
    "derived",
    "effective_masses",
    "xi_eq27",
    "xi_second_moment",
]

Array = NDArray[np.float64]


def effective_masses(g: ArrayLike, length: int) -> Array:
    """Effective mass at t = 1 .. length - 1 of a periodic correlator.

    m(t) = arccosh[(G(t-1) + G(t+1)) / (2 G(t))], which is the gap at every t where one state
    dominates, G(t) ~ cosh[m (t - length / 2)].

    Args:
        g: G(t) for t = 0 .. length // 2, the zero-momentum correlator.
        length: lattice sites in the direction of t.

    Returns:
        Masses in lattice units, shape (length - 1,); NaN where noise leaves no real solution.

    Raises:
        InputError: for a correlator that is not one of this length.
    """
    full = _correlator(g, length)[[min(t, length - t) for t in range(length + 1)]]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (full[:-2] + full[2:]) / (2.0 * full[1:-1])
        return np.asarray(np.where(full[1:-1] > 0.0, np.arccosh(ratio), math.nan))


def xi_eq27(g: ArrayLike, length: int) -> float:
    """Correlation length (length - 1) / sum_t m(t), t = 1 .. length - 1 (eq. 27 of the paper).

    Every t weighs the same, so for length >> xi noise far out decides; NaN as soon as one m(t) is.

    Raises:
        InputError: as `effective_masses`.
    """
    total = float(effective_masses(g, length).sum())
    return (length - 1) / total if total > 0.0 else math.nan


def xi_second_moment(g: ArrayLike, length: int) -> float:
    """Correlation length sqrt(chi / F - 1) / (2 sin(pi / length)), from the second moment.

    chi and F are the Fourier transforms of the two-point function at zero momentum and at the
    smallest one, both sums over G(t) (Cooper, Freedman, Preston, Nucl. Phys. B 210 (1982) 210).

    Raises:
        InputError: as `effective_masses`.
    """
    full = _correlator(g, length)[[min(t, length - t) for t in range(length)]]
    wave = np.cos(2.0 * math.pi * np.arange(length) / length)
    chi, f = float(full.sum()), float((full * wave).sum())
    if length < 2 or not chi > f > 0.0:
        return math.nan
    return math.sqrt(chi / f - 1.0) / (2.0 * math.sin(math.pi / length))


def cosh_gap(
    g: ArrayLike, length: int, errors: ArrayLike | None = None, first: int | None = None
) -> float:
    """Mass gap by a fit of A cosh[m (t - length / 2)] to G(t), first <= t <= length // 2.

    Args:
        g: G(t) for t = 0 .. length // 2.
        length: lattice sites in the direction of t.
        errors: of G(t), the weights of the fit; equal relative weights without them.
        first: smallest t fitted; max(1, length // 6) where not given.

    Returns:
        m in lattice units; NaN where the fit does not converge or fewer than two points are left.

    Raises:
        InputError: as `effective_masses`, for the errors too.
    """
    from scipy.optimize import least_squares

    half = length / 2.0
    t = np.arange(max(1, length // 6) if first is None else first, length // 2 + 1)
    values = _correlator(g, length)[t]
    weights = None if errors is None else _correlator(errors, length)[t]
    if t.size < 2 or not np.isfinite(values).all():
        return math.nan
    sigma = np.abs(values) if weights is None else np.maximum(weights, 1e-300)
    start = float(effective_masses(g, length)[max(t[0], 1) - 1])
    mass = start if start > 0.0 else 1.0  # NaN is not

    # The amplitude is that at the first t, so that neither parameter is exponentially large.
    def residual(x: Array) -> Array:
        model = x[1] * values[0] * _cosh_ratio(math.exp(x[0]), half - t, half - float(t[0]))
        return np.asarray((model - values) / sigma)

    found = least_squares(residual, (math.log(mass), 1.0), bounds=((-12.0, -9.0), (4.0, 9.0)))
    return math.exp(float(found.x[0])) if found.success else math.nan


def binder(m2: float, m4: float) -> float:
    """Binder cumulant U4 = 1 - <M^4> / (3 <M^2>^2): 0 for a Gaussian M, 2/3 for two peaks."""
    return 1.0 - m4 / (3.0 * m2 * m2) if m2 > 0.0 else math.nan


def condensate(cos: float) -> float:
    """Chiral condensate -e^gamma / (2 pi^1.5) g O(1/g) <cos(2 sqrt(pi) phi)>, in lattice units.

    With g O(1/g) = sqrt(32 pi) as in the action, so the factor is u / m. Eq. 39 of arXiv 2509.12812
    prints the cosine without phi. At m = 0 and g -> 0, condensate / g -> -e^gamma / (2 pi^1.5).
    """
    return -COSINE_PER_MASS * cos


def derived(
    measured: Mapping[str, Tensor], action: Action, shape: tuple[int, int], blocks: int = 64
) -> dict[str, tuple[float, float]]:
    """Functions of averages, each with its jackknifed standard error.

    Args:
        measured: what `observables.measure` returned for the configurations in the order of their
            chains, chain after chain, so that a block is a stretch of one chain or whole chains.
        action: the action sampled.
        shape: lattice (L0, L1).
        blocks: jackknife blocks, each many autocorrelation times long; as many of the last
            configurations are left out as make them equal.

    Returns:
        (value, error): "xi_eq27", "xi_2nd", "xi_cosh", "gap" (= 1 / xi_cosh), "meff" (effective
        mass at t = max(1, T // 6)), "U4"; for a graphene wire also "condensate". NaN where noise
        or a lattice too short leaves a quantity undefined.

    Raises:
        InputError: for fewer configurations than blocks, blocks < 2, or a correlator that was
            measured on another lattice.
    """
    length = shape[time_axis(shape)]
    n = len(measured["chi2"])
    if not 2 <= blocks <= n:
        raise InputError(f"a jackknife of {blocks} blocks needs as many configurations, got {n}")
    columns = [measured[name].double().numpy(force=True) for name in ("M", "M4", "cos", "G")]
    columns[0] = columns[0] ** 2
    series = np.concatenate([column.reshape(n, -1) for column in columns], 1).T
    means = _block_means(series, blocks)
    errors = means[3:].std(1) / math.sqrt(blocks - 1)
    found = {}
    for name, function in _functions(action, length, errors).items():
        with np.errstate(invalid="ignore"):
            found[name] = jackknife(function, means, blocks)
    if "gap" in found:
        gap, error = found["gap"]
        found["xi_cosh"] = (1.0 / gap, error / gap**2)
    return found


def _functions(action: Action, length: int, errors: Array) -> dict[str, Callable[[Array], float]]:
    """By name, functions of the means (M^2, M^4, cos, G(0), G(1), ...)."""
    at = max(1, length // 6) - 1
    functions: dict[str, Callable[[Array], float]] = {
        "U4": lambda x: binder(float(x[0]), float(x[1]))
    }
    if length >= 2:
        functions |= {
            "xi_eq27": lambda x: xi_eq27(x[3:], length),
            "xi_2nd": lambda x: xi_second_moment(x[3:], length),
            "gap": lambda x: cosh_gap(x[3:], length, errors),
            "meff": lambda x: float(effective_masses(x[3:], length)[at]),
        }
    if isinstance(action, GrapheneAction):
        functions["condensate"] = lambda x: condensate(float(x[2]))
    return functions


def _correlator(g: ArrayLike, length: int) -> Array:
    """G(0) .. G(length // 2), refused if of another lattice or not yet averaged."""
    values = np.asarray(g, dtype=np.float64)
    if values.shape != (length // 2 + 1,):
        raise InputError(
            f"a correlator over {length} sites has the {length // 2 + 1} means G(0) to "
            f"G({length // 2}), got shape {values.shape}"
        )
    return values


def _block_means(series: Array, blocks: int) -> Array:
    """Means (k, blocks) of equal stretches of (k, n)."""
    length = series.shape[1] // blocks
    kept = series[:, : length * blocks]
    return np.asarray(kept.reshape(len(kept), blocks, length).mean(2))


def _cosh_ratio(m: float, x: Array, x0: float) -> Array:
    """cosh(m x) / cosh(m x0) without overflow, x and x0 >= 0."""
    return np.asarray(
        np.exp(m * (x - x0)) * (1.0 + np.exp(-2.0 * m * x)) / (1.0 + math.exp(-2.0 * m * x0))
    )
