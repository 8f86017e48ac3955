"""rram figures: the paper's figures from this board, a picture and a table beside the paper."""

from __future__ import annotations

import csv
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from rram_host.cli.common import emit, on_a_board, open_board, progress_bar, refuse_record, say
from rram_host.cli.experiment_command import finishing_first, number
from rram_host.errors import InputError

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FIRST = 4  # findings of a panel that are printed where the paper says nothing of them


@click.group()
def figures() -> None:
    """Make figures of the paper (arXiv 2509.12812) from this board.

    \b
    rram figures fig2 --board 'sim://?preset=taox_180nm&seed=7'
    """


@figures.command()
@on_a_board
@click.option(
    "--out",
    type=_FOLDER,
    metavar="DIR",
    help="Folder for run files, fig2.png and fig2.csv, made if missing; finished panels that it "
    "holds are not done again. Default runs/TIME-fig2.",
)
@click.option(
    "--runs",
    type=_FOLDER,
    metavar="DIR",
    help="Take the newest finished runs of this folder and touch no board.",
)
@click.option("--quick", is_flag=True, help="Fewer cycles, rounds and times: a short look.")
@click.option(
    "--calibrate/--no-calibrate",
    default=True,
    show_default=True,
    help="Calibrate first, unless the passport holds a calibration.",
)
def fig2(
    board: str,
    spec: str,
    passport: Path | None,
    as_json: bool,
    out: Path | None,
    runs: Path | None,
    quick: bool,
    calibrate: bool,
) -> None:
    """Run every experiment of Fig. 2 and show them beside the paper. What was stored is lost.

    I-V (2d), single-shot SET (2e), cyclic programming (2f), levels (2g), pattern (2h), retention
    (2i), linearity (2j) and products (2k), one after another on one chip, each into a run file.

    \b
    rram figures fig2 --board 'sim://?preset=taox_180nm&seed=7' --quick
    rram figures fig2 --runs runs --out here
    """
    from rram_host.experiments import figures as jobs

    start, folder = time.perf_counter(), _folder(out)
    if runs is not None:
        refuse_record("with --runs")
        shown = jobs.recorded_panels(runs, jobs.FIG2)
    else:
        shown = []
        with (
            open_board(board, spec, passport=passport) as opened,
            progress_bar("fig2") as advance,
            finishing_first() as should_stop,
        ):
            if calibrate and not (opened.passport and opened.passport.calibration):
                jobs.calibrate(opened, folder, jobs.FIG2)

            def tell(place: str, name: str, done: int, total: int) -> None:
                advance(done, total, f"{place} {name}")

            for each in jobs.record_panels(
                opened, folder, jobs.FIG2, quick, progress=tell, should_stop=should_stop
            ):
                shown.append(each)
                say(as_json, f"{each.panel.place}  {each.experiment.title}: {each.path}")
    rows = jobs.table(shown)
    picture = folder / "fig2.png"
    if shown:
        jobs.draw(picture, shown)
        _write(folder / "fig2.csv", rows)
    done = len(shown) == len(jobs.FIG2)
    values = {"folder": folder, "picture": picture if shown else None, "finished": done}
    emit(as_json, {**values, "rows": rows, "wall_s": time.perf_counter() - start})
    if not as_json:
        _print(rows)
        click.echo(f"written: {picture}, {folder / 'fig2.csv'}" if shown else "nothing to show")
    if not done:
        say(as_json, f"to go on: the same command with --out {folder}")
        raise SystemExit(130)


def _folder(out: Path | None) -> Path:
    """The folder, made and tried before the board is opened."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = out or Path("runs") / f"{stamp}-fig2"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}") from None
    return folder


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def _print(rows: list[dict[str, Any]]) -> None:
    """Of every panel the first findings, and all of which the paper says something."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("figure", "finding", "measured", "paper"):
        table.add_column(name, justify="right" if name == "measured" else "left")
    place, printed = "", 0
    for row in rows:
        first = row["figure"] != place
        if first:
            place, printed = row["figure"], 0
            table.add_section()
        if printed < _FIRST or row["paper"]:
            value = number(row["value"], row["error"], row["unit"])
            table.add_row(place if first else "", row["name"], value, row["paper"])
            printed += 1
    Console(width=120, highlight=False, markup=False).print(table)
