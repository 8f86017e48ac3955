"""Is a run file of this experiment, plan and board? What differs is named."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from firmware_bridge.board_spec import BoardSpec
from rram_host.errors import InputError
from rram_host.experiments.experiment import Experiment
from rram_host.records.columns import Column
from rram_host.records.layout import to_json
from rram_host.records.run_file import RunFile
from rram_host.session import Board

P = TypeVar("P")
_SHOWN = 5


def plan_values(plan: object) -> dict[str, Any]:
    """Fields of a plan."""
    return {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}  # type: ignore[arg-type]


def spec_values(spec: BoardSpec) -> dict[str, Any]:
    """Fields of a board file, without the notes on where each value comes from."""
    values = dataclasses.asdict(spec)
    values.pop("provenance", None)
    return values


def differences(there: Mapping[str, Any], here: Mapping[str, Any], what: str) -> list[str]:
    """Lines such as "plan: step_v is 0.1 there, 0.2 here"; values compared as JSON keeps them."""
    a, b = (json.loads(to_json(dict(values))) for values in (there, here))
    return [
        f"{what}: {name} is {_shown(a.get(name))} there, {_shown(b.get(name))} here"
        for name in (*a, *(name for name in b if name not in a))
        if to_json(a.get(name)) != to_json(b.get(name))
    ]


def _shown(value: Any) -> str:
    text = to_json(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_same_run(run: RunFile, board: Board, experiment: Experiment[P], plan: P) -> None:
    """Refuse to go on with a run of something else.

    A chip with a passport is known by it, wherever it is plugged in; without one the board's URL
    must be the same.

    Raises:
        InputError: experiment, plan, wiring, chip, board or columns differ.
    """
    head = run.header
    if head.experiment != experiment.name:
        raise InputError(f"{run.path} holds a run of {head.experiment}, not of {experiment.name}")
    found = differences(head.plan, plan_values(plan), "plan")
    found += differences(head.spec, spec_values(board.spec), "board file")
    found += _chip(run, board)
    if _told(run.columns) != _told(experiment.columns(plan, board.spec)):
        found.append("columns: those of another version of the experiment")
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise InputError(f"{run.path} cannot go on: {'; '.join(found[:_SHOWN])}{more}")


def _chip(run: RunFile, board: Board) -> list[str]:
    chip = board.passport.contents.chip if board.passport else ""
    if chip or run.header.chip:
        return differences({"chip": run.header.chip}, {"chip": chip}, "passport")
    return differences({"url": run.header.board}, {"url": board.name}, "board")


def _told(columns: Sequence[Column]) -> list[tuple[Any, ...]]:
    return [(c.name, c.unit, np.dtype(c.dtype), c.dims, c.shape) for c in columns]
