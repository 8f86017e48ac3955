"""Sample a lattice field theory with a flow whose base products run on the array.

The only place that sees the array, the flow and the lattice together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rram_host.analog.deploy import Deployment, analog_model, digital_twin, program_model
from rram_host.analog.exactness import check_density
from rram_host.array.calibrate import CalibrationPlan
from rram_host.errors import InputError
from rram_host.experiments.steps import Step, Steps
from rram_host.flows.checkpoint import LoadedFlow
from rram_host.flows.coupling import CouplingFlow
from rram_host.flows.training import FinetuneSettings, TrainLog, finetune
from rram_host.lattice.actions import Action
from rram_host.lattice.autocorrelation import mean_and_error
from rram_host.lattice.exact import EXACT_M2, ExactValues, exact_4x4
from rram_host.lattice.hmc import HmcSettings, run_hmc
from rram_host.lattice.metropolis import Chain, independence_chain
from rram_host.lattice.observables import measure
from rram_host.lattice.reweighting import effective_sample_size, log_z
from rram_host.mapping.engine import ArrayEngine
from rram_host.mapping.schemes import scheme
from rram_host.session import Board

Array = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]

# Names of observables as a person reads them, in the order of the table.
OBSERVABLES = ("|M|", "chi2", "E", "phi^2", "G(0)", "G(1)", "G(2)")
MIN_DRAWS, MAX_DRAWS = 4, 100_000_000  # an autocorrelation time needs four updates
MAX_SEED = 2**62


@dataclass(frozen=True)
class SamplePlan:
    """How to sample.

    Attributes:
        n: configurations to draw.
        batch: configurations drawn together: one upload per product and block.
        seed: of prior draws and of accept-reject numbers.
        scheme: weights to conductances, "single" or "differential".
        lora_steps: steps of LoRA compensation for the weights as read back; 0 for none.
        read_average: reads averaged for the read-back.
        calibration_turns: how long to calibrate (`CalibrationPlan.turns`) where the board has no
            calibration yet; 0 for not at all. A quarter of what `rram calibrate` takes is enough
            here, because the flow is fitted to the weights as read back.
    """

    n: int = 32_768
    batch: int = 4096
    seed: int = 7
    scheme: str = "single"
    lora_steps: int = 300
    read_average: int = 16
    calibration_turns: int = 64

    def __post_init__(self) -> None:
        """Refuse a plan that cannot run."""
        if not MIN_DRAWS <= self.n <= MAX_DRAWS:
            raise InputError(f"n = {self.n} configurations is outside {MIN_DRAWS}..{MAX_DRAWS}")
        if not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"seed {self.seed} is outside 0..{MAX_SEED}")
        least_of = {"batch": 1, "lora_steps": 0, "read_average": 1, "calibration_turns": 0}
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} = {getattr(self, name)} must be at least {least}")
        scheme(self.scheme)


@dataclass(frozen=True)
class Deployed:
    """A flow on an array, checked.

    Attributes:
        flow: samples with its base products on the array.
        twin: the same with the weights that were read back, in software.
        engine: counts vectors and saturated conversions.
        deployment: what was programmed and read back.
        density_error_nats: what `check_density` found.
    """

    flow: CouplingFlow
    twin: CouplingFlow
    engine: ArrayEngine
    deployment: Deployment
    density_error_nats: float


@dataclass(frozen=True)
class Draws:
    """Drawn configurations: phi (n, L0, L1), log q (n,), log w = -S - log q (n,)."""

    phi: Array
    log_q: Array
    log_w: Array


def program_flow(
    board: Board, loaded: LoadedFlow, plan: SamplePlan, progress: Progress | None = None
) -> Deployment:
    """Program the base matrices of a flow, all on the array at once, and read them back."""
    return program_model(
        board,
        loaded.flow.products(),
        scheme(plan.scheme),
        None,
        plan.read_average,
        progress,
    )


def needs_calibration(board: Board, plan: SamplePlan) -> bool:
    """Whether the plan asks for a calibration, and the board has none."""
    return bool(plan.calibration_turns) and not board.array.calibration.measured


def calibrate(board: Board, plan: SamplePlan, step: Step) -> None:
    """Calibrate with the weights on the array; what was verified before is then a little off."""
    found = board.calibrate(CalibrationPlan(turns=plan.calibration_turns), step.advance)
    lines = found.lines
    step.note = (
        f"switches {lines.row_ohm.mean():.1f} ohm, wires {lines.bl_segment_ohm:.2f} (BL) and "
        f"{lines.sl_segment_ohm:.2f} (SL) ohm a cell"
    )


def compensate(
    loaded: LoadedFlow,
    deployment: Deployment,
    plan: SamplePlan,
    callback: Callable[[TrainLog], None] | None = None,
) -> CouplingFlow:
    """LoRA compensation: the flow with the weights as read back, its low-rank part retrained."""
    twin = digital_twin(loaded.flow, CouplingFlow.products, deployment)
    if plan.lora_steps:
        settings = FinetuneSettings(parameters="lora", steps=plan.lora_steps, seed=plan.seed)
        finetune(twin, loaded.action, settings, callback)
    return twin


def deploy(twin: CouplingFlow, deployment: Deployment, plan: SamplePlan) -> Deployed:
    """Put a compensated flow's base products on the array and check its density.

    Raises:
        UnsafeDensityError: log q is not the density of what it draws.
    """
    generator = torch.Generator().manual_seed(plan.seed + 1)
    flow, engine, tape = analog_model(
        twin, CouplingFlow.products, deployment, lambda model: model.sample(2048, generator)
    )
    error = check_density(flow, tape, twin.settings.shape, plan.seed)
    return Deployed(flow, twin, engine, deployment, error)


def draw(flow: CouplingFlow, action: Action, plan: SamplePlan) -> Iterator[Draws]:
    """Draw `plan.n` configurations, batch by batch.

    Draws go through `push`, the method whose density `check_density` has checked.
    """
    generator = torch.Generator().manual_seed(plan.seed)
    for start in range(0, plan.n, plan.batch):
        with torch.no_grad():
            z = flow.draw(min(plan.batch, plan.n - start), generator)
            phi, log_q = flow.push(z)
        log_w = -action(phi) - log_q
        yield Draws(phi.numpy(), log_q.numpy(), log_w.numpy())


def collect(batches: Iterator[Draws], plan: SamplePlan, progress: Progress | None = None) -> Draws:
    """All batches as one."""
    parts, done = [], 0
    for batch in batches:
        parts.append(batch)
        done += len(batch.log_w)
        if progress:
            progress(done, plan.n)
    return Draws(
        np.concatenate([p.phi for p in parts]),
        np.concatenate([p.log_q for p in parts]),
        np.concatenate([p.log_w for p in parts]),
    )


def metropolis(draws: Draws, plan: SamplePlan) -> Chain:
    """Metropolis-Hastings over the draws: exact whatever the array's errors are."""
    return independence_chain(draws.log_w, np.random.default_rng(plan.seed))


def quality(draws: Draws, chain: Chain) -> dict[str, Any]:
    """Figures of a sample: ESS with its N, acceptance, std(log w), longest rejection, log Z."""
    value, error = log_z(draws.log_w)
    return {
        "n": len(draws.log_w),
        "ess": effective_sample_size(draws.log_w),
        "acceptance": chain.acceptance,
        "std_log_w": float(draws.log_w.std()),
        "longest_rejection": chain.longest_rejection,
        "log_z": value,
        "log_z_error": error,
    }


def series(phi: Array) -> dict[str, Array]:
    """Observables of configurations (n, L, L), by the names of the table."""
    values = measure(torch.from_numpy(np.ascontiguousarray(phi)))
    found = {
        "|M|": values["absM"],
        "chi2": values["chi2"],
        "E": values["E"],
        "phi^2": values["phi2"],
    }
    for t in range(values["G"].shape[1]):
        found[f"G({t})"] = values["G"][:, t]
    return {name: value.numpy() for name, value in found.items()}


def exact_values(action: Action, shape: tuple[int, ...]) -> dict[str, float] | None:
    """Exact values of the table, where they are known (L = 4, m2 = -4), else None."""
    lam, m2 = getattr(action, "lam", None), getattr(action, "m2", None)
    if shape != (4, 4) or lam is None or m2 != EXACT_M2:
        return None
    try:
        known: ExactValues = exact_4x4(lam)
    except InputError:
        return None
    values = {
        "|M|": known.abs_m,
        "chi2": known.chi2,
        "E": known.energy,
        "phi^2": known.phi2,
        "log Z": known.log_z,
    }
    return values | {f"G({t})": value for t, value in enumerate(known.g)}


def estimate(chains: dict[str, Array]) -> dict[str, dict[str, float]]:
    """Mean, error and integrated autocorrelation time of every observable.

    Args:
        chains: observable -> (n,) of one chain or (chains, n).
    """
    return {name: asdict(mean_and_error(values)) for name, values in chains.items()}


def hmc_reference(
    action: Action,
    shape: tuple[int, int],
    settings: HmcSettings,
    seed: int,
    progress: Progress | None = None,
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """The same observables by tuned HMC: estimates, and figures of the run."""
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    result = run_hmc(action, shape, settings, generator, progress)
    wall_s = time.perf_counter() - start
    chains, length = result.phi.shape[:2]
    values = series(result.phi.flatten(0, 1).numpy())
    estimates = estimate({name: v.reshape(chains, length) for name, v in values.items()})
    figures = {
        "n": float(chains * length),
        "chains": float(chains),
        "acceptance": result.acceptance,
        "wall_s": wall_s,
    }
    return estimates, figures


@dataclass(frozen=True)
class Sampled:
    """A sample that was made exact.

    Attributes:
        draws: what the flow drew.
        chain: the Markov chain over the draws.
        results: figures, estimates of observables, exact values where known.
    """

    draws: Draws
    chain: Chain
    results: dict[str, Any]


def run(board: Board, loaded: LoadedFlow, plan: SamplePlan, steps: Steps) -> Sampled:
    """Program a flow, compensate, draw, and make the draws exact."""
    with steps("program and read back") as step:
        deployment = program_flow(board, loaded, plan, step.advance)
        step.note = f"{len(deployment.report.failed)} cells failed"
    if needs_calibration(board, plan):
        with steps("calibrate") as step:
            calibrate(board, plan, step)
        with steps("program again") as step:
            deployment = program_flow(board, loaded, plan, step.advance)
            step.note = f"{len(deployment.report.failed)} cells failed"
    with steps("LoRA compensation") as step:
        twin = compensate(
            loaded, deployment, plan, lambda log: step.advance(log.step, plan.lora_steps)
        )
    with steps("put the flow on the array") as step:
        deployed = deploy(twin, deployment, plan)
        step.note = f"log q checked to {deployed.density_error_nats:.1e} nats"
    with steps("draw configurations") as step:
        draws = collect(draw(deployed.flow, loaded.action, plan), plan, step.advance)
        step.note = f"{deployed.engine.saturated} conversions saturated"
    with steps("Metropolis-Hastings"):
        chain = metropolis(draws, plan)
        values = series(draws.phi)
        estimates = estimate({name: v[chain.indices] for name, v in values.items()})
    results = {
        **quality(draws, chain),
        "observables": estimates,
        "exact": exact_values(loaded.action, deployed.flow.settings.shape),
        "saturated_conversions": deployed.engine.saturated,
        "cells": int(deployment.report.asked.sum()),
        "failed_cells": deployment.report.failed,
        "board_time_s": board.board_time_s,
        "steps": steps.rows(),
    }
    return Sampled(draws, chain, results)


def table(
    array: dict[str, dict[str, float]],
    hmc: dict[str, dict[str, float]],
    exact: dict[str, float] | None,
) -> list[dict[str, Any]]:
    """Rows of the result table: exact, array and HMC with errors, deviation, tau of both.

    Deviations are in standard errors, from the exact value where it is known, otherwise of the
    two samplers from each other.
    """
    rows = []
    for name, found in array.items():
        other = hmc[name]
        known = exact[name] if exact else None
        rows.append(
            {
                "name": name,
                "exact": known,
                "array": (found["mean"], found["error"]),
                "hmc": (other["mean"], other["error"]),
                "array_sigma": _deviation(found, known, other),
                "hmc_sigma": _deviation(other, known, found),
                "array_tau": (found["tau"], found["tau_error"]),
                "hmc_tau": (other["tau"], other["tau_error"]),
            }
        )
    return rows


def _deviation(found: dict[str, float], exact: float | None, other: dict[str, float]) -> float:
    if exact is not None:
        return (found["mean"] - exact) / found["error"]
    return (found["mean"] - other["mean"]) / float(np.hypot(found["error"], other["error"]))
