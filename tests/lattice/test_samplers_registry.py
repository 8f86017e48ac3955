"""Samplers by name: settings, seeds, what is kept, and what is refused."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from rram_host.errors import InputError
from rram_host.lattice.actions import Action, GrapheneAction, Phi4Action
from rram_host.lattice.samplers import (
    SAMPLERS,
    FourierHmcSettings,
    HmcSettings,
    MetropolisSettings,
    WolffSettings,
    run_sampler,
    tuned,
)

PHI4 = Phi4Action(-4.0, 5.0)
SHORT = {"chains": 3, "kept": 6, "keep_every": 1, "thermalisation": 2}


def short(name: str, **more: Any) -> Any:
    return dataclasses.replace(tuned(name, PHI4, (4, 6)), **{**SHORT, **more})


@pytest.mark.parametrize("name", SAMPLERS)
def test_same_seed_same_run_and_progress_is_told(name: str) -> None:
    told: list[tuple[int, int]] = []
    runs = [
        run_sampler(name, PHI4, (4, 6), short(name), seed, lambda *both: told.append(both))
        for seed in (3, 3, 4)
    ]
    assert runs[0].phi.shape == (3, 6, 4, 6) and runs[0].phi.dtype == np.float64
    np.testing.assert_array_equal(runs[0].phi, runs[1].phi)
    assert (runs[0].phi != runs[2].phi).any()
    assert told[:8] == [(k, 8) for k in range(1, 9)]
    assert 0.0 <= runs[0].acceptance <= 1.0 and runs[0].wall_s > 0.0


@pytest.mark.parametrize("name", SAMPLERS)
def test_keeping_fewer_keeps_the_same_chain(name: str) -> None:
    every = run_sampler(name, PHI4, (4, 6), short(name), 5)
    third = run_sampler(name, PHI4, (4, 6), short(name, kept=2, keep_every=3), 5)
    np.testing.assert_array_equal(third.phi, every.phi[:, 2::3])


BROKEN, STRONG, WEAK = Phi4Action(-4.0, 0.5), Phi4Action(-4.0, 20.0), Phi4Action(0.5, 0.1)


@pytest.mark.parametrize("action", [PHI4, BROKEN, STRONG, WEAK, GrapheneAction(0.25, 0.0)])
@pytest.mark.parametrize("shape", [(4, 4), (24, 24), (1, 7)])
@pytest.mark.parametrize("name", SAMPLERS)
def test_tuned_settings_move(name: str, action: Action, shape: tuple[int, int]) -> None:
    settings = dataclasses.replace(
        tuned(name, action, shape), chains=16, kept=10, thermalisation=20
    )
    run = run_sampler(name, action, shape, settings, 1)
    assert run.acceptance > 0.3
    assert np.isfinite(run.phi).all() and (run.phi[:, 0] != run.phi[:, -1]).any()


def test_hmc_in_phi4_runs_trajectories_of_the_best_length() -> None:
    for length in (4, 6, 12, 24, 48):
        settings = tuned("hmc", PHI4, (length, length))
        assert 2.2 <= settings.step * settings.steps <= 4.0


@dataclasses.dataclass(frozen=True)
class Other:
    name: str = "u1"

    def __call__(self, phi: torch.Tensor) -> torch.Tensor:
        return phi.sum((1, 2))

    def force(self, phi: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(phi)


@pytest.mark.parametrize("name", SAMPLERS)
def test_refuses_what_it_cannot_sample(name: str) -> None:
    with pytest.raises(InputError, match="phi4 and graphene.*'u1'"):
        run_sampler(name, Other(), (4, 4), short(name))
    with pytest.raises(InputError, match="two lengths"):
        run_sampler(name, PHI4, (0, 4), short(name))
    with pytest.raises(InputError, match="two lengths"):
        tuned(name, PHI4, (4, 4, 4))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="seed"):
        run_sampler(name, PHI4, (4, 4), short(name), -1)
    with pytest.raises(InputError, match="seed = 1.5 is not a whole number"):
        run_sampler(name, PHI4, (4, 4), short(name), 1.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="two lengths"):
        run_sampler(name, PHI4, (4.0, 4.0), short(name))  # type: ignore[arg-type]


def test_refuses_unknown_names_and_settings_of_another() -> None:
    with pytest.raises(InputError, match=r"'gibbs'.*hmc, fourier-hmc, metropolis, wolff"):
        tuned("gibbs", PHI4, (4, 4))
    with pytest.raises(InputError, match="takes WolffSettings, got HmcSettings"):
        run_sampler("wolff", PHI4, (4, 4), HmcSettings())


@pytest.mark.parametrize("action", [PHI4, GrapheneAction(1.0, 0.0)])
def test_moves_of_the_mean_need_wells_of_a_cosine(action: Action) -> None:
    settings = dataclasses.replace(short("fourier-hmc"), mean_moves=1)
    with pytest.raises(InputError, match="mean_moves are for a graphene wire of m > 0"):
        run_sampler("fourier-hmc", action, (4, 4), settings)


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        *[(HmcSettings, {name: 0}) for name in ("chains", "kept", "keep_every", "step", "steps")],
        *[(HmcSettings, {name: -1}) for name in ("thermalisation", "start_width")],
        *[(HmcSettings, {name: 1e3}) for name in ("chains", "kept", "keep_every", "steps")],
        (HmcSettings, {"thermalisation": 0.5}),
        (HmcSettings, {"jitter": 1.0}),
        (HmcSettings, {"step": float("nan")}),
        (FourierHmcSettings, {"mass": 0.0}),
        (FourierHmcSettings, {"angle": 0.0}),
        (FourierHmcSettings, {"kicks": 0}),
        (FourierHmcSettings, {"jitter": -0.1}),
        (FourierHmcSettings, {"mean_moves": -1}),
        (FourierHmcSettings, {"sweeps": -1}),
        *[(FourierHmcSettings, {name: 2.0}) for name in ("kicks", "mean_moves", "sweeps")],
        (FourierHmcSettings, {"width": 0.0}),
        (MetropolisSettings, {"width": float("inf")}),
        (MetropolisSettings, {"sweeps": 0}),
        (MetropolisSettings, {"sweeps": 1.5}),
        (WolffSettings, {"clusters": 0}),
        *[(WolffSettings, {name: 2.0}) for name in ("clusters", "sweeps")],
        (WolffSettings, {"sweeps": 0}),
        (WolffSettings, {"width": 0.0}),
    ],
)
def test_settings_refuse_what_cannot_run(kind: type, bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        kind(**bad)
