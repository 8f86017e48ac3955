"""Program a weight matrix, then multiply a batch of inputs with it: y = W x."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rram_host.array.policies import CoarseFine, Policy
from rram_host.array.reports import ProgramReport
from rram_host.errors import InputError
from rram_host.experiments.steps import Steps
from rram_host.mapping.engine import ArrayEngine, Layout, exact
from rram_host.mapping.matrix import check_weights
from rram_host.mapping.schemes import scheme
from rram_host.session import Board

Array = npt.NDArray[np.float64]

_NAME = "weights"
_PROBE = 4096
_BATCH = 65_536


@dataclass(frozen=True)
class MultiplyPlan:
    """How to multiply.

    Attributes:
        scheme: weights to conductances, "single" or "differential".
        policy: how to program.
        read_average: reads averaged for the read-back.
    """

    scheme: str = "single"
    policy: Policy = field(default_factory=CoarseFine)
    read_average: int = 16

    def __post_init__(self) -> None:
        """Refuse an unknown scheme."""
        scheme(self.scheme)


@dataclass(frozen=True)
class MultiplyResult:
    """Products and what judges them.

    Attributes:
        outputs: read from the array, (n, rows).
        wanted: W x, (n, rows).
        report: what came of programming.
        values: errors relative to the rms output, and counters.
    """

    outputs: Array
    wanted: Array
    report: ProgramReport
    values: dict[str, Any]


def check(weights: npt.ArrayLike, inputs: npt.ArrayLike) -> tuple[Array, Array]:
    """Weights (rows, cols) and inputs (n, cols) that fit each other.

    Raises:
        InputError: not finite numbers, or shapes that do not fit.
    """
    matrix, x = check_weights(weights), check_weights(inputs, "inputs")
    if x.shape[1] != matrix.shape[1]:
        raise InputError(
            f"inputs have shape {x.shape}; weights of shape {matrix.shape} need "
            f"(n, {matrix.shape[1]})"
        )
    return matrix, x


def run(
    board: Board, weights: npt.ArrayLike, inputs: npt.ArrayLike, plan: MultiplyPlan, steps: Steps
) -> MultiplyResult:
    """Program, read back, multiply.

    Raises:
        InputError: as `check`, or more cells than the array has.
    """
    matrix, x = check(weights, inputs)
    layout = Layout.of({_NAME: matrix}, scheme(plan.scheme), board.array.shape)
    with steps("program the weights") as step:
        report = board.array.program(layout.targets(), plan.policy, step.advance)
        step.note = f"{report.mean_pulses:.2f} pulses a cell, {len(report.failed)} failed"
    with steps("read back"):
        measured = board.array.read(plan.read_average)
    engine = ArrayEngine(board.array, layout, board.spec.read_voltage_v)
    with steps("multiply") as step:
        with engine.probing():
            engine.multiply(_NAME, x[:_PROBE])
        parts = []
        for start in range(0, len(x), _BATCH):
            parts.append(engine.multiply(_NAME, x[start : start + _BATCH]))
            step.advance(min(start + _BATCH, len(x)), len(x))
        y = np.concatenate(parts)
        step.note = f"{len(x)} products, {engine.saturated} conversions saturated"
    wanted, programmed = x @ matrix.T, exact(layout, measured)(_NAME, x)
    values = {
        "products": len(x),
        "rms_output": _rms(wanted),
        "relative_rms_error": _rms(y - wanted) / (_rms(wanted) or 1.0),
        "relative_rms_error_of_read_back_weights": _rms(y - programmed) / (_rms(wanted) or 1.0),
        "saturated_conversions": engine.saturated,
    }
    return MultiplyResult(y, wanted, report, values)


def _rms(values: Array) -> float:
    return float(np.sqrt((values * values).mean()))
