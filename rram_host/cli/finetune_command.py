"""rram finetune: a trained flow made to fit another action, or imperfect weights, by LoRA."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rram_host.cli.common import (
    BarObserver,
    emit,
    json_option,
    need_torch,
    open_board,
    progress_bar,
    record_option,
    refuse_record,
    report_error,
    say,
    spec_option,
    tell_of_emulation,
    trace,
)
from rram_host.cli.file_names import FileEnding
from rram_host.cli.plan_options import Several
from rram_host.cli.train_command import COUPLINGS, Lattice, action_options, say_figures
from rram_host.cli.training_run import Repeatable, TrainingRun, called_again, check_results
from rram_host.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rram_host.flows.adapt import AdaptPlan
    from rram_host.flows.checkpoint import LoadedFlow
    from rram_host.flows.protocol import Flow
    from rram_host.flows.training import TrainLog
    from rram_host.lattice.actions import Action

_NAMES = Several(click.STRING, None)


@click.command(cls=Repeatable)
@json_option
@click.argument("model")
@action_options
@click.option("--L", "lattice", type=Lattice(), help="Lattice that the model must be of.")
@click.option(
    "--errors",
    type=float,
    metavar="FRACTION",
    help="Give the dense weights Gaussian errors first, as of programming: standard deviation over "
    "full scale, e.g. 0.025 for 1.5 of 60 µS.",
)
@click.option(
    "--board",
    "boards",
    multiple=True,
    metavar="URL",
    help="Program these boards with the dense weights first, and adapt to what is read back; one "
    "emulated board with a seed stands for as many as the flow takes.",
)
@record_option
@spec_option
@click.option("--rank", type=int, help="Rank of the corrections; default those of the model.")
@click.option(
    "--attach",
    type=_NAMES,
    metavar="NAMES",
    help="Products that get a correction, e.g. w1,wt,ws; with --rank; default all.",
)
@click.option(
    "--parameters",
    type=click.Choice(["lora", "digital"]),
    default="digital",
    show_default=True,
    help="What moves: the corrections only, or all that is digital.",
)
@click.option(
    "--also",
    type=_NAMES,
    default=(),
    metavar="NAMES",
    help="With --parameters lora: further digital parameters, e.g. prior,bends.",
)
@click.option("--steps", default=200, show_default=True, help="Optimiser steps.")
@click.option("--batch", default=512, show_default=True, help="Fields drawn in each step.")
@click.option("--lr", default=1e-2, show_default=True, help="Highest learning rate.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0, 2**62), help="Seed of draws."
)
@click.option(
    "--out",
    type=FileEnding(".safetensors", "a flow"),
    metavar="FILE.safetensors",
    help="Where the adapted flow goes; default runs/finetune/MODEL.safetensors. Its state is kept "
    "beside it, as FILE.state, until it is done.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with an adaptation that was broken off, in software: the same command again.",
)
@click.option("--force", is_flag=True, help="Write over an earlier result.")
@click.option(
    "--compare",
    is_flag=True,
    help="Also train from scratch to the same ESS, runs of rising lengths; both curves go into a "
    "PNG, CSV and JSON beside the flow.",
)
def finetune(model: str, as_json: bool, **given: Any) -> None:
    """Adapt a trained flow with its dense weights as they are: to a coupling, or to their errors.

    MODEL is a shipped flow or a file. Low-rank corrections (LoRA) run beside the dense products;
    how many numbers are trained, and which share of the flow is digital, is printed.

    In software an adaptation that was broken off (Ctrl-C, kill) goes on with --resume, to the same
    weights bit for bit.

    \b
    rram finetune phi4_L4 --lam 6
    rram finetune phi4_L4 --lam 6 --rank 1 --attach wt --parameters lora --also prior
    rram finetune phi4_L4 --errors 0.025 --parameters lora --rank 2
    rram finetune phi4_L4 --board 'sim://?seed=7' --rank 1
    rram finetune phi4_L12 --lam 6 --steps 2000 --out runs/lam6.safetensors
    rram finetune phi4_L12 --lam 6 --steps 2000 --out runs/lam6.safetensors --resume
    rram finetune phi4_L4 --lam 6 --compare --out runs/lam6.safetensors
    """
    need_torch()
    asked = _asked(model, given)
    run = _run(asked, as_json)
    adapted = None if given["boards"] else _train(asked, run)
    with run.telling_how_to_go_on():
        found = _on_boards(asked, as_json) if adapted is None else _measured(asked, adapted)
        _save(asked, found)
        results = {"file": asked.out, **found.values(asked.plan)}
        if given["compare"]:
            results["comparison"] = _compare(asked)
    run.state.unlink(missing_ok=True)
    emit(as_json, results)
    if not as_json:
        _tell(asked, results)


@dataclass(frozen=True)
class _Asked:
    """What was asked, checked as far as it can be before anything runs."""

    given: dict[str, Any]
    model: str
    loaded: LoadedFlow
    base: Flow
    action: Action
    plan: AdaptPlan
    out: Path

    def beside(self, suffix: str) -> Path:
        """A file next to the flow."""
        return self.out.with_name(f"{self.out.stem}.{suffix}")


@dataclass(frozen=True)
class _Found:
    """What came out: the flow, figures by name, and log entries of this call."""

    flow: Flow
    figures: dict[str, dict[str, float]]
    log: list[TrainLog]

    def values(self, plan: AdaptPlan) -> dict[str, Any]:
        """As JSON tells of it."""
        from rram_host.flows.lora import ranks_of, shares
        from rram_host.flows.training import moving

        numbers = shares(self.flow)
        trained = sum(p.numel() for p in moving(self.flow, plan.finetune).values())
        return {
            "figures": self.figures,
            "steps": plan.finetune.steps,
            "seconds": self.log[-1].seconds if self.log else None,
            "ranks": ranks_of(self.flow),
            "numbers": asdict(numbers),
            "trained_numbers": trained,
            "lora_share": numbers.lora_share,
            "trained_share": trained / (numbers.base + trained),
            "digital_share": numbers.digital_share,
        }


def _asked(model: str, given: dict[str, Any]) -> _Asked:
    from rram_host.experiments.sampling.target import check_lattice
    from rram_host.flows import checkpoint
    from rram_host.flows.adapt import AdaptPlan, with_errors
    from rram_host.flows.training import FinetuneSettings, moving

    path = checkpoint.resolve(model)
    loaded = checkpoint.load(path)
    check_lattice(loaded, given["lattice"])
    action = _action(loaded, given)
    if given["boards"] and given["resume"]:
        raise InputError(
            "--resume and --board exclude each other: weights read back from a chip again are "
            "others, so an adaptation to them begins again (--force)"
        )
    if given["boards"] and given["errors"] is not None:
        raise InputError("--errors and --board exclude each other: a board has errors of its own")
    if action == loaded.action and given["errors"] is None and not given["boards"]:
        raise InputError("nothing to adapt to: give another coupling, --errors or --board")
    names = ("parameters", "also", "steps", "batch", "lr", "seed")
    settings = FinetuneSettings(
        **{name: given[name] for name in names},
        warmup=min(10, given["steps"] // 5),
        log_every=max(1, given["steps"] // 20),
    )
    plan = AdaptPlan(given["rank"], given["attach"], settings)
    base = loaded.flow if given["errors"] is None else with_errors(loaded.flow, given["errors"], 1)
    moving(plan.fitted(base), settings)  # refuses what cannot be trained
    out = given["out"] or Path("runs/finetune") / f"{path.stem}.safetensors"
    asked = _Asked(given, model, loaded, base, action, plan, out)
    _check_out(asked)
    return asked


def _action(loaded: LoadedFlow, given: dict[str, Any]) -> Action:
    from rram_host.lattice.actions import action_of, settings_of

    changes = {name: given[name] for name in COUPLINGS if given[name] is not None}
    settings = settings_of(loaded.action)
    strange = [name for name in changes if name not in settings]
    if strange:
        raise InputError(
            f"this flow was trained for the action {loaded.action.name!r}, which has no "
            f"{', '.join(strange)}: a flow of another action is trained from scratch (rram train)"
        )
    return action_of({**settings, **changes})


def _check_out(asked: _Asked) -> None:
    given, state = asked.given, asked.beside("state")
    suffixes = ("png", "csv", "json") if given["compare"] else ()
    results = (asked.out, *(asked.beside(suffix) for suffix in suffixes))
    resume, force, elsewhere = given["resume"], given["force"], "--out goes elsewhere"
    check_results(state, results, True, resume, force, elsewhere, not given["boards"])
    try:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        if given["force"]:
            state.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write into {asked.out.parent}: {error.strerror}") from None


def _run(asked: _Asked, as_json: bool) -> TrainingRun:
    steps, go_on = asked.plan.finetune.steps, called_again("--resume")
    return TrainingRun("finetune", steps, asked.beside("state"), go_on, as_json)


def _train(asked: _Asked, run: TrainingRun) -> tuple[Flow, list[TrainLog]]:
    """The flow adapted in software, and the log, which a resumed one continues."""
    refuse_record("without --board")
    from rram_host.flows.adapt import adapted

    log: list[TrainLog] = []

    def job(show: Callable[[TrainLog], None], over: Callable[[], bool]) -> Flow:
        def keep(entry: TrainLog) -> None:
            log.append(entry)
            show(entry)

        return adapted(
            asked.base, asked.action, asked.plan, keep, run.state, over, asked.loaded.action
        )

    return run.run(job), log


def _measured(asked: _Asked, adapted: tuple[Flow, list[TrainLog]]) -> _Found:
    from rram_host.flows.ship import figures

    flow, log = adapted
    found = {"before": asked.base, "adapted": flow}
    return _Found(flow, {name: figures(f, asked.action) for name, f in found.items()}, log)


def _on_boards(asked: _Asked, as_json: bool) -> _Found:
    from rram_host.experiments import adapted_board
    from rram_host.experiments.deploy_flow import (
        DeployPlan,
        arrays_needed,
        board_time_s,
        board_urls,
    )
    from rram_host.experiments.steps import Steps

    needed = arrays_needed(asked.loaded.flow)
    log: list[TrainLog] = []
    urls = board_urls(asked.given["boards"], needed)
    if trace() is not None and len(urls) > 1:
        raise InputError(f"--record: the flow takes {len(urls)} boards, one can be recorded")
    tell_of_emulation(urls)
    with ExitStack() as stack:
        observer = stack.enter_context(closing(BarObserver(as_json)))
        boards = [stack.enter_context(open_board(url, asked.given["spec"])) for url in urls]
        steps = Steps(observer, lambda: board_time_s(boards))
        plan = DeployPlan(seed=asked.given["seed"])
        found = adapted_board.run(
            boards, asked.loaded, asked.action, asked.plan, plan, steps, callback=log.append
        )
    return _Found(found.flow, found.figures, log)


def _save(asked: _Asked, found: _Found) -> None:
    from rram_host.flows import checkpoint

    extra = {
        "adapted_from": {"model": asked.model, "action": asked.loaded.metadata["action"]},
        "errors": asked.given["errors"],
        "boards": list(asked.given["boards"]),
        "figures": found.figures["adapted"],
    }
    try:
        checkpoint.save(asked.out, found.flow, asked.action, asked.plan.finetune, extra)
    except OSError as error:
        raise InputError(f"cannot write {asked.out}: {error.strerror}") from None


def _compare(asked: _Asked) -> dict[str, Any]:
    from rram_host.experiments import adaptation
    from rram_host.records.train_plots import adaptations

    case = adaptation.Case(
        f"{asked.model} to {asked.action}",
        asked.base,
        asked.action,
        {"adapted": asked.plan},
        adaptation.settings_from(asked.loaded.metadata),
        asked.loaded.action,
    )
    with progress_bar("compare") as advance:
        found = adaptation.compare(case, adaptation.lengths_to(asked.plan), advance)
    summary = found.summary()
    adaptations(asked.beside("png"), [summary])
    adaptation.write_csv(asked.beside("csv"), [found])
    asked.beside("json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return summary


def _tell(asked: _Asked, results: dict[str, Any]) -> None:
    for label, values in results["figures"].items():
        say_figures(label, {**values, "n": values["samples"]})
    numbers = results["numbers"]
    say(
        False,
        f"{results['trained_numbers']} numbers trained in {results['steps']} steps beside "
        f"{numbers['base']} dense weights: {100 * results['trained_share']:.1f} %; LoRA alone is "
        f"{100 * results['lora_share']:.1f} % of matrices and corrections, all digital numbers are "
        f"{100 * results['digital_share']:.1f} % of the flow",
    )
    if "comparison" in results:
        longest = results["comparison"]["scratch"][-1]["steps"]
        for point in results["comparison"]["adaptations"][0]["points"]:
            say(
                False,
                f"adapted in {point['steps']} steps: ESS {point['ess']:.4f}; steps over those from "
                f"scratch to the same ESS: {_ratio(point, longest)}",
            )
        say(False, f"written: {asked.beside('png')}, {asked.beside('csv')}")
    say(False, f"written: {asked.out}")
    if asked.given["boards"]:
        report_error(
            "the file holds the weights as they were read back from these chips, for software"
        )


def _ratio(point: dict[str, Any], longest: int) -> str:
    """Steps of an adaptation over those from scratch, for a person; `longest` of the latter."""
    if point["ratio"] is None:
        return "not known, the shortest run from scratch is better"
    if point["ratio"] > 0.0:
        return f"{point['ratio']:.3f}"
    return f"< {point['steps'] / longest:.2g}, {longest} from scratch do not reach it"
