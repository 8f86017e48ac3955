"""Reading some cells: their rows alone are open, their columns alone driven, in a fitting range."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge import readout
from firmware_bridge.board_spec import BoardSpec
from rram_host.array.calibration import Calibration
from rram_host.array.compensation import Compensation
from rram_host.array.pulses import ArrayProgram
from rram_host.board.core import BoardCore
from rram_host.board.sequencer import MAX_RESULTS

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


def read_cells(
    core: BoardCore, cells: Mask, known: Compensation, calibration: Calibration, average: int
) -> Array:
    """Conductances of some cells, NaN elsewhere, (rows, cols), siemens.

    The range is the most sensitive one that holds the currents which the last whole read makes one
    expect; where one does not hold them after all, the next coarser one is taken.

    Args:
        core: the board.
        cells: which; at least one.
        known: of the last whole read: drops along lines, and what currents to expect.
        calibration: gains of ranges.
        average: readings of each cell, of either sign.
    """
    spec = core.spec
    rows, columns = np.flatnonzero(cells.any(1)), np.flatnonzero(cells.any(0))
    step = np.eye(spec.cols)[columns] * spec.read_voltage_v
    volts = np.concatenate([step, -step])
    tia_range = _range(spec, cells, known, rows)
    while True:
        gain = calibration.range_gain[tia_range][rows]
        amperes, ends = _currents(core, volts, rows, tia_range, average, gain)
        if not ends or tia_range == 0:
            break
        tia_range -= 1
    plus, minus = amperes.reshape(average, 2, columns.size, -1).mean(0)
    factors = known.of_rows(rows)
    scale = np.outer(factors.rows[rows], factors.columns[columns])
    seen = (plus - minus).T / (2 * spec.read_voltage_v) / scale
    g = np.full(cells.shape, np.nan)
    g[np.ix_(rows, columns)] = seen
    g[~cells] = np.nan
    return g


def _range(spec: BoardSpec, cells: Mask, known: Compensation, rows: Rows) -> int:
    """For cells of `rows` that conduct what they last did, other cells of their columns too."""
    expected = known.measured[rows]
    largest_a = spec.read_voltage_v * float(expected[:, cells.any(0)].max())
    return readout.choose_range(spec, largest_a, float(expected.sum(1).max()))


def _currents(
    core: BoardCore, volts: Array, rows: Rows, tia_range: int, average: int, gain: Array
) -> tuple[Array, int]:
    """Amperes (average * n, len(rows)), and how many conversions were at the end of the range."""
    spec = core.spec
    most = max(1, MAX_RESULTS // (len(volts) * spec.adcs * len(readout.selects_for(spec, rows))))
    parts, ends = [], 0
    for start in range(0, average, most):
        program = ArrayProgram(spec)
        program.read(volts, rows, tia_range, min(most, average - start))
        words = core.driver.run(program.asm, program.table)
        amperes, at_end = readout.currents(words, spec, rows, tia_range, gain)
        parts.append(amperes)
        ends += at_end
    return np.concatenate(parts), ends
