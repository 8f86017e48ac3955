"""What to train: a flow, an action and a schedule, as values and as a TOML file."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rram_host.errors import InputError
from rram_host.flows import kinds
from rram_host.flows.protocol import Flow
from rram_host.flows.train_settings import TrainSettings
from rram_host.lattice.actions import Action, action_of
from rram_host.lattice.actions import settings_of as settings_of_action

__all__ = ["Recipe", "changed", "from_toml", "recipe_of", "to_toml"]

_TABLES = ("flow", "action", "train")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training but the machine it runs on.

    Attributes:
        kind: of the flow, a name of `kinds.KINDS`.
        flow: settings of that kind.
        action: the target's action.
        train: the schedule.
    """

    kind: str
    flow: Any
    action: Action
    train: TrainSettings

    def build(self) -> Flow:
        """The flow, untrained."""
        return kinds.KINDS[self.kind][1](self.flow)

    def plain(self) -> dict[str, Any]:
        """As values that JSON and TOML hold; `recipe_of` takes them."""
        return {
            "kind": self.kind,
            "flow": dataclasses.asdict(self.flow),
            "action": settings_of_action(self.action),
            "train": dataclasses.asdict(self.train),
        }


def recipe_of(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """The recipe that plain values describe.

    Args:
        values: {"kind": ..., "flow": {...}, "action": {"name": ..., ...}, "train": {...}}.
        where: how messages call it.

    Raises:
        InputError: for unknown or missing keys, or a value out of range; the message names `where`.
    """
    known = ("kind", *_TABLES)
    for name in values:
        if name not in known:
            raise InputError(
                f"{where}: unknown key {name!r}{kinds.meant(name, known)}; "
                f"known: {', '.join(known)}"
            )
    for name in known:
        wanted = str if name == "kind" else Mapping
        if not isinstance(values.get(name), wanted):
            raise InputError(f"{where}: {'kind' if name == 'kind' else f'[{name}]'} is missing")
    try:
        return Recipe(
            values["kind"],
            kinds.settings_of(values["kind"], values["flow"]),
            action_of(values["action"]),
            kinds.dataclass_of(TrainSettings, values["train"], "train"),
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def changed(
    recipe: Recipe, train: Mapping[str, Any], action: Mapping[str, Any], **flow: Any
) -> Recipe:
    """A recipe with some values replaced; None leaves a value as it is.

    A run of fewer steps has no longer warm-up, a seed is also that of the initial weights, and a
    tied flow on another lattice keeps its channels, whose hidden fields grow with the lattice.

    Args:
        recipe: where all else comes from.
        train: schedule.
        action: fields of the action; with a "name" of another action all of its fields.
        flow: settings of the flow.

    Raises:
        InputError: for an unknown field, or a value out of range.
    """
    values = recipe.plain()
    schedule, target = _given(train), _given(action)
    if "steps" in schedule:
        schedule.setdefault("warmup", min(values["train"]["warmup"], schedule["steps"]))
    if "seed" in schedule and "seed" in values["flow"]:
        flow.setdefault("seed", schedule["seed"])
    shape = flow.get("shape")
    if shape is not None and values["flow"].get("tied"):
        flow.setdefault("hidden", values["flow"]["channels"] * math.prod(shape) // 2)
    if target.get("name", values["action"]["name"]) != values["action"]["name"]:
        values["action"] = {}
    values["flow"] |= _given(flow)
    values["action"] |= target
    values["train"] |= schedule
    return recipe_of(values, "what was asked")


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def from_toml(path: Path | str) -> Recipe:
    """Read a recipe's file.

    Raises:
        InputError: no such file, not TOML, or as of `recipe_of`.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{path}: {reason}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from None
    return recipe_of(values, str(path))


def to_toml(recipe: Recipe) -> str:
    """The text of a recipe's file; `from_toml` gives the same recipe back."""
    values = recipe.plain()
    lines = [f"kind = {json.dumps(values['kind'])}"]
    for name in _TABLES:
        lines += ["", *_table(name, values[name])]
    return "\n".join(lines) + "\n"


def _table(name: str, values: Mapping[str, Any]) -> list[str]:
    """A table's lines. JSON writes numbers, texts, booleans and lists as TOML reads them."""
    inner = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    flat = {key: value for key, value in values.items() if key not in inner and value is not None}
    lines = [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in flat.items())]
    for key, value in inner.items():
        lines += ["", *_table(f"{name}.{key}", value)]
    return lines
