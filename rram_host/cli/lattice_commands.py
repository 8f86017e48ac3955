"""Commands of lattice field theory alone: hmc, check-physics. No board is opened."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from rram_host.cli.common import (
    emit,
    json_option,
    need_torch,
    out_option,
    progress_bar,
    run_folder,
    say,
    seed_option,
)
from rram_host.cli.file_names import FolderName
from rram_host.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rram_host.experiments.lattice_run import LatticeRun
    from rram_host.experiments.physics_check import Comparison, Report
    from rram_host.lattice.actions import Action

# Functions of averages, as "derived" has them; xi is the correlation length, in lattice units.
_DERIVED = {
    "U4": "Binder cumulant 1 - <M^4> / (3 <M^2>^2): 0 Gaussian, 2/3 two peaks",
    "xi_2nd": "correlation length xi, from the second moment of G(t)",
    "xi_cosh": "xi as 1 / gap",
    "gap": "mass gap m: cosh[m (t - L/2)] fitted to G(t)",
    "meff": "effective mass at one t near L/6, to compare with gap",
    "xi_eq27": "xi by eq. 27 of the paper, 1 / mean of meff: unusable for L >> xi",
    "condensate": "chiral condensate of a graphene wire",
}
_NAMES = {"phi4": {"m2": -4.0, "lam": 5.5}, "graphene": {"g": 1.0, "m_over_g": 0.2}}


def _explained(names: Iterable[str]) -> list[str]:
    """A line for each of the derived quantities."""
    return [f"{name:<10} {text}" for name, text in _DERIVED.items() if name in names]


@click.command(epilog="\b\n" + "\n".join(["In the table's second part:", *_explained(_DERIVED)]))
@click.option("--action", type=click.Choice(list(_NAMES)), default="phi4", show_default=True)
@click.option(
    "--L", "length", type=click.IntRange(1), default=12, show_default=True, help="Lattice length."
)
@click.option("--L1", "length1", type=click.IntRange(1), help="Other length; --L without it.")
@click.option("--m2", type=float, help="phi4: bare mass squared. [default: -4]")
@click.option("--lam", type=float, help="phi4: quartic coupling. [default: 5.5]")
@click.option("--g", type=float, help="graphene: coupling. [default: 1]")
@click.option("--m-over-g", type=float, help="graphene: fermion mass over g. [default: 0.2]")
@click.option(
    "--mass-term",
    type=click.Choice(["euclidean", "printed"]),
    help="graphene: sign of the mass term; the printed one is refused, with the reason.",
)
@click.option(
    "--sampler",
    type=click.Choice(["hmc", "fourier-hmc", "metropolis", "wolff"]),
    default="hmc",
    show_default=True,
)
@click.option(
    "-n", "n", type=click.IntRange(1), default=20_000, show_default=True, help="Configurations."
)
@click.option("--chains", type=click.IntRange(1), default=64, show_default=True)
@click.option("--thermalisation", type=click.IntRange(0), help="Updates dropped; tuned without it.")
@click.option("--keep-every", type=click.IntRange(1), help="Updates between kept configurations.")
@seed_option
@click.option(
    "--out",
    type=FolderName(but=".npz"),
    metavar="PATH",
    help="FILE.npz for configurations and history, or a folder for these, settings and a picture.",
)
@json_option
def hmc(
    action: str,
    length: int,
    length1: int | None,
    m2: float | None,
    lam: float | None,
    g: float | None,
    m_over_g: float | None,
    mass_term: str | None,
    sampler: str,
    n: int,
    chains: int,
    thermalisation: int | None,
    keep_every: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Sample a lattice field theory without a flow: tuned HMC, Metropolis or Wolff clusters.

    Prints observables with errors, autocorrelation times tau = 1/2 + sum rho in configurations, and
    effective samples a second, n / (2 tau) over the whole run's time.

    \b
    rram hmc --L 12 --lam 5 -n 100000
    rram hmc --L 8 --L1 16 --lam 5.5 --sampler wolff --out runs/wolff
    rram hmc --action graphene --L 12 --g 0.5 --m-over-g 0.2 --sampler fourier-hmc --out wire.npz
    """
    need_torch()
    from rram_host.experiments import lattice_run as job

    given = {"m2": m2, "lam": lam, "g": g, "m_over_g": m_over_g, "mass_term": mass_term}
    plan = job.LatticePlan(
        _action(action, given),
        (length, length1 or length),
        sampler,
        n,
        chains,
        thermalisation,
        keep_every,
        seed,
    )
    to_file = out is not None and out.suffix == ".npz"
    if to_file and out is not None:
        _check_file(out)
    folder = None if to_file else run_folder("hmc", out, asdict(plan))
    with progress_bar(sampler) as advance:
        made = job.run(plan, advance)
    arrays = {"phi": made.sampled.phi, **made.history}
    if folder:
        folder.save("samples", **arrays)
        folder.note(results=made.results)
        job.draw(folder.file("history.png"), made)
    elif out is not None:
        _save(out, arrays)
    emit(as_json, made.results)
    if not as_json:
        _print_run(made)
        say(False, f"written: {out}" if out else "")


def _action(name: str, given: dict[str, Any]) -> Action:
    from rram_host.lattice.actions import action_of

    known = {*_NAMES[name], *({"mass_term"} if name == "graphene" else set())}
    fields = {key: value for key, value in given.items() if value is not None}
    for key in fields:
        if key not in known:
            option = "--" + key.replace("_", "-")
            raise InputError(f"{option} does not belong to --action {name}")
    return action_of({"name": name, **_NAMES[name], **fields})


def _check_file(path: Path) -> None:
    if path.exists():
        raise InputError(f"{path} exists, and results are not overwritten; name another file")
    if not path.absolute().parent.is_dir():
        raise InputError(f"cannot write {path}: no folder {path.parent}")


def _save(path: Path, arrays: dict[str, Any]) -> None:
    """Whole or not at all."""
    import numpy as np

    beside = path.with_name(f".{path.name}.tmp")
    try:
        with beside.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def _print_run(made: LatticeRun) -> None:
    found = made.results
    for note in found["notes"]:
        click.echo(f"note: {note}")
    click.echo(
        f"{found['n']} configurations of {found['shape'][0]} x {found['shape'][1]}, "
        f"{found['sampler']}, acceptance {found['acceptance']:.3f}, {found['wall_s']:.2f} s"
    )
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("observable", "mean", "error", "tau", "window", "effective / s"):
        table.add_column(name, justify="right" if name != "observable" else "left")
    for name, each in found["observables"].items():
        table.add_row(
            name,
            f"{each['mean']:.6f}",
            f"{each['error']:.6f}",
            f"{each['tau']:.2f} ± {each['tau_error']:.2f}",
            str(each["window"]),
            f"{each['effective_per_s']:.0f}",
        )
    table.add_section()
    for name, (value, error) in found["derived"].items():
        table.add_row(name, f"{value:.6f}", f"{error:.6f}", "", "", "")
    Console(width=100, highlight=False, markup=False).print(table)
    for line in _explained(found["derived"]):
        click.echo(line)


@click.command("check-physics")
@click.option("--quick", is_flag=True, help="A choice of cases that takes a minute.")
@seed_option
@out_option
@json_option
def check_physics(quick: bool, seed: int, out: Path | None, as_json: bool) -> None:
    """Hold every sampler against exact values, references, and the line L / xi = 4.

    Exact: 4 x 4 phi^4 by the transfer matrix at 0.2 %, small rectangular and graphene lattices, the
    free field. What is beyond 3 standard errors is measured again with a fresh seed and 4 times the
    statistics, and fails (exit code 1) only if it is beyond 3 again.

    \b
    rram check-physics --quick
    rram check-physics --out runs/physics
    """
    need_torch()
    from rram_host.experiments import physics_check as job

    folder = run_folder("check-physics", out, {"quick": quick, "seed": seed})
    with progress_bar("check") as advance:
        report = job.check_physics(quick, seed, advance)
    results = {
        "passed": not report.failed,
        "comparisons": len(report.first),
        "expected_by_luck": report.expected_by_luck,
        "beyond_at_first": len(report.again),
        "failed": len(report.failed),
        "rows": [asdict(each) for each in (*report.first, *report.again)],
    }
    if folder:
        folder.note(results=results)
    emit(as_json, results)
    if not as_json:
        _print_report(report)
    if report.failed:
        raise SystemExit(1)


def _print_report(report: Report) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("quantity", "lattice", "sampler", "from", "expected", "measured", "dev.", ""):
        table.add_column(
            name, justify="right" if name in ("expected", "measured", "dev.") else "left"
        )
    last = None
    for each in (*report.first, *report.again):
        where = (_lattice(each), each.sampler)
        if last is not None and where != last:
            table.add_section()
        last = where
        unit = "of ±" if each.source == "line" else "σ"
        verdict = "ok" if each.passed else "OFF" if each.repeated else "again"
        table.add_row(
            each.quantity,
            *where,
            each.source + (", again" if each.repeated else ""),
            _pair(*each.expected),
            _pair(*each.measured),
            f"{each.deviation:+.1f} {unit}",
            verdict,
        )
    Console(width=130, highlight=False, markup=False).print(table)
    click.echo(
        f"{len(report.first)} comparisons; {report.expected_by_luck:.1f} beyond 3 standard errors"
        f" are expected by luck, {len(report.again)} were; {len(report.failed)} of these failed"
        " again with a fresh seed and 4 times the statistics"
    )


def _lattice(each: Comparison) -> str:
    fields = " ".join(f"{k} {v:g}" for k, v in each.action.items() if isinstance(v, float))
    return f"{each.action['name']} {each.shape[0]} x {each.shape[1]} {fields}"


def _pair(value: float, error: float) -> str:
    if not error:
        return f"{value:.7g}"
    if not (math.isfinite(error) and math.isfinite(value)):
        return f"{value:.6g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"
