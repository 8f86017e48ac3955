"""The action's definition, its gradient and its symmetries."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rram_host.errors import InputError
from rram_host.lattice.actions import (
    Action,
    GrapheneAction,
    Phi4Action,
    action_of,
    range_notes,
    settings_of,
)


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


def test_graphene_action_is_eq_36_with_the_euclidean_sign() -> None:
    phi, g, m = _fields(2, 1), 0.7, 0.3 * 0.7
    u = math.exp(0.5772156649015329) / (2 * math.pi**1.5) * math.sqrt(32 * math.pi) * m
    expected = 0.0
    for i in range(4):
        for j in range(6):
            here = float(phi[0, i, j])
            ahead = (float(phi[0, (i + 1) % 4, j]), float(phi[0, i, (j + 1) % 6]))
            expected += sum(0.5 * (each - here) ** 2 for each in ahead)
            expected += g**2 / (2 * math.pi) * here**2
            expected -= u * math.cos(2 * math.sqrt(math.pi) * here)
    action = GrapheneAction(g, 0.3)
    assert action.u == pytest.approx(1.60353 * m, rel=1e-5)  # the number in the shared data
    assert float(action(phi)[0]) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.one_of(
        st.builds(Phi4Action, st.floats(-5, 5), st.floats(0.1, 10)),
        st.builds(GrapheneAction, st.floats(0.1, 2), st.floats(0, 1)),
    ),
)
def test_force_is_the_gradient(seed: int, action: Action) -> None:
    phi = _fields(seed).requires_grad_()
    (gradient,) = torch.autograd.grad(action(phi).sum(), phi)
    torch.testing.assert_close(action.force(phi.detach()), gradient, rtol=1e-10, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 5), st.integers(0, 5))
def test_action_is_invariant_under_translations_d4_and_sign(seed: int, a: int, b: int) -> None:
    phi = _fields(seed, shape=(6, 6))
    images = [phi.roll((a, b), (1, 2)), -phi, phi.flip(1), phi.transpose(1, 2)]
    images += [torch.rot90(phi, k, (1, 2)) for k in (1, 2, 3)]
    for action in (Phi4Action(-4.0, 5.5), GrapheneAction(0.5, 0.2)):
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


def test_the_printed_mass_term_would_not_be_normalisable_and_is_refused() -> None:
    # with the printed sign, S of a constant field falls without bound
    wire = GrapheneAction(1.0, 0.2)
    flat = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)[:, None, None].expand(3, 4, 4)
    mass_term = 16 * flat[:, 0, 0] ** 2 / (2 * math.pi)
    printed = wire(flat) - 2 * mass_term
    assert printed[2] < printed[1] < printed[0]
    assert wire(flat)[2] > wire(flat)[1] > wire(flat)[0]
    with pytest.raises(InputError, match="no normalisable weight"):
        action_of({"name": "graphene", "g": 1.0, "m_over_g": 0.2, "mass_term": "printed"})
    euclidean = {"name": "graphene", "g": 1.0, "m_over_g": 0.2, "mass_term": "euclidean"}
    assert action_of(euclidean) == wire


@pytest.mark.parametrize("action", [Phi4Action(-4.0, 5.5), GrapheneAction(0.5, 0.1)])
def test_settings_describe_an_action(action: Action) -> None:
    assert action_of(settings_of(action)) == action


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"name": "phi6", "lam": 1.0}, "phi6.*phi4, graphene"),
        ({}, "known: phi4, graphene"),
        ({"name": "phi4", "m2": -4.0}, "lam"),
        ({"name": "phi4", "m2": -4.0, "lam": 5.0, "g": 1.0}, "'g'"),
        ({"name": "phi4", "m2": -4.0, "lam": 5.0, "mass_term": "euclidean"}, "mass_term"),
        ({"name": "phi4", "m2": "low", "lam": 5.0}, "m2 = 'low' is not a number"),
        ({"name": "phi4", "m2": True, "lam": 5.0}, "m2 = True is not a number"),
        ({"name": "phi4", "m2": -4.0, "lmbda": 5.0}, "phi4 takes m2, lam, not 'lmbda'$"),
        ({"name": "graphene", "g": 0.0, "m_over_g": 0.0}, "g must be > 0"),
        ({"name": "graphene", "g": 1.0, "m_over_g": -0.1}, "m_over_g must be >= 0"),
        ({"name": "graphene", "g": math.nan, "m_over_g": 0.0}, "g must be > 0"),
        ({"name": "graphene", "g": 1.0, "m_over_g": 0.0, "mass_term": "?"}, "euclidean"),
    ],
)
def test_refuses_descriptions_of_no_action(described: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        action_of(described)


def test_notes_speak_of_what_is_out_of_the_usual_range_only() -> None:
    assert range_notes(GrapheneAction(1.0, 0.2), (12, 6)) == ()
    assert range_notes(Phi4Action(-4.0, 5.5), (4, 4)) == ()
    (short,) = range_notes(GrapheneAction(0.5, 0.2), (24, 8))
    assert "L g = 4 is below 6" in short
    assert len(range_notes(GrapheneAction(2.0, 0.7), (8, 8))) == 2
    assert "lam = 20" in range_notes(Phi4Action(-4.0, 20.0), (4, 4))[0]


@pytest.mark.parametrize("action", [Phi4Action(-4.0, 5.0), GrapheneAction(1.0, 0.2)])
def test_refuses_what_is_no_tensor(action: Action) -> None:
    for function in (action, action.force):
        with pytest.raises(InputError, match="torch tensor of fields, got ndarray"):
            function(np.zeros((2, 4, 4)))  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [np.int64, np.float32, int])
def test_settings_of_couplings_from_an_array_are_json(number: type) -> None:
    action = Phi4Action(number(-4), number(5))
    assert json.loads(json.dumps(settings_of(action))) == {"name": "phi4", "m2": -4.0, "lam": 5.0}
