"""Plans and board specs, made again from the plain values of a run file."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from rram_host.errors import InputError

P = TypeVar("P")


def rebuilt(kind: type[P], values: Mapping[str, Any]) -> P:
    """A frozen dataclass from what JSON made of its fields; missing fields take their default.

    Raises:
        InputError: fields that it does not have, values that it refuses, or a missing value.
    """
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if strange := sorted(set(values) - known):
        raise InputError(f"{kind.__name__} has no {', '.join(strange)}")
    try:
        return kind(**{name: _value(hints[name], item) for name, item in values.items()})
    except (TypeError, ValueError) as error:
        raise InputError(f"not a {kind.__name__}: {error}") from None


def _value(hint: Any, value: Any) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if value is None:
        return None
    if origin in (typing.Union, types.UnionType):
        return _value(next(item for item in inner if item is not types.NoneType), value)
    if origin is tuple:
        hints = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_value(one, item) for one, item in zip(hints, value, strict=True))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return rebuilt(hint, value)
    if hint in (float, Path):
        return hint(value)
    return value
