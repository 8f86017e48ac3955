"""What one configuration costs: on the paper's macro with converters counted, and on this board.

A `Workload` holds what a flow multiplies for one configuration; everything else follows from sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from rram_host.analog.paper_model import CLAIMS, PAPER, Claim, PaperInputs
from rram_host.analog.products import ProductCount, mixer_products
from rram_host.errors import InputError
from rram_host.mapping.placement import Block, place_on_arrays


@dataclass(frozen=True)
class Workload:
    """Products of one configuration, all matrices on arrays and all corrections digital.

    The paper counts matrices and corrections alone; `rest` is what it leaves out.

    Attributes:
        name: of the flow.
        source: where the counts come from.
        products: its matrices.
        tile: rows and columns of an array; a matrix that is larger is cut into blocks.
        claim: what the paper prints for this model, None where it is none of the paper's.
        rest: further digital work, pointwise functions and sums among it, each number made being
            taken for one multiply-accumulate; 0 where it was not counted.
    """

    name: str
    source: str
    products: tuple[ProductCount, ...]
    tile: int = 32
    claim: Claim | None = None
    rest: float = 0.0

    def __post_init__(self) -> None:
        if not self.products:
            raise InputError(f"{self.name} has no product: there is nothing to cost")

    @property
    def weights_analog(self) -> int:
        """Weights on arrays."""
        return sum(p.weights for p in self.products)

    @property
    def weights_digital(self) -> int:
        """Weights of the low-rank corrections."""
        return sum(p.lora_weights for p in self.products)

    @property
    def macs_analog(self) -> int:
        """Multiply-accumulates on arrays."""
        return sum(p.macs for p in self.products)

    @property
    def macs_digital(self) -> int:
        """Multiply-accumulates of the low-rank corrections."""
        return sum(p.lora_macs for p in self.products)

    @property
    def mac_share(self) -> float:
        """Share of multiply-accumulates on arrays."""
        return self.macs_analog / (self.macs_analog + self.macs_digital)

    @property
    def weight_share(self) -> float:
        """Share of weights on arrays."""
        return self.weights_analog / (self.weights_analog + self.weights_digital)

    @cached_property
    def _placed(self) -> tuple[tuple[Block, ...], ...]:
        sizes = {p.name: (p.outputs, p.inputs) for p in self.products}
        return tuple(found.blocks for found in place_on_arrays(sizes, (self.tile, self.tile)))

    @property
    def arrays(self) -> int:
        """Arrays that hold all matrices."""
        return len(self._placed)

    @property
    def vectors(self) -> int:
        """Input vectors sent to arrays; every block of a cut matrix takes its own."""
        return self._over_blocks(lambda block: 1)

    @property
    def dac_conversions(self) -> int:
        """Inputs driven, over all vectors."""
        return self._over_blocks(lambda block: block.cells.cols)

    @property
    def adc_conversions(self) -> int:
        """Outputs read, over all vectors."""
        return self._over_blocks(lambda block: block.cells.rows)

    @property
    def utilisation(self) -> float:
        """How full the arrays are that vectors go to: multiply-accumulates over tile cells."""
        return self.macs_analog / (self.vectors * self.tile**2)

    def _over_blocks(self, count: Callable[[Block], int]) -> int:
        calls = {p.name: p.calls for p in self.products}
        return sum(calls[b.name] * count(b) for blocks in self._placed for b in blocks)


@dataclass(frozen=True)
class _Published:
    """Sizes in the published script (github.com/hustmeng/ANF); one network for all steps."""

    dim: int = 32
    hidden: int = 32
    patch: int = 3
    tokens: int = 16
    volume: int = 144
    blocks: int = 4
    steps: int = 20
    lora_rank: int = 2


def published_workload() -> Workload:
    """The published model, phi^4 on 12 x 12 sites, its regression at every site.

    Weights: 43 360 on arrays beside 1792 of corrections, 96.03 %: the 96.0 % that the paper prints
    for L = 12. Multiply-accumulates of a step: 1 197 568 beside 40 960, 96.69 %, where the paper
    prints 98.9 %: that would take corrections of 13 000, a third of what rank 2 in the mixer blocks
    costs. With corrections beside the regression, too, which the published script attaches, it is
    92.5 %.
    """
    (claim,) = (c for c in CLAIMS if (c.theory, c.length) == ("phi4", 12))
    source = "counted from the published script"
    products = mixer_products(_Published())
    return Workload("the published model, phi^4 12 x 12", source, products, claim=claim)


@dataclass(frozen=True)
class Corrected:
    """Energy and time of one configuration on the paper's macro, nothing left out.

    Attributes:
        dac_j, tia_j, adc_j, array_j: of all conversions and cells, array as E = G V^2 t.
        digital_j: of the low-rank corrections, at the GPU's price.
        rest_j: of what is digital on either side and no product, at the GPU's price.
        gpu_j: of the whole flow on the GPU, where corrections are merged into their matrices.
        macro_s: on one macro, product after product.
        density_ratio: macro over GPU at equal area, a MAC two FLOP on both sides, full tiles.
        speed_serial, speed_bound: over the flow on the GPU alone, at equal area, with tiles as
            full as they are; array and GPU in turns, and both at once.
    """

    dac_j: float
    tia_j: float
    adc_j: float
    array_j: float
    digital_j: float
    rest_j: float
    gpu_j: float
    macro_s: float
    density_ratio: float
    speed_serial: float
    speed_bound: float
    macs_analog: int

    @property
    def total_j(self) -> float:
        """All parts."""
        digital_j = self.digital_j + self.rest_j
        return self.dac_j + self.tia_j + self.adc_j + self.array_j + digital_j

    @property
    def analog_mac_j(self) -> float:
        """A multiply-accumulate on the array, converters and all."""
        return (self.dac_j + self.tia_j + self.adc_j + self.array_j) / self.macs_analog

    @property
    def energy_ratio(self) -> float:
        """GPU over macro with GPU."""
        return self.gpu_j / self.total_j

    @property
    def energy_bound(self) -> float:
        """The same if converters took nothing."""
        return self.gpu_j / (self.array_j + self.digital_j + self.rest_j)


def corrected(work: Workload, inputs: PaperInputs = PAPER) -> Corrected:
    """The corrected ledger of a workload: converters by use, cells by Ohm, one kind of FLOP."""
    ratio = inputs.density_ratio(flop_per_mac=2)
    # in units of what a multiply-accumulate takes on the GPU
    analog_time = work.macs_analog / (ratio * work.utilisation)
    digital_time, gpu_time = work.macs_digital + work.rest, work.macs_analog + work.rest
    return Corrected(
        dac_j=work.dac_conversions * inputs.dac_j,
        tia_j=work.adc_conversions * inputs.tia_j,
        adc_j=work.adc_conversions * inputs.adc_j,
        array_j=work.macs_analog * inputs.array_mac_by_ohm_j,
        digital_j=work.macs_digital * inputs.gpu_mac_j,
        rest_j=work.rest * inputs.gpu_mac_j,
        gpu_j=gpu_time * inputs.gpu_mac_j,
        macro_s=work.vectors * inputs.step_s,
        density_ratio=ratio,
        speed_serial=gpu_time / (analog_time + digital_time),
        speed_bound=gpu_time / max(analog_time, digital_time),
        macs_analog=work.macs_analog,
    )


@dataclass(frozen=True)
class BoardTime:
    """Time of one configuration on this board, as its programs take it.

    Attributes:
        product_s: one product of a batch, by `rram cost`.
        vectors: of one configuration.
        arrays: that hold the flow.
    """

    product_s: float
    vectors: int
    arrays: int

    @property
    def one_board_s(self) -> float:
        """Every product on one board, one after the other; programming in between not counted."""
        return self.product_s * self.vectors

    @property
    def board_each_s(self) -> float:
        """At best with a board for each array, all multiplying at once and equally busy."""
        return self.one_board_s / self.arrays


def board_time(work: Workload, product_s: float) -> BoardTime:
    """Time of a workload on a board that takes `product_s` for a product of a batch."""
    return BoardTime(product_s, work.vectors, work.arrays)
