"""Two runs beside each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rram_host.records.layout import Header, to_json

_PLAIN = ("experiment", "board", "chip", "map_sha256", "seed")
_NESTED = ("plan", "spec", "versions", "calibration")


class Found(Protocol):
    """A number with its unit and error: a Finding."""

    @property
    def name(self) -> str:
        """What it is."""
        ...

    @property
    def value(self) -> float:
        """In the unit."""
        ...

    @property
    def unit(self) -> str:
        """As a person reads it."""
        ...

    @property
    def error(self) -> float | None:
        """Standard error."""
        ...


def differing(a: Header, b: Header) -> list[dict[str, Any]]:
    """What differs in experiment, board, chip, map, plan, wiring, versions and calibration."""
    rows = [_row(name, getattr(a, name), getattr(b, name)) for name in _PLAIN]
    for name in _NESTED:
        one, other = getattr(a, name), getattr(b, name)
        keys = [*one, *(key for key in other if key not in one)]
        rows += [_row(f"{name} {key}", one.get(key), other.get(key)) for key in keys]
    return [row for row in rows if to_json(row["a"]) != to_json(row["b"])]


def _row(what: str, a: Any, b: Any) -> dict[str, Any]:
    if isinstance(a, list | Mapping) and len(to_json(a)) > 200 and to_json(a) != to_json(b):
        return {"what": what, "a": "other values", "b": "other values than A"}
    return {"what": what, "a": a, "b": b}


def side_by_side(a: Sequence[Found], b: Sequence[Found]) -> list[dict[str, Any]]:
    """Findings of two runs by name, and (b - a) / sqrt(error_a^2 + error_b^2)."""
    first, second = {item.name: item for item in a}, {item.name: item for item in b}
    rows = []
    for name in dict.fromkeys([*first, *second]):
        one, other = first.get(name), second.get(name)
        unit = next(item.unit for item in (one, other) if item)
        rows.append(
            {
                **{"name": name, "unit": unit, "a": _told(one), "b": _told(other)},
                "standard_errors": _apart(one, other),
            }
        )
    return rows


def _told(found: Found | None) -> dict[str, Any] | None:
    return None if found is None else {"value": found.value, "error": found.error}


def _apart(a: Found | None, b: Found | None) -> float | None:
    if a is None or b is None or a.error is None or b.error is None or a.unit != b.unit:
        return None
    error = math.hypot(a.error, b.error)
    return (b.value - a.value) / error if error > 0 else None
