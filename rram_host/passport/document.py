"""The passport: all that is known of one chip, and its way to JSON and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.errors import InputError
from rram_host.passport.fields import Counts, Fields, Mask, plain_json
from rram_host.passport.parts import (
    ConductanceMap,
    DeadCell,
    Event,
    Forming,
    Limits,
    keys_of,
)

VERSION = 1
HISTORY = 1000  # events and formings that are kept: the last ones
MAX_CELLS = 2**24


@dataclass(frozen=True)
class CalibrationEntry:
    """A calibration as `rram_host.array.calibration.Calibration.to_dict` gives it.

    Attributes:
        when: it was noted, UTC.
        values: plain values.
    """

    when: datetime
    values: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As the file holds it."""
        return {"when": self.when.isoformat(), "values": self.values}

    @classmethod
    def from_json(cls, value: object, where: str) -> CalibrationEntry:
        """Out of the file, checked."""
        entries = Fields(value, where, keys_of(cls))
        values = entries["values"]
        if not isinstance(values, dict):
            raise InputError(f"{where}: values: expected an object")
        return cls(entries.moment("when"), plain_json(values, f"{where}: values"))


@dataclass(frozen=True, eq=False)
class Contents:
    """Everything in a passport, at one moment; arrays are (rows, cols) and read-only.

    Attributes:
        chip: name of the chip, free text.
        board_file: name of the board file that it was last opened with.
        rows, cols: geometry.
        created, updated: UTC.
        calibration: the last one; None before the first.
        map: conductances; None before the first read.
        formed: cells that have been seen formed.
        pulses: SET and RESET pulses of each cell in its life.
        form_pulses: forming pulses of each cell in its life.
        dead: cells not to be programmed.
        forming: history of forming, oldest first.
        limits: of this chip.
        events: the log, oldest first.
    """

    chip: str
    board_file: str
    rows: int
    cols: int
    created: datetime
    updated: datetime
    calibration: CalibrationEntry | None
    map: ConductanceMap | None
    formed: Mask
    pulses: Counts
    form_pulses: Counts
    dead: tuple[DeadCell, ...]
    forming: tuple[Forming, ...]
    limits: Limits
    events: tuple[Event, ...]

    def __post_init__(self) -> None:
        """Let nobody change arrays behind the back of whoever saves them."""
        grids = [self.formed, self.pulses, self.form_pulses]
        for grid in grids + ([self.map.siemens] if self.map else []):
            grid.setflags(write=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.rows, self.cols

    @staticmethod
    def blank(spec: BoardSpec, chip: str, now: datetime) -> Contents:
        """Of a chip of which nothing is known."""
        shape = spec.rows, spec.cols
        return Contents(
            chip=chip,
            board_file=spec.name,
            rows=spec.rows,
            cols=spec.cols,
            created=now,
            updated=now,
            calibration=None,
            map=None,
            formed=np.zeros(shape, dtype=bool),
            pulses=np.zeros(shape, dtype=np.int64),
            form_pulses=np.zeros(shape, dtype=np.int64),
            dead=(),
            forming=(),
            limits=Limits(),
            events=(),
        )

    def to_json(self) -> dict[str, Any]:
        """As the file holds it."""
        values: dict[str, Any] = {"version": VERSION}
        for key in keys_of(Contents):
            values[key] = _plain(getattr(self, key))
        return values

    @staticmethod
    def from_json(value: object, where: str) -> Contents:
        """Out of the file, checked.

        Raises:
            InputError: no passport, of another version, or an entry that cannot be.
        """
        if not isinstance(value, dict) or "version" not in value:
            raise InputError(f"{where} is not a passport: it has no 'version'")
        if isinstance(value["version"], bool) or value["version"] != VERSION:
            raise InputError(
                f"{where} is a passport of version {value['version']!r}; this package reads "
                f"version {VERSION}"
            )
        entries = Fields(value, where, ("version", *keys_of(Contents)))
        shape = entries.count("rows", 1), entries.count("cols", 1)
        if shape[0] * shape[1] > MAX_CELLS:
            raise InputError(f"{where}: {shape[0]} x {shape[1]} cells are more than {MAX_CELLS}")

        def optional(key: str, make: Callable[..., Any], *more: object) -> Any:
            return None if entries[key] is None else make(entries[key], f"{where}: {key}", *more)

        def parts(key: str, make: Callable[..., Any], *more: object) -> tuple[Any, ...]:
            return tuple(make(item, place, *more) for item, place in entries.items(key))

        return Contents(
            chip=entries.text("chip"),
            board_file=entries.text("board_file"),
            rows=shape[0],
            cols=shape[1],
            created=entries.moment("created"),
            updated=entries.moment("updated"),
            calibration=optional("calibration", CalibrationEntry.from_json),
            map=optional("map", ConductanceMap.from_json, shape),
            formed=entries.flags("formed", shape),
            pulses=entries.counts("pulses", shape),
            form_pulses=entries.counts("form_pulses", shape),
            dead=_once(parts("dead", DeadCell.from_json, shape), where),
            forming=parts("forming", Forming.from_json, shape)[-HISTORY:],
            limits=Limits.from_json(entries["limits"], where),
            events=parts("events", Event.from_json)[-HISTORY:],
        )

    def changed(self, **entries: Any) -> Contents:
        """The same with other entries."""
        return dataclasses.replace(self, **entries)


def utc_now() -> datetime:
    """Now, to the second, UTC."""
    return datetime.now(UTC).replace(microsecond=0)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, datetime):
        return value.isoformat()
    return value.to_json() if hasattr(value, "to_json") else value


def _once(dead: tuple[DeadCell, ...], where: str) -> tuple[DeadCell, ...]:
    seen: set[tuple[int, int]] = set()
    for cell in dead:
        if (cell.row, cell.col) in seen:
            raise InputError(f"{where}: dead: cell ({cell.row}, {cell.col}) is listed twice")
        seen.add((cell.row, cell.col))
    return dead


def grid_like(values: npt.ArrayLike, shape: tuple[int, int], what: str) -> npt.NDArray[np.float64]:
    """Conductances of all cells as a new array.

    Raises:
        InputError: not numbers, infinite, or of another shape.
    """
    try:
        grid = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what}: expected numbers in siemens") from None
    if grid.shape != shape or np.isinf(grid).any():
        raise InputError(f"{what}: expected {shape} finite numbers or NaN, got shape {grid.shape}")
    return grid
