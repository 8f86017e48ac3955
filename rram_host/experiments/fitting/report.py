"""Fits of several run files, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rram_host.errors import InputError
from rram_host.experiments.fitting.estimate import Estimate, Residual, combined, some
from rram_host.experiments.fitting.iv_fit import IvFit, fit_iv
from rram_host.experiments.fitting.population import ENOUGH_CELLS
from rram_host.experiments.fitting.readings import Bench
from rram_host.experiments.fitting.retention_fit import RetentionFit, fit_retention
from rram_host.experiments.fitting.set_curve_fit import SetCurveFit, fit_set_curve
from rram_host.experiments.fitting.staircases import IvRun
from rram_host.experiments.iv import IvPlan
from rram_host.records.rebuild import rebuilt
from rram_host.records.run_file import RunFile
from rram_host.units import MICRO

KINDS = ("iv", "set-curve", "retention")
F = TypeVar("F", SetCurveFit, RetentionFit)


@dataclass(frozen=True)
class FitReport:
    """What runs say together.

    Attributes:
        estimates: every parameter once.
        residuals: name of run, or of runs of I-V, and how far its data are from the law.
        iv: of all runs of I-V together; None without any.
        set_curves, retentions: by name of run.
        notes: what could not be told, and why.
        boards: of the runs, in their order.
    """

    estimates: list[Estimate]
    residuals: list[tuple[str, Residual]]
    iv: IvFit | None
    set_curves: dict[str, SetCurveFit]
    retentions: dict[str, RetentionFit]
    notes: list[str]
    boards: list[str]


def fit_files(paths: Sequence[Path]) -> FitReport:
    """Fit whatever the files hold of I-V, set curves and retention; other runs are left out.

    Raises:
        InputError: no files, a file that is no run, no run of these experiments among them, one
            without records, or with too few of them.
    """
    every = _opened(paths)
    runs = {name: run for name, run in every.items() if run.header.experiment in KINDS}
    left_out = {name: run for name, run in every.items() if name not in runs}
    if not runs:
        name, run = next(iter(left_out.items()))
        raise InputError(
            f"{name} holds a run of {run.header.experiment}; fits are of {', '.join(KINDS)}"
        )
    of_iv, of_curves, of_retention = (
        {name: run for name, run in runs.items() if run.header.experiment == kind} for kind in KINDS
    )
    iv = fit_iv([_iv_run(name, run) for name, run in of_iv.items()]) if of_iv else None
    read = iv.read_noise_siemens if iv else 0.0
    curves = {
        name: fit_set_curve(run.data(), Bench.of(run.header), name, read)
        for name, run in of_curves.items()
    }
    kept = {name: fit_retention(run.data(), name) for name, run in of_retention.items()}
    fits: dict[str, IvFit | SetCurveFit | RetentionFit] = {**curves, **kept}
    if iv:
        fits = {", ".join(of_iv): iv, **fits}
    parts = (iv.estimates if iv else [], _by_chip(of_curves, curves), _by_chip(of_retention, kept))
    return FitReport(
        estimates=combined([item for part in parts for item in part]),
        residuals=[(name, residual) for name, fit in fits.items() for residual in fit.residuals],
        iv=iv,
        set_curves=curves,
        retentions=kept,
        notes=[
            *_notes(iv, curves, kept),
            *(f"left out: {name}, of {run.header.experiment}" for name, run in left_out.items()),
        ],
        boards=[run.header.board for run in runs.values()],
    )


def _opened(paths: Sequence[Path]) -> dict[str, RunFile]:
    """Runs by name: that of the file, or its path where two files have the same name."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("a run file is named twice")
    if not paths:
        raise InputError(f"no run files: at least one of {', '.join(KINDS)} is needed")
    names = [path.name for path in paths]
    found = {}
    for path in paths:
        run = RunFile(path)
        if run.header.experiment in KINDS and not run.state.rows:
            raise InputError(f"{path} has no records: {run.state.text}")
        found[path.name if names.count(path.name) == 1 else str(path)] = run
    return found


def _chip(run: RunFile) -> str:
    return run.header.chip or run.header.board


def _iv_run(name: str, run: RunFile) -> IvRun:
    plan = rebuilt(IvPlan, run.header.plan)
    return IvRun(name, _chip(run), plan, run.data(), Bench.of(run.header))


def _by_chip(runs: Mapping[str, RunFile], fits: Mapping[str, F]) -> list[Estimate]:
    """Estimates of one kind of run: those of a chip together, since their cells are the same."""
    chips = {_chip(run) for run in runs.values()}
    return [
        item
        for chip in sorted(chips)
        for item in combined(
            [e for name, fit in fits.items() if _chip(runs[name]) == chip for e in fit.estimates],
            same_cells=True,
        )
    ]


def _notes(
    iv: IvFit | None, curves: Mapping[str, SetCurveFit], kept: Mapping[str, RetentionFit]
) -> list[str]:
    notes = []
    if iv and iv.top_siemens is None:
        notes.append(
            "reset_v and reset_top_siemens are not told apart: no cell was SET above what the "
            f"weakest RESET leaves. Repeat rram iv with a higher --compliance. Lines are at "
            f"{iv.anchor_siemens / MICRO:.4g} µS for {iv.reset_v.mean[0]:.4g} V on average"
        )
    if iv and iv.set_v.cells < ENOUGH_CELLS:
        notes.append(
            f"I-V of {iv.set_v.cells} cells: {ENOUGH_CELLS} or more tell what cells differ by "
            "(set_spread_v, reset_spread_v)"
        )
    told = {item.name for fit in kept.values() for item in fit.estimates}
    if kept and "relax_onset_s" not in told:
        notes.append(
            "relax_onset_s is not told: it is not far above the time that programming can have "
            "taken, or above the first reading"
        )
    jumping = [name for name, fit in kept.items() if fit.jumps]
    if jumping:
        notes.append(
            f"relax_spread is not told by {some(jumping)}: the heavy tails are of jumps in time, "
            "not of cells that relax more than others. No fit tells relax_jump_share and "
            "relax_jump_decades: a --base that has them keeps them, and its relax_spread"
        )
    if iv and "read_noise" not in {item.name for item in iv.estimates}:
        notes.append(
            "read_noise is not told: too few steps of the I-V leave the cell as it is. Repeat "
            "rram iv with a lower --reset-start or more --cycles"
        )
    if any(fit.not_calibrated for fit in curves.values()):
        notes.append("readings were not calibrated (rram calibrate): errors are wider by that")
    return notes
