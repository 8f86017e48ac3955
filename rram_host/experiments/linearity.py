"""Are cells resistors? Currents of cells from -0.1 to 0.1 V (Fig. 2j of arXiv 2509.12812).

Cells are programmed to conductances between 30 and 95 uS, each in a row and a column of its own, so
that one bit line at a time drives one cell, and its row's amplifier reads it. Sweeps are fitted,
cell by cell, by

    I = I_0 + G V (1 + a (V / V_max) + b (V / V_max)^2)

The deviation from Ohm's law at V is (I - I_0 - G_s V) / (G_s V_max), with the slope G_s of the
straight line through all points. It holds what the board itself bends: an LSB of the converters is
about 0.05 % of the current of 50 uS at 0.1 V. The largest of many deviations is large by noise
alone: beside it stands what noise of the size seen between sweeps would give as largest.

The emulated board reads cells as resistors up to 0.2 V, whatever its preset says of their curve:
what is found there is noise and converters, and no evidence on cells.

Cells that cannot be used (did not form, shorted, dead or worn by the passport) are NaN on record.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.errors import InputError
from rram_host.experiments import estimates
from rram_host.experiments.common import at_least, check_voltage, finding, ready
from rram_host.experiments.experiment import Experiment, Finding, setting
from rram_host.records.columns import Batch, Column, Data
from rram_host.session import Board
from rram_host.units import MICRO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

_PAPER = "linear, no number"
_LEFT_OUT = "cells that could not be used, left out"
_MOST_POINTS = 1001


@dataclass(frozen=True)
class LinearityPlan:
    """Which conductances and voltages; the fields' help texts say the rest."""

    low_siemens: float = setting(30e-6, "lowest conductance")
    high_siemens: float = setting(95e-6, "highest conductance")
    levels: int = setting(14, "conductances, evenly spaced: a cell each")
    max_v: float = setting(0.1, "largest voltage across a cell, of both signs", "max")
    points: int = setting(21, "voltages of a sweep")
    sweeps: int = setting(20, "sweeps of all cells")
    average: int = setting(8, "conversions averaged at every voltage")

    def __post_init__(self) -> None:
        """Refuse what cannot be fitted."""
        at_least(self, levels=1, points=5, sweeps=1, average=1)
        if self.points > _MOST_POINTS or self.average > _MOST_POINTS:
            raise InputError(f"points and average may be at most {_MOST_POINTS}")
        if not 0 < self.low_siemens <= self.high_siemens or not self.max_v > 0:
            raise InputError(
                f"conductances from {self.low_siemens / MICRO:.4g} to "
                f"{self.high_siemens / MICRO:.4g} µS up to {self.max_v} V: need 0 < low <= high "
                "and a voltage above 0 V"
            )

    @property
    def targets_siemens(self) -> Array:
        """Conductance of every cell, rising, (levels,)."""
        return np.linspace(self.low_siemens, self.high_siemens, self.levels)

    @property
    def volts(self) -> Array:
        """Voltages of a sweep, rising, (points,)."""
        return np.linspace(-self.max_v, self.max_v, self.points)

    def places(self, shape: tuple[int, int]) -> tuple[npt.NDArray[np.int64], ...]:
        """Rows and columns of the cells, no line twice: (levels,) each."""
        index = np.arange(self.levels)
        return index * shape[0] // self.levels, index * shape[1] // self.levels


def columns(plan: LinearityPlan, spec: BoardSpec) -> tuple[Column, ...]:
    """One record is one voltage of a sweep, for all cells."""
    per_cell = partial(Column, dims=("cell",), shape=(plan.levels,))
    return (
        Column("sweep", "", "sweep", "i4"),
        Column("voltage_v", "V", "voltage across the cell"),
        per_cell("current_a", "A", "current of the cell; NaN: the cell could not be used"),
        per_cell("target_siemens", "S", "what the cell was programmed to"),
    )


def units(plan: LinearityPlan, spec: BoardSpec) -> int:
    """A unit is a sweep of all cells; the first programs them.

    Raises:
        InputError: more cells than lines, a conductance outside the chip's window, or a voltage
            beyond the read voltage.
    """
    if plan.levels > min(spec.rows, spec.cols):
        raise InputError(
            f"{plan.levels} cells with a row and a column each: the array has "
            f"{min(spec.rows, spec.cols)}"
        )
    check_voltage("max_v", plan.max_v, spec.read_voltage_v)
    low, high = spec.conductance_min_siemens, spec.conductance_max_siemens
    if plan.low_siemens < low or plan.high_siemens > high:
        raise InputError(
            f"conductances {plan.low_siemens / MICRO:.4g}..{plan.high_siemens / MICRO:.4g} µS are "
            f"outside the chip's window {low / MICRO:.4g}..{high / MICRO:.4g} µS"
        )
    return plan.sweeps


def run(board: Board, plan: LinearityPlan, start: int, done: Data) -> Iterator[Batch]:
    """Program the cells, then sweep them; every sweep starts with a read of the array.

    That read is what products undo the resistance of lines by.
    """
    units(plan, board.spec)
    usable = np.isfinite(done["current_a"][0]) if start else np.array([])
    for unit in range(start, plan.sweeps):
        if unit == 0:
            usable = _program(board, plan)
        board.array.read()
        yield {
            "sweep": np.full(plan.points, unit),
            "voltage_v": plan.volts,
            "current_a": np.where(usable, _sweep(board, plan), np.nan),
            "target_siemens": np.tile(plan.targets_siemens, (plan.points, 1)),
        }


def _program(board: Board, plan: LinearityPlan) -> npt.NDArray[np.bool_]:
    """Program the cells; whether each can be used, (levels,)."""
    rows, cols = plan.places(board.array.shape)
    targets = np.full(board.array.shape, np.nan)
    targets[rows, cols] = plan.targets_siemens
    usable = ready(board, ~np.isnan(targets))
    board.array.program(np.where(usable, targets, np.nan))
    return np.asarray(usable[rows, cols])


def _sweep(board: Board, plan: LinearityPlan) -> Array:
    """Currents of all cells at all voltages, (points, levels), amperes."""
    rows, cols = plan.places(board.array.shape)
    shape = (plan.average, plan.points, plan.levels, board.spec.cols)
    volts = np.zeros(shape)
    volts[:, :, np.arange(plan.levels), cols] = plan.volts[:, None]
    currents = board.array.products(volts.reshape(-1, board.spec.cols), rows).currents_a
    own = currents.reshape(*shape[:3], plan.levels)[
        ..., np.arange(plan.levels), np.arange(plan.levels)
    ]
    return np.asarray(own.mean(0))


@dataclass(frozen=True)
class Lines:
    """Fits of every sweep; arrays, of the cells that could be used.

    Attributes:
        g: conductance, (sweeps, cells), siemens.
        second, third: a and b, deviation at V_max of second and third order, (sweeps, cells).
        volts: (points,).
        current_a: mean over sweeps without I_0, (points, cells).
        deviation: of that from Ohm's law, over G V_max, (points, levels).
        error: standard error of the same, from how sweeps differ; NaN with one sweep.
    """

    g: Array
    second: Array
    third: Array
    volts: Array
    current_a: Array
    deviation: Array
    error: Array


def lines(plan: LinearityPlan, data: Data) -> Lines | None:
    """Fits of recorded sweeps; None without any, or without a cell that could be used."""
    current = np.asarray(data["current_a"], dtype=np.float64)
    current = current[:, ~np.isnan(current).any(0)]
    cells = current.shape[1]
    if not current.size:
        return None
    current = current.reshape(-1, plan.points, cells)
    n = len(current)
    x = plan.volts / plan.max_v
    flat = current.transpose(1, 0, 2).reshape(plan.points, -1)
    cubic = np.polyfit(x, flat, 3).reshape(4, n, cells)
    third, second, first, zero = cubic
    # Ohm's law is the straight line through the same points, not the slope at 0 V
    straight = np.polyfit(x, flat, 1)[0].reshape(n, 1, cells)
    left = (current - zero[:, None] - straight * x[:, None]) / straight
    error = left.std(0, ddof=1) / np.sqrt(n) if n > 1 else np.full(left.shape[1:], np.nan)
    return Lines(
        g=first / plan.max_v,
        second=second / first,
        third=third / first,
        volts=plan.volts,
        current_a=(current - zero[:, None]).mean(0),
        deviation=left.mean(0),
        error=error,
    )


def largest_of_noise(error: Array) -> float:
    """Median x of the largest of Gaussian deviations of standard errors e: prod F(x / e) = 1/2.

    F(z) = erf(z / 2^0.5) is the share of a Gaussian within z of its standard deviations.
    Errors from a few sweeps scatter themselves, which would make the largest larger; so they are
    taken as the product of what voltages and what cells have in common.

    Args:
        error: standard errors, (points, cells).
    """
    square = error**2
    mean = float(square.mean())
    if not mean > 0:
        return mean  # 0, or NaN where there is one sweep
    errors = np.sqrt(square.mean(1)[:, None] * square.mean(0) / mean)
    scales: list[float] = (errors[errors > 0] * math.sqrt(2)).tolist()
    low, high = 0.0, 8.0 * max(scales)
    for _ in range(30):
        middle = (low + high) / 2
        if math.prod(math.erf(middle / scale) for scale in scales) < 0.5:
            low = middle
        else:
            high = middle
    return high


def findings(plan: LinearityPlan, data: Data) -> list[Finding]:
    """How far currents are from Ohm's law, and by which order."""
    found = lines(plan, data)
    if found is None:
        left = plan.levels if len(data["current_a"]) else 0
        return [Finding(_LEFT_OUT, left)] if left else []
    rms = float(np.sqrt((found.deviation**2).mean()))
    noise = float(np.sqrt((found.error**2).mean()))
    g = found.g.mean(0) / MICRO
    return [
        finding("deviation from Ohm's law, rms", (rms, np.nan), "% of I(V_max)", _PAPER, 0.01),
        finding("of which noise, rms", (noise, np.nan), "% of I(V_max)", "", 0.01),
        finding(
            "largest deviation",
            (float(np.abs(found.deviation).max()), np.nan),
            "% of I(V_max)",
            _PAPER,
            0.01,
        ),
        finding(
            "largest that noise alone would give, median",
            (largest_of_noise(found.error), np.nan),
            "% of I(V_max)",
            "",
            0.01,
        ),
        finding(
            "second order at V_max, mean of cells",
            estimates.mean(found.second.mean(0)),
            "%",
            "",
            0.01,
        ),
        finding(
            "third order at V_max, mean of cells",
            estimates.mean(found.third.mean(0)),
            "%",
            "",
            0.01,
        ),
        Finding("lowest conductance", float(g.min()), "µS", None, "30"),
        Finding("highest conductance", float(g.max()), "µS", None, "95"),
        Finding(_LEFT_OUT, plan.levels - g.size),
    ]


def draw(figure: Figure, plan: LinearityPlan, data: Data) -> None:
    """Currents of all cells with their lines, and the deviations from these."""
    from matplotlib import colormaps

    found = lines(plan, data)
    if found is None:
        return
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    g = found.g.mean(0)
    colours = colormaps["viridis"](np.linspace(0, 0.95, g.size))
    for k in range(g.size):
        label = f"{g[k] / MICRO:.1f} µS" if k in (0, g.size - 1) else None
        top.plot(found.volts, g[k] * found.volts / MICRO, color=colours[k], linewidth=0.8)
        top.plot(found.volts, found.current_a[:, k] / MICRO, ".", color=colours[k], label=label)
        bottom.plot(found.volts, 100 * found.deviation[:, k], ".-", color=colours[k], linewidth=0.5)
    top.set(ylabel="current (µA)", title=f"{g.size} cells and straight lines")
    top.legend()
    bottom.axhline(0.0, color="k", linewidth=0.8)
    bottom.set(xlabel="voltage across the cell (V)", ylabel="deviation (% of I at V_max)")


EXPERIMENT = Experiment(
    name="linearity",
    title="linearity of cells",
    help="""Program cells to conductances from 30 to 95 µS and measure their currents up to ±0.1 V.

    What the chosen cells hold is lost.

    Of cells this says something on a real chip only: the emulated board (sim://) reads cells as
    ohmic up to 0.2 V, though its presets' curve, I = G V0 sinh(V / V0) with V0 = 0.5 V, is 0.67 %
    above G V at 0.1 V. What it finds there is its noise and its converters.

    \b
    rram linearity --board 'sim://?preset=taox_180nm&seed=7'
    rram linearity --low 20 --high 100 --levels 17 --sweeps 100
    """,
    plan=LinearityPlan,
    columns=columns,
    units=units,
    run=run,
    findings=findings,
    draw=draw,
)
