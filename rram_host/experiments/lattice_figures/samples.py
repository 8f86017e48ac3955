"""Samples of one system by every sampler, as series of observables in `REPEATS` repeats."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rram_host.experiments.deploy_flow import (
    arrays_needed,
    board_time_s,
    deploy_flow,
    open_boards,
)
from rram_host.experiments.lattice_figures.plan import REPEATS, FigurePlan, System
from rram_host.experiments.lattice_figures.store import Arrays
from rram_host.experiments.steps import Steps
from rram_host.flows import checkpoint
from rram_host.lattice.actions import Action, settings_of
from rram_host.lattice.metropolis import independence_chain
from rram_host.lattice.observables import measure
from rram_host.lattice.samplers import HmcSettings, Lengths, run_sampler, tuned

Array = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
Tell = Callable[[str], None]

SERIES = ("M", "absM", "M4", "chi2", "E", "phi2", "cos")
HMC_1, HMC, WOLFF = "HMC, length 1", "HMC, tuned", "Wolff"
SOFTWARE, ARRAY = "flow, software", "flow, array"
EDGES = np.linspace(-2.5, 2.5, 51)  # of the histogram of fields, in lattice units
_AT_ONCE = 4096  # configurations drawn or measured together


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        method: which sampler.
        system: of what.
        name: of its file.
        settings: that its file is good for.
        make: does it; is given who to tell of progress.
    """

    method: str
    system: System
    name: str
    settings: Mapping[str, Any]
    make: Callable[[Progress], Arrays]


def jobs(plan: FigurePlan, tell: Tell = lambda _: None) -> list[Job]:
    """All work for a figure, the cheapest first; `tell` hears how long arrays take."""
    found = [_sampler_job(plan, system, HMC, plan.tuned) for system in plan.systems]
    found += [
        _sampler_job(plan, system, HMC_1, "hmc") for system in plan.systems if _plain(plan, system)
    ]
    for name in plan.others:
        found += [_sampler_job(plan, system, name.title(), name) for system in plan.compared]
    shipped = [system for system in plan.systems if system.weights]
    found += [_software_job(plan, system) for system in shipped]
    on_array = [s for s in plan.compared if s.weights and s.length in plan.array_lengths]
    return found + [_array_job(plan, system, tell) for system in on_array]


def check_board(plan: FigurePlan) -> None:
    """Refuse a board that cannot be opened, or counted up from, before minutes of other work.

    Raises:
        InputError: as of `boards.open_boards`.
    """
    if plan.array_lengths:
        with open_boards([plan.board], 2 if max(plan.array_lengths) >= 12 else 1):
            pass


def _plain(plan: FigurePlan, system: System) -> bool:
    """Whether HMC as the paper runs it is of interest: one system a lattice."""
    others = {each.length for each in plan.compared}
    return system in plan.compared or system.length not in others


def _sampler_job(plan: FigurePlan, system: System, method: str, sampler: str) -> Job:
    chosen = tuned(sampler, system.action, system.shape)
    if method == HMC_1:
        chosen = of_length_one(chosen)
    # as many field values at L = 24 as at 12: they are all in memory at once
    kept = max(100, plan.kept * 144 // max(144, system.length**2))
    settings = replace(chosen, chains=REPEATS * plan.chains, kept=kept)

    def make(progress: Progress) -> Arrays:
        # compiled loops are compiled before the clock starts
        short = replace(settings, kept=1, thermalisation=0)
        run_sampler(sampler, system.action, system.shape, short, plan.seed)
        run = run_sampler(sampler, system.action, system.shape, settings, plan.seed, progress)
        found = observed(run.phi)
        return {
            **found,
            "acceptance": np.array(run.acceptance),
            "wall_s": np.array(run.wall_s * _steady(settings)),
        }

    values = {"sampler": sampler, **asdict(settings), "seed": plan.seed, **_what(system)}
    return Job(method, system, _file(method, system), values, make)


def _steady(settings: Lengths) -> float:
    """Share of a run's updates that come after thermalisation."""
    updates = settings.kept * settings.keep_every
    return updates / (updates + settings.thermalisation)


def of_length_one(settings: HmcSettings) -> HmcSettings:
    """HMC with trajectories of length 1 and no jitter, as the paper's baseline behaves."""
    steps = max(2, math.ceil(1.0 / settings.step))
    return replace(settings, step=1.0 / steps, steps=steps, jitter=0.0)


def _software_job(plan: FigurePlan, system: System) -> Job:
    def make(progress: Progress) -> Arrays:
        loaded = checkpoint.load(system.weights or "")
        start = time.perf_counter()
        found = proposals(loaded.flow, system.action, plan.proposals, plan.seed, progress)
        return {**found, "wall_s": np.array(time.perf_counter() - start)}

    values = {"n": plan.proposals, "seed": plan.seed, **_weights(system), **_what(system)}
    return Job(SOFTWARE, system, _file(SOFTWARE, system), values, make)


def _array_job(plan: FigurePlan, system: System, tell: Tell) -> Job:
    deploy = plan.deploy_at(system.length)

    def make(progress: Progress) -> Arrays:
        loaded = checkpoint.load(system.weights or "")
        needed = arrays_needed(loaded.flow, deploy.scheme)
        with open_boards([plan.board], needed) as boards:
            steps = Steps(_Telling(progress, f"{system.model}: ", tell))
            deployed = deploy_flow(boards, loaded, deploy, steps)
            before = board_time_s(boards)
            found = proposals(
                deployed.flow, system.action, plan.array_proposals, plan.seed, progress
            )
            spent = board_time_s(boards) - before
        return {
            **found,
            "board_s": np.array(spent),
            "arrays": np.array(needed),
            "density_error_nats": np.array(deployed.density_error_nats),
        }

    values = {
        "n": plan.array_proposals,
        "seed": plan.seed,
        "board": plan.board,
        "deploy": asdict(deploy),
        **_weights(system),
        **_what(system),
    }
    return Job(ARRAY, system, _file(ARRAY, system), values, make)


class _Telling:
    """An observer of steps that tells a progress bar, and of what for how long."""

    def __init__(self, progress: Progress, prefix: str, tell: Tell) -> None:
        self._progress, self._prefix, self._tell = progress, prefix, tell

    def begin(self, name: str) -> Progress:
        return self._progress

    def tell(self, text: str) -> None:
        self._tell(self._prefix + text)

    def end(self, name: str, wall_s: float, board_s: float, note: str) -> None:
        pass


def proposals(flow: Any, action: Action, n: int, seed: int, progress: Progress) -> Arrays:
    """`REPEATS` chains of Metropolis-Hastings over n proposals each.

    Returns:
        Series of the chains as `observed` gives them; "log_w" of the proposals (repeats, n) and
        "acceptance" (repeats,).
    """
    generator = torch.Generator().manual_seed(seed)
    fields, log_w = [], np.empty((REPEATS, n))
    acceptance = np.empty(REPEATS)
    for repeat in range(REPEATS):
        parts = []
        for start in range(0, n, _AT_ONCE):
            with torch.no_grad():
                phi, log_q = flow.push(flow.draw(min(_AT_ONCE, n - start), generator))
                log_w[repeat, start : start + len(phi)] = -action(phi) - log_q
            parts.append(phi.double().numpy())
            progress(repeat * n + start, REPEATS * n)
        chain = independence_chain(log_w[repeat], np.random.default_rng([seed, repeat]))
        acceptance[repeat] = chain.acceptance
        fields.append(np.concatenate(parts)[chain.indices])
    return {**observed(np.stack(fields)), "log_w": log_w, "acceptance": acceptance}


def observed(phi: Array) -> Arrays:
    """Observables of fields (chains, n, L0, L1).

    Returns:
        `SERIES`, each (chains, n); "G" (chains, n, lags); "counts" of fields in the bins of
        `EDGES`, (chains, bins).
    """
    chains, n = phi.shape[:2]
    flat = phi.reshape(chains * n, *phi.shape[2:])
    parts = [
        measure(torch.from_numpy(np.ascontiguousarray(flat[start : start + _AT_ONCE])))
        for start in range(0, len(flat), _AT_ONCE)
    ]
    found = {
        name: np.concatenate([part[name].numpy() for part in parts]).astype(np.float32)
        for name in (*SERIES, "G")
    }
    shaped = {name: v.reshape(chains, n, *v.shape[1:]) for name, v in found.items()}
    counts = [np.histogram(chain, EDGES)[0] for chain in phi]
    return {**shaped, "counts": np.array(counts)}


def _what(system: System) -> dict[str, Any]:
    return {"action": settings_of(system.action), "length": system.length, "repeats": REPEATS}


def _weights(system: System) -> dict[str, Any]:
    """Which weights: shipped ones may be trained anew."""
    path = system.weights
    return {"weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest() if path else ""}


def _file(method: str, system: System) -> str:
    short = method.lower().replace(", ", "-").replace(" ", "")
    return f"{short}-{system.model}"
