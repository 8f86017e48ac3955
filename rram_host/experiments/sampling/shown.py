"""What a run file of configurations shows by itself: findings and a picture. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rram_host.errors import InputError
from rram_host.experiments.experiment import Finding
from rram_host.experiments.sampling.figures import named, quality
from rram_host.experiments.sampling.load import check_samples, flags
from rram_host.experiments.sampling.plan import SMALL
from rram_host.lattice.autocorrelation import mean_and_error
from rram_host.lattice.metropolis import Chain
from rram_host.records.run_file import RunFile

Array = npt.NDArray[np.float64]

_WINDOWS = 100  # of the running rejection
_LAGS = 60


def small_columns(run: RunFile) -> dict[str, Array]:
    """All columns of a run that figures are made of: not the fields."""
    return {name: np.asarray(run.column(name), dtype=np.float64) for name in SMALL}


def findings(run: RunFile) -> list[Finding]:
    """Figures and observables of the records there are; none below four."""
    if run.state.rows < 4:
        return []
    columns = small_columns(run)
    chain = Chain.of(flags(run))
    q = quality(columns["log_p"] - columns["log_q"], chain)
    found = [
        Finding("proposals N", q["n"]),
        Finding("ESS", q["ess"], "of N"),
        Finding("acceptance", q["acceptance"]),
        Finding("std(log w)", q["std_log_w"], "nats"),
        Finding("longest rejection", q["longest_rejection"], "proposals"),
        Finding("log Z", q["log_z"], "nats", q["log_z_error"]),
    ]
    for name, values in named(columns, _shape(run)).items():
        one = mean_and_error(values[chain.indices])
        found.append(Finding(f"<{name}>", one.mean, "", one.error))
        found.append(Finding(f"tau of {name}", one.tau, "proposals", one.tau_error))
    return found


def draw(figure: Figure, run: RunFile, observables: Mapping[str, Any] | None = None) -> None:
    """Log weights, running rejection, autocorrelation, observables.

    Args:
        figure: an empty one.
        run: with records.
        observables: rows of `report.results`, where they are at hand: deviations from references;
            otherwise the running means are drawn.
    """
    check_samples(run)
    columns, chain = small_columns(run), Chain.of(flags(run))
    axes = figure.subplots(2, 2)
    _weights(axes[0, 0], columns["log_p"] - columns["log_q"])
    _rejection(axes[0, 1], chain.accepted)
    series = {name: v[chain.indices] for name, v in named(columns, _shape(run)).items()}
    _autocorrelation(axes[1, 0], series)
    if observables and any(np.isfinite(row["sigma"]) for row in observables.values()):
        _deviations(axes[1, 1], observables)
    else:
        _running(axes[1, 1], series)


def save(path: Path, run: RunFile, observables: Mapping[str, Any] | None = None) -> None:
    """Draw into a PNG file.

    Raises:
        InputError: it cannot be written.
    """
    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure, run, observables)
    plan = run.header.plan
    couplings = (f"{k} = {v}" for k, v in plan["action"].items() if k != "name")
    action = ", ".join([plan["action"]["name"], *couplings])
    of = f"{plan['model']}, {action}, {run.header.board}, {run.header.started[:16]} UTC"
    figure.suptitle(of, fontsize="small")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot draw {path}: {error}") from None


def _shape(run: RunFile) -> tuple[int, int]:
    first, second = run.header.plan["shape"]
    return (int(first), int(second))


def _weights(axes: Axes, log_w: Array) -> None:
    q = quality(log_w, Chain.of(np.ones(len(log_w), dtype=np.bool_)))
    axes.hist(log_w - q["log_z"], bins=100, color="tab:blue", log=True)
    axes.axvline(0.0, color="k", linewidth=0.8)
    axes.set(
        title=f"N = {q['n']}: ESS {q['ess']:.3f}, std(log w) {q['std_log_w']:.3f} nats",
        xlabel="log w - log Z (nats)",
        ylabel="proposals",
    )


def _rejection(axes: Axes, accepted: npt.NDArray[np.bool_]) -> None:
    edges = np.linspace(0, len(accepted), min(_WINDOWS, len(accepted)) + 1).astype(int)
    share = 1.0 - np.add.reduceat(accepted, edges[:-1], dtype=float) / np.diff(edges)
    axes.step(edges[:-1], 100 * share, where="post", color="tab:red")
    axes.axhline(100 * (1.0 - accepted.mean()), color="k", linewidth=0.8)
    longest = Chain.of(accepted).longest_rejection
    axes.set(
        title=f"running rejection; longest run {longest} proposals",
        xlabel="proposal",
        ylabel="rejected (%)",
    )
    axes.locator_params(axis="x", nbins=5)


def _autocorrelation(axes: Axes, series: Mapping[str, Array]) -> None:
    for name in ("M", "|M|"):
        found = mean_and_error(series[name])
        rho = _rho(series[name])
        label = f"{name}: tau = {found.tau:.2f} ± {found.tau_error:.2f}"
        axes.plot(np.arange(len(rho)), rho, ".-", label=label)
    axes.axhline(0.0, color="k", linewidth=0.8)
    axes.set(title="autocorrelation of the chain", xlabel="lag (proposals)", ylabel="rho (1)")
    axes.legend()


def _rho(values: Array) -> Array:
    """Normalised autocorrelation at small lags."""
    centred = values - values.mean()
    n, lags = len(centred), min(_LAGS, len(centred) // 4)
    gamma = np.array([centred[: n - t] @ centred[t:] / (n - t) for t in range(lags + 1)])
    return gamma / gamma[0] if gamma[0] > 0.0 else gamma


def _deviations(axes: Axes, observables: Mapping[str, Any]) -> None:
    names = [name for name, row in observables.items() if np.isfinite(row["sigma"])]
    places = np.arange(len(names))
    sigma = [observables[name]["sigma"] for name in names]
    axes.errorbar(places - 0.1, sigma, yerr=1.0, fmt="o", label="flow")
    other = [
        (i, observables[name].get("baseline", {}).get("sigma")) for i, name in enumerate(names)
    ]
    other = [(i, s) for i, s in other if s is not None and np.isfinite(s)]
    if other:
        at, values = np.array(other).T
        axes.errorbar(at + 0.1, values, yerr=1.0, fmt="s", label="sampler beside it")
    sources = sorted({observables[name]["reference_source"] for name in names})
    axes.axhspan(-3, 3, color="tab:gray", alpha=0.15)
    axes.axhline(0.0, color="k", linewidth=0.8)
    axes.set_xticks(places, names, rotation=30)
    axes.set(
        title=f"deviation from reference: {', '.join(sources)}",
        ylabel="(value - reference) / error (1)",
    )
    axes.legend()


def _running(axes: Axes, series: Mapping[str, Array]) -> None:
    for name in ("M", "|M|", "E"):
        values = series[name]
        step = max(1, len(values) // 500)
        mean = np.cumsum(values) / np.arange(1, len(values) + 1)
        axes.plot(np.arange(len(values))[::step], mean[::step], label=name)
    axes.set(title="running means of the chain", xlabel="proposal", ylabel="mean (lattice units)")
    axes.locator_params(axis="x", nbins=5)
    axes.legend()
