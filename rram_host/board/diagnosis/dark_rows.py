"""Rows that never show a current: which of the causes, by what the row does to the others.

A row that is really at ground, or really at the programming rail, pulls current through the bit
lines' wires, and every other row sees the drop. With its gates closed it does nothing. So the
same row is told to go to its amplifier, open, and to ground, while the others listen:

===================  ==========  ======  ========  =====================================
cause                amplifier   open    ground    seen, against "amplifier"
===================  ==========  ======  ========  =====================================
gates closed         -           -       -         nothing
low bit stays 0      ground      rail    ground    open: up
high bit stays 1     open        open    rail      ground: up
bits exchanged       rail        open    ground    open and ground: down
amplifier not there  amplifier   open    ground    ground: down
===================  ==========  ======  ========  =====================================
"""

from __future__ import annotations

import numpy as np

from rram_host.board.diagnosis.findings import Log, listed
from rram_host.board.diagnosis.probe import COARSE, Array, Mask, Probe, Rows, Setting
from rram_host.board.diagnosis.switches import LIT_SIEMENS, Fault, name_fault

# The neighbour's effect is the unit; a row at the rail or at ground does at least half of it
# (bit lines are as long, conductances differ), and noise is far below.
_SHARE = 0.25
_RANGE = 1  # zero-input currents: offsets times the row's conductance, below 10 uA
_AVERAGE = 6
_FLOOR_A = 50e-9  # sum over rows; noise of the mean is 20 nA
_MANY_SHARE = 1 / 8  # more dark rows than this are no single fault: part of the array is empty


def check_dark(
    probe: Probe, log: Log, dark: Mask, right: Mask, gates: Array, strong_allowed: bool
) -> None:
    """Name the cause of every row without current.

    Args:
        probe: usable rows known.
        log: where to.
        dark: rows that never carry current, (rows,).
        right: rows that follow their switch, (rows,).
        gates: gate voltages, (rows,).
        strong_allowed: whether every bit line follows its DAC.
    """
    rows = np.flatnonzero(dark)
    if not rows.size or not right.any():
        return
    chip = _one_chip(probe, rows)
    if chip is not None and strong_allowed and _lit_by_strong_gates(probe, dark):
        log.find(
            "dac_reference",
            (chip,),
            f"WL{rows[0]} to WL{rows[-1]} open their gates only when told far more than the "
            f"others: all hang on DAC80508 {chip}, whose reference is too low. Measure its REF pin",
        )
        return
    if rows.size > _MANY_SHARE * probe.usable.sum():
        log.skip(
            f"rows {listed(rows)}: {rows.size} rows carry no current, not formed, as it seems "
            "(or their word lines share a fault)"
        )
        return
    for row in rows.tolist():
        _name(probe, log, row, _signs(probe, row, right, gates))


def _one_chip(probe: Probe, rows: Rows) -> int | None:
    """The chip whose word lines `rows` are exactly, of those that can be seen."""
    chips = np.array(probe.spec.wl_channel) // 8
    mine = np.flatnonzero((chips == chips[rows[0]]) & probe.usable)
    return int(chips[rows[0]]) if rows.size > 1 and np.array_equal(mine, rows) else None


def _lit_by_strong_gates(probe: Probe, dark: Mask) -> bool:
    """Whether most of the dark rows carry current with the gates that reads use."""
    spec = probe.spec
    drive = probe.around_bias([[spec.read_voltage_v], [-spec.read_voltage_v]])
    inputs = np.where(dark, spec.sl_tia, spec.sl_float)
    setting = Setting(inputs, np.where(dark, spec.wl_read_v, 0.0), drive)
    plus, minus = probe.currents_a([setting], COARSE)[0]
    siemens = (plus - minus) / (2 * spec.read_voltage_v)
    return bool(np.median(siemens[dark]) > LIT_SIEMENS)


def _signs(probe: Probe, row: int, right: Mask, gates: Array) -> tuple[int, int] | None:
    """Signs of the effect of "open" and "ground" against "amplifier"; None: wires show nothing."""
    spec = probe.spec
    healthy = np.flatnonzero(right)
    if healthy.size < 3:
        return None
    near = int(healthy[np.argmin(np.abs(healthy - row))])
    listeners = right.copy()
    listeners[near] = False
    steps = [(row, spec.sl_tia), (row, spec.sl_float), (row, spec.sl_ground)]
    steps += [(near, spec.sl_float), (near, spec.sl_ground)]
    settings = []
    for moved, code in steps:
        inputs = probe.all_at(spec.sl_tia)
        inputs[moved] = code
        settings.append(Setting(inputs, gates, probe.around_bias([[0.0]])))
    sums = [part[0][listeners].sum() for part in probe.currents_a(settings, _RANGE, _AVERAGE)]
    at_amplifier, floating, ground, near_floating, near_ground = sums
    unit = near_floating - near_ground
    if unit < 2 * _FLOOR_A:
        return None
    threshold = max(_FLOOR_A, _SHARE * unit)

    def sign(effect: float) -> int:
        return int(effect > threshold) - int(effect < -threshold)

    return sign(floating - at_amplifier), sign(ground - at_amplifier)


def _name(probe: Probe, log: Log, row: int, signs: tuple[int, int] | None) -> None:
    spec = probe.spec
    low, high = spec.sl_bit0[row], spec.sl_bit1[row]
    faults = {(1, 0): Fault((low,), 0), (0, 1): Fault((high,), 1), (-1, -1): Fault((low, high))}
    if signs in faults:
        name_fault(spec, log, faults[signs], [row])
        return
    if signs == (0, -1):
        log.find(
            "open_sl",
            (row,),
            f"row {row}: reaches ground through its switch, but its amplifier sees no current. "
            "Check the line from the switch to the OPA4322",
        )
        return
    closed = (
        f"WL{row} does not open its gates: the line is broken, or DAC channel "
        f"{spec.wl_channel[row]} stays below the threshold (the array cannot tell: measure the "
        "DAC output), or none of its cells is formed"
    )
    if signs is None:
        closed = (
            f"row {row} carries no current, and the bit lines' wires are too good to show why: "
            f"{closed}; or its switch never reaches the amplifier (74HC595 output {low} stays at "
            f"0, {high} stays at 1, or both are exchanged)"
        )
    elif signs != (0, 0):
        closed = f"row {row} disturbs the others in a way that no single fault explains; {closed}"
    log.find("open_wl", (row,), closed)
