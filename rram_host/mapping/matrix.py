"""A weight matrix as the array sees it: scaled weights, scaled inputs, products in weight units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError
from rram_host.mapping.schemes import Scheme

Array = npt.NDArray[np.float64]


def check_weights(weights: npt.ArrayLike, name: str = "weights") -> Array:
    """A matrix of finite numbers.

    Raises:
        InputError: not two-dimensional, empty, or not finite.
    """
    try:
        values = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name}: expected a matrix of numbers") from None
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"{name} have shape {values.shape}, expected (rows, columns)")
    if not np.isfinite(values).all():
        raise InputError(f"{name}: {(~np.isfinite(values)).sum()} entries are not finite")
    return values


@dataclass(frozen=True)
class MappedMatrix:
    """One matrix under a scheme.

    Attributes:
        scheme: weights to conductances.
        largest: weight that takes the whole window, max |W|.
        conductances_siemens: targets, (out, in * cells_per_weight).
    """

    scheme: Scheme
    largest: float
    conductances_siemens: Array

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns that it takes, in cells."""
        rows, cols = self.conductances_siemens.shape
        return rows, cols

    @staticmethod
    def of(weights: npt.ArrayLike, scheme: Scheme, name: str = "weights") -> MappedMatrix:
        """Map a matrix (out, in)."""
        values = check_weights(weights, name)
        largest = float(np.abs(values).max()) or 1.0
        return MappedMatrix(scheme, largest, scheme.encode(values / largest))

    def weights(self, conductances_siemens: Array) -> Array:
        """Weights that conductances stand for, (out, in)."""
        return self.scheme.decode(conductances_siemens) * self.largest


def to_volts(inputs: Array, read_voltage_v: float) -> tuple[Array, Array]:
    """Inputs (n, in) to voltages: each vector is scaled so that its largest entry is +-V_read.

    Returns:
        Voltages (n, in), and inputs per volt of each vector (n, 1).
    """
    largest = np.abs(inputs).max(axis=1, keepdims=True)
    per_volt = np.where(largest > 0, largest, 1.0) / read_voltage_v
    return inputs / per_volt, per_volt
