"""rram estimate: the paper's cost model, the corrected ledger and this board's time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.table import Table

from firmware_bridge import board_spec
from rram_host.cli.common import emit, json_option, need_torch, spec_option
from rram_host.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rram_host.analog.paper_model import Judged
    from rram_host.experiments.estimate import Line

_WIDTH = 120
_PREFIXED = ("J", "s")


@click.command()
@click.option(
    "--model", metavar="NAME", help="A shipped flow, or a file; default the published model."
)
@click.option(
    "--published", is_flag=True, help="The published model, phi^4 on 12 x 12 sites; the default."
)
@spec_option
@json_option
def estimate(model: str | None, published: bool, spec: str, as_json: bool) -> None:
    """Say what a configuration costs, in three ledgers that are never mixed. Needs no board.

    \b
    1  the paper's model (arXiv 2509.12812) with its own numbers: what it prints,
       what its inputs give, and the bound that they leave for each of its ratios
    2  the corrected ledger for one flow: every converter that is used, cells by
       G V^2 t, one kind of FLOP, LoRA at the GPU's price
    3  the time of this board for the same flow, by the programs that would run

    The first two are of an integrated macro that nobody has built. A ratio stands beside its bound.

    \b
    rram estimate
    rram estimate --model phi4_L4 --json
    """
    if model is not None and published:
        raise InputError("--model and --published: one flow at a time")
    if model is not None:
        need_torch()
    from rram_host.experiments import estimate as estimating

    found = estimating.estimate(estimating.workload_of(model), board_spec.load(spec))
    emit(as_json, found.values())
    if as_json:
        return
    _print_lines("1  the paper's model, its own numbers", found.paper, printed=True)
    _print_speeds(found.claims)
    _print_energies(found.claims)
    title = f"one configuration of {found.work.name} ({found.work.source})"
    _print_lines(f"2  corrected ledger: {title}", found.corrected)
    _print_lines(f"3  time of this board: {title}", found.board)


def _print_lines(title: str, lines: Sequence[Line], printed: bool = False) -> None:
    table = _table(title)
    table.add_column("")
    table.add_column("value", justify="right", no_wrap=True)
    if printed:
        table.add_column("printed", justify="right", no_wrap=True)
    table.add_column("from")
    table.add_column("remark")
    for line in lines:
        row = [line.item, _shown(line.value, line.unit)]
        if printed:
            row.append("" if line.printed is None else _shown(line.printed, line.unit))
        table.add_row(*row, line.source, line.remark)
    _console().print(table)


def _print_speeds(claims: Sequence[Judged]) -> None:
    table = _table("1  printed speed-ups, and what the printed shares and 40.9 at equal area give")
    for name in ("", "L", "MAC share", "printed", "in turns", "bound", "remark"):
        table.add_column(name, justify="left" if name in ("", "remark") else "right")
    for found in claims:
        claim = found.claim
        table.add_row(
            claim.theory,
            str(claim.length),
            f"{100 * claim.mac_share:.1f} %",
            f"{claim.speed_up:.1f}",
            f"{found.speed_serial:.1f}",
            f"{found.speed_bound:.1f}",
            found.speed_verdict,
        )
    table.caption = (
        "In turns: 1 / ((1 - s) + s / 40.9); bound: array and GPU busy at once. What is printed is "
        "about half of the first everywhere; nothing printed says why. The abstract has 17.0 for "
        "17.3."
    )
    _console().print(table)


def _print_energies(claims: Sequence[Judged]) -> None:
    table = _table("1  printed energy ratios, GPU over array with GPU, and what the inputs give")
    for name in ("", "L", "cut", "ratio", "bound 2 fJ", "bound 20 fJ", "456 fJ", "implied a MAC"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    table.add_column("remark")
    for found in claims:
        claim = found.claim
        table.add_row(
            claim.theory,
            str(claim.length),
            f"{100 * claim.energy_cut:.1f} %",
            f"{claim.energy_ratio:.1f}",
            f"{found.energy_bound:.1f}",
            f"{found.energy_bound_by_ohm:.1f}",
            f"{found.energy_with_converters:.2f}",
            _shown(found.implied_mac_j, "J", 3),
            found.energy_verdict,
        )
    table.caption = (
        "Bounds: cells alone, as printed and by G V^2 t, converters for nothing. 456 fJ: with the "
        "printed converters on full tiles. Implied: what a MAC on the array may cost for the ratio."
    )
    _console().print(table)


def _shown(value: float, unit: str, digits: int = 4) -> str:
    from rram_host.experiments.estimate import in_prefix

    if unit in _PREFIXED:
        return in_prefix(value, unit, digits)
    number = f"{value:.0f}" if value == int(value) and abs(value) < 1e9 else f"{value:.{digits}g}"
    return number if unit == "1" else f"{number} {unit}"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD)


def _console() -> Console:
    return Console(width=_WIDTH, highlight=False, markup=False)
