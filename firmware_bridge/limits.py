"""Volts to codes, refusing what the board must not be asked for. Nothing is ever clipped."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import dac80508
from firmware_bridge.errors import InputError
from firmware_bridge.microcode import CLOCK_HZ

LIMIT_SCALE_V = 5.0


def array_of(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    """Numbers as an array of floats.

    Raises:
        InputError: not numbers.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name}: expected numbers, got {type(values).__name__}") from None


def codes_for(
    volts: npt.NDArray[np.float64], limit_v: float, full_scale_v: float, line: str
) -> npt.NDArray[np.uint16]:
    """DAC codes of line voltages.

    Args:
        volts: any shape.
        limit_v: highest voltage that the line may see.
        full_scale_v: full scale of the channels.
        line: what to call them in an error ("BL", "WL").

    Raises:
        InputError: a voltage is not finite, negative, or above the limit.
    """
    top = min(limit_v, full_scale_v * (1 - 1 / dac80508.FULL_SCALE))
    if not np.isfinite(volts).all():
        raise InputError(f"{line} voltage: {np.isnan(volts).sum()} of {volts.size} are not finite")
    if volts.size and (volts.max() > top or volts.min() < 0):
        worst = volts.max() if volts.max() > top else volts.min()
        raise InputError(f"{line} voltage {worst:.4g} V is outside 0..{top:.4g} V")
    return dac80508.volts_to_code(volts, full_scale_v)


def limit_words(spec: BoardSpec) -> npt.NDArray[np.uint32]:
    """Limit registers of the device: highest output of every channel, in 5 V / 65536."""
    limits = np.zeros(spec.dac_chips * dac80508.N_CHANNELS, dtype=np.uint32)
    scale = dac80508.FULL_SCALE / LIMIT_SCALE_V
    limits[list(spec.bl_channel)] = round(spec.bl_limit_v * scale)
    limits[list(spec.wl_channel)] = round(spec.wl_limit_v * scale)
    return limits


def guard_words(spec: BoardSpec) -> npt.NDArray[np.uint32]:
    """WATCHDOG, PULSE_LIMIT and PULSES_LIMIT of the device, which lie side by side, (3,)."""
    cycles = (round(seconds * CLOCK_HZ) for seconds in (spec.watchdog_s, spec.pulse_limit_s))
    return np.array([*cycles, spec.pulses_limit], dtype=np.uint32)
