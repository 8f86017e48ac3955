"""Batches of products: checked inputs, one program a chunk, currents freed of known errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.pulses import ArrayProgram
from rram_host.board import readout
from rram_host.board.core import BoardCore
from rram_host.board.limits import array_of
from rram_host.board.sequencer import MAX_RESULTS, MAX_TABLE_CODES
from rram_host.errors import InputError

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

ZERO_READS = 16


@dataclass(frozen=True)
class Products:
    """A batch of products with what is needed to judge it.

    Attributes:
        currents_a: amperes out of the source lines, (n, rows).
        tia_range: range used.
        lsb_a: current of one ADC code after compensation, (rows,).
        saturated: conversions at the end of the range.
    """

    currents_a: Array
    tia_range: int
    lsb_a: Array
    saturated: int


def multiply(
    core: BoardCore, volts: Array, rows: Rows, tia_range: int, factor: Array, calibrate: bool
) -> Products:
    """Products of checked voltages.

    Args:
        core: the board.
        volts: (n, cols).
        rows: rows to open and convert.
        tia_range: 0 to 3.
        factor: true over measured conductance of every row of the array, (rows,).
        calibrate: put zero-input vectors before the batch and subtract their mean, and multiply
            by `factor`.
    """
    step = _chunk(core.spec, rows)
    parts, saturated = [], 0
    for chunk in np.split(volts, range(step, len(volts), step)):
        amperes, ends = _one_program(core, chunk, rows, tia_range, calibrate)
        parts.append(amperes)
        saturated += ends
    scale = factor[rows] if calibrate else np.ones(len(rows))
    lsb = core.spec.current_lsb_a(tia_range) * scale
    return Products(np.concatenate(parts) * scale, tia_range, lsb, saturated)


def _chunk(spec: BoardSpec, rows: Rows) -> int:
    """Vectors that one program can take."""
    results = len(readout.selects_for(spec, rows)) * spec.adcs
    return min(MAX_TABLE_CODES // spec.cols, MAX_RESULTS // results) - ZERO_READS


def _one_program(
    core: BoardCore, volts: Array, rows: Rows, tia_range: int, calibrate: bool
) -> tuple[Array, int]:
    zeros = ZERO_READS if calibrate else 0
    program = ArrayProgram(core.spec)
    program.read(np.pad(volts, ((zeros, 0), (0, 0))), rows, tia_range)
    words = core.driver.run(program.asm, program.table)
    amperes, saturated = readout.currents(words, core.spec, rows, tia_range)
    if calibrate:
        return amperes[zeros:] - amperes[:zeros].mean(0), saturated
    return amperes, saturated


def expected_range(spec: BoardSpec, volts: Array, effective: Array) -> int:
    """Amplifier range for the currents that measured conductances (rows, cols) let expect."""
    mine = np.maximum(effective, 0.0)
    largest = float(np.abs(volts @ mine.T).max(initial=0.0))
    return readout.choose_range(spec, largest, float(mine.sum(1).max(initial=0.0)))


def check_voltages(voltages: npt.ArrayLike, spec: BoardSpec) -> Array:
    """Input voltages as an array.

    Raises:
        InputError: shape, NaN, or a voltage beyond the read voltage.
    """
    volts = array_of(voltages, "input voltages")
    if volts.ndim != 2 or volts.shape[1] != spec.cols or not len(volts):
        raise InputError(f"input voltages have shape {volts.shape}, expected (n, {spec.cols})")
    if not np.isfinite(volts).all():
        raise InputError(f"input voltages: {(~np.isfinite(volts)).sum()} are not finite")
    worst = float(np.abs(volts).max())
    if worst > spec.read_voltage_v * (1 + 1e-9):
        raise InputError(
            f"input voltage {worst:.4g} V is beyond +-{spec.read_voltage_v} V (read limit)"
        )
    return volts


def check_rows(rows: npt.ArrayLike | None, spec: BoardSpec) -> Rows:
    """Row indices as an array; None means all.

    Raises:
        InputError: none, or outside the array.
    """
    if rows is None:
        return np.arange(spec.rows)
    wanted = np.atleast_1d(np.asarray(rows, dtype=np.int64))
    if wanted.size == 0 or wanted.min() < 0 or wanted.max() >= spec.rows:
        raise InputError(f"rows {wanted.tolist()} are outside 0..{spec.rows - 1}")
    return wanted
