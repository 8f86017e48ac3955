"""What a passport holds, part by part: frozen records, each with its way to JSON and back."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from rram_host.errors import InputError
from rram_host.passport.fields import Array, Fields, is_count, is_number
from rram_host.units import microsiemens

Cell = tuple[int, int]


def keys_of(part: type) -> tuple[str, ...]:
    """Names of the fields of a part: its keys in the file."""
    return tuple(field.name for field in fields(part))


@dataclass(frozen=True, eq=False)
class ConductanceMap:
    """Conductances as they were last read.

    Attributes:
        when: of the last reading that went into it, UTC.
        siemens: (rows, cols), NaN where unknown.
    """

    when: datetime
    siemens: Array

    def to_json(self) -> dict[str, Any]:
        """As the file holds it: NaN becomes null."""
        rows: list[list[float]] = self.siemens.tolist()
        plain = [[None if math.isnan(g) else g for g in row] for row in rows]
        return {"when": self.when.isoformat(), "siemens": plain}

    @classmethod
    def from_json(cls, value: object, where: str, shape: Cell) -> ConductanceMap:
        """Out of the file, checked."""
        entries = Fields(value, where, keys_of(cls))
        return cls(entries.moment("when"), entries.numbers("siemens", shape))


@dataclass(frozen=True)
class DeadCell:
    """A cell that is not to be programmed.

    Attributes:
        row, col: which.
        reason: why, for a person.
        when: since when, UTC.
    """

    row: int
    col: int
    reason: str
    when: datetime

    def to_json(self) -> dict[str, Any]:
        """As the file holds it."""
        return {**vars(self), "when": self.when.isoformat()}

    @classmethod
    def from_json(cls, value: object, where: str, shape: Cell) -> DeadCell:
        """Out of the file, checked."""
        entries = Fields(value, where, keys_of(cls))
        row, col = entries.count("row"), entries.count("col")
        if row >= shape[0] or col >= shape[1]:
            raise InputError(f"{where}: cell ({row}, {col}) is outside {shape[0]} x {shape[1]}")
        return cls(row, col, entries.text("reason"), entries.moment("when"))


@dataclass(frozen=True)
class Forming:
    """One time that cells were formed.

    Attributes:
        when: at its end, UTC.
        cells: how many cells formed.
        pulses: forming pulses given, all cells together.
        unformed: (row, col) of cells that did not form.
    """

    when: datetime
    cells: int
    pulses: int
    unformed: tuple[Cell, ...]

    def to_json(self) -> dict[str, Any]:
        """As the file holds it."""
        unformed = [list(cell) for cell in self.unformed]
        return {**vars(self), "when": self.when.isoformat(), "unformed": unformed}

    @classmethod
    def from_json(cls, value: object, where: str, shape: Cell) -> Forming:
        """Out of the file, checked."""
        entries = Fields(value, where, keys_of(cls))
        unformed = []
        for item, place in entries.items("unformed"):
            if not (isinstance(item, list) and len(item) == 2 and all(map(is_count, item))):
                raise InputError(f"{place}: expected [row, column]")
            if item[0] >= shape[0] or item[1] >= shape[1]:
                raise InputError(f"{place}: cell {tuple(item)} is outside {shape[0]} x {shape[1]}")
            unformed.append((item[0], item[1]))
        counts = entries.count("cells"), entries.count("pulses")
        return cls(entries.moment("when"), *counts, tuple(unformed))


@dataclass(frozen=True)
class Event:
    """A line of the log.

    Attributes:
        when: UTC.
        what: for a person.
        board: URL of the board that the chip sat on.
        version: of this package.
    """

    when: datetime
    what: str
    board: str
    version: str

    def to_json(self) -> dict[str, Any]:
        """As the file holds it."""
        return {**vars(self), "when": self.when.isoformat()}

    @classmethod
    def from_json(cls, value: object, where: str) -> Event:
        """Out of the file, checked."""
        entries = Fields(value, where, keys_of(cls))
        texts = (entries.text(key) for key in ("what", "board", "version"))
        return cls(entries.moment("when"), *texts)


@dataclass(frozen=True)
class Limits:
    """What this chip, beyond its board file, must not be asked for; None = no limit.

    Attributes:
        conductance_min_siemens, conductance_max_siemens: window of targets.
        max_pulses_per_cell: SET and RESET pulses of a cell in its life, forming pulses apart.
    """

    conductance_min_siemens: float | None = None
    conductance_max_siemens: float | None = None
    max_pulses_per_cell: int | None = None

    def __post_init__(self) -> None:
        """Refuse limits that leave nothing."""
        low, high = self.conductance_min_siemens, self.conductance_max_siemens
        for name, value in (("min", low), ("max", high)):
            if value is not None and not (is_number(value) and value >= 0):
                raise InputError(
                    f"limits: conductance_{name}_siemens = {value!r}: below 0 S or no number"
                )
        if low is not None and high is not None and low >= high:
            raise InputError(f"limits: window {microsiemens(low)} to {microsiemens(high)} is empty")
        most = self.max_pulses_per_cell
        if most is not None and not is_count(most):
            raise InputError(f"limits: max_pulses_per_cell = {most!r}: expected a whole number")

    def to_json(self) -> dict[str, Any]:
        """As the file holds it."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, value: object, where: str) -> Limits:
        """Out of the file, checked."""
        entries = Fields(value, f"{where}: limits", keys_of(cls))
        try:
            return cls(*(entries[key] for key in keys_of(cls)))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    @property
    def window(self) -> tuple[float, float]:
        """Smallest and largest target, in siemens; 0 and infinity where there is no limit."""
        low, high = self.conductance_min_siemens, self.conductance_max_siemens
        return 0.0 if low is None else low, float("inf") if high is None else high
