"""The check of samplers: right ones pass, wrong numbers are found twice."""

import math
from dataclasses import replace

import numpy as np
import pytest

from rram_host.experiments import physics_check
from rram_host.experiments.physics_cases import Case, cases
from rram_host.experiments.physics_check import Report, check_case
from rram_host.lattice.actions import GrapheneAction
from rram_host.lattice.exact import free_field
from rram_host.lattice.samplers import SAMPLERS

WIRE = GrapheneAction(1.0, 0.0)


def _case(factor: float = 1.0) -> Case:
    exact = free_field(WIRE, (4, 6))
    expected = {"absM": exact.abs_m, "chi2": exact.chi2 * factor, "gap": exact.gap, "M": 0.0}
    expected |= {f"G({t})": value for t, value in enumerate(exact.g)}
    pairs = {name: (value, 0.0) for name, value in expected.items()}
    return Case("free field", WIRE, (4, 6), pairs, 0.006, ("fourier-hmc",))


def _check(case: Case, seed: int = 1):
    return check_case(case, "fourier-hmc", np.random.SeedSequence(seed))


def test_a_right_sampler_passes_at_the_error_asked_for() -> None:
    # one fixed seed, eight correlated comparisons of 3 standard errors; a second run is allowed
    first, again = _check(_case())
    assert [each.quantity for each in first] == list(_case().expected)
    assert all(each.passed for each in again) and not any(each.repeated for each in first)
    (chi2,) = (each for each in first if each.quantity == "chi2")
    # the run is planned from a short one, whose error is good to a few per cent
    assert chi2.measured[1] / chi2.measured[0] == pytest.approx(0.006, rel=0.2)


def test_a_wrong_value_is_measured_again_with_four_times_the_statistics_and_fails() -> None:
    first, again = _check(_case(1.05))
    assert [each.quantity for each in again] == ["chi2"]
    (before,) = (each for each in first if each.quantity == "chi2")
    assert not before.passed and not again[0].passed and again[0].repeated
    assert again[0].measured[1] == pytest.approx(before.measured[1] / 2, rel=0.2)
    assert again[0].measured[0] != before.measured[0]
    report = Report(first, again)
    assert report.failed == again
    assert report.expected_by_luck == pytest.approx(0.0027 * len(first), rel=1e-3)


def test_bad_luck_that_does_not_repeat_is_no_failure() -> None:
    first, again = _check(_case(1.05))
    cured = tuple(replace(each, passed=True) for each in again)
    assert Report(first, cured).failed == ()


def test_the_line_has_a_tolerance_that_is_no_error() -> None:
    gap = free_field(WIRE, (8, 8)).gap
    for expected, passed in ((8 * gap, True), (8 * gap + 1.0, False)):
        case = Case("line", WIRE, (8, 8), {"L / xi_eq27": (expected, 0.1)}, 0.01, ("fourier-hmc",))
        first, again = _check(case)
        assert first[0].passed is passed
        assert bool(again) is not passed
    assert Report(first, again).expected_by_luck == 0.0


@pytest.mark.parametrize("quick", [True, False])
def test_cases_cover_what_is_promised(quick: bool) -> None:
    found = cases(quick)
    exact = [each for each in found if each.source == "exact" and each.shape == (4, 4)]
    assert len(exact) == (1 if quick else 3)
    assert all(each.relative_error <= 0.002 and each.samplers == tuple(SAMPLERS) for each in exact)
    assert any(each.source == "free field" for each in found)
    assert any(each.source == "reference" and each.action.name == "graphene" for each in found)
    line = [each.shape[0] for each in found if each.source == "line"]
    assert line == ([6, 8, 10] if quick else [6, 8, 10, 12, 14])
    for each in found:
        assert all(math.isfinite(v) and e >= 0 for v, e in each.expected.values())


def test_progress_and_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(physics_check, "cases", lambda quick: (_case(),))
    told: list[tuple[int, int, str]] = []
    reports = [
        physics_check.check_physics(True, 3, lambda *values: told.append(values)) for _ in range(2)
    ]
    assert reports[0] == reports[1]
    assert told[0] == (0, 1, "graphene 4 x 6 fourier-hmc")
    assert physics_check.check_physics(True, 4) != reports[0]
