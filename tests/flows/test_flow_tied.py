"""Matrices tied by the symmetries of the lattice."""

import copy
from collections.abc import Callable

import pytest
import torch

from rram_host.errors import InputError
from rram_host.flows.coupling import CouplingFlow, FlowSettings
from rram_host.flows.descent import noisy
from rram_host.flows.path_gradient import push_with_score


def _tied(shape: tuple[int, int] = (4, 4), channels: int = 2) -> CouplingFlow:
    half = shape[0] * shape[1] // 2
    settings = FlowSettings(
        shape=shape, hidden=channels * half, channels=channels, tied=True, steps=3, lora_rank=0
    )
    flow = CouplingFlow(settings).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in flow.parameters():
            p += 0.2 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return flow


def _rotated(t: torch.Tensor) -> torch.Tensor:
    # a quarter turn about site (0, 0): (i, j) -> (j, -i), which keeps the colours
    return t.transpose(1, 2).flip(1).roll(1, 1)


_MOVES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "diagonal": lambda t: t.roll((1, 1), (1, 2)),
    "two along": lambda t: t.roll(2, 2),
    "mirror": lambda t: t.flip(1).roll(1, 1),
    "transposition": lambda t: t.transpose(1, 2),
    "quarter turn": _rotated,
}


@pytest.mark.parametrize("move", _MOVES)
@pytest.mark.parametrize("size", [4, 6])
def test_density_has_the_symmetries_of_the_colours(move: str, size: int) -> None:
    flow = _tied((size, size))
    assert flow.symmetries == {"z2", "even translations", "d4"}
    z = flow.draw(5, torch.Generator().manual_seed(1)).reshape(-1, size, size)
    phi, log_q = flow.push(z)
    moved, log_q_moved = flow.push(_MOVES[move](z))
    torch.testing.assert_close(moved, _MOVES[move](phi))
    torch.testing.assert_close(log_q_moved, log_q)
    assert float((flow.push(z.roll(1, 1))[0] - phi.roll(1, 1)).detach().abs().max()) > 1e-3


def test_rectangular_lattice_has_no_exchange_of_axes() -> None:
    flow = _tied((4, 6), channels=1)
    z = flow.draw(5, torch.Generator().manual_seed(1)).reshape(-1, 4, 6)
    phi, log_q = flow.push(z)
    back, again = flow.inverse(phi.detach())
    torch.testing.assert_close(back.reshape(-1, 4, 6), z)
    torch.testing.assert_close(again, log_q.detach())
    moved, _ = flow.push(z.roll((1, 1), (1, 2)))
    torch.testing.assert_close(moved, phi.roll((1, 1), (1, 2)))


def test_untied_is_the_same_flow() -> None:
    flow = _tied()
    free = flow.untied()
    z = flow.draw(5, torch.Generator().manual_seed(2))
    torch.testing.assert_close(free.push(z), flow.push(z))
    with pytest.raises(InputError, match="tied"):
        flow.w1.set_weight_(free.w1.weight())
    with pytest.raises(InputError, match=r"\(16, 8\)"):
        free.w1.set_weight_(free.wt.weight())


def test_balance_changes_kernels_and_not_the_flow() -> None:
    flow = _tied()
    z = flow.draw(5, torch.Generator().manual_seed(2))
    before = flow.push(z)
    flow.balance()
    torch.testing.assert_close(flow.push(z), before)
    for product in flow.products().values():
        kernel = product.base.kernel
        torch.testing.assert_close(kernel.detach().abs().amax(1), torch.ones(2).double())


def test_noise_reaches_every_weight_alone_and_goes_again() -> None:
    flow, generator = _tied(), torch.Generator().manual_seed(3)
    products = [(product, flow.noise_axes()[name]) for name, product in flow.products().items()]
    clean = copy.deepcopy(flow)
    z = flow.draw(4, generator)
    with noisy(products, 0.1, generator):
        change = flow.w1.weight() - clean.w1.weight()
        assert len(change.detach().unique()) == change.numel()
        phi, _, log_q = push_with_score(flow, z)
        torch.testing.assert_close(flow.push(z), (phi, log_q))
        phi.sum().backward()
    assert float(flow.w1.base.kernel.grad.abs().min()) > 0.0
    torch.testing.assert_close(flow.push(z), clean.push(z), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"hidden": 12, "channels": 5}, "divide"),
        ({"hidden": 12, "channels": 2, "tied": True}, "channels x V/2"),
        ({"channels": -1}, "divide"),
    ],
)
def test_settings_refuse_what_cannot_be_tied(bad: dict[str, int], word: str) -> None:
    with pytest.raises(InputError, match=word):
        FlowSettings(**bad)  # type: ignore[arg-type]
