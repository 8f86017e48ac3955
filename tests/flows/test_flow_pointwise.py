"""The monotone map of one site."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rram_host.errors import InputError
from rram_host.flows.pointwise import map_derivative, map_forward, map_inverse

_LOG = st.floats(-4, 4)


def _constants(*logs: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    alpha, beta, gamma = (torch.tensor(math.exp(v), dtype=torch.float64) for v in logs)
    return alpha, beta, gamma


@settings(max_examples=200, deadline=None)
@given(_LOG, _LOG, _LOG, st.lists(st.floats(-50, 50), min_size=1, max_size=20))
def test_inverse_undoes_the_map(la: float, lb: float, lg: float, xs: list[float]) -> None:
    constants, x = _constants(la, lb, lg), torch.tensor(xs, dtype=torch.float64)
    y, bend = map_forward(x, *constants)
    slope = map_derivative(bend, *constants)
    # y carries rounding of its own, which the slope turns into an error of x
    allowed = 1e-12 + 1e-14 * (y.abs() + constants[0] * x.abs() + constants[1]) / slope
    assert ((map_inverse(y, *constants) - x).abs() <= allowed).all()


@settings(max_examples=50, deadline=None)
@given(_LOG, _LOG, _LOG)
def test_inverse_reaches_every_value(la: float, lb: float, lg: float) -> None:
    constants = _constants(la, lb, lg)
    y = torch.cat([s * torch.logspace(-9, 6, 40, dtype=torch.float64) for s in (-1, 1)])
    back, _ = map_forward(map_inverse(y, *constants), *constants)
    torch.testing.assert_close(back, y, rtol=1e-12, atol=1e-12)


def test_slope_is_the_derivative_and_the_map_is_odd() -> None:
    constants = _constants(-0.5, 0.3, 0.7)
    x = torch.linspace(-4, 4, 81, dtype=torch.float64, requires_grad=True)
    y, bend = map_forward(x, *constants)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(map_derivative(bend, *constants), gradient)
    assert torch.equal(map_forward(-x, *constants)[0], -y)


def test_refuses_a_field_that_is_not_finite() -> None:
    with pytest.raises(InputError, match="not finite"):
        map_inverse(torch.tensor([math.nan], dtype=torch.float64), *_constants(0, 0, 0))
