"""Endurance: SET and RESET over and over, both states read at logarithmic checkpoints.

A unit brings a block of cells from one checkpoint to the next: a loop of RESET and SET pulses in
the sequencer, without reads, then a SET that is read (low-resistance state, LRS) and a RESET that
is read (high-resistance state, HRS). Every cycle is one SET and one RESET pulse of fixed voltages.

Cells whose two states are one at two checkpoints in a row, or at the last, are dead in the chip's
passport from then on; in this run they are cycled to its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array import masks
from rram_host.errors import BoardFault, InputError
from rram_host.experiments import estimates, programmed
from rram_host.experiments.common import (
    check_pulses,
    check_voltage,
    held_back,
    ready,
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

_PAPER = "not shown"
_MAX_CYCLES = 10**9
# A cell whose two states differ by less does not switch any more.
_STUCK_RATIO = 1.1
_MIDDLE_SIEMENS = 20e-6  # between the states, where no cell of the block ever switched
_CYCLES_A_PROGRAM = 20_000  # a few seconds of board time, so that Ctrl-C is heard
_NAMED = 10


@dataclass(frozen=True)
class EndurancePlan:
    """Which cells, how often, how hard; the fields' help texts say the rest."""

    cycles: int = setting(100_000, "cycles of SET and RESET in all")
    row: int = setting(0, "first row of the block of cells")
    col: int = setting(0, "first column of the block")
    block_rows: int = setting(4, "rows of the block")
    block_cols: int = setting(4, "columns of the block")
    set_wl_v: float = setting(1.6, "compliance of SET: gate voltage above the lower line")
    reset_v: float = setting(2.4, "RESET voltage across a cell")
    min_ratio: float = setting(2.0, "a cell fails where LRS over HRS conductance is below this")
    read_average: int = setting(4, "reads averaged of every cell in each state")

    def __post_init__(self) -> None:
        """Refuse cycles and blocks that are none."""
        programmed.check_average(self.read_average)
        if not 1 <= self.cycles <= _MAX_CYCLES:
            raise InputError(f"cycles = {self.cycles} is outside 1..{_MAX_CYCLES}")
        for name, least in (("row", 0), ("col", 0), ("block_rows", 1), ("block_cols", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} = {getattr(self, name)}: at least {least}")
        for name in ("set_wl_v", "reset_v"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} = {getattr(self, name)} V must be above 0 V")
        if not self.min_ratio > 1:
            raise InputError(f"min_ratio = {self.min_ratio} must be above 1")

    @property
    def checkpoints(self) -> npt.NDArray[np.int64]:
        """Cycles at which both states are read: 1, 2, 5, 10, 20, 50, ... and the last."""
        decades = 10 ** np.arange(len(str(self.cycles)), dtype=np.int64)
        steps = np.outer(decades, [1, 2, 5]).ravel()
        return np.append(steps[steps < self.cycles], self.cycles)

    def mask(self, spec: BoardSpec) -> Mask:
        """The block, (rows, cols).

        Raises:
            InputError: it does not lie within the array.
        """
        shape = spec.rows, spec.cols
        return masks.block(shape, self.row, self.col, self.block_rows, self.block_cols)


def columns(plan: EndurancePlan, spec: BoardSpec) -> tuple[Column, ...]:
    """One record is one checkpoint.

    Raises:
        InputError: the block or a voltage is not one that this board has.
    """
    plan.mask(spec)
    check_voltage("set_wl_v", plan.set_wl_v, spec.compliance_limit_v())
    check_voltage("reset_v", plan.reset_v, reset_limit_v(spec))
    block: dict[str, Any] = {
        "dims": ("block_row", "block_col"),
        "shape": (plan.block_rows, plan.block_cols),
    }
    return (
        Column("cycles", "", "cycles so far", dtype="i8"),
        Column("lrs_siemens", "S", "conductance after the last SET", **block),
        Column("hrs_siemens", "S", "conductance after the last RESET; NaN: not in use", **block),
        Column("clock_s", "s", "board clock"),
    )


def units(plan: EndurancePlan, spec: BoardSpec) -> int:
    """A unit ends at a checkpoint."""
    return plan.checkpoints.size


def run(board: Board, plan: EndurancePlan, start: int, done: Data) -> Iterator[Batch]:
    """Cycle from checkpoint to checkpoint.

    Raises:
        InputError: the passport allows fewer pulses.
        BoardFault: no cell of the block can be used.
    """
    at = np.concatenate([[0], plan.checkpoints])
    # cells in use are those of the first record, whatever the passport has learned since
    cells = _recorded(board, plan, done) if start else plan.mask(board.spec) & ~held_back(board)
    check_pulses(board, cells, 2 * int(at[-1] - at[start]))
    stuck, middle = np.zeros_like(cells), _MIDDLE_SIEMENS
    if start:
        stuck[plan.mask(board.spec)] = _is_stuck(*_states(done, -1)).ravel()
        middle = _middle_siemens(*_states(done, 0))
    else:
        cells = _begin(board, plan)
    for unit in range(start, plan.checkpoints.size):
        lrs, hrs = _cycle(board, plan, cells, int(at[unit + 1] - at[unit]))
        before, stuck = stuck, cells & _is_stuck(lrs, hrs)
        lost = stuck & before if unit + 1 < plan.checkpoints.size else stuck
        if unit == 0:
            middle = _middle_siemens(lrs[cells], hrs[cells])
        _give_up(board, lost, lrs > middle, int(at[unit + 1]))
        yield {
            "cycles": at[unit + 1 : unit + 2],
            "lrs_siemens": _block(plan, lrs, cells),
            "hrs_siemens": _block(plan, hrs, cells),
            "clock_s": np.array([board.clock_s]),
        }


def _begin(board: Board, plan: EndurancePlan) -> Mask:
    cells = ready(board, plan.mask(board.spec))
    if not cells.any():
        count = plan.block_rows * plan.block_cols
        raise BoardFault(f"none of the {count} cells of the block can be used")
    return cells


def _recorded(board: Board, plan: EndurancePlan, done: Data) -> Mask:
    cells = plan.mask(board.spec)
    cells[cells] = np.isfinite(done["hrs_siemens"][0]).ravel()
    return cells


def _states(data: Data, record: int) -> tuple[Array, Array]:
    """Both states of the block on a record, (block rows, block columns)."""
    lrs, hrs = (np.asarray(data[name], dtype=float) for name in ("lrs_siemens", "hrs_siemens"))
    return lrs[record], hrs[record]


def _middle_siemens(lrs: Array, hrs: Array) -> float:
    """Between the states of the first checkpoint, by the cells that switched there."""
    fine = np.isfinite(hrs) & ~_is_stuck(lrs, hrs)
    if not fine.any():
        return _MIDDLE_SIEMENS
    states = np.median(lrs[fine]), max(float(np.median(hrs[fine])), 1e-9)
    return float(np.sqrt(states[0] * states[1]))


def _is_stuck(lrs: Array, hrs: Array) -> Mask:
    """Where the two states are one; not where they are NaN."""
    # by product and not by quotient: a cell that lost its filament may read zero
    return np.asarray((lrs < _STUCK_RATIO * hrs) | (lrs <= 0))


def _give_up(board: Board, cells: Mask, high: Mask, cycles: int) -> None:
    """Have the passport call stuck cells dead."""
    for word, here in (("high", cells & high), ("low", cells & ~high)):
        if here.any():
            board.array.give_up(here, f"stuck at {word} conductance after {cycles} cycles")


def _cycle(board: Board, plan: EndurancePlan, cells: Mask, cycles: int) -> tuple[Array, Array]:
    """So many cycles, and both states of the last one, siemens, (rows, cols)."""
    array = board.array
    wl_v, reset_v = np.full(array.shape, plan.set_wl_v), np.full(array.shape, plan.reset_v)
    lrs = array.set_cells(cells, wl_v)
    left = cycles - 1
    while left:
        now = min(left, _CYCLES_A_PROGRAM)
        array.cycle_cells(cells, wl_v, reset_v, now, lrs)
        left -= now
    lrs = array.read(plan.read_average)
    array.reset_cells(cells, reset_v)
    return lrs, array.read(plan.read_average)


def _block(plan: EndurancePlan, g: Array, cells: Mask) -> Array:
    """Conductances of the block as one record, NaN where a cell is not in use."""
    rows = slice(plan.row, plan.row + plan.block_rows)
    cols = slice(plan.col, plan.col + plan.block_cols)
    return np.where(cells, g, np.nan)[None, rows, cols]


@dataclass(frozen=True)
class Windows:
    """What data say, cell by cell; (checkpoints, cells) of those in use.

    Attributes:
        cycles: (checkpoints,).
        lrs, hrs: conductances, siemens.
        failed: window below the plan's ratio.
        stuck: the two states are one.
        places: row and column, (cells, 2).
    """

    cycles: npt.NDArray[np.int64]
    lrs: Array
    hrs: Array
    failed: Mask
    stuck: Mask
    places: npt.NDArray[np.int64]


def windows(plan: EndurancePlan, data: Data) -> Windows:
    """Sort data into cells."""
    lrs = np.asarray(data["lrs_siemens"], dtype=float)
    hrs = np.asarray(data["hrs_siemens"], dtype=float)
    used = np.isfinite(hrs[0])
    low, high = lrs[:, used], hrs[:, used]
    cycles = np.asarray(data["cycles"], dtype=np.int64)
    failed = (low < plan.min_ratio * high) | (low <= 0)
    places = np.argwhere(used) + [plan.row, plan.col]
    return Windows(cycles, low, high, failed, _is_stuck(low, high), places)


def findings(plan: EndurancePlan, data: Data) -> list[Finding]:
    """Failures, and the window at the first and the last checkpoint."""
    if not len(data.get("cycles", ())):
        return []
    w = windows(plan, data)
    now = w.failed[-1]
    count = w.places.shape[0]
    value, uncertain = estimates.share(int(now.sum()), count)
    high = w.stuck[-1] & (w.lrs[-1] > _middle_siemens(w.lrs[0], w.hrs[0]))
    found = [
        Finding("cycles of every cell", int(w.cycles[-1]), paper=_PAPER),
        Finding("cells cycled", count),
        Finding("cells that fail at the end", int(now.sum())),
        Finding("share of cells that fail at the end", 100 * value, "%", 100 * uncertain),
        Finding("cells that failed at any checkpoint", int(w.failed.any(0).sum())),
        Finding("cells stuck at high conductance", int(high.sum())),
        Finding("cells stuck at low conductance", int((w.stuck[-1] & ~high).sum())),
    ]
    for k in (0, -1) if len(w.cycles) > 1 else (0,):
        found += _window(f"after {w.cycles[k]} cycles", w.lrs[k], w.hrs[k])
    for cell in np.flatnonzero(w.failed.any(0))[:_NAMED].tolist():
        row, col = w.places[cell].tolist()
        first = int(w.cycles[np.argmax(w.failed[:, cell])])
        found.append(Finding(f"cell ({row}, {col}) first failed at checkpoint", first, "cycles"))
    return found


def _window(when: str, lrs: Array, hrs: Array) -> list[Finding]:
    floor = 1e-9  # conductances are logged, and a reading may be zero or below
    low, high = np.log(np.maximum(lrs, floor)), np.log(np.maximum(hrs, floor))
    spread = [estimates.std(x) for x in (low, high)]
    return [
        Finding(f"median LRS {when}", float(np.median(lrs)) / MICRO, "µS"),
        Finding(f"median HRS {when}", float(np.median(hrs)) / MICRO, "µS"),
        Finding(f"median of LRS over HRS {when}", float(np.exp(np.median(low - high)))),
        Finding(f"std of ln LRS {when}", spread[0][0], "", spread[0][1]),
        Finding(f"std of ln HRS {when}", spread[1][0], "", spread[1][1]),
    ]


def draw(figure: Figure, plan: EndurancePlan, data: Data) -> None:
    """Both states of all cells over cycles, and how many fail."""
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.set(xscale="log", yscale="log", ylabel="conductance (µS)")
    bottom.set(xlabel="cycles", ylabel="failed cells")
    if not len(data.get("cycles", ())):
        return
    w = windows(plan, data)
    for states, colour, name in ((w.lrs, "tab:red", "LRS"), (w.hrs, "tab:blue", "HRS")):
        shown = np.where(states > 0, states, np.nan) / MICRO
        top.plot(w.cycles, shown, ".", color=colour, markersize=3, alpha=0.5)
        top.plot(w.cycles, np.nanmedian(shown, 1), "-", color=colour, label=f"{name}, median")
    top.legend(fontsize="small")
    bottom.step(w.cycles, w.failed.sum(1), where="post", color="k")
    bottom.set_ylim(-0.5, max(1.5, 1.1 * float(w.failed.sum(1).max())))


EXPERIMENT = Experiment(
    name="endurance",
    title="endurance",
    help="""Cycle a block of cells between two states and count those that stop switching.

    Every cycle is one SET and one RESET pulse; both states are read after 1, 2, 5, 10, 20, ...
    cycles. This wears the cells out; pulses count in the chip's passport, and cells that are stuck
    at the end, or at two readings in a row, are dead there.

    \b
    rram endurance --board 'sim://?preset=taox_180nm&seed=7'
    rram endurance --cycles 1000000 --row 8 --block-rows 8 --block-cols 2
    """,
    plan=EndurancePlan,
    columns=columns,
    units=units,
    run=run,
    findings=findings,
    draw=draw,
)
