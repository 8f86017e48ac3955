"""The three ledgers of `rram estimate` as lines: value, unit, source, and what there is to say.

They are never mixed: the paper's model with its own numbers, the same model corrected for one
flow, and the time of this board for the same flow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from firmware_bridge.board_spec import BoardSpec
from rram_host.analog.ledger import (
    BoardTime,
    Corrected,
    Workload,
    board_time,
    corrected,
    published_workload,
)
from rram_host.analog.paper_model import CLAIMS, PAPER, Judged, PaperInputs, judge
from rram_host.experiments.cost import product_job

METHODS = "paper, Methods"
COUNTED = "counted"


@dataclass(frozen=True)
class Line:
    """One number.

    Attributes:
        item: what it is.
        value: in `unit`.
        unit: "1" for ratios.
        source: where it comes from.
        printed: what the paper prints for it; None where nothing.
        remark: what there is to say.
    """

    item: str
    value: float
    unit: str
    source: str
    printed: float | None = None
    remark: str = ""


@dataclass(frozen=True)
class Estimate:
    """All three ledgers of a flow.

    Attributes:
        work: what the flow multiplies for one configuration.
        paper: numbers of the paper's model.
        claims: its ratios beside what its own inputs allow.
        corrected: the model corrected, for the flow.
        board: time of this board, for the flow.
    """

    work: Workload
    paper: tuple[Line, ...]
    claims: tuple[Judged, ...]
    corrected: tuple[Line, ...]
    board: tuple[Line, ...]

    def values(self) -> dict[str, Any]:
        """Plain values."""
        claims = [
            {
                **asdict(found.claim),
                **{key: value for key, value in vars(found).items() if key != "claim"},
                "speed_verdict": found.speed_verdict,
                "energy_verdict": found.energy_verdict,
            }
            for found in self.claims
        ]
        return {
            "workload": {"name": self.work.name, "source": self.work.source},
            "paper": [asdict(line) for line in self.paper],
            "paper_claims": claims,
            "corrected": [asdict(line) for line in self.corrected],
            "board": [asdict(line) for line in self.board],
        }


def estimate(work: Workload, spec: BoardSpec) -> Estimate:
    """All three ledgers for a workload on a board."""
    time = board_time(work, product_job(spec).cost.total_s)
    return Estimate(
        work,
        tuple(paper_lines()),
        tuple(judge(claim) for claim in CLAIMS),
        tuple(corrected_lines(work, corrected(work))),
        tuple(board_lines(spec, time)),
    )


def workload_of(model: str | None) -> Workload:
    """The workload of a shipped flow or a file; of the published model without one.

    Raises:
        InputError: no such flow.
    """
    if model is None:
        return published_workload()
    from rram_host.flows import checkpoint

    path = checkpoint.resolve(model)
    return flow_workload(path.stem, checkpoint.load(path).flow)


def flow_workload(name: str, flow: Any) -> Workload:
    """Count a flow by drawing configurations."""
    from rram_host.analog.shares import shares

    found = shares(flow)
    rest = found.macs_other + found.operations
    return Workload(name, "counted while it drew configurations", found.products, rest=rest)


def paper_lines(p: PaperInputs = PAPER) -> Iterator[Line]:
    """Inputs of the paper's model, and what follows from them."""
    yield Line("GPU, a MAC", p.gpu_mac_j, "J", METHODS, p.gpu_mac_j, "RTX 5090, estimated")
    yield Line("array, a MAC as printed", p.array_mac_j, "J", METHODS, p.array_mac_j)
    by_ohm = (
        f"G V^2 t, {in_prefix(p.cell_siemens, 'S')}, {p.read_v:g} V, {in_prefix(p.read_s, 's')}"
    )
    yield Line(
        "array, a MAC by Ohm",
        p.array_mac_by_ohm_j,
        "J",
        by_ohm,
        p.array_mac_j,
        f"{p.array_mac_by_ohm_j / p.array_mac_j:.0f} times what is printed from the same numbers; "
        "its inputs are ±0.1 V elsewhere",
    )
    for name, energy, per_cell in zip(
        ("DAC", "TIA", "ADC"), (p.dac_j, p.tia_j, p.adc_j), p.periphery_mac_j, strict=True
    ):
        part = f"{in_prefix(per_cell, 'J')} a MAC of a full {p.tile} x {p.tile} tile"
        yield Line(f"{name}, an operation", energy, "J", METHODS, energy, part)
    gain = f"GPU over that: {p.gpu_mac_j / p.tile_mac_j:.1f}"
    yield Line("a MAC with converters", p.tile_mac_j, "J", "sum of the above", None, gain)
    rounds = f"read {in_prefix(p.read_s, 's')}, MUX {in_prefix(p.mux_s, 's')}, "
    rounds += f"ADC {p.adc_rounds} x {in_prefix(p.adc_s, 's')}, add {in_prefix(p.add_s, 's')}"
    slow = "an ADS8324 as on the board takes 20 µs"
    yield Line("a product of the macro", p.step_s, "s", rounds, 17.89e-9, slow)
    yield Line(
        "macro, 1 MAC = 1 FLOP",
        p.macro_flops_per_mm2() / 1e12,
        "TFLOP/s/mm²",
        f"{p.tile**2} / {in_prefix(p.step_s, 's')} / {p.macro_mm2:g} mm²",
        5.72,
    )
    yield Line(
        "GPU, 1 MAC = 2 FLOP",
        p.gpu_flops_per_mm2 / 1e12,
        "TFLOP/s/mm²",
        f"{p.gpu_flop_per_s / 1e12:g} TFLOP/s / {p.gpu_mm2:g} mm²",
        0.14,
        "the two sides count a FLOP differently",
    )
    yield Line("macro over GPU, as printed", p.density_ratio(), "1", "the two above")
    same = "the paper's mistake is to the array's disadvantage"
    yield Line("macro over GPU, 1 MAC = 2 FLOP", p.density_ratio(2), "1", "same FLOP", None, same)


def corrected_lines(work: Workload, found: Corrected) -> Iterator[Line]:
    """Counts, energies and times of one configuration on the paper's macro, nothing left out."""
    tile = f"{work.tile} x {work.tile}"
    for item, count in (
        ("weights on arrays", work.weights_analog),
        ("weights of LoRA, digital", work.weights_digital),
        ("MACs on arrays", work.macs_analog),
        ("MACs of LoRA, digital", work.macs_digital),
    ):
        yield Line(item, float(count), "1", COUNTED)
    said = (work.claim.weight_share, work.claim.mac_share) if work.claim else (None, None)
    shares = (work.weight_share, work.mac_share)
    for item, share, printed in zip(("weight", "MAC"), shares, said, strict=True):
        yield _share_line(f"{item} share of arrays", share, printed)
    yield Line(f"arrays of {tile}", float(work.arrays), "1", "placement of this package")
    full = f"tiles {100 * work.utilisation:.0f} % full"
    yield Line("products of a tile", float(work.vectors), "1", COUNTED, None, full)
    for item, energy, source in (
        ("DAC", found.dac_j, f"{work.dac_conversions} conversions"),
        ("TIA", found.tia_j, f"{work.adc_conversions} conversions"),
        ("ADC", found.adc_j, f"{work.adc_conversions} conversions"),
        ("array", found.array_j, "G V^2 t a MAC"),
        ("LoRA, digital", found.digital_j, "GPU's price a MAC"),
        ("digital rest", found.rest_j, _rest(work)),
    ):
        part = f"{100 * energy / found.total_j:.1f} % of the sum"
        yield Line(f"energy, {item}", energy, "J", source, None, part)
    yield Line("energy, sum", found.total_j, "J", "sum of the above")
    merged = "LoRA merged into its matrices costs nothing there"
    yield Line("energy, GPU alone", found.gpu_j, "J", "GPU's price a MAC", None, merged)
    at_most = f"at most {found.energy_bound:.3g}, with converters for nothing"
    yield Line("energy, GPU over sum", found.energy_ratio, "1", "", None, at_most)
    yield Line("a MAC on arrays, all in", found.analog_mac_j, "J", "converters and cells")
    yield Line("time on one macro", found.macro_s, "s", "products x 17.89 ns")
    at_most = f"at most {found.speed_bound:.3g}, with perfect overlap"
    equal = "1 MAC = 2 FLOP on both, equal area"
    yield Line("speed-up over GPU", found.speed_serial, "1", equal, None, at_most)


def _rest(work: Workload) -> str:
    if not work.rest:
        return "not counted for this model"
    return f"{work.rest:.0f} pointwise operations and others, a MAC each, on the GPU either way"


def _share_line(item: str, share: float, printed: float | None) -> Line:
    if printed is None:
        return Line(item, 100 * share, "%", COUNTED)
    return Line(item, 100 * share, "%", COUNTED, 100 * printed, f"printed {100 * printed:.1f} %")


def board_lines(spec: BoardSpec, time: BoardTime) -> Iterator[Line]:
    """Time of one configuration on this board."""
    adcs = f"rram cost, {spec.name}, {spec.adcs} ADCs"
    yield Line("a product of a batch", time.product_s, "s", adcs)
    yield Line("products a configuration", float(time.vectors), "1", COUNTED)
    again = "" if time.arrays == 1 else "programming it in between not counted"
    yield Line("a configuration, one board", time.one_board_s, "s", "product", None, again)
    if time.arrays > 1:
        best = "all multiplying at once, equally busy: a bound"
        item = f"a configuration, {time.arrays} boards"
        yield Line(item, time.board_each_s, "s", f"over {time.arrays}", None, best)
    none = "the board's energy is not modelled"
    yield Line("configurations a second", 1 / time.one_board_s, "1/s", "inverse", None, none)


_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f"))


def in_prefix(value: float, unit: str, digits: int = 4) -> str:
    """A quantity with a readable prefix.

    >>> in_prefix(4.56e-13, "J")
    '456 fJ'
    """
    scale, prefix = next(
        (pair for pair in _PREFIXES if abs(value) >= 0.9995 * pair[0]), _PREFIXES[-1]
    )
    return f"{value / scale:.{digits}g} {prefix}{unit}"
