"""Flows for the tests: small random ones in float64, and the shipped one."""

from collections.abc import Callable

import pytest
import torch

from rram_host.flows import checkpoint
from rram_host.flows.coupling import CouplingFlow, FlowSettings
from rram_host.flows.settings import Activation


def _random_flow(
    shape: tuple[int, int] = (4, 4),
    rank: int = 1,
    seed: int = 0,
    steps: int = 4,
    activation: Activation = "tanh",
) -> CouplingFlow:
    """A flow whose every parameter is away from its start, so that no term is switched off."""
    settings = FlowSettings(
        shape=shape,
        hidden=12,
        steps=steps,
        lora_rank=rank,
        seed=seed,
        activation=activation,
        bend=activation,
    )
    flow = CouplingFlow(settings).double()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in flow.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter += 0.15 * noise
    return flow


@pytest.fixture
def random_flow() -> Callable[..., CouplingFlow]:
    return _random_flow


@pytest.fixture
def flow() -> CouplingFlow:
    return _random_flow()


@pytest.fixture(scope="session")
def loaded() -> checkpoint.LoadedFlow:
    """The shipped 4 x 4 flow; tests that change it copy it first."""
    return checkpoint.load(checkpoint.resolve("phi4_L4"))
