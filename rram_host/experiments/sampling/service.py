"""sample_flow: draw from a flow, make the draws exact, and record them where a file is named."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

import numpy as np

from rram_host.errors import InputError
from rram_host.experiments.sampling.draws import Drawn, draw, draw_split
from rram_host.experiments.sampling.plan import DrawPlan
from rram_host.experiments.sampling.recording import (
    Origin,
    Recording,
    Told,
    fingerprint,
)
from rram_host.experiments.sampling.sample import Sample
from rram_host.experiments.sampling.shown import small_columns
from rram_host.experiments.sampling.units import Chained
from rram_host.flows.protocol import Flow
from rram_host.lattice.actions import Action
from rram_host.records.run_file import RunFile

Progress = Callable[[int, int], None]


def sample_flow(
    flow: Flow,
    action: Action,
    n: int = 32_768,
    seed: int = 7,
    batch: int = 4096,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    processes: int = 1,
    origin: Origin | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    force: bool = False,
) -> Sample:
    """Draw configurations with a flow and make them exact with Metropolis-Hastings.

    Args:
        flow: in software, or deployed on boards (`Deployed.flow`).
        action: the target; where the flow was trained for another one, the weights still lead to
            this one, at a smaller ESS.
        n: configurations to draw.
        seed: of prior draws and of accept-reject numbers.
        batch: configurations drawn together.
        out: run file to record in, FILE.h5; it must not exist unless `resume`. Without it all
            stays in memory.
        resume: go on with the file where it stopped.
        processes: to draw with; for a flow in software.
        origin: what a file says of the flow; needed for a flow on boards.
        progress: told of (configurations done, asked for).
        should_stop: asked after every recorded batch; True ends the run well, as interrupted.
        force: resume although the process that wrote the file was on another machine.

    Returns:
        The sample; of a run that was stopped, what there is of it.

    Raises:
        InputError: a value out of range, a file that cannot be made or is of another run, or draws
            with weights that no chain can use (NaN, infinity).
        RecordError: the disk filled up; what was committed stays.

    >>> from rram_host.flows import checkpoint
    >>> loaded = checkpoint.load(checkpoint.resolve("phi4_L4"))
    >>> sample_flow(loaded.flow, loaded.action, n=4096).figures()["ess"] > 0.9
    True
    """
    plan = DrawPlan(n, batch, seed)
    boards = origin.boards if origin else ()
    if boards and processes != 1:
        raise InputError(f"processes = {processes}: boards are driven by one process")
    source = partial(_source, flow, action, plan, processes)
    chained = Chained(plan, clock_s=origin.clock_s if origin else _no_clock)
    told = progress or _silent
    if out is None:
        if resume:
            raise InputError("to resume, name the run file")
        return _in_memory(flow, action, plan, source, chained, told)
    origin = origin or Origin(type(flow).__name__, fingerprint(flow))
    path = Path(out)
    job = Recording(path, action, flow.shape, plan, origin, resume, force)
    drawn = job.run(source, chained, told, should_stop or _never)
    columns = small_columns(RunFile(path))
    return Sample(action, flow.shape, plan, columns, chained.seconds, drawn, path)


def _source(
    flow: Flow, action: Action, plan: DrawPlan, processes: int, start: int
) -> Generator[Drawn]:
    if processes == 1:
        return draw(flow, action, plan, start)
    return draw_split(flow, action, plan, processes, start)


def _in_memory(
    flow: Flow,
    action: Action,
    plan: DrawPlan,
    source: Callable[[int], Generator[Drawn]],
    chained: Chained,
    progress: Progress,
) -> Sample:
    told, parts = Told(plan, progress), []
    for done, unit in enumerate(chained.units(source(0)), 1):
        parts.append(unit)
        told(done)
    columns = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return Sample(action, flow.shape, plan, columns, chained.seconds, plan.n)


def _no_clock() -> float:
    return float("nan")


def _never() -> bool:
    return False


def _silent(done: int, total: int) -> None:
    """Tell nobody."""
