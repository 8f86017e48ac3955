"""Hybrid Monte Carlo against exact values, and the integrator's laws."""

import pytest
import torch

from rram_host.errors import InputError
from rram_host.lattice import hmc
from rram_host.lattice.actions import Phi4Action
from rram_host.lattice.autocorrelation import mean_and_error
from rram_host.lattice.exact import EXACT_M2, exact_4x4
from rram_host.lattice.hmc import HmcSettings, run_hmc
from rram_host.lattice.observables import measure


@pytest.fixture(scope="module")
def run() -> hmc.HmcResult:
    settings = HmcSettings(chains=256, trajectories=400, thermalisation=100)
    action = Phi4Action(EXACT_M2, 5.5)
    return run_hmc(action, (4, 4), settings, torch.Generator().manual_seed(11))


@pytest.mark.parametrize("name", ["absM", "chi2", "E", "phi2", "G0", "G1", "G2", "M"])
def test_expectation_values_are_exact(run: hmc.HmcResult, name: str) -> None:
    chains, n = run.phi.shape[:2]
    values = measure(run.phi.flatten(0, 1))
    key = name if name in values else "G"
    series = values[key] if key == name else values["G"][:, int(name[1])]
    found = mean_and_error(series.reshape(chains, n).numpy())
    exact = exact_4x4(5.5)
    expected = {
        "absM": exact.abs_m,
        "chi2": exact.chi2,
        "E": exact.energy,
        "phi2": exact.phi2,
        "M": 0.0,
        **{f"G{t}": value for t, value in enumerate(exact.g)},
    }[name]
    # 3 standard errors: 8 strongly correlated values at one fixed seed
    assert abs(found.mean - expected) < 3 * found.error
    assert found.error < 0.01 * max(expected, 0.3)


def test_acceptance_is_in_the_useful_range(run: hmc.HmcResult) -> None:
    assert 0.7 < run.acceptance < 0.9


def test_energy_error_is_second_order_and_the_map_reverses() -> None:
    action = Phi4Action(-4.0, 5.5)
    generator = torch.Generator().manual_seed(1)
    phi = 0.5 * torch.randn(8, 4, 4, generator=generator, dtype=torch.float64)
    momentum = torch.randn(8, 4, 4, generator=generator, dtype=torch.float64)

    def energy(x: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return action(x) + 0.5 * (p * p).sum((1, 2))

    errors = []
    for steps in (20, 40):
        step = torch.tensor(1.0 / steps, dtype=torch.float64)
        x, p = hmc._integrate(action, phi, momentum, step, steps)
        errors.append(float((energy(x, p) - energy(phi, momentum)).abs().mean()))
        back, _ = hmc._integrate(action, x, -p, step, steps)
        torch.testing.assert_close(back, phi, rtol=0, atol=1e-11)
    # halving the step of a second-order integrator divides the error by 4
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.15)


def test_same_generator_same_chain_and_progress_is_told() -> None:
    settings = HmcSettings(chains=2, trajectories=3, thermalisation=1)
    told: list[tuple[int, int]] = []
    runs = [
        run_hmc(
            Phi4Action(-4.0, 5.0),
            (4, 6),
            settings,
            torch.Generator().manual_seed(3),
            lambda done, total: told.append((done, total)),
        )
        for _ in range(2)
    ]
    assert torch.equal(runs[0].phi, runs[1].phi)
    assert runs[0].phi.shape == (2, 3, 4, 6)
    assert told[:4] == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    "bad",
    [
        {"chains": 0},
        {"trajectories": 0},
        {"thermalisation": -1},
        {"step": 0.0},
        {"steps": 0},
        {"jitter": 1.0},
        {"start_width": -1.0},
    ],
)
def test_settings_refuse_what_cannot_run(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        HmcSettings(**bad)  # type: ignore[arg-type]


def test_refuses_an_empty_lattice() -> None:
    with pytest.raises(InputError, match="two lengths"):
        run_hmc(Phi4Action(-4.0, 5.0), (0, 4), HmcSettings(), torch.Generator())
