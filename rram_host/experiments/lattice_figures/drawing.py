"""Panels as points with errors, reference lines and boxes; how they look, and as rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rram_host.records.plots import figure_of

# Okabe and Ito's palette, which colour-blind readers tell apart; a marker of its own each.
STYLES: dict[str, tuple[str, str]] = {
    "HMC, length 1": ("#E69F00", "s"),
    "HMC, tuned": ("#0072B2", "o"),
    "Wolff": ("#56B4E9", "v"),
    "flow, software": ("#009E73", "^"),
    "flow, array": ("#D55E00", "D"),
    "paper, HMC": ("#666666", "+"),
    "paper, flow": ("#666666", "x"),
    "GPU": ("#CC79A7", "P"),
    "macro": ("#000000", "*"),
    "macro, cells alone": ("#999999", "d"),
    "weights, these": ("#009E73", "o"),
    "MACs, these": ("#0072B2", "s"),
    "weights, paper": ("#666666", "+"),
    "MACs, paper": ("#666666", "x"),
}
_OTHER = ("#444444", ".")
_DASHES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Point:
    """One value.

    Attributes:
        series: whose; decides colour and marker.
        x: place on the axis; with categories, the number of one.
        value, error: in the panel's unit; an error of 0 where the value is counted or printed.
        group: what tells it from others of its series, "L = 6".
        note: further figures, for the table alone.
        shift: drawn so far beside x, where points would hide each other.
    """

    series: str
    x: float
    value: float
    error: float
    group: str = ""
    note: str = ""
    shift: float = 0.0


@dataclass(frozen=True)
class Line:
    """An exact or reference value: x, y, and how it is called."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    note: str = ""  # written before its beginning where the axis has categories


@dataclass(frozen=True)
class Box:
    """Values of repeats: one box."""

    series: str
    x: float
    values: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        place: "3a".
        title, x_label, y_label: with units.
        points, lines, boxes: what is shown.
        categories: names of the places 0, 1, ... of the x axis; none for a number axis.
        log_x, log_y: logarithmic axes.
        joined: series are drawn as lines.
        y_limits: of the axis; None for what fits.
        missing: what could not be drawn, and why.
    """

    place: str
    title: str
    x_label: str
    y_label: str
    points: Sequence[Point] = ()
    lines: Sequence[Line] = ()
    boxes: Sequence[Box] = ()
    categories: Sequence[str] = ()
    log_x: bool = False
    log_y: bool = False
    joined: bool = False
    y_limits: tuple[float, float] | None = None
    missing: Sequence[str] = field(default_factory=tuple)


def rows(panels: Sequence[Panel]) -> Iterator[dict[str, Any]]:
    """Every point, line and box of panels as plain values."""
    for panel in panels:
        common = {"panel": panel.place, "title": panel.title, "quantity": panel.y_label}
        for point in panel.points:
            yield {
                **common,
                "series": point.series,
                "group": point.group,
                "x_name": panel.x_label,
                "x": _category(panel, point.x),
                "value": point.value,
                "error": point.error,
                "note": point.note,
            }
        for line in panel.lines:
            for x, y in zip(line.x, line.y, strict=True):
                yield {
                    **common,
                    "series": line.label,
                    "group": line.note,
                    "x_name": panel.x_label,
                    "x": _category(panel, x),
                    "value": y,
                    "error": 0.0,
                    "note": "reference",
                }
        for box in panel.boxes:
            values = np.asarray(box.values, dtype=np.float64)
            listed = " ".join(f"{value:.6g}" for value in values)
            yield {
                **common,
                "series": box.series,
                "group": f"n = {values.size} repeats",
                "x_name": panel.x_label,
                "x": _category(panel, box.x),
                "value": float(values.mean()),
                "error": float(values.std(ddof=1) / np.sqrt(values.size)),
                "note": f"repeats: {listed}",
            }


def _category(panel: Panel, x: float) -> float | str:
    if not panel.categories:
        return x
    nearest = round(x)
    inside = 0 <= nearest < len(panel.categories)
    return panel.categories[nearest] if inside else x


def draw(path: Path, title: str, panels: Sequence[Panel], columns: int) -> None:
    """All panels as one picture, in place of what is there.

    Args:
        path: PNG to write.
        title: over all of it.
        panels: in reading order.
        columns: panels side by side.
    """
    many = -(-len(panels) // columns)
    figure = figure_of(5.2 * columns, 4.6 * many)
    figure.suptitle(title, fontsize=15)
    axes = figure.subplots(many, columns, squeeze=False).ravel()
    for place, panel in zip(axes, panels, strict=False):
        draw_panel(place, panel)
    for place in axes[len(panels) :]:
        place.set_visible(False)
    beside = path.with_name(f".{path.name}")
    figure.savefig(beside, dpi=100, format="png")
    beside.replace(path)


def draw_panel(axes: Any, panel: Panel) -> None:
    """One panel."""
    axes.set_title(f"{panel.place}   {panel.title}", loc="left", fontsize=11, fontweight="bold")
    axes.set(xlabel="\n".join((panel.x_label, *panel.missing)), ylabel=panel.y_label)
    if panel.log_x:
        axes.set_xscale("log", base=2)
    if panel.log_y:
        axes.set_yscale("log")
    shifts = _shifts(panel)
    _draw_lines(axes, panel)
    _draw_points(axes, panel, shifts)
    for box in panel.boxes:
        _draw_box(axes, box, box.x + shifts[box.series])
    if panel.categories:
        axes.set_xticks(range(len(panel.categories)), panel.categories)
        # room for the names of lines
        left = -0.95 if any(line.note for line in panel.lines) else -0.6
        axes.set_xlim(left, len(panel.categories) - 0.4)
    if panel.y_limits:
        axes.set_ylim(*panel.y_limits)
    axes.grid(visible=True, axis="y", alpha=0.25)
    _legend(axes, panel)


def _shifts(panel: Panel) -> dict[str, float]:
    """Series beside each other within a category."""
    order = list(STYLES)
    names = {p.series for p in panel.points} | {b.series for b in panel.boxes}
    series = sorted(names, key=lambda s: order.index(s) if s in order else len(order))
    if not panel.categories:
        return dict.fromkeys(series, 0.0)
    step = min(0.2, 0.7 / max(len(series), 1))
    return {name: step * (k - 0.5 * (len(series) - 1)) for k, name in enumerate(series)}


def _draw_lines(axes: Any, panel: Panel) -> None:
    labels = list(dict.fromkeys(line.label for line in panel.lines))
    for line in panel.lines:
        style = _DASHES[labels.index(line.label) % len(_DASHES)]
        x, y = with_gaps(line) if panel.categories else (line.x, line.y)
        mark = "_" if line.note else None
        axes.plot(x, y, style, marker=mark, markersize=12, color="0.35", linewidth=1.1, zorder=1)
        if line.note and panel.categories:
            axes.annotate(
                line.note,
                (line.x[0] - 0.3, line.y[0]),  # left of the first points
                ha="right",
                va="center",
                fontsize=8,
                color="0.3",
            )


def with_gaps(line: Line) -> tuple[list[float], list[float]]:
    """x, y of a line over categories, broken where it knows no value: a chord is no reference."""
    x, y = [*line.x[:1]], [*line.y[:1]]
    for before, at, value in zip(line.x, line.x[1:], line.y[1:], strict=False):
        if at - before > 1.0 and line.note:
            x.append(math.nan)
            y.append(math.nan)
        x.append(at)
        y.append(value)
    return x, y


def _draw_points(axes: Any, panel: Panel, shifts: dict[str, float]) -> None:
    grouped: dict[tuple[str, str], list[Point]] = {}
    for point in panel.points:
        grouped.setdefault((point.series, point.group), []).append(point)
    groups = list(dict.fromkeys(group for _, group in grouped))
    for (series, group), points in grouped.items():
        colour, marker = STYLES.get(series, _OTHER)
        x = np.array([p.x + p.shift for p in points]) + shifts[series]
        y = np.array([p.value for p in points])
        errors = np.array([p.error for p in points])
        fill = "full" if groups.index(group) % 2 == 0 else "none"
        axes.errorbar(
            x,
            y,
            yerr=errors if np.any(errors > 0) else None,
            fmt=marker,
            linestyle="-" if panel.joined else "none",
            linewidth=1.2,
            color=colour,
            fillstyle=fill,
            markersize=4 if panel.joined else 6.5,
            markeredgewidth=1.6 if marker in "+x" else 1.0,
            capsize=2.5,
        )


def _draw_box(axes: Any, box: Box, x: float) -> None:
    colour, marker = STYLES.get(box.series, _OTHER)
    axes.boxplot(
        [list(box.values)],
        positions=[x],
        widths=0.16,
        patch_artist=True,
        manage_ticks=False,
        showfliers=False,
        boxprops={"facecolor": colour, "alpha": 0.35, "edgecolor": colour},
        medianprops={"color": colour, "linewidth": 1.6},
        whiskerprops={"color": colour},
        capprops={"color": colour},
    )
    spread = np.linspace(-0.05, 0.05, len(box.values))
    axes.plot(x + spread, box.values, marker, color=colour, markersize=3, linestyle="none")


def make_room(axes: Any, share: float) -> None:
    """Leave a share of the axis free above everything drawn."""
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(np.array(axes.get_ylim()))
    top = scale.inverted().transform(np.array([low + (high - low) / (1.0 - share)]))[0]
    axes.set_ylim(axes.get_ylim()[0], top)


def _legend(axes: Any, panel: Panel) -> None:
    """Series and kinds of lines that are there, once each."""
    from matplotlib.lines import Line2D

    names = {p.series for p in panel.points} | {b.series for b in panel.boxes}
    known = [name for name in STYLES if name in names]
    handles = []
    for name in (*known, *sorted(names - set(known))):
        colour, marker = STYLES.get(name, _OTHER)
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="none", label=name))
    groups = [group for group in dict.fromkeys(p.group for p in panel.points) if group]
    for k, group in enumerate(groups):
        fill: Literal["full", "none"] = "full" if k % 2 == 0 else "none"
        handles.append(
            Line2D([], [], color="0.3", marker="o", fillstyle=fill, linestyle="none", label=group)
        )
    for k, label in enumerate(dict.fromkeys(line.label for line in panel.lines)):
        handles.append(
            Line2D([], [], color="0.35", linestyle=_DASHES[k % len(_DASHES)], label=label)
        )
    if panel.categories and (panel.boxes or len(handles) > 6) and not panel.y_limits:
        make_room(axes, 0.08 * -(-len(handles) // 3))  # no corner is free
        axes.legend(handles=handles, fontsize=8, loc="upper center", ncols=3, columnspacing=1.0)
    elif handles:
        axes.legend(handles=handles, fontsize=8, framealpha=0.85)
