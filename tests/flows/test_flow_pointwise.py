"""The monotone maps of one site."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rram_host.errors import InputError
from rram_host.flows.pointwise import BENDS, Bend, invert

_RAW = st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3))
_EACH = pytest.mark.parametrize("bend", BENDS.values(), ids=BENDS.keys())


def _constants(bend: Bend, raw: tuple[float, ...]) -> tuple[torch.Tensor, ...]:
    return bend.constants(torch.tensor(raw, dtype=torch.float64))


@_EACH
@settings(max_examples=200, deadline=None)
@given(_RAW, st.lists(st.floats(-50, 50), min_size=1, max_size=20))
def test_inverse_undoes_the_map(bend: Bend, raw: tuple[float, ...], xs: list[float]) -> None:
    constants, x = _constants(bend, raw), torch.tensor(xs, dtype=torch.float64)
    y, slope = bend.forward(x, constants)
    # y carries rounding of its own (a few of 50 times the largest slope), which the slope of the
    # map turns into an error of x
    allowed = 1e-12 + 1e-14 * (y.abs() + 50.0 * constants[0] * (1 + 50)) / slope
    assert ((invert(bend, y, constants) - x).abs() <= allowed).all()


@_EACH
@settings(max_examples=50, deadline=None)
@given(_RAW)
def test_inverse_reaches_every_value(bend: Bend, raw: tuple[float, ...]) -> None:
    constants = _constants(bend, raw)
    y = torch.cat([s * torch.logspace(-9, 4, 40, dtype=torch.float64) for s in (-1, 1)])
    back, _ = bend.forward(invert(bend, y, constants), constants)
    torch.testing.assert_close(back, y, rtol=1e-11, atol=1e-11)


@_EACH
def test_slope_and_curvature_are_the_derivatives_and_the_map_is_odd(bend: Bend) -> None:
    constants = _constants(bend, (-0.5, 0.3, 0.7))
    x = torch.linspace(-4, 4, 81, dtype=torch.float64, requires_grad=True)
    y, slope = bend.forward(x, constants)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    torch.testing.assert_close(slope, first)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(bend.curvature(x, constants), second)
    assert torch.equal(bend.forward(-x, constants)[0], -y)
    assert (slope > 0).all()


def test_refuses_a_field_that_is_not_finite() -> None:
    bend = BENDS["tanh"]
    with pytest.raises(InputError, match="not finite"):
        invert(bend, torch.tensor([math.nan], dtype=torch.float64), _constants(bend, (0, 0, 0)))
