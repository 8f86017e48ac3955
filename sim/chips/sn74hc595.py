"""A chain of SN74HC595 shift registers, clock edge by clock edge (TI SCLS041)."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt

from firmware_bridge.chips import sn74hc595 as facts
from firmware_bridge.errors import InputError

Bits = npt.NDArray[np.uint8]


class Sn74hc595Chain:
    """Parts in cascade: QH' of one feeds SER of the next; SRCLK, RCLK, SRCLR and OE are shared.

    Position 0 is QA of the first part, position 8 QA of the second, and so on.

    Args:
        n_parts: parts in the chain.
        rng: what both registers hold at power-up is undefined and is drawn from here.

    Attributes:
        shift: the shift registers, (8 n_parts,), 0 or 1.
        storage: the storage registers behind them, the same shape.

    Raises:
        InputError: a chain without parts.
    """

    def __init__(self, n_parts: int, rng: np.random.Generator) -> None:
        if n_parts < 1:
            raise InputError(f"SN74HC595: a chain of {n_parts} parts; there must be at least one")
        shape = facts.BITS_PER_PART * n_parts
        self.shift: Bits = rng.integers(0, 2, shape, dtype=np.uint8)
        self.storage: Bits = rng.integers(0, 2, shape, dtype=np.uint8)

    @property
    def serial_out(self) -> int:
        """QH' of the last part, which OE does not switch off."""
        return int(self.shift[-1])

    def shift_in(self, bits: npt.ArrayLike) -> Bits:
        """Rising edges of SRCLK, one per bit on SER.

        Args:
            bits: 0 or 1, in the order in which they are sent.

        Returns:
            What QH' of the last part showed just before each edge, in order: the bits that fell
            out of the end.

        Raises:
            InputError: `bits` is no sequence of 0 and 1.
        """
        stream = np.concatenate([_checked(bits)[::-1], self.shift])
        length = self.shift.size
        self.shift = stream[:length].copy()
        fallen: Bits = stream[length:][::-1].copy()
        return fallen

    def latch(self) -> None:
        """A rising edge of RCLK: the storage registers take what the shift registers hold."""
        self.storage = self.shift.copy()

    def clear(self) -> None:
        """SRCLR goes low and high again: the shift registers are 0, storage and outputs stay."""
        self.shift = np.zeros_like(self.shift)

    def clock_together(self, bits: npt.ArrayLike) -> Bits:
        """Rising edges of SRCLK and RCLK tied: storage stays one pulse behind the shift register.

        Every edge stores what the shift register held before it. Arguments, result and errors are
        those of `shift_in`.
        """
        sent = _checked(bits)
        if not sent.size:
            return sent
        early = self.shift_in(sent[:-1])
        self.latch()
        return np.concatenate([early, self.shift_in(sent[-1:])])

    def outputs(self, oe_low: bool) -> Bits | None:
        """The pins QA to QH of all parts, or None while OE is high and they float.

        Args:
            oe_low: the level of OE, which is active low.
        """
        return self.storage.copy() if oe_low else None

    def copy(self) -> Sn74hc595Chain:
        """Another chain in the same state."""
        return copy.deepcopy(self)


def _checked(bits: npt.ArrayLike) -> Bits:
    sent = np.asarray(bits)
    if sent.ndim != 1:
        raise InputError(f"SN74HC595: bits of shape {sent.shape}; a sequence of 0 and 1 is needed")
    if sent.dtype != np.bool_ and ((sent != 0) & (sent != 1)).any():
        raise InputError("SN74HC595: SER takes 0 and 1 only")
    return sent.astype(np.uint8)
