"""Commands about the bench itself: what jobs cost on a board."""

from __future__ import annotations

from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from firmware_bridge import board_spec
from rram_host.cli.common import emit, json_option, spec_option
from rram_host.experiments import cost as costing
from rram_host.units import seconds

_WIDTH = 120


@click.command()
@spec_option
@json_option
@click.option(
    "--vectors", default=4096, show_default=True, metavar="N", help="Size of the batch of products."
)
def cost(spec: str, as_json: bool, vectors: int) -> None:
    """Say what jobs take on a board, by phase, beside the physical bound. Needs no board.

    The bound is what datasheets leave for the same vectors and pulses: DAC words at 50 MHz on all
    chips at once, settling, conversions of 20 µs. A product alone also opens gates and switches and
    closes them again; a calibrated batch begins with zero-input vectors. All of it is time of this
    board, not of an integrated macro.

    \b
    rram cost
    rram cost --spec myboard.toml --vectors 256 --json
    """
    board = board_spec.load(spec)
    jobs = costing.jobs(board, vectors)
    converters = costing.by_converters(board)
    rows = [{"adcs": count, **_speed(job)} for count, job in converters.items()]
    values = {"board": board.name, "adcs": board.adcs, "vectors": vectors}
    emit(as_json, {**values, "jobs": [job.row() for job in jobs], "by_adcs": rows})
    if not as_json:
        _print_jobs(jobs, board)
        _print_converters(rows, board)


def _speed(job: costing.JobCost) -> dict[str, Any]:
    row = {key: value for key, value in job.row().items() if key in ("total_s", "bound_s", "ratio")}
    return {**row, "products_per_s": 1 / job.cost.total_s}


def _print_jobs(jobs: list[costing.JobCost], board: board_spec.BoardSpec) -> None:
    phases = list(jobs[0].cost.phases_s())
    title = f"board time of jobs: {board.name}, {board.adcs} ADCs"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column("job")
    for name in (*phases, "total", "bound", "ratio"):
        table.add_column(name.replace("_", " ").replace("dac", "DAC"), justify="right")
    for job in jobs:
        times = (*job.cost.phases_s().values(), job.cost.total_s, job.bound.total_s)
        shown = [seconds(time) if time else "-" for time in times]
        table.add_row(job.name, *shown, f"{job.ratio:.3f}")
    Console(width=_WIDTH).print(table)


def _print_converters(rows: list[dict[str, Any]], board: board_spec.BoardSpec) -> None:
    title = f"one {board.cols}-input product of {board.rows} rows, in a batch"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    for name in ("ADCs", "time", "bound", "ratio", "products a second"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            str(row["adcs"]),
            seconds(row["total_s"]),
            seconds(row["bound_s"]),
            f"{row['ratio']:.3f}",
            f"{row['products_per_s']:.0f}",
        )
    Console(width=_WIDTH).print(table)
