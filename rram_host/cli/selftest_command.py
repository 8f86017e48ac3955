"""rram selftest: measure the board and name what is at fault."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from rram_host.board.diagnosis import Diagnosis
from rram_host.cli.common import (
    emit,
    load_array,
    on_a_board,
    open_board,
    out_option,
    run_folder,
    say,
)
from rram_host.units import seconds


@click.command()
@on_a_board
@out_option
@click.option(
    "--map",
    "map_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Conductances that the chip is known to hold (.npy, as `rram read` writes them; default "
    "the passport's): without them, exchanged bit lines are not seen.",
)
@click.option(
    "--exercise",
    is_flag=True,
    help="RESET and SET every cell to find those that do not switch. Destroys what is stored.",
)
def selftest(
    board: str,
    spec: str,
    passport: Path | None,
    as_json: bool,
    out: Path | None,
    map_file: Path | None,
    exercise: bool,
) -> None:
    """Measure DACs, amplifiers, ADCs, switches, lines and cells, and name what is at fault.

    Cells keep what they hold, unless --exercise is given. Exit code 0: nothing found; 1: faults,
    each with part, line or cell and what to do. What could not be tested is listed.

    \b
    rram selftest --board 'sim://?seed=7&state=chip.npz' --map runs/read1/conductances.npy
    rram selftest --board serial:///dev/ttyUSB0?baud=921600 --json
    """
    reference = load_array(map_file, "map") if map_file else None
    settings = {"board": board, "spec": spec, "map": map_file, "exercise": exercise}
    folder = run_folder("selftest", out, settings)
    with open_board(board, spec, check=False, passport=passport) as opened:
        if reference is None and opened.passport and opened.passport.contents.map:
            reference = opened.passport.contents.map.siemens
        found = opened.diagnose(reference, exercise)
    values = _values(found)
    if folder:
        np.save(folder.file("tia_offsets.npy"), found.offsets_v)
        folder.note(results=values)
    emit(as_json, values)
    _say(as_json, found)
    if not found.passed:
        raise SystemExit(1)


def _values(found: Diagnosis) -> dict[str, object]:
    return {
        "passed": found.passed,
        "findings": [
            {"kind": item.kind, "where": list(item.where), "text": item.text}
            for item in found.findings
        ],
        "checks": [{"name": item.name, "measured": item.measured} for item in found.checks],
        "not_tested": list(found.not_tested),
        "tia_offsets_v": found.offsets_v,
        "board_time_s": found.board_time_s,
    }


def _say(as_json: bool, found: Diagnosis) -> None:
    for check in found.checks:
        say(as_json, f"{check.name:<16} {check.measured}")
    for item in found.findings:
        say(as_json, f"FAULT {item.kind}, {item.place}: {item.text}.")
    for text in found.not_tested:
        say(as_json, f"not tested: {text}")
    count = len(found.findings)
    verdict = f"{count} fault{'s' if count > 1 else ''}" if count else "no fault"
    say(as_json, f"{verdict} found, {seconds(found.board_time_s)} of board time")
