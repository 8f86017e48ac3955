"""A model onto an array: its base matrices as cells, the rest of it digital."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rram_host.analog.layers import AnalogLinear
from rram_host.analog.tape import Tape
from rram_host.array.policies import Policy
from rram_host.array.reports import ProgramReport
from rram_host.mapping.engine import ArrayEngine, Layout
from rram_host.mapping.schemes import Scheme
from rram_host.session import Board

Array = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
Model = TypeVar("Model", bound=nn.Module)


class HasBase(Protocol):
    """A product whose dense matrix is a module of its own."""

    base: nn.Module

    def weight(self) -> Tensor:
        """The dense matrix, (out, in)."""
        ...


@dataclass(frozen=True)
class Deployment:
    """A programmed array with what is known of it.

    Attributes:
        board: the board.
        layout: which weight sits in which cell.
        report: what came of programming.
        measured_siemens: read back after programming, (rows, cols).
    """

    board: Board
    layout: Layout
    report: ProgramReport
    measured_siemens: Array

    def weights(self) -> dict[str, Array]:
        """Weights as they were read back, by matrix."""
        return self.layout.weights(self.measured_siemens)


def matrices(products: Mapping[str, HasBase]) -> dict[str, Array]:
    """Base matrices of a model, as float64 arrays."""
    return {name: p.weight().detach().double().numpy() for name, p in products.items()}


def program_model(
    board: Board,
    products: Mapping[str, HasBase],
    scheme: Scheme,
    policy: Policy | None = None,
    average: int = 16,
    progress: Progress | None = None,
) -> Deployment:
    """Place all base matrices of a model on one array, program them, and read them back.

    Args:
        board: an open board.
        products: base matrices by name.
        scheme: weights to conductances.
        policy: write-verify policy; default that of `Crossbar.program`.
        average: reads averaged for the read-back.
        progress: called with (cells done, cells asked).

    Raises:
        InputError: the matrices have more cells than the array.
    """
    layout = Layout.of(matrices(products), scheme, board.array.shape)
    report = board.array.program(layout.targets(), policy, progress)
    return Deployment(board, layout, report, board.array.read(average))


def digital_twin(
    model: Model, products_of: Callable[[Model], Mapping[str, HasBase]], deployment: Deployment
) -> Model:
    """A copy of the model whose base weights are what the array was read to hold."""
    twin = copy.deepcopy(model)
    for name, product in products_of(twin).items():
        with torch.no_grad():
            product.weight().copy_(torch.from_numpy(deployment.weights()[name]))
    return twin


def analog_model(
    model: Model,
    products_of: Callable[[Model], Mapping[str, HasBase]],
    deployment: Deployment,
    probe: Callable[[Model], object],
) -> tuple[Model, ArrayEngine, Tape]:
    """A copy of the model whose base products run on the array.

    Args:
        model: any module.
        products_of: from a model to its products by name, e.g. `CouplingFlow.products`.
        deployment: the programmed array.
        probe: runs the model on typical inputs; fixes the amplifier range of every block.

    Returns:
        The model, the engine that counts what it sends, and the tape of its reads.
    """
    engine = ArrayEngine(
        deployment.board.array, deployment.layout, deployment.board.spec.read_voltage_v
    )
    tape = Tape()
    deployed = copy.deepcopy(model)
    for name, product in products_of(deployed).items():
        product.base = AnalogLinear(engine, name, tape)
    with engine.probing():
        probe(deployed)
    return deployed, engine, tape
