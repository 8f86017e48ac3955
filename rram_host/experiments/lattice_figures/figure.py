"""A figure from beginning to end: samples, panels, picture, tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rram_host.errors import InputError
from rram_host.experiments.lattice_figures import fig3, fig4
from rram_host.experiments.lattice_figures.common_panels import Context
from rram_host.experiments.lattice_figures.drawing import Panel, draw, rows
from rram_host.experiments.lattice_figures.plan import PLANS, FigurePlan, System, quick
from rram_host.experiments.lattice_figures.samples import Job, check_board, jobs
from rram_host.experiments.lattice_figures.store import Arrays, Store

# Called with (piece of work, done, total).
Progress = Callable[[str, int, int], None]

_PANELS = {"fig3": fig3.panels, "fig4": fig4.panels}
_TITLES = {"fig3": fig3.TITLE, "fig4": fig4.TITLE}


def plan_of(name: str, short: bool = False) -> FigurePlan:
    """The plan of "fig3" or "fig4".

    Raises:
        InputError: another name.
    """
    if name not in PLANS:
        raise InputError(f"no figure {name!r}; known: {', '.join(PLANS)}")
    return quick(PLANS[name]) if short else PLANS[name]


def record(
    plan: FigurePlan,
    folder: Path,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    done: Callable[[Job], None] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Context, bool]:
    """Do the work that the folder does not hold yet.

    Args:
        plan: what.
        folder: where finished pieces are kept.
        progress: told how far a piece is.
        should_stop: asked after every piece.
        done: told of every piece that is done or found.
        tell: told how long emulated arrays take, once that is known.

    Returns:
        Samples so far, and whether they are all.

    Raises:
        InputError: the folder holds pieces of other settings, or a board cannot be opened.
    """
    check_board(plan)
    store, todo = Store(folder / "work"), jobs(plan, tell)
    samples: dict[tuple[str, System], Arrays] = {}
    for number, job in enumerate(todo, 1):

        def show(part: int, total: int, job: Job = job, number: int = number) -> None:
            if progress:
                progress(f"{number}/{len(todo)} {job.name}", part, total)

        found = store.get(job.name, job.settings, partial(job.make, show))
        samples[job.method, job.system] = found
        if done:
            done(job)
        if number < len(todo) and should_stop and should_stop():
            return Context(plan, samples), False
    return Context(plan, samples), True


def panels(context: Context) -> list[Panel]:
    """Panels of a figure from its samples."""
    return _PANELS[context.plan.name](context)


def write(context: Context, folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Picture, CSV and JSON of a figure, each in place of an older one.

    Returns:
        The picture, and the rows of the table.
    """
    name, shown = context.plan.name, panels(context)
    table = list(rows(shown))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draw(folder / f"{name}.png", _TITLES[name], shown, 5 if len(shown) == 10 else 4)
        _replace(folder / f"{name}.csv", _csv(table))
        missing = {panel.place: list(panel.missing) for panel in shown if panel.missing}
        text = json.dumps({"figure": name, "rows": table, "missing": missing}, indent=1)
        _replace(folder / f"{name}.json", text)
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}") from None
    return folder / f"{name}.png", table


def _csv(table: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return stream.getvalue()


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
