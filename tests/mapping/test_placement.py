"""Several matrices on one array: nothing lost, nothing twice, cut where needed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rram_host.errors import InputError
from rram_host.mapping.placement import place, place_on_arrays

SHAPE = (32, 32)
sizes = st.dictionaries(
    st.sampled_from("abcdef"), st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1
)


@given(sizes=sizes)
def test_every_cell_of_every_matrix_sits_exactly_once(sizes):
    assume(sum(r * c for r, c in sizes.values()) <= 1024)
    placement = place(sizes, SHAPE)
    taken = np.zeros(SHAPE, dtype=int)
    for block in placement.blocks:
        taken[block.cells.place] += 1
        assert (block.cells.rows, block.cells.cols) == (block.source.rows, block.source.cols)
    assert taken.max() == 1 and taken.sum() == sum(r * c for r, c in sizes.values())
    numbers = iter(range(10**6))
    matrices = {
        name: np.array([[float(next(numbers)) for _ in range(c)] for _ in range(r)])
        for name, (r, c) in sizes.items()
    }
    spread = placement.spread(matrices)
    assert np.isnan(spread).sum() == 1024 - taken.sum()
    picked = {name: np.full(sizes[name], np.nan) for name in sizes}
    placement.gather(spread, picked)
    for name, found in picked.items():
        np.testing.assert_array_equal(found, matrices[name])


def test_the_flow_of_768_weights_fits_with_its_matrices_cut_once():
    placement = place({"w1": (32, 8), "wt": (8, 32), "ws": (8, 32)}, SHAPE)
    assert [len(placement.of(name)) for name in ("w1", "wt", "ws")] == [1, 2, 2]


def test_a_full_array_is_used_to_the_last_cell():
    placement = place({"a": (20, 32), "b": (12, 16), "c": (12, 16)}, SHAPE)
    assert sum(block.cells.area for block in placement.blocks) == 1024


large = st.dictionaries(
    st.sampled_from("abcd"), st.tuples(st.integers(1, 100), st.integers(1, 100)), min_size=1
)


@given(sizes=large)
def test_matrices_of_any_size_fill_as_few_arrays_as_have_cells_enough(sizes):
    placements = place_on_arrays(sizes, SHAPE)
    cells = sum(r * c for r, c in sizes.values())
    assert len(placements) == -(-cells // 1024)
    rng = np.random.default_rng(0)
    matrices = {name: rng.normal(size=size) for name, size in sizes.items()}
    picked = {name: np.full(size, np.nan) for name, size in sizes.items()}
    for placement in placements:
        taken = np.zeros(SHAPE, dtype=int)
        for block in placement.blocks:
            taken[block.cells.place] += 1
        assert taken.max() == 1
        placement.gather(placement.spread(matrices), picked)
    for name, found in picked.items():
        np.testing.assert_array_equal(found, matrices[name])


def test_the_flow_of_13_824_weights_takes_14_arrays_and_no_cut_beyond_the_grid_of_tiles():
    placements = place_on_arrays({"w1": (64, 72), "wt": (72, 64), "ws": (72, 64)}, SHAPE)
    assert [len(placement.blocks) for placement in placements].count(1) == 12
    assert len(placements) == 14 and sum(len(p.blocks) for p in placements) == 18


def test_the_flow_of_972_weights_sits_on_one_array():
    assert len(place_on_arrays({"w1": (18, 18), "wt": (18, 18), "ws": (18, 18)}, SHAPE)) == 1


def test_too_many_cells_and_empty_matrices_are_refused():
    with pytest.raises(InputError, match="1056 cells asked for, the array has 1024"):
        place({"a": (33, 32)}, SHAPE)
    with pytest.raises(InputError, match="at least one row"):
        place({"a": (0, 3)}, SHAPE)
    with pytest.raises(InputError, match="at least one row"):
        place_on_arrays({}, SHAPE)
    assert place({"a": (1, 1)}, SHAPE).of("z") == ()
