"""What the jobs of an array take on a board, by phase, beside the bound of its parts.

No board runs, but the programs are the host's own: a `Crossbar` works on a driver that only notes
what it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.microcode import Op
from firmware_bridge.readout import CELL_RANGE
from rram_host.array.compensation import Compensation
from rram_host.array.crossbar import Crossbar
from rram_host.array.policies import CoarseFine
from rram_host.array.pulses import ArrayProgram, set_train
from rram_host.board.core import BoardCore
from rram_host.board.cost import (
    Bound,
    Cost,
    DryDriver,
    executions,
    pulse_bound,
    vector_bound,
)
from rram_host.errors import InputError

Array = npt.NDArray[np.float64]

PRODUCT_RANGE = 0  # 32 cells at full scale need the least sensitive one
READ_AVERAGE = 4  # as `Crossbar.read` has it
CELL_SIEMENS = 50e-6  # what every cell is taken to hold: middle of the paper's 20 to 80 uS
ADC_COUNTS = (1, 4, 8, 32)
MAX_VECTORS = 100_000


@dataclass(frozen=True)
class JobCost:
    """One job.

    Attributes:
        name: what is done.
        cost: cycles by phase.
        bound: what the parts need for its vectors and pulses alone.
    """

    name: str
    cost: Cost
    bound: Bound

    @property
    def ratio(self) -> float:
        """Time over bound."""
        return self.cost.total_s / self.bound.total_s

    def row(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "job": self.name,
            "phases_s": self.cost.phases_s(),
            "total_s": self.cost.total_s,
            "cycles": self.cost.cycles,
            "bound_phases_s": self.bound.phases_s(),
            "bound_s": self.bound.total_s,
            "ratio": self.ratio,
        }


class _DryCore(BoardCore):
    """A board that is not there."""

    def __init__(self, spec: BoardSpec) -> None:
        self.spec = spec
        self.dry = DryDriver(spec)
        self.driver = self.dry
        self.compiled = {}


class DryCrossbar(Crossbar):
    """An array whose operations are costed instead of run; every cell reads `CELL_SIEMENS`.

    Args:
        spec: the board.
    """

    def __init__(self, spec: BoardSpec) -> None:
        core = _DryCore(spec)
        super().__init__(core)
        self._dry = core.dry
        self._pretend()

    def _pretend(self) -> None:
        cells = np.full(self.shape, CELL_SIEMENS)
        self._compensation = Compensation(cells, self.calibration.lines)

    def _conductances(self, words: npt.NDArray[np.uint16], average: int) -> Array:
        super()._conductances(words, average)  # words that do not fit the vectors are refused
        self._pretend()
        return self._known().conductances

    def cost_of_products(self, count: int, calibrate: bool) -> Cost:
        """A batch of products of all rows, programs and zero-input vectors and all."""
        volts = np.zeros((count, self.spec.cols))
        self.products(volts, tia_range=PRODUCT_RANGE, calibrate=calibrate)
        return self._dry.take_cost()

    def cost_of_read(self, average: int) -> Cost:
        """A read of all cells."""
        self.read(average)
        return self._dry.take_cost()

    def cost_of_set(self, bl_v: float, wl_v: float, width_s: float) -> tuple[Cost, int]:
        """A SET or forming pulse on every cell, verified; and how many pulses that are."""
        program = ArrayProgram(self.spec)
        cells, gates = np.ones(self.shape, dtype=bool), np.full(self.shape, wl_v)
        program.pulse(set_train(self.spec, cells, gates, bl_v, width_s))
        return self._verified(program)

    def cost_of_reset(self, reset_v: float, parallel: int) -> tuple[Cost, int]:
        """A RESET pulse on every cell, verified; and how many pulses that are."""
        program = ArrayProgram(self.spec)
        cells, volts = np.ones(self.shape, dtype=bool), np.full(self.shape, reset_v)
        self._operations.add_reset(program, cells, volts, self._known().conductances, parallel)
        return self._verified(program)

    def _verified(self, program: ArrayProgram) -> tuple[Cost, int]:
        self.run_and_read(program, CoarseFine().verify_reads)
        (instructions,) = self._dry.programs
        pairs = zip(instructions, executions(instructions), strict=True)
        pulses = sum(times for item, times in pairs if item.op is Op.PULSE)
        return self._dry.take_cost(), pulses


def product_job(spec: BoardSpec) -> JobCost:
    """One product within a batch: what one vector more adds to a program."""
    array = DryCrossbar(spec)
    more = array.cost_of_products(2, calibrate=False) - array.cost_of_products(1, calibrate=False)
    return JobCost("product, each of a batch", more, vector_bound(spec, PRODUCT_RANGE))


def jobs(spec: BoardSpec, vectors: int) -> list[JobCost]:
    """Every job that `rram cost` prints.

    Args:
        spec: the board.
        vectors: size of the batch of products.

    Raises:
        InputError: no vectors, or more than 100 000.
    """
    if not 1 <= vectors <= MAX_VECTORS:
        raise InputError(f"vectors = {vectors}: outside 1..{MAX_VECTORS}")
    array, product = DryCrossbar(spec), vector_bound(spec, PRODUCT_RANGE)
    result = [
        product_job(spec),
        JobCost("product alone, not calibrated", array.cost_of_products(1, False), product),
        JobCost(
            f"{vectors} products, calibrated",
            array.cost_of_products(vectors, True),
            product * vectors,
        ),
        JobCost(
            f"read of all cells, {READ_AVERAGE} times",
            array.cost_of_read(READ_AVERAGE),
            _read_bound(spec, READ_AVERAGE),
        ),
    ]
    return result + _rounds(spec, array)


def _read_bound(spec: BoardSpec, average: int) -> Bound:
    """A read takes two vectors a column, one of either sign."""
    return vector_bound(spec, CELL_RANGE) * (2 * spec.cols * average)


def _rounds(spec: BoardSpec, array: DryCrossbar) -> list[JobCost]:
    """Rounds of pulses on every cell, each with the read that verifies it."""
    p, policy = spec.pulses, CoarseFine()
    gate_v = p.set_wl_offset_v + CELL_SIEMENS / p.set_wl_slope_siemens_per_v
    gate_v = min(gate_v, spec.compliance_limit_v())
    rounds = (
        ("SET round", array.cost_of_set(p.set_bl_v, gate_v, p.set_width_s), p.set_width_s),
        (
            "RESET round",
            array.cost_of_reset(p.reset_start_v, policy.max_parallel_reset),
            p.reset_width_s,
        ),
        (
            "forming step",
            array.cost_of_set(p.form_bl_start_v, p.form_wl_v, p.form_width_s),
            p.form_width_s,
        ),
    )
    verify = _read_bound(spec, policy.verify_reads)
    return [
        JobCost(f"{name}, {pulses} pulses", cost, pulse_bound(spec, width_s) * pulses + verify)
        for name, (cost, pulses), width_s in rounds
    ]


def by_converters(spec: BoardSpec) -> dict[int, JobCost]:
    """One product of a batch on this board with 1, 4, 8 and 32 ADCs, as far as it has rows."""
    counts = [n for n in ADC_COUNTS if n <= spec.rows and -(-spec.rows // n) <= 32]
    return {count: product_job(spec.with_adcs(count)) for count in counts}
