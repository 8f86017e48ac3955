"""How a signed weight becomes conductances, and a current becomes a product again.

A matrix W (out, in) takes out rows (SLs: outputs) and in * cells_per_weight columns (BLs: inputs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError

Array = npt.NDArray[np.float64]


class Scheme(Protocol):
    """A mapping of weights in [-1, 1] (already divided by the largest) to conductances."""

    @property
    def cells_per_weight(self) -> int:
        """Columns that one input takes."""
        ...

    def encode(self, weights: Array) -> Array:
        """Conductances (out, in * cells_per_weight) of weights (out, in) in [-1, 1], in siemens."""
        ...

    def decode(self, conductances: Array) -> Array:
        """Weights (out, in) that conductances stand for; the inverse of `encode`."""
        ...

    def drive(self, volts: Array) -> Array:
        """Column voltages (n, in * cells_per_weight) of input voltages (n, in)."""
        ...

    def products(self, currents: Array, volts: Array) -> Array:
        """sum_j w_j V_j in volts, (n, out), from currents (n, out) and input voltages (n, in)."""
        ...


def _check_window(low: float, high: float) -> None:
    if not 0 < low < high:
        raise InputError(f"conductance window {low} .. {high} S must be rising and above 0 S")


@dataclass(frozen=True)
class SingleCell:
    """One cell a weight against a digital reference: w = (G - G_0) / span (the paper, Fig. 2k).

    The current of G_0 = (low + high) / 2, known from the voltages, is subtracted in software:
    sum_j w_j V_j = (I - G_0 sum_j V_j) / span with span = (high - low) / 2.
    """

    low_siemens: float = 20e-6
    high_siemens: float = 80e-6

    def __post_init__(self) -> None:
        """Refuse a window that is none."""
        _check_window(self.low_siemens, self.high_siemens)

    @property
    def cells_per_weight(self) -> int:
        """One."""
        return 1

    @property
    def reference_siemens(self) -> float:
        """Conductance of a zero weight."""
        return (self.low_siemens + self.high_siemens) / 2

    @property
    def span_siemens(self) -> float:
        """Conductance of a weight of one, above the reference."""
        return (self.high_siemens - self.low_siemens) / 2

    def encode(self, weights: Array) -> Array:
        """G = G_0 + span w."""
        cells: Array = self.reference_siemens + self.span_siemens * weights
        return cells

    def decode(self, conductances: Array) -> Array:
        """Weights w = (G - G_0) / span."""
        return (conductances - self.reference_siemens) / self.span_siemens

    def drive(self, volts: Array) -> Array:
        """Inputs as they are."""
        return volts

    def products(self, currents: Array, volts: Array) -> Array:
        """(I - G_0 sum V) / span."""
        reference = self.reference_siemens * volts.sum(1, keepdims=True)
        products: Array = (currents - reference) / self.span_siemens
        return products


@dataclass(frozen=True)
class Differential:
    """Two neighbouring cells a weight, driven with +V and -V: w = (G+ - G-) / span.

    One of the two rests at `low`; span = high - low, twice that of `SingleCell`, and a common
    error of the pair cancels.
    """

    low_siemens: float = 20e-6
    high_siemens: float = 80e-6

    def __post_init__(self) -> None:
        """Refuse a window that is none."""
        _check_window(self.low_siemens, self.high_siemens)

    @property
    def cells_per_weight(self) -> int:
        """Two."""
        return 2

    @property
    def span_siemens(self) -> float:
        """Difference of conductances of a weight of one."""
        return self.high_siemens - self.low_siemens

    def encode(self, weights: Array) -> Array:
        """G+ = low + span max(w, 0) and G- = low + span max(-w, 0), side by side."""
        pair = np.stack([np.maximum(weights, 0.0), np.maximum(-weights, 0.0)], axis=-1)
        cells: Array = self.low_siemens + self.span_siemens * pair.reshape(len(weights), -1)
        return cells

    def decode(self, conductances: Array) -> Array:
        """Weights w = (G+ - G-) / span."""
        pair = conductances.reshape(len(conductances), -1, 2)
        weights: Array = (pair[..., 0] - pair[..., 1]) / self.span_siemens
        return weights

    def drive(self, volts: Array) -> Array:
        """+V and -V, side by side."""
        driven: Array = np.stack([volts, -volts], axis=-1).reshape(len(volts), -1)
        return driven

    def products(self, currents: Array, volts: Array) -> Array:
        """I / span."""
        products: Array = currents / self.span_siemens
        return products


SCHEMES: dict[str, type[SingleCell] | type[Differential]] = {
    "single": SingleCell,
    "differential": Differential,
}


def scheme(name: str) -> Scheme:
    """A scheme by name.

    Raises:
        InputError: unknown name.
    """
    if name not in SCHEMES:
        raise InputError(f"unknown scheme {name!r}; known: {', '.join(SCHEMES)}")
    return SCHEMES[name]()
