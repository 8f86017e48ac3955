"""Parameter sets of the emulated board: each number with its source and range of validity."""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

from firmware_bridge.errors import InputError

FOLDER = Path(__file__).parent
SOURCES = ("datasheet", "paper", "data", "assumed", "fitted")
_ASPECTS = ("value", "source", "note")


@dataclass(frozen=True)
class CellPreset:
    """How cells switch and age. Spreads are standard deviations over cells or cycles.

    Attributes:
        pristine_siemens: conductance before forming.
        floor_siemens: least conductance of a formed cell.
        form_v, form_spread_v, form_time_s: forming voltage (mean, over cells) and least duration.
        set_v, set_spread_v: least BL-SL voltage that SETs.
        set_slope_siemens_per_v, set_slope_spread: G = slope (V_WL - offset); relative spread.
        set_offset_v, set_offset_spread_v: the offset above.
        reset_v, reset_spread_v: least SL-BL voltage that RESETs.
        reset_top_siemens, reset_slope_siemens_per_v: G = top - slope (V - V_reset).
        switch_time_s: time constant of SET and RESET towards those end points.
        cycle_spread: spread of a move, relative to the move.
        cycle_floor_siemens: spread of a move, absolute.
        set_cycle_spread_v, reset_cycle_spread_v: of V_set and V_reset from cycle to cycle.
        wear_pulses, wear_spread: median number of moves (SET or RESET) after which a cell fails, 0
            for never; log-normal spread over cells.
        wear_high_share: share of the failed cells that hold reset_top_siemens, the others hold
            floor_siemens.
        wear_closure: by what part moves are smaller at the end of a cell's life.
        gate_threshold_v, gate_slope_siemens_per_v: access transistor, on-conductance
            slope (V_WL - threshold).
        read_noise: rms of independent readings at 50 uS, relative to G; relative noise falls as
            (50 uS / G)^(1/2).
        relax_siemens2_per_decade, relax_onset_s: Var = A log10(1 + t / onset).
        relax_mean_siemens_per_decade: mean drift.
        relax_spread: log-normal spread of a cell's relaxation amplitude (heavy tails).
        relax_jump_share, relax_jump_decades: share of that variance which comes in jumps, and how
            many decades' worth comes in one (heavy tails that grow lighter with time).
        flicker, flicker_spread: 1/f noise, rms relative to G per decade of time; log-normal spread
            over cells.
        telegraph_share, telegraph, telegraph_spread: share of cells with a trap, median of its
            amplitude relative to G, log-normal spread.
        gate_threshold_spread_v: mismatch of the access transistors.
        sinh_v: curvature of conduction, I = G V0 sinh(V / V0).
        count_v: voltage across a cell from which the truth counts a pulse.
    """

    pristine_siemens: float
    floor_siemens: float
    form_v: float
    form_spread_v: float
    form_time_s: float
    set_v: float
    set_spread_v: float
    set_slope_siemens_per_v: float
    set_slope_spread: float
    set_offset_v: float
    set_offset_spread_v: float
    reset_v: float
    reset_spread_v: float
    reset_top_siemens: float
    reset_slope_siemens_per_v: float
    switch_time_s: float
    cycle_spread: float
    cycle_floor_siemens: float
    set_cycle_spread_v: float
    reset_cycle_spread_v: float
    wear_pulses: float
    wear_spread: float
    wear_high_share: float
    wear_closure: float
    gate_threshold_v: float
    gate_slope_siemens_per_v: float
    read_noise: float
    relax_siemens2_per_decade: float
    relax_onset_s: float
    relax_mean_siemens_per_decade: float
    relax_spread: float
    relax_jump_share: float
    relax_jump_decades: float
    flicker: float
    flicker_spread: float
    telegraph_share: float
    telegraph: float
    telegraph_spread: float
    gate_threshold_spread_v: float
    sinh_v: float
    count_v: float


@dataclass(frozen=True)
class AnalogPreset:
    """Errors of the parts around the array. Standard deviations over parts unless said.

    Attributes:
        dac_offset_v, dac_gain: per DAC channel. dac_inl_lsb: bow of its transfer curve.
        mux_r_on_lot: relative spread of the source-line switches' on-resistance from lot to lot;
            one draw a board.
        mux_r_on_spread_ohm: of the source-line switch, row to row.
        bl_lead_ohm, bl_segment_ohm, sl_segment_ohm: wires of the chip: from the converter to the
            first cell of a BL, and between neighbouring cells. Values, not spreads.
        tia_offset_v: per row; tia_gain: per row and range.
        adc_noise_lsb: rms of a conversion; adc_gain, adc_offset_lsb: per converter; adc_inl_lsb:
            bow of its transfer curve.
    """

    dac_offset_v: float
    dac_gain: float
    dac_inl_lsb: float
    mux_r_on_lot: float
    mux_r_on_spread_ohm: float
    bl_lead_ohm: float
    bl_segment_ohm: float
    sl_segment_ohm: float
    tia_offset_v: float
    tia_gain: float
    adc_noise_lsb: float
    adc_gain: float
    adc_offset_lsb: float
    adc_inl_lsb: float


@dataclass(frozen=True)
class Preset:
    """A named parameter set."""

    name: str
    cells: CellPreset
    analog: AnalogPreset


def names() -> list[str]:
    """Known presets."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


@dataclass(frozen=True)
class _Rule:
    """What a key may hold: a finite number from `least` (0 itself only where `zero`) to `most`."""

    least: float = 0.0
    zero: bool = True
    most: float = math.inf
    reason: str = ""

    def broken(self, value: float) -> str:
        """Why a number is refused; empty where it is not."""
        if not math.isfinite(value):
            return "must be finite"
        if value < self.least:
            return "must be 0 or more"
        if value == 0 and not self.zero:
            return "must be above 0"
        return f"must be at most {self.most:g}: {self.reason}" if value > self.most else ""


_ANY = _Rule()
_POSITIVE = _Rule(zero=False)  # laws divide by it, or a cell without it is none
_SHARE = _Rule(most=1.0, reason="a share of the whole")
_LOG = _Rule(most=3.0, reason="log-normal, one sigma is then a factor of 20")
_PART = _Rule(most=0.1, reason="relative, and a part that far off is broken")
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(
        (
            *("pristine_siemens", "floor_siemens", "form_v", "set_v", "reset_v", "count_v"),
            *("set_slope_siemens_per_v", "reset_top_siemens", "reset_slope_siemens_per_v"),
            *("switch_time_s", "gate_slope_siemens_per_v", "relax_onset_s", "sinh_v"),
            "relax_jump_decades",
        ),
        _POSITIVE,
    ),
    **dict.fromkeys(
        (
            *("set_slope_spread", "cycle_spread", "read_noise", "flicker", "telegraph_share"),
            *("telegraph", "mux_r_on_lot", "wear_high_share", "wear_closure", "relax_jump_share"),
        ),
        _SHARE,
    ),
    **dict.fromkeys(("relax_spread", "flicker_spread", "telegraph_spread", "wear_spread"), _LOG),
    **dict.fromkeys(("dac_gain", "tia_gain", "adc_gain"), _PART),
    "relax_mean_siemens_per_decade": _Rule(least=-math.inf),  # drift goes either way
}
# A spread over cells that is larger than what it is a spread of.
_SPREAD_OF = {
    "form_spread_v": "form_v",
    "set_spread_v": "set_v",
    "set_offset_spread_v": "set_offset_v",
    "reset_spread_v": "reset_v",
    "set_cycle_spread_v": "set_v",
    "reset_cycle_spread_v": "reset_v",
    "gate_threshold_spread_v": "gate_threshold_v",
}


def _refusal(where: str, key: str, value: object, reason: str) -> InputError:
    return InputError(f"preset {where}: {key} = {value!r} {reason}")


def _number(where: str, key: str, item: object) -> float:
    """The value of one entry, `{ value = ..., source = "...", note = "..." }`.

    Raises:
        InputError: no provenance, or a value that the key cannot have.
    """
    aspects = item if isinstance(item, dict) else {}
    value = aspects.get("value") if aspects else item
    lacking = [aspect for aspect in _ASPECTS if aspect not in aspects]
    if lacking:
        needs = "needs value, source and note"
        given = f" = {value!r}" if "value" not in lacking or not aspects else ""
        raise InputError(f"preset {where}: {key} {needs}:{given} lacks {', '.join(lacking)}")
    odd = sorted(set(aspects) - set(_ASPECTS))
    if odd:
        raise _refusal(where, key, value, f"has {', '.join(odd)} beside {', '.join(_ASPECTS)}")
    source, note = aspects["source"], aspects["note"]
    if source not in SOURCES:
        raise _refusal(
            where, key, value, f"has source {source!r}, which is not one of {', '.join(SOURCES)}"
        )
    if not isinstance(note, str) or not note.strip():
        raise _refusal(where, key, value, f"has note {note!r}: it must say where the value is from")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refusal(where, key, value, "must be a number")
    number = float(value) if abs(value) < 1e300 else math.inf  # TOML integers have no end
    broken = _RULES.get(key.partition(".")[2], _ANY).broken(number)
    if broken:
        raise _refusal(where, key, value, broken)
    return number


def _section(raw: dict[str, object], section: str, kind: type, where: str) -> dict[str, float]:
    """All numbers of a section, by field of `kind`."""
    if section not in raw:
        raise InputError(f"preset {where}: section [{section}] is missing")
    table = raw[section]
    if not isinstance(table, dict):
        raise _refusal(where, section, table, f"must be a section, [{section}]")
    wanted = [field.name for field in dataclasses.fields(kind)]
    for key in table:
        if key not in wanted:
            value = table[key]
            shown = value.get("value") if isinstance(value, dict) else value
            reason = f"is not a key of a preset{_meant(key, wanted)}"
            raise _refusal(where, f"{section}.{key}", shown, reason)
    missing = [key for key in wanted if key not in table]
    if missing:
        raise InputError(f"preset {where}: [{section}] lacks {', '.join(missing)}")
    return {key: _number(where, f"{section}.{key}", table[key]) for key in wanted}


def _meant(key: str, wanted: list[str]) -> str:
    close = difflib.get_close_matches(key, wanted, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _read(name: str) -> dict[str, object]:
    """The parsed file of a preset, by name or path."""
    is_path = name.endswith(".toml")
    path = Path(name) if is_path else FOLDER / f"{name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        missing = ": there is no such file" if is_path else ""
        raise InputError(
            f"unknown preset {name!r}{missing}; known: {', '.join(names())}, or a path to a .toml"
        ) from None
    except OSError as error:
        raise InputError(f"preset {name!r} cannot be read: {error.strerror}") from None
    except ValueError as error:  # of TOML, of UTF-8, or of a path that no file system takes
        raise InputError(f"preset {name!r} is not a TOML file: {error}") from None


def _based(name: str, above: tuple[str, ...] = ()) -> dict[str, object]:
    """The parsed file, on top of the preset that it names as its `base`, if it names one."""
    raw = _read(name)
    if "base" not in raw:
        return raw
    base = raw.pop("base")
    if not isinstance(base, str):
        raise _refusal(name, "base", base, "must be the name of a preset, or a path to a .toml")
    if base in (name, *above):
        raise _refusal(name, "base", base, "leads back to itself")
    found = _based(base, (name, *above))
    for section, table in raw.items():
        below = found.get(section)
        both = isinstance(below, dict) and isinstance(table, dict)
        found[section] = {**below, **table} if both else table  # type: ignore[dict-item]
    return found


def load(name: str) -> Preset:
    """Read a preset by name, or from a path that ends in .toml.

    A file may begin with `base = "NAME"`: what it does not have is then that preset's.

    Raises:
        InputError: unknown preset, or a file with a section, key, value, source or note that is
            missing, unknown or impossible; names the file, the key, the value and the reason.
    """
    raw = _based(name)
    cells = _section(raw, "cells", CellPreset, name)
    analog = _section(raw, "analog", AnalogPreset, name)
    for odd in sorted(set(raw) - {"cells", "analog"}):
        what = f"section [{odd}]" if isinstance(raw[odd], dict) else f"{odd} = {raw[odd]!r}"
        raise InputError(f"preset {name}: {what} is not known; there are [cells] and [analog]")
    for key, of in _SPREAD_OF.items():
        if cells[key] > cells[of]:
            reason = f"must be at most {of} = {cells[of]:g}, of which it is the spread"
            raise _refusal(name, f"cells.{key}", cells[key], reason)
    if cells["floor_siemens"] >= cells["reset_top_siemens"]:
        reason = f"must be below reset_top_siemens = {cells['reset_top_siemens']:g}"
        raise _refusal(name, "cells.floor_siemens", cells["floor_siemens"], reason)
    return Preset(name, CellPreset(**cells), AnalogPreset(**analog))
