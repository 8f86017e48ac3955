"""The transfer matrix against integrals done otherwise, free fields and stored values."""

import dataclasses
import math

import numpy as np
import pytest

from rram_host.errors import InputError
from rram_host.lattice.actions import Action, GrapheneAction, Phi4Action
from rram_host.lattice.exact import ExactValues, exact_4x4, free_field
from rram_host.lattice.transfer_matrix import exact_values


def _numbers(values: ExactValues) -> dict[str, float]:
    found = dataclasses.asdict(values)
    return {**{f"g{t}": g for t, g in enumerate(found.pop("g"))}, **found}


def test_two_by_two_is_the_integral_over_four_sites() -> None:
    # The density of X = sum of the four fields, by uniform grids: spectrally exact for smooth
    # integrands; |X| has a kink, whose Euler-Maclaurin term h^2 / 6 p(0) is added.
    h, lam = 0.05, 5.5
    x = np.arange(-32, 33) * h
    weight = np.exp(-lam * x**4)  # 4 + m2 = 0, and 2 x 2 bonds of 2 phi phi' each
    density = np.zeros(4 * (len(x) - 1) + 1)
    for i, a in enumerate(x):
        for j, d in enumerate(x):
            between = weight * np.exp(4 * x * (a + d))
            density[i + j : i + j + 2 * len(x) - 1] += (
                weight[i] * weight[j] * np.convolve(between, between)
            )
    total = np.arange(-2 * (len(x) - 1), 2 * (len(x) - 1) + 1) * h
    z = density.sum() * h**4
    density /= density.sum() * h
    found = exact_values(Phi4Action(-4.0, lam), (2, 2))
    assert found.log_z == pytest.approx(math.log(z), abs=1e-9)
    assert found.chi2 == pytest.approx((total**2 * density).sum() * h / 4, rel=1e-9)
    m2, m4 = ((total**k * density).sum() * h / 4**k for k in (2, 4))
    assert found.u4 == pytest.approx(1 - m4 / (3 * m2**2), rel=1e-6)
    absolute = (np.abs(total) * density).sum() * h + h**2 / 6 * density[len(density) // 2]
    assert found.abs_m == pytest.approx(absolute / 4, rel=1e-7)


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (2, 7), (6, 3), (1, 4), (3, 1)])
def test_free_field(shape: tuple[int, int]) -> None:
    wire = GrapheneAction(1.0, 0.0)
    found, expected = (_numbers(f(wire, shape)) for f in (exact_values, free_field))
    for name in ("u4", "cos"):  # the fourth moment and the cosine need the most points
        assert found.pop(name) == pytest.approx(expected.pop(name), abs=2e-5)
    assert found == pytest.approx(expected, rel=5e-6)


def test_four_by_four_has_the_stored_values() -> None:
    found, stored = (
        _numbers(exact_values(Phi4Action(-4.0, 5.5), (4, 4), 7)),
        _numbers(exact_4x4(5.5)),
    )
    # 7 points take a second; 10 points made what is stored
    assert found.pop("cos") == pytest.approx(stored.pop("cos"), abs=2e-5)
    assert found == pytest.approx(stored, rel=1e-5)


@pytest.mark.parametrize("action", [Phi4Action(-4.0, 5.0), GrapheneAction(1.0, 0.2)])
def test_more_points_change_nothing(action: Action) -> None:
    few, many = (_numbers(exact_values(action, (2, 3), points)) for points in (18, 24))
    assert few == pytest.approx(many, rel=2e-5)


def test_orientation_does_not_matter() -> None:
    action = Phi4Action(-4.0, 5.0)
    assert exact_values(action, (2, 5), 12) == exact_values(action, (5, 2), 12)


def test_a_long_lattice_shows_the_gap() -> None:
    found = exact_values(Phi4Action(-4.0, 6.0), (2, 24), 14)
    decay = math.log(found.g[5] / found.g[6])
    # from t = 5 the wrap-around, exp(-2 gap 7), and excited states are left: below 1e-3
    assert decay == pytest.approx(found.gap, rel=2e-3)


@pytest.mark.parametrize(
    ("shape", "points"), [((6, 6), 7), ((0, 4), None), ((3, 3), 1), ((3, 3), 0)]
)
def test_refuses_what_cannot_be_summed(shape: tuple[int, int], points: int | None) -> None:
    with pytest.raises(InputError, match="lattice needs|states"):
        exact_values(Phi4Action(-4.0, 5.0), shape, points)


@pytest.mark.parametrize(("g", "shape", "points"), [(0.5, (1, 1), 48), (0.5, (1, 1), 96)])
def test_refuses_a_wire_that_swings_further_than_the_points(
    g: float, shape: tuple[int, int], points: int
) -> None:
    # more points do not help there, and two settings agree on the same wrong number
    with pytest.raises(InputError, match="too small"):
        exact_values(GrapheneAction(g, 0.2), shape, points)


@pytest.mark.parametrize("shape", [(1, 1), (1, 12), (2, 2), (2, 8)])
@pytest.mark.parametrize("g", [1.0, 0.5, 0.25])
def test_a_free_field_is_right_or_refused(g: float, shape: tuple[int, int]) -> None:
    wire = GrapheneAction(g, 0.0)
    try:
        found = exact_values(wire, shape)
    except InputError:
        return
    assert found.chi2 == pytest.approx(free_field(wire, shape).chi2, rel=1e-4)
    assert found.log_z == pytest.approx(free_field(wire, shape).log_z, abs=1e-4)


def test_wires_of_the_usual_range_are_not_refused() -> None:
    for g, shape in ((1.0, (2, 2)), (1.0, (1, 12)), (0.5, (2, 8))):
        found = exact_values(GrapheneAction(g, 0.2), shape)
        # the cosine's wells hold the field in: less room than the free field has
        assert 0.0 < found.chi2 < free_field(GrapheneAction(g, 0.0), shape).chi2


@pytest.mark.parametrize(("lam", "points"), [(0.25, None), (1.0, 8), (0.1, 16), (1e-3, None)])
def test_wells_that_the_points_do_not_reach_are_refused(lam: float, points: int | None) -> None:
    with pytest.raises(InputError, match=rf"lam={lam}.*wells too far out.*more points"):
        exact_values(Phi4Action(-4.0, lam), (3, 4), points)


@pytest.mark.parametrize(("m2", "lam"), [(-4.0, 0.5), (-8.0, 1.0), (-1.0, 0.3), (2.0, 0.1)])
def test_where_they_are_reached_more_points_change_nothing(m2: float, lam: float) -> None:
    few, many = (exact_values(Phi4Action(m2, lam), (2, 3), points) for points in (14, 20))
    # single rows bound the error of wider slices: 1e-4 is where they are refused
    assert few.chi2 == pytest.approx(many.chi2, rel=1e-4)
    assert few.log_z == pytest.approx(many.log_z, rel=1e-4)
