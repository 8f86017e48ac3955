"""A preset file with what was fitted; all else comes from the preset that it names as its base."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from rram_host.errors import InputError
from rram_host.experiments.fitting.estimate import Estimate, some

DEFAULT_BASE = "taox_180nm"
_MAY_BE_ZERO = ("relax_mean_siemens_per_decade",)
# a spread is told where jumps do not explain the tails; those of the base would come on top
_NO_JUMPS = (
    'relax_jump_share = { value = 0.0, source = "fitted", '
    'note = "relax_spread says the tails: jumps of the base would double them" }'
)


def base_of(boards: Sequence[str]) -> str:
    """The preset that the boards' URLs name; `taox_180nm` where they name none.

    Raises:
        InputError: they name different ones.
    """
    named = {parse_qs(urlsplit(url).query).get("preset", [""])[0] for url in boards} - {""}
    if len(named) > 1:
        raise InputError(
            f"runs are of boards with presets {', '.join(sorted(named))}: say which is the --base"
        )
    return named.pop() if named else DEFAULT_BASE


def written(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Those that a preset takes: known, and not smaller than their errors."""
    return [
        item
        for item in estimates
        if math.isfinite(item.value)
        and math.isfinite(item.error)
        and (item.value > item.error or item.name in _MAY_BE_ZERO)
    ]


def text_of(estimates: Sequence[Estimate], base: str) -> str:
    """The file's text, TOML."""
    lines = [
        f"# Made by rram fit. What is not here is as in {base}.",
        f"base = {json.dumps(base, ensure_ascii=False)}",
        "",
        "[cells]",
    ]
    for item in written(estimates):
        note = f"standard error {item.error:.2g} {item.si_unit}".rstrip()
        note += f"; from {some(item.runs)}" + (f"; {item.note}" if item.note else "")
        fields = f'value = {item.value:.6g}, source = "fitted", note = {json.dumps(note)}'
        lines.append(f"{item.name} = {{ {fields} }}")
        if item.name == "relax_spread":
            lines.append(_NO_JUMPS)
    return "\n".join(lines) + "\n"


def write(path: Path, estimates: Sequence[Estimate], base: str) -> None:
    """Write the file.

    Raises:
        InputError: a name that does not end in .toml, or a place that cannot be written.
    """
    if path.suffix != ".toml":
        raise InputError(f"{path}: a preset's name ends in .toml")
    try:
        path.write_text(text_of(estimates, base), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
