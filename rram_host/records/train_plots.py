"""Pictures of trainings: loss and effective sample size, and curves beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from rram_host.records.plots import figure_of

_ESS = "ESS / N"


def training(path: Path, rows: Sequence[Mapping[str, float]], title: str) -> None:
    """Loss, effective sample size and spread of log w of the batches of one training.

    Args:
        path: the PNG.
        rows: log entries with "step", "loss", "ess" and "std_log_w".
        title: above the picture.
    """
    figure = figure_of(12, 4)
    panels: list[Axes] = list(figure.subplots(1, 3))
    steps = [row["step"] for row in rows]
    for axes, name, label in zip(
        panels,
        ("loss", "ess", "std_log_w"),
        ("loss: mean of log q + S (nats)", f"{_ESS} of a batch", "std of log w (nats)"),
        strict=True,
    ):
        axes.plot(steps, [row[name] for row in rows], ".-", markersize=3, linewidth=0.8)
        axes.set_xlabel("optimiser steps")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    panels[1].set_ylim(0.0, 1.02)
    panels[2].set_yscale("log")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def adaptations(path: Path, found: Sequence[Mapping[str, Any]]) -> None:
    """Adapted and trained from scratch: ESS over steps, one panel a case, steps on a log axis.

    Args:
        path: the PNG.
        found: summaries of `experiments.adaptation.Comparison`.
    """
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    figure = figure_of(6.0 * columns, 4.4 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, case in zip(grid, found, strict=False):
        _adaptation(axes, case)
    for axes in grid[len(found) :]:
        axes.set_visible(False)
    figure.savefig(path, dpi=110)


def _adaptation(axes: Axes, case: Mapping[str, Any]) -> None:
    curves = [("from scratch, all weights", "ks-", case["scratch"])]
    for found in case["adaptations"]:
        label = f"{found['label']}: {100 * found['trained_share']:.1f} % of numbers trained"
        curves.append((label, "o-", found["points"]))
    for label, style, points in curves:
        steps, ess = [p["steps"] for p in points], [p["ess"] for p in points]
        axes.plot(steps, ess, style, markersize=4, linewidth=1, label=label)
    axes.axhline(case["ess_before"], color="grey", linestyle=":", label="as it was")
    axes.set_xscale("log")
    axes.set_xlabel("optimiser steps of a run")
    axes.set_ylabel(f"{_ESS} at N = {case['samples']}")
    axes.set_title(case["title"], fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower right")
