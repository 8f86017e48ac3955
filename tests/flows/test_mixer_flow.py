"""Laws of the mixer flow, on flows with arbitrary parameters and statistics."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rram_host.analog.products import mixer_products
from rram_host.errors import InputError
from rram_host.flows.mixer import MixerFlow, MixerSettings
from rram_host.flows.mixer.layout import PatchLayout
from rram_host.flows.protocol import Flow
from rram_host.lattice.actions import Phi4Action
from rram_host.lattice.reweighting import log_z

SHAPES = [((6, 6), 3), ((4, 4), 2), ((4, 6), 2), ((2, 6), 1)]


def _flow(shape: tuple[int, int] = (6, 6), patch: int = 3, seed: int = 0) -> MixerFlow:
    """Every parameter and statistic away from its start, so that no term is switched off."""
    settings = MixerSettings(
        shape=shape, patch=patch, dim=5, hidden=6, blocks=2, steps=4, lora_rank=1, prior_width=0.7
    )
    flow = MixerFlow(settings).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype), alpha=0.2)
        for norm in flow.net.norms():
            norm.mean.normal_(0.0, 0.3, generator=generator)
            norm.variance.uniform_(0.5, 2.0, generator=generator)
    return flow


def _z(flow: MixerFlow, n: int, seed: int = 7) -> Tensor:
    return flow.draw(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("shape", "patch"), [*SHAPES, ((12, 12), 3)])
def test_layout_lists_every_site_once_with_its_colour(shape: tuple[int, int], patch: int) -> None:
    layout = PatchLayout.of(shape, patch)
    n0, n1 = layout.sites // shape[1], layout.sites % shape[1]
    assert sorted(layout.sites.flatten().tolist()) == list(range(shape[0] * shape[1]))
    assert ((n0 + n1) % 2 == torch.tensor([[0], [1]])).all()
    cols = shape[1] // patch
    assert torch.equal(n0 // patch * cols + n1 // patch, layout.entries // patch**2)
    assert torch.equal(n0 % patch * patch + n1 % patch, layout.entries % patch**2)


@pytest.mark.parametrize(("shape", "patch"), SHAPES)
def test_folded_is_the_network(shape: tuple[int, int], patch: int) -> None:
    flow = _flow(shape, patch)
    z = _z(flow, 600)  # more than one part
    expected = flow.push(z)  # with gradients, through every product
    with torch.no_grad():
        found = flow.push(z)
    for one, other in zip(found, expected, strict=True):
        # random weights stretch the odd field to hundreds, and rounding with it
        torch.testing.assert_close(one, other.detach(), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize(("shape", "patch"), SHAPES)
def test_inverse_undoes_push(shape: tuple[int, int], patch: int) -> None:
    flow = _flow(shape, patch)
    z = _z(flow, 32)
    phi, log_q = flow.sample(32, torch.Generator().manual_seed(7))
    assert phi.shape == (32, *shape)
    back, log_q_back = flow.inverse(phi)
    torch.testing.assert_close(back, z, rtol=0, atol=1e-11)
    torch.testing.assert_close(log_q_back, log_q, rtol=0, atol=1e-11)
    torch.testing.assert_close(flow.log_prob(phi), log_q, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("shape", "patch"), SHAPES)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_log_jacobian_is_autograds(
    shape: tuple[int, int], patch: int, dtype: torch.dtype, limit: float
) -> None:
    flow = _flow(shape, patch).to(dtype)
    z = _z(flow, 3)
    _, log_q = flow.push(z)
    for one, density in zip(z, log_q.detach(), strict=True):
        # fields of a batch are independent: copy i of the draw yields row i of the Jacobian
        copies = one.repeat(one.numel(), 1).requires_grad_()
        rows = flow.push(copies)[0].flatten(1).diagonal().sum()
        (jacobian,) = torch.autograd.grad(rows, copies)
        prior = -0.5 * float((one * one).sum()) - 0.5 * one.numel() * math.log(2 * math.pi)
        expected = prior - float(torch.linalg.slogdet(jacobian)[1])
        assert float(density) == pytest.approx(expected, abs=limit)


def test_density_does_not_depend_on_the_batch() -> None:
    flow = _flow()
    z = _z(flow, 64)
    with torch.no_grad():
        alone, among = flow.push(z[:3]), flow.push(z)
        published = flow.push_with_batch_statistics(z)
        published_alone = flow.push_with_batch_statistics(z[:3])
    torch.testing.assert_close(alone[1], among[1][:3], rtol=0, atol=1e-12)
    # the published way of normalising fails this very test
    assert float((published[1][:3] - published_alone[1]).abs().max()) > 0.1


def test_freezing_takes_over_the_statistics_of_one_batch() -> None:
    flow = _flow()
    flow.freeze_statistics(64, torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected = flow.push_with_batch_statistics(_z(flow, 64))
        found = flow.push(_z(flow, 64))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)
    assert all(norm.pace is None for norm in flow.net.norms())


def test_batch_statistics_leave_the_flow_alone_unless_asked() -> None:
    flow = _flow()
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    flow.push_with_batch_statistics(_z(flow, 16))
    assert all(torch.equal(before[name], value) for name, value in flow.state_dict().items())
    flow.loss(Phi4Action(-4.0, 5.5), _z(flow, 16), torch.Generator())
    norm = flow.net.pixel_norm
    assert not torch.equal(before["net.pixel_norm.mean"], norm.mean)


class _Counting(nn.Module):
    """A base that counts vectors and adds noise: neither repeatable nor differentiable."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base, self.calls, self.vectors = base, 0, 0
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        self.calls, self.vectors = self.calls + 1, self.vectors + len(x)
        y: Tensor = self.base(x).detach()
        return y + 0.1 * torch.randn(y.shape, generator=self.generator, dtype=y.dtype)


@pytest.mark.parametrize("all_sites", [False, True])
def test_products_are_read_once_a_step_and_counted(all_sites: bool) -> None:
    flow = _flow()
    bases = {}
    for name, product in flow.products().items():
        product.base = bases[name] = _Counting(product.base)
    with torch.no_grad():
        push = flow.push_with_batch_statistics if all_sites else flow.push
        _, log_q = push(_z(flow, 8))
    assert bool(torch.isfinite(log_q).all())
    counts = mixer_products(flow.settings, all_sites=all_sites)
    assert {base.calls for base in bases.values()} == {flow.settings.steps}
    assert {name: base.vectors for name, base in bases.items()} == {
        count.name: 8 * count.calls for count in counts
    }
    for count in counts:
        product = flow.products()[count.name]
        size = (product.out_features, product.in_features, product.rank)
        assert (count.outputs, count.inputs, count.rank) == size


def test_training_lowers_the_loss_and_keeps_the_density() -> None:
    settings = MixerSettings(
        shape=(4, 4), patch=2, dim=8, hidden=8, blocks=1, steps=2, lora_rank=0, prior_width=0.5
    )
    flow, action = MixerFlow(settings), Phi4Action(-4.0, 5.5)
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(flow.parameters(), lr=2e-2)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss, log_w = flow.loss(action, flow.draw(64, generator), generator)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(-float(log_w.mean()))
    assert losses[-1] < losses[0] - 0.3
    flow.freeze_statistics(1024, generator)
    phi, log_q = flow.sample(4096, generator)
    log_w = -action(phi) - log_q
    exact = 4.8694903  # transfer matrix, lambda = 5.5
    error = float(log_w.std()) / math.sqrt(len(log_w))
    assert float(log_w.mean()) <= exact + 3 * error  # Jensen: never above log Z
    value, spread = log_z(log_w.numpy())
    assert value == pytest.approx(exact, abs=4 * spread)


def test_untrained_flow_is_its_prior() -> None:
    flow = MixerFlow(MixerSettings(shape=(6, 6), dim=4, hidden=4, prior_width=0.5))
    assert isinstance(flow, Flow)
    assert (flow.kind, flow.shape, flow.exact_density) == ("mixer", (6, 6), True)
    z = _z(flow, 5)
    phi, _ = flow.push(z)
    torch.testing.assert_close(phi.detach().flatten(1), 0.5 * z, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (4, 4)}, "cannot be cut into patches of 3 x 3"),
        ({"shape": (9, 9)}, "even lengths"),
        ({"steps": 1}, "steps must be >= 2"),
        ({"dim": 0}, "dim must be >= 1"),
        ({"lora_rank": 17}, r"0\.\.16"),
        ({"prior_width": 0.0}, "prior_width"),
    ],
)
def test_bad_settings(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MixerSettings(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda f: f.push(torch.zeros(2, 4, 4)), r"\(n, 6, 6\)"),
        (lambda f: f.sample(0, torch.Generator()), "at least 1"),
        (lambda f: f.freeze_statistics(1, torch.Generator()), "at least 2"),
        (lambda f: f.inverse(torch.full((1, 6, 6), math.nan)), "not finite"),
    ],
)
def test_bad_input(act: Callable[[MixerFlow], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        act(_flow())
