"""Cyclic programming of some cells towards a target (Fig. 2f of arXiv 2509.12812).

A cycle is one pulse on every cell that is off its target, and a read. Pulses climb a staircase
until the cell passes its target, then one of the other direction: what every lab begins with, and
what `rram program --policy ispp` does. Here every cycle is recorded, and a run starts from RESET.
The paper does not say what its cycles are. Where staircases start, their steps and the tolerance
are choices of ours, and how many cycles cells need follows from them: that it agrees with the
paper's 20 to 30 is no evidence of anything.

A cell is at its target once it reads within the tolerance, and is taken up again when it reads more
than twice the tolerance off. It has converged at the cycle from which on it needs no more pulses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.masks import of_cells
from rram_host.array.stepping import Pulses, Staircase, Stairs
from rram_host.errors import InputError
from rram_host.experiments import estimates
from rram_host.experiments.common import (
    at_least,
    check_cells,
    check_pulses,
    check_voltage,
    finding,
    ready_all,
    reset_limit_v,
)
from rram_host.experiments.experiment import Experiment, Finding, setting
from rram_host.records.columns import Batch, Column, Data
from rram_host.session import Board
from rram_host.units import MICRO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_PAPER = "20 to 30"
_FOREVER = 1_000_000_000  # reversals after which a cell would be given up


@dataclass(frozen=True)
class CyclePlan:
    """Which cells, where to, and by which steps; the fields' help texts say the rest."""

    cells: tuple[tuple[int, int], ...] = setting(
        ((4, 4), (12, 12), (20, 20), (28, 28)), "cells, each as row,col", "cell"
    )
    target_siemens: float = setting(50e-6, "target conductance")
    tolerance_siemens: float = setting(0.6e-6, "a cell is at its target within this")
    cycles: int = setting(60, "cycles of a run: pulses that a cell may get")
    runs: int = setting(8, "runs, each from RESET")
    set_start_v: float = setting(0.9, "gate voltage that SET staircases start at")
    set_step_v: float = setting(0.02, "step of SET staircases")
    reset_start_v: float = setting(1.4, "voltage that RESET staircases start at")
    reset_step_v: float = setting(0.03, "step of RESET staircases")
    backoff_v: float = setting(0.1, "a staircase goes on this far below where it stood")
    reset_v: float = setting(2.6, "RESET voltage before a run")

    def __post_init__(self) -> None:
        """Refuse no cycles, and steps that do not climb."""
        at_least(self, cycles=1, runs=1, backoff_v=0.0)
        if not self.tolerance_siemens > 0:
            raise InputError(f"tolerance {self.tolerance_siemens / MICRO} µS must be above 0 µS")
        if not (
            min(self.set_start_v, self.reset_start_v) > 0 < min(self.set_step_v, self.reset_step_v)
        ):
            raise InputError("staircases must start above 0 V and climb by more than 0 V")


def columns(plan: CyclePlan, spec: BoardSpec) -> tuple[Column, ...]:
    """One record is one cycle of all cells; cycle 0 is the RESET before the run."""
    per_cell = partial(Column, dims=("cell",), shape=(len(plan.cells),))
    return (
        Column("run", "", "run", "i4"),
        Column("cycle", "", "cycle: reads since the RESET", "i4"),
        per_cell("conductance_siemens", "S", "conductance read in the cycle"),
        per_cell("direction", "", "1 after a SET pulse, -1 after a RESET, 0 after none", "i1"),
        per_cell("pulse_v", "V", "gate voltage of a SET, or RESET voltage; NaN for none"),
    )


def units(plan: CyclePlan, spec: BoardSpec) -> int:
    """A unit is a run.

    Raises:
        InputError: a cell outside the array, or a target or a voltage beyond limits.
    """
    check_cells(plan.cells, spec)
    check_voltage("set_start_v", plan.set_start_v, spec.compliance_limit_v())
    check_voltage("reset_start_v", plan.reset_start_v, reset_limit_v(spec))
    check_voltage("reset_v", plan.reset_v, reset_limit_v(spec))
    low, high = spec.conductance_min_siemens, spec.conductance_max_siemens
    if not low <= plan.target_siemens <= high:
        raise InputError(
            f"target {plan.target_siemens / MICRO:.4g} µS is outside the chip's window "
            f"{low / MICRO:.4g}..{high / MICRO:.4g} µS"
        )
    return plan.runs


def run(board: Board, plan: CyclePlan, start: int, done: Data) -> Iterator[Batch]:
    """Take the cells from RESET to the target, cycle by cycle.

    Raises:
        InputError: a cell cannot be used, or the passport allows fewer pulses.
    """
    runs = units(plan, board.spec)
    most = (runs - start) * (plan.cycles + 1)  # the first of a run is its RESET
    check_pulses(board, of_cells(board.array.shape, plan.cells), most)
    for unit in range(start, runs):
        mask = ready_all(board, plan.cells)
        yield {"run": np.full(plan.cycles + 1, unit), **_one_run(board, plan, mask)}


def _one_run(board: Board, plan: CyclePlan, mask: Mask) -> dict[str, npt.NDArray[np.generic]]:
    """Readings, directions and voltages of a run, (cycles + 1, cells)."""
    array, spec = board.array, board.spec
    stairs = Staircase(
        np.full(array.shape, plan.target_siemens),
        Stairs(plan.set_start_v, plan.set_step_v, spec.compliance_limit_v()),
        Stairs(plan.reset_start_v, plan.reset_step_v, reset_limit_v(spec)),
        _FOREVER,
        plan.backoff_v,
    )
    index = tuple(np.array(plan.cells).T)
    g = array.reset_cells(mask, np.full(mask.shape, plan.reset_v))
    nothing = np.zeros(len(plan.cells))
    rows = [(g[index], nothing - 1, nothing + plan.reset_v)]
    at_target = np.zeros(mask.shape, dtype=bool)
    for _ in range(plan.cycles):
        away = np.abs(g - plan.target_siemens)
        at_target = away <= np.where(at_target, 2, 1) * plan.tolerance_siemens
        pulses = stairs.next(g, mask & ~at_target)
        g = _give(board, pulses)
        direction = pulses.up.astype(np.float64) - pulses.down
        volts = np.where(pulses.up, pulses.wl_v, np.where(pulses.down, pulses.reset_v, np.nan))
        rows.append((g[index], direction[index], volts[index]))
    read, direction, volts = (np.array(part) for part in zip(*rows, strict=True))
    return {
        "cycle": np.arange(len(read)),
        "conductance_siemens": read,
        "direction": direction.astype(np.int8),
        "pulse_v": volts,
    }


def _give(board: Board, pulses: Pulses) -> Array:
    """Give pulses, SETs first, and read the array."""
    if pulses.up.any():
        g = board.array.set_cells(pulses.up, pulses.wl_v)
    if pulses.down.any():
        return board.array.reset_cells(pulses.down, pulses.reset_v)
    return g if pulses.up.any() else board.array.read(1)


def trajectories(plan: CyclePlan, data: Data) -> tuple[Array, Array]:
    """Readings (runs, cycles + 1, cells), and the cycle at which each converged (runs, cells).

    NaN where a cell has not: it got a pulse in the last cycle, or ended too far off.
    """
    shape = (-1, plan.cycles + 1, len(plan.cells))
    g = np.asarray(data["conductance_siemens"], dtype=np.float64).reshape(shape)
    pulsed = np.asarray(data["direction"]).reshape(shape) != 0
    last = plan.cycles - np.argmax(pulsed[:, ::-1], axis=1)  # cycle 0 has a pulse
    off = np.abs(g[:, -1] - plan.target_siemens) > 2 * plan.tolerance_siemens
    return g, np.where(off | (last == plan.cycles), np.nan, last)


def median_cycles(needed: Array) -> float:
    """Median of all cells and runs; infinity where less than half have converged.

    A cell that has not counts as needing more than any other: the median of those that have would
    be the lower the shorter a run is.
    """
    return float(np.median(np.where(np.isnan(needed), np.inf, needed)))


def findings(plan: CyclePlan, data: Data) -> list[Finding]:
    """Cycles that cells needed, and how far from the target they ended."""
    g, needed = trajectories(plan, data)
    if not len(g):
        return []
    seen = estimates.finite(needed)
    error = g[:, -1] - plan.target_siemens
    share = estimates.share(seen.size, needed.size)
    found = [
        finding("cells that converged", share, "%", "all four", 0.01),
        Finding("cycles needed, median of all", median_cycles(needed), "", None, _PAPER),
    ]
    if seen.size:
        found += [
            finding(
                "cycles needed, mean of cells that converged", estimates.mean(seen), "", _PAPER
            ),
            Finding("cycles needed, most of cells that converged", float(seen.max())),
        ]
    return [
        *found,
        finding("last reading minus target, mean", estimates.mean(error), "µS", "", MICRO),
        finding("last reading minus target, std", estimates.std(error), "µS", "", MICRO),
    ]


def draw(figure: Figure, plan: CyclePlan, data: Data) -> None:
    """Conductance against cycle: the first run of every cell in colour, all others faint."""
    g, needed = trajectories(plan, data)
    if not len(g):
        return
    axes = figure.subplots()
    cycle = np.arange(plan.cycles + 1)
    for k, cell in enumerate(plan.cells):
        axes.plot(cycle, g[1:, :, k].T / MICRO, color=f"C{k % 10}", alpha=0.15, linewidth=0.7)
        axes.plot(cycle, g[0, :, k] / MICRO, ".-", color=f"C{k % 10}", label=f"cell {cell}")
    target, width = plan.target_siemens / MICRO, plan.tolerance_siemens / MICRO
    axes.axhspan(target - width, target + width, color="0.85")
    axes.axvspan(20, 30, color="tab:green", alpha=0.08)
    value = median_cycles(needed)
    median = f"median {value:.0f}" if np.isfinite(value) else f"median above {plan.cycles}"
    axes.set(
        xlabel="cycle (one pulse and one read)",
        ylabel="conductance (µS)",
        title=f"{len(g)} runs of {len(plan.cells)} cells: {median} cycles\n"
        "green: paper, 20 to 30; steps are ours, so agreement is no evidence",
    )
    axes.legend(fontsize="small")


EXPERIMENT = Experiment(
    name="cycle",
    title="cyclic programming",
    help="""Bring some cells from RESET to a target by staircases of pulses, recording every cycle.

    What the chosen cells hold is lost.

    The paper does not tell its pulses. How many cycles cells need follows from where staircases
    start and from their steps, which are choices of ours: that it agrees with the paper's 20 to 30
    is no evidence. The median is that of all cells and runs, those that did not converge counted as
    infinity; it is not known where they are more than half.

    \b
    rram cycle --board 'sim://?preset=taox_180nm&seed=7'
    rram cycle --cell 3,5 --cell 7,9 --target 30 --tolerance 1 --cycles 100
    """,
    plan=CyclePlan,
    columns=columns,
    units=units,
    run=run,
    findings=findings,
    draw=draw,
)
