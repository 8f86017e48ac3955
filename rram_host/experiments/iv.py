"""Pulsed I-V of one cell: SET and RESET staircases, again and again (Fig. 2d, arXiv 2509.12812).

A cycle is a staircase of SET pulses under a compliance gate voltage and a staircase of RESET
pulses, with a read after every step. The current of a record is

    I = G V

with the conductance G that the cell reads after the step, at +-0.1 V, and the step's voltage V. It
is not a current measured at that voltage, which this board cannot do in both directions: its
amplifiers hold source lines 0.9 V above ground, so that a conversion may put at most 0.9 V across a
cell in RESET direction. Where cells conduct more than linearly the true current is larger.

A switching voltage lies between two steps, and is told as the middle of them; from its spread that
of a step, width^2 / 12, is taken off. V_set is where the cell first reads above the geometric mean
of its two states; V_reset is where it begins to give way, which RESET does little by little: the
first step after which it stays below what it held by more than its readings scatter. So V_reset is
late by that much conductance over dG/dV of the RESET, far less than a step by default.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.masks import of_cells
from rram_host.array.sweep import check_steps
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
    set_limit_v,
    staircase,
    step_mean,
    step_std,
)
from rram_host.experiments.experiment import Experiment, Finding, setting
from rram_host.records.columns import Batch, Column, Data
from rram_host.session import Board
from rram_host.units import MICRO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

_PAPER = "highly uniform, no spread given"
_SURELY_FELL = 0.9  # of the SET state
_NOISES = 2.5  # standard deviations that a reading must be lower by
_SIGMA_OF_MEDIAN = 1.4826  # of a Gaussian, over the median of its absolute value


@dataclass(frozen=True)
class IvPlan:
    """Which cell, how often, which steps; the fields' help texts say the rest."""

    cell: tuple[int, int] = setting((0, 0), "cell, as row,col")
    cycles: int = setting(200, "SET and RESET staircases")
    set_start_v: float = setting(0.6, "first SET step")
    set_stop_v: float = setting(1.6, "last SET step")
    reset_start_v: float = setting(0.8, "first RESET step")
    reset_stop_v: float = setting(2.4, "last RESET step")
    step_v: float = setting(0.05, "distance between steps")
    compliance_v: float = setting(
        1.4, "gate voltage of SET steps above the lower line", "compliance"
    )
    average: int = setting(2, "reads of each sign after every step")

    def __post_init__(self) -> None:
        """Refuse no cycles, and steps that do not climb."""
        at_least(self, cycles=1, average=1)
        if min(self.set_start_v, self.reset_start_v) <= 0:
            raise InputError("a staircase must start above 0 V")
        if len(self.set_v) < 2 or len(self.reset_v) < 2:
            raise InputError("a staircase needs at least two steps")

    @property
    def set_v(self) -> Array:
        """SET steps, rising."""
        return staircase(self.set_start_v, self.set_stop_v, self.step_v, "SET")

    @property
    def reset_v(self) -> Array:
        """RESET steps, rising."""
        return staircase(self.reset_start_v, self.reset_stop_v, self.step_v, "RESET")

    @property
    def steps_v(self) -> Array:
        """A cycle, (n,): above 0 V SET, below 0 V RESET."""
        return np.concatenate([self.set_v, -self.reset_v])


def columns(plan: IvPlan, spec: BoardSpec) -> tuple[Column, ...]:
    """One record is one step."""
    return (
        Column("cycle", "", "cycle", "i4"),
        Column("step", "", "step of the cycle", "i4"),
        Column("voltage_v", "V", "voltage of the pulse, below 0 V RESET"),
        Column("conductance_siemens", "S", "conductance read after the pulse"),
        Column("current_a", "A", "conductance times voltage of the pulse"),
    )


def units(plan: IvPlan, spec: BoardSpec) -> int:
    """A unit is a cycle.

    Raises:
        InputError: a cell outside the array, or a voltage that the board does not give.
    """
    check_cells([plan.cell], spec)
    check_voltage("set_stop_v", plan.set_stop_v, set_limit_v(spec))
    check_voltage("reset_stop_v", plan.reset_stop_v, reset_limit_v(spec))
    # the lower line of a SET is highest at its first step
    most_v = spec.compliance_limit_v(plan.set_start_v)
    check_voltage("compliance_v", plan.compliance_v, most_v)
    check_steps(spec, plan.steps_v, plan.average)
    return plan.cycles


def run(board: Board, plan: IvPlan, start: int, done: Data) -> Iterator[Batch]:
    """Sweep the cell, one program a cycle. The first cycle starts from RESET, as all others do.

    Raises:
        InputError: the cell cannot be used, or the passport allows fewer pulses.
    """
    units(plan, board.spec)
    steps_v = plan.steps_v
    first = 0 if start else plan.reset_v.size
    pulses = (plan.cycles - start) * steps_v.size + first
    check_pulses(board, of_cells(board.array.shape, [plan.cell]), pulses)
    for unit in range(start, plan.cycles):
        ready_all(board, [plan.cell])
        if unit == 0:
            board.array.sweep(plan.cell, -plan.reset_v, plan.compliance_v, plan.average)
        g = board.array.sweep(plan.cell, steps_v, plan.compliance_v, plan.average)
        yield {
            "cycle": np.full(g.size, unit),
            "step": np.arange(g.size),
            "voltage_v": steps_v,
            "conductance_siemens": g,
            "current_a": g * steps_v,
        }


@dataclass(frozen=True)
class Cycles:
    """Recorded cycles; arrays.

    Attributes:
        voltage_v: steps, (steps,).
        g: conductances, (cycles, steps), siemens.
        high, low: at the end of each SET and each RESET staircase, (cycles,), siemens.
        set_v, reset_v: switching voltages, (cycles,); NaN where a cycle has none.
    """

    voltage_v: Array
    g: Array
    high: Array
    low: Array
    set_v: Array
    reset_v: Array


def cycles(plan: IvPlan, data: Data) -> Cycles:
    """Cycles with their switching voltages.

    SET: the first step that leaves the cell above the geometric mean of its two states. RESET: the
    first step from which on the cell reads less than it held, see `_gave_way`.
    """
    steps_v, n_set = plan.steps_v, plan.set_v.size
    g = np.asarray(data["conductance_siemens"], dtype=np.float64).reshape(-1, steps_v.size)
    high, low = g[:, n_set - 1], g[:, -1]
    before = np.maximum(g[:, :1], 1e-9)  # a reading of an open cell may be below zero
    switched = (g[:, :n_set] > np.sqrt(before * np.maximum(high[:, None], 1e-9))) & (
        high[:, None] > 2 * before
    )
    half = plan.step_v / 2
    set_v = np.where(switched.any(1), plan.set_v[switched.argmax(1)] - half, np.nan)
    first = _gave_way(g[:, n_set:], high)
    reset_v = np.full(len(g), np.nan)
    fell = (low < high / 2) & (first > 0)
    reset_v[fell] = plan.reset_v[first[fell]] - half
    return Cycles(steps_v, g, high, low, set_v, reset_v)


def _gave_way(g: Array, high: Array) -> npt.NDArray[np.int64]:
    """First RESET step after which a cell reads below what it held, by more than noise; (cycles,).

    Steps up to the last one that leaves 0.9 of the SET state are looked at: what the cell held is
    the median of their readings, noise their median distance from it, in all cycles, as a standard
    deviation. The first step after the last reading that is not 2.5 of them below is the one.

    Args:
        g: readings after the RESET steps, (cycles, steps), siemens.
        high: the SET state, (cycles,), siemens.

    Returns:
        0 where a cell never fell, or fell at the first step or before.
    """
    first = np.zeros(len(g), dtype=np.int64)
    low = g < _SURELY_FELL * high[:, None]
    surely = g.shape[1] - np.logical_and.accumulate(low[:, ::-1], axis=1).sum(1)
    seen = (surely > 0) & (surely < g.shape[1])
    if seen.any():
        steps = np.arange(g.shape[1])
        early = np.where(steps < surely[seen, None], g[seen], np.nan)
        away = early - np.nanmedian(early, axis=1, keepdims=True)
        noise = np.nanmedian(np.abs(away)) * _SIGMA_OF_MEDIAN
        first[seen] = 1 + np.where(away >= -_NOISES * noise, steps, 0).max(1)
    return first


def findings(plan: IvPlan, data: Data) -> list[Finding]:
    """Switching voltages, states and their ratio, with what cycles differ by."""
    found = cycles(plan, data)
    if not len(found.g):
        return []
    ratio = found.high / np.maximum(found.low, 1e-9)
    unswitched = (np.isnan(found.set_v) | np.isnan(found.reset_v)).sum()
    return [
        finding("V_set, mean", step_mean(found.set_v, plan.step_v), "V"),
        finding("V_set, std", step_std(found.set_v, plan.step_v), "V", _PAPER),
        finding("V_reset, mean", step_mean(found.reset_v, plan.step_v), "V"),
        finding("V_reset, std", step_std(found.reset_v, plan.step_v), "V", _PAPER),
        finding("on state", estimates.mean(found.high), "µS", "", MICRO),
        finding("on state, std", estimates.std(found.high), "µS", _PAPER, MICRO),
        finding("off state", estimates.mean(found.low), "µS", "", MICRO),
        finding("off state, std", estimates.std(found.low), "µS", _PAPER, MICRO),
        finding("on/off ratio, mean of cycles", estimates.mean(ratio)),
        Finding("cycles", len(found.g), "", None, "200"),
        Finding("cycles that did not switch both ways", int(unswitched)),
    ]


def draw(figure: Figure, plan: IvPlan, data: Data) -> None:
    """|I| against V, all cycles grey and their mean in colour; switching voltages."""
    found = cycles(plan, data)
    if not len(found.g):
        return
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1))
    n_set = plan.set_v.size
    amperes = np.abs(found.g * found.voltage_v) / MICRO
    for part in (slice(0, n_set), slice(n_set, None)):
        volts = found.voltage_v[part]
        top.plot(volts, amperes[:, part].T, color="0.75", linewidth=0.5)
        top.plot(volts, amperes[:, part].mean(0), color="tab:red")
    top.set(
        yscale="log",
        xlabel="pulse voltage (V), below 0 V RESET",
        ylabel="G after the pulse x V (µA)",
        title=f"cell {plan.cell}, {len(found.g)} cycles and their mean (pulsed: read at 0.1 V)",
    )
    for volts, colour, name in (
        (found.set_v, "tab:blue", "V_set"),
        (-found.reset_v, "tab:orange", "V_reset"),
    ):
        seen = estimates.finite(volts)
        if seen.size:
            edges = np.arange(seen.min() - plan.step_v, seen.max() + 1.6 * plan.step_v, plan.step_v)
            bottom.hist(seen, bins=(edges + plan.step_v / 2).tolist(), color=colour, label=name)
    bottom.set(xlabel="switching voltage (V)", ylabel="cycles")
    if bottom.has_data():
        bottom.legend()


EXPERIMENT = Experiment(
    name="iv",
    title="pulsed I-V",
    help="""Sweep one cell by SET and RESET staircases, with a read after every step.

    Current is the conductance read after a step times the step's voltage. V_reset is where the
    cell begins to give way, by more than its readings scatter; both switching voltages are the
    middle of a step. What the cell holds is lost; it ends in RESET.

    \b
    rram iv --board 'sim://?preset=taox_180nm&seed=7'
    rram iv --cell 3,5 --cycles 50 --compliance 1.2
    """,
    plan=IvPlan,
    columns=columns,
    units=units,
    run=run,
    findings=findings,
    draw=draw,
)
