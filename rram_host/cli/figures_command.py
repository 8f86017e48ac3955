"""rram figures: the paper's figures, each a picture and a table."""

from __future__ import annotations

import csv
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from rram_host.cli.common import (
    DEFAULT_BOARD,
    Function,
    emit,
    json_option,
    need_torch,
    on_a_board,
    open_board,
    progress_bar,
    refuse_record,
    report_error,
    say,
    seed_option,
)
from rram_host.cli.experiment_command import finishing_first, number
from rram_host.cli.file_names import FolderName
from rram_host.errors import InputError

_FOLDER = FolderName()
_FIRST = 4  # findings of a panel that are printed where the paper says nothing of them


@click.group()
def figures() -> None:
    """Make figures of the paper (arXiv 2509.12812), from a board or emulated ones.

    \b
    rram figures fig2 --board 'sim://?preset=taox_180nm&seed=7'   the chip
    rram figures fig3 --out fig3                                  phi^4
    rram figures fig4 --out fig4 --quick                          a graphene wire
    """


@figures.command(short_help="every experiment of Fig. 2 on one chip, beside the paper")
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

    if runs is not None:
        refuse_record("with --runs")
    start, folder = time.perf_counter(), _folder(out, "fig2")
    if runs is not None:
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


def _lattice_options(function: Function) -> Function:
    """What fig3 and fig4 take."""
    options = (
        click.option(
            "--board",
            default=DEFAULT_BOARD + "&seed=7",
            show_default=True,
            metavar="URL",
            help="Emulated board; a flow that takes several arrays gets boards of the next seeds.",
        ),
        json_option,
        click.option(
            "--out",
            type=_FOLDER,
            metavar="DIR",
            help="Folder for picture, CSV, JSON and finished pieces of work, made if missing; "
            "pieces that it holds are not done again. Default runs/TIME-FIGURE.",
        ),
        click.option("--quick", is_flag=True, help="A tenth of the statistics: a short look."),
        seed_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


@figures.command(short_help="phi^4: autocorrelation, observables, ESS, shares, time, energy")
@_lattice_options
def fig3(board: str, as_json: bool, out: Path | None, quick: bool, seed: int) -> None:
    """phi^4 at L = 4, 6, 12 (24 without arrays): Fig. 3, as far as it goes without the chip.

    Autocorrelation (3a), its time (3b), Ising energy (3c), correlation length (3d), error of the
    susceptibility against N (3e), ESS (3f) and susceptibility (3g) of ten repeats, weights and MACs
    on arrays (3h), time (3i) and energy (3j) of an effective sample: HMC with trajectories of
    length 1 and tuned, flow in software, flow on emulated arrays (at L = 12 with two cells a
    weight). Every panel says which shipped flow it lacks. About ten minutes on one core; --quick
    about one minute.

    \b
    rram figures fig3 --out fig3
    rram figures fig3 --quick --json
    """
    _lattice_figure("fig3", board, as_json, out, quick, seed)


@figures.command(short_help="a graphene wire: field, correlator, gap, condensate, ESS, costs")
@_lattice_options
def fig4(board: str, as_json: bool, out: Path | None, quick: bool, seed: int) -> None:
    """A graphene wire at L = 6, 12 (24 without arrays): Fig. 4, as far as it goes without the chip.

    Field distribution (4a), two-point function (4b), mass gap (4c) and condensate (4d) against m/g
    with exact values at m = 0; autocorrelation (4e) and its time (4f), ESS (4g) and susceptibility
    (4h) of ten repeats, error against N (4i), weights and MACs on arrays (4j), time (4k) and energy
    (4l) of an effective sample; on arrays at L = 12 with two cells a weight. Every panel says which
    shipped flow it lacks. A few minutes on one core; --quick about one.

    \b
    rram figures fig4 --out fig4
    rram figures fig4 --quick --json
    """
    _lattice_figure("fig4", board, as_json, out, quick, seed)


def _lattice_figure(
    name: str, board: str, as_json: bool, out: Path | None, quick: bool, seed: int
) -> None:
    need_torch()
    from rram_host.experiments.lattice_figures import figure

    start, folder = time.perf_counter(), _folder(out, name)
    plan = replace(figure.plan_of(name, quick), board=board, seed=seed)
    with progress_bar(name) as advance, finishing_first() as should_stop:
        context, finished = figure.record(
            plan,
            folder,
            progress=lambda piece, done, total: advance(done, total, piece),
            should_stop=should_stop,
            done=lambda job: say(as_json, f"{job.method}: {job.system.model}"),
            tell=report_error,
        )
    picture, rows = figure.write(context, folder)
    values = {"folder": folder, "picture": picture, "finished": finished, "rows": rows}
    emit(as_json, {**values, "wall_s": time.perf_counter() - start})
    say(as_json, f"written: {picture}, {folder / f'{name}.csv'}, {folder / f'{name}.json'}")
    if not finished:
        say(as_json, f"to go on: the same command with --out {folder}")
        raise SystemExit(130)


def _folder(out: Path | None, name: str) -> Path:
    """The folder, made and tried before any work; gone with the command if nothing came into it."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = out or Path("runs") / f"{stamp}-{name}"
    there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}") from None
    if not there:
        click.get_current_context().call_on_close(lambda: _remove_empty(folder))
    return folder


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # not empty
        folder.rmdir()


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
