"""A model onto arrays: its base matrices as cells, the rest of it digital."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rram_host.analog.layers import AnalogLinear, Multiplies
from rram_host.analog.tape import Tape
from rram_host.array.policies import Policy
from rram_host.array.reports import ProgramReport
from rram_host.errors import InputError
from rram_host.mapping.engine import ArrayEngine, ArraysEngine, Layout, whole_weights
from rram_host.mapping.schemes import Scheme
from rram_host.session import Board

Array = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]


class HasBase(Protocol):
    """A product whose dense matrix is a module of its own."""

    base: nn.Module

    def weight(self) -> Tensor:
        """The dense matrix, (out, in)."""
        ...

    def set_weight_(self, weight: Tensor) -> None:
        """Put another dense matrix in its place."""
        ...


class HasProducts(Protocol):
    """A model that lists its products by name."""

    def products(self) -> Mapping[str, HasBase]:
        """Its products; each calls its base once for a forward pass through it."""
        ...


class Engine(Multiplies, Protocol):
    """What multiplies: one array, several, or one that is programmed again and again."""

    def probing(self) -> AbstractContextManager[None]:
        """Inside, amplifier ranges are found."""
        ...


Model = TypeVar("Model", bound=HasProducts)


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


def matrices(products: Mapping[str, HasBase]) -> dict[str, Array]:
    """Base matrices of a model, as float64 arrays."""
    return {name: p.weight().detach().double().numpy() for name, p in products.items()}


def layouts_of(
    products: Mapping[str, HasBase], scheme: Scheme, shape: tuple[int, int]
) -> tuple[Layout, ...]:
    """Base matrices of a model on as few arrays of `shape` (rows, cols) as hold them.

    Raises:
        InputError: the model has no product, or weights that are not finite.
    """
    if not products:
        raise InputError("the model has no matrix product: there is nothing to put on an array")
    return Layout.on_arrays(matrices(products), scheme, shape)


def check_boards(layouts: Sequence[Layout], boards: int) -> None:
    """Refuse fewer boards than arrays are needed.

    Raises:
        InputError: says how many it takes.
    """
    rows, cols = layouts[0].placement.shape
    if len(layouts) > boards:
        raise InputError(
            f"the model's {sum(layout.cells for layout in layouts)} cells take {len(layouts)} "
            f"arrays of {rows} x {cols}, and {boards} {'is' if boards == 1 else 'are'} there: open "
            f"{len(layouts)} boards, or have one board programmed again whenever the model "
            "needs what is not on it"
        )


def program_layout(
    board: Board,
    layout: Layout,
    policy: Policy | None = None,
    average: int = 16,
    progress: Progress | None = None,
) -> Deployment:
    """Program one array, and read it back.

    Args:
        board: an open board.
        layout: what to program.
        policy: write-verify policy; default that of `Crossbar.program`.
        average: reads averaged for the read-back.
        progress: called with (cells done, cells asked).
    """
    report = board.array.program(layout.targets(), policy, progress)
    return Deployment(board, layout, report, board.array.read(average))


def weights_of(deployments: Sequence[Deployment]) -> dict[str, Array]:
    """Weights of a model as they were read back, by matrix."""
    return whole_weights([(d.layout, d.measured_siemens) for d in deployments])


def digital_twin(model: Model, deployments: Sequence[Deployment]) -> Model:
    """A copy of the model whose base weights are what the arrays were read to hold."""
    untied = getattr(model, "untied", None)  # matrices that symmetries tie are read one by one
    twin, found = untied() if untied else copy.deepcopy(model), weights_of(deployments)
    for name, product in twin.products().items():
        product.set_weight_(torch.from_numpy(found[name]))
    return twin


def engine_of(deployments: Sequence[Deployment]) -> ArraysEngine:
    """What multiplies with the matrices of a model, each array on its board.

    Raises:
        InputError: boards read at different voltages.
    """
    volts = {d.board.spec.read_voltage_v for d in deployments}
    if len(volts) > 1:
        raise InputError(f"boards of one model read at one voltage, these at {sorted(volts)} V")
    (read_v,) = volts
    return ArraysEngine([ArrayEngine(d.board.array, d.layout, read_v) for d in deployments], read_v)


def analog_model(
    model: Model, engine: Engine, probe: Callable[[Model], object]
) -> tuple[Model, Tape]:
    """A copy of the model whose base products run on arrays.

    Args:
        model: any module with products.
        engine: what multiplies.
        probe: runs the model on typical inputs; fixes the amplifier range of every block.

    Returns:
        The model, and the tape of its reads.
    """
    tape = Tape()
    deployed = copy.deepcopy(model)
    for name, product in deployed.products().items():
        product.base = AnalogLinear(engine, name, tape)
    with engine.probing():
        probe(deployed)
    return deployed, tape
