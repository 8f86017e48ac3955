"""SN74HC595 shift register chain (TI SCLS041): which bit ends up where, and how fast it may go.

SER shifts into QA of the first part, QH' feeds the next. The bit sent first travels farthest, so
chain position p (0 = QA of the first part) receives the bit that is sent at time N - 1 - p.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge.errors import InputError

BITS_PER_PART = 8

# supply V -> limit. Clock: -40 to 85 C. The rest: 25 C, as commonly quoted from SCLS041; those
# in the 4.5 V column agree with a second source, check the others against the printed table.
CLOCK_MAX_HZ: dict[float, float] = {2.0: 5e6, 4.5: 25e6, 6.0: 29e6}
CLOCK_MAX_25C_HZ: dict[float, float] = {2.0: 6e6, 4.5: 31e6, 6.0: 36e6}
PULSE_S: dict[float, float] = {2.0: 80e-9, 4.5: 16e-9, 6.0: 14e-9}  # SRCLK, RCLK, SRCLR low
SER_SETUP_S: dict[float, float] = {2.0: 100e-9, 4.5: 20e-9, 6.0: 17e-9}  # before SRCLK rises
LATCH_SETUP_S: dict[float, float] = {2.0: 75e-9, 4.5: 15e-9, 6.0: 13e-9}  # SRCLK to RCLK rising
SER_HOLD_S = 0.0
SHIFT_DELAY_S: dict[float, float] = {2.0: 160e-9, 4.5: 32e-9, 6.0: 27e-9}  # SRCLK to QH', most
LATCH_DELAY_S: dict[float, float] = {2.0: 150e-9, 4.5: 30e-9, 6.0: 26e-9}  # RCLK to Q, most


def column_v(supply_v: float) -> float:
    """The column of the tables that holds at a supply: the nearest one not above it, V.

    A part is the faster the higher its supply, so every limit of that column is safe.

    Raises:
        InputError: the part does not work at this supply.
    """
    if not 2.0 <= supply_v <= 6.0:
        raise InputError(f"SN74HC595: supply of {supply_v} V; allowed are 2 to 6 V")
    return max(column for column in CLOCK_MAX_HZ if column <= supply_v)


def clock_limit_hz(supply_v: float) -> float:
    """Fastest SRCLK that the datasheet grants at a supply, -40 to 85 C.

    >>> clock_limit_hz(5.0)
    25000000.0
    """
    return CLOCK_MAX_HZ[column_v(supply_v)]


def shift_s(n_bits: int, clock_hz: float, supply_v: float) -> float:
    """Seconds to shift `n_bits` and latch them: one clock each, and one for RCLK.

    Raises:
        InputError: the clock is too fast for the part at this supply, or no clock.
    """
    limit = clock_limit_hz(supply_v)
    if not 0 < clock_hz <= limit:
        raise InputError(f"SN74HC595: SRCLK of {clock_hz:g} Hz; at {supply_v} V: {limit:g} Hz")
    return (n_bits + 1) / clock_hz


def words_from_outputs(outputs: npt.ArrayLike) -> tuple[int, ...]:
    """Words of a SHIFT that leave `outputs[p]` (0 or 1) on chain position p.

    Bits are sent from word 0, bit 31 downwards.

    >>> [hex(word) for word in words_from_outputs([1, 0, 0, 0])]
    ['0x10000000']
    """
    sent = np.asarray(outputs, dtype=np.uint8)[::-1]
    padded = np.pad(sent, (0, -len(sent) % 32))
    return tuple(int.from_bytes(row.tobytes(), "big") for row in np.packbits(padded).reshape(-1, 4))


def outputs_from_words(words: tuple[int, ...], n_bits: int) -> npt.NDArray[np.uint8]:
    """Chain outputs after a SHIFT of `n_bits`; the inverse of `words_from_outputs`."""
    raw = b"".join(int(word).to_bytes(4, "big") for word in words)
    sent = np.unpackbits(np.frombuffer(raw, dtype=np.uint8))[:n_bits]
    return np.ascontiguousarray(sent[::-1])
