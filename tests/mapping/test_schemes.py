"""Weights to conductances and back, and the algebra that makes a current a product."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rram_host.errors import InputError
from rram_host.mapping.matrix import MappedMatrix, to_volts
from rram_host.mapping.schemes import Differential, SingleCell, scheme

matrices = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-5, 5)
)
both = pytest.mark.parametrize("kind", [SingleCell(), Differential()])


@both
@given(weights=matrices)
def test_decode_undoes_encode_inside_the_window(kind, weights):
    mapped = MappedMatrix.of(weights, kind)
    cells = mapped.conductances_siemens
    assert cells.shape == (weights.shape[0], weights.shape[1] * kind.cells_per_weight)
    assert cells.min() >= kind.low_siemens * (1 - 1e-12)
    assert cells.max() <= kind.high_siemens * (1 + 1e-12)
    np.testing.assert_allclose(mapped.weights(cells), weights, atol=1e-12 * max(1, mapped.largest))


@both
@given(weights=matrices, seed=st.integers(0, 2**32 - 1))
def test_ohm_and_kirchhoff_give_the_product(kind, weights, seed):
    x = np.random.default_rng(seed).normal(size=(3, weights.shape[1]))
    mapped = MappedMatrix.of(weights, kind)
    volts, per_volt = to_volts(x, 0.1)
    assert np.abs(volts).max() <= 0.1 * (1 + 1e-12)
    currents = kind.drive(volts) @ mapped.conductances_siemens.T
    y = kind.products(currents, volts) * per_volt * mapped.largest
    np.testing.assert_allclose(y, x @ weights.T, atol=1e-9 * (1 + np.abs(weights).sum()))


def test_a_zero_weight_is_the_paper_s_reference_of_50_microsiemens():
    assert SingleCell().encode(np.zeros((1, 1)))[0, 0] == pytest.approx(50e-6, rel=1e-12)
    assert SingleCell().encode(np.array([[1.0, -1.0]])).tolist() == [
        [pytest.approx(80e-6), pytest.approx(20e-6)]
    ]
    assert Differential().encode(np.array([[0.5]])).tolist() == [
        [pytest.approx(50e-6), pytest.approx(20e-6)]
    ]


def test_a_common_error_of_a_pair_cancels():
    cells = Differential().encode(np.array([[0.3, -0.7]]))
    np.testing.assert_allclose(
        Differential().decode(cells + 2e-6), Differential().decode(cells), atol=1e-12
    )


def test_a_vector_of_zeros_stays_zero():
    volts, per_volt = to_volts(np.zeros((2, 3)), 0.1)
    assert not volts.any() and np.isfinite(per_volt).all()


@pytest.mark.parametrize(
    "bad", [np.zeros(3), np.zeros((0, 3)), np.array([[np.nan]]), np.array([["a"]]), [[1], [2, 3]]]
)
def test_what_is_no_matrix_of_finite_numbers_is_refused(bad):
    with pytest.raises(InputError, match="weights"):
        MappedMatrix.of(bad, SingleCell())


def test_unknown_scheme_and_window_are_refused():
    with pytest.raises(InputError, match="single, differential"):
        scheme("triple")
    with pytest.raises(InputError, match="rising"):
        SingleCell(low_siemens=80e-6, high_siemens=20e-6)
