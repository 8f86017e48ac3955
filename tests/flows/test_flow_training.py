"""Training: the gradient it follows, its reproducibility, and repair of a damaged flow."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from rram_host.errors import InputError
from rram_host.flows.checkpoint import LoadedFlow
from rram_host.flows.coupling import CouplingFlow, FlowSettings
from rram_host.flows.lora import attach
from rram_host.flows.path_gradient import path_gradient_loss, push_with_score
from rram_host.flows.product import AdaptedLinear
from rram_host.flows.ship import figures
from rram_host.flows.training import (
    FinetuneSettings,
    TrainLog,
    TrainSettings,
    finetune,
    noise_axes,
    train,
)
from rram_host.lattice.actions import GrapheneAction, Phi4Action

Make = Callable[..., CouplingFlow]
_ACTION = Phi4Action(-4.0, 5.5)
_UNTRAINED = -1.234  # mean of log q + S at steps=4 before the first step, nats


def _perturb(flow: CouplingFlow, fraction: float, seed: int) -> CouplingFlow:
    """A copy whose dense weights are off by fraction * max |W|."""
    copied, generator = copy.deepcopy(flow), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for product in copied.products().values():
            w = product.weight()
            w += fraction * w.abs().max() * torch.randn(w.shape, generator=generator)
    return copied


def test_score_is_the_gradient_of_log_q(flow: CouplingFlow) -> None:
    z = flow.draw(3, torch.Generator().manual_seed(0))
    phi, score, log_q = push_with_score(flow, z)
    expected_phi, expected_log_q = flow.push(z)
    torch.testing.assert_close(phi, expected_phi, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_q, expected_log_q.detach(), rtol=0, atol=1e-12)
    # chain rule: d log q / dz = (d phi / dz)^T (d log q / d phi)
    for k in range(3):
        jacobian = torch.autograd.functional.jacobian(
            lambda v: flow.push(v[None])[0].flatten(), z[k]
        )
        by_z = torch.autograd.functional.jacobian(lambda v: flow.push(v[None])[1][0], z[k])
        torch.testing.assert_close(jacobian.T @ score[k].flatten(), by_z, rtol=0, atol=1e-10)


def test_both_estimators_have_the_same_mean(random_flow: Make) -> None:
    flow = random_flow(rank=0, steps=2)
    generator = torch.Generator().manual_seed(1)
    samples: dict[str, list[torch.Tensor]] = {"path": [], "total": []}
    for _ in range(60):
        z = flow.draw(256, generator)
        for name, kept in samples.items():
            flow.zero_grad()
            if name == "path":
                path_gradient_loss(flow, _ACTION, z)[0].backward()
            else:
                phi, log_q = flow.push(z)
                (log_q + _ACTION(phi)).mean().backward()
            kept.append(
                torch.cat([p.grad.flatten() for p in flow.parameters() if p.grad is not None])
            )
    path, total = (torch.stack(samples[name]) for name in ("path", "total"))
    difference = path - total
    error = difference.std(0) / math.sqrt(len(difference))
    pull = (difference.mean(0).abs() / error.clamp_min(1e-12))[error > 1e-9]
    # about 400 components at once: the largest of so many Gaussians is 3.5 errors on average
    assert float(pull.max()) < 5.5
    assert float(pull.mean()) < 1.0  # sqrt(2 / pi) = 0.8 for a Gaussian


def test_training_repeats_from_its_seed_and_improves() -> None:
    settings = TrainSettings(steps=210, batch=128, warmup=20, log_every=70)
    told: list[TrainLog] = []
    flows = [CouplingFlow(FlowSettings(steps=4)) for _ in range(2)]
    logs = [train(flow, _ACTION, settings, told.append) for flow in flows]
    states = [flow.state_dict() for flow in flows]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert [entry.step for entry in logs[0]] == [70, 140, 210]
    assert told == logs[0] + logs[1]
    assert logs[0][-1].loss < _UNTRAINED - 1.0


def test_plain_estimator_and_no_noise_train_too() -> None:
    flow = CouplingFlow(FlowSettings(steps=4, lora_rank=0))
    settings = TrainSettings(
        steps=210, batch=128, warmup=20, estimator="plain", weight_noise=0.0, log_every=210
    )
    assert train(flow, _ACTION, settings)[-1].loss < _UNTRAINED - 1.0


def test_loss_is_bounded_by_log_z(loaded: LoadedFlow) -> None:
    # KL >= 0: E[log q + S] >= -log Z; checked with the exact value, less 3 standard errors
    phi, log_q = loaded.flow.sample(20_000, torch.Generator().manual_seed(8))
    cost = log_q + loaded.action(phi)
    assert float(cost.mean()) > -4.8694903 - 3 * float(cost.std()) / math.sqrt(20_000)


@pytest.mark.parametrize("parameters", ["lora", "digital"])
def test_finetune_repairs_a_damaged_flow(loaded: LoadedFlow, parameters: str) -> None:
    damaged = _perturb(loaded.flow, 0.05, seed=3)
    attach(damaged, 1)
    old = {name: p.detach().clone() for name, p in damaged.named_parameters()}
    before = figures(damaged, loaded.action, 8192)["ess"]
    settings = FinetuneSettings(parameters, steps=200, lr=5e-3)  # type: ignore[arg-type]
    finetune(damaged, loaded.action, settings)
    after = figures(damaged, loaded.action, 8192)["ess"]
    # The same draws before and after: their ESS differ by much less noise than either has.
    assert after > before + 0.2 * (1 - before)
    changed = {n for n, p in damaged.named_parameters() if not torch.equal(p, old[n])}
    digital = {n for n in old if ".base." not in n}
    lora = {n for n in old if ".lora_" in n}
    assert changed == (lora if parameters == "lora" else digital)
    assert all(p.requires_grad for p in damaged.parameters())


def test_finetune_needs_something_to_train() -> None:
    flow = CouplingFlow(FlowSettings(steps=2, lora_rank=0))
    with pytest.raises(InputError, match="has no corrections"):
        finetune(flow, _ACTION, FinetuneSettings(parameters="lora"))


def test_divergence_is_reported_in_the_step_it_happens_in() -> None:
    flow = CouplingFlow(FlowSettings(steps=2))
    with torch.no_grad():
        flow.shift_s.fill_(math.nan)
    with pytest.raises(InputError, match="training diverged: the loss is nan in step 1"):
        train(flow, _ACTION, TrainSettings(steps=500, log_every=500))


class _Plain(nn.Module):
    """A flow of another kind: phi = width * z, a product that does nothing, no loss of its own."""

    kind, exact_density = "plain", True

    def __init__(self) -> None:
        super().__init__()
        self.settings = FlowSettings()
        self.log_width = nn.Parameter(torch.tensor(0.0))
        self.product = AdaptedLinear(2, 3, 1)

    def products(self) -> dict[str, AdaptedLinear]:
        return {"product": self.product}

    def draw(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
        return torch.randn(n, 4, 4, generator=generator, dtype=dtype)

    def push(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_prior = -0.5 * (z * z).sum((1, 2)) - 8.0 * math.log(2 * math.pi)
        return z * self.log_width.exp(), log_prior - 16.0 * self.log_width


def test_any_flow_trains_by_what_it_offers() -> None:
    # u = 0 is a free field: the best width solves d/dw [V w^2 <S per site at w = 1> - V log w] = 0,
    # with S = sum_n phi^2 (2 + g^2 / 2 pi) for independent sites, so w^2 = 1 / (4 + g^2 / pi)
    flow, action = _Plain(), GrapheneAction(1.0, 0.0)
    settings = TrainSettings(steps=300, batch=256, lr=0.05, warmup=0, log_every=300)
    train(flow, action, settings)  # type: ignore[arg-type]
    found = float(flow.log_width.detach().exp())
    # the last steps of the cosine average over hundreds of fields of 16 sites each
    assert found == pytest.approx((4.0 + 1.0 / math.pi) ** -0.5, rel=0.02)


def test_noise_follows_the_axis_that_a_flow_names() -> None:
    axes = noise_axes(CouplingFlow(FlowSettings()))
    assert axes == {"w1": 1, "wt": 0, "ws": 0}
    assert noise_axes(_Plain()) == {"product": 1}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"batch": 1},
        {"lr": 0.0},
        {"warmup": -1},
        {"clip": 0.0},
        {"log_every": 0},
        *[{name: 10.5} for name in ("steps", "batch", "warmup", "log_every")],
        {"beta2": 1.0},
        {"weight_noise": -0.1},
        {"estimator": "magic"},
    ],
)
def test_train_settings_refuse_nonsense(bad: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        TrainSettings(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [{"steps": 0}, {"batch": 64.0}, {"parameters": "all"}, {"also": ("prior",)}, {"beta2": 0.0}],
)
def test_finetune_settings_refuse_nonsense(bad: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        FinetuneSettings(**bad)  # type: ignore[arg-type]
