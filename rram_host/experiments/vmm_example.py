"""Products of a random matrix and random vectors, shown whole (Fig. 2k of arXiv 2509.12812).

A unit programs one matrix of weights in [-1, 1] as conductances of 20 to 80 µS around a reference
of 50 µS, reads it back, and sends a batch of vectors of ±0.1 V through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.policies import policy_named
from rram_host.errors import InputError
from rram_host.experiments import programmed
from rram_host.experiments.experiment import Experiment, Finding, setting, unit_rng
from rram_host.mapping.engine import ArrayEngine, Layout
from rram_host.mapping.schemes import SCHEMES, scheme
from rram_host.records.columns import Batch, Column, Data
from rram_host.session import Board

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

_NAME = "weights"
_MAX_VECTORS = 16_384
_MAX_MATRICES = 1000


@dataclass(frozen=True)
class VmmExamplePlan:
    """What to multiply; the fields' help texts say the rest."""

    matrices: int = setting(4, "random matrices, one after another")
    vectors: int = setting(256, "random input vectors for each")
    scheme: str = setting("single", "weights to conductances: single or differential")
    policy: str = setting("coarse-fine", programmed.POLICY_HELP)
    read_average: int = setting(16, "reads averaged of every weight before the products")
    seed: int = setting(7, "seed of weights and inputs")

    def __post_init__(self) -> None:
        """Refuse products of nothing."""
        programmed.check_average(self.read_average)
        policy_named(self.policy)
        scheme(self.scheme)
        for name, most in (("matrices", _MAX_MATRICES), ("vectors", _MAX_VECTORS)):
            if not 1 <= getattr(self, name) <= most:
                raise InputError(f"{name} = {getattr(self, name)} is outside 1..{most}")

    def shape(self, spec: BoardSpec) -> tuple[int, int]:
        """Outputs and inputs of a matrix that fills the array."""
        return spec.rows, spec.cols // SCHEMES[self.scheme]().cells_per_weight


def columns(plan: VmmExamplePlan, spec: BoardSpec) -> tuple[Column, ...]:
    """One record is one matrix with all its vectors."""
    out, into = plan.shape(spec)
    matrix: dict[str, Any] = {"dims": ("output", "input"), "shape": (out, into)}
    sent: dict[str, Any] = {"dims": ("vector", "input"), "shape": (plan.vectors, into)}
    come: dict[str, Any] = {"dims": ("vector", "output"), "shape": (plan.vectors, out)}
    return (
        Column("weights", "", "weights asked for", **matrix),
        Column("weights_read", "", "weights that the cells were read to hold", **matrix),
        Column("inputs_v", "V", "input voltages", **sent),
        Column("outputs_v", "V", "weighted sums of the inputs, measured", **come),
        Column("saturated", "", "conversions at the end of their range", dtype="i8"),
        Column("left_out", "", "cells dead or worn by the passport: left as they were", dtype="i8"),
    )


def units(plan: VmmExamplePlan, spec: BoardSpec) -> int:
    """A unit is a matrix."""
    return plan.matrices


def run(board: Board, plan: VmmExamplePlan, start: int, done: Data) -> Iterator[Batch]:
    """Program, read and multiply, matrix after matrix."""
    out, into = plan.shape(board.spec)
    read_v = board.spec.read_voltage_v
    for unit in range(start, plan.matrices):
        rng = unit_rng(plan.seed, unit)
        weights = rng.uniform(-1.0, 1.0, (out, into))
        inputs = rng.uniform(-read_v, read_v, (plan.vectors, into))
        layout = Layout.of({_NAME: weights}, scheme(plan.scheme), board.array.shape)
        board.array.program(layout.targets(), policy_named(plan.policy))
        left_out = len(board.left_out)
        # also what corrections of drops along lines are taken from, so in every unit anew
        held = layout.weights(board.array.read(plan.read_average))[_NAME]
        engine = ArrayEngine(board.array, layout, read_v)
        outputs = engine.multiply(_NAME, inputs)
        yield {
            "weights": weights[None],
            "weights_read": held[None],
            "inputs_v": inputs[None],
            "outputs_v": outputs[None],
            "saturated": np.array([engine.saturated]),
            "left_out": np.array([left_out]),
        }


def exact_v(data: Data, weights: str = "weights") -> Array:
    """Exact products of the recorded inputs with "weights" or "weights_read", volts.

    Returns:
        (records, vectors, outputs).
    """
    w, x = np.asarray(data[weights], dtype=float), np.asarray(data["inputs_v"], dtype=float)
    return np.asarray(x @ w.transpose(0, 2, 1))


def relative_error(data: Data, weights: str) -> tuple[float, float]:
    """Rms of measured minus exact over the rms of exact products, and its standard error.

    Products of one output share the errors of its weights, so the error is one of means over
    outputs: their relative mean squares, spread over all outputs of all matrices.
    """
    exact = exact_v(data, weights)
    square = np.mean((np.asarray(data["outputs_v"], dtype=float) - exact) ** 2, axis=1).ravel()
    square = square / np.mean(exact**2)
    value = float(np.sqrt(square.mean()))
    if square.size < 2 or value == 0.0:
        return value, np.nan
    return value, float(square.std(ddof=1) / np.sqrt(square.size) / (2 * value))


def findings(plan: VmmExamplePlan, data: Data) -> list[Finding]:
    """Errors against the weights asked for, and against those that the cells were read to hold."""
    if not len(data.get("saturated", ())):
        return []
    found = []
    for name, weights in (("W", "weights"), ("W as read back", "weights_read")):
        value, uncertain = relative_error(data, weights)
        text = f"rms error of a product against {name}, of its rms"
        found.append(Finding(text, 100 * value, "%", 100 * uncertain))
    programmed_w = np.asarray(data["weights_read"], dtype=float) - data["weights"].astype(float)
    return [
        *found,
        Finding("std of weights read minus asked, of the largest", 100 * programmed_w.std(), "%"),
        Finding("products measured", np.asarray(data["outputs_v"]).size),
        Finding("conversions saturated", int(data["saturated"].sum())),
        Finding("cells dead or worn by the passport, left as they were", _left_out(data)),
    ]


def _left_out(data: Data) -> int:
    """Most cells that a matrix had to do without."""
    return int(np.asarray(data["left_out"], dtype=np.int64).max(initial=0))


def draw(figure: Figure, plan: VmmExamplePlan, data: Data) -> None:
    """Inputs, weights and outputs of the first matrix, and measured against exact products."""
    axes = figure.subplot_mosaic("AB;CD")
    if not len(data.get("saturated", ())):
        return
    exact, measured = exact_v(data), np.asarray(data["outputs_v"], dtype=float)
    weights, inputs = data["weights_read"][0], data["inputs_v"][0][:32] * 1e3
    style: dict[str, Any] = {"cmap": "RdBu", "interpolation": "nearest", "aspect": "auto"}
    shown = axes["A"].imshow(inputs, **style)
    figure.colorbar(shown, ax=axes["A"], label="input (mV)")
    axes["A"].set(title="inputs", xlabel="column (BL)", ylabel="vector")
    shown = axes["B"].imshow(weights, vmin=-1, vmax=1, **style)
    figure.colorbar(shown, ax=axes["B"], label="weight")
    axes["B"].set(title="weights read back", xlabel="column (BL)", ylabel="row (SL)")
    span = float(np.abs(exact[0][:32]).max()) * 1e3
    shown = axes["C"].imshow(measured[0][:32] * 1e3, vmin=-span, vmax=span, **style)
    figure.colorbar(shown, ax=axes["C"], label="output (mV)")
    axes["C"].set(title="outputs", xlabel="row (SL)", ylabel="vector")
    axes["D"].plot(exact.ravel() * 1e3, measured.ravel() * 1e3, ".", markersize=1.5, alpha=0.3)
    axes["D"].axline((0, 0), slope=1, color="k", linewidth=0.8)
    value, _ = relative_error(data, "weights")
    axes["D"].set(
        title=f"rms error {100 * value:.2f} %", xlabel="exact (mV)", ylabel="measured (mV)"
    )


EXPERIMENT = Experiment(
    name="vmm-example",
    title="vector-matrix products",
    help="""Program random weights, send random vectors through them, compare with exact products.

    Weights are 20 to 80 µS around a reference of 50 µS, inputs ±0.1 V. What was stored is lost.

    \b
    rram vmm-example --board 'sim://?preset=taox_180nm&seed=7'
    rram vmm-example --scheme differential --vectors 1024
    """,
    plan=VmmExamplePlan,
    columns=columns,
    units=units,
    run=run,
    findings=findings,
    draw=draw,
)
