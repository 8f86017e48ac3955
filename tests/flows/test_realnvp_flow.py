"""The realNVP baseline; what it shares with every flow is in test_flow_laws.py."""

from typing import Any

import pytest
import torch
from torch import nn

from rram_host.errors import InputError
from rram_host.flows.realnvp import RealNvpFlow, RealNvpSettings
from rram_host.flows.realnvp.presets import PRESETS


def _moved(settings: RealNvpSettings) -> RealNvpFlow:
    flow = RealNvpFlow(settings).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in flow.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter += 0.1 * noise
    return flow


@pytest.mark.parametrize("shape", [(2, 2), (4, 6)])
def test_inverse_is_exact_on_any_even_lattice(shape: tuple[int, int]) -> None:
    flow = _moved(RealNvpSettings(shape, steps=4, hidden=(4,)))
    z = flow.draw(20, torch.Generator().manual_seed(0))
    with torch.no_grad():
        phi, log_q = flow.push(z)
    back, log_q_back = flow.inverse(phi)
    torch.testing.assert_close(back, z, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_q_back, log_q, rtol=0, atol=1e-12)


def test_a_step_moves_one_colour_and_reads_the_other() -> None:
    flow = _moved(RealNvpSettings(steps=2, hidden=(4,)))
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    colour = flow.colour.bool()
    for step, active in ((0, colour), (1, ~colour)):
        touched = x + active * 1.0
        before, after = flow.scale_and_shift(step, x), flow.scale_and_shift(step, touched)
        for a, b in zip(before, after, strict=True):
            assert torch.equal(a, b)
            assert float(a[:, ~active].detach().abs().max()) == 0.0
            assert float(a[:, active].detach().abs().max()) > 0.0


def test_untrained_flow_is_its_prior_and_depends_on_its_seed_alone() -> None:
    state = torch.random.get_rng_state()
    one, two = (RealNvpFlow(RealNvpSettings(seed=5)) for _ in range(2))
    other = RealNvpFlow(RealNvpSettings(seed=6))
    assert torch.equal(torch.random.get_rng_state(), state)
    name = "networks.0.layers.0.base.weight"
    assert torch.equal(one.state_dict()[name], two.state_dict()[name])
    assert not torch.equal(one.state_dict()[name], other.state_dict()[name])
    z = one.draw(5, torch.Generator().manual_seed(0))
    assert torch.equal(one.push(z)[0].flatten(1), z)


def test_products_are_every_convolution() -> None:
    flow = RealNvpFlow(RealNvpSettings(steps=3, hidden=(4, 5)))
    shapes = [tuple(product.weight().shape) for product in flow.products().values()]
    assert shapes == [(4, 9), (5, 36), (2, 45)] * 3


@pytest.mark.parametrize(
    "bad",
    [
        {"shape": (3, 4)},
        {"steps": 1},
        {"hidden": ()},
        {"hidden": (8, 0)},
        {"kernel": 2},
        {"kernel": 11},
        {"lora_rank": -1},
    ],
)
def test_settings_refuse_what_cannot_be_built(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        RealNvpSettings(**bad)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_build(name: str) -> None:
    assert isinstance(PRESETS[name].build(), RealNvpFlow)


def test_a_layer_is_torchs_circular_convolution() -> None:
    flow = _moved(RealNvpSettings((4, 6), steps=2, hidden=(3,)))
    network: Any = flow.networks[0]
    x = torch.randn(5, 1, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x
    for place, (product, bias) in enumerate(zip(network.products(), network.biases, strict=True)):
        if place:
            y = nn.functional.leaky_relu(y)
        w = product.weight().reshape(len(bias), 3, 3, -1).permute(0, 3, 1, 2)
        y = nn.functional.conv2d(nn.functional.pad(y, (1, 1, 1, 1), mode="circular"), w, bias)
    expected = y.flatten(2).transpose(1, 2)
    torch.testing.assert_close(network(x.flatten(1)), expected)
