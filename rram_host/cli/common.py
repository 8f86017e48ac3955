"""What all commands share: options, progress, output as text or JSON, files."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.recording import refuse_existing
from rram_host import session
from rram_host.cli.file_names import FolderName
from rram_host.errors import InputError
from rram_host.records.run_folder import RunFolder, plain
from rram_host.session import Board

DEFAULT_BOARD = "sim://?preset=taox_180nm"
Function = TypeVar("Function", bound=Callable[..., Any])

_messages = Console(stderr=True, highlight=False)


# Python drops an exception that a signal raises while a finaliser or a weak reference's callback
# runs, so what a signal asked for is also kept here, and looked at whenever progress is shown.
_asked_to_stop: list[BaseException] = []


def stop(signum: int, frame: FrameType | None) -> None:
    """Signal handler: leave by way of every `with`, so that the rails are made safe."""
    error = KeyboardInterrupt() if signum == signal.SIGINT else SystemExit(128 + signum)
    _asked_to_stop.append(error)
    raise error


def _go_on() -> None:
    if _asked_to_stop:
        raise _asked_to_stop[-1]


def report_error(message: str) -> None:
    """One line on stderr."""
    click.echo("rram: " + " ".join(message.split()), err=True)


def say(as_json: bool, text: str) -> None:
    """A line for people; nothing in JSON mode."""
    if not as_json:
        click.echo(text)


def emit(as_json: bool, values: Mapping[str, Any]) -> None:
    """The one JSON object, in JSON mode."""
    if as_json:
        click.echo(json.dumps(plain(values)))


_RECORD = "rram.record"


def record_option(function: Function) -> Function:
    """--record FILE, which `open_board` and `trace` know of by themselves."""
    return click.option(
        "--record",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        expose_value=False,
        callback=_note_record,
        help="Record every transaction with the board in this file (JSON lines; a new one). "
        "--board replay:///FILE answers from it.",
    )(function)


def board_option(function: Function) -> Function:
    """--board URL, and --record FILE."""
    return click.option(
        "--board",
        default=DEFAULT_BOARD,
        show_default=True,
        metavar="URL",
        help="Which board: sim://?preset=NAME&seed=N&state=FILE, "
        "serial:///dev/ttyUSB0?baud=921600, socket://HOST:PORT, mmio://0x43C00000, "
        "replay:///FILE.",
    )(record_option(function))


def _note_record(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is not None:
        refuse_existing(path)
        context.meta[_RECORD] = path


def trace() -> Path | None:
    """Where the command at hand is to record its traffic; None where nobody asked for it."""
    path: Path | None = click.get_current_context().meta.get(_RECORD)
    return path


def refuse_record(why: str) -> None:
    """Refuse --record where this command opens no board.

    Raises:
        InputError: it was given.
    """
    if trace() is not None:
        raise InputError(f"--record: there is no traffic to record {why}")


def open_board(
    url: str,
    spec: BoardSpec | str | Path | None = None,
    check: bool = True,
    passport: Path | None = None,
    check_map: bool = True,
) -> Board:
    """`rram_host.open_board` for commands: records the traffic where --record asks for it."""
    return session.open_board(url, spec, check, passport, check_map, trace())


def tell_of_emulation(urls: Sequence[str]) -> None:
    """Say beforehand that several arrays are emulated: it takes this computer's time."""
    emulated = sum(url.startswith("sim:") for url in urls)
    if emulated > 1:
        report_error(
            f"{emulated} arrays are needed, emulated on this computer, one after another; how long "
            "it takes is told after the second one"
        )


def spec_option(function: Function) -> Function:
    """--spec NAME or FILE."""
    return click.option(
        "--spec",
        default="zc706",
        show_default=True,
        metavar="FILE",
        help="How the board is wired: a board file, or the name of one that comes with this.",
    )(function)


def passport_option(function: Function) -> Function:
    """--passport FILE."""
    return click.option(
        "--passport",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="RRAM_PASSPORT",
        show_envvar=True,
        metavar="FILE",
        help="Passport of the chip, begun where there is none: its calibration is used, dead cells "
        "are left out, pulses and what is read are noted.",
    )(function)


def on_a_board(function: Function) -> Function:
    """--board, --spec, --passport, --json: what every job on a board takes, in this order."""
    for option in (json_option, passport_option, spec_option, board_option):
        function = option(function)
    return function


def left_out_cells(board: Board) -> list[dict[str, Any]]:
    """Cells that the last programming left out because of the passport, as JSON tells of them."""
    return [
        {"row": row, "col": col, "reason": reason} for (row, col), reason in board.left_out.items()
    ]


def say_left_out(as_json: bool, cells: list[dict[str, Any]]) -> None:
    """A line for each of them."""
    for cell in cells:
        say(as_json, f"left out: row {cell['row']}, column {cell['col']}: {cell['reason']}")


def seed_option(function: Function) -> Function:
    """--seed N."""
    return click.option(
        "--seed",
        default=7,
        show_default=True,
        type=click.IntRange(0, 2**62),
        help="Seed of draws and of accept-reject.",
    )(function)


def json_option(function: Function) -> Function:
    """--json."""
    return click.option(
        "--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else there."
    )(function)


def out_option(function: Function) -> Function:
    """--out DIR."""
    return click.option(
        "--out",
        type=FolderName(),
        metavar="DIR",
        help="Record data, settings and pictures in this folder (made if missing).",
    )(function)


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr that goes away when done; quiet where stderr is no terminal.

    Yields a function of (done, total, note), the note optional.
    """
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=_messages,
        transient=True,
        disable=not _messages.is_terminal,
    ) as bar:
        task = bar.add_task(name, total=None)

        def advance(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, description=f"{name} {note}".rstrip())
            _go_on()

        yield advance


class BarObserver:
    """Tells of the steps of a job: a bar while one runs, a line when it has ended."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._bar = Progress(
            TextColumn("{task.description:<26}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=_messages,
            transient=True,
            disable=not _messages.is_terminal,
        )
        self._bar.start()

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()

    def begin(self, name: str) -> Callable[[int, int], None]:
        """Show a bar."""
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        task = self._bar.add_task(name, total=None)

        def advance(done: int, total: int) -> None:
            self._bar.update(task, completed=done, total=total)
            _go_on()

        return advance

    def tell(self, text: str) -> None:
        """A line on stderr while a step runs, in JSON mode too."""
        self._bar.console.print(f"rram: {text}", markup=False, soft_wrap=True)

    def end(self, name: str, wall_s: float, board_s: float, note: str) -> None:
        """Print the step with its times."""
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        if not self._as_json:
            line = f"{name:<26} {wall_s:8.2f} s wall {board_s:10.4f} s board   {note}"
            self._bar.console.print(line, markup=False, soft_wrap=True)


def load_array(path: Path, what: str) -> npt.NDArray[np.float64]:
    """Read an array of numbers from a .npy file.

    Raises:
        InputError: no such file, not a .npy file, or not real numbers.
    """
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{what}: no file {path}") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{what}: {path} is not a .npy file of numbers ({error})") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise InputError(f"{what}: {path} does not hold an array of real numbers")
    return values.astype(np.float64)


def run_folder(kind: str, out: Path | None, settings: Mapping[str, Any]) -> RunFolder | None:
    """The folder to record into, where one was asked for; checked before anything happens.

    The command's context closes it and notes how the command ended.
    """
    if out is None:
        return None
    return click.get_current_context().with_resource(RunFolder(out, kind, settings))


def need_torch() -> None:
    """Refuse plainly where the flow extra is not installed."""
    try:
        import torch
    except ImportError:
        raise InputError("this command needs PyTorch: pip install 'rram-bench[flow]'") from None
    torch.set_num_threads(1)  # matrices are small: threads would only wait for each other
