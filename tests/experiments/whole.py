"""Runs of whole experiments, without a file."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rram_host.experiments.experiment import Experiment
from rram_host.session import Board


def rows_of(board: Board, experiment: Experiment, plan: Any, start: int = 0, done=None) -> dict:
    """Records of the units from `start` on, stored as a run file stores them."""
    columns = experiment.columns(plan, board.spec)
    batches = list(experiment.run(board, plan, start, done or {}))
    assert len(batches) == experiment.units(plan, board.spec) - start
    for batch in batches:
        assert set(batch) == {column.name for column in columns}
        for column in columns:
            assert np.asarray(batch[column.name]).shape[1:] == column.shape, column.name
    return {
        c.name: np.concatenate([np.asarray(b[c.name]).astype(c.dtype) for b in batches])
        for c in columns
    }


def found(experiment: Experiment, plan: Any, data: dict) -> dict[str, Any]:
    """Findings by name; a run cut short before its first record has some too, or none."""
    nothing = {name: values[:0] for name, values in data.items()}
    experiment.findings(plan, nothing)
    return {f.name: f for f in experiment.findings(plan, data)}


def drawn(experiment: Experiment, plan: Any, data: dict) -> Figure:
    """The picture, rendered; that of no records too."""
    experiment.draw(Figure(), plan, {name: values[:0] for name, values in data.items()})
    figure = Figure(layout="constrained")
    experiment.draw(figure, plan, data)
    figure.canvas.draw()
    return figure
