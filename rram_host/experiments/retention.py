"""Retention: what some cells hold over logarithmic times (Fig. 2i of arXiv 2509.12812).

Unit 0 programs the cells and reads them; each later unit lets board time pass up to one planned
time since then, and reads them again. Times count from the board clock of unit 0, which every
record carries, so a run that was broken off waits for what is left and not once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.policies import policy_named
from rram_host.errors import BoardFault, InputError
from rram_host.experiments import estimates, programmed
from rram_host.experiments.experiment import Experiment, Finding, setting, unit_rng
from rram_host.records.columns import Batch, Column, Data
from rram_host.session import Board
from rram_host.units import MICRO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

_PAPER = "20 cells hold 30 to 95 µS to 1e6 s; no drift printed"
_MAX_TIMES = 1000
_LONGEST_S = 1e7  # of one wait


@dataclass(frozen=True)
class RetentionPlan:
    """What to watch, and when; the fields' help texts say the rest."""

    cells: int = setting(20, "cells to watch, at random places")
    low_siemens: float = setting(30e-6, "lowest target")
    high_siemens: float = setting(95e-6, "highest target; the others are in between, evenly")
    start_s: float = setting(1.0, "first time since programming")
    stop_s: float = setting(1e6, "last time since programming")
    points_per_decade: int = setting(3, "readings a decade of time")
    policy: str = setting("coarse-fine", programmed.POLICY_HELP)
    read_average: int = setting(16, "reads averaged of every cell at each time")
    seed: int = setting(7, "seed of the places")

    def __post_init__(self) -> None:
        """Refuse times and cells that are none."""
        programmed.check_average(self.read_average)
        policy_named(self.policy)
        if self.cells < 1:
            raise InputError(f"cells = {self.cells}: at least 1")
        if not 0 < self.low_siemens <= self.high_siemens:
            raise InputError(
                f"low {self.low_siemens / MICRO:.4g} µS and high {self.high_siemens / MICRO:.4g} "
                "µS: need 0 < low <= high"
            )
        if not 0 < self.start_s <= self.stop_s <= _LONGEST_S:
            raise InputError(
                f"times from {self.start_s:.4g} to {self.stop_s:.4g} s: need "
                f"0 < start <= stop <= {_LONGEST_S:.4g} s"
            )
        if not 1 <= self.points_per_decade <= 100 or self.times_s.size > _MAX_TIMES:
            raise InputError(f"points_per_decade = {self.points_per_decade} is outside 1..100")

    @property
    def times_s(self) -> Array:
        """Planned times since programming: start times 10^(k / points), and stop, (times,)."""
        steps = np.log10(self.stop_s / self.start_s) * self.points_per_decade
        times = self.start_s * 10 ** (np.arange(int(steps + 1e-9) + 1) / self.points_per_decade)
        return times if np.isclose(times[-1], self.stop_s) else np.append(times, self.stop_s)

    def places(self, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
        """Row and column of every cell, (cells, 2), from the lowest target to the highest.

        Raises:
            InputError: more cells than the array has.
        """
        size = shape[0] * shape[1]
        if self.cells > size:
            raise InputError(f"cells = {self.cells}: the array has {size}")
        chosen = unit_rng(self.seed, 0).choice(size, self.cells, replace=False)
        return np.stack(np.divmod(chosen, shape[1]), axis=1)


def columns(plan: RetentionPlan, spec: BoardSpec) -> tuple[Column, ...]:
    """One record is one reading of all cells.

    Raises:
        InputError: more cells than the array has, or a target outside the chip's window.
    """
    programmed.check_window(spec, plan.low_siemens, plan.high_siemens)
    plan.places((spec.rows, spec.cols))
    cells: dict[str, Any] = {"dims": ("cell",), "shape": (plan.cells,)}
    return (
        Column("time_s", "s", "time since programming ended, at the middle of the reading"),
        Column("clock_s", "s", "board clock at the middle of the reading"),
        Column("programmed_clock_s", "s", "board clock when programming ended"),
        Column("target_siemens", "S", "target conductance", **cells),
        Column("conductance_siemens", "S", "conductance; NaN: the cell could not be used", **cells),
        Column("cell_row", "", "row of the cell", dtype="i4", **cells),
        Column("cell_col", "", "column of the cell", dtype="i4", **cells),
    )


def units(plan: RetentionPlan, spec: BoardSpec) -> int:
    """Programming, then each time."""
    return 1 + plan.times_s.size


def run(board: Board, plan: RetentionPlan, start: int, done: Data) -> Iterator[Batch]:
    """Program, then wait and read.

    Raises:
        BoardFault: a run is resumed on a board that has been off since.
    """
    places = plan.places(board.array.shape)
    ended_s = float(done["programmed_clock_s"][0]) if start else np.nan
    usable = np.isfinite(done["conductance_siemens"][0]) if start else np.array([])
    if start and board.clock_s < float(done["clock_s"][-1]):
        raise BoardFault(
            f"board clock {board.clock_s:.4g} s is behind that of the last record, "
            f"{float(done['clock_s'][-1]):.4g} s: the board was off, so the time since programming "
            "is not known; start a new run"
        )
    for unit in range(start, 1 + plan.times_s.size):
        if unit == 0:
            usable = _program(board, plan, places)
            ended_s = board.clock_s
        else:
            left_s = ended_s + float(plan.times_s[unit - 1]) - board.clock_s
            if left_s > 0:
                board.wait(left_s)
        yield _reading(board, plan, places, usable, ended_s)


def _program(
    board: Board, plan: RetentionPlan, places: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Program the cells; whether each may be used, (cells,)."""
    targets = np.full(board.array.shape, np.nan)
    targets[places[:, 0], places[:, 1]] = _targets(plan)
    report = board.array.program(targets, policy_named(plan.policy))
    fine = report.asked & ~report.unformed
    fine &= report.measured_siemens <= board.spec.shorted_siemens
    return np.asarray(fine[places[:, 0], places[:, 1]])


def _targets(plan: RetentionPlan) -> Array:
    return np.linspace(plan.low_siemens, plan.high_siemens, plan.cells)


def _reading(
    board: Board,
    plan: RetentionPlan,
    places: npt.NDArray[np.int64],
    usable: npt.NDArray[np.bool_],
    ended_s: float,
) -> Batch:
    before_s = board.clock_s
    g = board.array.read(plan.read_average)[places[:, 0], places[:, 1]]
    middle_s = (before_s + board.clock_s) / 2
    return {
        "time_s": np.array([middle_s - ended_s]),
        "clock_s": np.array([middle_s]),
        "programmed_clock_s": np.array([ended_s]),
        "target_siemens": _targets(plan)[None],
        "conductance_siemens": np.where(usable, g, np.nan)[None],
        "cell_row": places[None, :, 0],
        "cell_col": places[None, :, 1],
    }


def changes_siemens(data: Data) -> tuple[Array, Array]:
    """Times since programming (n,), and G(t) - G(0) of usable cells (n, cells), unit 0 left out."""
    g = np.asarray(data["conductance_siemens"], dtype=np.float64)
    change = (g[1:] - g[0])[:, np.isfinite(g[0])]
    return np.asarray(data["time_s"], dtype=np.float64)[1:], change


def slopes(times_s: Array, change: Array) -> tuple[tuple[float, float], tuple[float, float]]:
    """Slope a decade of the mean of G(t) - G(0), and of its variance, each with its error.

    A cell's own readings hang together, cells do not: the mean's slope is the mean over cells of
    each one's least-squares slope against log10 t; the variance's error is a jackknife over cells.

    Args:
        times_s: (n,).
        change: (n, cells).
    """
    x = np.log10(times_s)
    x = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    n = change.shape[1]
    # variance without cell k, from sums
    total, squares = change.sum(1, keepdims=True), (change**2).sum(1, keepdims=True)
    left_mean = (total - change) / (n - 1)
    left = (squares - change**2 - (n - 1) * left_mean**2) / (n - 2)
    jackknife = x @ left
    error = np.sqrt((n - 1) / n * ((jackknife - jackknife.mean()) ** 2).sum())
    return estimates.mean(x @ change), (float(x @ change.var(1, ddof=1)), float(error))


def findings(plan: RetentionPlan, data: Data) -> list[Finding]:
    """Mean and std of G(t) - G(0) at every decade, as silicon statistics state them, and slopes."""
    if len(data.get("time_s", ())) < 2:
        return []
    times, change = changes_siemens(data)
    change = change / MICRO
    found: list[Finding] = [Finding("cells watched", change.shape[1], paper=_PAPER)]
    if change.shape[1] > 3 and times.size > 2:
        drift, widening = slopes(times, change)
        found.append(Finding("slope of the mean a decade", drift[0], "µS", drift[1]))
        found.append(Finding("slope of the variance a decade", widening[0], "µS²", widening[1]))
    for decade in _decades(times):
        at = int(np.argmin(np.abs(np.log10(times) - decade)))
        found += _at(f"{10.0**decade:g} s", change[at])
    return found


def _decades(times_s: Array) -> list[int]:
    first, last = np.log10(times_s[[0, -1]])
    return list(range(int(np.ceil(first - 0.1)), int(np.floor(last + 0.1)) + 1))


def _at(when: str, change: Array) -> list[Finding]:
    (offset, of_offset), (value, uncertain) = estimates.mean(change), estimates.std(change)
    return [
        Finding(f"mean of G(t) - G(0) at {when}", offset, "µS", of_offset),
        Finding(f"std of G(t) - G(0) at {when}", value, "µS", uncertain),
        Finding(f"robust std of G(t) - G(0) at {when}", estimates.robust_std(change), "µS"),
        Finding(f"largest of G(t) - G(0) at {when}", float(np.abs(change).max(initial=0)), "µS"),
    ]


def draw(figure: Figure, plan: RetentionPlan, data: Data) -> None:
    """Every cell over time, and mean and std of the change."""
    from matplotlib import colormaps

    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    top.set(xscale="log", ylabel="conductance (µS)")
    bottom.set(xlabel="time since programming (s)", ylabel="G(t) - G(0) (µS)")
    if len(data.get("time_s", ())) < 2:
        return
    times, change = changes_siemens(data)
    g = np.asarray(data["conductance_siemens"], dtype=np.float64)[1:] / MICRO
    colours = colormaps["viridis"](np.linspace(0, 1, g.shape[1]))
    for k, colour in enumerate(colours):
        top.plot(times, g[:, k], ".-", color=colour, linewidth=0.8, markersize=3)
    change = change / MICRO
    middle, width = change.mean(1), change.std(1, ddof=1 if change.shape[1] > 1 else 0)
    bottom.plot(times, middle, "o-", markersize=3, label="mean")
    bottom.fill_between(times, middle - width, middle + width, alpha=0.3, label="± std")
    bottom.axhline(0.0, color="k", linewidth=0.5)
    bottom.legend(fontsize="small")


EXPERIMENT = Experiment(
    name="retention",
    title="retention",
    help="""Program 20 cells from 30 to 95 µS and read them at logarithmic times up to 1e6 s.

    Rails are safe in between. On the emulated board no wall time passes; on silicon the command
    runs for as long as the last time says, and --resume goes on with what is left.

    \b
    rram retention --board 'sim://?preset=taox_180nm&seed=7'
    rram retention --cells 64 --stop 1e4 --policy multi-pass
    """,
    plan=RetentionPlan,
    columns=columns,
    units=units,
    run=run,
    findings=findings,
    draw=draw,
)
