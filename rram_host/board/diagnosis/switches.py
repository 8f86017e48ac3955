"""Source-line switches and the 74HC595 chain: which single fault explains what rows show.

Every row gets its own sequence of inputs, and at each step either shows a current at its amplifier
or not. A fault of the chain changes the sequence in a way of its own, which is compared with what
was seen. Two groups of steps, so that no cell sees more than the read voltage on a healthy board:

* amplifier or open, bit lines around the virtual ground;
* ground or open, bit lines at ground: whatever reaches an amplifier then shows plainly.

Gates are only weakly open: a row that a wrong bit puts on the programming rail can carry a few
microamperes a cell, too little to RESET it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.board.diagnosis.findings import Log, listed
from rram_host.board.diagnosis.probe import (
    COARSE,
    Array,
    Mask,
    Probe,
    Rows,
    Setting,
    binary_patterns,
    chain_levels,
)

# A row carries current above this: a fifth of the smallest programmed row of 32 cells, and far
# above what lines couple into one another.
LIT_SIEMENS = 20e-6
_LIT_SHARE = 0.3  # of the most that the row ever showed
_LIT_A = 1e-6  # in the second group, where a row at its amplifier shows tens of microamperes


@dataclass(frozen=True)
class Fault:
    """A hypothesis about the chain: a position held at a level, or two positions exchanged."""

    positions: tuple[int, ...]
    level: int = 0

    @property
    def swapped(self) -> bool:
        """Whether two positions are exchanged."""
        return len(self.positions) == 2

    def on(self, levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Levels (n, positions) as the switches get them."""
        out = levels.copy()
        if self.swapped:
            out[:, list(self.positions)] = levels[:, list(self.positions[::-1])]
        else:
            out[:, self.positions[0]] = self.level
        return out


def amplified(spec: BoardSpec, levels: npt.NDArray[np.uint8], rows: Rows) -> Mask:
    """Whether `rows` are at their amplifiers, (n, len(rows)), for chain levels (n, positions)."""
    bit0, bit1 = np.array(spec.sl_bit0)[rows], np.array(spec.sl_bit1)[rows]
    at: Mask = levels[:, bit0] + 2 * levels[:, bit1] == spec.sl_tia
    return at


def sequences(spec: BoardSpec) -> tuple[Rows, Rows]:
    """Inputs of both groups, (n, rows) each: any two rows meet in all four combinations."""
    every = np.ones((1, spec.rows), dtype=bool)
    subsets = np.concatenate([binary_patterns(spec.rows), every, ~every])
    first = np.where(subsets, spec.sl_tia, spec.sl_float)
    return first, np.where(subsets, spec.sl_ground, spec.sl_float)


def check_switches(probe: Probe, log: Log, gates: Array, weak_v: float) -> tuple[Mask, Mask]:
    """Name faults of the chain that sequences tell.

    Args:
        probe: usable rows known.
        log: where to.
        gates: gate voltages at which rows carry current with their lines at the virtual ground.
        weak_v: the same with bit lines at ground.

    Returns:
        Rows that follow their switch, and rows that never carry current, both (rows,).
    """
    spec = probe.spec
    first, second = sequences(spec)
    seen = _seen(probe, first, second, gates, weak_v)
    levels = chain_levels(spec, np.concatenate([first, second]))
    expected = amplified(spec, levels, np.arange(spec.rows))
    right = (seen == expected).all(0) & probe.usable
    dark = ~seen.any(0) & probe.usable
    odd = probe.usable & ~right & ~dark
    log.check("SL switches", f"{int(right.sum())} of {int(probe.usable.sum())} rows follow theirs")
    left = set(np.flatnonzero(odd).tolist())
    for row in sorted(left):
        fits = [fault for fault in _single(spec, row) if _explains(spec, fault, levels, seen, row)]
        if len(fits) == 1:
            name_fault(spec, log, fits[0], [row])
            left.discard(row)
    taken = _pairs(spec, log, levels, seen, left, set(np.flatnonzero(dark).tolist()))
    dark[sorted(taken)] = False
    for row in sorted(left - taken):
        log.find(
            "sl_switch",
            (row,),
            f"row {row}: its source line follows its switch at some settings only, and no single "
            "fault of the 74HC595 chain explains which. Look for a loose contact",
        )
    return right, dark


def _seen(probe: Probe, first: Rows, second: Rows, gates: Array, weak_v: float) -> Mask:
    spec = probe.spec
    drive = probe.around_bias([[spec.read_voltage_v], [-spec.read_voltage_v]])
    currents = probe.currents_a([Setting(inputs, gates, drive) for inputs in first], COARSE)
    siemens = np.array([(plus - minus) / (2 * spec.read_voltage_v) for plus, minus in currents])
    lit = siemens > np.maximum(LIT_SIEMENS, _LIT_SHARE * siemens.max(0))
    low = np.zeros((1, spec.cols))
    weak = probe.gates(weak_v)
    currents = probe.currents_a([Setting(inputs, weak, low) for inputs in second], COARSE)
    return np.concatenate([lit, np.array([part[0] < -_LIT_A for part in currents])])


def _single(spec: BoardSpec, row: int) -> Iterator[Fault]:
    """Faults that one row's positions can have by themselves."""
    bits = (spec.sl_bit0[row], spec.sl_bit1[row])
    yield from (Fault((position,), level) for position in bits for level in (0, 1))
    yield Fault(bits)


def _explains(
    spec: BoardSpec, fault: Fault, levels: npt.NDArray[np.uint8], seen: Mask, *rows: int
) -> bool:
    places = np.array(rows)
    return bool((amplified(spec, fault.on(levels), places) == seen[:, places]).all())


def _pairs(
    spec: BoardSpec,
    log: Log,
    levels: npt.NDArray[np.uint8],
    seen: Mask,
    odd: set[int],
    dark: set[int],
) -> set[int]:
    """Exchanged positions of two rows, at least one of them odd; the rows that are explained."""
    taken: set[int] = set()
    for one, two in combinations(sorted(odd | dark), 2):
        if one in taken or two in taken or not {one, two} & odd:
            continue
        pairs = [
            Fault((p, q))
            for p in (spec.sl_bit0[one], spec.sl_bit1[one])
            for q in (spec.sl_bit0[two], spec.sl_bit1[two])
        ]
        fits = [fault for fault in pairs if _explains(spec, fault, levels, seen, one, two)]
        if len(fits) == 1:
            name_fault(spec, log, fits[0], [one, two])
            taken |= {one, two}
    return taken


def name_fault(spec: BoardSpec, log: Log, fault: Fault, rows: list[int]) -> None:
    """A finding about the chain."""
    names = [_bit_name(spec, position) for position in fault.positions]
    if fault.swapped:
        text = (
            f"outputs {listed(fault.positions)} of the 74HC595 chain ({names[0]}, {names[1]}) are "
            f"exchanged: rows {listed(rows)} answer each other's bits. Cross the wires back"
            if len(rows) > 1
            else f"the select bits of SL{rows[0]}, outputs {listed(fault.positions)} of the "
            "74HC595 chain, are exchanged. Cross the wires back"
        )
        log.find("swapped_mux", tuple(sorted(fault.positions)), text)
        return
    log.find(
        "stuck_mux",
        fault.positions,
        f"output {fault.positions[0]} of the 74HC595 chain ({names[0]}) stays at {fault.level}. "
        "Check the line for a short, the level shifter and the part",
    )


def _bit_name(spec: BoardSpec, position: int) -> str:
    for bit, places in enumerate((spec.sl_bit0, spec.sl_bit1)):
        if position in places:
            return f"bit {bit} of SL{places.index(position)}"
    return "no switch"
