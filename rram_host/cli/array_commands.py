"""Commands that need no torch: info, read, program, vmm."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from rram_host.array.policies import Policy, described
from rram_host.array.reports import ProgramReport
from rram_host.cli.common import (
    BarObserver,
    emit,
    left_out_cells,
    load_array,
    on_a_board,
    open_board,
    out_option,
    progress_bar,
    run_folder,
    say,
    say_left_out,
)
from rram_host.cli.policy_options import policy_options
from rram_host.errors import ReadOnlyLinkError
from rram_host.experiments import multiply
from rram_host.experiments.steps import Steps
from rram_host.mapping.schemes import SCHEMES
from rram_host.records import plots
from rram_host.session import glance
from rram_host.units import microsiemens, seconds

_FILE = click.Path(path_type=Path)
# Share of cells that must converge for a job to count as done.
REQUIRED_SHARE = 0.99


@click.command()
@on_a_board
def info(board: str, spec: str, passport: Path | None, as_json: bool) -> None:
    """Say who is there: identity, contract, geometry, limits; then check the converters.

    \b
    rram info
    rram info --board serial:///dev/ttyUSB0?baud=921600

    While another host writes to the board the converters are left alone; exit code 1 then.
    """
    try:
        with open_board(board, spec, passport=passport) as opened:
            values = opened.info()
            test = opened.self_test()
        faults = list(test.faults)
    except ReadOnlyLinkError as error:
        values, faults = glance(board, spec), [f"not checked: {error}"]
    passed = not faults
    values |= {"self_test_passed": passed, "self_test_faults": faults}
    emit(as_json, values)
    for key, value in values.items():
        say(as_json, f"{key:<28} {value}")
    if not passed:
        raise SystemExit(1)


@click.command()
@on_a_board
@out_option
@click.option("--average", default=4, show_default=True, help="Reads averaged per cell.")
def read(
    board: str, spec: str, passport: Path | None, as_json: bool, out: Path | None, average: int
) -> None:
    """Read the conductance of every cell.

    \b
    rram read --board 'sim://?seed=7&state=chip.npz' --out runs/read1
    writes conductances.npy (siemens, rows x columns) and conductances.png
    """
    settings = {"board": board, "spec": spec, "passport": passport, "average": average}
    folder = run_folder("read", out, settings)
    with open_board(board, spec, passport=passport) as opened:
        g = opened.array.read(average)
        board_time_s = opened.board_time_s
    values = {
        "shape": list(g.shape),
        "mean_siemens": float(g.mean()),
        "min_siemens": float(g.min()),
        "max_siemens": float(g.max()),
        "board_time_s": board_time_s,
        "conductances_siemens": g,
    }
    if folder:
        np.save(folder.file("conductances.npy"), g)
        plots.conductance_map(folder.file("conductances.png"), g)
        folder.note(results={k: v for k, v in values.items() if k != "conductances_siemens"})
    emit(as_json, values)
    say(as_json, f"{g.shape[0]} x {g.shape[1]} cells in {seconds(board_time_s)} of board time")
    say(
        as_json,
        f"mean {microsiemens(float(g.mean()))}, from {microsiemens(float(g.min()))} to "
        f"{microsiemens(float(g.max()))}",
    )


def _report_values(report: ProgramReport, left_out: list[dict[str, Any]]) -> dict[str, Any]:
    error = report.error_siemens[report.asked]
    return {
        "cells": int(report.asked.sum()),
        "converged": int(report.converged.sum()),
        "share_converged": float(report.converged[report.asked].mean()) if error.size else 1.0,
        "policy": report.policy,
        "energy_j": float(report.energy_j.sum()),
        "accept_siemens": report.accept_siemens,
        "share_within_1p5_microsiemens": report.share_within(1.5e-6),
        "error_std_siemens": float(error.std()) if error.size else 0.0,
        "mean_pulses": report.mean_pulses,
        "max_pulses": int(report.pulses.max()),
        "failed_cells": report.failed,
        "unformed_cells": np.argwhere(report.unformed).tolist(),
        "left_out_cells": left_out,
        "rounds": report.rounds,
        "transactions": report.transactions,
        "words": report.words,
        "board_time_s": report.board_time_s,
    }


def _say_report(as_json: bool, v: dict[str, Any]) -> None:
    say(
        as_json,
        f"{v['converged']} of {v['cells']} cells converged within "
        f"{microsiemens(v['accept_siemens'])} of their target; error std "
        f"{microsiemens(v['error_std_siemens'])}",
    )
    say(
        as_json,
        f"mean {v['mean_pulses']:.2f} pulses a cell (at most {v['max_pulses']}), {v['rounds']} "
        f"rounds, {v['transactions']} transactions of {v['words']} words, "
        f"{seconds(v['board_time_s'])} of board time, {v['energy_j'] / 1e-9:.3g} nJ in cells",
    )
    for row, col in v["failed_cells"]:
        say(as_json, f"not converged: row {row}, column {col}")
    say_left_out(as_json, v["left_out_cells"])


@click.command()
@click.argument("targets", type=_FILE)
@on_a_board
@out_option
@policy_options
@click.option(
    "--require",
    default=REQUIRED_SHARE,
    show_default=True,
    type=click.FloatRange(0.0, 1.0),
    help="Share of cells that must converge for the job to count as done (exit code 0).",
)
def program(
    targets: Path,
    board: str,
    spec: str,
    passport: Path | None,
    as_json: bool,
    out: Path | None,
    policy: Policy,
    require: float,
) -> None:
    """Write-verify cells to TARGETS, a .npy file of siemens, (rows, cols), NaN = leave alone.

    Cells that are not formed are formed first. Cells that do not converge are listed. Settings
    that a policy does not have are refused; those of multi-pass's inner policy go to it.

    \b
    python -c "import numpy as np; np.save('t.npy', np.full((32, 32), 50e-6))"
    rram program t.npy --board 'sim://?seed=7&state=chip.npz' --out runs/p1
    rram program t.npy --policy multi-pass --passes 3 --relax-wait 10
    """
    wanted = load_array(targets, "targets")
    settings = {
        "board": board,
        "spec": spec,
        "passport": passport,
        "targets": targets,
        "policy": described(policy),
    }
    folder = run_folder("program", out, settings)
    start = time.perf_counter()
    with (
        open_board(board, spec, passport=passport) as opened,
        progress_bar("cells done") as advance,
    ):
        report = opened.array.program(wanted, policy, advance)
    values = _report_values(report, left_out_cells(opened))
    values["wall_s"] = time.perf_counter() - start
    if folder:
        folder.save(
            "array",
            targets_siemens=report.targets_siemens,
            measured_siemens=report.measured_siemens,
            pulses=report.pulses,
            form_pulses=report.form_pulses,
            energy_j=report.energy_j,
            converged=report.converged,
        )
        if report.asked.any():
            path = folder.file("array.png")
            plots.programming(path, report.targets_siemens, report.measured_siemens, report.pulses)
        folder.note(results=values)
    emit(as_json, values)
    _say_report(as_json, values)
    if values["share_converged"] < require:
        raise SystemExit(1)


@click.command()
@click.argument("weights", type=_FILE)
@click.argument("inputs", type=_FILE)
@on_a_board
@out_option
@policy_options
@click.option(
    "--scheme",
    "scheme_name",
    default="single",
    show_default=True,
    type=click.Choice(sorted(SCHEMES)),
    help="One cell a weight against a 50 µS reference, or two cells driven with opposite signs.",
)
def vmm(
    weights: Path,
    inputs: Path,
    board: str,
    spec: str,
    passport: Path | None,
    as_json: bool,
    out: Path | None,
    policy: Policy,
    scheme_name: str,
) -> None:
    """Program WEIGHTS (rows, cols), then multiply INPUTS (n, cols) with them: y = W x.

    Both are .npy files. With --out, DIR/outputs.npy holds y, (n, rows).

    \b
    rram vmm W.npy X.npy --board 'sim://?seed=7' --out runs/v1
    """
    arrays = load_array(weights, "weights"), load_array(inputs, "inputs")
    multiply.check(*arrays)
    plan = multiply.MultiplyPlan(scheme_name, policy)
    where = {"board": board, "spec": spec, "passport": passport}
    folder = run_folder("vmm", out, {**where, "weights": weights, "inputs": inputs, **asdict(plan)})
    with (
        open_board(board, spec, passport=passport) as opened,
        closing(BarObserver(as_json)) as observer,
    ):
        steps = Steps(observer, lambda: opened.board_time_s)
        result = multiply.run(opened, *arrays, plan, steps)
    programming = _report_values(result.report, left_out_cells(opened))
    values = {**result.values, "programming": programming, "steps": steps.rows()}
    if folder:
        np.save(folder.file("outputs.npy"), result.outputs)
        title = f"{len(result.outputs)} products, y = W x"
        plots.products(folder.file("products.png"), result.wanted, result.outputs, title)
        folder.note(results=values)
    emit(as_json, values)
    _say_report(as_json, values["programming"])
    say(
        as_json,
        f"{values['products']} products: rms error {100 * values['relative_rms_error']:.2f} % of "
        "rms output against W, "
        f"{100 * values['relative_rms_error_of_read_back_weights']:.2f} % against W as read back",
    )
    if values["programming"]["share_converged"] < REQUIRED_SHARE:
        raise SystemExit(1)
