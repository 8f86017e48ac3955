"""One read per product, reused for log J: what keeps the rule passes, what breaks it is refused,
and breaking it on purpose is a bias that can be seen."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rram_host import open_board
from rram_host.analog.deploy import analog_model
from rram_host.analog.exactness import check_density
from rram_host.analog.tape import Tape
from rram_host.errors import UnsafeDensityError
from rram_host.experiments import sample_lattice as lattice
from rram_host.flows import checkpoint
from rram_host.flows.coupling import CouplingFlow
from rram_host.lattice.exact import exact_4x4
from rram_host.lattice.reweighting import log_z
from sim import EmulatedBoard

PLAN = lattice.SamplePlan(n=8192, batch=8192, lora_steps=0)


class NoisyBase(nn.Module):
    """A product with heavy, state-dependent read noise: 5 % of the output and 0.02 besides."""

    def __init__(self, weight: Tensor, generator: torch.Generator, tape: Tape, name: str) -> None:
        super().__init__()
        self._weight, self._generator, self._tape, self._name = weight, generator, tape, name

    def forward(self, x: Tensor) -> Tensor:
        def measure() -> Tensor:
            y = (x @ self._weight.T.to(x.dtype)).detach()
            noise = torch.randn(y.shape, generator=self._generator, dtype=y.dtype)
            return y + (0.05 * y.abs() + 0.02) * noise

        return self._tape.read(self._name, measure)


class SecondRead(CouplingFlow):
    """Breaks the rule: log J from a second pass, so from second reads."""

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        phi, _ = super().push(z)
        _, log_q = super().push(z)
        return phi, log_q


class IdealJacobian(CouplingFlow):
    """Breaks the rule: log J from the ideal weights."""

    ideal: CouplingFlow

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        phi, _ = super().push(z)
        return phi, self.ideal.push(z)[1]


def _noisy(kind: type[CouplingFlow], seed: int = 0) -> tuple[CouplingFlow, Tape]:
    loaded = checkpoint.load(checkpoint.resolve("phi4_L4"))
    flow = kind(loaded.flow.settings)
    flow.load_state_dict(loaded.flow.state_dict())
    if isinstance(flow, IdealJacobian):
        flow.ideal = copy.deepcopy(loaded.flow)
    tape, generator = Tape(), torch.Generator().manual_seed(seed)
    for name, product in CouplingFlow.products(flow).items():
        product.base = NoisyBase(product.weight().detach().clone(), generator, tape, name)
    return flow, tape


def _log_z(flow: CouplingFlow, n: int = 65_536) -> tuple[float, float]:
    action = checkpoint.load(checkpoint.resolve("phi4_L4")).action
    with torch.no_grad():
        phi, log_q = flow.sample(n, torch.Generator().manual_seed(5))
        return log_z((-action(phi) - log_q).numpy())


def test_heavy_read_noise_leaves_log_z_exact():
    flow, tape = _noisy(CouplingFlow)
    assert check_density(flow, tape, (4, 4), seed=1) < 1e-5
    value, error = _log_z(flow)
    assert error < 0.02
    # 3 standard errors: one test at a fixed seed.
    assert abs(value - exact_4x4(5.5).log_z) < 3 * error


@pytest.mark.parametrize("kind", [SecondRead, IdealJacobian])
def test_a_model_that_breaks_the_rule_is_refused_and_would_be_wrong(kind):
    flow, tape = _noisy(kind)
    with pytest.raises(UnsafeDensityError, match="log q differs|do not give the same"):
        check_density(flow, tape, (4, 4), seed=1)
    value, error = _log_z(flow)
    assert abs(value - exact_4x4(5.5).log_z) > 5 * error


def test_a_model_that_reads_nothing_is_refused():
    loaded = checkpoint.load(checkpoint.resolve("phi4_L4"))
    with pytest.raises(UnsafeDensityError, match="without reading"):
        check_density(loaded.flow, Tape(), (4, 4), seed=1)


def test_a_model_moved_by_something_else_than_draws_and_reads_is_refused():
    class Wandering(CouplingFlow):
        def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
            phi, log_q = super().push(z)
            return phi + 1e-3 * torch.rand(()), log_q

    flow, tape = _noisy(Wandering)
    with pytest.raises(UnsafeDensityError, match="something other"):
        check_density(flow, tape, (4, 4), seed=1)


def test_the_tape_refuses_another_order_of_reads():
    tape = Tape()
    with tape.recording():
        tape.read("a", lambda: torch.zeros(1))
    with tape.replaying(), pytest.raises(UnsafeDensityError, match="'b' as read 0"):
        tape.read("b", lambda: torch.zeros(1))


@pytest.fixture(scope="module")
def on_array():
    loaded = checkpoint.load(checkpoint.resolve("phi4_L4"))
    with open_board(EmulatedBoard(preset="taox_180nm", seed=2)) as board:
        deployment = lattice.program_flow(board, loaded, PLAN)
        yield loaded, deployment


def test_on_the_array_log_z_is_exact_with_read_noise_on(on_array):
    loaded, deployment = on_array
    deployed = lattice.deploy(lattice.compensate(loaded, deployment, PLAN), deployment, PLAN)
    assert deployed.density_error_nats < 1e-5
    draws = lattice.collect(lattice.draw(deployed.flow, loaded.action, PLAN), PLAN)
    value, error = log_z(draws.log_w)
    assert error < 0.005
    assert abs(value - exact_4x4(5.5).log_z) < 3 * error
    again = lattice.collect(lattice.draw(deployed.flow, loaded.action, PLAN), PLAN)
    assert not np.array_equal(again.phi, draws.phi), "the same draws are read with fresh noise"


def test_the_sampler_refuses_a_deployed_model_that_breaks_the_rule(on_array):
    loaded, deployment = on_array
    broken = SecondRead(loaded.flow.settings)
    broken.load_state_dict(loaded.flow.state_dict())
    with pytest.raises(UnsafeDensityError, match="log J must use the one read"):
        lattice.deploy(broken, deployment, PLAN)


class HonestPushOnly(CouplingFlow):
    """Its push is exact; its sample, which nothing checks, takes log q from the ideal weights."""

    ideal: CouplingFlow

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        z = self.draw(n, generator)
        with torch.no_grad():
            return self.push(z)[0], self.ideal.push(z)[1]


def test_draws_come_from_the_method_that_was_checked(on_array):
    loaded, deployment = on_array
    model = HonestPushOnly(loaded.flow.settings)
    model.load_state_dict(loaded.flow.state_dict())
    model.ideal = copy.deepcopy(loaded.flow)
    deployed = lattice.deploy(model, deployment, PLAN)
    draws = lattice.collect(lattice.draw(deployed.flow, loaded.action, PLAN), PLAN)
    value, error = log_z(draws.log_w)
    assert abs(value - exact_4x4(5.5).log_z) < 3 * error


def test_every_product_is_read_once_per_coupling_step(on_array):
    loaded, deployment = on_array
    flow, _, tape = analog_model(
        loaded.flow,
        CouplingFlow.products,
        deployment,
        lambda m: m.sample(16, torch.Generator().manual_seed(0)),
    )
    with tape.recording():
        flow.sample(8, torch.Generator().manual_seed(1))
    assert [name for name, _ in tape.reads] == ["w1", "wt", "ws"] * flow.settings.steps
