"""Programmed levels: how wide is every peak, and do they overlap? (Fig. 2g of arXiv 2509.12812).

Every round gives every cell a level at random and programs the whole array, so that a level is
tried on many cells and no cell stands for one level only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.policies import policy_named
from rram_host.errors import InputError
from rram_host.experiments import estimates, programmed
from rram_host.experiments.common import finding
from rram_host.experiments.experiment import Experiment, Finding, setting, unit_rng
from rram_host.records.columns import Batch, Column, Data
from rram_host.session import Board
from rram_host.units import MICRO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

PAPER_STD_MICROSIEMENS = 0.54
_PAPER = "about 0.54 (unit not printed)"
_MAX_LEVELS = 200
_MAX_ROUNDS = 1000


@dataclass(frozen=True)
class DistributionPlan:
    """What to program; the fields' help texts say the rest."""

    start_siemens: float = setting(20e-6, "lowest level")
    stop_siemens: float = setting(100e-6, "highest level")
    step_siemens: float = setting(5e-6, "distance between levels")
    rounds: int = setting(8, "programmings of the whole array")
    policy: str = setting("coarse-fine", programmed.POLICY_HELP)
    read_average: int = setting(4, "reads averaged of every cell after programming")
    seed: int = setting(7, "seed of the levels of the cells")

    def __post_init__(self) -> None:
        """Refuse levels that are none."""
        programmed.check_average(self.read_average)
        policy_named(self.policy)
        if not 0 < self.start_siemens <= self.stop_siemens or not self.step_siemens > 0:
            raise InputError(
                f"levels from {self.start_siemens / MICRO:.4g} to {self.stop_siemens / MICRO:.4g} "
                f"µS in steps of {self.step_siemens / MICRO:.4g} µS: need 0 < start <= stop and a "
                "step above 0 µS"
            )
        steps = (self.stop_siemens - self.start_siemens) / self.step_siemens
        if abs(steps - round(steps)) > 1e-6 or steps >= _MAX_LEVELS:
            raise InputError(
                f"{steps:.4g} steps of {self.step_siemens / MICRO:.4g} µS from start to stop: "
                f"must be a whole number below {_MAX_LEVELS}"
            )
        if not 1 <= self.rounds <= _MAX_ROUNDS:
            raise InputError(f"rounds = {self.rounds} is outside 1..{_MAX_ROUNDS}")

    @property
    def levels_siemens(self) -> Array:
        """All levels, rising, (levels,)."""
        steps = round((self.stop_siemens - self.start_siemens) / self.step_siemens)
        return self.start_siemens + self.step_siemens * np.arange(steps + 1)

    def targets(self, shape: tuple[int, int], unit: int) -> Array:
        """Targets of one round, (rows, cols): every level on as many cells as any, at random."""
        levels = self.levels_siemens
        order = unit_rng(self.seed, unit).permutation(shape[0] * shape[1])
        return np.asarray(levels[order % levels.size].reshape(shape))


def columns(plan: DistributionPlan, spec: BoardSpec) -> tuple[Column, ...]:
    """Maps of one programming a record.

    Raises:
        InputError: a level is outside the chip's window.
    """
    programmed.check_window(spec, plan.start_siemens, plan.stop_siemens)
    return programmed.map_columns(spec)


def units(plan: DistributionPlan, spec: BoardSpec) -> int:
    """A unit is a round."""
    return plan.rounds


def run(board: Board, plan: DistributionPlan, start: int, done: Data) -> Iterator[Batch]:
    """Program round after round."""
    policy = policy_named(plan.policy)
    for unit in range(start, plan.rounds):
        targets = plan.targets(board.array.shape, unit)
        yield programmed.program_map(board, targets, policy, plan.read_average)


def peaks(plan: DistributionPlan, data: Data) -> list[Array]:
    """Readings of the working cells of every level, siemens."""
    cells = programmed.working(data)
    measured, target = data["measured_siemens"][cells], data["target_siemens"][cells]
    half = plan.step_siemens / 2
    return [np.asarray(measured[np.abs(target - g) < half]) for g in plan.levels_siemens.tolist()]


def findings(plan: DistributionPlan, data: Data) -> list[Finding]:
    """Width of every peak, and how many cells read nearer to another level than to their own."""
    if programmed.is_empty(data):
        return programmed.left_out(data)
    error = programmed.errors_siemens(data) / MICRO
    stds = [estimates.std(g / MICRO) for g in peaks(plan, data)]
    levels = (plan.levels_siemens / MICRO).tolist()
    found = [
        finding("std of a peak, rms of all", _rms(stds), "µS", _PAPER),
        finding("mean of reading minus target", estimates.mean(error), "µS"),
    ]
    if len(levels) > 1:
        wrong = int((np.abs(error) > plan.step_siemens / MICRO / 2).sum())
        overlap, error_of_it = estimates.share(wrong, error.size)
        found.append(
            Finding("cells nearer to another level", 100 * overlap, "%", 100 * error_of_it)
        )
    found += programmed.effort(data)
    found += [finding(f"std at {g:.4g} µS", std, "µS") for g, std in zip(levels, stds, strict=True)]
    return found


def _rms(stds: list[tuple[float, float]]) -> tuple[float, float]:
    """Rms of the stds that are known (four cells or more), and its error; NaN without any."""
    value, error = np.array([std for std in stds if np.isfinite(std).all()]).reshape(-1, 2).T
    if not value.size:
        return np.nan, np.nan
    rms = float(np.sqrt(np.mean(value**2)))
    # errors of independent peaks add up in squares
    return rms, float(np.hypot.reduce(value * error / (rms * value.size))) if rms else 0.0


def draw(figure: Figure, plan: DistributionPlan, data: Data) -> None:
    """Histograms of all levels, and the width of each beside the paper's."""
    from matplotlib import colormaps

    top, bottom = figure.subplots(2, 1, height_ratios=(2, 1))
    top.set(xlabel="conductance (µS)", ylabel="cells per 0.25 µS")
    bottom.set(xlabel="level (µS)", ylabel="std (µS)")
    if programmed.is_empty(data):
        return
    levels = plan.levels_siemens / MICRO
    readings = [g / MICRO for g in peaks(plan, data)]
    span = max(plan.step_siemens / MICRO, 4 * PAPER_STD_MICROSIEMENS)
    edges = np.arange(levels[0] - span, levels[-1] + span, 0.25).tolist()
    colours = colormaps["turbo"](np.linspace(0.05, 0.95, levels.size))
    for values, colour in zip(readings, colours, strict=True):
        top.hist(values, bins=edges, color=colour)
    for level in levels.tolist():
        top.axvline(level, color="k", linewidth=0.5, linestyle=":")
    value, error = np.array([estimates.std(v) for v in readings]).T
    bottom.errorbar(levels, value, error, fmt="o", color="tab:blue", markersize=4)
    bottom.axhline(
        PAPER_STD_MICROSIEMENS, color="tab:red", linewidth=1, label="paper, about 0.54 µS"
    )
    bottom.set_ylim(bottom=0)
    bottom.legend(fontsize="small")


EXPERIMENT = Experiment(
    name="distribution",
    title="programmed levels",
    help="""Program levels from 20 to 100 µS in steps of 5 µS on all cells, several times.

    Every round gives every cell a level at random, programs the array and reads it. What was
    stored is lost.

    Calibrate first (rram calibrate, with a passport): without, readings and what is programmed by
    them are off by some per cent at high conductances, and no finding shows it.

    \b
    rram distribution --board 'sim://?preset=taox_180nm&seed=7'
    rram distribution --start 30 --stop 90 --step 10 --rounds 4
    """,
    plan=DistributionPlan,
    columns=columns,
    units=units,
    run=run,
    findings=findings,
    draw=draw,
)
