"""What a board file holds: every key with its unit and bounds, and the field that it becomes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from firmware_bridge import registers
from firmware_bridge.board_file import Key
from firmware_bridge.chips import dac80508

MAX_DAC_CHIPS = registers.N_LIMITS // dac80508.N_CHANNELS
MAX_SELECTS = 32  # five bits of a conversion
WATCHDOG_MAX_S = ((1 << 32) - 1) * 10e-9  # 32 bits of 10 ns
PULSE_MAX_S = ((1 << 28) - 1) * 10e-9  # 28 bits of 10 ns
PULSES_MAX = (1 << 32) - 1
DAC_TOP_V = 5.0  # full scale, and the scale of the limit registers
TE_ON_BL, TE_ON_SL = "te_on_bl", "te_on_sl"


@dataclass(frozen=True)
class Parts:
    """Which parts the board is built of; drivers and emulated board know these and no others."""

    dac: str
    adc: str
    switch: str
    shift_register: str
    amplifier: str


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


# What a board file holds, by the field that it becomes.
KEYS: dict[str, Key] = {
    "rows": Key("array.rows", "1", int, least=1),
    "cols": Key("array.cols", "1", int, least=1),
    "conductance_min_siemens": Key("array.conductance_min", "S"),
    "conductance_max_siemens": Key("array.conductance_max", "S"),
    "polarity": Key("wiring.polarity", "terminal", str, known=(TE_ON_BL, TE_ON_SL)),
    "dac_chips": Key("wiring.dac_chips", "1", int, least=1, most=MAX_DAC_CHIPS),
    "bl_channel": Key("wiring.bl_channel", "channel", int, entries=0),
    "wl_channel": Key("wiring.wl_channel", "channel", int, entries=0),
    "sl_bit0": Key("wiring.sl_bit0", "chain position", int, entries=0),
    "sl_bit1": Key("wiring.sl_bit1", "chain position", int, entries=0),
    "adcs": Key("wiring.adcs", "1", int, least=1),
    "adc_of_row": Key("wiring.adc_of_row", "converter", int, entries=0),
    "select_of_row": Key("wiring.select_of_row", "input", int, entries=0, most=MAX_SELECTS - 1),
    "sl_ground": Key("sl_switch.ground", "input", int, most=3),
    "sl_tia": Key("sl_switch.tia", "input", int, most=3),
    "sl_rail": Key("sl_switch.rail", "input", int, most=3),
    "sl_float": Key("sl_switch.float", "input", int, most=3),
    "mux_supply_v": Key("sl_switch.supply", "V"),
    "mux_control_v": Key("sl_switch.control", "V"),
    "tia_bias_v": Key("rails.tia_bias", "V"),
    "sl_rail_v": Key("rails.sl_rail", "V"),
    "tia_supply_v": Key("rails.tia_supply", "V"),
    "adc_reference_v": Key("readout.adc_reference", "V"),
    "tia_feedback_ohm": Key("readout.tia_feedback", "ohm", entries=4),
    "tia_feedback_farad": Key("readout.tia_capacitance", "F", entries=4),
    "tia_input_farad": Key("readout.tia_input_capacitance", "F"),
    "read_voltage_v": Key("readout.read_voltage", "V"),
    "wl_read_v": Key("readout.wl_read", "V"),
    "bl_limit_v": Key("limits.bl", "V", most=DAC_TOP_V),
    "wl_limit_v": Key("limits.wl", "V", most=DAC_TOP_V),
    "half_select_limit_v": Key("limits.half_select", "V"),
    "watchdog_s": Key("limits.watchdog", "s", most=WATCHDOG_MAX_S),
    "pulse_limit_s": Key("limits.pulse", "s", most=PULSE_MAX_S),
    "pulses_limit": Key("limits.pulses", "1", int, least=1, most=PULSES_MAX),
    "cell_pulses_limit": Key("limits.cell_pulses", "1", int, least=1),
    "cell_energy_limit_j": Key("limits.cell_energy", "J"),
    "program_limit_s": Key("limits.program", "s"),
}
_UNIT_OF_SUFFIX = {"_siemens_per_v": "S/V", "_siemens": "S", "_v": "V", "_s": "s"}


def _pulse_key(field: str) -> Key:
    suffix = next(s for s in _UNIT_OF_SUFFIX if field.endswith(s))
    return Key("pulses." + field.removesuffix(suffix), _UNIT_OF_SUFFIX[suffix])


PULSE_KEYS: dict[str, Key] = {f.name: _pulse_key(f.name) for f in dataclasses.fields(PulseDefaults)}
PART_KEYS: dict[str, Key] = {
    role: Key(f"parts.{role}", "part", str, known=(part,))
    for role, part in (
        ("dac", "DAC80508"),
        ("adc", "ADS8324"),
        ("switch", "CD4051B"),
        ("shift_register", "SN74HC595"),
        ("amplifier", "OPA4322"),
    )
}
