"""Laws that every kind of flow keeps: small ones with arbitrary parameters, and shipped ones."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rram_host.errors import InputError
from rram_host.flows import checkpoint, kinds
from rram_host.flows.product import AdaptedLinear
from rram_host.flows.protocol import Flow
from rram_host.flows.train_settings import TrainSettings
from rram_host.flows.training import train
from rram_host.lattice.actions import Phi4Action
from rram_host.lattice.exact import exact_4x4

Make = Callable[[str], Any]

SMALL: dict[str, dict[str, Any]] = {
    "anf": {"shape": [4, 4], "hidden": 12, "steps": 4, "lora_rank": 1},
    "mixer": {
        "shape": [4, 4],
        "patch": 2,
        "dim": 4,
        "hidden": 4,
        "blocks": 2,
        "steps": 4,
        "lora_rank": 1,
    },
    # 40 steps: a continuous flow keeps round trip and density to its integrator's accuracy
    "continuous": {
        "shape": [4, 4],
        "times": 3,
        "frequencies": 4,
        "highest": 4.0,
        "steps": 40,
        "lora_rank": 1,
    },
    "realnvp": {"shape": [4, 4], "steps": 4, "hidden": [4, 4], "lora_rank": 1},
}
KINDS = sorted(SMALL)
CHECKERBOARDS = [kind for kind in KINDS if kind != "continuous"]
ACTION = Phi4Action(m2=-4.0, lam=5.5)
LOG_Z = exact_4x4(5.5).log_z


def _moved(flow: Any, seed: int = 1, by: float = 0.1) -> Any:
    """The flow with every parameter away from its start, so that no term is switched off."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in flow.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter += by * noise
    return flow


def _make(kind: str, **changes: Any) -> Any:
    flow: Any = _moved(kinds.build(kind, SMALL[kind] | changes).double())
    if hasattr(flow, "freeze_statistics"):
        flow.freeze_statistics(256, torch.Generator().manual_seed(2))
    return flow


@pytest.fixture(params=KINDS)
def any_flow(request: pytest.FixtureRequest) -> Any:
    return _make(request.param)


def _z(flow: Any, n: int, seed: int = 7) -> Tensor:
    z: Tensor = flow.draw(n, torch.Generator().manual_seed(seed))
    return z


def _log_density(flow: Any, z: Tensor) -> Tensor:
    """log N(z) - log |det d phi / d z| for each draw, by automatic differentiation alone."""
    found = []
    for one in z.flatten(1):
        jacobian = torch.autograd.functional.jacobian(
            lambda v: flow.push(v[None])[0].flatten(), one
        )
        prior = -0.5 * (one * one).sum() - 0.5 * len(one) * math.log(2.0 * math.pi)
        found.append(prior - torch.linalg.slogdet(jacobian).logabsdet)
    return torch.stack(found)


def test_every_kind_is_here() -> None:
    assert set(KINDS) == set(kinds.KINDS)


def test_offers_what_every_flow_offers(any_flow: Any) -> None:
    assert isinstance(any_flow, Flow)
    assert kinds.KINDS[any_flow.kind][1] is type(any_flow)
    assert dataclasses.is_dataclass(any_flow.settings)
    assert any_flow.shape == (4, 4)
    assert any_flow.exact_density is (any_flow.kind != "continuous")


def test_inverse_undoes_push(any_flow: Any) -> None:
    z = _z(any_flow, 64)
    with torch.no_grad():
        phi, log_q = any_flow.push(z)
    back, log_q_back = any_flow.inverse(phi)
    torch.testing.assert_close(back.flatten(1), z.flatten(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(log_q_back, log_q, rtol=0, atol=1e-5)
    torch.testing.assert_close(any_flow.log_prob(phi), log_q, rtol=0, atol=1e-5)
    # the flow moves: the identity would pass, too
    assert float((phi.flatten(1) - z.flatten(1)).abs().max()) > 0.1


def test_log_jacobian_is_autograds(any_flow: Any) -> None:
    z = _z(any_flow, 3)
    log_q = any_flow.push(z)[1].detach()
    torch.testing.assert_close(log_q, _log_density(any_flow, z), rtol=0, atol=1e-4)


def test_log_q_does_not_depend_on_the_batch(any_flow: Any) -> None:
    # A matrix product may sum in another order for another batch: float64 rounding only.
    z = _z(any_flow, 200)
    with torch.no_grad():
        whole_phi, whole = any_flow.push(z)
        for part in (slice(0, 1), slice(3, 20), slice(50, 200)):
            phi, log_q = any_flow.push(z[part])
            torch.testing.assert_close(phi, whole_phi[part], rtol=0, atol=1e-11)
            torch.testing.assert_close(log_q, whole[part], rtol=0, atol=1e-11)
    part_q = any_flow.log_prob(whole_phi[3:20])
    torch.testing.assert_close(part_q, any_flow.log_prob(whole_phi)[3:20], rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_parameters_keep_log_q_to_rounding(kind: str) -> None:
    # 16 sites and some dozen float32 sums: a few 1e-7 each, in a batch of any size.
    flow = _make(kind).float()
    z = _z(flow, 100)
    with torch.no_grad():
        phi, log_q = flow.push(z)
        one_phi, one = flow.push(z[:1])
    assert phi.dtype == log_q.dtype == torch.float64
    torch.testing.assert_close(one_phi, phi[:1], rtol=0, atol=1e-5)
    torch.testing.assert_close(one, log_q[:1], rtol=0, atol=1e-5)
    torch.testing.assert_close(flow.inverse(phi)[1], log_q, rtol=0, atol=2e-5)


def _images(symmetry: str, phi: Tensor) -> Iterator[Tensor]:
    if symmetry == "z2":
        yield -phi
    elif symmetry == "translations":
        yield from (phi.roll(by, (1, 2)) for by in ((1, 0), (0, 1), (2, 3)))
    elif symmetry == "even translations":
        yield from (phi.roll(by, (1, 2)) for by in ((1, 1), (2, 0), (3, 1)))
    elif symmetry == "d4":
        # about a site, so that the colours of a checkerboard stay
        mirrored = phi.flip(1).roll(1, 1), phi.flip(2).roll(1, 2)
        yield from (phi.transpose(1, 2), *mirrored, mirrored[0].transpose(1, 2))
    else:
        raise AssertionError(f"a flow claims {symmetry!r}, which no law here knows")


def test_claimed_symmetries_hold(any_flow: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    phi = 0.5 * torch.randn(20, 4, 4, generator=generator, dtype=torch.float64)
    log_q = any_flow.log_prob(phi)
    assert float(log_q.std()) > 0.1
    for symmetry in any_flow.symmetries:
        for image in _images(symmetry, phi):
            torch.testing.assert_close(any_flow.log_prob(image), log_q, rtol=0, atol=1e-10)


class _Stranger(nn.Module):
    """The same product by a module that is not a plain matrix, as an array's is."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = base, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        assert x.dim() == 2
        y: Tensor = self.inner(x)
        return y


def test_products_can_be_replaced(any_flow: Any) -> None:
    z = _z(any_flow, 5)
    with torch.no_grad():
        before = any_flow.push(z)
        products = any_flow.products()
        assert all(isinstance(product, AdaptedLinear) for product in products.values())
        for product in products.values():
            product.base = _Stranger(product.base)
        torch.testing.assert_close(any_flow.push(z), before, rtol=0, atol=1e-11)
    assert all(product.base.calls > 0 for product in products.values())


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_never_under_minus_log_z(kind: str) -> None:
    # E[log q + S] = KL - log Z with KL >= 0. Late in training KL is smallest, so the bound is
    # sharpest there; 4 standard errors of the mean over the batch.
    flow: Any = kinds.build(kind, SMALL[kind])
    settings = TrainSettings(
        steps=40, batch=64, lr=1e-2, warmup=5, weight_noise=0.0, log_every=10, seed=4
    )
    log = train(flow, ACTION, settings)
    assert log[-1].loss < log[0].loss
    if hasattr(flow, "freeze_statistics"):
        flow.freeze_statistics(1024, torch.Generator().manual_seed(2))
    phi, log_q = flow.sample(2048, torch.Generator().manual_seed(5))
    loss = log_q + ACTION(phi)
    assert float(loss.mean()) > -LOG_Z - 4.0 * float(loss.std()) / math.sqrt(len(loss))
    if flow.exact_density and not hasattr(flow, "freeze_statistics"):
        for entry in log:
            error = entry.std_log_w / math.sqrt(settings.batch)
            assert entry.loss > -LOG_Z - 4.0 * error


def test_density_integrates_to_one(any_flow: Any) -> None:
    # E_r[q / r] = 1 for a Gaussian r close to q: its covariance is measured on draws of the flow.
    # 4 standard errors, and the error must be small enough to mean something.
    draws = any_flow.sample(2000, torch.Generator().manual_seed(8))[0].flatten(1)
    factor = 1.15 * torch.linalg.cholesky(torch.cov(draws.T))
    centre = draws.mean(0)
    unit = torch.randn(8_000, 16, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    phi = (centre + unit @ factor.T).reshape(-1, 4, 4)
    log_r = -0.5 * (unit * unit).sum(1) - 8.0 * math.log(2.0 * math.pi) - factor.logdet()
    w = (any_flow.log_prob(phi) - log_r).exp()
    error = float(w.std()) / math.sqrt(len(w))
    assert error < 0.1
    assert abs(float(w.mean()) - 1.0) < 4.0 * error


@pytest.mark.parametrize("kind", CHECKERBOARDS)
def test_a_checkerboard_refuses_odd_lattices(kind: str) -> None:
    with pytest.raises(InputError, match="even"):
        kinds.build(kind, SMALL[kind] | {"shape": [3, 4]})


def test_refuses_other_shapes_and_empty_draws(any_flow: Any) -> None:
    generator = torch.Generator()
    with pytest.raises(InputError, match="at least 1"):
        any_flow.sample(0, generator)
    with pytest.raises(InputError, match=r"takes \(n, 4, 4\)"):
        any_flow.push(torch.zeros(2, 6, 6))
    with pytest.raises(InputError, match=r"takes \(n, 4, 4\)"):
        any_flow.inverse(torch.zeros(2, 4, 6))
    with pytest.raises(InputError, match=r"takes \(n, 4, 4\)"):
        any_flow.log_prob(torch.zeros(2, 3, 4))
    with pytest.raises(InputError, match=r"n >= 1, got \(0, 4, 4\)"):
        any_flow.log_prob(torch.zeros(0, 4, 4))


def test_refuses_what_is_no_tensor_of_floats(any_flow: Any) -> None:
    z = torch.ones(2, 16, dtype=torch.float64)
    with pytest.raises(InputError, match="n = 2.0 is not a whole number"):
        any_flow.draw(2.0, torch.Generator())
    for bad, named in ((z.numpy(), "ndarray of float64"), (z.long(), "Tensor of torch.int64")):
        for function in (any_flow.push, any_flow.inverse, any_flow.log_prob):
            with pytest.raises(InputError, match=f"torch tensor of floats, got {named}"):
                function(bad)


@pytest.mark.parametrize("name", sorted(checkpoint.shipped()))
def test_shipped_flows_keep_the_laws(name: str) -> None:
    loaded = checkpoint.load(checkpoint.resolve(name))
    flow: Any = loaded.flow
    z = _z(flow, 64)
    with torch.no_grad():
        phi, log_q = flow.push(z)
    back, log_q_back = flow.inverse(phi)
    torch.testing.assert_close(back.flatten(1), z.flatten(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(log_q_back, log_q, rtol=0, atol=1e-4)
    for symmetry in flow.symmetries:
        for image in _images(symmetry, phi):
            # conditioners are float32, and sum in another order for an image
            torch.testing.assert_close(flow.log_prob(image), log_q_back, rtol=0, atol=1e-4)
    if loaded.action == ACTION and flow.shape == (4, 4):
        phi, log_q = flow.sample(4096, torch.Generator().manual_seed(5))
        loss = log_q + ACTION(phi)
        assert float(loss.mean()) > -LOG_Z - 4.0 * float(loss.std()) / math.sqrt(len(loss))
