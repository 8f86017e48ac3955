"""What a program may do on a board: its limits, and the board as the walk knows it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware_bridge import limits as device_limits
from firmware_bridge import registers
from firmware_bridge.board_spec import TE_ON_BL, BoardSpec
from firmware_bridge.chips import dac80508
from firmware_bridge.microcode import CLOCK_HZ
from rram_host.board.check import layout

Words = npt.NDArray[np.uint32]

# Inputs of products are made larger by what the wires of bit lines take, a few percent.
READ_MARGIN = 1.1
CODES_OF_ROUNDING = 2
MOST_STEPS = 20_000_000


@dataclass(frozen=True)
class Limits:
    """Limits of one program.

    Attributes:
        channel_words: highest output of every DAC channel, in 5 V / 65536, as LIMITnn, (64,).
        pulse_s: longest pulse.
        pulses: most PULSE instructions.
        cell_pulses: most pulses on one cell.
        cell_energy_j: most energy into one cell, by the bound V^2 G_max t.
        total_s: longest program.
        waiting_s: longest time from an update of the lines to the pulse behind it, and that lines
            stand with gates and switches open.
    """

    channel_words: Words
    pulse_s: float
    pulses: int
    cell_pulses: int
    cell_energy_j: float
    total_s: float
    waiting_s: float

    @staticmethod
    def of(spec: BoardSpec) -> Limits:
        """Limits of the board file; lines wait at most ten times as long as they take to settle."""
        return Limits(
            device_limits.limit_words(spec),
            pulse_s=spec.pulse_limit_s,
            pulses=spec.pulses_limit,
            cell_pulses=spec.cell_pulses_limit,
            cell_energy_j=spec.cell_energy_limit_j,
            total_s=spec.program_limit_s,
            waiting_s=10 * spec.dac_settling_s,
        )

    def but(self, **changes: float | int | Words) -> Limits:
        """These limits with some of them changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def _cycles(duration_s: float) -> int:
    """Whole cycles, as the gateware counts a least time."""
    return int(np.ceil(duration_s * CLOCK_HZ))


def board_of(spec: BoardSpec, limits: Limits) -> Any:
    """A board and the limits of programs as arrays.

    Cells may see, with the switches closed outside a pulse: what a read puts on them; the limit of
    half-select against a source line at ground or rail; or, where the gate is so little above the
    lower line that its compliance ends within the window of conductances, what bit lines at the
    virtual ground put across a row at ground.
    """
    line = np.full(registers.N_LIMITS, -1)
    line[list(spec.bl_channel)] = np.arange(spec.cols)
    line[list(spec.wl_channel)] = -2 - np.arange(spec.rows)
    words = np.zeros(registers.N_LIMITS)
    words[: len(limits.channel_words)] = limits.channel_words
    level = np.full(4, np.nan)
    level[[spec.sl_ground, spec.sl_tia, spec.sl_rail]] = (0.0, spec.tia_bias_v, spec.sl_rail_v)
    switch = _cycles(spec.mux_switch_s)
    b = np.rec.array(np.zeros(1, dtype=layout.BOARD))[0]
    b.n[:], b.f[:], b.limit_v[:] = _counts(spec, limits), _figures(spec, limits), words
    b.limit_v[:] *= device_limits.LIMIT_SCALE_V / dac80508.FULL_SCALE
    b.line[:], b.level_v[:] = line, level
    b.bl[: spec.cols], b.wl[: spec.rows] = spec.bl_channel, spec.wl_channel
    b.bit0[: spec.rows], b.bit1[: spec.rows] = spec.sl_bit0, spec.sl_bit1
    b.read_cycles[:] = [_cycles(spec.settling_s(r)) for r in range(4)]
    b.closing_cycles[:] = [switch + _cycles(spec.tia_settling_s(r)) for r in range(4)]
    return b


def _counts(spec: BoardSpec, limits: Limits) -> layout.Ints:
    n = np.zeros(layout.BOARD["n"].shape, dtype=np.int64)
    n[layout.N_ROWS], n[layout.N_COLS] = spec.rows, spec.cols
    n[layout.N_CHIPS], n[layout.N_ADCS], n[layout.N_SELECTS] = (
        spec.dac_chips,
        spec.adcs,
        spec.selects,
    )
    n[layout.N_TIA], n[layout.N_GROUND], n[layout.N_FLOAT] = (
        spec.sl_tia,
        spec.sl_ground,
        spec.sl_float,
    )
    n[layout.N_SIGN] = 1 if spec.polarity == TE_ON_BL else -1
    n[layout.N_SWITCH] = _cycles(spec.mux_switch_s)
    n[layout.N_SETTLE] = round(dac80508.SETTLING_S * CLOCK_HZ)
    n[layout.N_UPDATE] = round(dac80508.UPDATE_INTERVAL_S * CLOCK_HZ)
    n[layout.N_RESET] = round(dac80508.SOFT_RESET_S * CLOCK_HZ)
    n[layout.N_RESULTS] = 2 * registers.RESULTS.words
    n[layout.N_PULSE], n[layout.N_PULSES] = round(limits.pulse_s * CLOCK_HZ), limits.pulses
    n[layout.N_PULSES_CELL] = limits.cell_pulses
    n[layout.N_TOTAL] = round(limits.total_s * CLOCK_HZ)
    n[layout.N_WAITING] = round(limits.waiting_s * CLOCK_HZ)
    n[layout.N_GATE_CHIPS] = sum(1 << chip for chip in {ch // 8 for ch in spec.wl_channel})
    n[layout.N_STEPS] = MOST_STEPS
    return n


def _figures(spec: BoardSpec, limits: Limits) -> layout.Floats:
    f = np.zeros(layout.BOARD["f"].shape)
    rounding_v = CODES_OF_ROUNDING * device_limits.LIMIT_SCALE_V / dac80508.FULL_SCALE
    f[layout.F_READ] = spec.read_voltage_v * READ_MARGIN + rounding_v
    f[layout.F_HALF] = spec.half_select_limit_v + rounding_v
    f[layout.F_PROBE] = spec.tia_bias_v + spec.read_voltage_v + rounding_v
    p = spec.pulses
    window_v = spec.conductance_max_siemens / p.set_wl_slope_siemens_per_v
    f[layout.F_WEAK] = p.set_wl_offset_v + window_v + rounding_v
    f[layout.F_G_MAX] = spec.conductance_max_siemens
    f[layout.F_ENERGY] = limits.cell_energy_j
    f[layout.F_SLEW], f[layout.F_TAU] = dac80508.SLEW_V_PER_S, dac80508.SETTLING_TAU_S
    f[layout.F_ERROR] = dac80508.TOTAL_ERROR_MAX_FSR
    return f


# ---- where a program begins ---------------------------------------------------------------------


def idle_state(spec: BoardSpec, board: Any) -> Any:
    """What the end of any checked program may leave behind, at its worst.

    Codes at zero, outputs behind LDAC, switches closed at ground just now, the last update of the
    outputs one cycle ago and no output there yet, ranges of bit lines unknown.
    """
    s = power_up_state(spec, board)
    s.t[[layout.T_UPDATE, layout.T_CLOSED]] = -1
    s.t[layout.T_SHIFT] = -board.n[layout.N_SWITCH]
    s.t[[layout.T_ENABLE, layout.T_OE, layout.T_LATCHED]] = 1
    s.chip[layout.P_GAIN], s.chip[layout.P_BEHIND] = -1, 1
    s.chip[layout.P_GAIN][[channel // 8 for channel in spec.wl_channel]] = dac80508.GAIN_0_TO_5_V
    s.v[[layout.V_BL_SWING, layout.V_WL_SWING]] = device_limits.LIMIT_SCALE_V
    s.sl[:] = spec.sl_ground
    return s


def power_up_state(spec: BoardSpec, board: Any) -> Any:
    """As after switching on, everything settled long since."""
    s = np.rec.array(np.zeros(1, dtype=layout.STATE))[0]
    s.t[[layout.T_UPDATE, layout.T_SHIFT, layout.T_CLOSED]] = -board.n[layout.N_RESET]
    s.chip[layout.P_RESET] = -board.n[layout.N_RESET]
    s.sl[:] = spec.sl_float
    return s
