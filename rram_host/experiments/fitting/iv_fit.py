"""Switching voltages and the RESET line out of pulsed I-V staircases.

SET: a cell switches at the first step that reaches its voltage, so a cycle tells an interval of one
step, and that is what the likelihood takes.

RESET: from where a cell gives way, every step leaves it on the line of that cycle,

    G = top - slope (V - V_reset),    V_reset = the cell's + the cycle's

so that slope and V_reset + top / slope are known of every cycle. The two part only where a cell
begins above `top`: it holds until V_reset, and then falls to the line. `top` is what puts these
steps, intervals again, onto the lines of their cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError
from rram_host.experiments.fitting.estimate import Estimate, Residual
from rram_host.experiments.fitting.noise import MoveNoise, Scatter, move_noise
from rram_host.experiments.fitting.population import (
    ENOUGH_CELLS,
    Observed,
    Population,
    jackknife,
    population,
)
from rram_host.experiments.fitting.staircases import IvRun, Staircases, staircases
from rram_host.units import MICRO

Array = npt.NDArray[np.float64]

_LEAST_CYCLES = 5
_LEAST_FALLS = 3  # cycles that fell onto their line, to tell top and voltage apart
_ROUNDS = 4
_SHAPE_BINS = 8
_LEAST_STILL, _ENOUGH_PAIRS = 10.0, 50.0  # degrees of freedom that tell a read noise
# of a change between two readings, and of two that adjoin: neighbours share readings
_CHANGE_DOF, _PAIR_DOF = 2 / 3, 2 / 7
_FAR_ABOVE = 1.1  # start over `top`, from which on a first fall is some 10 %
_STEPS_CLEAR, _ERRORS_CLEAR = 1.5, 3.0  # of where a cycle's line is, by which a step is before it
READ_NOISE_AT_SIEMENS = 50e-6  # where a preset's read_noise is meant


@dataclass(frozen=True)
class ResetLine:
    """Lines of RESET cycles: one slope, a place each.

    Attributes:
        slope, slope_error: S/V, falling.
        slope_without: the slope without each cell, (cells,); NaN with too few cells.
        v, g: centre of each cycle's steps, (cycles,), V and siemens.
        error_v: standard error of where a line is, along V, (cycles,).
        law: G of every step, (steps,).
        leverage: of every step, (steps,).
        variance: of every step, (steps,), siemens^2.
    """

    slope: float
    slope_error: float
    slope_without: Array
    v: Array
    g: Array
    error_v: Array
    law: Array
    leverage: Array
    variance: Array

    def reaches(self, g: Array | float, slope: float | None = None) -> Array:
        """Voltage at which each cycle's line is at g, (cycles,)."""
        found: Array = self.v + (self.g - g) / (slope or self.slope)
        return found


@dataclass(frozen=True)
class IvFit:
    """What staircases say.

    Attributes:
        estimates, residuals: the outcome.
        data: what was fitted.
        line: of RESET.
        set_v, reset_v: populations; the latter of the voltage at which lines are at `anchor`.
        top_siemens: value and error; None where no cell began above it.
        anchor_siemens: conductance that `reset_v` is told at: `top`, or the middle of the lines.
        read_noise_siemens: variance of one conversion of a cell over its conductance.
    """

    estimates: list[Estimate]
    residuals: list[Residual]
    data: Staircases
    line: ResetLine
    set_v: Population
    reset_v: Population
    top_siemens: tuple[float, float] | None
    anchor_siemens: float
    read_noise_siemens: float


def fit_iv(runs: Sequence[IvRun]) -> IvFit:
    """Fit records of `rram iv`, of one cell or several.

    Raises:
        InputError: a cell that hardly switched, or too few cycles.
    """
    seen = staircases(runs)
    names = tuple(run.name for run in runs)
    if min(seen.set_cell.size, seen.cycle_cell.size) < _LEAST_CYCLES:
        raise InputError(
            f"{', '.join(names)}: {seen.set_cell.size} SETs and {seen.cycle_cell.size} RESETs that "
            f"can be used; a fit needs {_LEAST_CYCLES} of each"
        )
    line, _ = _line(seen, 0.0)
    read, read_error = _read_noise(seen, line, _top(seen, line, line.slope))
    line, noise = _line(seen, read)
    top = _top(seen, line, line.slope)
    set_v = population(Observed.within(seen.set_cell, seen.set_low_v, seen.set_high_v))
    anchor = top[0] if top else float(line.g.mean())
    where_v = line.reaches(anchor)
    reset_v = population(Observed(seen.cycle_cell, where_v, where_v, line.error_v))
    shared = float(np.mean([_shared_error(run) for run in runs]))
    found = {
        **_of_set(set_v),
        **_of_reset(seen, line, reset_v, top, shared),
        "cycle_spread": (*noise.spread, ""),
        "cycle_floor_siemens": (*noise.floor_siemens, "" if read else "with the noise of readings"),
    }
    if read:
        size, error = np.sqrt(read / READ_NOISE_AT_SIEMENS), read_error / (2 * read)
        found["read_noise"] = (size, error * size, "with the converter's own")
    estimates = [Estimate(k, float(v), float(e), names, n) for k, (v, e, n) in found.items()]
    residuals = _residuals(seen, line, set_v)
    return IvFit(estimates, residuals, seen, line, set_v, reset_v, top, anchor, read)


def _shared_error(run: IvRun) -> float:
    held = np.maximum(run.bench.map_siemens, 0.0)
    return run.bench.reading_error(READ_NOISE_AT_SIEMENS, float(held.sum(1).mean()))


# ---- readings -----------------------------------------------------------------------------------


def _read_noise(
    seen: Staircases, line: ResetLine, top: tuple[float, float] | None
) -> tuple[float, float]:
    """Variance over conductance, of one conversion, and its error; readings are of two signs.

    From readings that follow each other, with only steps between them that cannot have moved the
    cell, so that its slow noise falls out. The median of cells, since a few of them jump; its error
    is larger than a mean's by 1.25. Without enough such steps 0 +- NaN.
    """
    still = _still(seen, line, top)
    cycle, change = seen.held_cycle[still], seen.held_change[still]
    adjoin = cycle[1:] == cycle[:-1]
    if _PAIR_DOF * adjoin.sum() >= _ENOUGH_PAIRS:
        # a reading that is off is in two changes, of either sign; relaxation is not
        cycle = cycle[1:][adjoin]
        square, dof = -2 * (change[1:] * change[:-1])[adjoin], _PAIR_DOF * cycle.size
    else:
        square, dof = change**2, _CHANGE_DOF * cycle.size
    if dof < _LEAST_STILL:
        return 0.0, np.nan
    cell = seen.cycle_cell[cycle]
    number = np.bincount(cell)
    total = np.bincount(cell, square * seen.start_reads[cycle] / seen.start[cycle])
    value = max(float(np.median((total / np.maximum(number, 1))[number > 0])), 0.0)
    return value, 1.25 * value * float(np.sqrt(2 / dof))


def _still(
    seen: Staircases, line: ResetLine, top: tuple[float, float] | None
) -> npt.NDArray[np.bool_]:
    """Steps before the first fall that end clearly before the line reaches the cell.

    That a cell has not fallen is not enough: below `top` the line takes it down from its first
    touch on by less than shows.
    """
    g = np.minimum(seen.start, top[0]) if top else seen.start
    margin_v = _STEPS_CLEAR * (seen.fell_v - seen.held_v) + _ERRORS_CLEAR * line.error_v
    still: npt.NDArray[np.bool_] = seen.held_step_v < (line.reaches(g) - margin_v)[seen.held_cycle]
    if top:  # from far above it the first fall is one that shows
        still |= (seen.start > _FAR_ABOVE * top[0] + 3 * top[1])[seen.held_cycle]
    return still


# ---- RESET --------------------------------------------------------------------------------------


def _line(seen: Staircases, read: float) -> tuple[ResetLine, MoveNoise]:
    """The lines, and the scatter of moves about them and about each cell's SET state."""
    read_variance = read * np.maximum(seen.g, 0.0) / (2 * seen.reads)
    variance = np.full(seen.g.size, (0.5 * MICRO) ** 2)
    firsts = _firsts(seen, read)
    group = _groups(seen)
    for _ in range(_ROUNDS):
        line = _weighted(seen, variance)
        move = line.law - seen.before
        own = Scatter(seen.g - line.law, move, read_variance, 1 - line.leverage, group)
        noise = move_noise(own.and_also(firsts))
        variance = noise.variance(move) + read_variance
    return line, noise


def _groups(seen: Staircases) -> npt.NDArray[np.int64]:
    """What the steps on lines may be off together by: cells, or cycles where cells are few."""
    many = np.unique(seen.cycle_cell).size >= ENOUGH_CELLS
    return seen.cycle_cell[seen.cycle] if many else seen.cycle


def _weighted(seen: Staircases, variance: Array) -> ResetLine:
    """Weighted least squares: one slope, a place for every cycle."""
    n, w = seen.cycle_cell.size, 1 / variance

    def of_cycle(values: Array) -> Array:
        return np.asarray(np.bincount(seen.cycle, w * values, n), dtype=np.float64)

    total = of_cycle(np.ones_like(w))
    v: Array = of_cycle(seen.step_v) / total
    g: Array = of_cycle(seen.g) / total
    away = seen.step_v - v[seen.cycle]
    spread = float((w * away**2).sum())
    slope = -float((w * away * (seen.g - g[seen.cycle])).sum()) / spread
    without = -_left_out(seen, w * away, away, seen.g - g[seen.cycle])
    error = max(spread**-0.5, _left_out_error(without - slope))
    law = g[seen.cycle] - slope * away
    leverage = w * (1 / total[seen.cycle] + away**2 / spread)
    return ResetLine(
        slope, error, without, v, g, total**-0.5 / slope, law, np.minimum(leverage, 0.99), variance
    )


def _left_out(seen: Staircases, weight: Array, v: Array, g: Array) -> Array:
    """Slope without one cell after another, (cells,); NaN for cells without a step."""
    cell = seen.cycle_cell[seen.cycle]
    product, square = np.bincount(cell, weight * g), np.bincount(cell, weight * v)
    with np.errstate(invalid="ignore", divide="ignore"):
        without = (product.sum() - product) / (square.sum() - square)
    found: Array = np.where(square > 0, without, np.nan)
    return found


def _left_out_error(away: Array) -> float:
    """Error from how far leaving out each cell moves a value: slow noise is a cell's own."""
    return float(jackknife(away[np.isfinite(away)]))


def _firsts(seen: Staircases, read: float) -> Scatter:
    """First readings of SETs about their cell's mean: the largest moves."""
    cycles = np.bincount(seen.first_cell)
    mean = np.bincount(seen.first_cell, seen.first) / np.maximum(cycles, 1)
    counts = cycles[seen.first_cell]
    several = counts > 1
    residual = (seen.first - mean[seen.first_cell])[several]
    # moves end where the cell's mean says: what a single one adds is the scatter itself
    move = (seen.first_move - (seen.first - mean[seen.first_cell]))[several]
    noise = read * seen.first[several] / (2 * seen.first_reads[several])
    cell = seen.first_cell[several]
    if np.unique(seen.cycle_cell).size < ENOUGH_CELLS:  # a cycle each, behind those of the lines
        cell = seen.cycle_cell.size + np.arange(cell.size)
    return Scatter(residual, move, noise, 1 - 1 / counts[several], cell)


def _top(seen: Staircases, line: ResetLine, slope: float) -> tuple[float, float] | None:
    """Largest conductance that a RESET leaves, with its error; None where no cell began above."""
    scatter = 5 * float(np.sqrt(np.median(line.variance)))
    # it lies between what a cycle's line has at the last step that held and at the first that fell
    low, high = (line.g + slope * (line.v - v) for v in (seen.fell_v, seen.held_v))
    step = np.where(np.isfinite(high), high - low, 0.0)
    fell = (seen.fall > step + scatter) & np.isfinite(high)
    for _ in range(3):
        if fell.sum() < _LEAST_FALLS:
            return None
        around = float(np.median(((low + high) / 2)[fell]))
        # chosen by where cycles begin, not by where they fell, which would be a bias
        above = around + 1.5 * np.maximum(step, 0.03 * seen.start) + scatter
        fell = (seen.start > above) & np.isfinite(high)
    if fell.sum() < _LEAST_FALLS:
        return None
    cells, cell = np.unique(seen.cycle_cell[fell], return_inverse=True)
    found = population(Observed(cell, low[fell], high[fell], line.error_v[fell] * slope))
    # without a cell both its own and the slope change, which may be off the same way
    arm_v = float((line.v - (seen.fell_v + seen.held_v) / 2)[fell].mean())
    away = arm_v * (line.slope_without - line.slope)
    away[cells] += (found.values.mean() - found.values) / max(cells.size - 1, 1)
    return found.mean[0], max(found.mean[1], _left_out_error(away))


# ---- outcome ------------------------------------------------------------------------------------


def _of_set(found: Population) -> dict[str, tuple[float, float, str]]:
    few = _few(found.cells)
    result = {"set_v": (*found.mean, few), "set_cycle_spread_v": (*found.cycle, "")}
    if np.isfinite(found.spread[0]):
        result["set_spread_v"] = (*found.spread, "")
    return result


def _of_reset(
    seen: Staircases,
    line: ResetLine,
    found: Population,
    top: tuple[float, float] | None,
    shared: float,
) -> dict[str, tuple[float, float, str]]:
    slope_error = float(np.hypot(line.slope_error, shared * line.slope))
    result = {
        "reset_slope_siemens_per_v": (line.slope, slope_error, ""),
        "reset_cycle_spread_v": (*found.cycle, ""),
    }
    if np.isfinite(found.spread[0]):
        result["reset_spread_v"] = (*found.spread, "")
    if top is None:
        return result
    # what the slope's error does to both: top along the lines, and the voltage with it
    other = _top(seen, line, line.slope + line.slope_error) or top
    moved = other[0] - top[0]
    moved_v = float(
        (line.reaches(other[0], line.slope + line.slope_error) - line.reaches(top[0])).mean()
    )
    top_error = float(np.sqrt(top[1] ** 2 + moved**2 + (shared * top[0]) ** 2))
    error_v = float(np.sqrt(found.mean[1] ** 2 + moved_v**2 + (top[1] / line.slope) ** 2))
    result["reset_top_siemens"] = (top[0], top_error, "")
    result["reset_v"] = (found.mean[0], error_v, _few(found.cells))
    return result


def _few(cells: int) -> str:
    if cells == 1:
        return "of one cell: what cells differ by is not in the error"
    if cells < ENOUGH_CELLS:
        return f"{cells} cells: too few to tell what they differ by"
    return f"{cells} cells"


def _residuals(seen: Staircases, line: ResetLine, set_v: Population) -> list[Residual]:
    width = np.where(np.isfinite(seen.set_high_v - seen.set_low_v), 1.0, 0.0)
    inside = width > 0
    low, high, cell = (x[inside] for x in (seen.set_low_v, seen.set_high_v, seen.set_cell))
    variance = set_v.cycle[0] ** 2 + (high - low) ** 2 / 12
    away = (low + high) / 2 - set_v.values[cell]
    of_set = Residual(
        "SET voltages about those of their cells",
        float((away**2 / variance).sum()),
        int(inside.sum()) - set_v.cells,
    )
    order = np.array_split(np.argsort(line.law), _SHAPE_BINS)
    residual = seen.g - line.law
    shape = sum(
        residual[part].sum() ** 2 / (line.variance[part] * (1 - line.leverage[part])).sum()
        for part in order
        if part.size
    )
    return [of_set, Residual("RESET line, mean in eighths of it", float(shape), _SHAPE_BINS - 2)]
