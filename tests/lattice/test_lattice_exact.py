"""The exact values in the package are those of the shared reference file."""

import json
from pathlib import Path

import pytest

from rram_host.errors import InputError
from rram_host.lattice.exact import exact_4x4

_REFERENCE = Path(__file__).parents[3] / "shared" / "data" / "reference.json"


@pytest.mark.skipif(not _REFERENCE.is_file(), reason=f"{_REFERENCE} is not on this machine")
@pytest.mark.parametrize("lam", [5.0, 5.5, 6.0])
def test_matches_the_shared_file(lam: float) -> None:
    theirs = json.loads(_REFERENCE.read_text())["exact_L4"][f"{lam:.1f}"]
    ours = exact_4x4(lam)
    pairs = [("logZ", ours.log_z), ("absM", ours.abs_m), ("chi2", ours.chi2)]
    pairs += [("E", ours.energy), ("phi2", ours.phi2)]
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
