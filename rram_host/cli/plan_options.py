"""Options of a command from the fields of a plan, and the plan from what was given."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

import click

P = TypeVar("P")
# Suffix of a field's name, unit that a person gives, how many of it are one SI unit.
_UNITS = (
    ("_siemens", "µS", Decimal("1e-6")),
    ("_ohm", "OHM", Decimal(1)),
    ("_hz", "HZ", Decimal(1)),
    ("_v", "V", Decimal(1)),
    ("_a", "A", Decimal(1)),
    ("_s", "S", Decimal(1)),
    ("_j", "J", Decimal(1)),
)
_PREFIX = "plan_"  # of parameters' names: a plan may have a field called `board`


class Quantity(click.ParamType[float]):
    """A number in the unit that a person gives, turned into SI.

    Decimal: 20 µS is 2e-05 S, not the nearest double to 20 times the nearest double to 1e-6.
    """

    name = "number"

    def __init__(self, scale: Decimal) -> None:
        self.scale = scale

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The text as SI."""
        try:
            return float(Decimal(str(value).strip()) * self.scale)
        except InvalidOperation:
            self.fail(f"{value!r} is not a number", param, ctx)


class Several(click.ParamType[tuple[Any, ...]]):
    """Values with commas between them; `n` of them, or any number with None."""

    name = "list"

    def __init__(self, each: click.ParamType[Any], n: int | None) -> None:
        self.each, self.n = each, n

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """The text as a tuple."""
        if isinstance(value, tuple):
            return value
        parts = [part for part in str(value).split(",") if part.strip()]
        if self.n is not None and len(parts) != self.n:
            self.fail(f"{value!r} is not {self.n} values with commas between them", param, ctx)
        return tuple(self.each.convert(part, param, ctx) for part in parts)


@dataclasses.dataclass(frozen=True)
class _Setting:
    """How a field looks on the command line."""

    flag: str
    metavar: str | None
    kind: click.ParamType[Any]
    multiple: bool
    shown: Callable[[Any], str]


def options_of(plan: type[Any]) -> list[click.Option]:
    """One option a field, in their order. None is the default of all: the plan knows better."""
    hints = typing.get_type_hints(plan)
    return [_option(field, hints[field.name]) for field in dataclasses.fields(plan)]


def _option(field: dataclasses.Field[Any], hint: Any) -> click.Option:
    as_seen, text = _setting(field, hint), str(field.metadata.get("help", ""))
    text = text[:1].upper() + text[1:].rstrip(".") + "."
    common: dict[str, Any] = {"help": text, "default": None}
    if field.default is not dataclasses.MISSING and field.default not in (None, "", ()):
        common["help"] = f"{text}  [default: {as_seen.shown(field.default)}]"
    else:
        common["required"] = _is_required(field)
    name = _PREFIX + field.name
    if hint is bool:
        return click.Option([f"--{as_seen.flag}/--no-{as_seen.flag}", name], **common)
    if as_seen.multiple:
        common["multiple"] = True
    common |= {"type": as_seen.kind, "metavar": as_seen.metavar}
    return click.Option([f"--{as_seen.flag}", name], **common)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _setting(field: dataclasses.Field[Any], hint: Any) -> _Setting:
    suffix, unit, scale = next(
        (item for item in _UNITS if field.name.endswith(item[0])), ("", "", Decimal(1))
    )
    flag = field.metadata.get("flag") or field.name.removesuffix(suffix).replace("_", "-")
    kind, metavar, multiple = _kind(hint, unit, scale)
    return _Setting(flag, metavar, kind, multiple, lambda value: _shown(value, scale))


def _kind(hint: Any, unit: str, scale: Decimal) -> tuple[click.ParamType[Any], str | None, bool]:
    """Type, metavar, and whether the option is given once a value."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _kind(next(item for item in inner if item is not types.NoneType), unit, scale)
    if origin is typing.Literal:
        return click.Choice([str(item) for item in inner]), None, False
    if origin is tuple:
        return _several(inner, unit, scale)
    if hint is float:
        return Quantity(scale), unit or "X", False
    if hint is int:
        return click.INT, "N", False
    if hint is Path:
        return click.Path(path_type=Path), "FILE", False
    return click.STRING, "TEXT", False


def _several(
    inner: tuple[Any, ...], unit: str, scale: Decimal
) -> tuple[click.ParamType[Any], str | None, bool]:
    n = None if inner[-1] is Ellipsis else len(inner)
    kind, metavar, _ = _kind(inner[0], unit, scale)
    if isinstance(kind, Several):  # cells: given one by one
        return kind, metavar, True
    names = "ROW,COL" if n == 2 and inner[0] is int else f"{metavar},..."
    return Several(kind, n), names, False


def _shown(value: Any, scale: Decimal) -> str:
    if isinstance(value, tuple):
        between = " " if value and isinstance(value[0], tuple) else ","
        return between.join(_shown(item, scale) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{float(Decimal(repr(value)) / scale):.6g}"
    return str(value)


def plan_from(plan: type[P], given: Mapping[str, Any], base: P | None = None) -> P:
    """A plan from a command's parameters; what was not given is as in `base`, or the default.

    Raises:
        InputError: what the plan refuses.
    """
    values = {} if base is None else {f: getattr(base, f) for f in _names(plan)}
    for name in _names(plan):
        value = given.get(_PREFIX + name)
        if value is not None and value != ():
            values[name] = value
    return plan(**values)


def _names(plan: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(plan)]
