"""rram runs: what has been recorded, whether it is done, still runs or was killed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from rram_host.cli.common import emit, json_option, say
from rram_host.cli.experiment_command import draw_run, number, print_findings, summary
from rram_host.errors import InputError
from rram_host.experiments.catalogue import EXPERIMENTS, experiment_named
from rram_host.experiments.experiment import Finding
from rram_host.units import microsiemens

if TYPE_CHECKING:
    from rram_host.records.layout import Header
    from rram_host.records.run_file import RunFile

_SAMPLE = "sample"  # runs of `rram sample`, which is no experiment of the catalogue
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def runs() -> None:
    """List, show, draw, export and compare run files, also of runs that are going on.

    \b
    rram runs list
    rram runs show runs/20260101-120000-iv.h5
    rram runs compare monday.h5 friday.h5
    """


def _open(path: Path) -> RunFile:
    from rram_host.records.run_file import RunFile

    return RunFile(path)


def _findings(run: RunFile) -> list[Finding]:
    """What the records say; nothing for an experiment that is not here."""
    from rram_host.records.rebuild import rebuilt

    if run.header.experiment == _SAMPLE:
        from rram_host.experiments.sampling import shown

        return shown.findings(run)
    experiment = EXPERIMENTS.get(run.header.experiment)
    if experiment is None or not run.state.rows:
        return []
    return experiment.findings(rebuilt(experiment.plan, run.header.plan), run.data())


# ---- list ---------------------------------------------------------------------------------------


@runs.command("list")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"), metavar="[DIR]")
@json_option
def list_runs(folder: Path, as_json: bool) -> None:
    """List the run files of a folder, by default runs/, oldest first.

    \b
    rram runs list
    rram runs list /data/chip7 --json
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    rows = sorted((_row(path) for path in folder.glob("*.h5")), key=lambda row: str(row["started"]))
    emit(as_json, {"folder": folder, "runs": rows})
    if not as_json:
        _print_rows(rows)


def _row(path: Path) -> dict[str, Any]:
    try:
        run = _open(path)
    except InputError as error:
        return {"file": path, "started": "", "experiment": "", "status": str(error)}
    return {"started": run.header.started, **summary(run, []), "text": run.state.text}


def _print_rows(rows: list[dict[str, Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("file", "experiment", "started (UTC)", "units", "records", "status"):
        table.add_column(name, justify="right" if name in ("units", "records") else "left")
    for row in rows:
        units = f"{row['units']} of {row['units_in_all']}" if "units" in row else ""
        started = str(row["started"])[:19].replace("T", " ")
        status = row.get("text", row["status"])
        table.add_row(
            *(row["file"].name, row["experiment"], started, units),
            *(str(row.get("records", "")), status),
        )
    Console(width=120, highlight=False, markup=False).print(table if rows else "no run files")


# ---- show ---------------------------------------------------------------------------------------


@runs.command()
@click.argument("file", type=_FILE)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show a run: settings, board, versions, how far it came, and what it found.

    \b
    rram runs show runs/20260101-120000-iv.h5
    """
    run = _open(file)
    found, head = _findings(run), run.header
    about = {
        **{"title": head.title, "started": head.started, "ended": run.state.ended},
        **{"board": head.board, "chip": head.chip, "board_file": head.spec.get("name")},
        **{"map_sha256": head.map_sha256, "seed": head.seed},
        **{"plan": head.plan, "versions": head.versions},
        "columns": {column.name: column.text for column in run.columns},
    }
    emit(as_json, summary(run, found) | about)
    if not as_json:
        for name, text in _lines(run):
            click.echo(f"{name:<14} {text}")
        print_findings("findings", found)


def _lines(run: RunFile) -> list[tuple[str, str]]:
    head, state = run.header, run.state
    lines = [
        ("experiment", f"{head.experiment}: {head.title}"),
        ("status", state.text),
        ("units", f"{state.units} of {head.units}, {state.rows} records"),
        ("started", f"{head.started}, ended {state.ended or 'not'}"),
        *_board_lines(head),
        ("versions", ", ".join(f"{name} {text}" for name, text in head.versions.items())),
    ]
    lines += [("setting", f"{name} = {value}") for name, value in head.plan.items()]
    return lines + [
        ("column", f"{c.name}: {c.text}" + (f", {c.shape}" if c.shape else "")) for c in run.columns
    ]


def _board_lines(head: Header) -> list[tuple[str, str]]:
    if not head.map_siemens.size:
        return [("board", f"none: {head.board}")]
    mean = microsiemens(float(head.map_siemens.mean()))
    return [
        ("board", f"{head.board}, wired as {head.spec.get('name')}"),
        ("chip", head.chip or "no passport"),
        ("map at start", f"mean {mean}, SHA-256 {head.map_sha256[:16]}..."),
    ]


# ---- plot, export, repair -----------------------------------------------------------------------


@runs.command()
@click.argument("file", type=_FILE)
@click.option("--out", type=_FILE, metavar="FILE.png", help="Default: beside the run file.")
@json_option
def plot(file: Path, out: Path | None, as_json: bool) -> None:
    """Draw a run's picture, of the records there are.

    \b
    rram runs plot runs/20260101-120000-iv.h5 --out iv.png
    """
    from rram_host.records.rebuild import rebuilt

    run, path = _open(file), out or file.with_suffix(".png")
    if run.header.experiment == _SAMPLE:
        from rram_host.experiments.sampling import shown

        shown.save(path, run)
    else:
        experiment = experiment_named(run.header.experiment)
        if not run.state.rows:
            raise InputError(f"{file} has no records yet")
        draw_run(experiment, rebuilt(experiment.plan, run.header.plan), run, path)
    emit(as_json, {"picture": path})
    say(as_json, f"written: {path}")


@runs.command()
@click.argument("file", type=_FILE)
@click.option("--to", type=_FILE, required=True, metavar="FILE", help="NAME.csv or NAME.nc.")
@click.option("--replace", is_flag=True, help="Write over a file that is there.")
@json_option
def export(file: Path, to: Path, replace: bool, as_json: bool) -> None:
    """Write a run's records to CSV or netCDF, in SI units.

    \b
    rram runs export runs/20260101-120000-iv.h5 --to iv.csv
    """
    from rram_host.records.export import export as write

    run = _open(file)
    write(run, to, replace)
    emit(as_json, {"file": to, "records": run.state.rows})
    say(as_json, f"written: {to}, {run.state.rows} records")


@runs.command()
@click.argument("file", type=_FILE)
@click.option(
    "--force",
    is_flag=True,
    help="Take the run's process for dead although it was on another machine, or on this one under "
    "another name before it was started anew.",
)
@json_option
def repair(file: Path, force: bool, as_json: bool) -> None:
    """Make the file of a killed run one that every program opens. Changes no record.

    These commands, and --resume, do without.

    \b
    rram runs repair runs/20260101-120000-iv.h5
    rram runs repair --force /other/computer/iv.h5
    """
    from rram_host.records.run_writer import repair as mend

    run = mend(file, force)
    emit(as_json, summary(run, []))
    say(as_json, f"{file}: {run.state.text}, {run.state.rows} records")


# ---- compare ------------------------------------------------------------------------------------


@runs.command()
@click.argument("first", type=_FILE, metavar="A")
@click.argument("second", type=_FILE, metavar="B")
@json_option
def compare(first: Path, second: Path, as_json: bool) -> None:
    """Say in what two runs differ, and put their findings side by side.

    Differences of findings are told in standard errors, where both state one.

    \b
    rram runs compare monday.h5 friday.h5
    """
    from rram_host.records.comparison import differing, side_by_side

    a, b = _open(first), _open(second)
    lines = differing(a.header, b.header)
    rows = side_by_side(_findings(a), _findings(b))
    emit(as_json, {"a": first, "b": second, "differ": lines, "findings": rows})
    if not as_json:
        for row in lines:
            click.echo(f"{row['what']}: {row['a']} | {row['b']}")
        _print_side_by_side(rows)


def _print_side_by_side(rows: list[dict[str, Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("finding", "A", "B", "B - A in standard errors"):
        table.add_column(name, justify="left" if name == "finding" else "right")
    for row in rows:
        sigmas = row["standard_errors"]
        table.add_row(
            *(row["name"], _value(row["a"], row["unit"]), _value(row["b"], row["unit"])),
            "" if sigmas is None else f"{sigmas:+.1f}",
        )
    Console(width=120, highlight=False, markup=False).print(table)


def _value(found: Mapping[str, Any] | None, unit: str) -> str:
    return "" if found is None else number(found["value"], found["error"], unit)
