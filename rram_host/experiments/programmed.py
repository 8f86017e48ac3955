"""A map of targets, programmed and read again: what several experiments record of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.policies import POLICY_NAMES, Policy
from rram_host.errors import InputError
from rram_host.experiments.experiment import Finding
from rram_host.records.columns import Batch, Column, Data
from rram_host.session import Board
from rram_host.units import MICRO

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MAX_AVERAGE = 1000
_NAMED = 10
POLICY_HELP = f"write-verify policy: {', '.join(POLICY_NAMES)}"


def check_average(average: int) -> None:
    """Refuse a number of reads that is none, or takes minutes.

    Raises:
        InputError: outside 1..1000.
    """
    if not 1 <= average <= MAX_AVERAGE:
        raise InputError(f"read_average = {average} is outside 1..{MAX_AVERAGE}")


def check_window(spec: BoardSpec, low_siemens: float, high_siemens: float) -> None:
    """Refuse targets that this chip is not to hold, before anything is recorded.

    Raises:
        InputError: outside the board file's window.
    """
    least, most = spec.conductance_min_siemens, spec.conductance_max_siemens
    # the last level of a row of steps may be off by rounding
    if low_siemens < least * (1 - 1e-9) or high_siemens > most * (1 + 1e-9):
        raise InputError(
            f"targets from {low_siemens / MICRO:.4g} to {high_siemens / MICRO:.4g} µS: the chip's "
            f"window is {least / MICRO:.4g}..{most / MICRO:.4g} µS"
        )


def map_columns(spec: BoardSpec) -> tuple[Column, ...]:
    """One record is one programming of the array."""
    grid: dict[str, Any] = {"dims": ("row", "col"), "shape": (spec.rows, spec.cols)}
    return (
        Column("target_siemens", "S", "target conductance, NaN where none", **grid),
        Column("measured_siemens", "S", "conductance, read after programming", **grid),
        Column("pulses", "", "SET and RESET pulses", dtype="i8", **grid),
        Column("energy_j", "J", "energy of these pulses, estimated", **grid),
        Column("working", "", "was programmed, is formed and not shorted", dtype="bool", **grid),
        Column("left_out", "", "dead or worn by the passport: left alone", dtype="bool", **grid),
        Column("board_time_s", "s", "board time of programming"),
    )


def program_map(board: Board, targets: Array, policy: Policy, average: int) -> Batch:
    """Program targets (rows, cols), read everything anew, and make one record of it.

    The reading is a fresh one: the last one that write-verify took is the one that made it stop,
    and looks better than the cell is.

    Raises:
        InputError: a target is outside the chip's window.
    """
    begun_s = board.clock_s  # the board's own: the same to the bit after a run was taken up again
    report = board.array.program(targets, policy)
    took_s = board.clock_s - begun_s
    measured = board.array.read(average)
    # what the passport holds back has no target in the report
    left_out = ~np.isnan(targets) & ~report.asked
    working = report.asked & ~report.unformed & (measured <= board.spec.shorted_siemens)
    return {
        "target_siemens": targets[None],
        "measured_siemens": measured[None],
        "pulses": report.pulses[None],
        "energy_j": report.energy_j[None],
        "working": working[None],
        "left_out": left_out[None],
        "board_time_s": np.array([took_s]),
    }


def working(data: Data) -> Mask:
    """Cells that findings are about, (records, rows, cols)."""
    return np.asarray(data["working"], dtype=bool)


def errors_siemens(data: Data) -> Array:
    """Reading minus target of working cells, one row of numbers."""
    cells = working(data)
    measured, target = (
        np.asarray(data[name], dtype=np.float64)[cells]
        for name in ("measured_siemens", "target_siemens")
    )
    error: Array = measured - target
    return error


def effort(data: Data) -> list[Finding]:
    """What programming took, and the cells that could not be programmed."""
    cells = working(data)
    energy = data["energy_j"].astype(float)[cells]
    return [
        Finding("pulses of a cell, mean", float(data["pulses"][cells].mean())),
        Finding("energy of programming a cell, mean", float(np.nanmean(energy)) * 1e12, "pJ"),
        *left_out(data),
    ]


def left_out(data: Data) -> list[Finding]:
    """Cells that findings are not about, the first ones that the passport holds back by name."""
    if not len(data.get("working", ())):
        return []
    held = np.asarray(data["left_out"], dtype=bool)
    asked = ~np.isnan(data["target_siemens"].astype(float))
    found = [
        Finding(
            "cells not formed or shorted, left out", int((asked & ~working(data) & ~held).sum())
        ),
        Finding("cells dead or worn by the passport, left out", int(held.sum())),
    ]
    for row, col in np.argwhere(held.any(0))[:_NAMED].tolist():
        times = int(held[:, row, col].sum())
        found.append(Finding(f"cell ({row}, {col}) left out by the passport", times, "times"))
    return found


def is_empty(data: Mapping[str, npt.NDArray[np.generic]], column: str = "working") -> bool:
    """Whether there is nothing to say yet."""
    return column not in data or not np.asarray(data[column]).any()
