"""Volts to codes and words to amperes: compiled and plain are one law."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import kernels


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 33))
def test_encoding_is_the_same_without_the_compiler(seed: int, n: int, cols: int) -> None:
    rng = np.random.default_rng(seed)
    volts = rng.uniform(-0.1, 0.1, (2 * n, cols))[::2]
    volts[0, 0] = rng.choice([0.1, 0.2, -0.3, np.nan])
    slope, order = rng.uniform(5e4, 5.3e4, cols), rng.permutation(cols)
    if cols % 4 == 0 and rng.random() < 0.7:  # four chips, written side by side
        order = np.arange(cols).reshape(4, -1).T.ravel()
    codes = np.zeros((2, n, cols), dtype=np.uint16)
    beyond = [
        kernels.encode(volts, 0.1, slope, 30_000.5, order, codes[0]),
        kernels.encode_plainly(volts, 0.1, slope, 30_000.5, order, codes[1]),
    ]
    assert beyond[0] == beyond[1] == int(volts[0, 0] != 0.1)
    fits = (np.abs(volts) <= 0.1)[:, order]
    assert np.array_equal(codes[0][fits], codes[1][fits])


def test_a_code_is_the_nearest_to_its_voltage_and_stands_where_its_line_is_written() -> None:
    codes = np.zeros((1, 3), dtype=np.uint16)
    volts = np.array([[0.0, 1e-4, -1e-4]])
    kernels.encode(volts, 0.1, np.full(3, 52_428.8), 100.5, np.array([2, 0, 1]), codes)
    assert codes.tolist() == [[95, 100, 105]]


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 3), st.integers(1, 33))
def test_decoding_is_the_same_without_the_compiler(
    seed: int, n: int, zeros: int, conversions: int
) -> None:
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 1 << 14, (zeros + n, conversions)).astype(np.uint16)
    place = rng.choice(conversions, rng.integers(1, conversions + 1), replace=False)
    if rng.random() < 0.5:
        place = np.arange(conversions)
    per_code = rng.uniform(-1e-8, 1e-8, place.size)
    amperes = np.zeros((2, n, place.size))
    ends = [
        kernels.decode(words, zeros, place, per_code, 8000, amperes[0]),
        kernels.decode_plainly(words, zeros, place, per_code, 8000, amperes[1]),
    ]
    assert ends[0] == ends[1]
    assert np.array_equal(amperes[0], amperes[1])


def test_words_are_14_bit_two_s_complement_from_which_the_zero_inputs_are_taken() -> None:
    words = np.array([[1, 0x3FFF], [3, 0x3FFF], [0x1FFF, 0x2000], [0, 5]], dtype=np.uint16)
    amperes = np.zeros((2, 2))
    ends = kernels.decode(words, 2, np.array([0, 1]), np.array([1.0, -2.0]), 8191, amperes)
    assert amperes.tolist() == [[8191 - 2, -2.0 * (-8192 + 1)], [-2, -2.0 * (5 + 1)]]
    assert ends == 2


def test_without_numba_the_plain_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "compiled", lambda function: None)
    codes = np.zeros((1, 1), dtype=np.uint16)
    assert kernels.encode(np.array([[0.2]]), 0.1, np.ones(1), 7.0, np.array([0]), codes) == 1
    amperes = np.zeros((1, 1))
    word = np.array([[4]], dtype=np.uint16)
    assert kernels.decode(word, 0, np.array([0]), np.array([0.5]), 4, amperes) == 1
    assert amperes[0, 0] == 2.0
