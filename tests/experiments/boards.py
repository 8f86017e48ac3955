"""Emulated boards whose cells are real and whose parts are exact: readings need no calibration."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import sim
from sim import EmulatedBoard

_PRESETS = Path(sim.__file__).parent / "presets"


def exact_board(
    folder: Path, seed: int, cells: str = "taox_180nm", faults: str = "", **values: float
) -> EmulatedBoard:
    """Cells of one preset, some of their values replaced, behind the parts of "ideal".

    Args:
        folder: where the preset is written.
        seed: of the board.
        cells: preset of the cells.
        faults: put in.
        values: of cells, by key.
    """
    mixed = {"cells": _section(cells, "cells"), "analog": _section("ideal", "analog")}
    for key, value in values.items():
        mixed["cells"][key] = {"value": value, "source": "assumed", "note": "for a test"}
    lines = []
    for section, entries in mixed.items():
        lines.append(f"[{section}]")
        for key, entry in entries.items():
            fields = ", ".join(f"{k} = {json.dumps(v)}" for k, v in entry.items())
            lines.append(f"{key} = {{ {fields} }}")
    path = folder / "exact_board.toml"
    path.write_text("\n".join(lines))
    return EmulatedBoard(str(path), seed=seed, defects=faults)


def _section(preset: str, section: str) -> dict:
    return tomllib.loads((_PRESETS / f"{preset}.toml").read_text())[section]
