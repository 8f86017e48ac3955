"""rram replay: does the emulated board do again what was recorded?"""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import click

from firmware_bridge.recording import Recording
from rram_host.cli.common import emit, json_option, progress_bar, say
from rram_host.errors import InputError
from rram_host.transports import open_transport
from rram_host.transports.repeat import repeat

_HDF5 = b"\x89HDF\r\n\x1a\n"


@click.command()
@click.argument(
    "file", type=click.Path(path_type=Path, dir_okay=False), metavar="RUN.h5|TRACE.jsonl"
)
@click.option(
    "--board",
    metavar="URL",
    help="For a trace: the emulated board to compare with. Default: the one it was recorded on.",
)
@click.option(
    "--ignore",
    multiple=True,
    metavar="REGISTER",
    help="For a trace: a register or memory whose words may differ (CYCLES_LO, RESULTS, ...).",
)
@json_option
def replay(file: Path, board: str | None, ignore: tuple[str, ...], as_json: bool) -> None:
    """Do what was recorded again on the emulated board, and say whether the same came of it.

    A run file is run again from where it began, with the same settings and seed, in a temporary
    folder; traffic with the board (by its digest) and records are compared bit for bit. Of a
    recording of traffic (--record) the writes are sent, and what is read is compared.

    Exit code 0: the same; 1: different, with the first difference; 2: it cannot be done. Runs on
    other than emulated boards cannot be run again; to run a command on a recording of one, give
    it --board replay:///FILE.

    \b
    rram replay runs/20260101-120000-iv.h5
    rram replay silicon.jsonl --board 'sim://?seed=7' --ignore CYCLES_LO
    """
    try:
        with file.open("rb") as stream:
            is_run = stream.read(len(_HDF5)) == _HDF5
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
    if is_run and (board or ignore):
        raise InputError(f"{file} is a run file: it is run on its own board, and all is compared")
    same = _run(file, as_json) if is_run else _trace(file, board, ignore, as_json)
    if not same:
        raise SystemExit(1)


def _run(file: Path, as_json: bool) -> bool:
    from rram_host.experiments.rerun import UNKNOWN, rerun
    from rram_host.records.run_file import RunFile

    run = RunFile(file)
    with tempfile.TemporaryDirectory() as folder, progress_bar("replay") as advance:
        found = rerun(run, Path(folder), advance)
    emit(as_json, {"file": file, "kind": "run", "same": found.same, **vars(found)})
    for line in (*found.differences, *(f"note: {text}" for text in found.notes)):
        say(as_json, line)
    if found.traffic == UNKNOWN:
        say(as_json, "the file holds no digest of its traffic: only records were compared")
    say(
        as_json,
        f"{file}: {found.units} of {run.header.units} units, {found.rows} records, "
        f"traffic {found.traffic}, records {found.records}",
    )
    return found.same


def _trace(file: Path, board: str | None, ignore: tuple[str, ...], as_json: bool) -> bool:
    from rram_host.experiments.rerun import emulated_url

    recording = Recording(file)
    what = f"{file} is to be compared with" if board else f"{file} was recorded on"
    url, state = emulated_url(board or recording.text("board"), what)
    with closing(open_transport(url)) as link, progress_bar("replay") as advance:
        found = repeat(recording, link, ignore, lambda done: advance(done, None))
    same = not found.difference
    note = ""
    if state and not same:
        note = f"it began from the state file {state}, whose content is not recorded"
    emit(
        as_json,
        {"file": file, "kind": "trace", "board": url, "same": same, **vars(found), "note": note},
    )
    for line in filter(None, (found.difference, note and f"note: {note}")):
        say(as_json, line)
    verdict = "all reads are the same" if same else "then a read differs"
    say(as_json, f"{file}: {found.transactions} transactions sent to {url}, {verdict}")
    return same
