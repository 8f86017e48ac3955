"""Parameter sets of the emulated board: each number with its source and range of validity."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

from firmware_bridge.errors import InputError

FOLDER = Path(__file__).parent


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
        gate_threshold_v, gate_slope_siemens_per_v: access transistor, on-conductance
            slope (V_WL - threshold).
        read_noise: rms of independent readings at 50 uS, relative to G; relative noise falls as
            (50 uS / G)^(1/2).
        relax_siemens2_per_decade, relax_onset_s: Var = A log10(1 + t / onset).
        relax_mean_siemens_per_decade: mean drift.
        relax_spread: log-normal spread of a cell's relaxation amplitude (heavy tails).
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
    gate_threshold_v: float
    gate_slope_siemens_per_v: float
    read_noise: float
    relax_siemens2_per_decade: float
    relax_onset_s: float
    relax_mean_siemens_per_decade: float
    relax_spread: float
    count_v: float


@dataclass(frozen=True)
class AnalogPreset:
    """Errors of the parts around the array. Standard deviations over parts unless said.

    Attributes:
        dac_offset_v, dac_gain: per DAC channel.
        mux_r_on_spread_ohm: of the source-line switch, row to row; its mean is the datasheet's
            at the supply in the board file.
        tia_offset_v, tia_gain: per row.
        adc_noise_lsb: rms of a conversion; adc_gain: per converter.
    """

    dac_offset_v: float
    dac_gain: float
    mux_r_on_spread_ohm: float
    tia_offset_v: float
    tia_gain: float
    adc_noise_lsb: float
    adc_gain: float


@dataclass(frozen=True)
class Preset:
    """A named parameter set."""

    name: str
    cells: CellPreset
    analog: AnalogPreset


def names() -> list[str]:
    """Known presets."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def _section(raw: dict[str, object], section: str, kind: type, where: str) -> dict[str, float]:
    table = raw.get(section)
    if not isinstance(table, dict):
        raise InputError(f"preset {where}: section [{section}] is missing")
    wanted = {field.name for field in dataclasses.fields(kind)}
    if wanted != set(table):
        odd = ", ".join(sorted(wanted ^ set(table)))
        raise InputError(f"preset {where}: [{section}] keys missing or unknown: {odd}")
    values = {}
    for key, item in table.items():
        if not isinstance(item, dict) or not {"value", "source"} <= set(item):
            raise InputError(f"preset {where}: {section}.{key} needs value and source")
        value = item["value"]
        signed = key.endswith("mean_siemens_per_decade")
        number = isinstance(value, int | float) and math.isfinite(value)
        if not number or (value < 0 and not signed):
            raise InputError(f"preset {where}: {section}.{key} = {value!r} must be 0 or more")
        values[key] = float(value)
    return values


def load(name: str) -> Preset:
    """Read a preset by name, or from a path that ends in .toml.

    Raises:
        InputError: unknown preset, or a file with missing, unknown or impossible values.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"unknown preset {name!r}; known: {', '.join(names())}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"preset {path} is not a TOML file: {error}") from None
    return Preset(
        name,
        CellPreset(**_section(raw, "cells", CellPreset, name)),
        AnalogPreset(**_section(raw, "analog", AnalogPreset, name)),
    )
