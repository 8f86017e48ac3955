"""A staircase of pulses on one cell with a read after every step: one program.

Steps of one direction are one loop over the input table, whose rows hold the lines of a pulse and
the bit lines of the reads behind it. Only the cell's own row is open, and only its converter's
input is converted.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np
import numpy.typing as npt

from firmware_bridge import readout
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import dac80508
from firmware_bridge.limits import array_of, codes_for
from firmware_bridge.microcode import CLOCK_HZ, Op
from firmware_bridge.readout import CELL_RANGE
from rram_host.array.compensation import reset_bl_volts
from rram_host.array.pulses import (
    ArrayProgram,
    PulseTrain,
    check_amplitude,
    check_inhibited,
    reset_source,
    reset_train,
    set_source,
    set_train,
)
from rram_host.board.core import BoardCore
from rram_host.board.sequencer import MAX_RESULTS, MAX_TABLE_CODES
from rram_host.errors import InputError

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint16]


def effective_conductances(
    core: BoardCore, row: int, col: int, steps_v: Array, wl_v: float, average: int, gain: float
) -> Array:
    """Pulse a cell with one voltage after another and read it after each.

    Args:
        core: the board.
        row: of the cell.
        col: of the cell.
        steps_v: voltages between its lines, (n,): above 0 V SET, below 0 V RESET. They are those
            of the lines' sources: what the switch takes of a RESET, 1 or 2 %, is not made up for,
            because the conductance that decides it is not known before.
        wl_v: compliance of SET pulses: gate voltage above the lower line.
        average: reads of each sign after every step.
        gain: true over nominal current of the row in the range of cell reads.

    Returns:
        Current over voltage with this row alone open, (n,), siemens.

    Raises:
        InputError: a step that is 0 V or that the lines cannot give, or too many steps for one
            program.
    """
    spec = core.spec
    n = check_steps(spec, steps_v, average).size
    trains = _trains(spec, row, col, steps_v, wl_v)
    reads = _read_codes(spec, col, average)
    program = ArrayProgram(spec)
    for train in trains:
        _add(program, spec, row, train, reads)
    results = core.driver.run(program.asm, program.table)
    amperes, _ = readout.currents(results, spec, np.array([row]), CELL_RANGE, gain)
    plus, minus = amperes.reshape(n, average, 2).mean(1).T
    return np.asarray((plus - minus) / (2 * spec.read_voltage_v))


def check_steps(spec: BoardSpec, steps_v: npt.ArrayLike, average: int) -> Array:
    """Steps of a sweep as an array.

    Raises:
        InputError: none, no numbers, 0 V, beyond what the lines give, or more than one program
            takes.
    """
    steps = array_of(steps_v, "sweep voltages")
    if steps.ndim != 1 or not steps.size or not np.isfinite(steps).all() or not steps.all():
        raise InputError("sweep voltages: need a row of finite voltages other than 0 V")
    check_amplitude(spec, float(np.max(steps, initial=0.0)), set_source(spec)[1], "SET")
    check_amplitude(spec, float(np.max(-steps, initial=0.0)), reset_source(spec)[1], "RESET")
    codes = steps.size * ((1 + 2 * average) * spec.cols + spec.rows)
    words = steps.size * 2 * average * spec.adcs
    if average < 1 or codes > MAX_TABLE_CODES or words > MAX_RESULTS:
        raise InputError(
            f"a sweep of {steps.size} steps with {average} reads each needs {codes} input codes "
            f"and {words} results; the board holds {MAX_TABLE_CODES} and {MAX_RESULTS}"
        )
    return steps


def _trains(spec: BoardSpec, row: int, col: int, steps_v: Array, wl_v: float) -> list[PulseTrain]:
    """Steps as trains of one direction each."""
    return [
        _set_steps(spec, row, col, np.array(list(steps)), wl_v)
        if upwards
        else _reset_steps(spec, row, col, -np.array(list(steps)))
        for upwards, steps in groupby(steps_v.tolist(), key=lambda step_v: step_v > 0)
    ]


def _set_steps(spec: BoardSpec, row: int, col: int, volts: Array, wl_v: float) -> PulseTrain:
    cell = np.zeros((spec.rows, spec.cols), dtype=bool)
    cell[row, col] = True
    gates = np.full(cell.shape, wl_v)
    width_s = spec.pulses.set_width_s
    trains = [set_train(spec, cell, gates, v, width_s) for v in volts.tolist()]
    bl_v, wl, selected = (
        np.concatenate([getattr(train, name) for train in trains])
        for name in ("bl_v", "wl_v", "selected")
    )
    return PulseTrain(bl_v, wl, selected, width_s, trains[0].sl_input)


def _reset_steps(spec: BoardSpec, row: int, col: int, volts: Array) -> PulseTrain:
    selected = np.zeros((volts.size, spec.cols), dtype=bool)
    selected[:, col] = True
    wanted, nothing = np.where(selected, volts[:, None], 0.0), np.zeros(selected.shape)
    source_v = reset_source(spec)[1]
    bl_v = reset_bl_volts(wanted, selected, nothing, source_v, np.zeros(volts.size))
    order = np.full(volts.size, row)
    p = spec.pulses
    return reset_train(spec, order, selected, bl_v, p.reset_wl_v, p.reset_width_s)


def _read_codes(spec: BoardSpec, col: int, average: int) -> Codes:
    """Bit-line codes of the reads of a step, + and - alternating, (2 average, cols)."""
    volts = np.full((2 * average, spec.cols), spec.tia_bias_v)
    volts[0::2, col] += spec.read_voltage_v
    volts[1::2, col] -= spec.read_voltage_v
    return codes_for(volts, spec.bl_limit_v, 1.25, "BL")


def _add(program: ArrayProgram, spec: BoardSpec, row: int, train: PulseTrain, reads: Codes) -> None:
    """A loop of steps; the inner loops move the table pointer over the reads of a step."""
    check_inhibited(spec, train)
    asm, rows = program.asm, np.array([row])
    bl = codes_for(train.bl_v, spec.bl_limit_v, 5.0, "BL")[:, asm.bl.order]
    wl = codes_for(train.wl_v, spec.wl_limit_v, 5.0, "WL")[:, asm.wl.order]
    each = np.tile(reads[:, asm.bl.order].ravel(), (len(bl), 1))
    start = program.table_only(np.concatenate([bl, wl, each], axis=1))
    lines = spec.cols + spec.rows
    asm.add(Op.PTR, value=start)
    with asm.loop(len(bl), stride=lines):
        asm.switch_sl(train.sl_input, rows)
        asm.bl_range(dac80508.GAIN_0_TO_5_V)
        with asm.loop(1):  # such a loop is what the emulated board takes as a whole
            asm.bl.from_table(asm, 0)
            asm.wl.from_table(asm, spec.cols)
            asm.latch()
            asm.settle()
            asm.add(Op.PULSE, value=round(train.width_s * CLOCK_HZ))
        asm.idle()
        asm.open_for_reads(rows, CELL_RANGE)
        asm.read_vectors(len(reads), rows, CELL_RANGE, lines)
        asm.idle()
