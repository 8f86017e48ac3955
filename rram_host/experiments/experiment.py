"""What an experiment is: a frozen plan, columns, and work in units, each of which is recorded.

A unit is what cannot be cut in two: a sweep, a target, a checkpoint. After each its records are
committed, and a run that was broken off goes on with the first unit that was not. So a unit takes
nothing from the one before but what the chip itself holds, and draws its random numbers from
`unit_rng`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from firmware_bridge.board_spec import BoardSpec
from rram_host.records.columns import Batch, Column, Data
from rram_host.session import Board

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = TypeVar("P")


@dataclass(frozen=True)
class Finding:
    """A number that an experiment found, beside the paper's.

    Attributes:
        name: what it is.
        value: in the unit.
        unit: as a person reads it ("µS", "V", "%"); empty for counts.
        error: standard error; None where there is none to state.
        paper: what arXiv 2509.12812 says of it; empty where it says nothing.
    """

    name: str
    value: float
    unit: str = ""
    error: float | None = None
    paper: str = ""


@dataclass(frozen=True)
class Experiment(Generic[P]):
    """All that is to be known of an experiment.

    Attributes:
        name: of the command and of the run ("set-curve").
        title: one line, for pictures and lists.
        help: what it does to the array, with examples: the command's help text.
        plan: the frozen dataclass of its settings, made with `setting`.
        columns: of its records.
        units: how many units of work a plan is.
        run: of (board, plan, start, done): does the units from `start` on, in order, and yields one
            batch of rows a unit. `done` holds the rows of the units before `start`, by column.
        findings: what data (all rows so far, by column) say. Never fails for a run cut short.
        draw: the picture, onto an empty figure.
    """

    name: str
    title: str
    help: str
    plan: type[P]
    columns: Callable[[P, BoardSpec], tuple[Column, ...]]
    units: Callable[[P, BoardSpec], int]
    run: Callable[[Board, P, int, Data], Iterator[Batch]]
    findings: Callable[[P, Data], list[Finding]]
    draw: Callable[[Figure, P, Data], None]


def setting(default: Any, text: str, flag: str = "") -> Any:
    """A field of a plan, with the help text of its option.

    The option's name is the field's without its unit (`stop_v` is `--stop`, in V); fields in
    siemens are given in microsiemens on the command line.

    Args:
        default: value, in SI units.
        text: help text.
        flag: option's name where the field's will not do.
    """
    return dataclasses.field(default=default, metadata={"help": text, "flag": flag})


def unit_rng(seed: int, unit: int) -> np.random.Generator:
    """Random numbers of one unit of a run: the same whether or not the run was resumed."""
    return np.random.default_rng([seed, unit])
