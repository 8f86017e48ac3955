"""A command for every experiment: options from its plan, a run file, a picture, a table."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich import box
from rich.console import Console
from rich.table import Table

from firmware_bridge import board_spec
from firmware_bridge.board_spec import BoardSpec
from rram_host.cli.common import (
    emit,
    on_a_board,
    open_board,
    progress_bar,
    report_error,
    stop,
)
from rram_host.cli.file_names import RUN_FILE
from rram_host.cli.plan_options import options_of, plan_from
from rram_host.errors import InputError
from rram_host.experiments.experiment import Experiment, Finding
from rram_host.units import seconds

if TYPE_CHECKING:
    from rram_host.records.run_file import RunFile

_RUNS = Path("runs")
_LARGEST_COUNT = 1e12  # beyond, nobody counts
_ON_ITS_WAY = b"\nfinishing this unit; Ctrl-C again stops now\n"


@dataclass(frozen=True)
class _Where:
    """On which board, and into which file."""

    board: str
    spec: BoardSpec | str
    passport: Path | None
    path: Path


def experiment_command(experiment: Experiment[Any]) -> click.Command:
    """The command of an experiment."""

    def command(**given: Any) -> None:
        _job(experiment, given)

    file = click.Path(path_type=Path, dir_okay=False)
    command = click.command(experiment.name, help=experiment.help)(
        on_a_board(
            click.option(
                "--out",
                type=RUN_FILE,
                metavar="FILE.h5",
                help="Run file to make; its folder must exist. Default runs/TIME-NAME.h5.",
            )(
                click.option(
                    "--resume",
                    type=file,
                    metavar="FILE.h5",
                    help="Go on with a run that was broken off. Board, wiring, passport and "
                    "settings are those of the run; what is given besides must agree.",
                )(
                    click.option(
                        "--force",
                        is_flag=True,
                        help="Resume although the chip was used or the board off since, or the "
                        "run's process was on another machine and cannot be asked.",
                    )(
                        click.option(
                            "--picture/--no-picture",
                            default=True,
                            show_default=True,
                            help="Draw a PNG beside the run file.",
                        )(command)
                    )
                )
            )
        )
    )
    command.params[:0] = options_of(experiment.plan)
    return command


def _job(experiment: Experiment[Any], given: dict[str, Any]) -> None:
    from rram_host.experiments.recording import record

    as_json, start = given["as_json"], time.perf_counter()
    plan, where = _asked(experiment, given)
    resume, force = given["resume"] is not None, given["force"]
    try:
        with (
            open_board(
                where.board, where.spec, passport=where.passport, check_map=not resume
            ) as board,
            progress_bar(experiment.name) as advance,
            finishing_first() as should_stop,
        ):
            run = record(board, experiment, plan, where.path, resume, advance, should_stop, force)
            board_time_s = board.board_time_s
    except (KeyboardInterrupt, SystemExit):
        _how_to_go_on(experiment, where.path)
        raise
    picture = _draw(experiment, plan, run) if given["picture"] else None
    found = experiment.findings(plan, run.data())
    times = {"board_time_s": board_time_s, "wall_s": time.perf_counter() - start}
    emit(as_json, summary(run, found) | {"picture": picture} | times)
    if not as_json:
        print_findings(f"{experiment.title}: {run.state.text}", found)
        click.echo(
            f"{run.state.units} of {run.header.units} units, {run.state.rows} records, "
            f"{seconds(board_time_s)} of board time"
        )
        click.echo(f"written: {run.path}" + (f", {picture}" if picture else ""))
    if run.state.status != "done":
        _how_to_go_on(experiment, where.path)
        raise SystemExit(130)


def _how_to_go_on(experiment: Experiment[Any], path: Path) -> None:
    if path.exists():
        report_error(f"{path} can go on: rram {experiment.name} --resume {path}")


# ---- what was asked -----------------------------------------------------------------------------


def _asked(experiment: Experiment[Any], given: dict[str, Any]) -> tuple[Any, _Where]:
    if given["resume"] is None:
        if given["force"]:
            raise InputError("--force goes with --resume: a new run has nothing to overrule")
        plan = plan_from(experiment.plan, given)
        path = given["out"] or fresh_run_file(experiment.name)
        _check_place(path)
        return plan, _Where(given["board"], given["spec"], given["passport"], path)
    if given["out"] is not None:
        raise InputError("--out and --resume exclude each other: a run goes on in its own file")
    return _asked_again(experiment, given, given["resume"])


def _asked_again(
    experiment: Experiment[Any], given: dict[str, Any], path: Path
) -> tuple[Any, _Where]:
    """Plan and board of an earlier run, where nothing else was asked for."""
    from rram_host.records.rebuild import rebuilt
    from rram_host.records.run_file import RunFile

    run, context = RunFile(path), click.get_current_context()
    head = run.header
    if head.experiment != experiment.name:
        raise InputError(f"{path} holds a run of {head.experiment}, not of {experiment.name}")

    def asked(name: str) -> bool:
        return context.get_parameter_source(name) is not ParameterSource.DEFAULT

    plan = plan_from(experiment.plan, given, rebuilt(experiment.plan, head.plan))
    spec = board_spec.load(given["spec"]) if asked("spec") else rebuilt(BoardSpec, head.spec)
    passport = Path(head.passport) if head.passport and not asked("passport") else given["passport"]
    board = given["board"] if asked("board") else head.board
    return plan, _Where(board, spec, passport, path)


def fresh_run_file(name: str) -> Path:
    """A new name under runs/."""
    try:
        _RUNS.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make {_RUNS}: {error.strerror}; give --out FILE.h5") from None
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    path, number = _RUNS / f"{stamp}-{name}.h5", 2
    while path.exists():
        path, number = _RUNS / f"{stamp}-{name}-{number}.h5", number + 1
    return path


def _check_place(path: Path) -> None:
    """Before the board is opened: a passport notes that."""
    from rram_host.records.place import check_place

    check_place(path)


# ---- Ctrl-C -------------------------------------------------------------------------------------


@contextmanager
def finishing_first() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C asks to stop after the unit, the second stops now.

    Yields a function that says whether it was asked to.
    """
    asked = threading.Event()

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        if asked.is_set():
            stop(signum, frame)
        asked.set()
        os.write(2, _ON_ITS_WAY)  # a signal may come in the middle of a print

    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


# ---- what came out ------------------------------------------------------------------------------


def summary(run: RunFile, found: list[Finding]) -> dict[str, Any]:
    """A run as JSON tells of it."""
    state = run.state
    return {
        "file": run.path,
        "experiment": run.header.experiment,
        "status": state.status,
        "reason": state.reason,
        "units": state.units,
        "units_in_all": run.header.units,
        "records": state.rows,
        "findings": [vars(item) for item in found],
    }


def _draw(experiment: Experiment[Any], plan: Any, run: RunFile) -> Path | None:
    """The picture beside the file; None where there is nothing to draw yet."""
    return draw_run(experiment, plan, run, run.path.with_suffix(".png")) if run.state.rows else None


def draw_run(experiment: Experiment[Any], plan: Any, run: RunFile, path: Path) -> Path:
    """Draw a run.

    Raises:
        InputError: the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    experiment.draw(figure, plan, run.data())
    of = run.header.chip or run.header.board
    figure.suptitle(f"{experiment.title}, {of}, {run.header.started[:16]} UTC", fontsize="small")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot draw {path}: {error}") from None
    return path


def number(value: float, error: float | None, unit: str) -> str:
    """A number with its error, as a person reads it: two digits of the error, counts whole.

    >>> number(49.8312, 0.0203, "µS")
    '49.831 ± 0.020 µS'
    >>> number(200000, None, "")
    '200000'
    """
    if not math.isfinite(value):
        return "not known"
    whole = value == int(value) and abs(value) < _LARGEST_COUNT
    text = f"{value:.0f}" if whole else f"{value:.4g}"
    if error is not None and math.isfinite(error) and error > 0:
        digits = 1 - math.floor(math.log10(error))
        few = f".{max(digits, 0)}f" if abs(digits) < 9 else ".3g"
        text = f"{value:{few}} ± {error:{few}}"
    return f"{text} {unit}".rstrip()


def print_findings(title: str, found: list[Finding]) -> None:
    """A table: what was found, beside the paper's."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("finding")
    table.add_column("measured", justify="right")
    table.add_column("paper")
    for item in found:
        table.add_row(item.name, number(item.value, item.error, item.unit), item.paper)
    Console(width=120, highlight=False, markup=False).print(table)
