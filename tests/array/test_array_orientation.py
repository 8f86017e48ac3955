"""Row is WL and SL, column is BL: nothing is exchanged between the host and the cells."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest

from firmware_bridge import board_spec
from rram_host.errors import RramError
from tests.array.rig import conducted, emulated_with, opened, random_g, sparse

SPEC = board_spec.load()
# Tolerances of a reading: 2 codes of the cell range (2.4 nA at 0.1 V) without noise; with noise
# 1 uS: the read noise of 0.4 % of 100 uS and 0.76 LSB, averaged over 8 readings, is 0.15 uS, what
# factors of rows and columns leave of the wires is 0.6 % of a cell at most, and a calibrated switch
# is known to 2 ohm, which are 0.3 % of a full row.
TOLERANCE = {"ideal": 0.05e-6, "taox_180nm": 1e-6}
PRISTINE = 0.3e-6


def _patterns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    chosen = rng.random((32, 32)) < 0.1
    patterns = {
        "sparse": np.where(chosen, rng.uniform(20e-6, 100e-6, chosen.shape), np.nan),
        "corner": sparse({(0, 31): 60e-6}),
        "cell": sparse({(5, 19): 35e-6}),
        "two cells": sparse({(2, 7): 80e-6, (7, 2): 40e-6}),
    }
    row, column = np.full((32, 32), np.nan), np.full((32, 32), np.nan)
    row[9], column[:, 22] = np.linspace(20e-6, 80e-6, 32), np.linspace(80e-6, 20e-6, 32)
    return patterns | {"row": row, "column": column}


PATTERNS = _patterns()


@pytest.mark.parametrize("preset", ["ideal", "taox_180nm"])
@pytest.mark.parametrize("name", PATTERNS)
def test_what_is_programmed_at_a_place_is_there_and_nowhere_else(preset, name, calibration_of):
    targets, asked = PATTERNS[name], ~np.isnan(PATTERNS[name])
    emulated = emulated_with(None, preset, seed=1)
    with opened(emulated) as board:
        if preset != "ideal":
            board.array.use(calibration_of(1))
        assert board.array.program(targets).failed == []
        read = board.array.read()
        truth = conducted(emulated)
    assert np.abs(truth - targets)[asked].max() < 2.5e-6  # accepted within 1.5, noise of a read
    assert (truth[~asked] < 1e-7).all()  # pristine
    assert np.abs(read - truth)[asked].max() < TOLERANCE[preset]
    assert np.abs(read[~asked]).max() < PRISTINE


@pytest.mark.parametrize("preset", ["ideal", "taox_180nm"])
def test_a_one_hot_input_gives_its_column_row_by_row_with_its_sign(preset, calibration_of):
    g = random_g(2)
    g[4] = 0  # a pristine row
    emulated = emulated_with(g, preset, seed=1)
    with opened(emulated) as board:
        if preset != "ideal":
            board.array.use(calibration_of(1))
        for sign in (1, -1):
            currents = board.array.vmm(sign * 0.1 * np.eye(32))
            # (input, row): column `input` of the array. One code of the coarse range is 31 nA;
            # with noise: 0.76 LSB, and read noise of 0.56 % of 0.1 V x 100 uS, 41 nA together;
            # a calibrated switch and wires leave 0.2 % of a cell, 20 nA; 5 sigma of all that.
            error = np.abs(currents - sign * 0.1 * conducted(emulated).T)
            assert error.max() < {"ideal": 17e-9, "taox_180nm": 5 * 46e-9}[preset]
            assert (sign * currents[:, g[:, 0] > 0] > 0).all()


def test_rows_are_read_in_the_order_in_which_they_are_asked_for():
    g = random_g(4)
    with opened(emulated_with(g)) as board:
        volts = 0.1 * np.eye(32)
        everything = board.array.vmm(volts)
        rows = [17, 3, 30]
        some = board.array.products(volts, rows=rows)
    assert np.abs(some.currents_a - everything[:, rows]).max() < 35e-9  # a code of either


def test_one_row_alone_carries_its_own_current_and_no_others():
    g = np.zeros((32, 32))
    g[20] = 50e-6
    with opened(emulated_with(g)) as board:
        currents = board.array.vmm(np.full((1, 32), 0.02))[0]
    assert currents[20] == pytest.approx(32 * 50e-6 * 0.02, rel=2e-3)
    assert (np.abs(np.delete(currents, 20)) < 32e-9).all()


# ---- a host with a wrong wiring table is found out -----------------------------------------


@cache
def _reference() -> tuple[np.ndarray, np.ndarray]:
    """One cell a row and a column, every target of its own."""
    columns = np.random.default_rng(6).permutation(32)
    targets = np.full((32, 32), np.nan)
    targets[np.arange(32), columns] = np.linspace(25e-6, 100e-6, 32)
    return targets, columns


def _is_caught(spec, targets=None) -> bool:
    """Whether the oracle tells: a fault, or a cell that is not where it was asked for."""
    targets = _reference()[0] if targets is None else targets
    emulated = emulated_with(None)
    try:
        with opened(emulated, spec) as board:
            board.array.program(targets)
            read = board.array.read()
    except RramError:
        return True
    truth = emulated.truth.conductances_siemens
    wanted = np.nan_to_num(targets)
    return not (
        np.abs(truth - wanted).max() < 2e-6 and np.abs(read - truth).max() < TOLERANCE["ideal"]
    )


def test_the_oracle_accepts_the_true_wiring():
    assert not _is_caught(SPEC)


PAIRS = [(0, 1), (0, 31), (7, 8), (15, 16), (3, 19), (30, 31)]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
@pytest.mark.parametrize("key", ["bl_channel", "wl_channel"])
def test_two_lines_exchanged_in_the_host_are_caught(key, pair):
    assert _is_caught(SPEC.swapped(key, *pair))


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_two_amplifiers_exchanged_in_the_host_are_caught(pair):
    swapped = SPEC.swapped("adc_of_row", *pair) if pair[0] // 8 == pair[1] // 8 else None
    both = dataclasses.replace(
        SPEC,
        adc_of_row=_exchanged(SPEC.adc_of_row, *pair),
        select_of_row=_exchanged(SPEC.select_of_row, *pair),
    )
    assert swapped in (None, both)
    assert _is_caught(both)


def _exchanged(values: tuple[int, ...], one: int, two: int) -> tuple[int, ...]:
    items = list(values)
    items[one], items[two] = items[two], items[one]
    return tuple(items)


@pytest.mark.parametrize("row", [0, 13, 31])
def test_the_two_select_bits_of_a_source_line_exchanged_in_the_host_are_caught(row):
    low, high = list(SPEC.sl_bit0), list(SPEC.sl_bit1)
    low[row], high[row] = high[row], low[row]
    assert _is_caught(dataclasses.replace(SPEC, sl_bit0=tuple(low), sl_bit1=tuple(high)))


@pytest.mark.parametrize("pair", PAIRS, ids=str)
@pytest.mark.parametrize("key", ["sl_bit0", "sl_bit1"])
def test_equal_select_bits_of_two_rows_exchanged_in_the_host_are_caught(key, pair):
    """Seen with one row in use at a time: source lines of the other rows float."""
    targets = sparse({(pair[0], 4): 40e-6, (pair[0], 9): 90e-6})
    assert not _is_caught(SPEC, targets)
    assert _is_caught(SPEC.swapped(key, *pair), targets)
