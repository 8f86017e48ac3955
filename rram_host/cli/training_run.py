"""What `rram train` and `rram finetune` share: a training that stops well and can be gone on with.

The state on disk (`flows.train_state`) is at most seconds behind; whoever is killed before the
first one was written begins again, which leads to the same weights.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from rram_host.cli.common import emit, progress_bar, report_error
from rram_host.cli.experiment_command import finishing_first
from rram_host.errors import InputError

if TYPE_CHECKING:
    from rram_host.flows.training import TrainLog

Result = TypeVar("Result")
Job = Callable[[Callable[["TrainLog"], None], Callable[[], bool]], Result]
_ARGUMENTS = "rram.arguments"


class Repeatable(click.Command):
    """A command that can say how it was called."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep them."""
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)


def called_again(*more: str) -> str:
    """The `Repeatable` command at hand as it was typed, with further options, without --force."""
    context = click.get_current_context()
    before = [text for text in context.meta[_ARGUMENTS] if text not in ("--force", *more)]
    return shlex.join(["rram", str(context.info_name), *before, *more])


def check_results(
    state: Path,
    results: Sequence[Path],
    begun: bool,
    resume: bool,
    force: bool,
    elsewhere: str,
    resumable: bool = True,
) -> None:
    """See to what earlier trainings left.

    Args:
        state: of a training that was broken off.
        results: of one that was finished, the model first.
        begun: whether a training that left no state yet may have been broken off here.
        resume: whether to go on with the first.
        force: whether to write over all of it.
        elsewhere: options that name other files.
        resumable: whether what is asked could go on with the first.

    Raises:
        InputError: results would be written over, or there is nothing to resume.
    """
    if resume and force:
        raise InputError("--resume and --force exclude each other")
    if resume and not state.exists():
        if results[0].exists() or not begun:
            there = f", but {results[0]}: --force begins anew" if results[0].exists() else ""
            raise InputError(f"nothing to resume: there is no {state}{there}")
        report_error(f"{state} had not been written yet: beginning again")
    found = [file for file in (state, *results) if file.exists()]
    if found and not (resume or force):
        hint = "--resume goes on with it, " if resumable and found[0] == state else ""
        raise InputError(f"{found[0]} exists: {hint}--force writes over it, {elsewhere}")


@dataclass(frozen=True)
class TrainingRun:
    """A training that somebody watches and may break off.

    Attributes:
        name: of the progress bar.
        steps: optimiser steps.
        state: where the training keeps its state.
        go_on: the command that goes on with it.
        as_json: whether JSON is asked for.
    """

    name: str
    steps: int
    state: Path
    go_on: str
    as_json: bool

    def run(self, job: Job[Result], seconds: float | None = None) -> Result:
        """Run a training; Ctrl-C ends it after the step at hand, and so does the time.

        Args:
            job: the training, given its callback and its `should_stop`.
            seconds: wall time after which it stops.

        Raises:
            SystemExit: it was stopped; 130 after Ctrl-C. How to go on has been told.
        """
        from rram_host.flows.training import TrainingStopped

        end = math.inf if seconds is None else time.monotonic() + seconds
        try:
            with (
                self.telling_how_to_go_on(),
                progress_bar(self.name) as advance,
                finishing_first() as interrupted,
            ):
                advance(0, self.steps)

                def show(log: TrainLog) -> None:
                    note = f"loss {log.loss:.4f} ESS {log.ess:.3f} std(log w) {log.std_log_w:.3f}"
                    advance(log.step, self.steps, note)

                return job(show, lambda: interrupted() or time.monotonic() >= end)
        except TrainingStopped as stopped:
            emit(self.as_json, {"file": None, "state": self.state, "status": "stopped"})
            report_error(f"{stopped}; to go on: {self.go_on}")
            raise SystemExit(130 if interrupted() else 0) from None

    @contextmanager
    def telling_how_to_go_on(self) -> Iterator[None]:
        """Say it to whom breaks off what is done in here."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            if self.state.exists():
                report_error(f"to go on: {self.go_on}")
            raise
