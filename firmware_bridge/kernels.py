"""Volts to codes and words to amperes for large batches: one pass over memory each.

Compiled by numba where it is installed, which it is not on the ZC706's own ARM: there numpy does
the same in several passes, to the last bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge.compiled import compiled

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint16]
Order = npt.NDArray[np.int64]


def encode(
    volts: Array, limit_v: float, slope: Array, bias: float, order: Order, codes: Codes
) -> int:
    """Fill codes (n, cols): codes[i, k] = floor(volts[i, c] slope[c] + bias), c = order[k].

    Args:
        volts: (n, cols), of any stride.
        limit_v: voltages beyond +-limit are counted.
        slope: codes per volt, (cols,).
        bias: code of zero volts, and a half to round.
        order: column of each place, (cols,).
        codes: result; of no meaning where it would be outside 0..65535.

    Returns:
        How many voltages are beyond the limit, or no numbers.
    """
    encoded = compiled(_encoded) or encode_plainly
    return int(encoded(volts, limit_v, slope, bias, order, codes))


def decode(
    words: Codes, zeros: int, place: Order, per_code: Array, end: int, amperes: Array
) -> int:
    """Fill amperes (n, outputs): (signed(words)[zeros + i, place[j]] - rest[j]) per_code[j].

    Args:
        words: ADC words, 14-bit two's complement, (zeros + n, conversions).
        zeros: so many vectors at the beginning give `rest`, their mean; 0 where there are none.
        place: conversion of each output, (outputs,).
        per_code: amperes, (outputs,).
        end: codes of this size or more are counted, those of the first `zeros` vectors apart.
        amperes: result.

    Returns:
        How many codes reach `end`, up or down.
    """
    decoded = compiled(_decoded) or decode_plainly
    return int(decoded(words, zeros, place, per_code, end, amperes))


def encode_plainly(
    volts: Array, limit_v: float, slope: Array, bias: float, order: Order, codes: Codes
) -> int:
    """`encode` by numpy."""
    beyond = ~(np.abs(volts) <= limit_v)
    fit = np.where(beyond, 0.0, volts)
    np.take((fit * slope + bias).astype(np.uint16), order, axis=1, out=codes, mode="clip")
    return int(beyond.sum())


def decode_plainly(
    words: Codes, zeros: int, place: Order, per_code: Array, end: int, amperes: Array
) -> int:
    """`decode` by numpy."""
    codes = signed(words)[:, place]
    rest = codes[:zeros].sum(0) / max(zeros, 1)
    np.multiply(codes[zeros:] - rest, per_code, out=amperes)
    return int((np.abs(codes[zeros:]) >= end).sum())


def signed(words: Codes) -> npt.NDArray[np.int16]:
    """14-bit two's complement as numbers: the sign bit to the top of 16, and back."""
    return (words << 2).view(np.int16) >> 2


def _encoded(
    volts: Array, limit_v: float, slope: Array, bias: float, order: Order, codes: Codes
) -> int:
    cols, beyond = volts.shape[1], 0
    row, quarter = np.empty(cols, np.uint16), cols // 4
    # four chips with a quarter of the lines each, as boards have them: the compiler makes
    # shuffles of this order, and loads and stores of every single code of any other
    quarters = cols % 4 == 0
    for k in range(cols):
        quarters &= order[k] == k % 4 * quarter + k // 4
    for i in range(volts.shape[0]):
        for c in range(cols):
            beyond += not abs(volts[i, c]) <= limit_v
            row[c] = np.uint16(np.int32(volts[i, c] * slope[c] + bias))
        if quarters:
            for k in range(quarter):
                codes[i, 4 * k] = row[k]
                codes[i, 4 * k + 1] = row[quarter + k]
                codes[i, 4 * k + 2] = row[2 * quarter + k]
                codes[i, 4 * k + 3] = row[3 * quarter + k]
        else:
            for k in range(cols):
                codes[i, k] = row[order[k]]
    return beyond


def _decoded(
    words: Codes, zeros: int, place: Order, per_code: Array, end: int, amperes: Array
) -> int:
    outputs, ends = place.size, 0
    rest = np.zeros(outputs)
    for i in range(zeros):
        for j in range(outputs):
            rest[j] += np.int16(np.int16(words[i, place[j]] << 2) >> 2)
    rest /= max(zeros, 1)
    as_they_are = outputs == words.shape[1]
    for j in range(outputs):
        as_they_are &= place[j] == j
    picked = np.empty(outputs, np.uint16)
    for i in range(amperes.shape[0]):
        if not as_they_are:
            for j in range(outputs):
                picked[j] = words[zeros + i, place[j]]
        mine = words[zeros + i] if as_they_are else picked
        low, high = np.int16(0), np.int16(0)
        for j in range(outputs):
            code = np.int16(np.int16(mine[j] << 2) >> 2)
            low, high = min(low, code), max(high, code)
            amperes[i, j] = (code - rest[j]) * per_code[j]
        if low <= -end or high >= end:  # few vectors: counting in all of them costs more
            for j in range(outputs):
                code = np.int16(np.int16(mine[j] << 2) >> 2)
                ends += 1 if (code >= end) | (code <= -end) else 0
    return ends
