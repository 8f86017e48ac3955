"""rram train: a flow from scratch, in software."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rram_host.cli.common import (
    DEFAULT_BOARD,
    BarObserver,
    emit,
    json_option,
    need_torch,
    open_board,
    passport_option,
    record_option,
    refuse_record,
    say,
)
from rram_host.cli.file_names import FolderName
from rram_host.cli.training_run import TrainingRun, check_results
from rram_host.errors import InputError

if TYPE_CHECKING:
    from rram_host.flows.recipe import Recipe

DEFAULT_PRESET = "phi4_L4"
COUPLINGS = ("m2", "lam", "g", "m_over_g")  # fields of actions, and their options
Function = Callable[..., Any]


class Lattice(click.ParamType[tuple[int, int]]):
    """A lattice: L, or L0xL1."""

    name = "L or L0xL1"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """The text as two lengths."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        try:
            lengths = [int(part) for part in parts]
        except ValueError:
            lengths = []
        if len(lengths) not in (1, 2):
            self.fail(f"{value!r} is not a lattice such as 6 or 6x8", param, ctx)
        return lengths[0], lengths[-1]


def action_options(function: Function) -> Function:
    """--m2, --lam, --g, --m-over-g: parameters of the action."""
    for option in (
        click.option("--m-over-g", type=float, help="Fermion mass over coupling, graphene."),
        click.option("--g", type=float, help="Coupling, graphene."),
        click.option("--lam", type=float, help="Quartic coupling lambda, phi4."),
        click.option("--m2", type=float, help="Bare mass squared, phi4."),
    ):
        function = option(function)
    return function


@click.command()
@json_option
@click.option(
    "--preset",
    metavar="NAME",
    help="What to train; default the preset of the nearest action and lattice, or "
    f"{DEFAULT_PRESET}.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.toml",
    help="What to train, as --print-config writes it.",
)
@click.option(
    "--print-config", is_flag=True, help="Write what would be trained as TOML, and train nothing."
)
@click.option("--action", metavar="NAME", help="Action: phi4 or graphene.")
@action_options
@click.option("--L", "lattice", type=Lattice(), help="Lattice, instead of the preset's.")
@click.option("--steps", type=int, help="Optimiser steps.")
@click.option("--batch", type=int, help="Fields drawn in each step.")
@click.option("--lr", type=float, help="Highest learning rate.")
@click.option("--seed", type=click.IntRange(0, 2**62), help="Seed of everything.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    help="Stop after this time, with a state to go on from (--resume).",
)
@click.option(
    "--out",
    type=FolderName(),
    default=Path("runs/train"),
    show_default=True,
    metavar="DIR",
    help="Where NAME.safetensors, NAME.log.csv, NAME.png and NAME.recipe.toml are written.",
)
@click.option("--name", metavar="NAME", help="Of the files; default that of preset or config.")
@click.option("--resume", is_flag=True, help="Go on with a training that was broken off.")
@click.option("--force", is_flag=True, help="Write over the results of an earlier training.")
@click.option(
    "--board",
    metavar="URL",
    help=f"Also deploy the trained flow on this board and say its ESS there, e.g. {DEFAULT_BOARD}.",
)
@record_option
@passport_option
def train(
    as_json: bool,
    preset: str | None,
    config: Path | None,
    print_config: bool,
    out: Path,
    name: str | None,
    resume: bool,
    force: bool,
    seconds: float | None,
    board: str | None,
    passport: Path | None,
    **given: Any,
) -> None:
    """Train a flow in software; its weights are reproducible from the seed.

    A training that was broken off (Ctrl-C, kill, --seconds) goes on with --resume, to the same
    weights bit for bit.

    \b
    rram train --preset phi4_L4 --out runs/train      about two minutes on one core
    rram train --action phi4 --L 6 --lam 5.2 --steps 4000 --out runs/lam5.2
    rram train --preset phi4_L4 --print-config > mine.toml
    rram train --config mine.toml --out runs/mine
    rram sample --model runs/train/phi4_L4.safetensors
    """
    if not board:
        refuse_record("without --board")
    need_torch()
    known_as, recipe = _asked(preset, config, given)
    if print_config:
        _print_config(recipe, as_json)
        return
    files = TrainFiles(out, name or known_as)
    files.prepare(recipe, resume, force)
    found = _train(recipe, files, seconds, as_json)
    results: dict[str, Any] = {"file": files.model, "picture": files.picture, **found}
    if board:
        results["array"] = _on_board(files.model, board, passport)
    emit(as_json, results)
    if not as_json:
        shown = {"software": found} | ({"array": results["array"]} if board else {})
        for label, values in shown.items():
            say_figures(label, values)
        say(as_json, f"written: {files.model}, {files.log}, {files.picture}")


class TrainFiles:
    """The files of one training."""

    def __init__(self, folder: Path, name: str) -> None:
        if Path(name).name != name or not name:
            raise InputError(f"--name {name!r} is not the name of a file without its folder")
        self.folder = folder
        self.model = folder / f"{name}.safetensors"
        self.log, self.picture = folder / f"{name}.log.csv", folder / f"{name}.png"
        self.recipe, self.state = folder / f"{name}.recipe.toml", folder / f"{name}.state"
        self.name = name

    def prepare(self, recipe: Recipe, resume: bool, force: bool) -> None:
        """Make the folder, and see to what earlier trainings left in it.

        Raises:
            InputError: results would be written over, there is nothing to resume, or the folder
                cannot be written.
        """
        from rram_host.flows.recipe import to_toml

        results = (self.model, self.log, self.picture)
        elsewhere = "--out or --name go elsewhere"
        check_results(self.state, results, self.recipe.exists(), resume, force, elsewhere)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if force:
                self.state.unlink(missing_ok=True)
            if not self.state.exists():
                self.recipe.write_text(to_toml(recipe), encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write into {self.folder}: {error.strerror}") from None

    @property
    def how_to_go_on(self) -> str:
        """The command that goes on."""
        return f"rram train --config {self.recipe} --out {self.folder} --name {self.name} --resume"


def _asked(preset: str | None, config: Path | None, given: dict[str, Any]) -> tuple[str, Recipe]:
    """What the files are called, and what to train."""
    from rram_host.flows import recipe as recipes
    from rram_host.flows import ship

    if preset and config:
        raise InputError("--preset and --config exclude each other")
    if not (preset or config):
        _check_action(given)
    name = config.stem if config else preset or _preset_like(given)
    base = recipes.from_toml(config) if config else ship.configure(name)
    if given["action"] not in (None, base.action.name):
        raise InputError(
            f"{name} is for the action {base.action.name!r}, not {given['action']!r}: its flow is "
            "made for that weight; name another preset, or write a config"
        )
    train = {key: given[key] for key in ("steps", "batch", "lr", "seed")}
    return name, recipes.changed(base, train, _couplings(given), shape=given["lattice"])


def _check_action(given: dict[str, Any]) -> None:
    """Refuse an action without a preset, and couplings that no action has together."""
    from rram_host.flows.presets import PRESETS

    known = {recipe.action.name: recipe.action for recipe in PRESETS.values()}
    asked = given["action"]
    if asked not in (None, *known):
        raise InputError(f"no action {asked!r}; known: {', '.join(known)}")
    couplings = _couplings(given)
    some = [known[asked]] if asked else [*known.values()]
    if not any(all(hasattr(action, key) for key in couplings) for action in some):
        has = {a.name: ", ".join(key for key in COUPLINGS if hasattr(a, key)) for a in some}
        told = "; ".join(f"{name} has {keys}" for name, keys in has.items())
        raise InputError(f"no such action with {' and '.join(couplings)}: {told}")


def _couplings(given: dict[str, Any]) -> dict[str, float]:
    return {key: given[key] for key in COUPLINGS if given[key] is not None}


def _preset_like(given: dict[str, Any]) -> str:
    """The first preset of the action, the lattice and the couplings asked for, in this order."""
    from rram_host.flows.presets import PRESETS

    def likeness(name: str) -> tuple[bool, bool, int]:
        recipe = PRESETS[name]
        couplings = _couplings(given).items()
        return (
            given["action"] in (None, recipe.action.name)
            and all(hasattr(recipe.action, key) for key, _ in couplings),
            given["lattice"] in (None, recipe.flow.shape),
            sum(getattr(recipe.action, key, None) == value for key, value in couplings),
        )

    asked = given["action"] or given["lattice"] or _couplings(given)
    return max(PRESETS, key=likeness) if asked else DEFAULT_PRESET


def _print_config(recipe: Recipe, as_json: bool) -> None:
    from rram_host.flows.recipe import to_toml

    emit(as_json, recipe.plain())
    if not as_json:
        click.echo(to_toml(recipe), nl=False)


def _train(
    recipe: Recipe, files: TrainFiles, seconds: float | None, as_json: bool
) -> dict[str, Any]:
    from rram_host.flows import ship
    from rram_host.records.train_plots import training

    run = TrainingRun("train", recipe.train.steps, files.state, files.how_to_go_on, as_json)
    try:
        found = run.run(
            lambda show, over: ship.ship(files.name, files.folder, recipe, show, files.state, over),
            seconds,
        )
    except OSError as error:
        raise InputError(f"cannot write into {files.folder}: {error.strerror}") from None
    title = f"{files.name}: {recipe.train.steps} steps of {recipe.train.batch} fields"
    training(files.picture, ship.read_log(files.log), title)
    files.state.unlink(missing_ok=True)
    return {**found, "n": found["samples"]}


def say_figures(label: str, q: dict[str, Any]) -> None:
    """A line with the figures of a sample."""
    click.echo(
        f"{label:<9} N {int(q['n'])}: ESS {q['ess']:.4f}, acceptance {q['acceptance']:.4f}, "
        f"std(log w) {q['std_log_w']:.3f}, longest rejection {int(q['longest_rejection'])}, "
        f"log Z {q['log_z']:.5f} ± {q['log_z_error']:.5f}"
    )


def _on_board(path: Path, board: str, passport: Path | None) -> dict[str, Any]:
    from rram_host.experiments import adapted_board
    from rram_host.experiments.deploy_flow import DeployPlan
    from rram_host.experiments.steps import Steps
    from rram_host.flows import checkpoint
    from rram_host.flows.adapt import AdaptPlan

    loaded = checkpoint.load(path)
    with (
        open_board(board, passport=passport) as opened,
        closing(BarObserver(True)) as observer,
    ):
        steps = Steps(observer, lambda: opened.board_time_s)
        found = adapted_board.run(
            [opened], loaded, loaded.action, AdaptPlan(), DeployPlan(), steps
        ).figures["on the array"]
    return {**found, "n": found["samples"]}
