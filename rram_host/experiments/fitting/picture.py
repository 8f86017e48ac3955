"""Data beside the fitted laws, a panel for each law."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from rram_host.experiments.fitting.iv_fit import IvFit
from rram_host.experiments.fitting.report import FitReport
from rram_host.experiments.fitting.retention_fit import RetentionFit
from rram_host.experiments.fitting.set_curve_fit import SetCurveFit
from rram_host.units import MICRO

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

_DATA, _LAW = "tab:blue", "tab:red"


def draw(figure: Figure, report: FitReport) -> None:
    """Two panels for each run of set-curve and retention, three for all runs of I-V."""
    panels: list[Callable[[Axes], None]] = []
    if report.iv:
        panels += [_panel(part, report.iv, "") for part in (_set_steps, _reset_line, _reset_steps)]
    for name, curve in report.set_curves.items():
        panels += [_panel(part, curve, name) for part in (_set_curve, _set_scatter)]
    for name, kept in report.retentions.items():
        panels += [_panel(part, kept, name) for part in (_widening, _drift)]
    width = min(len(panels), 3)
    height = -(-len(panels) // width)
    figure.set_size_inches(5 * width, 3.6 * height)
    for axes, panel in zip(
        figure.subplots(height, width, squeeze=False).flat, panels, strict=False
    ):
        panel(axes)
    for axes in figure.axes[len(panels) :]:
        axes.set_visible(False)


def _panel(part: Callable[..., None], fit: object, name: str) -> Callable[[Axes], None]:
    def draw_one(axes: Axes) -> None:
        part(axes, fit)
        if name:
            axes.set_title(f"{name}: {axes.get_title()}", fontsize="small")
        axes.legend(fontsize="small")

    return draw_one


# ---- I-V ----------------------------------------------------------------------------------------


def _shares(axes: Axes, away_v: Array, sigma_v: float, what: str) -> None:
    """Share of cycles that have switched, against the normal law."""
    order = np.sort(away_v)
    axes.step(order, (np.arange(order.size) + 0.5) / order.size, color=_DATA, label="cycles")
    grid = np.linspace(min(order[0], -3 * sigma_v), max(order[-1], 3 * sigma_v), 200)
    axes.plot(grid, ndtr(grid / sigma_v), color=_LAW, label=f"law, sigma {sigma_v * 1e3:.1f} mV")
    axes.set(xlabel="voltage - that of the cell (V)", ylabel="share of cycles", title=what)


def _set_steps(axes: Axes, fit: IvFit) -> None:
    seen = fit.data
    inside = np.isfinite(seen.set_low_v + seen.set_high_v)
    middle = (seen.set_low_v + seen.set_high_v)[inside] / 2
    width = float(np.mean((seen.set_high_v - seen.set_low_v)[inside]))
    # a middle of a step differs from the voltage by the step's own spread
    sigma = float(np.hypot(fit.set_v.cycle[0], width / np.sqrt(12)))
    _shares(axes, middle - fit.set_v.values[seen.set_cell[inside]], sigma, "SET, with step width")


def _reset_steps(axes: Axes, fit: IvFit) -> None:
    at_v = fit.line.reaches(fit.anchor_siemens) - fit.reset_v.values[fit.data.cycle_cell]
    _shares(axes, at_v, fit.reset_v.cycle[0], "RESET, from the lines")


def _reset_line(axes: Axes, fit: IvFit) -> None:
    seen, line = fit.data, fit.line
    at_v = line.reaches(fit.anchor_siemens)[seen.cycle]
    axes.plot(
        seen.step_v - at_v, seen.g / MICRO, ".", color=_DATA, markersize=3, label="steps of cycles"
    )
    over = np.array([(seen.step_v - at_v).min(), (seen.step_v - at_v).max()])
    law = fit.anchor_siemens - line.slope * over
    axes.plot(over, law / MICRO, color=_LAW, label=f"law, {line.slope / MICRO:.2f} µS/V")
    axes.set(
        xlabel=f"V - voltage at {fit.anchor_siemens / MICRO:.4g} µS (V)",
        ylabel="conductance (µS)",
        title="RESET line",
    )


# ---- set curve ----------------------------------------------------------------------------------


def _set_curve(axes: Axes, fit: SetCurveFit) -> None:
    axes.errorbar(
        fit.wl_v, fit.mean / MICRO, fit.scatter / MICRO, fmt="o", color=_DATA, markersize=4,
        label=f"mean of {fit.cells} cells, scatter",
    )  # fmt: skip
    axes.plot(fit.wl_v, fit.law / MICRO, color=_LAW, label="law")
    axes.set(xlabel="gate voltage (V)", ylabel="after one SET (µS)", title="single-shot SET")


def _set_scatter(axes: Axes, fit: SetCurveFit) -> None:
    axes.plot(fit.wl_v, fit.scatter / MICRO, "o", color=_DATA, markersize=4, label="about lines")
    axes.plot(fit.wl_v, fit.law_scatter / MICRO, color=_LAW, label="law")
    axes.set(xlabel="gate voltage (V)", ylabel="std of a SET (µS)", title="scatter of SETs")


# ---- retention ----------------------------------------------------------------------------------


def _widening(axes: Axes, fit: RetentionFit) -> None:
    axes.plot(fit.time_s, fit.std / MICRO, "o", color=_DATA, markersize=4, label="cells")
    axes.plot(fit.time_s, fit.law_std / MICRO, color=_LAW, label="law with noise of readings")
    axes.plot(fit.time_s, fit.relaxed_std / MICRO, "--", color=_LAW, label="relaxation alone")
    axes.set(xscale="log", xlabel="time (s)", ylabel="std of G(t) - G(first) (µS)")
    axes.set_title(f"widening, {fit.cells} cells")


def _drift(axes: Axes, fit: RetentionFit) -> None:
    error = fit.std / np.sqrt(fit.cells)
    axes.errorbar(
        fit.time_s, fit.mean / MICRO, error / MICRO, fmt="o", color=_DATA, markersize=4,
        label="mean of cells",
    )  # fmt: skip
    axes.plot(fit.time_s, fit.law_mean / MICRO, color=_LAW, label="law")
    axes.set(xscale="log", xlabel="time (s)", ylabel="mean of G(t) - G(first) (µS)", title="drift")
