"""Exact values: those of the shared reference file, and the free field's."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from rram_host.errors import InputError
from rram_host.lattice.actions import GrapheneAction, Phi4Action
from rram_host.lattice.exact import exact_4x4, free_field

_REFERENCE = Path(__file__).parents[3] / "shared" / "data" / "reference.json"


@pytest.mark.skipif(not _REFERENCE.is_file(), reason=f"{_REFERENCE} is not on this machine")
@pytest.mark.parametrize("lam", [5.0, 5.5, 6.0])
def test_matches_the_shared_file(lam: float) -> None:
    theirs = json.loads(_REFERENCE.read_text())["exact_L4"][f"{lam:.1f}"]
    ours = exact_4x4(lam)
    pairs = [("logZ", ours.log_z), ("chi2", ours.chi2)]
    pairs += [("E", ours.energy), ("phi2", ours.phi2)]
    # the file's <|M|> was integrated on a coarse grid: it is good to 3e-6, a relative error
    assert ours.abs_m == pytest.approx(theirs["absM"], rel=3e-6)
    for key, value in pairs:
        assert value == pytest.approx(theirs[key], rel=1e-9), key
    assert ours.g == pytest.approx(theirs["G"], rel=1e-9)


@pytest.mark.parametrize("lam", [5.0, 5.5, 6.0])
def test_correlator_sums_to_the_susceptibility(lam: float) -> None:
    exact = exact_4x4(lam)
    total = exact.g[0] + 2 * exact.g[1] + exact.g[2]
    assert 4 * total == pytest.approx(exact.chi2, abs=1e-6)


def test_unknown_coupling_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"5\.0, 5\.5, 6\.0"):
        exact_4x4(7.0)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (6, 2), (1, 4)])
def test_free_field_is_the_inverse_of_its_matrix(shape: tuple[int, int]) -> None:
    g, volume = 0.8, shape[0] * shape[1]
    site = np.arange(volume).reshape(shape)
    matrix = np.diag(np.full(volume, 4.0 + g**2 / math.pi))
    for axis in (0, 1):
        for way in (-1, 1):
            np.subtract.at(matrix, (site.ravel(), np.roll(site, way, axis).ravel()), 1.0)
    two_point = np.linalg.inv(matrix)
    found = free_field(GrapheneAction(g, 0.0), shape)
    log_z = 0.5 * (volume * math.log(2 * math.pi) - np.linalg.slogdet(matrix)[1])
    assert found.log_z == pytest.approx(log_z, rel=1e-12)
    assert found.phi2 == pytest.approx(two_point[0, 0], rel=1e-12)
    assert found.chi2 == pytest.approx(two_point.sum() / volume, rel=1e-12)
    assert found.chi2 == pytest.approx(math.pi / g**2, rel=1e-12)
    near = [two_point[0, np.roll(site, -1, axis).ravel()[0]] for axis in (0, 1)]
    assert found.energy == pytest.approx(sum(near) / 2, rel=1e-12)
    table = two_point.reshape(*shape, *shape)
    table = table if shape[0] >= shape[1] else table.transpose(1, 0, 3, 2)
    for t, value in enumerate(found.g):
        assert value == pytest.approx(table[0, :, t].mean(), rel=1e-11)
    assert found.abs_m == pytest.approx(math.sqrt(2 / math.pi * found.chi2 / volume))
    assert found.cos == pytest.approx(math.exp(-0.5 * (2 * math.sqrt(math.pi)) ** 2 * found.phi2))


@pytest.mark.skipif(not _REFERENCE.is_file(), reason=f"{_REFERENCE} is not on this machine")
@pytest.mark.parametrize("name", ["graphene_L6_g1.0_mg0.0", "graphene_L48_g0.25_mg0.0"])
def test_free_field_is_that_of_the_shared_file(name: str) -> None:
    run = json.loads(_REFERENCE.read_text())["runs"][name]
    found, theirs = free_field(GrapheneAction(run["g"], 0.0), (run["L"],) * 2), run["exact_free"]
    ours = {"phi2": found.phi2, "chi2": found.chi2, "E": found.energy, "absM": found.abs_m}
    ours |= {"cos": found.cos, "gap": found.gap}
    assert ours == pytest.approx(theirs, rel=1e-7)


def test_free_correlator_is_one_cosh_with_the_exact_gap() -> None:
    found = free_field(GrapheneAction(0.5, 0.0), (6, 16))
    t = np.arange(9)
    shape = np.cosh(found.gap * (t - 8.0))
    assert np.array(found.g) / found.g[8] == pytest.approx(shape, rel=1e-9)


@pytest.mark.parametrize("action", [GrapheneAction(1.0, 0.1), Phi4Action(-4.0, 5.0)])
def test_only_a_free_field_is_free(action: GrapheneAction | Phi4Action) -> None:
    with pytest.raises(InputError, match="m_over_g = 0"):
        free_field(action, (4, 4))
