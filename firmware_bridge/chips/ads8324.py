"""ADS8324, 14 bit, fully differential (Texas Instruments SBAS172A): codes, bit stream and timing.

One access, counted in DCLOCK periods with CS low (page 9, figure 5). A period ends with a falling
edge; data change behind that edge, so the master takes the bit on the rising edge inside it.

========  =========================================================
period    DOUT
========  =========================================================
1 to 5    Hi-Z: the input is sampled for the first 4.5 of them
6         null bit, 0
7 to 20   B13 to B0, most significant bit first
21, 22    two zeros
23        0: the repetition is "starting with a zero"
24 to 37  B0 to B13, least significant bit first
========  =========================================================

A new conversion needs CS high and low again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firmware_bridge.errors import InputError

BITS = 14
CODE_MAX = (1 << (BITS - 1)) - 1
CODE_MIN = -(1 << (BITS - 1))

SAMPLE_CLOCKS = 5  # DOUT stays Hi-Z
ACQUIRE_CLOCKS = 4.5  # of these the input is surely connected (t_SMPL minimum)
NULL_BITS = 1
DUMMY_BITS = 2
FIRST_DATA_BIT = SAMPLE_CLOCKS + NULL_BITS  # index in a capture
CLOCKS_MIN = FIRST_DATA_BIT + BITS  # the last one carries B0
CLOCKS_PER_SAMPLE = 24
CLOCK_MAX_HZ = 1.2e6
CLOCK_MIN_HZ = 24e3  # slower, and the sampled charge droops
CLOCK_HALF_MIN_S = 200e-9  # high and low
SAMPLES_MAX_PER_S = 50e3

SUPPLY_MIN_V, SUPPLY_MAX_V = 1.8, 3.6  # assumed: the text at hand only says a 1.8 V part
REFERENCE_MIN_V = 0.5  # the maximum is half the supply
INPUT_FARAD = 25e-12
NOISE_LSB_PP = 5.0  # at V_REF = 0.9 V
NOISE_REFERENCE_V = 0.9
NOISE_LSB_RMS = 0.76  # 5 LSB p-p at V_REF = 0.9 V, over 6.6
INL_TYPICAL_LSB, INL_MAX_LSB = 2.0, 3.0  # assumed: the table of limits is not at hand


def lsb_v(reference_v: float) -> float:
    """One LSB of the differential input: 2 V_REF / 2^14."""
    return 2.0 * reference_v / (1 << BITS)


def noise_lsb_rms(reference_v: float) -> float:
    """Noise of one conversion: 0.76 LSB rms at 0.9 V, growing as 1 / V_REF (page 8)."""
    return NOISE_LSB_RMS * NOISE_REFERENCE_V / reference_v


def to_signed(word: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Two's complement 14-bit words as signed integers.

    >>> to_signed([0x1FFF, 0x2000, 0x3FFF]).tolist()
    [8191, -8192, -1]
    """
    codes = np.asarray(word, dtype=np.int32) & 0x3FFF
    return (codes ^ 0x2000) - 0x2000


def to_word(code: npt.ArrayLike) -> npt.NDArray[np.uint16]:
    """Signed codes as 14-bit two's complement words; the inverse of `to_signed`."""
    return (np.asarray(code, dtype=np.int32) & 0x3FFF).astype(np.uint16)


def word_from_capture(bits: Sequence[int | None]) -> int:
    """The 14 data bits of a capture, one bit a DCLOCK period from CS falling on.

    Args:
        bits: 0 or 1 for each period, None where the line was Hi-Z; at least 20, usually 24. What
            the floating line read during the five sampling periods does not matter.

    Returns:
        The two's complement word, 0 to 0x3FFF; `to_signed` makes a code of it.

    Raises:
        InputError: too few clocks, or the null bit or a dummy bit is not 0, or a data bit floats:
            the capture did not begin where CS fell.
    """
    if len(bits) < CLOCKS_MIN:
        raise InputError(
            f"ADS8324: capture of {len(bits)} clocks; 5 sampling, 1 null bit and 14 data bits "
            f"take {CLOCKS_MIN}"
        )
    if bits[SAMPLE_CLOCKS] != 0:
        raise InputError(f"ADS8324: null bit (clock 6) is {bits[SAMPLE_CLOCKS]}, must be 0")
    data = bits[FIRST_DATA_BIT:CLOCKS_MIN]
    if any(bit not in (0, 1) for bit in data):
        raise InputError(f"ADS8324: data bits (clocks 7 to 20) are {list(data)}, must be 0 or 1")
    dummies = bits[CLOCKS_MIN : CLOCKS_MIN + DUMMY_BITS]
    if any(bit != 0 for bit in dummies):
        raise InputError(f"ADS8324: dummy bits (clocks 21, 22) are {list(dummies)}, must be 0")
    return sum(1 << place for place, bit in enumerate(reversed(data)) if bit)


def acquisition_error(source_ohm: float, clock_hz: float) -> float:
    """Fraction of an input step that is still missing when the converter holds.

    exp(-4.5 / (f R C)): 25 pF charge through the source for 4.5 clocks (page 8). Half an LSB of
    14 bit is 3e-5.

    Raises:
        InputError: a negative resistance, or a clock that does not run.
    """
    if source_ohm < 0 or clock_hz <= 0:
        raise InputError(
            f"ADS8324: source of {source_ohm:g} ohm at {clock_hz:g} Hz; "
            "neither resistance nor clock can be negative, nor the clock zero"
        )
    if source_ohm == 0:
        return 0.0
    return math.exp(-ACQUIRE_CLOCKS / (clock_hz * source_ohm * INPUT_FARAD))


def check_timing(
    clock_hz: float, n_clocks: int, cs_high_s: float, reference_v: float, supply_v: float
) -> None:
    """Refuse an access or a supply that the part does not survive with the right word.

    Args:
        clock_hz: DCLOCK.
        n_clocks: DCLOCK periods with CS low.
        cs_high_s: how long CS stays high before it falls again.
        reference_v: V_REF.
        supply_v: V_CC.

    Raises:
        InputError: names every rule that is broken, with value and limit.
    """
    broken = []
    if not CLOCK_MIN_HZ <= clock_hz <= CLOCK_MAX_HZ:
        broken.append(f"DCLOCK {clock_hz:g} Hz is outside 24 kHz to 1.2 MHz")
    if n_clocks < CLOCKS_MIN:
        broken.append(f"{n_clocks} clocks a conversion, minimum {CLOCKS_MIN}")
    if cs_high_s <= 0:
        broken.append(f"CS high for {cs_high_s:g} s, must go high between conversions")
    cycle_s = n_clocks / clock_hz + max(cs_high_s, 0.0) if clock_hz > 0 else math.inf
    # 24 clocks at 1.2 MHz are exactly 50 kSPS: leave room for the last bit of the division
    if cycle_s * SAMPLES_MAX_PER_S < 1 - 1e-9:
        broken.append(f"{1 / cycle_s:.0f} samples/s, maximum 50000")
    if not SUPPLY_MIN_V <= supply_v <= SUPPLY_MAX_V:
        broken.append(f"V_CC {supply_v:g} V is outside 1.8 to 3.6 V")
    if not REFERENCE_MIN_V <= reference_v <= supply_v / 2:
        broken.append(f"V_REF {reference_v:g} V is outside 0.5 V to V_CC/2 = {supply_v / 2:g} V")
    if broken:
        raise InputError("ADS8324: " + "; ".join(broken))
