"""DAC80508, 8 channels, 16 bit (Texas Instruments SLASEL1D): frames, registers, output law."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

N_CHANNELS = 8
FULL_SCALE = 1 << 16
REFERENCE_V = 2.5

# Register addresses (SLASEL1D, register map).
NOP, DEVICE_ID, SYNC, CONFIG, GAIN, TRIGGER, BRDCAST, STATUS, DAC0 = range(9)

DEVICE_ID_Z = 0x0816
DEVICE_ID_MASK = 0xFFFC  # bits [1:0] are a version "subject to change"
SYNC_RESET = 0xFF00
SYNC_ALL = 0x00FF  # every channel waits for LDAC, none listens to BRDCAST
TRIGGER_LDAC = 1 << 4
TRIGGER_SOFT_RESET = 0b1010
GAIN_REFDIV = 1 << 8

# GAIN words for whole chips. Reference / 1 with buffer gain 1 is marked "not recommended".
GAIN_0_TO_5_V = 0x00FF  # reference 2.5 V, x 2
GAIN_0_TO_1V25 = GAIN_REFDIV  # reference / 2, x 1

UPDATE_INTERVAL_S = 1e-6  # least time between output updates
SETTLING_S = 5e-6  # 1/4 to 3/4 scale, to 2 LSB
SOFT_RESET_S = 250e-6


def write_frame(addr: int, data: int) -> int:
    """The 24-bit write frame: [23] 0, [22:20] 0, [19:16] address, [15:0] data."""
    return (addr & 0xF) << 16 | data & 0xFFFF


def read_frame(addr: int) -> int:
    """The 24-bit read command; the answer comes in the next frame."""
    return 1 << 23 | (addr & 0xF) << 16


def full_scale_v(gain_word: int, channel: int) -> float:
    """Full scale of a channel under a GAIN register word: V_ref / DIV * buffer gain."""
    divider = 2.0 if gain_word & GAIN_REFDIV else 1.0
    return REFERENCE_V / divider * (2.0 if gain_word >> channel & 1 else 1.0)


def code_to_volts(code: npt.ArrayLike, full_scale: float) -> npt.NDArray[np.float64]:
    """Ideal output voltage: code / 2^16 * full scale (SLASEL1D, equation 1)."""
    return np.asarray(code, dtype=np.float64) * (full_scale / FULL_SCALE)


def volts_to_code(volts: npt.ArrayLike, full_scale: float) -> npt.NDArray[np.uint16]:
    """Nearest code. The caller has checked that 0 <= volts <= full scale - 1 LSB."""
    codes = np.rint(np.asarray(volts, dtype=np.float64) * (FULL_SCALE / full_scale))
    result: npt.NDArray[np.uint16] = np.minimum(codes, FULL_SCALE - 1).astype(np.uint16)
    return result
