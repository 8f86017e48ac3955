"""One read per product, reused for log J: what keeps the rule passes, what breaks it is refused,
and breaking it on purpose is a bias that can be seen."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rram_host import open_board
from rram_host.analog.deploy import analog_model, engine_of
from rram_host.analog.exactness import check_density
from rram_host.analog.tape import Tape
from rram_host.errors import UnsafeDensityError
from rram_host.experiments import sample_lattice as lattice
from rram_host.experiments.deploy_flow import compensate, deploy, program_flow
from rram_host.flows import checkpoint
from rram_host.flows.coupling import CouplingFlow, FlowSettings
from rram_host.flows.mixer import MixerFlow, MixerSettings
from rram_host.flows.product import AdaptedLinear
from rram_host.flows.realnvp import RealNvpFlow, RealNvpSettings
from rram_host.lattice.exact import exact_4x4
from rram_host.lattice.reweighting import log_z
from sim import EmulatedBoard
from tests.analog.noisy import IdealJacobian, SecondRead, Wrapped, noisy, randomised

PLAN = lattice.SamplePlan(n=8192, batch=8192, lora_steps=0)


def _loaded():
    return checkpoint.load(checkpoint.resolve("phi4_L4"))


def _log_w(flow, action, n):
    with torch.no_grad():
        phi, log_q = flow.push(flow.draw(n, torch.Generator().manual_seed(5)))
        return phi, (-action(phi) - log_q).numpy()


def _bias(broken, action, log_z_exact: float, n: int) -> tuple[float, float]:
    """Relative bias of Z, E[w] / Z - 1, and its standard error.

    The honest weights of the same fields have the mean Z, so the difference of the two is measured:
    most of their spread is common.
    """
    with torch.no_grad():
        phi, log_q = broken.push(broken.draw(n, torch.Generator().manual_seed(5)))
        log_p = -action(phi) - log_z_exact
        excess = (log_p - log_q).exp() - (log_p - broken.honest).exp()
    return float(excess.mean()), float(excess.std()) / math.sqrt(n)


# ---- phi^4, whose Z is known ----------------------------------------------------------------


def _phi2(phi: Tensor, log_w: np.ndarray) -> tuple[float, float]:
    """<phi^2> by weights, with its standard error (delta method of a ratio)."""
    weights = np.exp(log_w - log_w.max())
    values = (phi * phi).mean((1, 2)).numpy()
    mean = float((weights * values).sum() / weights.sum())
    spread = weights * (values - mean)
    return mean, float(np.sqrt((spread**2).sum()) / weights.sum())


def test_heavy_read_noise_leaves_log_z_and_observables_exact():
    loaded = _loaded()
    flow, tape = noisy(loaded.flow)
    assert check_density(flow, tape, seed=1) < 1e-5
    phi, log_w = _log_w(flow, loaded.action, 65_536)
    (value, error), (phi2, phi2_error) = log_z(log_w), _phi2(phi, log_w)
    assert error < 0.02 and phi2_error < 0.002
    # 3 standard errors: one test at a fixed seed.
    assert abs(value - exact_4x4(5.5).log_z) < 3 * error
    assert abs(phi2 - exact_4x4(5.5).phi2) < 3 * phi2_error


@pytest.mark.parametrize("kind", [SecondRead, IdealJacobian])
def test_a_model_that_breaks_the_rule_is_refused_and_would_be_wrong(kind):
    loaded = _loaded()
    flow, tape = noisy(loaded.flow)
    broken = kind(flow, copy.deepcopy(loaded.flow))
    with pytest.raises(UnsafeDensityError, match="log q differs|do not give the same"):
        check_density(broken, tape, seed=1)
    bias, error = _bias(broken, loaded.action, exact_4x4(5.5).log_z, 65_536)
    assert abs(bias) > 5 * error


# ---- every kind with an exact density -------------------------------------------------------

KINDS = {
    "anf": lambda: CouplingFlow(FlowSettings(shape=(4, 4), hidden=16, steps=6)),
    "mixer": lambda: MixerFlow(
        MixerSettings(shape=(4, 4), patch=2, dim=4, hidden=4, blocks=1, steps=4, lora_rank=1)
    ),
    "realnvp": lambda: RealNvpFlow(
        RealNvpSettings(shape=(4, 4), steps=4, hidden=(4,), lora_rank=1)
    ),
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_stays_unbiased_under_heavy_read_noise(kind):
    ideal = randomised(KINDS[kind](), 0.1)
    flow, tape = noisy(ideal)
    assert check_density(flow, tape, seed=1) < 1e-5

    # What is sampled is the density of the noise-free flow itself: normalised, so log Z = 0.
    def action(phi: Tensor) -> Tensor:
        return -ideal.log_prob(phi)

    phi, log_w = _log_w(flow, action, 16_384)
    (value, error), (phi2, phi2_error) = log_z(log_w), _phi2(phi, log_w)
    direct = (ideal.sample(16_384, torch.Generator().manual_seed(9))[0] ** 2).mean((1, 2))
    wanted, wanted_error = float(direct.mean()), float(direct.std()) / math.sqrt(16_384)
    # 3 standard errors each: two numbers a kind at fixed seeds.
    assert 0.001 < error < 0.05 and abs(value) < 3 * error
    assert abs(phi2 - wanted) < 3 * math.hypot(phi2_error, wanted_error)
    bias, bias_error = _bias(SecondRead(flow, ideal), action, 0.0, 16_384)
    assert bias > 5 * bias_error


# ---- what the check refuses -----------------------------------------------------------------


def test_a_model_that_reads_nothing_is_refused():
    with pytest.raises(UnsafeDensityError, match="without reading"):
        check_density(_loaded().flow, Tape(), seed=1)


def test_a_model_moved_by_something_else_than_draws_and_reads_is_refused():
    class Wandering(Wrapped):
        def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
            phi, log_q = self.flow.push(z)
            return phi + 1e-3 * torch.rand(()), log_q

    flow, tape = noisy(_loaded().flow)
    with pytest.raises(UnsafeDensityError, match="something other"):
        check_density(Wandering(flow, None), tape, seed=1)


class Residual(nn.Module):
    """Phi = z + 0.1 W z: no coupling. With reads held fixed its Jacobian looks like one."""

    def __init__(self) -> None:
        super().__init__()
        self.product = AdaptedLinear(4, 4, 0)

    def products(self) -> dict[str, AdaptedLinear]:
        return {"w": self.product}

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, 4, generator=generator, dtype=torch.float64)

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        log_prior = -0.5 * (z * z).sum(1) - 2 * math.log(2 * math.pi)
        return (z + 0.1 * self.product(z.float())).double().reshape(-1, 2, 2), log_prior


def test_a_model_that_moves_a_site_by_what_was_read_of_itself_is_refused():
    flow, tape = noisy(Residual())
    with pytest.raises(UnsafeDensityError, match="read of itself"):
        check_density(flow, tape, seed=1)


def test_the_tape_refuses_another_order_of_reads():
    tape, x = Tape(), torch.zeros(1, 1)
    with tape.recording():
        tape.read("a", x, lambda: torch.zeros(1, 1))
    with tape.replaying(), pytest.raises(UnsafeDensityError, match="'b' as read 0"):
        tape.read("b", x, lambda: torch.zeros(1, 1))


# ---- on an emulated board -------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_array():
    loaded = _loaded()
    with open_board(EmulatedBoard(preset="taox_180nm", seed=2)) as board:
        yield loaded, program_flow([board], loaded, PLAN)


def test_on_the_array_log_z_is_exact_with_read_noise_on(on_array):
    loaded, deployments = on_array
    deployed = deploy(compensate(loaded, deployments, PLAN), deployments, PLAN)
    assert deployed.density_error_nats < 1e-5
    draws = lattice.collect(lattice.draw(deployed.flow, loaded.action, PLAN), PLAN)
    value, error = log_z(draws.log_w)
    assert error < 0.005
    assert abs(value - exact_4x4(5.5).log_z) < 3 * error
    again = lattice.collect(lattice.draw(deployed.flow, loaded.action, PLAN), PLAN)
    assert not np.array_equal(again.phi, draws.phi), "the same draws are read with fresh noise"


def test_the_sampler_refuses_a_deployed_model_that_breaks_the_rule(on_array):
    loaded, deployments = on_array
    with pytest.raises(UnsafeDensityError, match="log J must use the one read"):
        deploy(SecondRead(copy.deepcopy(loaded.flow), None), deployments, PLAN)


class HonestPushOnly(CouplingFlow):
    """Its push is exact; its sample, which nothing checks, takes log q from the ideal weights."""

    ideal: CouplingFlow

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        z = self.draw(n, generator)
        with torch.no_grad():
            return self.push(z)[0], self.ideal.push(z)[1]


def test_draws_come_from_the_method_that_was_checked(on_array):
    loaded, deployments = on_array
    model = HonestPushOnly(loaded.flow.settings)
    model.load_state_dict(loaded.flow.state_dict())
    model.ideal = copy.deepcopy(loaded.flow)
    deployed = deploy(model, deployments, replace(PLAN, seed=8))
    draws = lattice.collect(lattice.draw(deployed.flow, loaded.action, PLAN), PLAN)
    value, error = log_z(draws.log_w)
    assert abs(value - exact_4x4(5.5).log_z) < 3 * error


def test_every_product_is_read_once_per_coupling_step(on_array):
    loaded, deployments = on_array
    flow, tape = analog_model(
        loaded.flow,
        engine_of(deployments),
        lambda m: m.sample(16, torch.Generator().manual_seed(0)),
    )
    with tape.recording():
        flow.sample(8, torch.Generator().manual_seed(1))
    assert [name for name, _ in tape.reads] == ["w1", "wt", "ws"] * flow.settings.steps
