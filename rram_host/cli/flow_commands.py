"""rram demo: the main job."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from rram_host.cli.common import (
    BarObserver,
    emit,
    need_torch,
    on_a_board,
    out_option,
    seed_option,
    trace,
)


def _pm(pair: tuple[float, float], digits: int = 5) -> str:
    return f"{pair[0]:.{digits}f} ± {pair[1]:.{digits}f}"


def _print_table(rows: list[dict[str, Any]]) -> None:
    table = Table(title="observables, with errors that account for autocorrelation")
    for name in ("", "exact", "flow on the array", "dev.", "tau", "HMC", "dev.", "tau"):
        table.add_column(name, justify="right" if name else "left")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['exact']:.7f}" if row["exact"] is not None else "unknown",
            _pm(row["array"]),
            f"{row['array_sigma']:+.1f} σ",
            _pm(row["array_tau"], 2),
            _pm(row["hmc"]),
            f"{row['hmc_sigma']:+.1f} σ",
            _pm(row["hmc_tau"], 2),
        )
    Console(width=120).print(table)


def _print_quality(array: dict[str, float], software: dict[str, float] | None) -> None:
    names = {"array": array} | ({"software": software} if software else {})
    for name, q in names.items():
        click.echo(
            f"{name:<9} N {int(q['n'])}: ESS {q['ess']:.4f}, acceptance {q['acceptance']:.4f}, "
            f"std(log w) {q['std_log_w']:.3f}, longest rejection {int(q['longest_rejection'])}, "
            f"log Z {q['log_z']:.5f} ± {q['log_z_error']:.5f}"
        )


def _print_demo(results: dict[str, Any], path: Path) -> None:
    _print_quality(results["array_flow"], results["software_flow"])
    if results["exact"]:
        click.echo(f"{'exact':<9} log Z {results['exact']['log Z']:.7f}")
    _print_table(results["observables"])
    click.echo(f"run folder: {path}")


def _require(failed: int, cells: int) -> None:
    """Exit code 1 where more than one cell in a hundred did not converge."""
    if failed > 0.01 * cells:
        raise SystemExit(1)


@click.command()
@on_a_board
@out_option
@click.option("--model", default="phi4_L4", show_default=True, help="A shipped flow, or a file.")
@click.option("-n", "n", default=32_768, show_default=True, help="Configurations to draw.")
@seed_option
def demo(
    board: str,
    spec: str,
    passport: Path | None,
    as_json: bool,
    out: Path | None,
    model: str,
    n: int,
    seed: int,
) -> None:
    """The main job: a trained flow onto the array, lattice configurations out of it, exact.

    Opens and tests the board, forms the array, programs the flow's matrices by write-verify, reads
    them back, compares products, draws phi^4 configurations whose matrix products all run on the
    array, makes them exact with Metropolis-Hastings, and prints observables against exact values.
    A board without a calibration (--passport) is calibrated on the way, on random cells.
    Leaves a run folder under runs/ with data, settings, seed and pictures.

    \b
    rram demo
    rram demo --board 'sim://?preset=taox_180nm&seed=3' --out runs/seed3
    """
    need_torch()
    from rram_host.experiments import demo as job
    from rram_host.experiments.sample_lattice import SamplePlan

    plan = job.DemoPlan(model, spec, passport, SamplePlan(n=n, seed=seed), trace=trace())
    folder = click.get_current_context().with_resource(job.folder_for(board, plan, out))
    with closing(BarObserver(as_json)) as observer:
        results = job.run(board, plan, observer, folder)
    emit(as_json, {"folder": folder.path, **results})
    if not as_json:
        _print_demo(results, folder.path)
    _require(len(results["failed_cells"]), results["cells"])
