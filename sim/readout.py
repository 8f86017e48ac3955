"""From DAC codes to ADC words for a whole batch: one matrix product between fused kernels.

For given gates, switches and amplifier range, everything between a bit line's DAC code x and a
converter's word is linear up to the clamps, so it folds into one matrix:

    v_c  = max(slope_c x + offset_c + bow_c x (2^16 - x), floor_c)
    a_j  = sum_c v_c K_cj + k_j                                     in ADC LSB
    w_j  = sum_c v_c^2 S_cj + s_j                                   noise variance, LSB^2
    y_j  = gain_j clamp(a_j) + offset_j
    word = round(y_j + bow_j u (1 - u^2) + sqrt(w_j) N(0, 1)),  u = y_j / 8192 held to -1..1

v is the voltage above the virtual ground. Read noise of independent cells is one Gaussian per
output, of variance sum_c v_c^2 sigma_c^2: that is what S holds. With noise the products are in
float32 (error below 0.01 LSB); without, in float64, and equal to the reference bit for bit.

Gaussians are sums of two draws from 4096 equiprobable quantiles: 24 random bits, variance exact,
excess kurtosis about -0.003, none beyond 5.2 sigma.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware_bridge.chips import dac80508
from sim import kernels

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint16]
Words = npt.NDArray[np.uint16]

_BLOCK = 512


@dataclass(frozen=True, eq=False)
class LineLaw:
    """Voltage of some DAC channels above a reference, by code. All arrays (lines,).

    v = max(slope x + offset + bow x (2^16 - x), floor).
    """

    slope_v: Array
    offset_v: Array
    bow_v: Array
    floor_v: Array

    def volts(self, codes: npt.ArrayLike) -> Array:
        """Voltages of codes (..., lines)."""
        x = np.asarray(codes, dtype=np.float64)
        bent = x * self.slope_v + self.offset_v + self.bow_v * x * (dac80508.FULL_SCALE - x)
        result: Array = np.maximum(bent, self.floor_v)
        return result

    @cached_property
    def packed(self) -> Array:
        """What the kernel takes, (4, lines)."""
        return np.array([self.slope_v, self.offset_v, self.bow_v, self.floor_v])

    def furthest_v(self, codes: Codes) -> float:
        """Largest distance from the reference at any of `codes`, (n, lines)."""
        volts = np.empty((1, *codes.shape))
        kernels.volts(codes, self.packed, volts)
        return float(max(volts.max(initial=0.0), -volts.min(initial=0.0)))


@dataclass(frozen=True)
class OutputLaw:
    """Conversions of a set of outputs. All arrays (outputs,), in ADC LSB.

    low, high: where the amplifier clamps. gain, offset, bow, noise (rms): of the converters; the
    bow is 3 sqrt(3) / 2 times the largest deviation (`sim.chips.ads8324.codes`).
    """

    low: Array
    high: Array
    gain: Array
    offset: Array
    bow: Array
    noise: Array


@dataclass(frozen=True, eq=False)
class PlanShape:
    """Which lines and outputs a `ReadPlan` joins.

    Attributes:
        channels, columns, driven: DAC channels given, their bit lines, and whether they have one.
        moving: bit lines among them, (cols,).
        rows, real, alive: row of every output (0 where it has none), whether it has one, whether
            its converter works.
        covered: rows among the outputs, (rows,).
        law: of the outputs.
    """

    channels: Rows
    columns: Rows
    driven: npt.NDArray[np.bool_]
    moving: npt.NDArray[np.bool_]
    rows: Rows
    real: npt.NDArray[np.bool_]
    alive: npt.NDArray[np.bool_]
    covered: npt.NDArray[np.bool_]
    law: OutputLaw


@dataclass(frozen=True)
class PlanScale:
    """From amperes to ADC LSB, for the outputs of a plan, in a range and for cells as they are.

    Attributes:
        per_a, offset: LSB of a current, and of no current, (outputs,).
        spread: noise variance of every line and output, LSB^2 / V^2, (lines, outputs).
        held_a: currents with all bit lines at the virtual ground, (rows,).
        room_a: current that bit lines may add before an amplifier reaches a clamp, (rows,).
    """

    per_a: Array
    offset: Array
    spread: Array
    held_a: Array
    room_a: Array


class Scratch:
    """Arrays that are used again and again: fresh ones of a megabyte cost as much as the sums."""

    def __init__(self) -> None:
        self._kept: dict[str, npt.NDArray[Any]] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of any content, valid until the next call of this name."""
        size = math.prod(shape)
        kept = self._kept.get(name)
        if kept is None or kept.dtype != dtype or kept.size < size:
            kept = self._kept[name] = np.empty(size, dtype=dtype)
        return kept[:size].reshape(shape)


class ReadPlan:
    """What a board in a given state makes of bit-line codes.

    Args:
        lines: law of the lines that codes are given for.
        weights: K, (lines, outputs). base: k, (outputs,).
        spread: S, (lines, outputs). base_spread: s, (outputs,), of lines that do not move.
        law: of the outputs.
        seed: state of the noise generator, (1,) uint64; shared, moves on.
        saturate: called with voltages (n, lines) of vectors that may reach a clamp; gives their
            sums anew, (n, outputs). None where nothing can saturate.
        scratch: memory to work in; default its own.
        covers_all: whether the outputs are all amplifiers in use, so that they show which vectors
            reach a clamp.
    """

    def __init__(
        self,
        lines: LineLaw,
        weights: Array,
        base: Array,
        spread: Array,
        base_spread: Array,
        law: OutputLaw,
        seed: npt.NDArray[np.uint64],
        saturate: Callable[[Array], Array] | None = None,
        covers_all: bool = True,
        scratch: Scratch | None = None,
    ) -> None:
        own = law.noise**2
        self._noisy = bool(spread.any() or base_spread.any() or own.any())
        kind = np.float32 if self._noisy else np.float64
        self._lines = lines.packed.astype(kind)
        stack = [weights, spread] if self._noisy else [weights]
        self._weights = np.array(stack, dtype=kind)
        packed = [base, law.low, law.high, law.gain, law.offset, law.bow]
        if self._noisy:
            packed += [own, base_spread]
        self._law = np.array(packed, dtype=kind)
        self._seed, self._saturate, self._covers_all = seed, saturate, covers_all
        self.outputs = base.size
        self._scratch = scratch or Scratch()

    def of(self, weights: Array, saturate: Callable[[Array], Array] | None) -> ReadPlan:
        """The same plan for cells that conduct otherwise."""
        plan = object.__new__(ReadPlan)
        plan.__dict__.update(self.__dict__)
        plan._weights = self._weights.copy()
        plan._weights[0] = weights
        plan._saturate = saturate
        return plan

    def words(self, codes: Codes, room: Words | None = None) -> Words:
        """Words of a batch: codes (n, lines) to (n, outputs), in `room` where it is given."""
        size = len(codes) * self.outputs
        words = (np.empty(size, np.uint16) if room is None else room).reshape(-1, self.outputs)
        for start in range(0, len(codes), _BLOCK):
            self._block(codes[start : start + _BLOCK], words[start : start + _BLOCK])
        return words

    def _block(self, codes: Codes, words: Words) -> None:
        """As many vectors as stay in the cache between the three steps."""
        parts, n, kind = self._weights.shape[0], len(codes), self._weights.dtype
        powers = self._scratch.take("powers", (parts, n, codes.shape[1]), kind)
        sums = self._scratch.take("sums", (parts, n, self.outputs), kind)
        kernels.volts(codes, self._lines, powers)
        np.matmul(powers, self._weights, out=sums)
        clamped = self._quantise(sums, words)
        if self._saturate is not None and (clamped or not self._covers_all):
            self._lose_grounds(self._saturate, sums[0], powers[0])
            self._quantise(sums, words)

    def _quantise(self, sums: npt.NDArray[Any], words: Words) -> bool:
        """Fill `words`; whether an amplifier was at its clamp."""
        if self._noisy:
            drawn = self._scratch.take("drawn", words.shape, np.float32)
            kernels.gaussians(kernels.quantiles(), self._seed, drawn)
            return bool(kernels.quantise_noisy(sums, self._law, drawn, words))
        return bool(kernels.quantise(sums[0], self._law, words))

    def _lose_grounds(
        self, saturate: Callable[[Array], Array], sums: npt.NDArray[Any], volts: npt.NDArray[Any]
    ) -> None:
        """Vectors that reach a clamp, once more, with virtual grounds lost."""
        base, low, high = self._law[:3]
        hit = np.full(len(sums), not self._covers_all)
        hit |= ((sums <= low - base) | (sums >= high - base)).any(1)
        sums[hit] = saturate(volts[hit].astype(np.float64)) - base
