"""Matrices on a programmed array, as products: the one way from y = W x to currents and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError
from rram_host.mapping.matrix import MappedMatrix, to_volts
from rram_host.mapping.placement import Block, Placement, place_on_arrays
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
    """Matrices mapped, and placed on one array, before anything is programmed.

    Attributes:
        matrices: by name, whole.
        placement: where their cells sit; where they take several arrays, those that sit here.
    """

    matrices: Mapping[str, MappedMatrix]
    placement: Placement

    @staticmethod
    def of(weights: Mapping[str, npt.ArrayLike], scheme: Scheme, shape: tuple[int, int]) -> Layout:
        """Map matrices and place them on one array.

        Raises:
            InputError: not matrices of finite numbers, or more cells than the array has.
        """
        found = Layout.on_arrays(weights, scheme, shape)
        if len(found) > 1:
            cells = sum(m.conductances_siemens.size for m in found[0].matrices.values())
            raise InputError(
                f"{cells} cells asked for, the array has {shape[0] * shape[1]} "
                f"({shape[0]} x {shape[1]}): the matrices take {len(found)} arrays"
            )
        return found[0]

    @staticmethod
    def on_arrays(
        weights: Mapping[str, npt.ArrayLike], scheme: Scheme, shape: tuple[int, int]
    ) -> tuple[Layout, ...]:
        """Map matrices and place them on as few arrays of `shape` as hold them, a layout each.

        Raises:
            InputError: not matrices of finite numbers.
        """
        mapped = {name: MappedMatrix.of(w, scheme, name) for name, w in weights.items()}
        placements = place_on_arrays({name: m.size for name, m in mapped.items()}, shape)
        return tuple(Layout(mapped, placement) for placement in placements)

    @property
    def cells(self) -> int:
        """Cells taken on this array."""
        return sum(block.cells.area for block in self.placement.blocks)

    def targets(self) -> Array:
        """Target conductances of the array, NaN where no weight sits."""
        cells = {name: m.conductances_siemens for name, m in self.matrices.items()}
        return self.placement.spread(cells)

    def weights(self, conductances_siemens: Array) -> dict[str, Array]:
        """Weights that an array's conductances stand for, by name; NaN where not all is here."""
        return whole_weights([(self, conductances_siemens)])


def whole_weights(parts: Sequence[tuple[Layout, Array]]) -> dict[str, Array]:
    """Weights of matrices on several arrays.

    Args:
        parts: layout of every array, and what it holds: (rows, cols), siemens.

    Returns:
        Matrices (out, in) by name.
    """
    matrices = parts[0][0].matrices
    cells = {name: np.full(m.size, np.nan) for name, m in matrices.items()}
    for layout, conductances_siemens in parts:
        layout.placement.gather(conductances_siemens, cells)
    return {name: m.weights(cells[name]) for name, m in matrices.items()}


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

    @property
    def at_hand(self) -> bool:
        """Whether the array holds its layout now, so that products need not wait for it."""
        return bool(getattr(self._array, "at_hand", True))

    def multiply(self, name: str, inputs: npt.ArrayLike) -> Array:
        """Products of a batch, y = W x: inputs (n, in) to products (n, out).

        Every vector is scaled to the read voltage by a number of its own.

        Raises:
            InputError: unknown matrix, or inputs that do not fit it.
        """
        return _multiply(self.layout, [self], name, inputs, self._read_voltage_v)

    def currents(self, name: str, driven: Array) -> Array:
        """What this array adds to the currents of a matrix.

        Args:
            name: of the matrix.
            driven: column voltages of the whole matrix, (n, columns).

        Returns:
            Amperes of all its rows, (n, out); zero for rows without a cell here.
        """
        out = np.zeros((len(driven), self.layout.matrices[name].size[0]))
        for block in self.layout.placement.of(name):
            rows = slice(block.source.row, block.source.row + block.source.rows)
            out[:, rows] += self._block(block, driven)
        return out

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


class ArraysEngine:
    """Products of matrices that take several arrays.

    Args:
        engines: one for each array.
        read_voltage_v: largest input voltage, of all of them.
    """

    def __init__(self, engines: Sequence[ArrayEngine], read_voltage_v: float) -> None:
        self.engines, self._read_voltage_v = tuple(engines), read_voltage_v

    @property
    def vectors(self) -> int:
        """Input vectors sent to arrays so far; every block of a cut matrix counts."""
        return sum(engine.vectors for engine in self.engines)

    @property
    def saturated(self) -> int:
        """Conversions that hit the end of their range so far."""
        return sum(engine.saturated for engine in self.engines)

    @contextmanager
    def probing(self) -> Iterator[None]:
        """As `ArrayEngine.probing`, of all of them."""
        with ExitStack() as stack:
            for engine in self.engines:
                stack.enter_context(engine.probing())
            yield

    def multiply(self, name: str, inputs: npt.ArrayLike) -> Array:
        """Products y = W x, as `ArrayEngine.multiply`: arrays add up in software."""
        layout = self.engines[0].layout
        return _multiply(layout, self.engines, name, inputs, self._read_voltage_v)


def _multiply(
    layout: Layout,
    engines: Sequence[ArrayEngine],
    name: str,
    inputs: npt.ArrayLike,
    read_voltage_v: float,
) -> Array:
    matrix = layout.matrices.get(name)
    if matrix is None:
        raise InputError(f"no matrix {name!r}; known: {', '.join(layout.matrices)}")
    x = np.asarray(inputs, dtype=np.float64)
    columns = matrix.size[1] // matrix.scheme.cells_per_weight
    if x.ndim != 2 or x.shape[1] != columns:
        raise InputError(f"inputs of {name} have shape {x.shape}, expected (n, {columns})")
    if not np.isfinite(x).all():
        raise InputError(f"inputs of {name}: {(~np.isfinite(x)).sum()} are not finite")
    volts, per_volt = to_volts(x, read_voltage_v)
    driven = matrix.scheme.drive(volts)
    holding = [engine for engine in engines if engine.layout.placement.of(name)]
    holding.sort(key=lambda engine: not engine.at_hand)
    currents = sum((engine.currents(name, driven) for engine in holding), np.zeros(()))
    return matrix.scheme.products(currents, volts) * (per_volt * matrix.largest)


def exact(layout: Layout, conductances_siemens: Array) -> Callable[[str, Array], Array]:
    """Exact products of the weights that some conductances stand for, as a function."""
    weights = layout.weights(conductances_siemens)
    return lambda name, inputs: inputs @ weights[name].T
