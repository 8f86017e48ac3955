"""Matrices on a programmed array, as products: the one way from y = W x to currents and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError
from rram_host.mapping.matrix import MappedMatrix, to_volts
from rram_host.mapping.placement import Block, Placement, place
from rram_host.mapping.schemes import Scheme

Array = npt.NDArray[np.float64]


class Products(Protocol):
    """What one batch of products comes back with."""

    @property
    def currents_a(self) -> Array: ...  # noqa: D102
    @property
    def tia_range(self) -> int: ...  # noqa: D102
    @property
    def saturated(self) -> int: ...  # noqa: D102


class Multiplier(Protocol):
    """An array that multiplies: `rram_host.array.crossbar.Crossbar`, or a stand-in."""

    def products(
        self, voltages: Array, rows: npt.ArrayLike | None, tia_range: int | None
    ) -> Products:
        """Currents of `rows` for voltages (n, cols)."""
        ...


@dataclass(frozen=True)
class Layout:
    """Matrices mapped and placed, before anything is programmed.

    Attributes:
        matrices: by name.
        placement: where their cells sit.
    """

    matrices: Mapping[str, MappedMatrix]
    placement: Placement

    @staticmethod
    def of(weights: Mapping[str, npt.ArrayLike], scheme: Scheme, shape: tuple[int, int]) -> Layout:
        """Map and place matrices.

        Raises:
            InputError: not matrices of finite numbers, or more cells than the array has.
        """
        mapped = {name: MappedMatrix.of(w, scheme, name) for name, w in weights.items()}
        sizes = {
            name: (m.conductances_siemens.shape[0], m.conductances_siemens.shape[1])
            for name, m in mapped.items()
        }
        return Layout(mapped, place(sizes, shape))

    def targets(self) -> Array:
        """Target conductances of the array, NaN where no weight sits."""
        cells = {name: m.conductances_siemens for name, m in self.matrices.items()}
        return self.placement.spread(cells)

    def weights(self, conductances_siemens: Array) -> dict[str, Array]:
        """Weights that an array's conductances stand for, by name."""
        cells = self.placement.gather(conductances_siemens)
        return {name: m.weights(cells[name]) for name, m in self.matrices.items()}


class ArrayEngine:
    """Products of placed matrices.

    Args:
        array: what multiplies.
        layout: what was programmed.
        read_voltage_v: largest input voltage.

    Attributes:
        vectors: input vectors sent to the array so far; every block of a cut matrix counts.
        saturated: conversions that hit the end of their range so far.
        ranges: amplifier range of every block, found while probing.
    """

    def __init__(self, array: Multiplier, layout: Layout, read_voltage_v: float) -> None:
        self._array, self.layout = array, layout
        self._read_voltage_v = read_voltage_v
        self.ranges: dict[Block, int] = {}
        self._probing = False
        self.vectors = 0
        self.saturated = 0

    @contextmanager
    def probing(self) -> Iterator[None]:
        """Inside, every block's range is found from the largest current that it is seen to need.

        Afterwards ranges are kept, so that a product depends on its own input alone and not on
        the batch that it came in.
        """
        self._probing = True
        try:
            yield
        finally:
            self._probing = False
            self.saturated = 0

    def multiply(self, name: str, inputs: npt.ArrayLike) -> Array:
        """Products of a batch, y = W x: inputs (n, in) to products (n, out).

        Every vector is scaled to the read voltage by a number of its own.

        Raises:
            InputError: unknown matrix, or inputs that do not fit it.
        """
        matrix = self.layout.matrices.get(name)
        if matrix is None:
            raise InputError(f"no matrix {name!r}; known: {', '.join(self.layout.matrices)}")
        x = np.asarray(inputs, dtype=np.float64)
        scheme = matrix.scheme
        out, columns = matrix.conductances_siemens.shape
        if x.ndim != 2 or x.shape[1] * scheme.cells_per_weight != columns:
            raise InputError(
                f"inputs of {name} have shape {x.shape}, expected "
                f"(n, {columns // scheme.cells_per_weight})"
            )
        if not np.isfinite(x).all():
            raise InputError(f"inputs of {name}: {(~np.isfinite(x)).sum()} are not finite")
        volts, per_volt = to_volts(x, self._read_voltage_v)
        driven = scheme.drive(volts)
        currents = np.zeros((len(x), out))
        for block in self.layout.placement.of(name):
            rows = slice(block.source.row, block.source.row + block.source.rows)
            currents[:, rows] += self._block(block, driven)
        return scheme.products(currents, volts) * (per_volt * matrix.largest)

    def _block(self, block: Block, driven: Array) -> Array:
        shape = self.layout.placement.shape
        volts = np.zeros((len(driven), shape[1]))
        source, cells = block.source, block.cells
        volts[:, cells.place[1]] = driven[:, source.col : source.col + source.cols]
        rows = np.arange(cells.row, cells.row + cells.rows)
        fixed = None if self._probing else self.ranges.get(block)
        result = self._array.products(volts, rows=rows, tia_range=fixed)
        if self._probing:
            self.ranges[block] = min(self.ranges.get(block, 3), result.tia_range)
        self.vectors += len(driven)
        self.saturated += result.saturated
        return result.currents_a


def exact(layout: Layout, conductances_siemens: Array) -> Callable[[str, Array], Array]:
    """Exact products of the weights that some conductances stand for, as a function."""
    weights = layout.weights(conductances_siemens)
    return lambda name, inputs: inputs @ weights[name].T
