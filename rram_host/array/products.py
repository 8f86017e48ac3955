"""Batches of products: checked inputs, one program a chunk, currents freed of known errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from firmware_bridge import kernels, readout
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import dac80508
from firmware_bridge.limits import array_of
from firmware_bridge.lines import LineGroup
from rram_host.array.compensation import Expected, Factors
from rram_host.array.pulses import ArrayProgram
from rram_host.board.core import BoardCore
from rram_host.board.sequencer import MAX_RESULTS, MAX_TABLE_CODES, Compiled
from rram_host.errors import InputError

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint16]

ZERO_READS = 16
READ_FULL_SCALE_V = 1.25
LOOKED_AT = 256
MAX_COMPILED = 64


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
    core: BoardCore,
    volts: Array,
    rows: Rows,
    tia_range: int,
    factors: Factors | None,
    gain: Array,
) -> Products:
    """Products of voltages.

    Args:
        core: the board.
        volts: (n, cols).
        rows: rows to open and convert.
        tia_range: 0 to 3.
        factors: of these rows, to be undone; zero-input vectors are then put before the batch, and
            their mean is subtracted. None: currents as they are.
        gain: true over nominal current of every row in this range, (rows,).

    Raises:
        InputError: NaN, or a voltage beyond the read voltage.
    """
    spec = core.spec
    inputs = np.ones(spec.cols) if factors is None else factors.input_scale
    outputs = np.ones(len(rows)) if factors is None else factors.output_scale[rows]
    scale = gain[rows] * outputs
    zeros = 0 if factors is None else ZERO_READS
    step = _chunk(spec, rows)
    parts, saturated = [], 0
    # Every voltage is checked before any is applied.
    chunks = [
        _codes(spec, volts[start : start + step], inputs, zeros)
        for start in range(0, len(volts), step)
    ]
    for codes in chunks:
        words = core.driver.run(_program(core, len(codes), rows, tia_range), codes)
        amperes, ends = readout.currents(words, spec, rows, tia_range, scale, zeros)
        parts.append(amperes)
        saturated += ends
    currents = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return Products(currents, tia_range, np.abs(spec.current_lsb_a(tia_range) * scale), saturated)


def _chunk(spec: BoardSpec, rows: Rows) -> int:
    """Vectors that one program can take."""
    results = readout.conversions(spec, rows)
    return min(MAX_TABLE_CODES // spec.cols, MAX_RESULTS // results) - ZERO_READS


def _codes(spec: BoardSpec, volts: Array, inputs: Array, zeros: int) -> Codes:
    """Codes of a batch in the order of the table, `zeros` zero inputs first.

    The board file holds the read voltage within the limits of the lines.
    """
    per_v = dac80508.FULL_SCALE / READ_FULL_SCALE_V
    bias = spec.tia_bias_v * per_v + 0.5  # half a code more than the voltage: the cast cuts off
    codes = np.empty((zeros + len(volts), spec.cols), dtype=np.uint16)
    codes[:zeros] = int(bias)
    order = LineGroup.of(spec.bl_channel).order
    limit_v = spec.read_voltage_v * (1 + 1e-9)
    if kernels.encode(volts, limit_v, inputs * per_v, bias, order, codes[zeros:]):
        _refuse(volts, spec)
    return codes


def _refuse(volts: Array, spec: BoardSpec) -> NoReturn:
    worst = float(np.abs(volts).max())  # nan wherever one is
    if not np.isfinite(worst):
        raise InputError(f"input voltages: {(~np.isfinite(volts)).sum()} are not finite")
    worst = float(volts.flat[np.abs(volts).argmax()])
    raise InputError(
        f"input voltage {worst:.4g} V is beyond +-{spec.read_voltage_v} V (read limit)"
    )


def _program(core: BoardCore, n: int, rows: Rows, tia_range: int) -> Compiled:
    """The program of n products; made once, for it depends on codes only by their number."""
    key = (n, rows.tobytes(), tia_range)
    if key not in core.compiled:
        program = ArrayProgram(core.spec)
        program.add_read(n, 0, rows, tia_range)
        if len(core.compiled) >= MAX_COMPILED:
            core.compiled.clear()
        core.compiled[key] = Compiled.of(program.asm)
    return core.compiled[key]


def expected_range(spec: BoardSpec, volts: Array, expected: Expected) -> int:
    """Amplifier range for the currents that measured conductances let expect.

    Of a large batch a part is looked at, and a quarter added; `Products.saturated` tells where
    that was not enough.
    """
    step = max(1, len(volts) // LOOKED_AT)
    with np.errstate(all="ignore"):  # voltages are not checked yet
        currents = volts[::step].astype(np.float32) @ expected.weights
        largest = float(max(currents.max(initial=0.0), -currents.min(initial=0.0)))
    margin = 1.25 if step > 1 else 1.0
    return readout.choose_range(spec, largest * margin, expected.largest_row_siemens)


def check_voltages(voltages: npt.ArrayLike, spec: BoardSpec) -> Array:
    """Input voltages as an array of the right shape; `multiply` looks at the numbers.

    Raises:
        InputError: no numbers, or another shape.
    """
    volts = array_of(voltages, "input voltages")
    if volts.ndim != 2 or volts.shape[1] != spec.cols or not len(volts):
        raise InputError(f"input voltages have shape {volts.shape}, expected (n, {spec.cols})")
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
