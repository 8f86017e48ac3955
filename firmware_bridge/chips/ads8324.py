"""ADS8324, 14 bit, fully differential (Texas Instruments SBAS172A): codes and timing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BITS = 14
CODE_MAX = (1 << (BITS - 1)) - 1
CODE_MIN = -(1 << (BITS - 1))
CLOCKS_PER_SAMPLE = 24
CLOCK_MAX_HZ = 1.2e6
CLOCK_MIN_HZ = 24e3
NOISE_LSB_RMS = 0.76  # 5 LSB p-p at V_REF = 0.9 V, over 6.6


def lsb_v(reference_v: float) -> float:
    """One LSB of the differential input: 2 V_REF / 2^14."""
    return 2.0 * reference_v / (1 << BITS)


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
