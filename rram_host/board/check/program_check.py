"""check_program: what a program would do, and every rule that it would break."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware_bridge import microcode
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.microcode import CLOCK_HZ
from rram_host.board.check import layout, rules, walk
from rram_host.board.check.limits import Limits, board_of, idle_state, power_up_state
from rram_host.errors import InputError

Codes = npt.NDArray[np.uint16]
Words = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Violation:
    """One rule that a program breaks, at the first place where it does.

    Attributes:
        rule: its name; that of the device's fault where the device has the rule, too.
        word: index of the instruction's word in the program.
        instruction: its text.
        subject: line, cell, chip or element that it is about; may be empty.
        value: what the program does, in `unit`; nan where there is no number to tell.
        limit: what it may do.
        unit: V, s, J or 1.
        at_s: time into the program.
        text: the rule in words.
    """

    rule: str
    word: int
    instruction: str
    subject: str
    value: float
    limit: float
    unit: str
    at_s: float
    text: str

    def __str__(self) -> str:
        """One line, as errors and listings have it."""
        about = f" {self.subject}:" if self.subject else ""
        unit = "" if self.unit == "1" else f" {self.unit}"
        numbers = (
            ""
            if np.isnan(self.value)
            else f" ({self.value:.4g}{unit}, limit {self.limit:.4g}{unit})"
        )
        return (
            f"{self.rule},{about} {self.text}{numbers}, {self.at_s * 1e6:.2f} us into the program, "
            f"word {self.word}: {self.instruction}"
        )


@dataclass(frozen=True)
class ProgramCheck:
    """What a program does, and what of it is refused.

    Attributes:
        violations: in the order in which they happen; one a rule and word.
        more: further ones that are not listed.
        bl_peak_v, wl_peak_v: highest voltage told to each line, (cols,), (rows,).
        peak_v: highest voltage that a pulse puts between the lines of each cell whose gate is open
            and whose source line is held, (rows, cols).
        pulses: pulses for each cell: those that put more than `limits.half_select` across it.
        energy_j: bound of the energy into each cell, sum of V^2 G_max t over its pulses, with V
            between its lines, G_max the top of the conductance window and t from the update of the
            lines to the end of the pulse, (rows, cols).
        total_s: duration of the program.
        pulse_count: PULSE instructions executed.
        results: 16-bit results.
        first_s: when each word is first executed, nan where it never is, (words,).
    """

    violations: tuple[Violation, ...]
    more: int
    bl_peak_v: layout.Floats
    wl_peak_v: layout.Floats
    peak_v: layout.Floats
    pulses: layout.Ints
    energy_j: layout.Floats
    total_s: float
    pulse_count: int
    results: int
    first_s: layout.Floats

    @property
    def passed(self) -> bool:
        """Whether nothing is refused."""
        return not self.violations

    def raise_violations(self) -> None:
        """Refuse a program that breaks a rule.

        Raises:
            InputError: names the first violation, and how many more there are.
        """
        if self.violations:
            rest = len(self.violations) - 1 + self.more
            more = f"; and {rest} more violation{'s' if rest > 1 else ''}" if rest else ""
            raise InputError(f"program refused: {self.violations[0]}{more}")


def check_program(
    words: Words | Sequence[int],
    table: Codes | Sequence[int] | None,
    spec: BoardSpec,
    limits: Limits | None = None,
    from_power_up: bool = False,
) -> ProgramCheck:
    """Walk a program without running it.

    Args:
        words: the program.
        table: its input codes.
        spec: the board.
        limits: default those of the board file.
        from_power_up: begin from a board that has just been switched on, instead of from what any
            checked program may have left behind.

    Raises:
        InputError: words or codes that are no such numbers.
    """
    board = board_of(spec, limits or Limits.of(spec))
    program, codes = as_words(words), as_codes(table)
    begin = power_up_state if from_power_up else idle_state
    return walked(board, begin(spec, board), program, codes)


def as_words(words: Words | Sequence[int]) -> Words:
    """Program words as an array.

    Raises:
        InputError: not 32-bit words.
    """
    return _whole(words, 0xFFFF_FFFF, "program words").astype(np.uint32)


def as_codes(table: Codes | Sequence[int] | None) -> Codes:
    """Input codes as an array; none for None.

    Raises:
        InputError: not 16-bit codes.
    """
    return _whole([] if table is None else table, 0xFFFF, "input codes").astype(np.uint16)


def _whole(numbers: Words | Codes | Sequence[int], top: int, what: str) -> npt.NDArray[np.generic]:
    found = np.asarray(numbers).ravel()
    if found.size and (found.dtype.kind not in "ui" or found.min() < 0 or found.max() > top):
        raise InputError(f"{what}: whole numbers of 0..{top} are needed")
    return found


def walked(
    board: Any, s: Any, words: Words, codes: Codes, bounds: tuple[int, int] | None = None
) -> ProgramCheck:
    """The result of a walk.

    Args:
        board: see `board_of`.
        s: where it begins; is changed.
        words: the program.
        codes: its input codes.
        bounds: take every input code as any of low..high instead of what it is.
    """
    s.t[layout.T_COUNT] = codes.size
    if bounds is not None:
        s.t[layout.T_BOUNDED] = 1
        s.t[layout.T_LOW], s.t[layout.T_HIGH] = bounds
    rows, cols = board.n[layout.N_ROWS], board.n[layout.N_COLS]
    cells, first = np.zeros((3, rows, cols)), np.full(words.size, -1)
    unpacked = layout.unpacked
    walk.walk(unpacked(board), unpacked(s), cells, first, words, codes)
    n_found = int(s.t[layout.T_FOUND])
    return ProgramCheck(
        violations=tuple(_violation(row, words) for row in s.found[:n_found]),
        more=int(s.t[layout.T_MORE]),
        bl_peak_v=s.bl_peak_v[:cols],
        wl_peak_v=s.wl_peak_v[:rows],
        peak_v=cells[layout.K_PEAK_V],
        pulses=cells[layout.K_PULSES].astype(np.int64),
        energy_j=cells[layout.K_ENERGY_J],
        total_s=int(s.t[layout.T_NOW]) / CLOCK_HZ,
        pulse_count=int(s.t[layout.T_PULSES]),
        results=int(s.t[layout.T_RESULTS]),
        first_s=np.where(first < 0, np.nan, first / CLOCK_HZ),
    )


def _violation(row: layout.Floats, words: Words) -> Violation:
    rule, word, on, a, b = (int(x) for x in row[:5])
    value, limit = (float("nan"), float("nan")) if row[5] == row[6] == 0 else row[5:7].tolist()
    try:
        instruction = str(microcode.decode_one(words, word))
    except (InputError, IndexError):
        instruction = "no instruction"
    return Violation(
        rule=rules.name_of(rule),
        word=word,
        instruction=instruction,
        subject=rules.SUBJECTS[on].format(a, b) if on else "",
        value=value,
        limit=limit,
        unit=rules.unit_of(rule),
        at_s=float(row[7]) / CLOCK_HZ,
        text=rules.text_of(rule),
    )
