"""Pictures of runs, with units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from rram_host.array.calibration import Calibration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
_MICRO = 1e-6


def figure_of(width: float, height: float) -> Figure:
    """A figure that needs no screen and leaves no global state."""
    # here, because every command imports this module, and most draw nothing
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _map(figure: Figure, axes: Any, values: Array, title: str, label: str, **style: Any) -> None:
    image = axes.imshow(values / _MICRO, origin="upper", interpolation="nearest", **style)
    axes.set(title=title, xlabel="column (BL)", ylabel="row (WL, SL)")
    figure.colorbar(image, ax=axes, shrink=0.8, label=label)


def conductance_map(path: Path, conductances_siemens: Array) -> None:
    """One heat map of conductances, in microsiemens."""
    figure = figure_of(5.2, 4.4)
    axes = figure.subplots()
    _map(figure, axes, conductances_siemens, "conductance", "G (µS)", cmap="viridis")
    figure.savefig(path, dpi=120)


def programming(path: Path, targets: Array, measured: Array, pulses: npt.NDArray[np.int64]) -> None:
    """Target, programmed and error as heat maps; error and pulse distributions."""
    error = measured - targets
    window = {
        "vmin": float(np.nanmin(targets) / _MICRO) - 2,
        "vmax": float(np.nanmax(targets) / _MICRO) + 2,
        "cmap": "viridis",
    }
    figure = figure_of(13, 7.4)
    axes = figure.subplot_mosaic("ABC;DDE")
    _map(figure, axes["A"], targets, "target", "G (µS)", **window)
    _map(figure, axes["B"], measured, "programmed", "G (µS)", **window)
    span = max(float(np.nanmax(np.abs(error)) / _MICRO), 0.1)
    _map(figure, axes["C"], error, "error", "G - target (µS)", cmap="RdBu", vmin=-span, vmax=span)
    flat = error[~np.isnan(error)] / _MICRO
    axes["D"].hist(flat, bins=60, color="tab:blue")
    axes["D"].set(
        title=f"error of {flat.size} cells: std {flat.std():.2f} µS, "
        f"{100 * (np.abs(flat) <= 1.5).mean():.1f} % within ±1.5 µS",
        xlabel="read back - target (µS)",
        ylabel="cells",
    )
    counts = pulses[~np.isnan(error)]
    axes["E"].hist(counts, bins=[k - 0.5 for k in range(int(counts.max()) + 2)], color="tab:green")
    axes["E"].set(
        title=f"mean {counts.mean():.2f} pulses a cell", xlabel="pulses of a cell", ylabel="cells"
    )
    figure.savefig(path, dpi=110)


def products(path: Path, exact: Array, read: Array, title: str) -> None:
    """Products through the array against exact ones, and their difference."""
    figure = figure_of(10, 4.2)
    left, right = figure.subplots(1, 2)
    left.plot(exact.ravel(), read.ravel(), ".", markersize=1.5, alpha=0.3)
    low, high = float(exact.min()), float(exact.max())
    left.plot([low, high], [low, high], "k-", linewidth=0.8)
    left.set(title=title, xlabel="exact product", ylabel="product through the array")
    difference = (read - exact).ravel()
    right.hist(difference, bins=80, color="tab:orange")
    right.set(
        title=f"rms error {difference.std():.3g} of rms {exact.std():.3g}",
        xlabel="read - exact",
        ylabel="products",
    )
    figure.savefig(path, dpi=110)


def observables(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Deviation from the exact value in standard errors, and in per cent, for every sampler.

    Args:
        path: file to write.
        rows: {"name", "exact", "array": (mean, error), "hmc": (mean, error)}.
    """
    figure = figure_of(10, 4.4)
    left, right = figure.subplots(1, 2)
    places = np.arange(len(rows))
    for shift, key, label in ((-0.12, "array", "flow on the array"), (0.12, "hmc", "HMC")):
        mean, error = np.array([row[key] for row in rows], dtype=float).T
        exact = np.array([row["exact"] for row in rows], dtype=float)
        left.errorbar(places + shift, (mean - exact) / error, yerr=1.0, fmt="o", label=label)
        right.errorbar(
            places + shift, 100 * (mean / exact - 1), yerr=100 * error / exact, fmt="o", label=label
        )
    for axes, label in ((left, "(value - exact) / error"), (right, "value / exact - 1 (%)")):
        axes.axhline(0.0, color="k", linewidth=0.8)
        axes.set_xticks(places, [row["name"] for row in rows], rotation=30)
        axes.set_ylabel(label)
        axes.legend()
    left.axhspan(-3, 3, color="tab:gray", alpha=0.15)
    figure.savefig(path, dpi=110)


class CalibrationErrors(Protocol):
    """What `calibration` draws of a job's result."""

    @property
    def expected_a(self) -> Array: ...  # noqa: D102
    @property
    def measured_a(self) -> Mapping[str, Array]: ...  # noqa: D102
    @property
    def error_a(self) -> Mapping[str, float]: ...  # noqa: D102
    @property
    def floor_a(self) -> float: ...  # noqa: D102


def calibration(path: Path, found: Calibration, job: CalibrationErrors) -> None:
    """Errors of products by state, resistances and offsets of rows."""
    figure = figure_of(13, 7.4)
    axes = figure.subplot_mosaic("AB;CD")
    error = {name: (y - job.expected_a).ravel() * 1e9 for name, y in job.measured_a.items()}
    for name, values in error.items():
        span = np.quantile(np.abs(values), 0.999)
        rms = job.error_a[name] * 1e9
        edges = np.linspace(-span, span, 81).tolist()
        label = f"{name}: {rms:.4g} nA"
        axes["A"].hist(values, bins=edges, density=True, histtype="step", label=label)
    axes["A"].set(xlabel="error of a product (nA)", ylabel="density (1/nA)", yscale="log")
    axes["A"].set_title(f"products of random inputs; noise {job.floor_a * 1e9:.3g} nA rms")
    axes["A"].legend()
    for name, y in job.measured_a.items():
        some = slice(None, None, max(1, job.expected_a.size // 2000))
        axes["B"].plot(
            job.expected_a.ravel()[some] * 1e6,
            (y - job.expected_a).ravel()[some] * 1e6,
            ".",
            markersize=3,
            label=name,
        )
    axes["B"].set(xlabel="expected product (µA)", ylabel="measured - expected (µA)")
    axes["B"].legend()
    rows = np.arange(len(found.lines.row_ohm))
    axes["C"].errorbar(rows, found.lines.row_ohm, found.row_error_ohm, fmt="o", markersize=4)
    axes["C"].set(
        title=f"wires: BL {found.lines.bl_segment_ohm:.2f}, SL {found.lines.sl_segment_ohm:.2f} "
        "ohm a cell",
        xlabel="row (WL, SL)",
        ylabel="switch and lead of the source line (ohm)",
    )
    for tia_range, offset in enumerate(found.tia_offset_v):
        axes["D"].plot(rows, offset * 1e3, ".-", label=f"range {tia_range}")
    axes["D"].set(xlabel="row (WL, SL)", ylabel="amplifier offset (mV)")
    axes["D"].legend()
    figure.savefig(path, dpi=120)
