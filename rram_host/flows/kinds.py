"""Every kind of flow by name, imported when it is asked for."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rram_host.errors import InputError
from rram_host.flows.protocol import Flow

__all__ = ["KINDS", "build", "dataclass_of", "meant", "settings_of"]

_WHERE = {
    "anf": ("rram_host.flows.coupling", "FlowSettings", "CouplingFlow"),
    "mixer": ("rram_host.flows.mixer", "MixerSettings", "MixerFlow"),
    "continuous": ("rram_host.flows.continuous", "ContinuousSettings", "ContinuousFlow"),
    "realnvp": ("rram_host.flows.realnvp", "RealNvpSettings", "RealNvpFlow"),
}


class _Kinds(Mapping[str, tuple[Callable[..., Any], Callable[[Any], Flow]]]):
    """Kind -> (class of its settings, class of the flow)."""

    def __getitem__(self, kind: str) -> tuple[Callable[..., Any], Callable[[Any], Flow]]:
        module, settings, flow = _WHERE[kind]
        found = importlib.import_module(module)
        return getattr(found, settings), getattr(found, flow)

    def __iter__(self) -> Iterator[str]:
        return iter(_WHERE)

    def __len__(self) -> int:
        return len(_WHERE)


KINDS = _Kinds()
"""Kinds of flows: (class of the settings, class of the flow); a kind is imported when looked up."""


def settings_of(kind: str, values: Mapping[str, Any]) -> Any:
    """The settings of a kind from plain values, as a file holds them.

    Raises:
        InputError: for an unknown kind or key, or a value out of range.
    """
    if kind not in _WHERE:
        raise InputError(f"no kind of flow {kind!r}{meant(kind, _WHERE)}; known: {_listed(_WHERE)}")
    return dataclass_of(KINDS[kind][0], values, f"flow of kind {kind}")


def build(kind: str, values: Mapping[str, Any]) -> Flow:
    """An untrained flow of a kind from plain values.

    Raises:
        InputError: as of `settings_of`.
    """
    settings = settings_of(kind, values)
    return KINDS[kind][1](settings)


def dataclass_of(cls: Callable[..., Any], values: Mapping[str, Any], what: str) -> Any:
    """A dataclass from plain values; lists become tuples, tables become dataclasses of their own.

    Args:
        cls: the dataclass.
        values: its fields; those not given keep their defaults.
        what: how messages call it.

    Raises:
        InputError: for an unknown or missing field, a value of another type or out of range.
    """
    kinds = typing.get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(typing.cast(Any, cls)) if field.init]
    if not isinstance(values, Mapping):
        raise InputError(f"{what}: expected a table of settings, got {values!r}")
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise InputError(
                f"{what}: unknown setting {name!r}{meant(name, known)}; known: {_listed(known)}"
            )
        given[name] = _as(kinds[name], value, f"{what}, {name}")
    try:
        return cls(**given)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
    except TypeError as error:
        raise InputError(f"{what}: settings do not fit: {error}") from None


def _as(kind: Any, value: Any, what: str) -> Any:
    """A plain value as the type of a field: no more is decided here than TOML and JSON leave open.

    The range is checked by the dataclass itself.
    """
    if dataclasses.is_dataclass(kind):
        return dataclass_of(typing.cast(Any, kind), value, what)
    if typing.get_origin(kind) is tuple:
        return _several(typing.get_args(kind)[0], value, what)
    wanted = {float: (float, int), int: (int,), bool: (bool,), str: (str,)}.get(kind)
    if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool)):
        raise InputError(f"{what} = {value!r} is not of type {kind.__name__}")
    return float(value) if kind is float else value


def _several(kind: Any, value: Any, what: str) -> tuple[Any, ...]:
    """A list as a tuple, all of one type; how many there must be is for the dataclass to say."""
    if not isinstance(value, list | tuple):
        raise InputError(f"{what} = {value!r} is not a list")
    return tuple(_as(kind, each, what) for each in value)


def meant(name: object, known: typing.Iterable[str]) -> str:
    """The words ", did you mean ...?" with the nearest known name, or nothing."""
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f", did you mean {close[0]!r}?" if close else ""


def _listed(known: typing.Iterable[str]) -> str:
    return ", ".join(known)
