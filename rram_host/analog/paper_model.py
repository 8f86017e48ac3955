"""The cost model of arXiv 2509.12812 with its own numbers, and what they allow.

Everything here is an estimate for an integrated macro that nobody has built; the time of the board
in the lab is another matter (`rram_host.analog.ledger`).
"""

from __future__ import annotations

from dataclasses import dataclass

from rram_host.errors import InputError

ROUNDING = 0.0005  # shares are printed to a tenth of a per cent: half of that either way


@dataclass(frozen=True)
class PaperInputs:
    """Numbers that the paper's Methods print (energy and time of a product).

    Attributes:
        gpu_mac_j: a multiply-accumulate on an RTX 5090.
        array_mac_j: one in the array, as printed.
        read_v, read_s, cell_siemens: what the printed array energy is said to follow from.
        dac_j, tia_j, adc_j: one operation of a converter or amplifier.
        mux_s, adc_s, adc_rounds, add_s: the rest of one product, beside `read_s`.
        macro_mm2: area of the macro.
        gpu_flop_per_s, gpu_mm2: of the RTX 5090.
        tile: rows and columns of the macro's array.
    """

    gpu_mac_j: float = 549e-15
    array_mac_j: float = 2.0e-15
    read_v: float = 0.2
    read_s: float = 10e-9
    cell_siemens: float = 50e-6
    dac_j: float = 0.227e-12
    tia_j: float = 3e-12
    adc_j: float = 11.3e-12
    mux_s: float = 6.1e-9
    adc_s: float = 0.8e-9
    adc_rounds: int = 2
    add_s: float = 0.19e-9
    macro_mm2: float = 0.01
    gpu_flop_per_s: float = 104.8e12
    gpu_mm2: float = 750.0
    tile: int = 32

    @property
    def array_mac_by_ohm_j(self) -> float:
        """E = G V^2 t of one cell: ten times what is printed."""
        return self.cell_siemens * self.read_v**2 * self.read_s

    @property
    def step_s(self) -> float:
        """One product of the macro: read, switch, convert twice, add."""
        return self.read_s + self.mux_s + self.adc_rounds * self.adc_s + self.add_s

    @property
    def periphery_mac_j(self) -> tuple[float, float, float]:
        """DAC, TIA and ADC energy a cell of a full tile: a DAC a column, the rest a row."""
        return self.dac_j / self.tile, self.tia_j / self.tile, self.adc_j / self.tile

    @property
    def tile_mac_j(self) -> float:
        """A multiply-accumulate on a full tile with its converters, the array as printed."""
        return sum(self.periphery_mac_j) + self.array_mac_j

    def macro_flops_per_mm2(self, flop_per_mac: int = 1) -> float:
        """Throughput of the macro in FLOP/s and mm^2; the paper's 5.72 T counts a MAC as one."""
        return flop_per_mac * self.tile**2 / self.step_s / self.macro_mm2

    @property
    def gpu_flops_per_mm2(self) -> float:
        """Throughput of the GPU in FLOP/s and mm^2; its FLOP/s count a MAC as two."""
        return self.gpu_flop_per_s / self.gpu_mm2

    def density_ratio(self, flop_per_mac: int = 1) -> float:
        """Macro over GPU. At one FLOP a MAC, as printed, the two sides are counted differently."""
        return self.macro_flops_per_mm2(flop_per_mac) / self.gpu_flops_per_mm2


PAPER = PaperInputs()


@dataclass(frozen=True)
class Claim:
    """What the paper prints for one model on one lattice.

    Attributes:
        theory: "phi4" or "graphene".
        length: of the lattice.
        mac_share: share of multiply-accumulates on the array.
        weight_share: share of weights on the array.
        speed_up: over the GPU.
        energy_cut: 1 - energy over that of the GPU.
        energy_ratio: energy of the GPU over that.
    """

    theory: str
    length: int
    mac_share: float
    weight_share: float
    speed_up: float
    energy_cut: float
    energy_ratio: float


CLAIMS = (
    Claim("phi4", 4, 0.940, 0.929, 5.9, 0.659, 2.9),
    Claim("phi4", 6, 0.959, 0.930, 8.8, 0.853, 6.8),
    Claim("phi4", 12, 0.989, 0.960, 14.7, 0.974, 38.5),
    Claim("phi4", 24, 0.992, 0.957, 16.1, 0.986, 73.7),
    Claim("graphene", 6, 0.987, 0.939, 13.6, 0.933, 15.0),
    Claim("graphene", 12, 0.982, 0.921, 12.2, 0.957, 23.0),
    Claim("graphene", 24, 0.989, 0.944, 14.5, 0.979, 47.3),
    Claim("graphene", 48, 0.996, 0.927, 17.3, 0.993, 138.0),
)
"""Figs. 3 and 4. The abstract has 17.0 where the text has a speed-up of 17.3."""


def speed_up(share: float, ratio: float) -> float:
    """Speed-up where array and GPU take turns: 1 / ((1 - share) + share / ratio).

    Args:
        share: of the multiply-accumulates on the array.
        ratio: how much faster the array is at them, at equal area.

    Raises:
        InputError: a share outside 0..1, or a ratio that is not positive.
    """
    digital, analog = _times(share, ratio)
    return 1.0 / (digital + analog)


def speed_up_bound(share: float, ratio: float) -> float:
    """The same with both always busy at once: 1 / max(1 - share, share / ratio)."""
    return 1.0 / max(_times(share, ratio))


def energy_ratio(
    share: float, analog_mac_j: float, digital_mac_j: float = PAPER.gpu_mac_j
) -> float:
    """GPU energy over that of array and GPU together: 1 / ((1 - share) + share E_a / E_d).

    With `analog_mac_j` the energy of the cells alone it is a bound: converters only add to it.

    Raises:
        InputError: a share outside 0..1, or energies that are not positive.
    """
    return speed_up(share, digital_mac_j / analog_mac_j if analog_mac_j else 0.0)


def implied_analog_mac_j(
    share: float, ratio: float, digital_mac_j: float = PAPER.gpu_mac_j
) -> float:
    """What a multiply-accumulate on the array must cost, converters and all, for an energy ratio.

    Negative where the digital share alone costs more than the ratio leaves.
    """
    _times(share, ratio)
    return digital_mac_j * (1.0 / ratio - (1.0 - share)) / share


def _times(share: float, ratio: float) -> tuple[float, float]:
    if not 0.0 < share <= 1.0:
        raise InputError(f"a share of products on the array is in 0..1, not {share}")
    if not ratio > 0.0:
        raise InputError(f"array over GPU must be a positive ratio, not {ratio}")
    return 1.0 - share, share / ratio


@dataclass(frozen=True)
class Judged:
    """A claim beside what the paper's own inputs allow.

    Attributes:
        claim: as printed.
        speed_serial: speed-up with array and GPU in turns.
        speed_bound: with perfect overlap.
        energy_bound: energy ratio with the array's printed energy and no converter at all.
        energy_bound_low, energy_bound_high: the same at either end of the share's rounding.
        energy_bound_by_ohm: with the array's energy as E = G V^2 t gives it.
        energy_with_converters: with the paper's converters on a full tile.
        implied_mac_j: what the array may cost for the printed ratio, converters and all.
    """

    claim: Claim
    speed_serial: float
    speed_bound: float
    energy_bound: float
    energy_bound_low: float
    energy_bound_high: float
    energy_bound_by_ohm: float
    energy_with_converters: float
    implied_mac_j: float

    @property
    def speed_verdict(self) -> str:
        """What there is to say of the speed-up."""
        if self.claim.speed_up > self.speed_bound:
            return "above its bound"
        return f"{self.claim.speed_up / self.speed_serial:.2f} of its inputs in turns"

    @property
    def energy_verdict(self) -> str:
        """What there is to say of the energy."""
        found = self.claim.energy_ratio
        if found > self.energy_bound_high:
            return "above its bound"
        if found > self.energy_bound:
            return "above its bound but for rounding of the share"
        if self.implied_mac_j < PAPER.array_mac_by_ohm_j:
            return "needs cells below G V^2 t"
        if self.implied_mac_j < PAPER.tile_mac_j:
            return "needs converters below those printed"
        return "follows from its inputs"


def judge(claim: Claim, inputs: PaperInputs = PAPER) -> Judged:
    """Put a claim beside what the inputs allow."""
    share, ratio = claim.mac_share, inputs.density_ratio()

    def energy(analog_mac_j: float, at: float = share) -> float:
        return energy_ratio(at, analog_mac_j, inputs.gpu_mac_j)

    return Judged(
        claim,
        speed_up(share, ratio),
        speed_up_bound(share, ratio),
        energy(inputs.array_mac_j),
        energy(inputs.array_mac_j, share - ROUNDING),
        energy(inputs.array_mac_j, share + ROUNDING),
        energy(inputs.array_mac_by_ohm_j),
        energy(inputs.tile_mac_j),
        implied_analog_mac_j(share, claim.energy_ratio, inputs.gpu_mac_j),
    )
