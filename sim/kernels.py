"""The fused kernels around the matrix product of a batch; see `sim.readout` for the law."""

from __future__ import annotations

from functools import cache
from statistics import NormalDist
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]
Seed = npt.NDArray[np.uint64]

# Sums of products come out of BLAS in an order that depends on the batch; rounding the ADC's
# input to 2^-20 LSB before it is quantised makes one vector and a batch agree bit for bit.
GUARD = float(1 << 20)
_DRAWS = 4096

# splitmix64 (Steele, Lea, Flood 2014): one 64-bit word gives two Gaussians of 24 bits each.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S16, _S27, _S30, _S31, _S32, _S48 = (np.uint64(n) for n in (16, 27, 30, 31, 32, 48))
_LOW = np.uint64(_DRAWS - 1)


@cache
def quantiles() -> npt.NDArray[np.float32]:
    """Gaussian quantiles, scaled so that the sum of two draws has variance 1."""
    values = np.array([NormalDist().inv_cdf((i + 0.5) / _DRAWS) for i in range(_DRAWS)])
    scaled: npt.NDArray[np.float32] = (values / np.sqrt(2 * np.mean(values**2))).astype(np.float32)
    return scaled


@numba.njit(cache=True, error_model="numpy")
def fold(matrix: Floats, rows: Floats, columns: Floats, driven: Floats, per_a: Floats) -> Floats:
    """What lines do to outputs, (lines, outputs), of what columns do to rows, (rows, cols).

    Args:
        matrix: conductances, or their noise.
        rows: row of every output, (outputs,).
        columns: column of every line, (lines,).
        driven: whether it has one, (lines,).
        per_a: scale of every output, (outputs,).
    """
    folded = np.zeros((columns.size, rows.size))
    for k in range(columns.size):
        if driven[k]:
            for j in range(rows.size):
                folded[k, j] = matrix[rows[j], columns[k]] * per_a[j]
    return folded


@numba.njit(cache=True, error_model="numpy")
def row_sums(matrix: Floats) -> Floats:
    """Sums of the absolute values of every row."""
    sums = np.zeros(matrix.shape[0])
    for r in range(matrix.shape[0]):
        for c in range(matrix.shape[1]):
            sums[r] += abs(matrix[r, c])
    return sums


@numba.njit(cache=True, error_model="numpy")
def extremes(codes: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Lowest and highest code of every line, (2, lines), of codes (n, lines), n at least 1."""
    ends = np.empty((2, codes.shape[1]), np.uint16)
    ends[0], ends[1] = codes[0], codes[0]
    for i in range(1, codes.shape[0]):
        for c in range(codes.shape[1]):
            ends[0, c] = min(ends[0, c], codes[i, c])
            ends[1, c] = max(ends[1, c], codes[i, c])
    return ends


@numba.njit(cache=True, error_model="numpy")
def volts(codes: Floats, law: Floats, powers: Floats) -> None:
    """Line voltages, and their squares where asked for.

    Args:
        codes: (n, lines), 16 bit.
        law: (4, lines): slope, offset, bow, floor.
        powers: result, (1 or 2, n, lines), of the type of `law`.
    """
    slope, offset, bow, floor = law[0], law[1], law[2], law[3]
    kind = law.dtype.type  # constants of the same type, or all is promoted to float64
    full = kind(65536)
    n, lines = codes.shape
    squares = powers.shape[0] == 2
    for i in range(n):
        for c in range(lines):
            x = kind(codes[i, c])
            v = max(x * slope[c] + offset[c] + bow[c] * x * (full - x), floor[c])
            powers[0, i, c] = v
            if squares:
                powers[1, i, c] = v * v


@numba.njit(cache=True, error_model="numpy")
def quantise(sums: Floats, law: Floats, words: npt.NDArray[np.uint16]) -> bool:
    """Sums in LSB (n, outputs) to 14-bit words, without noise, in float64; else as below."""
    base, low, high, gain, offset, bow = law[0], law[1], law[2], law[3], law[4], law[5]
    n, outputs = sums.shape
    clamped = False
    for i in range(n):
        for j in range(outputs):
            a = sums[i, j] + base[j]
            clamped |= a <= low[j] or a >= high[j]
            x = min(max(a, low[j]), high[j]) * gain[j] + offset[j]
            u = min(max(x / 8192.0, -1.0), 1.0)
            x += bow[j] * u * (1.0 - u * u)
            x = np.rint(np.rint(x * GUARD) / GUARD)
            words[i, j] = np.uint16(np.int32(min(max(x, -8192.0), 8191.0)) & 0x3FFF)
    return clamped


@numba.njit(cache=True, error_model="numpy")
def gaussians(table: Floats, seed: Seed, drawn: Floats) -> None:
    """Fill `drawn` (n, outputs), float32, with Gaussians of variance 1.

    Args:
        table: `quantiles()`.
        seed: state of the generator, (1,); moves on.
        drawn: result.
    """
    n, outputs = drawn.shape
    half = (outputs + 1) // 2
    state = seed[0]
    for i in range(n):
        for j in range(half):
            state += _STEP
            z = state
            z = (z ^ (z >> _S30)) * _MIX1
            z = (z ^ (z >> _S27)) * _MIX2
            z = z ^ (z >> _S31)
            drawn[i, j] = table[z & _LOW] + table[(z >> _S16) & _LOW]
            if half + j < outputs:
                drawn[i, half + j] = table[(z >> _S32) & _LOW] + table[(z >> _S48) & _LOW]
    seed[0] = state


@numba.njit(cache=True, error_model="numpy")
def quantise_noisy(sums: Floats, law: Floats, drawn: Floats, words: npt.NDArray[np.uint16]) -> bool:
    """Sums and noise variances (2, n, outputs), float32, to 14-bit words.

    Args:
        sums: [0] sums in LSB, [1] variances in LSB^2, of lines that move.
        law: (8, outputs), float32: base, clamps low and high, then of the converter gain, offset,
            bow and variance, then the variance by lines that do not move.
        drawn: Gaussians of variance 1, (n, outputs), float32.
        words: result, (n, outputs).

    Returns:
        Whether an amplifier is at its clamp.
    """
    base, low, high, gain, offset = law[0], law[1], law[2], law[3], law[4]
    bow, own, cells = law[5], law[6], law[7]
    none, one, scale = np.float32(0), np.float32(1), np.float32(1 / 8192)
    bottom, top = np.float32(-8192), np.float32(8191)
    _, n, outputs = sums.shape
    clamped = False
    for i in range(n):
        for j in range(outputs):
            a = sums[0, i, j] + base[j]
            x = min(max(a, low[j]), high[j])
            clamped |= (a <= low[j]) | (a >= high[j])
            # an amplifier at its clamp passes no noise of the cells on
            spread = own[j] + (cells[j] + sums[1, i, j] if x == a else none)
            x = x * gain[j] + offset[j]
            u = min(max(x * scale, -one), one)
            x += bow[j] * u * (one - u * u)
            x += drawn[i, j] * np.sqrt(spread)
            words[i, j] = np.uint16(np.int32(min(max(np.rint(x), bottom), top)) & 0x3FFF)
    return clamped
