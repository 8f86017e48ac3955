"""Every sampler against exact values: phi^4 on 4 x 4, the free field on rectangles."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from rram_host.lattice.actions import Action, GrapheneAction, Phi4Action
from rram_host.lattice.autocorrelation import MeanError, mean_and_error
from rram_host.lattice.exact import EXACT_M2, exact_4x4
from rram_host.lattice.samplers import SAMPLERS, SamplerRun, run_sampler, tuned
from rram_host.lattice.samplers.local_form import PERIOD
from rram_host.lattice.transfer_matrix import exact_values

REFERENCE = Path(__file__).parents[2] / "../shared/data/reference.json"


def sampled(name: str, action: Action, shape: tuple[int, int], **lengths: int) -> SamplerRun:
    settings = dataclasses.replace(tuned(name, action, shape), **lengths)
    return run_sampler(name, action, shape, settings, seed=5)


def estimates(run: SamplerRun) -> dict[str, MeanError]:
    phi = run.phi
    m = phi.mean((2, 3))
    ahead = np.roll(phi, -1, 2) + np.roll(phi, -1, 3)
    series = {
        "M": m,
        "absM": np.abs(m),
        "chi2": phi[0, 0].size * m * m,
        "E": 0.5 * (phi * ahead).mean((2, 3)),
        "phi2": (phi * phi).mean((2, 3)),
    }
    return {name: mean_and_error(values) for name, values in series.items()}


# Kept configurations a chain of 64, and updates between them, for errors under 0.5 %.
LENGTHS = {
    "hmc": {"kept": 1500},
    "fourier-hmc": {"kept": 1500},
    "metropolis": {"kept": 1600},
    "wolff": {"kept": 3500},
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_phi4_on_4x4_is_exact(name: str) -> None:
    run = sampled(name, Phi4Action(EXACT_M2, 5.5), (4, 4), **LENGTHS[name])
    exact = exact_4x4(5.5)
    expected = {"absM": exact.abs_m, "chi2": exact.chi2, "E": exact.energy, "phi2": exact.phi2}
    found = estimates(run)
    for key, value in expected.items():
        # 3 standard errors: four strongly correlated values at one fixed seed
        assert abs(found[key].mean - value) < 3 * found[key].error, key
    for key in ("absM", "E", "phi2"):
        assert found[key].error < 0.005 * expected[key], key
    assert found["chi2"].error < 0.008 * expected["chi2"]  # twice that of |M|, being its square
    assert abs(found["M"].mean) < 3 * found["M"].error
    assert 0.4 < run.acceptance < 0.99


@pytest.mark.parametrize("shape", [(4, 6), (3, 5), (2, 3), (1, 6)])
@pytest.mark.parametrize("name", SAMPLERS)
def test_free_field_on_rectangles_has_the_sum_over_momenta(
    name: str, shape: tuple[int, int]
) -> None:
    g = 1.5
    run = sampled(name, GrapheneAction(g, 0.0), shape, kept=600)
    k0, k1 = np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in shape), indexing="ij")
    propagator = 1.0 / (4.0 - 2.0 * np.cos(k0) - 2.0 * np.cos(k1) + g * g / math.pi)
    found = estimates(run)
    expected = {
        "chi2": math.pi / g**2,
        "phi2": propagator.mean(),
        "E": 0.5 * ((np.cos(k0) + np.cos(k1)) * propagator).mean(),
    }
    for key, value in expected.items():
        # 3.5 standard errors: 48 values, not all independent, at fixed seeds
        assert abs(found[key].mean - value) < 3.5 * found[key].error, key
        assert found[key].error < 0.03 * expected["chi2"]


def test_fourier_hmc_draws_the_free_field_independently_with_its_exact_spectrum() -> None:
    g, shape = 0.5, (6, 5)
    run = sampled("fourier-hmc", GrapheneAction(g, 0.0), shape, kept=1000)
    assert run.acceptance == 1.0
    n = run.phi.shape[0] * run.phi.shape[1]
    power = np.abs(np.fft.fft2(run.phi, norm="ortho")) ** 2
    k0, k1 = np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in shape), indexing="ij")
    ratio = power.mean((0, 1)) * (4.0 - 2.0 * np.cos(k0) - 2.0 * np.cos(k1) + g * g / math.pi)
    # |phi_k|^2 has a relative variance of 1, or of 2 where phi_k is real; 4.5 errors of 30 modes
    assert np.abs(ratio - 1.0).max() < 4.5 * math.sqrt(2.0 / n)
    for key, found in estimates(run).items():
        assert abs(found.tau - 0.5) < 4 * max(found.tau_error, 0.002), key


@pytest.mark.parametrize(
    ("g", "m", "length"),
    [(1.0, 0.2, 6), (0.5, 0.2, 6), (0.5, 0.2, 12), (1.0, 0.5, 12), (0.5, 0.5, 12), (2.0, 1.0, 6)],
)
def test_fourier_hmc_of_the_graphene_wire_forgets_within_two_trajectories(
    g: float, m: float, length: int
) -> None:
    run = sampled("fourier-hmc", GrapheneAction(g, m), (length, length), kept=300)
    found = estimates(run)
    found["cos"] = mean_and_error(np.cos(PERIOD * run.phi).mean((2, 3)))
    for key, value in found.items():
        assert value.tau - 3 * value.tau_error < 1.3, key
    assert max(value.tau_error for value in found.values()) < 0.1


def test_fourier_hmc_is_exact_where_the_mean_and_single_sites_change_wells() -> None:
    """3 x 4, g = 1, m / g = 0.6: tuned settings take both kinds of extra moves."""
    action, shape = GrapheneAction(1.0, 0.6), (3, 4)
    settings = tuned("fourier-hmc", action, shape)
    assert settings.mean_moves > 0
    assert settings.sweeps > 0
    exact = exact_values(action, shape)
    found = estimates(sampled("fourier-hmc", action, shape, kept=1500))
    expected = {"absM": exact.abs_m, "chi2": exact.chi2, "E": exact.energy, "phi2": exact.phi2}
    for key, value in expected.items():
        # 3 standard errors: four strongly correlated values at one fixed seed
        assert abs(found[key].mean - value) < 3 * found[key].error, key
        assert found[key].error < 0.03 * value, key  # the rare side wells rule chi2


@pytest.mark.parametrize(
    ("name", "key", "action", "length", "lengths"),
    [
        ("hmc", "phi4_L6_lam5.0", Phi4Action(-4.0, 5.0), 6, {"kept": 1500}),
        ("wolff", "phi4_L6_lam6.0", Phi4Action(-4.0, 6.0), 6, {"kept": 1500}),
        ("wolff", "graphene_L6_g1.0_mg0.2", GrapheneAction(1.0, 0.2), 6, {"kept": 1000}),
        ("fourier-hmc", "graphene_L6_g1.0_mg0.2", GrapheneAction(1.0, 0.2), 6, {"kept": 1000}),
        (
            "hmc",
            "graphene_L12_g0.5_mg0.2",
            GrapheneAction(0.5, 0.2),
            12,
            {"kept": 80, "thermalisation": 40},
        ),
        ("fourier-hmc", "graphene_L12_g0.5_mg0.2", GrapheneAction(0.5, 0.2), 12, {"kept": 500}),
    ],
)
def test_reference_values(
    name: str, key: str, action: Action, length: int, lengths: dict[str, int]
) -> None:
    if not REFERENCE.exists():
        pytest.skip("no ../shared/data beside this checkout")
    known = json.loads(REFERENCE.read_text())["runs"][key]
    found = estimates(sampled(name, action, (length, length), **lengths))
    for observable in ("absM", "chi2", "E"):
        value, error = known[observable]
        both = math.hypot(error, found[observable].error)
        # 3.5 standard errors of both: 18 values at fixed seeds
        assert abs(found[observable].mean - value) < 3.5 * both, observable
