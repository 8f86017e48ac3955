"""The action's definition, its gradient and its symmetries."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rram_host.errors import InputError
from rram_host.lattice.actions import Phi4Action


def _fields(seed: int, n: int = 3, shape: tuple[int, int] = (4, 6)) -> torch.Tensor:
    return torch.randn(
        n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def test_action_is_eq_22_summed_site_by_site() -> None:
    phi = _fields(0, 1)
    expected = 0.0
    for i in range(4):
        for j in range(6):
            here = float(phi[0, i, j])
            around = [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
            neighbours = sum(float(phi[0, a % 4, b % 6]) for a, b in around)
            expected += here * (4 * here - neighbours) - 3.5 * here**2 + 5.5 * here**4
    assert float(Phi4Action(-3.5, 5.5)(phi)[0]) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(-5, 5), st.floats(0.1, 10))
def test_force_is_the_gradient(seed: int, m2: float, lam: float) -> None:
    action, phi = Phi4Action(m2, lam), _fields(seed).requires_grad_()
    (gradient,) = torch.autograd.grad(action(phi).sum(), phi)
    torch.testing.assert_close(action.force(phi.detach()), gradient, rtol=1e-10, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 5), st.integers(0, 5))
def test_action_is_invariant_under_translations_d4_and_sign(seed: int, a: int, b: int) -> None:
    action, phi = Phi4Action(-4.0, 5.5), _fields(seed, shape=(6, 6))
    images = [phi.roll((a, b), (1, 2)), -phi, phi.flip(1), phi.transpose(1, 2)]
    images += [torch.rot90(phi, k, (1, 2)) for k in (1, 2, 3)]
    for image in images:
        torch.testing.assert_close(action(image), action(phi), rtol=1e-12, atol=1e-12)


def test_constant_field_has_no_kinetic_term() -> None:
    phi = torch.full((1, 4, 4), 0.5, dtype=torch.float64)
    assert float(Phi4Action(-4.0, 5.0)(phi)) == pytest.approx(16 * (-4.0 * 0.25 + 5.0 * 0.0625))


@pytest.mark.parametrize(("m2", "lam"), [(math.nan, 5.0), (-4.0, 0.0), (-4.0, math.inf)])
def test_refuses_weights_that_cannot_be_normalised(m2: float, lam: float) -> None:
    with pytest.raises(InputError, match="must be"):
        Phi4Action(m2, lam)


def test_refuses_a_field_without_its_batch() -> None:
    with pytest.raises(InputError, match=r"\(n, L0, L1\)"):
        Phi4Action(-4.0, 5.0)(torch.zeros(4, 4))
