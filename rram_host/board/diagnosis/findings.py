"""What a diagnosis says: findings, checks with what was measured, and what was not tested."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

# kind -> what its place is
KINDS: dict[str, str] = {
    "dead_dac": "DAC chip",
    "stuck_dac": "DAC channel",
    "swapped_dac": "DAC channels",
    "dac_reference": "DAC chip",
    "stuck_mux": "74HC595 position",
    "swapped_mux": "74HC595 positions",
    "sl_switch": "row",
    "open_sl": "row",
    "open_wl": "row",
    "open_bl": "column",
    "shorted_cell": "row, column",
    "stuck_high": "row, column",
    "stuck_low": "row, column",
    "tia_offset": "row",
    "tia_saturated": "row",
    "adc_gain": "ADC",
    "dead_adc": "ADC",
    "adc_reference": "all ADCs",
}


@dataclass(frozen=True)
class Finding:
    """One cause of trouble.

    Attributes:
        kind: a key of `KINDS`.
        where: channel, chip, chain position, row, column or converter, as `KINDS` says.
        text: what was measured, what it means in parts and lines, and what to do.
    """

    kind: str
    where: tuple[int, ...]
    text: str

    def __post_init__(self) -> None:
        """Refuse a kind that nobody knows."""
        if self.kind not in KINDS:
            raise ValueError(f"finding of kind {self.kind!r}; known: {', '.join(KINDS)}")

    @property
    def place(self) -> str:
        """The place for people, e.g. `row 7`."""
        what = KINDS[self.kind]
        return f"{what} {', '.join(map(str, self.where))}" if self.where else what


@dataclass(frozen=True)
class Check:
    """One thing that was measured."""

    name: str
    measured: str


@dataclass(frozen=True)
class Diagnosis:
    """Result of a diagnosis.

    Attributes:
        findings: causes, each named once; empty on a healthy board.
        checks: what was measured.
        not_tested: what was left out, and why.
        offsets_v: offset of every row's amplifier, (rows,); nan where it could not be measured.
        board_time_s: time that it took on the board.
    """

    findings: tuple[Finding, ...]
    checks: tuple[Check, ...]
    not_tested: tuple[str, ...]
    offsets_v: npt.NDArray[np.float64]
    board_time_s: float

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


@dataclass
class Log:
    """Collects findings, checks and gaps while a diagnosis runs."""

    findings: list[Finding] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    not_tested: list[str] = field(default_factory=list)

    def find(self, kind: str, where: tuple[int, ...], text: str) -> None:
        """Note a cause."""
        self.findings.append(Finding(kind, where, text))

    def check(self, name: str, measured: str) -> None:
        """Note what was measured."""
        self.checks.append(Check(name, measured))

    def skip(self, text: str) -> None:
        """Note what was not tested."""
        self.not_tested.append(text)


def listed(numbers: npt.ArrayLike) -> str:
    """Numbers for a sentence.

    >>> listed([3, 4])
    '3, 4'
    """
    return ", ".join(str(number) for number in np.atleast_1d(np.asarray(numbers)).tolist())
