"""What experiments on cells share: which cells, voltages that may be asked for, findings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.compensation import MAX_SAG_V
from rram_host.array.masks import of_cells
from rram_host.array.pulses import reset_source, set_source
from rram_host.errors import InputError
from rram_host.experiments import estimates
from rram_host.experiments.experiment import Finding
from rram_host.session import Board

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Cell = tuple[int, int]

MAX_STEPS = 10_000


def at_least(plan: object, **least: float) -> None:
    """Check settings of a plan against the least that makes sense.

    Raises:
        InputError: a setting is below its least value, or not a number.
    """
    for name, value in least.items():
        found = getattr(plan, name)
        if not found >= value:
            raise InputError(f"{name} = {found} must be at least {value}")


def staircase(start_v: float, stop_v: float, step_v: float, name: str = "staircase") -> Array:
    """Voltages from start to stop, the stop included where steps meet it, (n,).

    Raises:
        InputError: no step upwards, or more than 10 000 of them.
    """
    if not (np.isfinite([start_v, stop_v, step_v]).all() and step_v > 0 and stop_v >= start_v):
        raise InputError(
            f"{name} from {start_v} V to {stop_v} V in steps of {step_v} V: steps must be above "
            "0 V, and the end not below the start"
        )
    steps = np.floor((stop_v - start_v) / step_v + 1e-6)
    if steps >= MAX_STEPS:
        raise InputError(f"{name} has {steps + 1:.0f} voltages; at most {MAX_STEPS} are taken")
    # a nanovolt of rounding must not make two values of one
    volts: Array = np.round(start_v + step_v * np.arange(int(steps) + 1), 9)
    return volts


def check_voltage(name: str, volts: float, limit_v: float) -> None:
    """Refuse a voltage that the board does not give.

    Raises:
        InputError: not a number, below 0 V, or above the limit.
    """
    if not 0 <= volts <= limit_v:
        raise InputError(f"{name} = {volts} V is outside 0..{limit_v:.4g} V")


def set_limit_v(spec: BoardSpec) -> float:
    """Largest SET voltage that the lines give."""
    return set_source(spec)[1] or spec.bl_limit_v


def reset_limit_v(spec: BoardSpec) -> float:
    """Largest RESET voltage that the lines give, less what a source line may sag."""
    return (reset_source(spec)[1] or spec.bl_limit_v) - MAX_SAG_V


def check_cells(cells: Sequence[Cell], spec: BoardSpec) -> None:
    """Refuse cells that the array has not, or that are named twice.

    Raises:
        InputError: no cells, a cell outside the array, or twice the same.
    """
    if not len(cells):
        raise InputError("no cells: at least one (row, col) is needed")
    for row, col in cells:
        if not (0 <= row < spec.rows and 0 <= col < spec.cols):
            raise InputError(
                f"cell ({row}, {col}) is outside the array of {spec.rows} x {spec.cols} cells"
            )
    if len(set(cells)) < len(cells):
        raise InputError("a cell is named twice")


def spread_cells(per_row: int, shape: Cell) -> Mask:
    """A mask with so many cells of every row, evenly spread, each row shifted by one column.

    Raises:
        InputError: fewer than one, or more than a row has.
    """
    rows, cols = shape
    if not 1 <= per_row <= cols:
        raise InputError(f"per_row = {per_row} cells of a row is outside 1..{cols}")
    mask = np.zeros(shape, dtype=bool)
    for row in range(rows):
        mask[row, (row + np.arange(per_row) * cols // per_row) % cols] = True
    return mask


def held_back(board: Board) -> Mask:
    """Cells that the chip's passport calls dead or worn, (rows, cols)."""
    known = board.passport
    return np.zeros(board.array.shape, dtype=bool) if known is None else known.dead | known.worn


def check_pulses(board: Board, cells: Mask, count: int) -> None:
    """Refuse, before the first, more pulses than the chip's passport allows.

    Args:
        board: with a passport, or without.
        cells: which are to be pulsed, (rows, cols).
        count: most SET and RESET pulses that each is to get.

    Raises:
        InputError: names a cell, what it has had, and the limit.
    """
    limit = board.passport.contents.limits.max_pulses_per_cell if board.passport else None
    if board.passport is None or limit is None or not cells.any():
        return
    had = np.where(cells, board.passport.contents.pulses, -1)
    row, col = np.unravel_index(had.argmax(), had.shape)
    if had[row, col] + count > limit:
        raise InputError(
            f"up to {count} pulses a cell; passport {board.passport.file.path} allows {limit}, of "
            f"which cell ({row}, {col}) has had {had[row, col]}"
        )


def ready(board: Board, cells: Mask) -> Mask:
    """Form the cells that are not formed; those that can be worked with, (rows, cols).

    Left out are cells that did not form, are shorted, or are dead or worn by the chip's passport.
    Cells that are formed are only read, so every unit of a run may begin with it.
    """
    wanted = cells & ~held_back(board)
    report = board.array.form(wanted)
    usable: Mask = wanted & ~report.unformed & ~report.shorted
    return usable


def ready_all(board: Board, cells: Sequence[Cell]) -> Mask:
    """The same for cells that were named: all of them must be usable.

    Raises:
        InputError: a cell is not; where the passport says so, nothing has been pulsed.
    """
    mask = of_cells(board.array.shape, cells)
    for row, col in np.argwhere(mask & held_back(board)).tolist():
        why = board.passport.barred()[row, col] if board.passport else ""
        raise InputError(f"cell ({row}, {col}) cannot be used: by its chip's passport, {why}")
    for row, col in np.argwhere(mask & ~ready(board, mask)).tolist():
        raise InputError(f"cell ({row}, {col}) cannot be used: it did not form, or is shorted")
    return mask


def finding(
    name: str, estimate: tuple[float, float], unit: str = "", paper: str = "", scale: float = 1.0
) -> Finding:
    """A finding from a value and its standard error, which may be NaN, in units of `scale`."""
    value, error = estimate
    known = float(error / scale) if np.isfinite(error) else None
    return Finding(name, float(value / scale), unit, known, paper)


def step_mean(values: Array, step_v: float) -> tuple[float, float]:
    """Mean of voltages that are known to a step, each told as the step's middle, and its error.

    Where they differ by less than steps can show, they all err the same way, by the step.
    """
    value, error = estimates.mean(values)
    own_v = step_v / np.sqrt(12)
    coarse = estimates.finite(values).std() < own_v if np.isfinite(value) else False
    return value, own_v if coarse else error


def step_std(values: Array, step_v: float) -> tuple[float, float]:
    """Std of voltages that are known to a step, without the step's own, and its error."""
    spread, error = estimates.std(values)
    if np.isnan(spread):
        return np.nan, np.nan
    own = float(np.sqrt(max(spread**2 - step_v**2 / 12, 0.0)))
    if own == 0.0:
        return 0.0, float(step_v / np.sqrt(12))  # less than steps can show
    return own, error * spread / own  # s ds = own d(own)
