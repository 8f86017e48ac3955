"""JSON values taken out of a passport file, each checked: what is wrong is named by its place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

LARGEST = 2**53  # whole numbers that a double holds, and with it every JSON reader


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST if isinstance(value, int) else math.isfinite(value)


def is_count(value: object) -> bool:
    """Whether a JSON value is a whole number from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


class Fields:
    """The entries of one JSON object.

    Args:
        value: what should be an object.
        where: how to call it in an error.
        keys: the keys that it must have, and no others.

    Raises:
        InputError: not an object, or a key is missing or unknown.
    """

    def __init__(self, value: object, where: str, keys: Sequence[str]) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise InputError(f"{where}: expected an object, got {_shown(value)}")
        for key in keys:
            if key not in value:
                raise InputError(f"{where}: {key!r} is missing")
        for key in value:
            if key not in keys:
                raise InputError(f"{where}: unknown key {key!r}; known: {', '.join(keys)}")
        self._values: dict[str, Any] = value

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def _refusal(self, key: str, wanted: str) -> InputError:
        return InputError(f"{self.where}: {key} = {_shown(self._values[key])}: expected {wanted}")

    def text(self, key: str) -> str:
        """A text that is not empty."""
        value = self._values[key]
        if not isinstance(value, str) or not value.strip():
            raise self._refusal(key, "a text")
        return value

    def count(self, key: str, least: int = 0) -> int:
        """A whole number from `least` on."""
        value = self._values[key]
        if not is_count(value) or value < least:
            raise self._refusal(key, f"a whole number from {least} on")
        return int(value)

    def number(self, key: str) -> float:
        """A finite number."""
        value = self._values[key]
        if not is_number(value):
            raise self._refusal(key, "a finite number")
        return float(value)

    def moment(self, key: str) -> datetime:
        """A time with its zone, as UTC."""
        try:
            moment = datetime.fromisoformat(self._values[key])
            if moment.tzinfo is None:
                raise ValueError
            return moment.astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            wanted = "a time such as 2025-01-31T12:00:00+00:00"
            raise self._refusal(key, wanted) from None

    def items(self, key: str) -> Iterator[tuple[Any, str]]:
        """Entries of a list, each with what to call it in an error."""
        value = self._values[key]
        if not isinstance(value, list):
            raise self._refusal(key, "a list")
        for number, item in enumerate(value):
            yield item, f"{self.where}: {key}[{number}]"

    def _grid(self, key: str, shape: tuple[int, int]) -> list[list[Any]]:
        rows = self._values[key]
        wanted = f"{shape[0]} rows of {shape[1]} values"
        if not isinstance(rows, list) or len(rows) != shape[0]:
            raise self._refusal(key, wanted)
        for number, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != shape[1]:
                got = len(row) if isinstance(row, list) else _shown(row)
                raise InputError(f"{self.where}: {key}, row {number}: {got}; expected {wanted}")
        return rows

    def _refuse_cell(self, key: str, place: tuple[int, int], value: object, wanted: str) -> None:
        raise InputError(f"{self.where}: {key} at {place} is {_shown(value)}: expected {wanted}")

    def numbers(self, key: str, shape: tuple[int, int]) -> Array:
        """Finite numbers, (rows, cols); null becomes NaN."""
        grid = np.full(shape, np.nan)
        for row, values in enumerate(self._grid(key, shape)):
            for col, value in enumerate(values):
                if value is None:
                    continue
                if not is_number(value):
                    self._refuse_cell(key, (row, col), value, "a finite number or null")
                grid[row, col] = value
        return grid

    def counts(self, key: str, shape: tuple[int, int]) -> Counts:
        """Whole numbers from 0 on, (rows, cols)."""
        grid = self._grid(key, shape)
        for row, values in enumerate(grid):
            for col, value in enumerate(values):
                if not is_count(value):
                    self._refuse_cell(key, (row, col), value, "a whole number from 0 on")
        return np.array(grid, dtype=np.int64).reshape(shape)

    def flags(self, key: str, shape: tuple[int, int]) -> Mask:
        """True and false, (rows, cols)."""
        grid = self._grid(key, shape)
        for row, values in enumerate(grid):
            for col, value in enumerate(values):
                if not isinstance(value, bool):
                    self._refuse_cell(key, (row, col), value, "true or false")
        return np.array(grid, dtype=bool).reshape(shape)


def plain_json(value: object, where: str) -> Any:
    """A copy of a value that JSON can hold as it is.

    Raises:
        InputError: it holds something else, such as NaN, an array, or a key that is no text.
    """
    if value is None or isinstance(value, bool | str) or is_number(value):
        return value
    if isinstance(value, list | tuple):
        return [plain_json(item, f"{where}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise InputError(f"{where}: key {key!r} is not a text")
        return {key: plain_json(item, f"{where}: {key}") for key, item in value.items()}
    raise InputError(f"{where}: {_shown(value)} is not a value that a passport can hold")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
