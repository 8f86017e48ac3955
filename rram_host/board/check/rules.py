"""The rules that a program is checked against: numbers for the walk, words for people.

Rules below `HOST_RULES` are those of the device, under the device's numbers (`microcode.Fault`).
"""

from __future__ import annotations

from firmware_bridge import microcode
from firmware_bridge.microcode import Fault

HOST_RULES = 100
REGISTER = 101
UNLATCHED = 102
RANGE_MOVED = 103
RANGE_UNKNOWN = 104
CHAIN_LENGTH = 105
READ_VOLTAGE = 106
FIGHT = 107
HALF_SELECT = 108
GATES_FIRST = 109
SLEW = 110
NOT_IDLE = 111
CELL_PULSES = 112
CELL_ENERGY = 113
TOO_LONG = 114
LINES_WAITING = 115
TOO_MANY_STEPS = 116

# What a violation is about: the meaning of its two numbers.
NOTHING, BL, WL, SL, CELL, CHIP, CHANNEL, ELEMENT, INPUT, RESULT, ADDRESS = range(11)
SUBJECTS = {
    BL: "BL{0}",
    WL: "WL{0}",
    SL: "SL{0}",
    CELL: "cell ({0}, {1})",
    CHIP: "DAC chip {0}",
    CHANNEL: "DAC channel {0}",
    ELEMENT: "table element {0}",
    INPUT: "input {0}",
    RESULT: "result {0}",
    ADDRESS: "address {0} of DAC chip {1}",
}

NAMES = {
    number: name
    for name, number in list(globals().items())
    if name.isupper() and isinstance(number, int) and number > HOST_RULES
}

TEXTS = {
    REGISTER: "programs write SYNC 0x00FF, whole-chip GAIN words, TRIGGER 0x0010 or 0x000A and the "
    "DAC registers of a DAC80508, and nothing else",
    UNLATCHED: "DAC register written while the outputs are not behind LDAC: lines would move one "
    "by one",
    RANGE_MOVED: "output range changed while codes are not zero: the lines would jump",
    RANGE_UNKNOWN: "output moved off zero before this program has set the range of its chip",
    CHAIN_LENGTH: "a SHIFT fills the 74HC595 chain exactly",
    READ_VOLTAGE: "bit line too far from a source line at its amplifier, with the gate open",
    FIGHT: "bit line against a source line held at ground or rail outside a pulse, gate open",
    HALF_SELECT: "a pulse would reach cells that do not belong together: a SET is for one column, "
    "a RESET for one row, and no pulse is both; other bit lines are to be inhibited",
    GATES_FIRST: "all bit lines fall to zero while gates are open: gates close first",
    SLEW: "an output is still under way (slew rate and settling of the DAC80508)",
    NOT_IDLE: "a program ends with switches open or source lines at ground, all codes at zero, "
    "and the registers of the DACs as it found them",
    CELL_PULSES: "more pulses on one cell than a program may give",
    CELL_ENERGY: "more energy into one cell than a program may bring, bound by V^2 G_max t",
    TOO_LONG: "the program takes longer than one may",
    LINES_WAITING: "lines set for so long with gates open, and no pulse: cells carry their voltage "
    "meanwhile",
    TOO_MANY_STEPS: "the program executes more instructions than a check follows",
}

VOLTS = frozenset({Fault.LIMIT, READ_VOLTAGE, FIGHT, HALF_SELECT, GATES_FIRST, SLEW})
SECONDS = frozenset({*microcode.TIMING_FAULTS, TOO_LONG, LINES_WAITING})
JOULES = frozenset({CELL_ENERGY})


def name_of(rule: int) -> str:
    """The name of a rule; that of the device's fault where the device has it, too."""
    return NAMES[rule] if rule in NAMES else Fault(rule).name


def text_of(rule: int) -> str:
    """What the rule asks."""
    return TEXTS[rule] if rule in TEXTS else microcode.FAULT_TEXT[Fault(rule)]


def unit_of(rule: int) -> str:
    """Unit of its value and limit: V, s, J, or 1."""
    for unit, rules in (("V", VOLTS), ("s", SECONDS), ("J", JOULES)):
        if rule in rules:
            return unit
    return "1"
