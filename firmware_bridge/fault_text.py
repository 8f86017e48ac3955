"""A latched fault in words: the rule, what it was about, when, and the instruction."""

from __future__ import annotations

from firmware_bridge import microcode
from firmware_bridge.errors import InputError
from firmware_bridge.microcode import Fault, WordsLike

# What FAULT_INFO counts, for faults that are not of timing.
_SUBJECT = {
    Fault.LIMIT: "DAC channel",
    Fault.TABLE_OVERRUN: "element",
    Fault.RESULT_OVERRUN: "result",
    Fault.BAD_SELECT: "input",
    Fault.PULSES_LIMIT: "pulse",
    Fault.BUSY: "register at byte",
}


def fault_text(words: WordsLike, code: int, pc: int, info: int, at: int) -> str:
    """Rule, what it was about, when, and the instruction, of a fault in a program.

    Args:
        words: the program, which began at word 0.
        code: FAULT_CODE.
        pc: FAULT_PC.
        info: FAULT_INFO; of faults of timing, the cycles that had passed.
        at: FAULT_TIME, in cycles.
    """
    if code not in list(Fault):
        rule = f"unknown fault {code} ({info})"
    elif Fault(code) in microcode.TIMING_FAULTS:
        rule = f"{Fault(code).name}: {microcode.FAULT_TEXT[code]} ({_in_us(info)})"
    else:
        rule = f"{Fault(code).name}: {microcode.FAULT_TEXT.get(code, 'no rule')}"
        rule += f" ({_SUBJECT[Fault(code)]} {info})" if code in _SUBJECT else ""
    try:
        where = str(microcode.decode_one(words, pc))
    except (InputError, IndexError):
        where = "no instruction of this program"
    return f"{rule}, {_in_us(at)} into the program, word {pc}: {where}"


def _in_us(cycles: int) -> str:
    return f"{cycles * 1e6 / microcode.CLOCK_HZ:.2f} us"
