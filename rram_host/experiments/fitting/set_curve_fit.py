"""SET end points out of single-shot SETs: G = slope (V_WL - offset) of every cell.

Every cell has its line, weighted by the scatter of its moves, which is fitted with it; slopes and
offsets of cells make a population.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError
from rram_host.experiments.fitting.estimate import Estimate, Residual
from rram_host.experiments.fitting.noise import MoveNoise, Scatter, move_noise
from rram_host.experiments.fitting.population import ENOUGH_CELLS, spread_of
from rram_host.experiments.fitting.readings import Bench
from rram_host.records.columns import Data
from rram_host.units import MICRO

Array = npt.NDArray[np.float64]

_LEAST_SIEMENS = 12e-6  # SETs that end lower are bent by the least conductance of cells
_LEAST_LEVELS = 3
_ROUNDS = 4


@dataclass(frozen=True)
class SetCurveFit:
    """What single-shot SETs say.

    Attributes:
        estimates, residuals: the outcome.
        wl_v: gate voltages, (n,).
        mean, scatter: of the data at each, over cells and about each cell's line, siemens.
        law, law_scatter: of the fit, siemens.
        cells: how many.
        not_calibrated: whether readings share an error that is not known.
    """

    estimates: list[Estimate]
    residuals: list[Residual]
    wl_v: Array
    mean: Array
    scatter: Array
    law: Array
    law_scatter: Array
    cells: int
    not_calibrated: bool


@dataclass(frozen=True)
class _Sets:
    """SETs that are fitted: gate voltages (n,), and before and after of every cell (n, cells)."""

    wl_v: Array
    before: Array
    after: Array


@dataclass(frozen=True)
class _Lines:
    """The line of each cell, slope (S/V) and offset (V) with errors, (cells,)."""

    slope: Array
    offset_v: Array
    slope_error: Array
    offset_error_v: Array
    law: Array
    leverage: Array


def fit_set_curve(
    data: Data, bench: Bench, run: str, read_noise_siemens: float = 0.0
) -> SetCurveFit:
    """Fit records of `rram set-curve`.

    Args:
        data: records.
        bench: that they are of.
        run: name of the run.
        read_noise_siemens: variance of a reading of one conversion over its conductance, siemens;
            where it is 0, the noise of readings is part of the scatter of moves.

    Raises:
        InputError: fewer than five cells, or than three gate voltages with SETs that can be used.
    """
    sets = _usable(data, run)
    variance = np.ones_like(sets.after)
    read_variance = read_noise_siemens / 2 * sets.after  # one conversion of either sign
    for _ in range(_ROUNDS):
        lines = _lines(sets, variance)
        move = lines.law - sets.before
        noise = move_noise(_scatter(sets, lines, move, read_variance))
        variance = noise.variance(move) + read_variance
    return _outcome(data, bench, run, sets, lines, noise, variance)


def _usable(data: Data, run: str) -> _Sets:
    n = len(data["wl_v"])
    wl_v = np.asarray(data["wl_v"], dtype=np.float64)
    after, before = (
        np.asarray(data[name], dtype=np.float64).reshape(n, -1)
        for name in ("set_siemens", "reset_siemens")
    )
    cells = np.isfinite(after).all(0) & np.isfinite(before).all(0)
    after, before = after[:, cells], np.maximum(before[:, cells], 0.0)
    least = max(_LEAST_SIEMENS, 3 * float(before.mean())) if before.size else np.inf
    strong = [
        v for v in np.unique(wl_v).tolist() if before.size and after[wl_v == v].mean() > least
    ]
    if after.shape[1] < ENOUGH_CELLS or len(strong) < _LEAST_LEVELS:
        raise InputError(
            f"{run}: {after.shape[1]} cells, {len(strong)} gate voltages that SET them above "
            f"{_LEAST_SIEMENS / MICRO:.3g} µS and three times their RESET state; a fit needs at "
            f"least {ENOUGH_CELLS} cells and {_LEAST_LEVELS} gate voltages"
        )
    rows = np.isin(wl_v, strong)
    return _Sets(wl_v[rows], before[rows], after[rows])


def _lines(sets: _Sets, variance: Array) -> _Lines:
    """Weighted least squares of every cell's line."""
    w, v = 1 / variance, sets.wl_v[:, None]
    total = w.sum(0)
    middle, mean = (w * v).sum(0) / total, (w * sets.after).sum(0) / total
    spread = (w * (v - middle) ** 2).sum(0)
    slope = (w * (v - middle) * (sets.after - mean)).sum(0) / spread
    offset = middle - mean / slope
    # offset = middle - mean / slope, whose mean and slope are independent
    offset_error = np.sqrt(1 / total + (mean / slope) ** 2 / spread) / np.abs(slope)
    leverage = w * (1 / total + (v - middle) ** 2 / spread)
    law = slope * (v - offset)
    return _Lines(slope, offset, spread**-0.5, offset_error, law, leverage)


def _scatter(sets: _Sets, lines: _Lines, move: Array, read_variance: Array) -> Scatter:
    residual, counts = sets.after - lines.law, 1 - lines.leverage
    cell = np.tile(np.arange(sets.after.shape[1]), len(sets.after))
    return Scatter(residual.ravel(), move.ravel(), read_variance.ravel(), counts.ravel(), cell)


def _outcome(
    data: Data,
    bench: Bench,
    run: str,
    sets: _Sets,
    lines: _Lines,
    noise: MoveNoise,
    variance: Array,
) -> SetCurveFit:
    shared = _shared_error(data, bench, sets)
    levels = np.unique(sets.wl_v)
    of_level = sets.wl_v == levels[:, None]  # (levels, n)

    def mean(values: Array) -> Array:
        return np.array([float(values[rows].mean()) for rows in of_level])

    residual = sets.after - lines.law
    law, seen, expected = mean(lines.law), mean(sets.after), mean(variance)
    each = of_level.sum(1) * lines.slope.size
    chi2 = float(((seen - law) ** 2 / (expected / each)).sum())
    return SetCurveFit(
        estimates=_estimates(sets, lines, noise, shared, run),
        residuals=[Residual("mean after SET at each gate voltage", chi2, levels.size - 2)],
        wl_v=levels,
        mean=seen,
        scatter=np.sqrt(mean(residual**2 / (1 - lines.leverage))),
        law=law,
        law_scatter=np.sqrt(expected),
        cells=lines.slope.size,
        not_calibrated=shared > 0,
    )


def _estimates(
    sets: _Sets, lines: _Lines, noise: MoveNoise, shared: float, run: str
) -> list[Estimate]:
    slope, slope_spread = spread_of(lines.slope, _alike(lines.slope_error))
    offset, offset_spread = spread_of(lines.offset_v, _alike(lines.offset_error_v))
    # readings that are low in proportion to G^2, as wires make them, move where the line ends
    lean_v = shared * float(sets.after.mean()) / slope[0]
    note = f"{lines.slope.size} cells" + (f", {shared:.1%} as not calibrated" if shared else "")
    found = {
        "set_slope_siemens_per_v": (slope[0], np.hypot(slope[1], shared * slope[0]), note),
        "set_slope_spread": (slope_spread[0] / slope[0], slope_spread[1] / slope[0], ""),
        "set_offset_v": (offset[0], np.hypot(offset[1], lean_v), note),
        "set_offset_spread_v": (*offset_spread, ""),
        "cycle_spread": (*noise.spread, ""),
        "cycle_floor_siemens": (*noise.floor_siemens, ""),
    }
    return [Estimate(k, float(v), float(e), (run,), n) for k, (v, e, n) in found.items()]


def _alike(errors: Array) -> Array:
    """One error for all cells: their own grow with what they are of, and would weigh it down."""
    return np.full(errors.shape, np.sqrt(np.mean(errors**2)))


def _shared_error(data: Data, bench: Bench, sets: _Sets) -> float:
    """Relative error that all readings share."""
    seen = np.asarray(data["set_siemens"], dtype=np.float64)
    # cells that were not used hold what they held before the run
    held = np.where(np.isfinite(seen).all(0), seen.mean(0), np.maximum(bench.map_siemens, 0.0))
    return bench.reading_error(float(sets.after.mean()), float(held.sum(1).mean()))
