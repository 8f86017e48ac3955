"""The continuous flow: its kernels, its integrator, its score, and the trap that both set."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rram_host.errors import InputError
from rram_host.flows import checkpoint
from rram_host.flows.continuous import ContinuousFlow, ContinuousSettings
from rram_host.flows.continuous.kernels import Dense, Fourier, kernels_of
from rram_host.flows.continuous.loss import push_with_score
from rram_host.flows.continuous.presets import PRESETS
from rram_host.flows.prior import momentum_classes
from rram_host.flows.ship import read_log
from rram_host.flows.train_settings import TrainSettings
from rram_host.flows.training import train
from rram_host.lattice.actions import Phi4Action
from rram_host.lattice.exact import exact_4x4
from rram_host.lattice.reweighting import effective_sample_size

ACTION = Phi4Action(m2=-4.0, lam=5.5)
LOG_Z = exact_4x4(5.5).log_z


def _flow(shape: tuple[int, int] = (4, 4), steps: int = 32, **changes: Any) -> ContinuousFlow:
    """A flow with every parameter away from its start, in float64."""
    settings = ContinuousSettings(shape, 3, 4, 4.0, steps, **changes)
    flow = ContinuousFlow(settings).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in flow.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter += 0.1 * noise
    return flow


def _z(flow: ContinuousFlow, n: int, seed: int = 7) -> Tensor:
    return flow.draw(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (4, 4), (3, 4), (2, 6)])
def test_both_kinds_of_kernels_are_the_sum_they_stand_for(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = momentum_classes(shape)
    table = torch.randn(2, 3, int(classes.max()) + 1, generator=generator, dtype=torch.float64)
    features = torch.randn(5, 3, classes.numel(), generator=generator, dtype=torch.float64)
    expected = torch.zeros(5, *shape, dtype=torch.float64)
    fields = features.reshape(5, 3, *shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            weight = table[1, :, classes[i, j]]
            moved = fields.roll((-i, -j), (2, 3))  # the site at (x + i, y + j)
            expected += torch.einsum("f,nfxy->nxy", weight, moved)
    for way in (Dense(shape), Fourier(shape)):
        operator = way.operators(table)[1]
        torch.testing.assert_close(operator.gather(features), expected.flatten(1))
        field = features[:, 0]
        # the transpose: <G, gather(h)> = <spread(G), h>
        left = (field * operator.gather(features)).sum()
        right = (operator.spread(field) * features).sum()
        torch.testing.assert_close(left, right)


def test_large_lattices_take_fourier_modes() -> None:
    assert isinstance(kernels_of((12, 12)), Dense)
    assert isinstance(kernels_of((24, 24)), Fourier)


def test_integration_is_of_fourth_order() -> None:
    # Halving the step divides the error by 16 once steps are small: between 10 and 24.
    flow = _flow()
    z = _z(flow, 16)
    with torch.no_grad():
        reference = flow.push(z, 256)
        errors = [
            [float((a - b).abs().max()) for a, b in zip(flow.push(z, n), reference, strict=True)]
            for n in (16, 32)
        ]
    for coarse, fine in zip(*errors, strict=True):
        assert 10.0 < coarse / fine < 24.0


def test_score_is_the_gradient_of_log_q() -> None:
    flow = _flow((3, 4))
    z = _z(flow, 2)
    _, log_q, score, energy = push_with_score(flow, z, 64)
    for one, found in zip(z, score, strict=True):
        start = one[None].clone().requires_grad_()
        (by_z,) = torch.autograd.grad(flow.push(start, 64)[1].sum(), start)
        jacobian = torch.autograd.functional.jacobian(
            lambda v: flow.push(v[None], 64)[0].flatten(), one
        )
        # d log q / dz = J^T d log q / dphi; both sides to the integrator's accuracy
        torch.testing.assert_close(jacobian.T @ found, by_z[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(log_q, flow.push(z, 64)[1].detach())
    assert float(energy.detach().min()) > 0.0


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (2, 6)])
def test_any_lattice_has_its_symmetries(shape: tuple[int, int]) -> None:
    flow = _flow(shape, lora_rank=1)
    phi = 0.5 * torch.randn(6, *shape, generator=torch.Generator().manual_seed(2)).double()
    log_q = flow.log_prob(phi)
    images = [-phi, phi.roll((1, 2), (1, 2)), phi.flip(1), phi.flip(2)]
    if shape[0] == shape[1]:
        images.append(phi.transpose(1, 2))
    for image in images:
        torch.testing.assert_close(flow.log_prob(image), log_q, rtol=0, atol=1e-10)


class _Noisy(nn.Module):
    """A product with an error and fresh noise, without a weight."""

    def __init__(self, base: nn.Module, noise: Tensor) -> None:
        super().__init__()
        self._inner, self._noise, self.reads = [base], noise, 0

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = 1.1 * self._inner[0](x) + self._noise[self.reads]
        self.reads += 1
        return y


def test_a_wrong_and_noisy_product_leaves_the_divergence_right() -> None:
    # The product does not see the site it moves, so with its noise held fixed log q is still the
    # log-determinant of what moved the field, to the integrator's accuracy.
    flow = _flow(steps=32)
    base = flow.velocity.product.base
    generator = torch.Generator().manual_seed(5)
    noise = 0.05 * torch.randn(4 * 32, 1, 3, generator=generator, dtype=torch.float64)

    def push(v: Tensor) -> tuple[Tensor, Tensor]:
        flow.velocity.product.base = _Noisy(base, noise)
        return flow.push(v)

    z = _z(flow, 1)
    log_q = float(push(z)[1].detach())
    jacobian = torch.autograd.functional.jacobian(lambda v: push(v[None])[0].flatten(), z[0])
    prior = -0.5 * float((z * z).sum()) - 8.0 * math.log(2.0 * math.pi)
    assert log_q == pytest.approx(prior - float(torch.linalg.slogdet(jacobian)[1]), abs=1e-3)


def test_training_needs_the_matrix() -> None:
    flow = _flow()
    flow.velocity.product.base = nn.Sequential(flow.velocity.product.base)
    with pytest.raises(InputError, match="matrix"):
        flow.loss(ACTION, _z(flow, 4), torch.Generator())


_BRIEF = TrainSettings(
    steps=150, batch=128, lr=1e-2, warmup=10, weight_noise=0.0, log_every=1, seed=0
)


def test_a_fixed_coarse_grid_dives_under_minus_log_z() -> None:
    # The trap itself: differentiated as it stands on one grid of one step, the loss rewards
    # a wrong log q without bound.
    flow = ContinuousFlow(ContinuousSettings((4, 4), 3, 4, 6.0, steps=1))
    settings = TrainSettings(
        steps=100, batch=128, lr=1e-2, warmup=10, weight_noise=0.0, estimator="plain", log_every=50
    )
    log = train(flow, ACTION, settings)
    assert log[-1].loss < -LOG_Z - 10.0
    assert flow.discretisation_error(_z(flow, 64))[0] > 1.0


def test_random_grids_and_the_penalty_keep_the_loss_above_minus_log_z() -> None:
    # E[log q + S] = KL - log Z >= -log Z. The mean over the last 50 batches, as the training grids
    # see it, within 4 of its standard errors; then on fresh draws with the evaluation grid.
    flow = ContinuousFlow(ContinuousSettings((4, 4), 3, 4, 6.0, train_steps=(3, 5), kinetic=1e-2))
    losses = torch.tensor([entry.loss for entry in train(flow, ACTION, _BRIEF)[-50:]])
    assert float(losses.mean()) > -LOG_Z - 4.0 * float(losses.std()) / math.sqrt(len(losses))
    phi, log_q = flow.sample(4096, torch.Generator().manual_seed(3))
    loss = log_q + ACTION(phi)
    error = float(loss.std()) / math.sqrt(len(loss))
    assert float(loss.mean()) > -LOG_Z - 4.0 * error
    assert float(loss.mean()) < -LOG_Z + 0.1  # trained enough for the bound to be sharp
    assert flow.discretisation_error(_z(flow, 256))[0] < 1e-3


@pytest.mark.parametrize(
    "bad",
    [
        {"shape": (1, 4)},
        {"shape": (4, 4, 4)},
        {"times": 0},
        {"frequencies": 0},
        {"highest": 0.0},
        {"steps": 0},
        {"train_steps": (0, 3)},
        {"train_steps": (5, 3)},
        {"kinetic": -1.0},
        {"lora_rank": -1},
        {"stiffness": 0.0},
        {"mass2": math.nan},
    ],
)
def test_settings_refuse_what_cannot_be_built(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        ContinuousSettings(**bad)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_build(name: str) -> None:
    recipe = PRESETS[name]
    flow = recipe.build()
    assert isinstance(flow, ContinuousFlow)
    phi, log_q = flow.sample(2, torch.Generator().manual_seed(0))
    assert phi.shape == (2, *flow.shape)
    # untrained, the flow is its prior
    assert torch.equal(log_q, flow.prior.log_density(_z(flow, 2, 0)))


# what is asked of the effective sample size
_ASKED = {"continuous_phi4_L4": 0.9, "continuous_phi4_L6": 0.85, "continuous_phi4_L12": 0.7}


@pytest.mark.parametrize("name", sorted(_ASKED))
def test_shipped_flows_reach_what_is_asked(name: str) -> None:
    loaded = checkpoint.load(checkpoint.resolve(name))
    flow: Any = loaded.flow
    phi, log_q = flow.sample(2048, torch.Generator().manual_seed(21))
    log_w = (-loaded.action(phi) - log_q).numpy()
    figures = loaded.metadata["extra"]["figures"]
    assert figures["samples"] == 32_768
    assert figures["ess"] >= _ASKED[name]
    # at 2048 draws the ESS of these flows scatters by less than 0.02
    assert effective_sample_size(log_w) == pytest.approx(figures["ess"], abs=0.06)
    # E[log q + S] >= -log Z, log Z as the file's own 32 768 weights have it; 4 standard errors
    error = math.hypot(float(log_w.std()) / math.sqrt(len(log_w)), figures["log_z_error"])
    assert -float(log_w.mean()) > -figures["log_z"] - 4.0 * error


@pytest.mark.parametrize("name", sorted(_ASKED))
def test_discretisation_of_shipped_flows_is_small(name: str) -> None:
    # 1e-3 nats is far below the std(log w) of these flows, 0.07 to 0.2, and their errors of log Z
    flow: Any = checkpoint.load(checkpoint.resolve(name)).flow
    of_log_q, of_phi = flow.discretisation_error(_z(flow, 128))
    assert of_log_q < 1e-3
    assert of_phi < 1e-4


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_training_logs_of_shipped_flows_stay_above_minus_log_z(name: str) -> None:
    # Over the last half of the log, as the random training grids saw it: 4 standard errors.
    path = checkpoint.resolve(name)
    figures = checkpoint.load(path).metadata["extra"]["figures"]
    rows = read_log(path.with_name(f"{name}.log.csv"))
    losses = torch.tensor([row["loss"] for row in rows[len(rows) // 2 :]])
    error = float(losses.std()) / math.sqrt(len(losses))
    assert float(losses.mean()) > -figures["log_z"] - 4.0 * error
