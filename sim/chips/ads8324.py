"""One ADS8324 at the level of CS, DCLOCK and DOUT (Texas Instruments SBAS172A)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge.chips import ads8324 as facts
from firmware_bridge.errors import InputError

_HALF = 1 << (facts.BITS - 1)
BOW_PEAK = 1.5 * 3.0**0.5  # makes the largest value of k u (1 - u^2) one

# Sums of products come out of BLAS in an order that depends on the batch; rounding the input to
# 2^-20 LSB before it is quantised makes one conversion and a batch agree bit for bit.
_GUARD = float(1 << 20)


def codes(
    differential_v: npt.ArrayLike,
    reference_v: float,
    *,
    gain: npt.ArrayLike = 1.0,
    offset_lsb: npt.ArrayLike = 0.0,
    inl_lsb: npt.ArrayLike = 0.0,
    noise_lsb: npt.ArrayLike = 0.0,
) -> npt.NDArray[np.int32]:
    """Codes of input voltages; every argument broadcasts.

    With x = gain V / LSB + offset + noise and u = x / 8192 held to -1..1:
    code = round(x + inl (3 sqrt(3) / 2) u (1 - u^2)), held to -8192..8191.

    The bow is a cubic that vanishes at both ends and in the middle, where offset and gain errors
    are taken, and deviates by `inl_lsb` at u = +-1 / sqrt(3). Its shape is assumed.

    Args:
        differential_v: +In minus -In.
        reference_v: V_REF; full scale is -V_REF to V_REF.
        gain: of the whole converter, 1 for a perfect one.
        offset_lsb: code at 0 V.
        inl_lsb: largest deviation from the straight line.
        noise_lsb: noise of these very conversions, drawn by the caller.
    """
    per_v = np.asarray(gain, dtype=np.float64) / facts.lsb_v(reference_v)
    x = np.asarray(differential_v, dtype=np.float64) * per_v
    x = x + np.asarray(offset_lsb, dtype=np.float64) + np.asarray(noise_lsb, dtype=np.float64)
    u = np.clip(x / _HALF, -1.0, 1.0)
    y = x + np.asarray(inl_lsb, dtype=np.float64) * (BOW_PEAK * u * (1.0 - u * u))
    rounded = np.rint(np.rint(y * _GUARD) / _GUARD)
    return np.asarray(np.clip(rounded, facts.CODE_MIN, facts.CODE_MAX), dtype=np.int32)


def dout(code: int, n_clocks: int) -> list[int | None]:
    """DOUT in each of `n_clocks` DCLOCK periods after CS fell: 0, 1, or None for Hi-Z.

    Entry k - 1 is what the k-th rising edge captures, and the k-th falling edge before the line
    moves on: five times Hi-Z, the null bit, B13 to B0, two zeros, one more zero, B0 to B13. Only
    CS brings the line back to Hi-Z, so what is clocked behind the repetition is 0.

    Raises:
        InputError: `code` is not a 14-bit two's complement number.
    """
    if not facts.CODE_MIN <= code <= facts.CODE_MAX:
        raise InputError(f"ADS8324: code {code} is outside {facts.CODE_MIN}..{facts.CODE_MAX}")
    data = [code >> place & 1 for place in reversed(range(facts.BITS))]
    stream: list[int | None] = [None] * facts.SAMPLE_CLOCKS
    stream += [0] * facts.NULL_BITS + data + [0] * facts.DUMMY_BITS
    stream += [0, *reversed(data)]
    stream += [0] * max(n_clocks - len(stream), 0)
    return stream[:n_clocks]


class Ads8324:
    """One converter, with its errors and the state of its CS.

    Args:
        reference_v: V_REF.
        gain, offset_lsb, inl_lsb: see `codes`.
        noise_lsb: rms noise of one conversion at this reference, LSB.

    Raises:
        InputError: the reference is below 0.5 V or above half the highest supply.
    """

    def __init__(
        self,
        reference_v: float,
        *,
        gain: float = 1.0,
        offset_lsb: float = 0.0,
        inl_lsb: float = 0.0,
        noise_lsb: float = 0.0,
    ) -> None:
        highest_v = facts.SUPPLY_MAX_V / 2
        if not facts.REFERENCE_MIN_V <= reference_v <= highest_v:
            raise InputError(f"ADS8324: V_REF {reference_v:g} V is outside 0.5 to {highest_v:g} V")
        self.reference_v, self.gain, self.offset_lsb = reference_v, gain, offset_lsb
        self.inl_lsb, self.noise_lsb = inl_lsb, noise_lsb
        self._held: int | None = None  # the conversion under way; None while CS is high
        self._clocks = 0

    def code(self, differential_v: float, noise: float = 0.0) -> int:
        """Code of one voltage; `noise` is one standard normal draw, scaled by `noise_lsb`."""
        return int(self.codes(differential_v, noise))

    def codes(
        self, differential_v: npt.ArrayLike, noise: npt.ArrayLike = 0.0
    ) -> npt.NDArray[np.int32]:
        """The same for arrays of voltages and draws."""
        return codes(
            differential_v,
            self.reference_v,
            gain=self.gain,
            offset_lsb=self.offset_lsb,
            inl_lsb=self.inl_lsb,
            noise_lsb=self.noise_lsb * np.asarray(noise, dtype=np.float64),
        )

    def dout(self, code: int, n_clocks: int) -> list[int | None]:
        """See the function of this name."""
        return dout(code, n_clocks)

    def select(self, differential_v: float, noise: float = 0.0) -> None:
        """CS low. Only a falling CS starts a conversion: while it is low, nothing happens."""
        if self._held is None:
            self._held, self._clocks = self.code(differential_v, noise), 0

    def clock(self, n_clocks: int) -> list[int | None]:
        """DOUT in the next DCLOCK periods; Hi-Z throughout while CS is high."""
        if self._held is None:
            return [None] * n_clocks
        before, self._clocks = self._clocks, self._clocks + n_clocks
        return dout(self._held, self._clocks)[before:]

    def deselect(self) -> None:
        """CS high: DOUT Hi-Z, power-down, ready for the next conversion."""
        self._held = None
