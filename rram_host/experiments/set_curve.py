"""Single-shot SET: conductance against gate voltage (Fig. 2e of arXiv 2509.12812).

Every SET starts from RESET, by two pulses, because the first leaves what its own scatter adds.
Cells differ and pulses scatter, so that the mean over cells and repetitions is what the line is
fitted to:

    G = slope (V_WL - offset)

Errors are statistical: from the scatter of a cell's repetitions about their mean. What reads do to
all cells alike (gains, resistances of lines) is not in them, nor is how far these cells are from
all cells of the chip, which the std from cell to cell tells; the findings' names say so. Of six
emulated boards (`taox_180nm`, seeds 0 to 5) the slope was 0.5 to 1.5 % low without a calibration,
5 to 14 stated errors, and 0.1 to 0.6 % low with one (`rram calibrate`), 1 to 5 errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.experiments.common import (
    at_least,
    check_pulses,
    check_voltage,
    finding,
    held_back,
    ready,
    reset_limit_v,
    set_limit_v,
    spread_cells,
    staircase,
)
from rram_host.experiments.experiment import Experiment, Finding, setting, unit_rng
from rram_host.records.columns import Batch, Column, Data
from rram_host.session import Board
from rram_host.units import MICRO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

_PAPER = "roughly linear, no slope given"
_OF_THESE = ", mean of these cells, reading error apart"


@dataclass(frozen=True)
class SetCurvePlan:
    """Which voltages, how often, on how many cells; the fields' help texts say the rest."""

    wl_start_v: float = setting(0.9, "lowest gate voltage of a SET")
    wl_stop_v: float = setting(1.7, "highest gate voltage of a SET")
    wl_step_v: float = setting(0.05, "distance between gate voltages")
    repetitions: int = setting(8, "SETs of every cell at every gate voltage")
    per_row: int = setting(4, "cells of every row, evenly spread")
    set_v: float = setting(1.8, "SET voltage between the lines")
    reset_v: float = setting(2.6, "RESET voltage before every SET")
    resets: int = setting(2, "RESET pulses before every SET")
    seed: int = setting(7, "seed of the order of gate voltages")

    def __post_init__(self) -> None:
        """Refuse voltages that are no staircase, and fewer than one of anything."""
        at_least(self, repetitions=1, per_row=1, resets=1, seed=0)
        staircase(self.wl_start_v, self.wl_stop_v, self.wl_step_v, "gate voltage")

    @property
    def wl_v(self) -> Array:
        """Gate voltages, rising, (n,)."""
        return staircase(self.wl_start_v, self.wl_stop_v, self.wl_step_v)


def columns(plan: SetCurvePlan, spec: BoardSpec) -> tuple[Column, ...]:
    """One record is one SET of all chosen cells; other cells are NaN."""
    per_cell = partial(Column, dims=("row", "col"), shape=(spec.rows, spec.cols))
    return (
        Column("repetition", "", "repetition", "i4"),
        Column("wl_v", "V", "gate voltage of the SET"),
        per_cell("reset_siemens", "S", "conductance before the SET"),
        per_cell("set_siemens", "S", "conductance after the SET"),
    )


def units(plan: SetCurvePlan, spec: BoardSpec) -> int:
    """A unit is a repetition: every gate voltage once.

    Raises:
        InputError: a voltage that the board does not give, or more cells than a row has.
    """
    check_voltage("set_v", plan.set_v, set_limit_v(spec))
    check_voltage("wl_stop_v", plan.wl_stop_v, spec.compliance_limit_v(plan.set_v))
    check_voltage("reset_v", plan.reset_v, reset_limit_v(spec))
    spread_cells(plan.per_row, (spec.rows, spec.cols))
    return plan.repetitions


def run(board: Board, plan: SetCurvePlan, start: int, done: Data) -> Iterator[Batch]:
    """RESET and SET all chosen cells at every gate voltage, in an order of its own per unit.

    Cells that did not form, are shorted, or are dead or worn by the passport are left out.

    Raises:
        InputError: the passport allows fewer pulses.
    """
    units(plan, board.spec)
    chosen = spread_cells(plan.per_row, board.array.shape)
    pulses = (plan.repetitions - start) * plan.wl_v.size * (plan.resets + 1)
    check_pulses(board, chosen & ~held_back(board), pulses)
    for unit in range(start, plan.repetitions):
        cells = ready(board, chosen)
        reset_v = np.full(cells.shape, plan.reset_v)
        levels = unit_rng(plan.seed, unit).permutation(plan.wl_v)
        before, after = np.full((2, levels.size, *cells.shape), np.nan)
        for k, wl_v in enumerate(levels.tolist()):
            for _ in range(plan.resets):
                before[k][cells] = board.array.reset_cells(cells, reset_v)[cells]
            gates = np.full(cells.shape, wl_v)
            after[k][cells] = board.array.set_cells(cells, gates, plan.set_v)[cells]
        yield {
            "repetition": np.full(levels.size, unit),
            "wl_v": levels,
            "reset_siemens": before,
            "set_siemens": after,
        }


@dataclass(frozen=True)
class Curve:
    """What repetitions say of every gate voltage; arrays (n,), siemens.

    Attributes:
        wl_v: gate voltages, rising.
        mean: over cells and repetitions.
        scatter: std of a cell's repetitions about the cell's mean, rms of all cells.
        error: standard error of `mean` as of these cells; NaN with one repetition.
        cells: mean over repetitions of every cell, (n, cells).
    """

    wl_v: Array
    mean: Array
    scatter: Array
    error: Array
    cells: Array


def curve(data: Data) -> Curve | None:
    """Means and scatters of recorded SETs; None without any."""
    if not len(data["wl_v"]):
        return None
    levels = np.unique(np.asarray(data["wl_v"], dtype=np.float64))
    read = np.asarray(data["set_siemens"], dtype=np.float64).reshape(len(data["wl_v"]), -1)
    read = read[:, ~np.isnan(read).any(0)]
    if not read.size:
        return None
    means, scatter, error = [], np.full(levels.size, np.nan), np.full(levels.size, np.nan)
    for k, level in enumerate(levels.tolist()):
        mine = read[data["wl_v"] == level]
        means.append(mine.mean(0))
        if len(mine) > 1:
            scatter[k] = np.sqrt(mine.var(0, ddof=1).mean())
            error[k] = scatter[k] / np.sqrt(mine.size)
    cells = np.array(means)
    return Curve(levels, cells.mean(1), scatter, error, cells)


def fit(found: Curve) -> tuple[Array, Array, float]:
    """The line through the means: coefficients (slope, value at 0 V), covariance, chi2.

    Weighted by the errors; where they are not known (one repetition, or no scatter at all), all
    voltages count the same, and covariance and chi2 are NaN.
    """
    known = np.isfinite(found.error).all() and (found.error > 0).all()
    if found.wl_v.size < 3 or not known:
        line = np.polyfit(found.wl_v, found.mean, 1) if found.wl_v.size > 1 else np.full(2, np.nan)
        return line, np.full((2, 2), np.nan), np.nan
    line, covariance = np.polyfit(found.wl_v, found.mean, 1, w=1 / found.error, cov="unscaled")
    pulls = (found.mean - np.polyval(line, found.wl_v)) / found.error
    return line, covariance, float((pulls**2).sum())


def findings(plan: SetCurvePlan, data: Data) -> list[Finding]:
    """Slope and offset of the line, how straight it is, and how pulses and cells scatter."""
    found = curve(data)
    if found is None or found.wl_v.size < 2:
        return []
    line, covariance, chi2 = fit(found)
    slope, intercept = line.tolist()
    offset_v = -intercept / slope
    # G = a V + b is zero at -b / a, whose derivatives are b / a^2 and -1 / a
    gradient = np.array([intercept / slope**2, -1 / slope])
    away = (found.mean - np.polyval(line, found.wl_v)) / MICRO
    each = np.polyfit(found.wl_v, found.cells, 1)[0]
    scatter = found.scatter / found.mean
    spread = float(np.std(each, ddof=1) / slope) if each.size > 1 else np.nan
    return [
        finding(f"slope{_OF_THESE}", (slope, np.sqrt(covariance[0, 0])), "µS/V", _PAPER, MICRO),
        finding(f"offset{_OF_THESE}", (offset_v, np.sqrt(gradient @ covariance @ gradient)), "V"),
        Finding("largest distance of a mean from the line", float(np.abs(away).max()), "µS"),
        Finding("chi2 of the line", chi2),
        Finding("degrees of freedom", found.wl_v.size - 2),
        finding("scatter from pulse to pulse", (float(scatter.mean()), np.nan), "%", "", 0.01),
        finding("slope, std from cell to cell", (spread, np.nan), "%", "", 0.01),
        Finding("cells", each.size),
    ]


def draw(figure: Figure, plan: SetCurvePlan, data: Data) -> None:
    """Every cell grey, the mean with its scatter, the line, and what is left beside it."""
    found = curve(data)
    if found is None or found.wl_v.size < 2:
        return
    line, covariance, _ = fit(found)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot(found.wl_v, found.cells / MICRO, color="0.8", linewidth=0.6)
    scatter = np.nan_to_num(found.scatter) / MICRO
    top.errorbar(
        found.wl_v,
        found.mean / MICRO,
        scatter,
        fmt="o",
        color="tab:blue",
        markersize=4,
        label="mean, scatter of pulses",
    )
    text = f"{line[0] / MICRO:.2f}"
    if np.isfinite(covariance[0, 0]):
        text += f" ± {np.sqrt(covariance[0, 0]) / MICRO:.2f}"
    top.plot(
        found.wl_v, np.polyval(line, found.wl_v) / MICRO, "k-", label=f"{text} µS/V (pulses alone)"
    )
    top.set(ylabel="conductance after one SET (µS)", title=f"{found.cells.shape[1]} cells")
    top.legend()
    away = (found.mean - np.polyval(line, found.wl_v)) / MICRO
    bottom.errorbar(
        found.wl_v,
        away,
        np.nan_to_num(found.error) / MICRO,
        fmt="o",
        color="tab:blue",
        markersize=4,
    )
    bottom.axhline(0.0, color="k", linewidth=0.8)
    bottom.set(xlabel="gate voltage of the SET (V)", ylabel="mean - line (µS)")


EXPERIMENT = Experiment(
    name="set-curve",
    title="single-shot SET",
    help="""SET cells by one pulse at each gate voltage, from RESET, and fit a line.

    What the chosen cells hold is lost.

    Calibrate first (rram calibrate, with a passport): without, the slope reads about 1 % low, with
    it some 0.3 %, and the errors stated, which are those of pulses alone, show neither. The slope
    is that of the chosen cells; others differ by the std from cell to cell.

    \b
    rram set-curve --board 'sim://?preset=taox_180nm&seed=7'
    rram set-curve --wl-start 1.0 --wl-stop 1.5 --repetitions 20 --per-row 1
    """,
    plan=SetCurvePlan,
    columns=columns,
    units=units,
    run=run,
    findings=findings,
    draw=draw,
)
