"""Board files: TOML in which every value has its unit and says where it comes from.

What a key may hold is said once, as a `Key`; what keys a board has, and which values fit together,
is `board_spec`'s business. A refusal names the key, the value and the reason.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware_bridge.errors import InputError

BOARDS = Path(__file__).parent / "boards"
GENERATED = Path(__file__).parent / "generated"
SOURCES = ("datasheet", "paper", "assumed")
_ASPECTS = ("value", "unit", "source", "note")
_PHYSICAL = ("V", "s", "S", "S/V", "ohm", "F", "J")


@dataclass(frozen=True)
class Provenance:
    """Where a value comes from."""

    key: str
    value: Any
    unit: str
    source: str
    note: str


@dataclass(frozen=True)
class Key:
    """One key of a board file and what may stand there.

    Attributes:
        name: section.key.
        unit: the unit that the file must state.
        kind: int for counts and places, float for quantities (above 0), str for parts.
        entries: None for a single value; how many a list must have, 0 if that depends.
        least, most: bounds of every number, both included.
        known: what a text may be.
    """

    name: str
    unit: str
    kind: type = float
    entries: int | None = None
    least: int = 0
    most: float = math.inf
    known: tuple[str, ...] = ()

    def said(self, value: Any, index: int | None = None) -> str:
        """Key and value as text, with the unit where it is a physical one."""
        place = "" if index is None else f"[{index}]"
        shown = list(value) if isinstance(value, tuple) else value
        unit = f" {self.unit}" if self.unit in _PHYSICAL else ""
        return f"{self.name}{place} = {shown!r}{unit}"

    def refusal(self, board: str, value: Any, reason: str, index: int | None = None) -> InputError:
        """The error of a value that this key cannot have."""
        return InputError(f"board {board}: {self.said(value, index)}: {reason}")

    def check(self, board: str, value: Any) -> Any:
        """The value as its kind, lists as tuples.

        Raises:
            InputError: another type, not finite, or out of bounds.
        """
        if self.entries is None:
            return self._check_one(board, value, None)
        if not isinstance(value, list | tuple):
            raise self.refusal(board, value, "must be a list")
        if self.entries and len(value) != self.entries:
            raise self.refusal(board, value, f"has {len(value)} entries, not {self.entries}")
        return tuple(self._check_one(board, item, index) for index, item in enumerate(value))

    def _check_one(self, board: str, value: Any, index: int | None) -> Any:
        def refuse(reason: str) -> InputError:
            return self.refusal(board, value, reason, index)

        if self.kind is str:
            if not isinstance(value, str) or value not in self.known:
                raise refuse(f"unknown {self.unit}; known: {', '.join(self.known)}")
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise refuse("must be a number")
        if self.kind is int:
            if not isinstance(value, int):
                raise refuse("must be a whole number")
            if not self.least <= value <= self.most:
                top = f"..{self.most}" if self.most < math.inf else " or more"
                raise refuse(f"outside {self.least}{top}")
            return value
        number = float(value) if value < 1e300 else math.inf  # TOML integers have no end
        if not 0 < number < math.inf:
            raise refuse(f"must be finite and above 0 {self.unit}")
        if number > self.most:
            raise refuse(f"must be at most {self.most:g} {self.unit}")
        return number


def read(name_or_path: str | Path) -> Mapping[str, Any]:
    """Parse a board file.

    Python 3.10, on the board, has no parser of TOML: there a name stands for the same file as JSON
    in generated/, and other files have to be JSON (`as_json`).

    Args:
        name_or_path: name of a file in boards/, or a path that ends in .toml or .json.

    Raises:
        InputError: no such file, not TOML or JSON, or TOML where nothing reads it.
    """
    path = Path(name_or_path)
    if path.suffix not in (".toml", ".json"):
        path = BOARDS / f"{path}.toml" if _toml_parser() else GENERATED / f"{path}.json"
    try:
        return _parsed(path)
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in BOARDS.glob("*.toml")))
        raise InputError(f"no board file {path}; known boards: {known}") from None
    except OSError as error:
        raise InputError(f"board file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # of TOML, of UTF-8, or of a path that no file system takes
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise InputError(f"{str(path)!r} is not a {kind} file: {error}") from None


def _toml_parser() -> Callable[[str], Mapping[str, Any]] | None:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        return None
    return tomllib.loads


def _parsed(path: Path) -> Mapping[str, Any]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".toml":
        parse = _toml_parser()
        if parse is None:
            raise InputError(f"board file {path}: TOML needs Python 3.11; convert the file to JSON")
        return parse(text)
    parsed = json.loads(text)
    if not isinstance(parsed, dict):
        raise ValueError("it holds no object")
    return parsed


def as_json(name_or_path: str | Path) -> str:
    """A board file as JSON, for Python 3.10.

    Raises:
        InputError: as `read`.
    """
    return json.dumps(read(name_or_path), indent=1, ensure_ascii=False) + "\n"


def entries(board: str, raw: Mapping[str, Any], keys: Iterable[Key]) -> dict[str, Provenance]:
    """Every value of a parsed board file, checked one by one, by key and in the file's order.

    Raises:
        InputError: a key is missing or unknown, or a value has no unit, another unit than its
            key, no provenance, or is none that the key may hold.
    """
    wanted = {key.name: key for key in keys}
    found: dict[str, Provenance] = {}
    for section, table in raw.items():
        if section == "name":
            continue
        if not isinstance(table, dict):
            raise InputError(
                f"board {board}: {section} = {table!r}: neither the name nor a section"
            )
        for key, item in table.items():
            name = f"{section}.{key}"
            if name not in wanted:
                raise InputError(f"board {board}: {name} = {item!r}: unknown key")
            found[name] = _entry(board, wanted[name], item)
    missing = [f"{name} ({wanted[name].unit})" for name in wanted if name not in found]
    if missing:
        raise InputError(f"board {board}: keys missing: {', '.join(missing)}")
    return found


def _entry(board: str, key: Key, item: Any) -> Provenance:
    """One value with its provenance."""
    aspects = item if isinstance(item, dict) else {}
    value = aspects.get("value") if aspects else item
    lacking = [aspect for aspect in _ASPECTS if aspect not in aspects]
    if lacking:
        raise key.refusal(board, value, f"lacks {', '.join(lacking)}")
    odd = sorted(set(aspects) - set(_ASPECTS))
    if odd:
        raise key.refusal(board, value, f"{', '.join(odd)} unknown beside {', '.join(_ASPECTS)}")
    unit, source, note = (aspects[aspect] for aspect in _ASPECTS[1:])
    if unit != key.unit:
        raise InputError(
            f"board {board}: {key.name} = {value!r}: unit {unit!r} must be {key.unit!r}"
        )
    if source not in SOURCES:
        raise key.refusal(board, value, f"source {source!r} is not one of {', '.join(SOURCES)}")
    if not isinstance(note, str) or not note.strip():
        raise key.refusal(board, value, f"note {note!r} must say where the value comes from")
    return Provenance(key.name, key.check(board, value), unit, source, note)
