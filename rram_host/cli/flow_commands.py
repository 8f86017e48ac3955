"""Commands that need torch: demo, sample, train."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from rram_host.cli.common import (
    DEFAULT_BOARD,
    BarObserver,
    emit,
    json_option,
    left_out_cells,
    need_torch,
    on_a_board,
    open_board,
    out_option,
    passport_option,
    progress_bar,
    record_option,
    refuse_record,
    run_folder,
    say,
    say_left_out,
    seed_option,
    trace,
)
from rram_host.errors import InputError

if TYPE_CHECKING:
    from rram_host.flows.training import TrainLog


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
    A board without a calibration (--passport) is calibrated on the way, and programmed again.
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


@click.command()
@on_a_board
@out_option
@click.option("--model", default="phi4_L4", show_default=True, help="A shipped flow, or a file.")
@click.option("-n", "n", default=32_768, show_default=True, help="Configurations to draw.")
@seed_option
@click.option("--batch", default=4096, show_default=True, help="Configurations drawn together.")
@click.option(
    "--lora-steps", default=300, show_default=True, help="Steps of LoRA compensation; 0 for none."
)
@click.option(
    "--scheme",
    default="single",
    show_default=True,
    help="single; differential needs a flow of 512 weights or fewer.",
)
def sample(
    board: str,
    spec: str,
    passport: Path | None,
    as_json: bool,
    out: Path | None,
    model: str,
    n: int,
    seed: int,
    batch: int,
    lora_steps: int,
    scheme: str,
) -> None:
    """Draw configurations with a flow on the array, and make them exact.

    A board without a calibration (--passport) is calibrated on the way, and programmed again.

    \b
    rram sample --model phi4_L4 --board 'sim://?seed=7' -n 8192 --json
    With --out, samples.npz holds phi, log_q, log_w, the chain's indices and accepted flags.
    """
    need_torch()
    from rram_host.experiments import sample_lattice as lattice
    from rram_host.experiments.steps import Steps
    from rram_host.flows import checkpoint

    plan = lattice.SamplePlan(n=n, batch=batch, seed=seed, lora_steps=lora_steps, scheme=scheme)
    path = checkpoint.resolve(model)
    loaded = checkpoint.load(path)
    where = {"board": board, "spec": spec, "passport": passport}
    folder = run_folder("sample", out, {**where, "model": path, **asdict(plan)})
    with (
        open_board(board, spec, passport=passport) as opened,
        closing(BarObserver(as_json)) as observer,
    ):
        steps = Steps(observer, lambda: opened.board_time_s)
        sampled = lattice.run(opened, loaded, plan, steps)
    draws, chain = sampled.draws, sampled.chain
    results = {**sampled.results, "left_out_cells": left_out_cells(opened)}
    if folder:
        folder.save(
            "samples",
            phi=draws.phi,
            log_q=draws.log_q,
            log_w=draws.log_w,
            chain=chain.indices,
            accepted=chain.accepted,
        )
        folder.note(results=results)
    emit(as_json, results)
    if not as_json:
        _print_sample(results)
    _require(len(results["failed_cells"]), results["cells"])


def _print_sample(results: dict[str, Any]) -> None:
    _print_quality(results, None)
    for name, found in results["observables"].items():
        click.echo(
            f"{name:<6} {found['mean']:.5f} ± {found['error']:.5f}   tau {found['tau']:.2f} ± "
            f"{found['tau_error']:.2f}"
        )
    say_left_out(False, results["left_out_cells"])


@click.command()
@json_option
@click.option("--preset", default="phi4_L4", show_default=True, help="Settings to train with.")
@click.option("--steps", type=click.IntRange(1), help="Optimiser steps; default of the preset.")
@click.option(
    "--seed", type=click.IntRange(0, 2**62), help="Seed of everything; default of the preset."
)
@click.option("--lam", type=float, help="Coupling lambda; default of the preset.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/train"),
    show_default=True,
    metavar="DIR",
    help="Where NAME.safetensors and NAME.log.csv are written.",
)
@click.option(
    "--board",
    metavar="URL",
    help=f"Also deploy the trained flow on this board and say its ESS there, e.g. {DEFAULT_BOARD}.",
)
@record_option
@passport_option
def train(
    as_json: bool,
    preset: str,
    steps: int | None,
    seed: int | None,
    lam: float | None,
    out: Path,
    board: str | None,
    passport: Path | None,
) -> None:
    """Train a flow in software; its weights are reproducible from the seed.

    \b
    rram train --preset phi4_L4 --out runs/train      about four minutes on one core
    rram sample --model runs/train/phi4_L4.safetensors
    """
    if not board:
        refuse_record("without --board")
    need_torch()
    from rram_host.flows import ship

    chosen = ship.configure(preset, steps=steps, seed=seed, lam=lam)
    total = chosen[1].steps
    with progress_bar("train") as advance:

        def show(log: TrainLog) -> None:
            advance(log.step, total, f"loss {log.loss:.4f} ESS {log.ess:.3f}")

        try:
            measured = ship.ship(preset, out, chosen, show)
        except OSError as error:
            raise InputError(f"cannot write into {out}: {error}") from None
    path = out / f"{preset}.safetensors"
    results: dict[str, Any] = {"file": path, **measured}
    if board:
        results["array"] = _on_board(path, board, passport)
    emit(as_json, results)
    if as_json:
        return
    _print_quality(
        {**measured, "n": measured["samples"]} if not board else results["array"],
        {**measured, "n": measured["samples"]} if board else None,
    )
    say(as_json, f"written: {path}")


def _on_board(path: Path, board: str, passport: Path | None) -> dict[str, Any]:
    from rram_host.experiments import sample_lattice as lattice
    from rram_host.experiments.steps import Steps
    from rram_host.flows import checkpoint

    with (
        open_board(board, passport=passport) as opened,
        closing(BarObserver(True)) as observer,
    ):
        steps = Steps(observer, lambda: opened.board_time_s)
        return lattice.run(opened, checkpoint.load(path), lattice.SamplePlan(), steps).results
