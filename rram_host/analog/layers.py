"""A matrix product of a torch model that runs on arrays."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rram_host.analog.tape import Tape


class Multiplies(Protocol):
    """Products of matrices by name, e.g. `rram_host.mapping.engine.ArraysEngine`."""

    def multiply(self, name: str, inputs: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Products (n, out) of inputs (n, in)."""
        ...


class AnalogLinear(nn.Module):
    """y = W x on the array, (n, in) -> (n, out). It has no weight and no gradient: it is a reading.

    Args:
        engine: the programmed arrays.
        name: which of their matrices.
        tape: where reads are recorded or replayed.
    """

    def __init__(self, engine: Multiplies, name: str, tape: Tape) -> None:
        super().__init__()
        self._engine, self._name, self._tape = engine, name, tape

    def forward(self, inputs: Tensor) -> Tensor:
        """Read the products of a batch, once."""

        def measure() -> Tensor:
            values = self._engine.multiply(self._name, inputs.detach().double().numpy())
            return torch.from_numpy(values).to(inputs.dtype)

        return self._tape.read(self._name, inputs, measure)
