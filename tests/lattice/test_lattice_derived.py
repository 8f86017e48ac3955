"""Derived quantities on correlators that are known exactly."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rram_host.errors import InputError
from rram_host.lattice.actions import GrapheneAction, Phi4Action
from rram_host.lattice.derived import (
    binder,
    condensate,
    cosh_gap,
    derived,
    effective_masses,
    xi_eq27,
    xi_second_moment,
)
from rram_host.lattice.exact import exact_4x4, free_field
from rram_host.lattice.observables import measure
from rram_host.lattice.reference import references

_REFERENCE = Path(__file__).parents[3] / "shared" / "data" / "reference.json"


def _free(g: float, shape: tuple[int, int], n: int, seed: int) -> torch.Tensor:
    """Independent fields of the free theory, drawn mode by mode."""
    generator = torch.Generator().manual_seed(seed)
    waves = [
        2 - 2 * torch.cos(2 * math.pi * torch.arange(k, dtype=torch.float64) / k) for k in shape
    ]
    power = 1.0 / (waves[0][:, None] + waves[1] + g**2 / math.pi)
    white = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    return torch.fft.ifft2(torch.fft.fft2(white) * power.sqrt()).real


@pytest.mark.parametrize(("g", "length"), [(1.0, 6), (0.5, 12), (1.0, 48), (0.25, 7)])
def test_free_correlator_gives_the_exact_gap_and_length(g: float, length: int) -> None:
    exact = free_field(GrapheneAction(g, 0.0), (length, length))
    correlator = np.array(exact.g)
    assert cosh_gap(correlator, length) == pytest.approx(exact.gap, rel=1e-6)
    assert effective_masses(correlator, length) == pytest.approx(np.full(length - 1, exact.gap))
    assert xi_eq27(correlator, length) == pytest.approx(1.0 / exact.gap, rel=1e-6)
    # D(k) = 1 / (khat^2 + mu^2) makes the second moment 1 / mu on every lattice
    assert xi_second_moment(correlator, length) == pytest.approx(math.sqrt(math.pi) / g, rel=1e-9)


def test_cosh_fit_starts_where_it_is_told() -> None:
    t = np.arange(9)
    one = 2.0 * np.cosh(0.4 * (t - 8))
    two = one + 0.5 * np.cosh(2.5 * (t - 8)) / math.cosh(20.0) * np.cosh(3.2)
    assert cosh_gap(one, 16) == pytest.approx(0.4, rel=1e-6)
    late, early = (abs(cosh_gap(two, 16, first=first) - 0.4) for first in (4, 1))
    assert late < 1e-3 < early


def test_noise_makes_nan_not_an_error() -> None:
    noisy = np.array([1.0, 0.5, -0.1, 0.02])
    assert math.isnan(xi_eq27(noisy, 6))
    assert np.isnan(effective_masses(noisy, 6)).any()
    assert math.isnan(cosh_gap(np.array([1.0, math.nan, 0.2, 0.1]), 6))
    assert math.isnan(cosh_gap(np.array([1.0, 0.5]), 2))
    assert math.isnan(xi_second_moment(np.array([0.1, 0.2, 0.3]), 4))
    assert math.isnan(binder(0.0, 0.0))


def test_binder_of_a_gaussian_and_of_two_peaks() -> None:
    assert binder(2.0, 3.0 * 4.0) == 0.0
    assert binder(2.0, 4.0) == pytest.approx(2.0 / 3.0)


def test_condensate_of_the_massless_wire_in_the_continuum_limit() -> None:
    # exactly -e^gamma / (2 pi^1.5) g in the continuum; the lattice comes close like g^2 log g
    continuum = -math.exp(0.5772156649015329) / (2 * math.pi**1.5)
    gaps = []
    for g, length in ((0.5, 48), (0.25, 96), (0.125, 192)):
        value = condensate(free_field(GrapheneAction(g, 0.0), (length, length)).cos)
        gaps.append(abs(value / g - continuum))
    assert gaps[2] < gaps[1] < gaps[0]
    assert gaps[2] < 0.003 * abs(continuum)


@pytest.mark.skipif(not _REFERENCE.is_file(), reason=f"{_REFERENCE} is not on this machine")
def test_definitions_are_those_of_the_shared_file() -> None:
    for run in json.loads(_REFERENCE.read_text())["runs"].values():
        length = run["L"]
        g = np.array([run[f"G{t}"][0] for t in range(length // 2 + 1)])
        at = max(1, length // 6) - 1
        assert xi_second_moment(g, length) == pytest.approx(run["xi_2nd"][0], rel=1e-5)
        assert effective_masses(g, length)[at] == pytest.approx(run["meff"][0], rel=1e-5)
        assert binder(run["M2"][0], run["chi2"][0] ** 0 * _m4(run)) == pytest.approx(
            run["U4"][0], abs=1e-6
        )
        if np.isfinite(effective_masses(g, length)).all():
            assert xi_eq27(g, length) == pytest.approx(run["xi_eq27"][0], rel=1e-5)


def _m4(run: dict[str, list[float]]) -> float:
    return (1 - run["U4"][0]) * 3 * run["M2"][0] ** 2


@pytest.mark.skipif(not _REFERENCE.is_file(), reason=f"{_REFERENCE} is not on this machine")
def test_the_packaged_reference_is_the_shared_file() -> None:
    theirs = json.loads(_REFERENCE.read_text())["runs"]
    assert len(references()) == len(theirs)
    for ours, run in zip(references(), theirs.values(), strict=True):
        assert ours.shape == (run["L"], run["L"])
        for name, pair in ours.values.items():
            assert pair == pytest.approx(run[name], rel=5e-3), name
            assert pair[0] == pytest.approx(run[name][0], rel=1e-6)


def test_derived_of_a_free_field_within_its_errors() -> None:
    wire, shape = GrapheneAction(1.0, 0.0), (6, 8)
    phi = _free(1.0, shape, 20_000, 3)
    found, exact = derived(measure(phi), wire, shape), free_field(wire, shape)
    expected = {
        "gap": exact.gap,
        "meff": exact.gap,
        "xi_cosh": 1 / exact.gap,
        "xi_eq27": 1 / exact.gap,
        "xi_2nd": math.sqrt(math.pi),
        "U4": 0.0,
        "condensate": condensate(exact.cos),
    }
    assert found.keys() == expected.keys()
    for name, (value, error) in found.items():
        # independent fields, a fixed seed, seven correlated numbers: 3.5 standard errors
        assert abs(value - expected[name]) < 3.5 * error, name
        assert 0.0 < error < 0.03


def test_jackknifed_errors_are_the_spread_of_repetitions() -> None:
    wire, shape = GrapheneAction(1.0, 0.0), (6, 6)
    repeated = [
        derived(measure(_free(1.0, shape, 1600, seed)), wire, shape, 8) for seed in range(40)
    ]
    for name in ("xi_2nd", "U4", "condensate"):
        values = np.array([each[name][0] for each in repeated])
        errors = np.array([each[name][1] for each in repeated])
        # a spread of 40 is good to 1 / sqrt(78) = 11 %: 3 of those
        assert values.std(ddof=1) == pytest.approx(errors.mean(), rel=3 * 0.11), name


def test_phi4_has_no_condensate_and_too_few_configurations_are_refused() -> None:
    phi = torch.randn(64, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert "condensate" not in derived(measure(phi), Phi4Action(-4.0, 5.0), (4, 4), 8)
    with pytest.raises(InputError, match="64 blocks"):
        derived(measure(phi[:10]), Phi4Action(-4.0, 5.0), (4, 4))


def test_exact_correlator_of_phi4_is_close_to_the_gap_of_its_transfer_matrix() -> None:
    exact = exact_4x4(5.5)
    # L = 4 is short: the wrapped excited states leave the effective mass 15 % off the gap
    assert effective_masses(np.array(exact.g), 4)[0] == pytest.approx(exact.gap, rel=0.15)


@pytest.mark.parametrize("function", [effective_masses, xi_eq27, xi_second_moment, cosh_gap])
def test_a_correlator_of_another_lattice_is_refused(function: Callable[..., object]) -> None:
    exact = exact_4x4(5.5)
    assert function(exact.g, 4) == pytest.approx(function(np.array(exact.g), 4))
    for g, length in ((exact.g, 3), (exact.g, 8), ([exact.g] * 3, 4)):
        with pytest.raises(
            InputError, match=f"over {length} sites has the {length // 2 + 1} means"
        ):
            function(g, length)


def test_derived_refuses_what_was_measured_on_another_lattice() -> None:
    phi = torch.randn(64, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for shape in ((6, 6), (64, 12), (24, 6)):
        with pytest.raises(InputError, match="a correlator over"):
            derived(measure(phi), Phi4Action(-4.0, 5.0), shape, 8)
    # nothing else depends on the lattice, the cumulant neither
    found = [derived(measure(phi), Phi4Action(-4.0, 5.0), (12, n), 8)["U4"] for n in (12, 6)]
    assert found[0] == found[1]
