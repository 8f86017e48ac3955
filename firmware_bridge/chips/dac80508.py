"""DAC80508, 8 channels, 16 bit (Texas Instruments SLASEL1D): frames, registers, output law.

Letters behind a constant say where it was read: [D] SLASEL1D itself, [S] a sister part's
datasheet (SBAS871C, DAC80504) whose text is otherwise the same, [K] commonly quoted and not yet
checked against the printed table, [I] inferred.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge.errors import InputError

N_CHANNELS = 8
FULL_SCALE = 1 << 16
MID_SCALE = 1 << 15
REFERENCE_V = 2.5

# ---- frames and registers -------------------------------------------------------------------

FRAME_BITS = 24
CRC_FRAME_BITS = 32  # with CONFIG_CRC_EN; the frame that sets it still has 24 [D]
CRC_ERROR_BIT = 1 << 30  # of the 32-bit word on SDO [D]

# Register addresses (SLASEL1D, register map).
NOP, DEVICE_ID, SYNC, CONFIG, GAIN, TRIGGER, BRDCAST, STATUS, DAC0 = range(9)

DEVICE_ID_Z = 0x0816
DEVICE_ID_M = 0x0896
DEVICE_ID_MASK = 0xFFFC  # bits [1:0] are a version "subject to change"
SYNC_RESET = 0xFF00
SYNC_ALL = 0x00FF  # every channel waits for LDAC, none listens to BRDCAST
TRIGGER_LDAC = 1 << 4
TRIGGER_SOFT_RESET = 0b1010
GAIN_REFDIV = 1 << 8
GAIN_MASK = 0x07FF  # [10:9] are CLR masks, which only the parts with a CLR pin use
GAIN_RESET_Z = 0x0000
GAIN_RESET_M = 0x00FF
STATUS_REF_ALM = 1 << 0

CONFIG_ALM_SEL = 1 << 13  # alarm pin shows 0: CRC error, 1: reference alarm
CONFIG_ALM_EN = 1 << 12  # SDO becomes the open-drain alarm pin; FSDO and DSDO are ignored
CONFIG_CRC_EN = 1 << 11
CONFIG_FSDO = 1 << 10  # SDO changes half a clock earlier
CONFIG_DSDO = 1 << 9  # SDO always tri-stated
CONFIG_REF_PWDWN = 1 << 8
CONFIG_PWDWN_ALL = 0x00FF  # bit n: channel n is pulled to ground through 1 kohm
CONFIG_MASK = 0x3FFF

# GAIN words for whole chips. Reference / 1 with buffer gain 1 is marked "not recommended".
GAIN_0_TO_5_V = 0x00FF  # reference 2.5 V, x 2
GAIN_0_TO_1V25 = GAIN_REFDIV  # reference / 2, x 1
GAIN_0_TO_2V5 = GAIN_REFDIV | 0x00FF  # reference / 2, x 2

# ---- timing ---------------------------------------------------------------------------------

UPDATE_INTERVAL_S = 1e-6  # least time between output updates
SETTLING_S = 5e-6  # 1/4 to 3/4 scale, to 2 LSB
SOFT_RESET_S = 250e-6

WRITE_CLOCK_MAX_HZ = 50e6  # [D], at every VIO
# (VIO of at least 2.7 V, FSDO) -> fastest SCLK of a readback, Hz [D]
READ_CLOCK_MAX_HZ: dict[tuple[bool, bool], float] = {
    (False, False): 12e6,
    (False, True): 20e6,
    (True, False): 18e6,
    (True, True): 25e6,
}
VIO_MIN_V, VIO_SPLIT_V, VIO_MAX_V = 1.7, 2.7, 5.5
SCLK_HIGH_LOW_S = 9e-9  # least, writing [D]
SDI_SETUP_S, SDI_HOLD_S = 5e-9, 10e-9  # [D]
CS_TO_SCLK_S = 13e-9  # CS falling to the first SCLK falling edge, writing [D]
SCLK_TO_CS_S = 10e-9  # last SCLK falling edge to CS rising [D]
CS_HIGH_S = 15e-9  # least time between frames [D]

# ---- analog ---------------------------------------------------------------------------------

VDD_MIN_V, VDD_MAX_V = 2.7, 5.5
REFERENCE_ERROR_V = 5e-3  # of the internal reference, largest [D]
INL_MAX_LSB = 1.0  # [D]; monotonic
DNL_MAX_LSB = 1.0  # [I]: what monotonic means
TOTAL_ERROR_MAX_FSR = 1e-3  # total unadjusted error, of full scale [D]
OFFSET_TYPICAL_V, OFFSET_MAX_V = 0.75e-3, 1.5e-3  # [K]
GAIN_ERROR_MAX_FSR = 1e-3  # [K]
NOISE_V_PER_RTHZ = 78e-9  # at 1 kHz [K]
NOISE_PP_V = 14e-6  # 0.1 to 10 Hz, peak to peak [K]
SLEW_V_PER_S = 1.8e6  # [K]
# Inferred: the slowest single pole that, behind the slew rate, still keeps SETTLING_S for a step
# from 1/4 to 3/4 of 5 V (0.47 us leaves 1.9 LSB, 0.48 us would leave 2.3 LSB).
SETTLING_TAU_S = 0.47e-6
# VDD - 2 VREF/DIV must not be less than this, below and from 3.3 V of VDD on. [S]: the largest
# reference input, (VDD - 0.2 V) / 2 and VDD / 2. That REF-ALM trips exactly there is inferred.
HEADROOM_LOW_VDD_V, HEADROOM_V, HEADROOM_SPLIT_V = 0.2, 0.0, 3.3


def write_frame(addr: int, data: int) -> int:
    """The 24-bit write frame: [23] 0, [22:20] 0, [19:16] address, [15:0] data."""
    return (addr & 0xF) << 16 | data & 0xFFFF


def read_frame(addr: int) -> int:
    """The 24-bit read command; the answer comes in the next frame."""
    return 1 << 23 | (addr & 0xF) << 16


def _crc_of_octet(octet: int) -> int:
    for _ in range(8):
        octet = (octet << 1 ^ 0x07) & 0xFF if octet & 0x80 else octet << 1
    return octet


_CRC_TABLE = tuple(_crc_of_octet(octet) for octet in range(256))


def crc8(frame: int) -> int:
    """CRC-8 of the low 24 bits of `frame`: x^8 + x^2 + x + 1, start 0, nothing reflected.

    An all-zero line passes: check the echoed address as well.

    >>> hex(crc8(0x060000))
    '0x7d'
    """
    crc = _CRC_TABLE[frame >> 16 & 0xFF]
    crc = _CRC_TABLE[crc ^ frame >> 8 & 0xFF]
    return _CRC_TABLE[crc ^ frame & 0xFF]


def with_crc(frame: int) -> int:
    """The 32-bit word of CRC mode: the 24-bit frame, then its CRC.

    Raises:
        InputError: `frame` has more than 24 bits.
    """
    if not 0 <= frame < 1 << FRAME_BITS:
        raise InputError(f"DAC80508: frame {frame:#x} does not fit into 24 bits")
    return frame << 8 | crc8(frame)


def crc_holds(word32: int) -> bool:
    """Whether the last 8 of 32 bits are the CRC of the first 24."""
    return crc8(word32 >> 8) == word32 & 0xFF


def read_clock_limit_hz(vio_v: float = 3.3, fast_sdo: bool = False) -> float:
    """Fastest SCLK at which SDO can be read.

    Args:
        vio_v: supply of the interface, V.
        fast_sdo: CONFIG_FSDO is set.

    Raises:
        InputError: the part does not work with this VIO.
    """
    if not VIO_MIN_V <= vio_v <= VIO_MAX_V:
        raise InputError(f"DAC80508: VIO of {vio_v} V; allowed are {VIO_MIN_V} to {VIO_MAX_V} V")
    return READ_CLOCK_MAX_HZ[vio_v >= VIO_SPLIT_V, fast_sdo]


def frame_s(clock_hz: float, n_clocks: int = FRAME_BITS) -> float:
    """Seconds from one frame to the next at an SCLK of `clock_hz`: the clocks, then CS high.

    Raises:
        InputError: faster than the part can be written.
    """
    if not 0 < clock_hz <= WRITE_CLOCK_MAX_HZ:
        raise InputError(f"DAC80508: SCLK of {clock_hz:g} Hz; the limit is 50 MHz")
    return n_clocks / clock_hz + CS_HIGH_S


def full_scale_v(gain_word: int, channel: int) -> float:
    """Full scale of a channel under a GAIN register word: V_ref / DIV * buffer gain."""
    divider = 2.0 if gain_word & GAIN_REFDIV else 1.0
    return REFERENCE_V / divider * (2.0 if gain_word >> channel & 1 else 1.0)


def not_recommended(gain_word: int) -> tuple[int, ...]:
    """Channels in the range that the datasheet marks "not recommended": reference / 1, gain x 1.

    The ladder is better with the reference divided: 2.5 V of full scale is to be had as / 2, x 2.
    """
    if gain_word & GAIN_REFDIV:
        return ()
    return tuple(channel for channel in range(N_CHANNELS) if not gain_word >> channel & 1)


def reference_alarm(gain_word: int, vdd_v: float) -> bool:
    """Whether V_ref / DIV stands too close to VDD: STATUS shows REF-ALM and all outputs are 0 V.

    With the internal 2.5 V undivided this asks for a VDD of 5.0 V (see HEADROOM_V).
    """
    reference_v = REFERENCE_V / (2.0 if gain_word & GAIN_REFDIV else 1.0)
    headroom_v = HEADROOM_LOW_VDD_V if vdd_v < HEADROOM_SPLIT_V else HEADROOM_V
    return vdd_v - 2 * reference_v < headroom_v


def code_to_volts(code: npt.ArrayLike, full_scale: float) -> npt.NDArray[np.float64]:
    """Ideal output voltage: code / 2^16 * full scale (SLASEL1D, equation 1)."""
    return np.asarray(code, dtype=np.float64) * (full_scale / FULL_SCALE)


def volts_to_code(volts: npt.ArrayLike, full_scale: float) -> npt.NDArray[np.uint16]:
    """Nearest code. The caller has checked that 0 <= volts <= full scale - 1 LSB."""
    codes = np.rint(np.asarray(volts, dtype=np.float64) * (FULL_SCALE / full_scale))
    result: npt.NDArray[np.uint16] = np.minimum(codes, FULL_SCALE - 1).astype(np.uint16)
    return result


def settling(step_v: npt.ArrayLike, t_s: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """How far an output has come `t_s` after an update that asks for a step of `step_v`.

    The rest r obeys dr/dt = -min(r / tau, slew rate): a ramp until slew * tau is left, then an
    exponential.

    Args:
        step_v: new minus old voltage, either sign, V.
        t_s: time since the update, s; before it (negative) nothing has moved.

    Returns:
        Volts covered, 0 to `step_v`, of the broadcast shape.
    """
    step = np.asarray(step_v, dtype=np.float64)
    t = np.maximum(np.asarray(t_s, dtype=np.float64), 0.0)
    size = np.abs(step)
    ramp_s = np.maximum(size / SLEW_V_PER_S - SETTLING_TAU_S, 0.0)
    at_end_of_ramp = size - SLEW_V_PER_S * ramp_s
    tail = at_end_of_ramp * np.exp(-np.maximum(t - ramp_s, 0.0) / SETTLING_TAU_S)
    rest = np.where(t < ramp_s, size - SLEW_V_PER_S * t, tail)
    result: npt.NDArray[np.float64] = np.copysign(size - rest, step)
    return result
