"""Faults that can be injected into an emulated board: `sim://?fault=open_wl:7,adc_gain:2:0.9`.

Each is a defect of one part or line, put where it sits electrically; what a self-test makes of it
is the host's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_bridge.chips import dac80508
from firmware_bridge.errors import InputError

if TYPE_CHECKING:
    from sim.bench import Bench

_PER_CHIP = dac80508.N_CHANNELS
_OPEN_SIEMENS = 1e-12  # a cell that does not conduct at all: formulas divide by conductances


@dataclass(frozen=True)
class Fault:
    """One defect.

    Attributes:
        kind: a key of `CATALOGUE`.
        places: channel, chip, chain position, row, column or converter, as the kind needs.
        value: voltage, factor, level or conductance, where the kind has one.
    """

    kind: str
    places: tuple[int, ...]
    value: float

    def __str__(self) -> str:
        """As in a URL."""
        places = ":".join(map(str, self.places))
        known = CATALOGUE[self.kind].value
        number = repr(self.value).removesuffix(".0")
        value = "" if known is None or self.value == known else f":{number}"
        return f"{self.kind}:{places}{value}" if places else f"{self.kind}{value}"


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        places: what its places are.
        value: its usual value; None where it has none.
        install: what it does to a bench.
        doc: in words.
        limits: what a value may be.
    """

    places: tuple[str, ...]
    value: float | None
    install: Callable[[Bench, Fault], None]
    doc: str
    limits: tuple[float, float] = (0.0, 0.0)


def _stuck_dac(bench: Bench, fault: Fault) -> None:
    bench.stuck_v[fault.places[0]] = fault.value


def _swapped_dac(bench: Bench, fault: Fault) -> None:
    one, other = fault.places
    wires = bench.channel_of_line
    wires[one], wires[other] = wires[other], wires[one]


def _dead_dac(bench: Bench, fault: Fault) -> None:
    chip = fault.places[0]
    bench.dead_chips.add(chip)
    bench.stuck_v[chip * _PER_CHIP : (chip + 1) * _PER_CHIP] = 0.0


def _dac_reference(bench: Bench, fault: Fault) -> None:
    chip = fault.places[0]
    bench.dac_gain[chip * _PER_CHIP : (chip + 1) * _PER_CHIP] *= fault.value


def _stuck_mux(bench: Bench, fault: Fault) -> None:
    bench.stuck_bits[fault.places[0]] = int(fault.value)


def _swapped_mux(bench: Bench, fault: Fault) -> None:
    one, other = fault.places
    wires = bench.position_of_bit
    wires[one], wires[other] = wires[other], wires[one]


def _open_wl(bench: Bench, fault: Fault) -> None:
    bench.open_wl[fault.places[0]] = True


def _open_bl(bench: Bench, fault: Fault) -> None:
    bench.connected[:, fault.places[0]] = False


def _cell(bench: Bench, fault: Fault) -> None:
    row, col = fault.places
    bench.cells.stick(row, col, max(fault.value, _OPEN_SIEMENS))


def _tia_offset(bench: Bench, fault: Fault) -> None:
    bench.tia_offset_v[fault.places[0]] = fault.value


def _tia_saturated(bench: Bench, fault: Fault) -> None:
    bench.tia_stuck_high[fault.places[0]] = True


def _adc_gain(bench: Bench, fault: Fault) -> None:
    bench.adc_gain[fault.places[0]] *= fault.value


def _dead_adc(bench: Bench, fault: Fault) -> None:
    bench.dead_adcs[fault.places[0]] = True


def _adc_reference(bench: Bench, fault: Fault) -> None:
    bench.adc_gain /= fault.value


CATALOGUE: dict[str, Kind] = {
    "stuck_dac": Kind(
        ("channel",), 0.5, _stuck_dac, "DAC output stays at so many volts", (0.0, 5.0)
    ),
    "swapped_dac": Kind(("channel", "channel"), None, _swapped_dac, "two DAC lines exchanged"),
    "dead_dac": Kind(("chip",), None, _dead_dac, "DAC80508 does not answer, outputs at 0 V"),
    "dac_reference": Kind(
        ("chip",), 0.95, _dac_reference, "DAC80508 reference off by a factor", (0.5, 1.5)
    ),
    "stuck_mux": Kind(("position",), 1.0, _stuck_mux, "74HC595 output stays at 0 or 1", (0.0, 1.0)),
    "swapped_mux": Kind(
        ("position", "position"), None, _swapped_mux, "two 74HC595 outputs exchanged"
    ),
    "open_wl": Kind(("row",), None, _open_wl, "word line broken: the gates stay closed"),
    "open_bl": Kind(("column",), None, _open_bl, "bit line broken"),
    "shorted_cell": Kind(("row", "column"), 2e-3, _cell, "cell shorted, siemens", (0.0, 10e-3)),
    "stuck_high": Kind(
        ("row", "column"), 100e-6, _cell, "cell does not switch, high, siemens", (0.0, 10e-3)
    ),
    "stuck_low": Kind(
        ("row", "column"), 2e-6, _cell, "cell does not switch, low, siemens", (0.0, 10e-3)
    ),
    "tia_offset": Kind(("row",), 5e-3, _tia_offset, "amplifier offset, volts", (-0.1, 0.1)),
    "tia_saturated": Kind(("row",), None, _tia_saturated, "amplifier output at its upper rail"),
    "adc_gain": Kind(
        ("converter",), 0.9, _adc_gain, "ADS8324 reads too low by a factor", (0.1, 2.0)
    ),
    "dead_adc": Kind(("converter",), None, _dead_adc, "ADS8324 always answers zero"),
    "adc_reference": Kind(
        (), 0.9, _adc_reference, "reference of all ADS8324 off by a factor", (0.5, 1.5)
    ),
}


def parse(text: str) -> list[Fault]:
    """Faults of a URL: `kind:place[:place][:value]`, several joined by commas.

    >>> [str(fault) for fault in parse("open_wl:7,adc_gain:2:0.8")]
    ['open_wl:7', 'adc_gain:2:0.8']

    Raises:
        InputError: unknown kind, or places and value that do not belong to it.
    """
    return [_parse_one(item) for item in text.split(",") if item]


def _parse_one(text: str) -> Fault:
    name, *numbers = text.split(":")
    kind = CATALOGUE.get(name)
    if kind is None:
        raise InputError(f"fault {name!r} is not known; known: {', '.join(CATALOGUE)}")
    form = ":".join([name, *(place.upper() for place in kind.places)])
    form += "" if kind.value is None else "[:VALUE]"
    n = len(kind.places)
    if not n <= len(numbers) <= n + (kind.value is not None):
        raise InputError(f"fault {text!r} has not the form {form}")
    try:
        places = tuple(int(number) for number in numbers[:n])
        value = float(numbers[n]) if len(numbers) > n else (kind.value or 0.0)
    except ValueError:
        raise InputError(f"fault {text!r} has not the form {form} with numbers") from None
    _check(text, kind, places, value)
    return Fault(name, places, value)


def _check(text: str, kind: Kind, places: tuple[int, ...], value: float) -> None:
    if len(set(places)) < len(places) and kind.value is None:
        raise InputError(f"fault {text!r} exchanges {kind.places[0]} {places[0]} with itself")
    low, high = kind.limits
    if kind.value is not None and not low <= value <= high:
        raise InputError(f"fault {text!r}: value {value:g} is outside {low:g}..{high:g}")
    if kind.install is _stuck_mux and value not in (0, 1):
        raise InputError(f"fault {text!r}: value {value:g} must be 0 or 1")


def install(bench: Bench, fault: Fault) -> None:
    """Put a fault into a bench, for good.

    Raises:
        InputError: the board has no such place.
    """
    spec, kind = bench.spec, CATALOGUE[fault.kind]
    room = {
        "channel": spec.dac_chips * _PER_CHIP,
        "chip": spec.dac_chips,
        "position": 2 * spec.rows,
        "row": spec.rows,
        "column": spec.cols,
        "converter": spec.adcs,
    }
    for what, place in zip(kind.places, fault.places, strict=True):
        if not 0 <= place < room[what]:
            raise InputError(f"fault {fault}: {what} {place} is outside 0..{room[what] - 1}")
    kind.install(bench, fault)
    bench.rewired()
