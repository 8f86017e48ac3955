"""Laws of the coupling flow, on flows with arbitrary parameters."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from rram_host.errors import InputError
from rram_host.flows.coupling import CouplingFlow, FlowSettings
from rram_host.flows.protocol import Flow

Make = Callable[..., CouplingFlow]


def _z(flow: CouplingFlow, n: int, seed: int = 7) -> torch.Tensor:
    return flow.draw(n, torch.Generator().manual_seed(seed))


class _Counting(nn.Module):
    """A base that counts its calls and adds noise: neither repeatable nor differentiable."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base, self.calls = base, 0
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        y: torch.Tensor = self.base(x).detach()
        return y + 0.1 * torch.randn(y.shape, generator=self.generator, dtype=y.dtype)


@pytest.mark.parametrize("shape", [(2, 2), (4, 4), (4, 6)])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("activation", ["tanh", "sin"])
def test_inverse_undoes_push(
    random_flow: Make, shape: tuple[int, int], rank: int, activation: str
) -> None:
    flow = random_flow(shape, rank, activation=activation)
    z = _z(flow, 64)
    phi, log_q = flow.push(z)
    back, log_q_back = flow.inverse(phi.detach())
    torch.testing.assert_close(back, z, rtol=0, atol=1e-11)
    torch.testing.assert_close(log_q_back, log_q, rtol=0, atol=1e-11)
    torch.testing.assert_close(flow.log_prob(phi.detach()), log_q.detach(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", [(4, 4), (2, 6)])
@pytest.mark.parametrize("activation", ["tanh", "sin"])
def test_log_jacobian_is_autograds(
    random_flow: Make, shape: tuple[int, int], activation: str
) -> None:
    flow = random_flow(shape, activation=activation)
    z = _z(flow, 3)
    _, log_q = flow.push(z)
    for one, density in zip(z, log_q, strict=True):
        jacobian = torch.autograd.functional.jacobian(
            lambda v: flow.push(v[None])[0].flatten(), one
        )
        prior = -0.5 * float((one * one).sum()) - 0.5 * one.numel() * math.log(2 * math.pi)
        expected = prior - float(torch.linalg.slogdet(jacobian)[1])
        assert float(density.detach()) == pytest.approx(expected, abs=1e-10)


def test_density_is_normalised(random_flow: Make) -> None:
    # On 2 x 2 sites the integral of q over a Gaussian proposal is 1: 4 standard errors.
    flow = random_flow((2, 2), rank=0, steps=3)
    generator = torch.Generator().manual_seed(2)
    width = 1.5
    phi = width * torch.randn(40_000, 2, 2, generator=generator, dtype=torch.float64)
    proposal = -0.5 * (phi / width).pow(2).sum((1, 2)) - 2 * math.log(2 * math.pi * width**2)
    w = (flow.log_prob(phi) - proposal).exp()
    assert abs(float(w.mean()) - 1) < 4 * float(w.std()) / math.sqrt(len(w))
    assert float(w.std()) / math.sqrt(len(w)) < 0.05


def test_sign_is_an_exact_symmetry(flow: CouplingFlow) -> None:
    z = _z(flow, 100)
    phi, log_q = flow.push(z)
    mirrored, log_q_mirrored = flow.push(-z)
    assert torch.equal(mirrored, -phi)
    assert torch.equal(log_q_mirrored, log_q)


def test_log_q_does_not_depend_on_the_batch(flow: CouplingFlow) -> None:
    z = _z(flow, 200)
    whole_phi, whole = flow.push(z)
    for part in (slice(0, 1), slice(3, 20), slice(50, 200)):
        phi, log_q = flow.push(z[part])
        # a matrix product may sum in another order for another batch: rounding only
        torch.testing.assert_close(phi, whole_phi[part], rtol=0, atol=1e-12)
        torch.testing.assert_close(log_q, whole[part], rtol=0, atol=1e-12)


def test_both_colours_share_one_conditioner(random_flow: Make) -> None:
    # The same conditioner serves both colours: one step on even sites, seen one site further,
    # is one step on odd sites.
    flow = random_flow(steps=2)
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if name.startswith(("gain", "shift_s", "bends")):
                parameter[1] = parameter[0]
    phi = torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    flat, moved = phi.flatten(1), phi.roll(1, 2).flatten(1)
    here = flow.conditioner(0, flow.frozen_of(0, flat[:, flow.even], flat[:, flow.odd]))
    there = flow.conditioner(1, flow.frozen_of(1, moved[:, flow.even], moved[:, flow.odd]))
    torch.testing.assert_close(here, there)


def test_float32_conditioner_keeps_the_round_trip(random_flow: Make) -> None:
    flow = random_flow().float()
    phi, log_q = flow.sample(1000, torch.Generator().manual_seed(3))
    assert phi.dtype == log_q.dtype == torch.float64
    z, density = flow.inverse(phi)
    torch.testing.assert_close(density, log_q, rtol=0, atol=1e-5)
    torch.testing.assert_close(z, _z(flow, 1000, 3), rtol=0, atol=1e-5)


def test_each_product_is_read_once_a_step_and_noise_stays_in_the_density(
    flow: CouplingFlow,
) -> None:
    for product in flow.products().values():
        product.base = _Counting(product.base)
    phi, log_q = flow.sample(10, torch.Generator().manual_seed(0))
    counts = [product.base.calls for product in flow.products().values()]
    assert counts == [flow.settings.steps] * 3
    assert phi.shape == (10, 4, 4)
    assert bool(torch.isfinite(log_q).all())


def test_balance_changes_matrices_and_not_the_flow(flow: CouplingFlow) -> None:
    z = _z(flow, 20)
    before = flow.push(z)
    flow.balance()
    torch.testing.assert_close(flow.push(z), before, rtol=1e-10, atol=1e-10)
    for name, product in flow.products().items():
        largest = product.weight().abs().amax(1 if name == "w1" else 0)
        torch.testing.assert_close(largest, torch.ones_like(largest))


def test_balance_leaves_a_zero_unit_alone() -> None:
    flow = CouplingFlow(FlowSettings())  # Wt = Ws = 0
    flow.balance()
    assert bool(torch.isfinite(flow.gain_t).all())
    assert float(flow.wt.weight().detach().abs().max()) == 0.0


def test_untrained_flow_depends_on_its_seed_alone() -> None:
    state = torch.random.get_rng_state()
    one, two = (CouplingFlow(FlowSettings(seed=5)).state_dict() for _ in range(2))
    other = CouplingFlow(FlowSettings(seed=6)).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["w1.base.weight"], other["w1.base.weight"])


def test_sampling_repeats_and_copies_are_independent(flow: CouplingFlow) -> None:
    twin = copy.deepcopy(flow)
    first = flow.sample(7, torch.Generator().manual_seed(4))
    second = twin.sample(7, torch.Generator().manual_seed(4))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert isinstance(flow, Flow)


@pytest.mark.parametrize(
    "bad",
    [
        {"shape": (3, 4)},
        {"shape": (4, 4, 4)},
        {"hidden": 0},
        {"steps": 1},
        {"lora_rank": 9},
        {"lora_rank": -1},
        {"lora_on": ("w1", "w2")},
        {"lora_on": "w1"},
        {"lora_on": ""},
        {"stiffness": 0.0},
        {"mass2": -1.0},
        {"activation": "relu"},
        {"bend": "cube"},
    ],
)
def test_settings_refuse_what_cannot_be_built(bad: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        FlowSettings(**bad)  # type: ignore[arg-type]


def test_refuses_other_shapes_and_empty_draws(flow: CouplingFlow) -> None:
    with pytest.raises(InputError, match=r"takes \(n, 4, 4\)"):
        flow.push(torch.zeros(2, 6, 6))
    with pytest.raises(InputError, match="at least 1"):
        flow.sample(0, torch.Generator())
