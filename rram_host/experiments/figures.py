"""Figure 2 of arXiv 2509.12812 as one picture, from runs of its experiments, and as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rram_host.array.calibrate import CalibrationPlan
from rram_host.array.calibration import Calibration
from rram_host.errors import InputError
from rram_host.experiments.catalogue import experiment_named
from rram_host.experiments.experiment import Experiment, Finding
from rram_host.experiments.recording import record
from rram_host.records.columns import Data
from rram_host.records.rebuild import rebuilt
from rram_host.records.run_file import RunFile
from rram_host.records.status import DONE
from rram_host.session import Board

# Called with (panel, experiment, units done, units in all).
Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True)
class Panel:
    """One panel of the figure.

    Attributes:
        place: in the paper, "2d".
        experiment: its name.
        quick: settings of a short look, in place of the defaults.
    """

    place: str
    experiment: str
    quick: Mapping[str, Any] = field(default_factory=dict)


_CONDUCTING = 20e-6, 80e-6  # siemens

FIG2 = (
    Panel("2d", "iv", {"cycles": 20}),
    Panel("2e", "set-curve", {"repetitions": 2}),
    Panel("2f", "cycle", {"runs": 2}),
    Panel("2g", "distribution", {"rounds": 1}),
    Panel("2h", "pattern"),
    Panel("2i", "retention", {"points_per_decade": 1}),
    Panel("2j", "linearity", {"sweeps": 4}),
    Panel("2k", "vmm-example", {"matrices": 1, "vectors": 64}),
)


@dataclass(frozen=True)
class Shown:
    """A panel with what was recorded for it."""

    panel: Panel
    experiment: Experiment[Any]
    plan: Any
    data: Data
    path: Path

    @property
    def findings(self) -> list[Finding]:
        """What the data say."""
        return self.experiment.findings(self.plan, self.data)


def calibrate(
    board: Board,
    folder: Path,
    panels: Sequence[Panel],
    plan: CalibrationPlan | None = None,
    seed: int = 7,
) -> bool:
    """Take the calibration that the folder's runs began with; where there are none, measure one.

    Readings of a board that is not calibrated are off by a few per cent at high conductances, and
    so are the cells that were programmed by them, without any error seen. Measuring needs cells
    that conduct: random conductances of 20 to 80 µS are programmed first.

    Args:
        board: to calibrate.
        folder: where run files go.
        panels: whose runs are looked for.
        plan: how long to measure.
        seed: of the conductances.

    Returns:
        Whether it was measured.

    Raises:
        BoardFault: too few cells conduct.
    """
    for panel in panels:
        path = _path(folder, panel)
        if path.exists():
            board.array.use(Calibration.from_dict(RunFile(path).header.calibration))
            return False
    board.array.program(np.random.default_rng(seed).uniform(*_CONDUCTING, board.array.shape))
    board.calibrate(plan)
    return True


def record_panels(
    board: Board,
    folder: Path,
    panels: Sequence[Panel],
    quick: bool = False,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[Shown]:
    """Run all experiments one after another on one chip, a run file each, and yield each when done.

    Runs that the folder holds already are gone on with, and not done twice.

    Args:
        board: to run on.
        folder: where run files go, "2d-iv.h5" and so on.
        panels: which.
        quick: with the panels' short settings.
        progress: is told how far a panel is.
        should_stop: asked after every unit of work; a panel that it stops is not yielded.

    Raises:
        InputError: the folder holds a run of other settings, or of another board.
    """
    for panel in panels:
        experiment = _experiment(panel)
        plan = experiment.plan(**(panel.quick if quick else {}))
        path = _path(folder, panel)

        def advance(done: int, total: int, panel: Panel = panel) -> None:
            if progress:
                progress(panel.place, panel.experiment, done, total)

        run = record(board, experiment, plan, path, path.exists(), advance, should_stop)
        if run.state.status != DONE:
            return
        yield Shown(panel, experiment, plan, run.data(), path)


def recorded_panels(folder: Path, panels: Sequence[Panel]) -> list[Shown]:
    """The newest finished run of every panel's experiment in a folder; files of others are skipped.

    Raises:
        InputError: an experiment has no finished run there.
    """
    newest: dict[str, RunFile] = {}
    for path in sorted(folder.glob("**/*.h5")):
        try:
            run = RunFile(path)
        except InputError:
            continue  # of something else
        name = run.header.experiment
        if run.state.status == DONE and (
            name not in newest or run.header.started >= newest[name].header.started
        ):
            newest[name] = run
    missing = [panel.experiment for panel in panels if panel.experiment not in newest]
    if missing:
        raise InputError(f"{folder} holds no finished run of {', '.join(missing)}")
    shown = []
    for panel in panels:
        run, experiment = newest[panel.experiment], _experiment(panel)
        plan = rebuilt(experiment.plan, run.header.plan)
        shown.append(Shown(panel, experiment, plan, run.data(), run.path))
    return shown


def _path(folder: Path, panel: Panel) -> Path:
    return folder / f"{panel.place}-{panel.experiment}.h5"


def _experiment(panel: Panel) -> Experiment[Any]:
    return experiment_named(panel.experiment)


def draw(path: Path, shown: Sequence[Shown], columns: int = 4) -> None:
    """All panels as one picture.

    Args:
        path: PNG to write.
        shown: in reading order.
        columns: panels side by side.
    """
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(7.2 * min(columns, len(shown)), 6.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(rows, min(columns, len(shown)), squeeze=False).ravel()
    for part, each in zip(cast("npt.NDArray[np.object_]", parts), shown, strict=False):
        part.suptitle(f"{each.panel.place}   {each.experiment.title}", fontweight="bold")
        # a subfigure draws as a figure does
        each.experiment.draw(cast(Figure, part), each.plan, each.data)
    figure.savefig(path, dpi=100)


def table(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """Every finding as plain values, beside what the paper says."""
    return [
        {
            "figure": each.panel.place,
            "experiment": each.experiment.name,
            "name": found.name,
            "value": found.value,
            "error": found.error,
            "unit": found.unit,
            "paper": found.paper,
        }
        for each in shown
        for found in each.findings
    ]
