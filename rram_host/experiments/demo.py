"""The main job, from an unknown board to exact lattice observables, recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rram_host.analog.deploy import Deployment
from rram_host.errors import BoardFault
from rram_host.experiments import sample_lattice as lattice
from rram_host.experiments.deploy_flow import Deployed, deploy_flow, share_within
from rram_host.experiments.sample_lattice import SamplePlan
from rram_host.experiments.steps import Observer, Steps
from rram_host.flows import checkpoint
from rram_host.flows.checkpoint import LoadedFlow
from rram_host.lattice.samplers import HmcSettings
from rram_host.mapping.engine import ArrayEngine, exact
from rram_host.records import plots
from rram_host.records.run_folder import RunFolder
from rram_host.session import Board, open_board
from rram_host.transports.base import Transport

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DemoPlan:
    """What the demo does.

    Attributes:
        model: a shipped flow, or a file.
        spec: how the board is wired: name of a board file, or a path.
        passport: file of the chip's passport, where it has one.
        sample: how to sample.
        products: products compared per matrix.
        hmc: the reference run; None for tuned settings.
        trace: file to record the traffic with the board in.
    """

    model: str = "phi4_L4"
    spec: str = "zc706"
    passport: Path | None = None
    sample: SamplePlan = field(default_factory=SamplePlan)
    products: int = 4096
    hmc: HmcSettings | None = None
    trace: Path | None = None


def run(
    target: str | Transport, plan: DemoPlan, observer: Observer, folder: RunFolder
) -> dict[str, Any]:
    """Run the whole job on any board.

    Args:
        target: URL or transport, as for `open_board`.
        plan: what to do.
        observer: is told of every step.
        folder: is left with data, settings and pictures.

    Returns:
        Results, as they also stand in run.json.
    """
    steps = Steps(observer)
    loaded = checkpoint.load(checkpoint.resolve(plan.model))
    with steps("open the board") as step:
        board = open_board(target, plan.spec, passport=plan.passport, trace=plan.trace)
        step.note = f"{board.info()['contract_hash']} is the contract of both sides"
    with board:
        steps.board_time_s = lambda: board.board_time_s
        try:
            results = _on_board(board, loaded, plan, steps, folder)
        finally:
            folder.note(steps=steps.rows(), board=board.info(), traffic=asdict(board.traffic))
    folder.note(steps=steps.rows(), results=results)
    return results


def _on_board(
    board: Board, loaded: LoadedFlow, plan: DemoPlan, steps: Steps, folder: RunFolder
) -> dict[str, Any]:
    with steps("self-test") as step:
        test = board.self_test()
        if not test.passed:
            raise BoardFault("self-test: " + "; ".join(test.faults))
        worst = float(np.abs(test.tia_offset_v).max())
        step.note = f"{board.spec.dac_chips} DACs answer, largest offset {worst * 1e3:.2f} mV"
    with steps("form the array") as step:
        formed = board.array.form(progress=step.advance)
        step.note = (
            f"{int((formed.pulses > 0).sum())} cells formed, {int(formed.unformed.sum())} "
            f"unformed, {int(formed.shorted.sum())} shorted"
        )
    deployed = deploy_flow([board], loaded, plan.sample, steps)
    (deployment,) = deployed.deployments
    _keep_programming(deployment, folder)
    compared = _compare(deployment, plan, steps, folder)
    sampled = _sample(deployed, loaded, plan, steps, folder)
    left_out = [[*cell, reason] for cell, reason in board.left_out.items()]
    return {**_programming(deployment), "left_out": left_out, "products": compared, **sampled}


def _keep_programming(deployment: Deployment, folder: RunFolder) -> None:
    report = deployment.report
    targets = deployment.layout.targets()
    measured = np.where(report.asked, deployment.measured_siemens, np.nan)
    folder.save(
        "array",
        targets_siemens=targets,
        measured_siemens=deployment.measured_siemens,
        pulses=report.pulses,
        form_pulses=report.form_pulses,
    )
    plots.programming(folder.file("array.png"), targets, measured, report.pulses)


def _programming(deployment: Deployment) -> dict[str, Any]:
    report = deployment.report
    error = (deployment.measured_siemens - report.targets_siemens)[report.asked]
    return {
        "cells": int(report.asked.sum()),
        "mean_pulses": report.mean_pulses,
        "share_within_1p5_microsiemens": share_within([deployment]),
        "error_std_siemens": float(error.std()),
        "failed_cells": report.failed,
    }


def _compare(
    deployment: Deployment, plan: DemoPlan, steps: Steps, folder: RunFolder
) -> dict[str, Any]:
    """Products through the array against exact products of the weights as read back."""
    board = deployment.board
    engine = ArrayEngine(board.array, deployment.layout, board.spec.read_voltage_v)
    multiply = exact(deployment.layout, deployment.measured_siemens)
    wanted = exact(deployment.layout, deployment.layout.targets())
    rng = np.random.default_rng(plan.sample.seed)
    found: dict[str, Any] = {}
    with steps("compare products") as step:
        for number, (name, matrix) in enumerate(deployment.layout.matrices.items()):
            columns = matrix.conductances_siemens.shape[1] // matrix.scheme.cells_per_weight
            inputs = rng.uniform(-1.0, 1.0, (plan.products, columns))
            with engine.probing():
                engine.multiply(name, inputs)
            read, reference = engine.multiply(name, inputs), multiply(name, inputs)
            found[name] = _errors(read, reference, wanted(name, inputs))
            path = folder.file(f"products_{name}.png")
            plots.products(path, reference, read, f"{name}: {plan.products} vectors")
            step.advance(number + 1, len(deployment.layout.matrices))
        worst = max(entry["relative_to_read_back"] for entry in found.values())
        step.note = (
            f"{plan.products} random vectors a matrix, rms error at most {100 * worst:.1f} % of "
            "rms product"
        )
    return found


def _errors(read: Array, reference: Array, wanted: Array) -> dict[str, float]:
    scale = float(reference.std())
    return {
        "rms": scale,
        "relative_to_read_back": float((read - reference).std()) / scale,
        "relative_to_target": float((read - wanted).std()) / scale,
    }


def _sample(
    deployed: Deployed,
    loaded: LoadedFlow,
    plan: DemoPlan,
    steps: Steps,
    folder: RunFolder,
) -> dict[str, Any]:
    action, shape, sample = loaded.action, deployed.flow.shape, plan.sample
    with steps("draw configurations") as step:
        batches = lattice.draw(deployed.flow, action, sample)
        draws = lattice.collect(batches, sample, step.advance)
        step.note = (
            f"{sample.n} drawn with {deployed.engine.vectors} vectors through the array, "
            f"{deployed.engine.saturated} conversions saturated"
        )
    with steps("Metropolis-Hastings") as step:
        chain = lattice.metropolis(draws, sample)
        array = lattice.quality(draws, chain)
        step.note = f"acceptance {array['acceptance']:.3f}, ESS {array['ess']:.3f}"
    with steps("software flow, HMC") as step:
        software_draws = lattice.collect(lattice.draw(loaded.flow, action, sample), sample)
        software = lattice.quality(software_draws, lattice.metropolis(software_draws, sample))
        hmc, hmc_figures = lattice.hmc_reference(action, shape, plan.hmc, sample.seed, step.advance)
        step.note = f"software ESS {software['ess']:.3f}; {int(hmc_figures['n'])} HMC trajectories"
    values = lattice.series(draws.phi)
    chains = {name: value[chain.indices] for name, value in values.items()}
    known = lattice.exact_values(action, shape)
    rows = lattice.table(lattice.estimate(chains), hmc, known)
    folder.save(
        "samples",
        phi=draws.phi.astype(np.float32),
        log_q=draws.log_q,
        log_w=draws.log_w,
        chain=chain.indices,
        accepted=chain.accepted,
    )
    if known:
        plots.observables(folder.file("observables.png"), rows)
    return {
        "array_flow": array,
        "software_flow": software,
        "ess_ratio": array["ess"] / software["ess"],
        "hmc": hmc_figures,
        "exact": known,
        "observables": rows,
    }


def settings(target: object, plan: DemoPlan) -> Mapping[str, Any]:
    """Everything needed to run the demo again."""
    name = target if isinstance(target, str) else type(target).__name__
    return {"board": name, **asdict(plan)}


def folder_for(target: object, plan: DemoPlan, out: Path | None) -> RunFolder:
    """The run folder: `out`, or a fresh one under runs/."""
    chosen = settings(target, plan)
    return RunFolder(out, "demo", chosen) if out else RunFolder.new("demo", chosen)
