"""rram passport: show what a chip's passport says."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click
import numpy as np

from rram_host.cli.common import (
    emit,
    json_option,
    open_board,
    out_option,
    record_option,
    refuse_record,
    run_folder,
    say,
    spec_option,
)
from rram_host.passport import Contents, Passport
from rram_host.records import plots
from rram_host.units import microsiemens

_EVENTS = 8  # the last ones are shown
_TIME = "%Y-%m-%d %H:%M:%S"


@click.command()
@click.argument(
    "file", type=click.Path(path_type=Path, dir_okay=False), envvar="RRAM_PASSPORT", metavar="FILE"
)
@click.option(
    "--board", metavar="URL", help="Also read the chip on this board: can it be the same?"
)
@record_option
@spec_option
@json_option
@out_option
def passport(file: Path, board: str | None, spec: str, as_json: bool, out: Path | None) -> None:
    """Show a chip's passport: who, map, calibration, dead cells, pulses. Changes nothing.

    FILE may also stand in the environment, as RRAM_PASSPORT. With --out, DIR/map.png is a picture
    of the map. With --board, a chip that cannot be the same is refused with exit code 2.

    \b
    rram passport chip7.json
    rram passport chip7.json --board serial:///dev/ttyUSB0?baud=921600
    """
    known = Passport.load(file)
    folder = run_folder("passport", out, {"file": file, "board": board, "spec": spec})
    if board:
        _compare(known, board, spec)
    else:
        refuse_record("without --board")
    contents, age = known.contents, known.calibration_age
    if folder and contents.map and np.isfinite(contents.map.siemens).any():
        plots.conductance_map(folder.file("map.png"), contents.map.siemens)
    values = {
        "file": known.file.path,
        **contents.to_json(),
        "calibration_age_s": None if age is None else age.total_seconds(),
        "agrees_with_board": True if board else None,
    }
    emit(as_json, values)
    for name, text in _lines(known):
        say(as_json, f"{name:<20} {text}")
    for line in _chart(known):
        say(as_json, line)
    if board:
        say(as_json, f"{'board':<20} the chip on {board} agrees with the map")


def _compare(known: Passport, board: str, spec: str) -> None:
    """Refuse the chip on a board that cannot be this one; nothing is noted."""
    with open_board(board, spec) as opened:
        known.check_fits(opened.spec)
        known.check_against(opened.array.read())


def _lines(known: Passport) -> list[tuple[str, str]]:
    contents, age = known.contents, known.calibration_age
    lines = [
        ("chip", contents.chip),
        ("file", str(known.file.path)),
        ("board file", f"{contents.board_file}, {contents.rows} x {contents.cols} cells"),
        ("created, updated", f"{contents.created:{_TIME}}, {contents.updated:{_TIME}} UTC"),
        ("map", _map(contents)),
        ("formed", f"{int(contents.formed.sum())} of {contents.formed.size} cells"),
        ("calibration", "none" if age is None else f"{_age(age)} old"),
        ("SET, RESET pulses", _pulses(contents.pulses)),
        ("forming pulses", _pulses(contents.form_pulses)),
        *[("formed", text) for text in _formings(contents)],
        ("limits", _limits(contents)),
        ("dead cells", str(len(contents.dead))),
    ]
    for cell in contents.dead:
        text = f"row {cell.row}, column {cell.col}: {cell.reason}, since {cell.when:%Y-%m-%d}"
        lines.append(("  dead", text))
    for event in contents.events[-_EVENTS:]:
        lines.append((f"{event.when:{_TIME}}", f"{event.what} ({event.board})"))
    return lines


def _map(contents: Contents) -> str:
    if contents.map is None:
        return "none: the array has not been read"
    g = contents.map.siemens[np.isfinite(contents.map.siemens)]
    if not g.size:
        return f"no cell known, {contents.map.when:{_TIME}} UTC"
    mean, low, high = (microsiemens(float(x)) for x in (g.mean(), g.min(), g.max()))
    when = f"{contents.map.when:{_TIME}} UTC"
    return f"{g.size} cells read {when}: mean {mean}, from {low} to {high}"


def _chart(known: Passport) -> list[str]:
    """The map in characters, a line a row: 0 to 9 for tenths of its range, X dead, . unknown."""
    contents = known.contents
    if contents.map is None or not np.isfinite(contents.map.siemens).any():
        return []
    g = contents.map.siemens
    low, high = float(np.nanmin(g)), float(np.nanmax(g))
    level = np.clip(np.nan_to_num((g - low) / ((high - low) or 1.0)) * 10, 0, 9).astype(np.int64)
    signs = np.where(np.isnan(g), ".", level.astype("U1"))
    signs[known.dead] = "X"
    scale = f"{'':<20} 0 to 9: {microsiemens(low)} to {microsiemens(high)}; X dead, . unknown"
    return [scale, *(f"{f'row {row}':<20} {''.join(line)}" for row, line in enumerate(signs))]


def _pulses(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> str:
    used = counts[counts > 0]
    if not used.size:
        return "none"
    row, col = np.unravel_index(int(counts.argmax()), counts.shape)
    return (
        f"{int(used.sum())} on {used.size} cells, mean {used.mean():.2f}, at most {used.max()} "
        f"(row {row}, column {col})"
    )


def _formings(contents: Contents) -> list[str]:
    return [
        f"{entry.when:{_TIME}}: {entry.cells} cells with {entry.pulses} pulses, "
        f"{len(entry.unformed)} unformed"
        for entry in contents.forming[-3:]
    ]


def _limits(contents: Contents) -> str:
    limits, (low, high) = contents.limits, contents.limits.window
    texts = [f"targets at least {microsiemens(low)}"] if low > 0 else []
    texts += [f"targets at most {microsiemens(high)}"] if np.isfinite(high) else []
    if limits.max_pulses_per_cell is not None:
        texts.append(f"at most {limits.max_pulses_per_cell} SET and RESET pulses a cell")
    return ", ".join(texts) or "none beyond the board file's"


def _age(age: timedelta) -> str:
    """Time passed, in the unit that a person would use."""
    seconds = age.total_seconds()
    for unit, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"
