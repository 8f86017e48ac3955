"""Put a flow's base products onto arrays: program, calibrate, compensate, check its density."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rram_host.analog.deploy import (
    Deployment,
    analog_model,
    check_boards,
    digital_twin,
    engine_of,
    layouts_of,
    program_layout,
)
from rram_host.analog.exactness import check_density, refuse_inexact
from rram_host.analog.reprogrammed import ReprogrammedArray
from rram_host.errors import InputError, require_whole
from rram_host.experiments.boards import (
    board_time_s,
    board_urls,
    calibrate_boards,
    open_boards,
    telling_how_long,
)
from rram_host.experiments.steps import Steps
from rram_host.flows.checkpoint import LoadedFlow
from rram_host.flows.protocol import Flow
from rram_host.flows.train_settings import FinetuneSettings, TrainLog
from rram_host.flows.training import finetune
from rram_host.mapping.engine import ArrayEngine, ArraysEngine, Layout
from rram_host.mapping.schemes import scheme
from rram_host.session import Board

__all__ = [
    "DeployPlan",
    "Deployed",
    "arrays_needed",
    "board_time_s",
    "board_urls",
    "calibrate_and_program",
    "compensate",
    "deploy",
    "deploy_flow",
    "has_lora",
    "open_boards",
    "program_flow",
    "programmed",
    "share_within",
]

Progress = Callable[[int, int], None]

MAX_SEED = 2**62
_PROBES = 2048  # draws that amplifier ranges are chosen from


@dataclass(frozen=True)
class DeployPlan:
    """How to put a flow onto arrays.

    Attributes:
        seed: of the draws that choose ranges, of the density check and of the compensation.
        scheme: weights to conductances, "single" or "differential".
        lora_steps: steps of LoRA compensation for the weights as read back; 0 for none.
        read_average: reads averaged for the read-back.
        calibration_turns: how long to calibrate (`CalibrationPlan.turns`) where a board has no
            calibration yet; 0 for not at all. A quarter of what `rram calibrate` takes is enough
            here, because the flow is fitted to the weights as read back.
        reprogram: where the model takes more arrays than there are boards, program the first board
            again whenever the model asks for a tile that is not on it. Every programming has
            errors of its own, so nothing is compensated.
    """

    seed: int = 7
    scheme: str = "single"
    lora_steps: int = 300
    read_average: int = 16
    calibration_turns: int = 64
    reprogram: bool = False

    def __post_init__(self) -> None:
        """Refuse a plan that cannot run."""
        least_of = {"lora_steps": 0, "read_average": 1, "calibration_turns": 0}
        require_whole(seed=self.seed, **{name: getattr(self, name) for name in least_of})
        if not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"seed {self.seed} is outside 0..{MAX_SEED}")
        for name, least in least_of.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} = {getattr(self, name)} must be at least {least}")
        scheme(self.scheme)


@dataclass(frozen=True)
class Deployed:
    """A flow on arrays, checked.

    Attributes:
        flow: its base products run on the arrays; `push` is what was checked.
        twin: the same with the weights that were read back, in software.
        engine: multiplies; counts vectors and saturated conversions, of all arrays together.
        deployments: what was programmed and read back, one for each array.
        density_error_nats: what `check_density` found.
        reprogrammed: the one array behind all tiles and how often it was programmed; None where
            every tile has an array of its own.
    """

    flow: Any
    twin: Any
    engine: ArraysEngine
    deployments: tuple[Deployment, ...]
    density_error_nats: float
    reprogrammed: ReprogrammedArray | None = None

    @property
    def engines(self) -> tuple[ArrayEngine, ...]:
        """What multiplies, one for each array."""
        return self.engine.engines

    @property
    def failed(self) -> int:
        """Cells that did not converge when they were programmed."""
        return sum(len(d.report.failed) for d in self.deployments)

    @property
    def cells(self) -> int:
        """Cells that hold a weight."""
        return sum(d.layout.cells for d in self.deployments)

    def values(self) -> dict[str, Any]:
        """What a result says of it, as plain values."""
        again = self.reprogrammed
        return {
            "arrays": len(self.deployments),
            "boards": 1 if again else len(self.deployments),
            "cells": self.cells,
            "failed_cells": [c for d in self.deployments for c in d.report.failed],
            "reprogrammed": again.values() if again else None,
            "vectors": self.engine.vectors,
            "saturated_conversions": self.engine.saturated,
            "density_error_nats": self.density_error_nats,
        }


def deploy_flow(
    boards: Sequence[Board], loaded: LoadedFlow, plan: DeployPlan, steps: Steps
) -> Deployed:
    """Put a flow onto boards, ready to `push`.

    Args:
        boards: open boards; as many as the flow takes arrays are used, the rest is left alone. One
            is enough with `plan.reprogram`.
        loaded: the flow.
        plan: how.
        steps: is told of every step.

    Raises:
        InputError: too few boards (says how many it takes), or weights that are not finite.
        UnsafeDensityError: log q is not the density of what the flow draws on the arrays.
    """
    refuse_inexact(loaded.flow)
    layouts = _layouts(boards, loaded.flow, plan)
    if len(layouts) > len(boards) and plan.reprogram:
        return _on_one_board(boards[0], layouts, loaded.flow, plan, steps)
    deployments = calibrate_and_program(boards, loaded, plan, steps)
    with steps("LoRA compensation") as step:
        twin = compensate(
            loaded, deployments, plan, lambda log: step.advance(log.step, plan.lora_steps)
        )
        step.note = f"{plan.lora_steps} steps on the weights as read back"
        if not has_lora(loaded.flow):
            step.note = "the flow has no low-rank corrections"
    with steps("put the flow on the array") as step:
        deployed = deploy(twin, deployments, plan)
        step.note = f"log q checked to {deployed.density_error_nats:.1e} nats"
    return deployed


def arrays_needed(
    flow: Flow, scheme_name: str = "single", shape: tuple[int, int] = (32, 32)
) -> int:
    """How many arrays of `shape` (rows, cols) a flow's base products take."""
    return len(layouts_of(flow.products(), scheme(scheme_name), shape))


def _layouts(boards: Sequence[Board], flow: Flow, plan: DeployPlan) -> tuple[Layout, ...]:
    shapes = {board.array.shape for board in boards}
    if not boards:
        raise InputError("a flow goes onto one board or more, none is given")
    if len(shapes) != 1:
        raise InputError(f"a flow goes onto boards of one shape, asked {sorted(shapes)}")
    return layouts_of(flow.products(), scheme(plan.scheme), shapes.pop())


def program_flow(
    boards: Sequence[Board], loaded: LoadedFlow, plan: DeployPlan, progress: Progress | None = None
) -> tuple[Deployment, ...]:
    """Program the base matrices of a flow, all at once, and read them back.

    Raises:
        InputError: too few boards.
    """
    layouts = _layouts(boards, loaded.flow, plan)
    check_boards(layouts, len(boards))
    return _program(boards, layouts, plan, progress)


def calibrate_and_program(
    boards: Sequence[Board], loaded: LoadedFlow, plan: DeployPlan, steps: Steps
) -> tuple[Deployment, ...]:
    """Calibrate the boards that need it, then program the flow's base matrices and read them back.

    Raises:
        InputError: too few boards.
    """
    layouts = _layouts(boards, loaded.flow, plan)
    check_boards(layouts, len(boards))
    used = boards[: len(layouts)]
    told = calibrate_boards(used, plan.calibration_turns, plan.seed, steps)
    with steps("program and read back") as step:
        advance = step.advance
        if not told:
            advance = telling_how_long(steps, len(layouts), layouts[0].cells, advance)
        found = _program(boards, layouts, plan, advance)
        step.note = programmed(found)
    return found


def _program(
    boards: Sequence[Board],
    layouts: Sequence[Layout],
    plan: DeployPlan,
    progress: Progress | None = None,
) -> tuple[Deployment, ...]:
    total, done, found = sum(layout.cells for layout in layouts), 0, []
    for board, layout in zip(boards, layouts, strict=False):
        found.append(
            program_layout(board, layout, None, plan.read_average, _after(done, total, progress))
        )
        done += layout.cells
    return tuple(found)


def _after(before: int, total: int, progress: Progress | None) -> Progress | None:
    """Progress of a part as progress of the whole."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)


def programmed(deployments: Sequence[Deployment]) -> str:
    """What came of programming, for a person."""
    reports = [d.report for d in deployments]
    cells = sum(int(r.asked.sum()) for r in reports)
    pulses = sum(float(r.pulses[r.asked].sum()) for r in reports) / max(cells, 1)
    words, transactions = sum(r.words for r in reports), sum(r.transactions for r in reports)
    arrays = f"{len(reports)} arrays, " if len(reports) > 1 else ""
    return (
        f"{arrays}{pulses:.2f} pulses a cell, "
        f"{100 * share_within(deployments):.1f} % read back within ±1.5 µS, "
        f"{sum(len(r.failed) for r in reports)} failed, {transactions} transactions, {words} words"
    )


def share_within(deployments: Sequence[Deployment], limit_siemens: float = 1.5e-6) -> float:
    """Share of programmed cells that were read back within a limit of their targets."""
    errors = np.concatenate(
        [(d.measured_siemens - d.report.targets_siemens)[d.report.asked] for d in deployments]
    )
    return float((np.abs(errors) <= limit_siemens).mean())


def has_lora(flow: Flow) -> bool:
    """Whether a flow has low-rank corrections that a compensation could train."""
    return any(".lora_" in name for name, _ in flow.named_parameters())


def compensate(
    loaded: LoadedFlow,
    deployments: Sequence[Deployment],
    plan: DeployPlan,
    callback: Callable[[TrainLog], None] | None = None,
) -> Any:
    """LoRA compensation: the flow with the weights as read back, its low-rank part retrained."""
    twin = digital_twin(loaded.flow, deployments)
    if plan.lora_steps and has_lora(loaded.flow):
        settings = FinetuneSettings(parameters="lora", steps=plan.lora_steps, seed=plan.seed)
        finetune(twin, loaded.action, settings, callback)
    return twin


def deploy(twin: Any, deployments: Sequence[Deployment], plan: DeployPlan) -> Deployed:
    """Put a compensated flow's base products on the arrays and check its density.

    Raises:
        UnsafeDensityError: log q is not the density of what it draws.
    """
    return _checked(twin, engine_of(deployments), tuple(deployments), plan, None)


def _on_one_board(
    board: Board, layouts: tuple[Layout, ...], flow: Flow, plan: DeployPlan, steps: Steps
) -> Deployed:
    calibrate_boards([board], plan.calibration_turns, plan.seed, steps)
    array = ReprogrammedArray(board, layouts, plan.read_average)
    with steps("program and read back") as step:
        deployments = array.program_all(step.advance)
        step.note = f"{len(layouts)} tile sets in turn on one array; {programmed(deployments)}"
    with steps("put the flow on the array") as step:
        twin = digital_twin(flow, deployments)
        deployed = _checked(twin, array.engine(), deployments, plan, array)
        step.note = (
            f"log q checked to {deployed.density_error_nats:.1e} nats; the array has been "
            f"programmed {array.programmings} times so far"
        )
    return deployed


def _checked(
    twin: Any,
    engine: ArraysEngine,
    deployments: tuple[Deployment, ...],
    plan: DeployPlan,
    array: ReprogrammedArray | None,
) -> Deployed:
    generator = torch.Generator().manual_seed(plan.seed + 1)

    def probe(model: Any) -> None:
        with torch.no_grad():
            model.push(model.draw(_PROBES, generator))

    flow, tape = analog_model(twin, engine, probe)
    error = check_density(flow, tape, plan.seed)
    return Deployed(flow, twin, engine, deployments, error, array)
