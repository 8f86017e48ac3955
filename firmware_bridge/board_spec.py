"""BoardSpec: which line hangs on which channel, part values and limits, from boards/*.toml."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware_bridge import registers
from firmware_bridge.chips import ads8324, cd4051b, dac80508, opa4322
from firmware_bridge.errors import InputError

BOARDS = Path(__file__).parent / "boards"
MAX_DAC_CHIPS = registers.N_LIMITS // dac80508.N_CHANNELS
SOURCES = ("datasheet", "paper", "assumed")


@dataclass(frozen=True)
class Provenance:
    """Where a value comes from."""

    key: str
    value: Any
    unit: str
    source: str
    note: str


@dataclass(frozen=True)
class PulseDefaults:
    """First guesses for pulses until a chip is measured. Volts, seconds, siemens, siemens/volt."""

    form_bl_start_v: float
    form_bl_stop_v: float
    form_bl_step_v: float
    form_wl_v: float
    form_width_s: float
    set_bl_v: float
    set_width_s: float
    set_wl_offset_v: float
    set_wl_slope_siemens_per_v: float
    reset_wl_v: float
    reset_width_s: float
    reset_start_v: float
    reset_stop_v: float
    reset_top_siemens: float
    reset_slope_siemens_per_v: float


@dataclass(frozen=True)
class BoardSpec:
    """The board as the host believes it to be. Row = WL and SL, column = BL.

    `bl_channel[c]` and `wl_channel[r]` are DAC channels (chip * 8 + output); `sl_bit0/1[r]` the
    positions of a row's select bits in the 74HC595 chain; `adc_of_row[r]` and `select_of_row[r]`
    the converter and multiplexer input that carry the row's amplifier.
    """

    name: str
    rows: int
    cols: int
    conductance_min_siemens: float
    conductance_max_siemens: float
    dac_chips: int
    bl_channel: tuple[int, ...]
    wl_channel: tuple[int, ...]
    sl_bit0: tuple[int, ...]
    sl_bit1: tuple[int, ...]
    adcs: int
    adc_of_row: tuple[int, ...]
    select_of_row: tuple[int, ...]
    sl_ground: int
    sl_tia: int
    sl_rail: int
    sl_float: int
    mux_supply_v: float
    tia_bias_v: float
    sl_rail_v: float
    tia_supply_v: float
    adc_reference_v: float
    tia_feedback_ohm: tuple[float, ...]
    tia_settling_s: float
    read_voltage_v: float
    wl_read_v: float
    bl_limit_v: float
    wl_limit_v: float
    pulses: PulseDefaults
    provenance: tuple[Provenance, ...] = dataclasses.field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse a board that cannot be built."""
        channels = self.dac_chips * dac80508.N_CHANNELS
        self._check_lines("bl_channel", self.cols, channels)
        self._check_lines("wl_channel", self.rows, channels)
        for name in ("sl_bit0", "sl_bit1"):
            self._check_lines(name, self.rows, 2 * self.rows)
        for one, two in (("bl_channel", "wl_channel"), ("sl_bit0", "sl_bit1")):
            shared = set(getattr(self, one)) & set(getattr(self, two))
            if shared:
                raise InputError(f"board {self.name}: {one} and {two} both use {sorted(shared)}")
        self._check_adcs()
        self._check_values()

    def _check_lines(self, key: str, n_lines: int, n_places: int) -> None:
        value = getattr(self, key)
        if len(value) != n_lines:
            raise InputError(f"board {self.name}: {key} has {len(value)} entries, not {n_lines}")
        if len(set(value)) != len(value):
            raise InputError(f"board {self.name}: {key} uses a place twice: {list(value)}")
        outside = [place for place in value if not 0 <= place < n_places]
        if outside:
            raise InputError(f"board {self.name}: {key} {outside} is outside 0..{n_places - 1}")

    def _check_adcs(self) -> None:
        for name in ("adc_of_row", "select_of_row"):
            if len(getattr(self, name)) != self.rows:
                raise InputError(
                    f"board {self.name}: {name} has {len(getattr(self, name))} entries, "
                    f"not {self.rows}"
                )
        pairs = list(zip(self.adc_of_row, self.select_of_row, strict=True))
        if len(pairs) != self.rows or len(set(pairs)) != self.rows:
            raise InputError(f"board {self.name}: every row needs an ADC input of its own")
        if any(not 0 <= adc < self.adcs or not 0 <= sel < 32 for adc, sel in pairs):
            raise InputError(f"board {self.name}: adc_of_row outside 0..{self.adcs - 1}")

    def _check_values(self) -> None:
        if not 1 <= self.dac_chips <= MAX_DAC_CHIPS:
            raise InputError(
                f"board {self.name}: dac_chips = {self.dac_chips} is outside 1..{MAX_DAC_CHIPS} "
                "(chip mask and limit registers)"
            )
        codes = (self.sl_ground, self.sl_tia, self.sl_rail, self.sl_float)
        if sorted(codes) != [0, 1, 2, 3]:
            raise InputError(f"board {self.name}: sl_switch inputs {codes} must be 0, 1, 2, 3")
        if len(self.tia_feedback_ohm) != 4 or min(self.tia_feedback_ohm) <= 0:
            raise InputError(f"board {self.name}: tia_feedback needs four values above 0 ohm")
        if not 0.5 <= self.adc_reference_v <= self.tia_supply_v / 2:
            raise InputError(
                f"board {self.name}: adc_reference {self.adc_reference_v} V is outside "
                f"0.5..{self.tia_supply_v / 2} V (ADS8324: 0.5 V to half its supply)"
            )
        for part in (self, self.pulses):
            for item in dataclasses.fields(part):
                value = getattr(part, item.name)
                if isinstance(value, float) and not 0 < value < math.inf:
                    raise InputError(f"board {self.name}: {item.name} = {value} must be above 0")

    @property
    def selects(self) -> int:
        """Conversions needed to read every row once."""
        return max(self.select_of_row) + 1

    @property
    def mux_r_on_ohm(self) -> float:
        """Typical on-resistance between a source line and what it is switched to."""
        return cd4051b.typical_r_on_ohm(self.mux_supply_v)

    @property
    def dac_settling_s(self) -> float:
        """Settling of a DAC output (DAC80508)."""
        return dac80508.SETTLING_S

    def full_scale_a(self, tia_range: int) -> float:
        """Largest current that a range measures, in amperes."""
        return opa4322.full_scale_a(
            self.tia_feedback_ohm[tia_range], self.tia_bias_v, self.tia_supply_v
        )

    def current_lsb_a(self, tia_range: int) -> float:
        """Current of one ADC code in a range, in amperes."""
        return ads8324.lsb_v(self.adc_reference_v) / self.tia_feedback_ohm[tia_range]

    def swapped(self, key: str, one: int, two: int) -> BoardSpec:
        """This board with two entries of a wiring table exchanged."""
        lines = list(getattr(self, key))
        lines[one], lines[two] = lines[two], lines[one]
        changed: dict[str, Any] = {key: tuple(lines)}
        return dataclasses.replace(self, **changed)


def load(name_or_path: str | Path = "zc706") -> BoardSpec:
    """Read a board file.

    Args:
        name_or_path: name of a file in boards/, or a path.

    Raises:
        InputError: no such file, a value without provenance, or a board that cannot be.
    """
    try:
        import tomllib
    except ImportError as error:  # Python 3.10, on the board: it never needs a BoardSpec
        raise InputError("reading a board file needs Python 3.11 (tomllib)") from error
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = BOARDS / f"{name_or_path}.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in BOARDS.glob("*.toml")))
        raise InputError(f"no board file {path}; known boards: {known}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a TOML file: {error}") from None
    return from_mapping(raw)


def _entries(raw: Mapping[str, Any]) -> dict[str, Provenance]:
    entries = {}
    for section, table in raw.items():
        if section == "name":
            continue
        if not isinstance(table, dict):
            raise InputError(f"board file: {section} is neither the name nor a section")
        for key, item in table.items():
            name = f"{section}.{key}"
            missing = {"value", "unit", "source", "note"}
            missing -= set(item) if isinstance(item, dict) else set()
            if missing:
                raise InputError(f"board file: {name} lacks {', '.join(sorted(missing))}")
            if item["source"] not in SOURCES:
                raise InputError(
                    f"board file: {name} has source {item['source']!r}, not one of {SOURCES}"
                )
            entries[name] = Provenance(
                name, item["value"], item["unit"], item["source"], item["note"]
            )
    return entries


_KEYS = {
    "rows": "array.rows",
    "cols": "array.cols",
    "conductance_min_siemens": "array.conductance_min",
    "conductance_max_siemens": "array.conductance_max",
    "dac_chips": "wiring.dac_chips",
    "bl_channel": "wiring.bl_channel",
    "wl_channel": "wiring.wl_channel",
    "sl_bit0": "wiring.sl_bit0",
    "sl_bit1": "wiring.sl_bit1",
    "adcs": "wiring.adcs",
    "adc_of_row": "wiring.adc_of_row",
    "select_of_row": "wiring.select_of_row",
    "sl_ground": "sl_switch.ground",
    "sl_tia": "sl_switch.tia",
    "sl_rail": "sl_switch.rail",
    "sl_float": "sl_switch.float",
    "mux_supply_v": "sl_switch.supply",
    "tia_bias_v": "rails.tia_bias",
    "sl_rail_v": "rails.sl_rail",
    "tia_supply_v": "rails.tia_supply",
    "adc_reference_v": "readout.adc_reference",
    "tia_feedback_ohm": "readout.tia_feedback",
    "tia_settling_s": "readout.tia_settling",
    "read_voltage_v": "readout.read_voltage",
    "wl_read_v": "readout.wl_read",
    "bl_limit_v": "limits.bl",
    "wl_limit_v": "limits.wl",
}
_SUFFIXES = ("_siemens_per_v", "_siemens", "_v", "_s")


def _pulse_key(field: str) -> str:
    suffix = next(s for s in _SUFFIXES if field.endswith(s))
    return "pulses." + field.removesuffix(suffix)


def from_mapping(raw: Mapping[str, Any]) -> BoardSpec:
    """Build a BoardSpec from the parsed TOML.

    Raises:
        InputError: key missing, unknown key, or a value that a board cannot have.
    """
    entries = _entries(raw)
    pulse_keys = {f.name: _pulse_key(f.name) for f in dataclasses.fields(PulseDefaults)}
    wanted = set(_KEYS.values()) | set(pulse_keys.values())
    if wanted != set(entries):
        odd = sorted(wanted ^ set(entries))
        raise InputError(f"board file: keys missing or unknown: {', '.join(odd)}")

    def value(key: str) -> Any:
        found = entries[key].value
        items = found if isinstance(found, list) else [found]
        if any(isinstance(item, bool) or not isinstance(item, int | float) for item in items):
            raise InputError(f"board file: {key} = {found!r} is not a number or a list of numbers")
        return tuple(found) if isinstance(found, list) else found

    pulses = PulseDefaults(**{name: float(value(key)) for name, key in pulse_keys.items()})
    fields = {name: value(key) for name, key in _KEYS.items()}
    return BoardSpec(
        name=str(raw.get("name", "unnamed")),
        pulses=pulses,
        provenance=tuple(entries.values()),
        **fields,
    )
