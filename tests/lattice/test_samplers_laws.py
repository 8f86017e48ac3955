"""Laws of the integrators and updates, and that numba only makes them faster."""

import dataclasses
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from rram_host.lattice.actions import Action, GrapheneAction, Phi4Action
from rram_host.lattice.samplers import SAMPLERS, compiled, fourier_hmc, hmc, metropolis
from rram_host.lattice.samplers import kernels_local as kernels
from rram_host.lattice.samplers.fourier_hmc import Kernel
from rram_host.lattice.samplers.gaussian import gap_mass
from rram_host.lattice.samplers.local_form import PERIOD, classes, local_form, neighbours
from rram_host.lattice.samplers.zero_mode import move_mean

ACTIONS = [Phi4Action(-4.0, 5.5), GrapheneAction(0.8, 0.3)]
SHAPES = [(4, 4), (4, 6), (3, 5), (2, 4), (1, 4), (1, 1)]


def fields(shape: tuple[int, int], chains: int = 6, seed: int = 1) -> np.ndarray:
    return 0.5 * np.random.default_rng(seed).standard_normal((*shape, chains))


def as_torch(phi: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(phi, 2, 0)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("action", ACTIONS)
def test_local_form_is_the_action(action: Action, shape: tuple[int, int]) -> None:
    form, phi = local_form(action), fields(shape)
    work, out = np.empty_like(phi), np.empty_like(phi)
    np.testing.assert_allclose(form.action(phi, work), action(as_torch(phi)).numpy(), atol=1e-11)
    force = np.moveaxis(action.force(as_torch(phi)).numpy(), 0, 2)
    np.testing.assert_allclose(form.force(phi, out, work), force, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_two_neighbours_share_a_class_and_every_site_has_one(shape: tuple[int, int]) -> None:
    near = neighbours(shape)
    groups = classes(near)
    assert sorted(np.concatenate(groups).tolist()) == list(range(shape[0] * shape[1]))
    for sites in groups:
        assert not set(near[sites].ravel().tolist()) & set(sites.tolist())
    if all(length % 2 == 0 for length in shape):
        assert len(groups) == 2


def integrators(action: Action, shape: tuple[int, int]):
    """Both integrators as (draw momenta, move (n steps), energy), and steps that are fine."""
    form, mass = local_form(action), gap_mass(action, shape)
    kernel = Kernel(form, mass, shape)

    def move_plain(phi, momentum, steps):
        work = np.empty_like(phi), np.empty_like(phi)
        hmc.integrate(form, phi, momentum, 1.0 / steps, steps, work)

    def energy_plain(phi, momentum):
        return form.action(phi, np.empty_like(phi)) + 0.5 * (momentum**2).sum((0, 1))

    def move_fourier(phi, velocity, steps):
        fourier_hmc.integrate(form, kernel, (phi, velocity), 1.4, steps)

    def energy_fourier(phi, velocity):
        modes = kernel.transform(velocity)
        kinetic = 0.5 * (kernel.values * modes * modes).sum((0, 1))
        return form.action(phi, np.empty_like(phi)) + kinetic

    def draw(rng, chains):
        return kernel.draw(rng, chains)[0]

    yield lambda rng, n: rng.standard_normal((*shape, n)), move_plain, energy_plain, 20
    yield draw, move_fourier, energy_fourier, 24


@pytest.mark.parametrize("which", [0, 1], ids=["omelyan", "fourier"])
@pytest.mark.parametrize("action", ACTIONS)
def test_trajectories_reverse_and_their_energy_error_is_of_second_order(
    action: Action, which: int
) -> None:
    shape = (4, 6)
    draw, move, energy, steps = next(itertools.islice(integrators(action, shape), which, None))
    phi, momentum = fields(shape, 64), draw(np.random.default_rng(2), 64)
    errors = []
    for many in (steps, 2 * steps):
        x, p = phi.copy(), momentum.copy()
        move(x, p, many)
        errors.append(np.abs(energy(x, p) - energy(phi, momentum)).mean())
        p *= -1.0
        move(x, p, many)
        np.testing.assert_allclose(x, phi, rtol=0, atol=1e-10)
        np.testing.assert_allclose(-p, momentum, rtol=0, atol=1e-10)
    # halving the step of a second-order integrator divides the error by 4
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.15)


@pytest.mark.parametrize("which", [0, 1], ids=["omelyan", "fourier"])
@pytest.mark.parametrize("action", ACTIONS)
def test_mean_of_exp_minus_dh_is_one(action: Action, which: int) -> None:
    """Creutz' equality: the map keeps volume, so in equilibrium <exp(-dH)> = 1."""
    shape = (3, 4)
    settings = hmc.HmcSettings(chains=4000, kept=1, thermalisation=50)
    phi = np.ascontiguousarray(np.moveaxis(hmc.run(action, shape, settings, 3).phi[:, 0], 0, 2))
    draw, move, energy, steps = next(itertools.islice(integrators(action, shape), which, None))
    momentum = draw(np.random.default_rng(4), settings.chains)
    x, p = phi.copy(), momentum.copy()
    move(x, p, steps // 5)
    weight = np.exp(energy(phi, momentum) - energy(x, p))
    error = weight.std() / math.sqrt(weight.size)
    assert weight.std() > 0.02  # steps so coarse that something could go wrong
    assert abs(weight.mean() - 1.0) < 3 * error


def test_the_kernel_is_the_gaussian_part_of_the_action() -> None:
    action, shape = GrapheneAction(0.7, 0.0), (4, 5)
    kernel = Kernel(local_form(action), gap_mass(action, shape), shape)
    phi = fields(shape)
    work, out = np.empty_like(phi), np.empty_like(phi)
    force = local_form(action).force(phi, out, work)
    np.testing.assert_allclose(kernel.solve(force), phi, atol=1e-12)


def test_gap_mass_is_what_the_reference_runs_used() -> None:
    assert gap_mass(GrapheneAction(1.0, 0.2), (6, 6)) == pytest.approx(1.23645, abs=1e-5)
    assert gap_mass(GrapheneAction(0.5, 0.2), (24, 24)) == pytest.approx(0.28053, abs=1e-5)


@pytest.mark.parametrize("shape", [(2, 3), (1, 5), (3, 3)])
def test_clusters_alone_make_the_ising_model_of_fixed_sizes(shape: tuple[int, int]) -> None:
    """|phi| = 0.4 everywhere: all 2^V states of the signs, weighed by the bonds, are the truth."""
    size, stiffness, chains = 0.4, 2.0, 256
    near = neighbours(shape)
    volume = len(near)
    states = np.array(list(itertools.product([-1.0, 1.0], repeat=volume)))
    coupled = 0.5 * sum((states * states[:, others]).sum(1) for others in near.T)
    weight = np.exp(stiffness * size**2 * coupled)
    exact = float((weight * states.mean(1) ** 2).sum() / weight.sum())
    rng = np.random.default_rng(8)
    phi = size * np.sign(rng.standard_normal((volume, chains)))
    means = []
    for turn in range(300):
        kernels.clusters(phi, near, stiffness, 2, rng)
        if turn >= 20:
            means.append(((phi / size).mean(0) ** 2).mean())
    series = np.array(means)
    # blocks of 20 updates are independent: single clusters forget within a few
    blocks = series.reshape(-1, 20).mean(1)
    assert abs(series.mean() - exact) < 3 * blocks.std(ddof=1) / math.sqrt(blocks.size)
    assert np.allclose(np.abs(phi), size)


def test_moves_of_the_mean_alone_make_its_density_given_the_rest() -> None:
    """One field in 20 000 copies: its constant, by quadrature of exp(-S), is the truth."""
    action, shape, chains = GrapheneAction(0.6, 0.7), (3, 4), 20_000
    one = fields(shape, 1)
    phi = np.repeat(one, chains, 2)
    rng, work = np.random.default_rng(6), np.empty_like(phi)
    for _ in range(2):
        move_mean(local_form(action), phi, 20, rng, work)
    d = np.linspace(-8.0, 8.0, 4001)
    shifted = np.ascontiguousarray(one + d)
    s = local_form(action).action(shifted, np.empty_like(shifted))
    weight = np.exp(s.min() - s)
    moved = (phi - one)[0, 0]
    np.testing.assert_allclose(phi - one, np.broadcast_to(moved, phi.shape), atol=1e-12)

    def depth(x: np.ndarray) -> np.ndarray:
        return np.cos(PERIOD * x)

    for function in (np.cos, np.sin, depth, np.square):
        exact = (weight * function(d)).sum() / weight.sum()
        values = function(moved)
        # copies are independent; 40 proposals forget the start
        assert abs(values.mean() - exact) < 3 * values.std() / math.sqrt(chains), function
    assert (np.abs(moved) > 0.5 * math.sqrt(math.pi)).mean() > 0.1  # beyond the first well


def test_plain_python_grows_the_same_clusters() -> None:
    plain = getattr(kernels.clusters, "py_func", kernels.clusters)
    near, phi = neighbours((4, 6)), fields((4, 6), 5).reshape(24, 5)
    both = []
    for grow in (kernels.clusters, plain):
        moved = phi.copy()
        grow(moved, near, 2.0, 3, np.random.default_rng(9))
        both.append(moved)
    np.testing.assert_array_equal(*both)
    assert (both[0] != phi).any()


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("shape", [(4, 6), (3, 5), (2, 1)])
def test_without_numba_the_chain_is_the_same(
    action: Action, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # 20 chains are one full block of lanes and a part of one; runs are short, because trajectories
    # part from each other three times as far, or more, with each update
    runs = {
        hmc.run: hmc.HmcSettings(chains=20, kept=4, thermalisation=2),
        metropolis.run: metropolis.MetropolisSettings(chains=20, kept=4, thermalisation=2),
    }
    for run, settings in runs.items():
        with_numba = run(action, shape, settings, 12)
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "has_numba", lambda: False)
            without = run(action, shape, settings, 12)
        np.testing.assert_allclose(with_numba.phi, without.phi, rtol=0, atol=1e-9)
        assert with_numba.acceptance == without.acceptance


def test_every_sampler_runs_where_numba_is_not_installed() -> None:
    code = """
import sys
sys.modules["numba"] = None
from rram_host.lattice.actions import Phi4Action
from rram_host.lattice.samplers import SAMPLERS, compiled, run_sampler, tuned
from dataclasses import replace
action = Phi4Action(-4.0, 5.0)
for name in SAMPLERS:
    settings = replace(tuned(name, action, (4, 6)), chains=4, kept=3, thermalisation=2)
    print(name, run_sampler(name, action, (4, 6), settings).phi.std() > 0, compiled.has_numba())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{name} True False" for name in SAMPLERS]


def test_a_trajectory_that_runs_away_is_refused_without_a_word() -> None:
    settings = hmc.HmcSettings(chains=8, kept=3, thermalisation=0, step=3.0)
    run = hmc.run(Phi4Action(-4.0, 5.0), (4, 4), settings, 1)
    assert run.acceptance == 0.0
    assert np.isfinite(run.phi).all()
    wild = dataclasses.replace(settings, step=3.0)
    assert np.isfinite(hmc.run(GrapheneAction(1.0, 0.2), (4, 4), wild, 1).phi).all()
