"""The order of a diagnosis, and what depends on what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.limits import array_of
from rram_host.board.diagnosis import cells, converters, dark_rows, switches
from rram_host.board.diagnosis.bit_lines import check_bit_lines, measure_columns
from rram_host.board.diagnosis.bl_references import clamped, find_far_chip
from rram_host.board.diagnosis.cells import Switching
from rram_host.board.diagnosis.findings import KINDS, Diagnosis, Log
from rram_host.board.diagnosis.gate_references import check_gate_references
from rram_host.board.diagnosis.probe import COARSE, Array, Mask, Probe, Setting
from rram_host.board.diagnosis.switches import LIT_SIEMENS
from rram_host.board.diagnosis.word_lines import check_word_lines
from rram_host.board.sequencer import SequencerDriver
from rram_host.errors import InputError

_NO_BIT_LINES = "switches, word lines and cells: bit lines are at voltages that nobody asked for"
_GATE_STEP_V = 0.15
# The ramp of gates ends where half of the rows carry as much as a few weakly opened cells.
_ENOUGH_SIEMENS = 100e-6


def diagnose(
    driver: SequencerDriver,
    spec: BoardSpec,
    array: Switching,
    reference_map: npt.ArrayLike | None = None,
    exercise: Mask | None = None,
) -> Diagnosis:
    """Measure everything that a board can tell about itself, and name what is wrong.

    Args:
        driver: runs programs.
        spec: how the board is meant to be wired.
        array: gives pulses, where `exercise` asks for them.
        reference_map: conductances that the chip is known to hold, (rows, cols), siemens or nan;
            needed to see exchanged bit lines.
        exercise: cells to RESET and SET, (rows, cols), which destroys what they store; or None.

    Raises:
        InputError: the map has another shape.
    """
    reference = _checked_map(reference_map, spec)
    begun = driver.traffic.board_time_s
    log, probe = Log(), Probe(driver, spec)
    try:
        offsets = _closed_gates(probe, log, array, reference, exercise)
    finally:
        driver.safe()
    if not probe.moved.any():
        log.skip("ADCs: none ever gives two codes; all are dead, or the board has no noise at all")
    return Diagnosis(
        tuple(log.findings),
        tuple(log.checks),
        tuple(log.not_tested),
        offsets,
        driver.traffic.board_time_s - begun,
    )


def _checked_map(reference_map: npt.ArrayLike | None, spec: BoardSpec) -> Array | None:
    if reference_map is None:
        return None
    reference = array_of(reference_map, "reference map")
    if reference.shape != (spec.rows, spec.cols):
        raise InputError(
            f"reference map has shape {reference.shape}, the array has ({spec.rows}, {spec.cols})"
        )
    return reference


def _closed_gates(
    probe: Probe, log: Log, array: Switching, reference: Array | None, exercise: Mask | None
) -> Array:
    dead = converters.check_links(probe, log)
    offsets = converters.check_amplifiers(probe, log)
    if dead:
        log.skip("lines, switches and cells: lines of a dead DAC are at voltages nobody knows")
        return offsets
    ramp = _ramp(probe)
    if ramp is not None and clamped(probe, ramp.zero_a):
        if not find_far_chip(probe, log, probe.gates(ramp.gate_v)):
            log.skip(
                "cause of clamped amplifiers: no single DAC80508 explains it, measure bit lines"
            )
        log.skip(_NO_BIT_LINES)
        return offsets
    if ramp is None:
        log.skip("switches, lines, cells, gain of the ADCs: few rows carry current; form the array")
        return offsets
    _weak_gates(probe, log, ramp, array, reference, exercise)
    return offsets


def weak_gate_v(spec: BoardSpec) -> float:
    """Gate voltage whose compliance is the lowest conductance of the window.

    With a source at ground, no cell of the window can be moved behind such a gate: what it would
    pass ends below what the cell conducts.
    """
    p = spec.pulses
    return p.set_wl_offset_v + spec.conductance_min_siemens / p.set_wl_slope_siemens_per_v


@dataclass(frozen=True)
class _Ramp:
    """Where the ramp of gates ended: the voltage, and the currents of rows there, (rows,).

    With all bit lines at plus the read voltage, at the virtual ground, at minus the read voltage.
    """

    gate_v: float
    plus_a: Array
    zero_a: Array
    minus_a: Array


def _ramp(probe: Probe) -> _Ramp | None:
    """Lowest gate voltage at which rows carry current, lines at the virtual ground.

    Starts at the weak gate and ends one virtual ground and a step above it: a transistor opens
    by its gate against the lower of its two ends, so it has to open for both signs of the current.

    Returns:
        None where the array carries no current.
    """
    spec = probe.spec
    start = weak_gate_v(spec)
    drive = probe.around_bias([[spec.read_voltage_v], [0.0], [-spec.read_voltage_v]])
    steps = int(np.ceil((spec.tia_bias_v + spec.read_voltage_v) / _GATE_STEP_V)) + 1
    for gate_v in (start + _GATE_STEP_V * np.arange(steps)).tolist():
        if gate_v > spec.wl_limit_v:
            break
        setting = Setting(probe.all_at(spec.sl_tia), probe.gates(gate_v), drive)
        plus, zero, minus = probe.currents_a([setting], COARSE)[0]
        siemens = np.minimum(plus - zero, zero - minus) / spec.read_voltage_v
        if np.median(siemens[probe.usable]) > _ENOUGH_SIEMENS or clamped(probe, zero):
            return _Ramp(gate_v, plus, zero, minus)
    return None


def _weak_gates(
    probe: Probe,
    log: Log,
    ramp: _Ramp,
    array: Switching,
    reference: Array | None,
    exercise: Mask | None,
) -> None:
    spec = probe.spec
    gate_v, plus, minus = ramp.gate_v, ramp.plus_a, ramp.minus_a
    gates = probe.gates(gate_v)
    lit = (plus - minus) / (2 * spec.read_voltage_v) > LIT_SIEMENS
    converters.check_still(probe, log, lit)
    lit &= probe.usable
    converters.check_gain(probe, log, plus, minus, gates)
    columns = measure_columns(probe, gates)
    following = check_bit_lines(probe, log, columns, lit, gates)
    if following is None:
        log.skip(_NO_BIT_LINES)
        return
    right, dark = switches.check_switches(probe, log, gates, weak_gate_v(spec))
    dark_rows.check_dark(probe, log, dark, right, gates, bool(following.all()))
    good = check_word_lines(probe, log, right, gates)
    if not following.all():
        log.skip("cells, WL references: a bit line does not follow its DAC, so gates stay weak")
        return
    if not good.any():
        log.skip("cells: no row follows its switch and its gate")
        return
    _strong_gates(probe, log, gate_v, columns.siemens, good, array, reference, exercise)


def _strong_gates(
    probe: Probe,
    log: Log,
    gate_v: float,
    weak: Array,
    good: Mask,
    array: Switching,
    reference: Array | None,
    exercise: Mask | None,
) -> None:
    raw = cells.measure_cells(probe, good)
    raised = measure_columns(probe, probe.gates(gate_v + _GATE_STEP_V)).siemens
    check_gate_references(probe, log, good, gate_v, _GATE_STEP_V, weak, raised, raw)
    siemens = cells.compensated(probe, raw)
    shorted, formed = cells.check_cells(probe, log, siemens, good)
    if not good.all():
        log.skip(f"cells of rows {', '.join(map(str, np.flatnonzero(~good)))}: see the row")
    if reference is None:
        log.skip("order of the bit lines: needs a map of what the chip holds")
    else:
        cells.check_order(probe, log, siemens, good, reference)
    _exercise(probe, log, array, formed & ~shorted, exercise)


def _exercise(probe: Probe, log: Log, array: Switching, todo: Mask, exercise: Mask | None) -> None:
    if exercise is None:
        log.skip("whether cells switch: needs pulses, which destroy what is stored")
        return
    if any(KINDS[finding.kind] != "row, column" for finding in log.findings):
        log.skip("whether cells switch: no pulses on a board with a faulty part or line")
        return
    held = int((todo & ~exercise).sum())
    if held:
        log.skip(f"whether {held} cells switch: the passport calls them dead, or nearly worn")
    cells.check_switching(probe, log, array, todo & exercise)
