"""BoardSpec: which line hangs on which channel, part values and limits, from boards/*.toml."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware_bridge import board_file
from firmware_bridge.board_file import BOARDS, Provenance
from firmware_bridge.board_keys import (
    DAC_TOP_V,
    KEYS,
    MAX_SELECTS,
    PART_KEYS,
    PULSE_KEYS,
    TE_ON_BL,
    TE_ON_SL,
    Parts,
    PulseDefaults,
)
from firmware_bridge.chips import ads8324, cd4051b, dac80508, opa4322
from firmware_bridge.errors import InputError

__all__ = [
    "BOARDS",
    "TE_ON_BL",
    "TE_ON_SL",
    "BoardSpec",
    "Parts",
    "Provenance",
    "PulseDefaults",
    "from_mapping",
    "load",
]

READ_TOP_V = 1.25 * (1 - 1 / dac80508.FULL_SCALE)  # last code of the range that reads use


@dataclass(frozen=True)
class BoardSpec:
    """The board as the host believes it to be. Row = WL and SL, column = BL.

    `bl_channel[c]` and `wl_channel[r]` are DAC channels (chip * 8 + output); `sl_bit0/1[r]` the
    positions of a row's select bits in the 74HC595 chain; `adc_of_row[r]` and `select_of_row[r]`
    the converter and multiplexer input that carry the row's amplifier.

    `polarity` says where the cells' top electrodes are. TE_ON_BL: SET and forming put BLs above
    SLs, RESET puts SLs above BLs. TE_ON_SL: the other way round.

    Gate voltages of SET and forming, those of `pulses` among them, are compliances: what the gate
    is above the lower of the cell's two lines, the source of its transistor (`set_lower_v`).
    """

    name: str
    rows: int
    cols: int
    conductance_min_siemens: float
    conductance_max_siemens: float
    polarity: str
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
    mux_control_v: float
    tia_bias_v: float
    sl_rail_v: float
    tia_supply_v: float
    adc_reference_v: float
    tia_feedback_ohm: tuple[float, ...]
    tia_feedback_farad: tuple[float, ...]
    tia_input_farad: float
    read_voltage_v: float
    wl_read_v: float
    bl_limit_v: float
    wl_limit_v: float
    half_select_limit_v: float
    watchdog_s: float
    pulse_limit_s: float
    pulses_limit: int
    cell_pulses_limit: int
    cell_energy_limit_j: float
    program_limit_s: float
    pulses: PulseDefaults
    parts: Parts
    provenance: tuple[Provenance, ...] = dataclasses.field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse a board that cannot be built."""
        if not isinstance(self.name, str) or not self.name.strip():
            raise InputError(f"board file: name = {self.name!r}: must be a text")
        for owner, keys in ((self, KEYS), (self.pulses, PULSE_KEYS), (self.parts, PART_KEYS)):
            for field, key in keys.items():
                key.check(self.name, getattr(owner, field))
        channels = self.dac_chips * dac80508.N_CHANNELS
        self._check_places(
            (("BL", "bl_channel", self.cols), ("WL", "wl_channel", self.rows)), channels
        )
        bits = (("low bit of SL", "sl_bit0", self.rows), ("high bit of SL", "sl_bit1", self.rows))
        self._check_places(bits, 2 * self.rows)
        self._check_adcs()
        self._check_switches()
        for field, broken, reason in (*self._electrical_rules(), *self._pulse_rules()):
            if broken:
                raise self._refusal(field, reason)

    def _refusal(self, field: str, reason: str, index: int | None = None) -> InputError:
        """The error of a field whose value does not fit this board."""
        keys, owner = (PULSE_KEYS, self.pulses) if field in PULSE_KEYS else (KEYS, self)
        value = getattr(owner, field)
        shown = value if index is None else value[index]
        return keys[field].refusal(self.name, shown, reason, index)

    def _check_count(self, field: str, count: int) -> None:
        found = len(getattr(self, field))
        if found != count:
            raise self._refusal(field, f"has {found} entries, not {count}")

    def _check_places(self, groups: tuple[tuple[str, str, int], ...], n_places: int) -> None:
        """Lines of several groups share one set of places, and no two lines one place."""
        taken: dict[int, str] = {}
        for line, field, count in groups:
            self._check_count(field, count)
            for index, place in enumerate(getattr(self, field)):
                unit = KEYS[field].unit
                if place >= n_places:
                    raise self._refusal(field, f"{unit} outside 0..{n_places - 1}", index)
                if place in taken:
                    reason = f"{taken[place]} and {line}{index} overlap on {unit} {place}"
                    raise self._refusal(field, reason, index)
                taken[place] = f"{line}{index}"

    def _check_adcs(self) -> None:
        for field in ("adc_of_row", "select_of_row"):
            self._check_count(field, self.rows)
        if self.adcs > self.rows:
            raise self._refusal("adcs", f"more converters than rows ({self.rows})")
        taken: dict[tuple[int, int], int] = {}
        for row, place in enumerate(zip(self.adc_of_row, self.select_of_row, strict=True)):
            if place[0] >= self.adcs:
                raise self._refusal("adc_of_row", f"converter outside 0..{self.adcs - 1}", row)
            if place in taken:
                reason = (
                    f"rows {taken[place]} and {row} overlap on ADC {place[0]}, input {place[1]}"
                )
                raise self._refusal("select_of_row", reason, row)
            taken[place] = row

    def _check_switches(self) -> None:
        fields = ("sl_ground", "sl_tia", "sl_rail", "sl_float")
        taken: dict[int, str] = {}
        for field in fields:
            code = getattr(self, field)
            if code in taken:
                raise self._refusal(field, f"input {code} is taken by {KEYS[taken[code]].name}")
            taken[code] = field
        try:
            cd4051b.check_levels(self.mux_supply_v, self.mux_control_v)
        except InputError as error:
            field = "mux_control_v" if self.mux_supply_v in cd4051b.R_ON_OHM else "mux_supply_v"
            raise self._refusal(field, str(error)) from None

    def _electrical_rules(self) -> Iterator[tuple[str, bool, str]]:
        """Field, whether it breaks the rule, and the rule: rails, readout, limits."""

        def limit(key: str, value: float, unit: str = "V") -> str:
            return f"{key} = {value:g} {unit}"

        window = limit("array.conductance_max", self.conductance_max_siemens, "S")
        yield (
            "conductance_min_siemens",
            self.conductance_min_siemens >= self.conductance_max_siemens,
            f"must be below {window}",
        )
        lowest, highest = ads8324.SUPPLY_MIN_V, ads8324.SUPPLY_MAX_V
        yield (
            "tia_supply_v",
            not lowest <= self.tia_supply_v <= highest,
            f"outside {lowest}..{highest} V (ADS8324, on the same supply)",
        )
        swing = self.tia_supply_v - opa4322.HEADROOM_V
        yield (
            "tia_bias_v",
            not opa4322.HEADROOM_V < self.tia_bias_v < swing,
            f"outside {opa4322.HEADROOM_V:g}..{swing:g} V (OPA4322 output)",
        )
        half = self.tia_supply_v / 2
        yield (
            "adc_reference_v",
            not ads8324.REFERENCE_MIN_V <= self.adc_reference_v <= half,
            f"outside {ads8324.REFERENCE_MIN_V}..{half} V (ADS8324: 0.5 V to half its supply)",
        )
        room = min(self.tia_bias_v, min(READ_TOP_V, self.bl_limit_v) - self.tia_bias_v)
        yield (
            "read_voltage_v",
            self.read_voltage_v > room,
            f"{limit('rails.tia_bias', self.tia_bias_v)} leaves {room:.4g} V either way within "
            f"0..1.25 V (DAC80508 range of reads) and {limit('limits.bl', self.bl_limit_v)}",
        )
        yield (
            "wl_read_v",
            self.wl_read_v > self.wl_limit_v,
            f"above {limit('limits.wl', self.wl_limit_v)}",
        )
        yield (
            "sl_rail_v",
            self.sl_rail_v > min(self.bl_limit_v, self.mux_supply_v),
            f"above {limit('limits.bl', self.bl_limit_v)} (bit lines are inhibited at the rail) or "
            f"{limit('sl_switch.supply', self.mux_supply_v)} (CD4051B)",
        )

    def _pulse_rules(self) -> Iterator[tuple[str, bool, str]]:
        """Field, whether it breaks the rule, and the rule: pulses."""
        p, unit = self.pulses, dac80508.code_to_volts(1, DAC_TOP_V).item()
        for line, limit_v, fields in (
            ("bl", self.bl_limit_v, ("form_bl_stop_v", "set_bl_v")),
            ("wl", self.wl_limit_v, ("form_wl_v", "set_wl_offset_v", "reset_wl_v")),
        ):
            for field in fields:
                broken = getattr(p, field) > limit_v
                yield field, broken, f"above limits.{line} = {limit_v:g} V"
        stop = f"pulses.form_bl_stop = {p.form_bl_stop_v:g} V"
        yield "form_bl_start_v", p.form_bl_start_v > p.form_bl_stop_v, f"above {stop}"
        yield "form_bl_step_v", p.form_bl_step_v < unit, f"below one DAC code, {unit:.3g} V"
        rail = f"above rails.sl_rail = {self.sl_rail_v:g} V"
        if self.polarity == TE_ON_BL:
            text = f"{rail} (RESET is rail minus BL)"
            yield "reset_stop_v", p.reset_stop_v > self.sl_rail_v, text
        else:
            for field in ("form_bl_stop_v", "set_bl_v"):
                broken = getattr(p, field) > self.sl_rail_v
                yield field, broken, f"{rail} (SET is rail minus BL, te_on_sl)"
            for field, volts in (("form_wl_v", p.form_bl_start_v), ("set_wl_offset_v", p.set_bl_v)):
                most_v = self.compliance_limit_v(volts)
                text = (
                    f"above {most_v:.4g} V: limits.wl = {self.wl_limit_v:g} V less the bit line at "
                    f"{self.set_lower_v(volts):.4g} V (te_on_sl)"
                )
                yield field, getattr(p, field) > most_v, text
            top = f"above limits.bl = {self.bl_limit_v:g} V"
            yield "reset_stop_v", p.reset_stop_v > self.bl_limit_v, top
        weakest = f"must be below pulses.reset_start = {p.reset_start_v:g} V and pulses.set_bl"
        least_v = min(p.reset_start_v, p.set_bl_v)
        yield "half_select_limit_v", self.half_select_limit_v >= least_v, weakest
        stop = f"pulses.reset_stop = {p.reset_stop_v:g} V"
        yield "reset_start_v", p.reset_start_v > p.reset_stop_v, f"above {stop}"
        shortest = self.mux_switch_s
        for field in ("form_width_s", "set_width_s", "reset_width_s"):
            width = getattr(p, field)
            longest = self.pulse_limit_s
            reason = f"outside {shortest:g} s (CD4051B turning on) to {longest:g} s (limits.pulse)"
            yield field, not shortest <= width <= longest, reason

    def with_adcs(self, count: int) -> BoardSpec:
        """The same board with `count` converters: row r on ADC r % count, input r // count.

        Neighbouring rows sit on different converters, so that `count` of them convert together.

        Raises:
            InputError: no converter, more than rows, or so few that one would need more than 32
                inputs.
        """
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= self.rows:
            raise InputError(
                f"board {self.name}: {count!r} converters: outside 1..{self.rows} (rows)"
            )
        inputs = -(-self.rows // count)
        if inputs > MAX_SELECTS:
            raise InputError(
                f"board {self.name}: {count} converters for {self.rows} rows need {inputs} inputs "
                f"each, more than {MAX_SELECTS}"
            )
        return dataclasses.replace(
            self,
            adcs=count,
            adc_of_row=tuple(row % count for row in range(self.rows)),
            select_of_row=tuple(row // count for row in range(self.rows)),
        )

    def set_lower_v(self, volts: float) -> float:
        """The lower of a cell's two lines in a SET of `volts` between them: SL, or rail - V."""
        return 0.0 if self.polarity == TE_ON_BL else self.sl_rail_v - volts

    def compliance_limit_v(self, volts: float | None = None) -> float:
        """Largest compliance in a SET of `volts` (default: the board file's): what gates reach."""
        return self.wl_limit_v - self.set_lower_v(self.pulses.set_bl_v if volts is None else volts)

    @property
    def selects(self) -> int:
        """Conversions needed to read every row once."""
        return max(self.select_of_row) + 1

    @property
    def mux_r_on_ohm(self) -> float:
        """Typical resistance of a switch between a source line and its amplifier."""
        return self.switch_ohm(self.tia_bias_v)

    def switch_ohm(self, signal_v: float) -> float:
        """Typical on-resistance of a source-line switch at the voltage that it passes."""
        return float(cd4051b.r_on_ohm(self.mux_supply_v, signal_v))

    @property
    def dac_settling_s(self) -> float:
        """Settling of a DAC output (DAC80508)."""
        return dac80508.SETTLING_S

    @property
    def shorted_siemens(self) -> float:
        """Conductance from which a cell counts as shorted: 1.5 times the window's top."""
        return 1.5 * self.conductance_max_siemens

    @property
    def mux_switch_s(self) -> float:
        """Longest time a source-line switch takes to turn on or off or to change its input."""
        return cd4051b.switching_max_s(self.mux_supply_v)

    def tia_settling_s(self, tia_range: int) -> float:
        """Settling of an amplifier to 14 bit in a range, after a step of its current."""
        return opa4322.settling_s(
            self.tia_feedback_ohm[tia_range],
            self.tia_feedback_farad[tia_range],
            self.tia_input_farad,
        )

    def settling_s(self, tia_range: int) -> float:
        """From an update of bit lines to a conversion: converter, and amplifier behind it.

        Settling times of a chain add in squares: sqrt(t_DAC^2 + t_TIA^2).
        """
        return math.hypot(self.dac_settling_s, self.tia_settling_s(tia_range))

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
    return from_mapping(board_file.read(name_or_path))


def from_mapping(raw: Mapping[str, Any]) -> BoardSpec:
    """Build a BoardSpec from the parsed TOML.

    Raises:
        InputError: a key is missing or unknown, or holds a value that no board or not this one
            can have: names the key, the value and the reason.
    """
    name = raw.get("name", "unnamed")
    groups = (KEYS, PULSE_KEYS, PART_KEYS)
    found = board_file.entries(str(name), raw, [key for group in groups for key in group.values()])
    board, pulses, parts = (
        {field: found[key.name].value for field, key in group.items()} for group in groups
    )
    return BoardSpec(
        name=name,
        pulses=PulseDefaults(**pulses),
        parts=Parts(**parts),
        provenance=tuple(found.values()),
        **board,
    )
