"""y = W x through a board: exact on ideal parts, honest on real ones."""

from __future__ import annotations

import numpy as np
import pytest

from rram_host import open_board
from rram_host.errors import InputError
from rram_host.mapping.engine import ArrayEngine, ArraysEngine, Layout, exact, whole_weights
from rram_host.mapping.schemes import scheme
from sim import EmulatedBoard


def _weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "a": rng.normal(size=(32, 8)),
        "b": rng.normal(size=(8, 12)),
        "c": rng.normal(size=(5, 3)),
    }


@pytest.mark.parametrize("name", ["single", "differential"])
def test_products_of_placed_matrices_equal_those_of_the_cells_truth_on_ideal(name):
    emulated = EmulatedBoard(preset="ideal", seed=5)
    with open_board(emulated) as board:
        layout = Layout.of(_weights(), scheme(name), board.array.shape)
        board.array.program(layout.targets())
        board.array.read()
        engine = ArrayEngine(board.array, layout, 0.1)
        multiply = exact(layout, emulated.truth.conductances_siemens)
        rng = np.random.default_rng(1)
        for matrix, weights in _weights().items():
            x = rng.normal(size=(64, weights.shape[1]))
            with engine.probing():
                engine.multiply(matrix, x)
            y = engine.multiply(matrix, x)
            # Per block: half an ADC code, input rounding of half a DAC code (9.5 uV of 100 mV)
            # a column, and the row sum's own reading; the largest range in use here is range 0
            # or 1: 31 nA a code over the span of 30 uS at 0.1 V is 1 % of max |W| max |x|.
            blocks = len(layout.placement.of(matrix))
            limit = 0.012 * blocks * layout.matrices[matrix].largest * np.abs(x).max()
            assert np.abs(y - multiply(matrix, x)).max() < limit
        assert engine.saturated == 0


def test_on_real_parts_the_error_is_a_few_per_cent_of_the_output():
    with open_board(EmulatedBoard(preset="taox_180nm", seed=5)) as board:
        layout = Layout.of(_weights(), scheme("single"), board.array.shape)
        board.array.program(layout.targets())
        engine = ArrayEngine(board.array, layout, 0.1)
        x = np.random.default_rng(1).normal(size=(512, 8))
        with engine.probing():
            engine.multiply("a", x)
        y, wanted = engine.multiply("a", x), x @ _weights()["a"].T
        relative = float((y - wanted).std() / wanted.std())
        # Programming errors of 0.55 uS on a window of +-30 uS with weights of rms 0.3 of the
        # largest: 6 %; read noise adds 3 %. A lost sign or order would give more than 100 %.
        assert 0.01 < relative < 0.12


def test_a_product_does_not_depend_on_its_batch_once_ranges_are_fixed():
    with open_board(EmulatedBoard(preset="ideal", seed=5)) as board:
        layout = Layout.of(_weights(), scheme("single"), board.array.shape)
        board.array.program(layout.targets())
        engine = ArrayEngine(board.array, layout, 0.1)
        x = np.random.default_rng(2).normal(size=(32, 8))
        with engine.probing():
            engine.multiply("a", x)
        whole = engine.multiply("a", x)
        parts = np.concatenate([engine.multiply("a", x[:5]), engine.multiply("a", x[5:])])
        np.testing.assert_array_equal(whole, parts)


def test_inputs_that_do_not_fit_are_refused():
    with open_board(EmulatedBoard(preset="ideal")) as board:
        layout = Layout.of(_weights(), scheme("single"), board.array.shape)
        engine = ArrayEngine(board.array, layout, 0.1)
        with pytest.raises(InputError, match="known: a, b, c"):
            engine.multiply("z", np.zeros((1, 8)))
        with pytest.raises(InputError, match=r"expected \(n, 8\)"):
            engine.multiply("a", np.zeros((1, 7)))
        with pytest.raises(InputError, match="1 are not finite"):
            engine.multiply("a", np.array([[np.inf] + [0.0] * 7]))


class Perfect:
    """An array without errors."""

    def __init__(self, conductances_siemens: np.ndarray) -> None:
        self.g = np.nan_to_num(conductances_siemens)

    def products(self, voltages, rows, tia_range):
        class Result:
            currents_a = voltages @ self.g[rows].T
            tia_range = 0
            saturated = 1

        return Result()


@pytest.mark.parametrize("name", ["single", "differential"])
def test_products_over_several_arrays_add_up_to_those_of_the_whole_matrices(name):
    rng = np.random.default_rng(4)
    weights = {"a": rng.normal(size=(40, 50)), "b": rng.normal(size=(9, 70))}
    layouts = Layout.on_arrays(weights, scheme(name), (32, 32))
    assert len(layouts) == (3 if name == "single" else 6)
    parts = [(layout, layout.targets()) for layout in layouts]
    engine = ArraysEngine([ArrayEngine(Perfect(g), layout, 0.1) for layout, g in parts], 0.1)
    for matrix, wanted in weights.items():
        np.testing.assert_allclose(whole_weights(parts)[matrix], wanted, atol=1e-12)
        x = rng.normal(size=(7, wanted.shape[1]))
        np.testing.assert_allclose(engine.multiply(matrix, x), x @ wanted.T, atol=1e-9)
    blocks = sum(len(layout.placement.blocks) for layout in layouts)
    assert engine.vectors == 7 * blocks and engine.saturated == blocks


def test_matrices_for_several_arrays_are_refused_where_there_is_one():
    with pytest.raises(InputError, match="1600 cells asked for.*take 2 arrays"):
        Layout.of({"a": np.ones((40, 40))}, scheme("single"), (32, 32))
