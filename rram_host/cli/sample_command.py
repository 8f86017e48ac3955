"""rram sample: configurations from a flow, exact, recorded, beside a tuned sampler."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rram_host.cli.common import (
    DEFAULT_BOARD,
    BarObserver,
    emit,
    json_option,
    left_out_cells,
    need_torch,
    open_board,
    refuse_record,
    report_error,
    say,
    say_left_out,
    tell_of_emulation,
    trace,
)
from rram_host.cli.experiment_command import finishing_first, fresh_run_file
from rram_host.cli.sample_options import sample_options
from rram_host.cli.sample_table import print_sample
from rram_host.errors import InputError

if TYPE_CHECKING:
    from firmware_bridge.board_spec import BoardSpec
    from rram_host.experiments.deploy_flow import Deployed
    from rram_host.experiments.sampling.on_boards import Job
    from rram_host.experiments.sampling.sample import Sample
    from rram_host.experiments.steps import Steps
    from rram_host.records.run_file import RunFile
    from rram_host.session import Board

# Fields of actions, and their options.
COUPLINGS = ("lam", "m2", "g", "m_over_g")


@click.command()
@sample_options
@json_option
def sample(**given: Any) -> None:
    """Draw configurations with a flow, in software or on arrays, and make them exact.

    Proposals, log q, log p, accepted flags, observables and the seed of every batch go into one
    run file, batch by batch: a killed run keeps every committed batch and can be resumed; in
    software, and however many processes draw, it ends with the same numbers, bit for bit. Prints
    ESS with its N, acceptance, log Z, and observables with errors and autocorrelation times beside
    exact or reference values and a tuned sampler's, and effective samples a second of both.

    A board without a calibration (--passport) is calibrated on the way, on random cells.

    \b
    rram sample --software -n 200000 --processes 2 --out phi4.h5
    rram sample --resume phi4.h5
    rram sample --model phi4_L4 --board 'sim://?seed=7' -n 8192 --json
    rram sample --software --lam 6 -n 32768        reweights a model of another lambda
    """
    need_torch()
    asked = _asked(given)
    found = _Found()
    try:
        with closing(BarObserver(given["as_json"])) as observer, finishing_first() as should_stop:
            _work(asked, observer, should_stop, found)
    except (KeyboardInterrupt, SystemExit):
        _how_to_go_on(asked.path)
        raise
    _tell(asked, found)


# ---- what was asked -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Asked:
    """The command's arguments, and those of the run that it goes on with."""

    given: dict[str, Any]
    job: Job
    path: Path
    spec: BoardSpec | str


def _asked(given: dict[str, Any]) -> _Asked:
    """Refuses all that can be refused before a board is opened."""
    from rram_host.experiments.sampling.on_boards import Job
    from rram_host.experiments.sampling.plan import DrawPlan
    from rram_host.experiments.sampling.target import check_lattice, target_action
    from rram_host.flows import checkpoint

    resume, path = given["resume"] is not None, _path(given)
    spec: BoardSpec | str = given["spec"]
    if resume and path:
        given, spec = _as_it_was(given, path)
    if given["software"]:
        _check_software(given)
    plan = DrawPlan(given["n"], given["batch"], given["seed"])
    _check_processes(given)
    loaded = checkpoint.load(checkpoint.resolve(given["model"]))
    check_lattice(loaded, _lattice(given["lattice"]))
    changes = {name: given[name] for name in COUPLINGS if given[name] is not None}
    action = target_action(loaded, changes, given["force"] or resume)
    path = path or fresh_run_file("sample")  # makes runs/, where all else is right
    if not resume:
        _check_place(path)
    job = Job(
        loaded,
        str(given["model"]),
        action,
        plan,
        path,
        resume,
        given["force"],
        given["processes"],
    )
    return _Asked(given, job, path, spec)


def _check_place(path: Path) -> None:
    from rram_host.records.place import check_place

    check_place(path)


def _path(given: dict[str, Any]) -> Path | None:
    """The file that was named; None for a new one of a fresh name."""
    resume, out = given["resume"], given["out"]
    if resume and out:
        raise InputError("--out FILE --resume, or --resume FILE: the run goes on in its own file")
    if resume == "" and not out:
        raise InputError("--resume: which run? --resume FILE.h5, or --out FILE.h5 --resume")
    return Path(resume) if resume else given["out"]


def _as_it_was(given: dict[str, Any], path: Path) -> tuple[dict[str, Any], BoardSpec | str]:
    """Arguments of the run, where nothing else was asked for."""
    from firmware_bridge.board_spec import BoardSpec
    from rram_host.experiments.sampling.load import check_kind
    from rram_host.experiments.sampling.recording import SOFTWARE
    from rram_host.records.rebuild import rebuilt
    from rram_host.records.run_file import RunFile

    run = RunFile(path)
    check_kind(run)
    head, then = run.header, _arguments(run)
    if not (_said("software") or _said("boards")):
        then["software"] = head.board == SOFTWARE
        then["boards"] = () if then["software"] else tuple(head.board.split(", "))
    if head.passport and not _said("passports"):
        then["passports"] = tuple(Path(name) for name in head.passport.split(", "))
    spec = given["spec"]
    if head.spec and not _said("spec"):
        spec = rebuilt(BoardSpec, head.spec)
    return {**given, **{key: v for key, v in then.items() if not _said(key)}}, spec


def _arguments(run: RunFile) -> dict[str, Any]:
    plan = run.header.plan
    found = {name: plan[name] for name in ("model", "n", "batch", "seed")}
    found |= {name: plan["action"][name] for name in COUPLINGS if name in plan["action"]}
    names = ("lora_steps", "scheme", "reprogram")
    return found | {name: plan["deploy"][name] for name in names if plan["deploy"]}


def _said(name: str) -> bool:
    context = click.get_current_context()
    return context.get_parameter_source(name) is not ParameterSource.DEFAULT


def _check_software(given: dict[str, Any]) -> None:
    if given["boards"]:
        raise InputError("--software and --board exclude each other")
    refuse_record("with --software")


def _check_processes(given: dict[str, Any]) -> None:
    if given["processes"] < 1:
        raise InputError(f"--processes {given['processes']}: at least 1 draws")
    if given["processes"] > 1 and not given["software"]:
        raise InputError("--processes goes with --software: one process drives all boards")


def _lattice(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not found:
        raise InputError(f"--L {text}: a length, or two, as in 12 or 6x12")
    return int(found[1]), int(found[2] or found[1])


# ---- work ---------------------------------------------------------------------------------------


@dataclass
class _Found:
    """What came out."""

    sample: Sample | None = None
    deployed: Deployed | None = None
    left_out: tuple[dict[str, Any], ...] = ()
    board_time_s: float = 0.0
    draw_board_s: float = 0.0
    results: dict[str, Any] | None = None
    stopped: bool = False


def _work(
    asked: _Asked, observer: BarObserver, should_stop: Callable[[], bool], found: _Found
) -> None:
    from rram_host.experiments.steps import Steps

    steps = Steps(observer)
    job = replace(asked.job, should_stop=should_stop)
    if asked.given["software"]:
        found.sample = job.in_software(steps)
    else:
        _on_boards(asked, job, steps, found)
    found.stopped = found.sample is not None and found.sample.n < job.plan.n
    if not found.stopped:
        _compare(asked, steps, found)


def _on_boards(asked: _Asked, job: Job, steps: Steps, found: _Found) -> None:
    from rram_host.experiments.deploy_flow import (
        DeployPlan,
        arrays_needed,
        board_time_s,
        board_urls,
    )

    given = asked.given
    deploy = DeployPlan(
        seed=job.plan.seed,
        scheme=given["scheme"],
        lora_steps=given["lora_steps"],
        reprogram=given["reprogram"],
    )
    needed = 1 if deploy.reprogram else arrays_needed(job.loaded.flow, deploy.scheme)
    urls = board_urls(given["boards"] or (DEFAULT_BOARD,), needed)
    tell_of_emulation(urls)
    with ExitStack() as stack:
        boards = _opened(stack, urls, asked)
        steps.board_time_s = lambda: board_time_s(boards)
        try:
            found.sample, found.deployed = job.on_boards(boards, deploy, steps)
        finally:
            found.left_out = tuple(cell for board in boards for cell in left_out_cells(board))
        found.board_time_s = board_time_s(boards)
        found.draw_board_s = steps.done[-1].board_s
    steps.board_time_s = None


def _opened(stack: ExitStack, urls: Sequence[str], asked: _Asked) -> list[Board]:
    passports = asked.given["passports"]
    if passports and len(passports) != len(urls):
        raise InputError(f"{len(passports)} passports given for {len(urls)} boards")
    if trace() is not None and len(urls) > 1:
        raise InputError(f"--record: the flow takes {len(urls)} boards, one can be recorded")
    books = passports or (None,) * len(urls)
    return [
        stack.enter_context(open_board(url, asked.spec, passport=book))
        for url, book in zip(urls, books, strict=True)
    ]


def _compare(asked: _Asked, steps: Steps, found: _Found) -> None:
    """The tuned sampler beside it, and everything together."""
    from rram_host.experiments.sampling.baseline import run_baseline, usual
    from rram_host.experiments.sampling.report import results

    if found.sample is None:
        return
    job, baseline = asked.job, None
    name = asked.given["baseline"] or usual(job.action)
    if name != "none":
        with steps(f"{name} beside it") as step:
            shape = found.sample.shape
            baseline = run_baseline(name, job.action, shape, job.plan.seed, step.advance)
            step.note = f"{baseline.n} configurations of tuned chains"
    with steps("errors and autocorrelation"):
        found.results = results(found.sample, baseline)


# ---- what came out ------------------------------------------------------------------------------


def _tell(asked: _Asked, found: _Found) -> None:
    as_json, path = asked.given["as_json"], asked.path
    if found.stopped or found.results is None or found.sample is None:
        rows = found.sample.n if found.sample else 0
        emit(as_json, {"file": path, "status": "interrupted", "n": rows})
        _how_to_go_on(path)
        raise SystemExit(130)
    picture = _picture(asked, found.results) if asked.given["picture"] else None
    array = found.deployed.values() if found.deployed else None
    values = {
        "file": path,
        "picture": picture,
        "status": "done",
        **found.results,
        "exact_density": asked.job.loaded.flow.exact_density,
        "array": array,
        "board_time_s": found.board_time_s,
        "draw_board_s": found.draw_board_s,
        "left_out_cells": list(found.left_out),
    }
    emit(as_json, values)
    if not as_json:
        print_sample(values)
        say_left_out(False, values["left_out_cells"])
    say(as_json, f"written: {path}" + (f", {picture}" if picture else ""))
    if array and len(array["failed_cells"]) > 0.01 * array["cells"]:
        raise SystemExit(1)  # more than one cell in a hundred did not converge


def _picture(asked: _Asked, results: dict[str, Any]) -> Path:
    from rram_host.experiments.sampling import shown
    from rram_host.records.run_file import RunFile

    path = asked.path.with_suffix(".png")
    shown.save(path, RunFile(asked.path), results["observables"])
    return path


def _how_to_go_on(path: Path) -> None:
    if path.exists():
        report_error(f"{path} can go on: rram sample --resume {path}")
