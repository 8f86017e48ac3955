"""`rram check`: what a program does, and which rules it would break, without a board."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from firmware_bridge import board_spec, registers
from firmware_bridge.assembly import assemble
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.recording import Recording
from firmware_bridge.traffic import WRITE
from rram_host.board.check import Limits, ProgramCheck, check_program
from rram_host.board.check.listing import Listing, budgets
from rram_host.cli.common import emit, json_option, load_array, say, spec_option
from rram_host.errors import InputError

Words = npt.NDArray[np.uint32]
Codes = npt.NDArray[np.uint16]
_MOST_BYTES = 4 * registers.PROGRAM.words


@dataclass(frozen=True)
class Program:
    """A program to check: its words, its table, its limits where they are known, and a name."""

    name: str
    words: Words
    table: Codes | None = None
    channel_words: Words | None = None
    first: bool = False


@click.command(short_help="What a program does, and which rules it would break.")
@click.argument("program", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--table",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Input codes of the program, a .npy file of whole numbers 0..65535.",
)
@click.option(
    "--first",
    is_flag=True,
    help="The first program after power-up: nothing has set up the converters before it.",
)
@spec_option
@json_option
def check(program: Path, table: Path | None, first: bool, spec: str, as_json: bool) -> None:
    """Walk PROGRAM without running it: times, lines in words, budgets, and broken rules.

    PROGRAM is assembler text, binary words (.bin, little-endian), or a recording (.jsonl), of which
    every program is checked with its table. No board is opened. The exit code is 1 where a rule is
    broken, 2 where PROGRAM is none.

    \b
    rram check bench_scripts/programs/read_cell.rram
    rram check sweep.bin --table codes.npy --json
    rram check trace.jsonl --spec zc706_40us
    """
    wiring = board_spec.load(spec)
    found: list[dict[str, Any]] = []
    broken = 0
    for one in _programs(program, table, first):
        result = _checked(one, wiring)
        broken += not result.passed
        if as_json:
            found.append(_values(one, result))
        else:
            _say(one, result, wiring, brief=program.suffix == ".jsonl")
    emit(as_json, {"programs": found, "refused": broken})
    say(as_json, f"{broken} of the programs would be refused" if broken else "no rule is broken")
    if broken:
        raise SystemExit(1)


def _checked(one: Program, wiring: BoardSpec) -> ProgramCheck:
    limits = Limits.of(wiring)
    if one.channel_words is not None:
        limits = limits.but(channel_words=one.channel_words)
    return check_program(one.words, one.table, wiring, limits, one.first)


# ---- where programs come from -------------------------------------------------------------------


def _programs(path: Path, table: Path | None, first: bool) -> Iterator[Program]:
    if path.suffix == ".jsonl":
        if table is not None:
            raise InputError(f"--table {table}: a recording holds the tables of its programs")
        yield from recorded_programs(path)
        return
    codes = None if table is None else _codes(table)
    words = _binary(path) if path.suffix == ".bin" else assemble(_text(path))
    yield Program(str(path), words, codes, first=first)


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text; binary words are called .bin") from None


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(64 * _MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if len(data) > 64 * _MOST_BYTES:
        raise InputError(f"{path}: longer than any program of {registers.PROGRAM.words} words")
    return data


def _binary(path: Path) -> Words:
    data = _bytes(path)
    if len(data) % 4 or not 0 < len(data) <= _MOST_BYTES:
        raise InputError(
            f"{path}: {len(data)} bytes are not 1 to {registers.PROGRAM.words} words of 32 bits"
        )
    return np.frombuffer(data, "<u4").astype(np.uint32)


def _codes(path: Path) -> Codes:
    values = load_array(path, "table").ravel()
    if values.size and (values.min() < 0 or values.max() > 0xFFFF or (values % 1).any()):
        raise InputError(f"table {path}: codes are whole numbers of 0..65535")
    return values.astype(np.uint16)


def recorded_programs(path: Path) -> Iterator[Program]:
    """Every program that was started in a recording, as the board had it then.

    Raises:
        InputError: not a recording, or a damaged one.
    """
    window, first = np.zeros(registers.WINDOW_BYTES // 4, dtype=np.uint32), True
    ctrl, memory = registers.offset("CTRL") // 4, registers.PROGRAM
    for access in Recording(path):
        if access.kind != WRITE:
            continue
        start = access.address // 4
        window[start : start + access.count] = access.words
        started = start <= ctrl < start + access.count
        if started and window[ctrl] & registers.CTRL_START:
            entry = memory.offset // 4 + int(window[registers.offset("ENTRY") // 4])
            words = _whole(window[entry : memory.end // 4])
            yield Program(
                f"{path}, transaction {access.number}",
                words,
                _table(window),
                _limits(window),
                first,
            )
            first = False


def _whole(memory: Words) -> Words:
    """A program up to its first END; a walk of what is none says so."""
    place = 0
    while place < memory.size:
        word = int(memory[place])
        if word >> 28 == 0:
            return memory[: place + 1].copy()
        place += 1 + (-(-(word & 0xFFF_FFFF) // 32) if word >> 28 == 4 else 0)
    return memory.copy()


def _table(window: Words) -> Codes:
    table = window[registers.TABLE.offset // 4 : registers.TABLE.end // 4].view("<u2")
    return table[: int(window[registers.offset("TABLE_COUNT") // 4])].copy()


def _limits(window: Words) -> Words:
    first = registers.LIMITS_OFFSET // 4
    return window[first : first + registers.N_LIMITS].copy()


# ---- what is said -------------------------------------------------------------------------------


def _say(one: Program, result: ProgramCheck, wiring: BoardSpec, brief: bool) -> None:
    if brief:
        verdict = "refused" if result.violations else "passes"
        click.echo(f"{one.name}: {result.total_s:.6g} s, {result.pulse_count} pulses: {verdict}")
    else:
        _say_whole(one, result, wiring)
    for violation in result.violations:
        click.echo(f"REFUSED {violation}")
    if result.more:
        click.echo(f"and {result.more} more")


def _say_whole(one: Program, result: ProgramCheck, wiring: BoardSpec) -> None:
    click.echo(f"{'word':>5} {'time/us':>10}  instruction")
    try:
        for line in Listing(one.words, wiring, result).lines():
            click.echo(line)
    except InputError as error:
        click.echo(f"no listing: {error}")
    click.echo("")
    for what, how_much in budgets(result):
        click.echo(f"{what:<24} {how_much}")
    click.echo("")


def _values(one: Program, result: ProgramCheck) -> dict[str, Any]:
    return {
        "program": one.name,
        "passed": result.passed,
        "violations": [
            {
                "rule": item.rule,
                "word": item.word,
                "instruction": item.instruction,
                "subject": item.subject,
                "value": None if np.isnan(item.value) else item.value,
                "limit": None if np.isnan(item.limit) else item.limit,
                "unit": item.unit,
                "at_s": item.at_s,
                "text": item.text,
            }
            for item in result.violations
        ],
        "more_violations": result.more,
        "total_s": result.total_s,
        "results": result.results,
        "pulses": result.pulse_count,
        "cell_pulses": result.pulses,
        "cell_energy_j": result.energy_j,
        "cell_peak_v": result.peak_v,
        "bl_peak_v": result.bl_peak_v,
        "wl_peak_v": result.wl_peak_v,
    }
