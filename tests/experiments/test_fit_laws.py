"""Fits of records made by the cells' laws alone: errors are what they say, over many chips."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields, replace

import numpy as np
import pytest

from rram_host.errors import InputError
from rram_host.experiments.fitting.estimate import Estimate, combined
from rram_host.experiments.fitting.iv_fit import fit_iv
from rram_host.experiments.fitting.noise import Scatter, move_noise
from rram_host.experiments.fitting.population import (
    Observed,
    jackknife,
    log_between,
    population,
    spread_of,
)
from rram_host.experiments.fitting.retention_fit import fit_retention
from rram_host.experiments.fitting.set_curve_fit import fit_set_curve
from rram_host.experiments.iv import IvPlan
from rram_host.experiments.retention import RetentionPlan
from rram_host.experiments.set_curve import SetCurvePlan
from sim import presets
from tests.experiments.fit_records import HIDDEN, Chip, exact_bench

SWEEPS = IvPlan(cycles=6, compliance_v=2.0, step_v=0.1)
CURVE = SetCurvePlan(wl_start_v=1.0, wl_step_v=0.175, repetitions=3, per_row=3)


def pulls_of(estimates: list[Estimate]) -> dict[str, float]:
    return {item.name: (item.value - HIDDEN[item.name]) / item.error for item in estimates}


def rms(values) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def test_errors_of_sweeps_and_set_curves_are_what_they_say():
    """12 chips: an rms of 12 pulls is known to 1 / sqrt(24), of 200 to 1 / sqrt(400)."""
    pulls = defaultdict(list)
    for seed in range(12):
        chip = Chip(seed, **HIDDEN)
        swept = fit_iv(chip.iv_runs(8, SWEEPS))
        curve = fit_set_curve(
            chip.set_curve(CURVE), exact_bench(), "set.h5", swept.read_noise_siemens
        )
        for kind, fit in (("iv", swept), ("set", curve)):
            for name, pull in pulls_of(fit.estimates).items():
                pulls[kind, name].append(pull)
    assert len(pulls) == 17 and all(len(of_one) == 12 for of_one in pulls.values())
    together = [pull for of_one in pulls.values() for pull in of_one]
    assert 0.7 < rms(together) < 1.3
    # 0.2 of error on 1; a floor that the data do not tell from zero has a larger error
    told = {key: rms(of_one) for key, of_one in pulls.items()}
    assert {k: v for k, v in told.items() if not 0.3 < v < 1.7} == {}
    assert np.abs(together).max() < 4.5


TAOX = {key: getattr(presets.load("taox_180nm").cells, key) for key in HIDDEN}


def test_sweeps_by_the_defaults_tell_noise_of_readings_apart_from_partial_resets():
    """At 1.4 V of compliance cells begin below the top, and leave it by less than shows.

    Counted as read noise that made it 2.1 times too large, 35 of its errors.
    """
    pulls = defaultdict(list)
    for seed, (cells, plan) in enumerate(
        [(1, IvPlan()), (8, IvPlan(cycles=30)), (8, IvPlan(cycles=30))]
    ):
        found = {e.name: e for e in fit_iv(Chip(seed, **TAOX).iv_runs(cells, plan)).estimates}
        for name in ("read_noise", "cycle_floor_siemens"):
            pulls[name].append((found[name].value - TAOX[name]) / found[name].error)
            assert found[name].error < 0.15 * TAOX[name]
    for of_one in pulls.values():  # the largest of three is beyond 3.0 once in 120 times
        assert np.abs(of_one).max() < 3.0


def test_many_cycles_of_few_cells_do_not_make_errors_smaller_than_cells_differ():
    """By the curvature of the likelihood the floor's pull was 9 on one of these chips."""
    plan = IvPlan(cycles=30, compliance_v=2.0)
    pulls = defaultdict(list)
    for seed in range(2, 5):
        for name, pull in pulls_of(fit_iv(Chip(seed, **HIDDEN).iv_runs(8, plan)).estimates).items():
            pulls[name].append(pull)
    # 3 pulls: their rms is known to 1 / sqrt(6), and this is three of these
    for name in ("cycle_floor_siemens", "reset_top_siemens", "read_noise", "cycle_spread"):
        assert rms(pulls[name]) < 2.3, name


def test_cells_that_read_with_gains_of_their_own_widen_errors():
    """3 % of a cell: by curvature the floor's rms pull was 8. Of 4 it is known to 1 / sqrt(8)."""
    plan, pulls = replace(SWEEPS, cycles=10), defaultdict(list)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        runs = [
            replace(run, data={k: v * rng.normal(1, 0.03) for k, v in run.data.items()})
            for run in Chip(seed, **HIDDEN).iv_runs(8, plan)
        ]
        for name, pull in pulls_of(fit_iv(runs).estimates).items():
            pulls[name].append(pull)
    for name in ("reset_top_siemens", "reset_slope_siemens_per_v", "cycle_floor_siemens"):
        assert rms(pulls[name]) < 2.1, name


def test_an_error_by_leaving_out_is_that_of_a_mean_of_few():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((20_000, 8))
    moved = (x.mean(1)[:, None] - x) / 7
    # std / sqrt(8), widened to the std of a Student law of 7 degrees of freedom
    assert jackknife(moved) == pytest.approx(x.std(1, ddof=1) / 8**0.5 * (7 / 5) ** 0.5)
    # 20 000 pulls of variance 1; their kurtosis is 5, so that it is known to sqrt(4 / 20 000)
    assert rms(x.mean(1) / jackknife(moved)) ** 2 == pytest.approx(1, abs=3 * 2 / 20_000**0.5)
    assert jackknife(moved[0, :4]) == 0


def test_errors_of_scatter_count_that_groups_differ():
    """8 groups of 300 whose floors differ by 15 %: what is common is known to 15 % / sqrt(8)."""
    rng = np.random.default_rng(7)
    group, pulls = np.repeat(np.arange(8), 300), []
    for _ in range(30):
        floor = 0.5e-6 * (1 + 0.15 * rng.standard_normal(8))[group]
        move = rng.uniform(0.5e-6, 4e-6, group.size)
        sigma = np.hypot(0.08 * move, floor)
        seen = Scatter(
            sigma * rng.standard_normal(group.size), move, np.zeros(group.size),
            np.ones(group.size), group,
        )  # fmt: skip
        # the mean square of floors is 1 + 0.15^2 of that of 0.5 uS
        value, error = move_noise(seen).floor_siemens
        pulls.append((value - 0.5e-6 * (1 + 0.15**2) ** 0.5) / error)
    # 30 pulls with errors of 7 degrees of freedom: rms 1.2 to 0.2; by curvature alone 2.5
    assert 0.6 < rms(pulls) < 1.8


JUMPING = RetentionPlan(cells=64, points_per_decade=1, low_siemens=10e-6, high_siemens=38e-6)


def test_tails_of_jumps_are_no_spread_of_amplitudes():
    cells = presets.load("relax_40").cells
    values = {field.name: getattr(cells, field.name) for field in fields(cells)}
    for seed in range(2):
        fit = fit_retention(Chip(seed, **values).retention(JUMPING), "retention.h5")
        told = {e.name: e for e in fit.estimates}
        assert fit.jumps and "relax_spread" not in told
        assert fit.residuals[1].what.startswith("kurtosis") and fit.residuals[1].sigmas > 10
        for name in ("relax_siemens2_per_decade", "relax_mean_siemens_per_decade"):
            assert abs(told[name].value - values[name]) < 4 * told[name].error
    apart = fit_retention(Chip(0, **HIDDEN).retention(replace(JUMPING, cells=40)), "r")
    assert not apart.jumps and apart.residuals[1].sigmas < 4


def test_errors_of_relaxation_are_what_they_say():
    """5 chips and three parameters: the rms of 15 pulls is known to 1 / sqrt(30)."""
    plan = RetentionPlan(cells=64, points_per_decade=1)
    pulls = []
    for seed in range(5):
        fit = fit_retention(Chip(seed, **HIDDEN).retention(plan), "retention.h5")
        pulls += pulls_of(fit.estimates).values()
    assert len(pulls) >= 13  # a spread at the end of its range has no error, and is not told
    assert 0.5 < rms(pulls) < 1.6


def test_an_onset_that_the_times_reach_is_told_and_one_before_them_is_not():
    plan = RetentionPlan(cells=100, start_s=1.0, stop_s=1e5, points_per_decade=2)
    late = {**HIDDEN, "relax_onset_s": 100.0, "relax_siemens2_per_decade": 4e-13}
    found = {e.name: e for e in fit_retention(Chip(2, **late).retention(plan), "r").estimates}
    onset = found["relax_onset_s"]
    assert onset.value == pytest.approx(100.0, abs=3 * onset.error) and onset.error < 70.0
    early = fit_retention(Chip(2, **HIDDEN).retention(replace(plan, cells=40)), "r")
    assert "relax_onset_s" not in {e.name for e in early.estimates}


def test_a_compliance_that_is_too_low_leaves_top_and_voltage_together():
    low = replace(SWEEPS, compliance_v=1.45)
    fit = fit_iv(Chip(4, **HIDDEN).iv_runs(6, low))
    told = {e.name: e for e in fit.estimates}
    assert fit.top_siemens is None and not {"reset_v", "reset_top_siemens"} & set(told)
    # what they say together: the voltage at which the line is at the anchor
    law_v = HIDDEN["reset_v"] + (
        (HIDDEN["reset_top_siemens"] - fit.anchor_siemens) / HIDDEN["reset_slope_siemens_per_v"]
    )
    mean_v, error_v = fit.reset_v.mean
    assert mean_v == pytest.approx(law_v, abs=3 * error_v)
    for name in ("reset_slope_siemens_per_v", "reset_cycle_spread_v", "set_v"):
        assert abs(pulls_of([told[name]])[name]) < 3


def test_one_cell_has_its_own_voltages_and_no_spread():
    chip = Chip(6, **HIDDEN)
    (run,) = chip.iv_runs(1, replace(SWEEPS, cycles=20, step_v=0.05))
    fit = fit_iv([run])
    told = {e.name: e for e in fit.estimates}
    assert not {"set_spread_v", "reset_spread_v"} & set(told)
    assert told["set_v"].note.startswith("of one cell")
    for name in ("set_v", "reset_v"):
        own = getattr(chip.cells, name)[run.plan.cell]
        assert told[name].value == pytest.approx(own, abs=3 * told[name].error)
        assert told[name].error < 0.02


def test_voltages_of_measured_cells_are_found_cell_by_cell():
    chip = Chip(9, **HIDDEN)
    runs = chip.iv_runs(8, replace(SWEEPS, cycles=12, step_v=0.05))
    fit = fit_iv(runs)
    places = sorted(run.plan.cell for run in runs)
    own = np.array([chip.cells.set_v[place] for place in places])
    # of 12 cycles of 0.04 V, steps of 0.05 V: 0.012 V each
    assert rms(fit.set_v.values - own) < 2 * 0.012
    assert np.abs(fit.set_v.values - own).max() < 4 * 0.012


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_intervals_give_mean_spread_and_scatter_back_without_the_bias_of_their_middles(sigma):
    rng = np.random.default_rng(3)
    cell = np.repeat(np.arange(40), 25)
    x = 1.0 + 0.06 * rng.standard_normal(40)[cell] + sigma * rng.standard_normal(cell.size)
    edge = 0.1 * np.floor(x / 0.1)
    found = population(Observed.within(cell, edge, edge + 0.1))
    for (value, error), truth in ((found.mean, 1.0), (found.spread, 0.06), (found.cycle, sigma)):
        assert value == pytest.approx(truth, abs=3 * error) and error < 0.3 * 0.06


def test_cells_that_never_switched_count_as_beyond_the_last_step():
    rng = np.random.default_rng(5)
    cell = np.repeat(np.arange(10), 30)
    x = 1.0 + 0.05 * rng.standard_normal(cell.size)
    edge = np.where(x > 1.0, 1.0, 0.05 * np.floor(x / 0.05))
    found = population(Observed.within(cell, edge, np.where(x > 1.0, np.inf, edge + 0.05)))
    assert found.mean[0] == pytest.approx(1.0, abs=3 * found.mean[1])
    assert found.cycle[0] == pytest.approx(0.05, abs=3 * found.cycle[1])


def test_few_cells_have_a_mean_and_no_spread():
    cell = np.repeat(np.arange(3), 4)
    x = np.array([1.0, 1.1, 1.3])[cell]
    found = population(Observed(cell, x, x, np.full(x.size, 0.01)))
    assert found.mean == pytest.approx((x.mean(), np.std([1.0, 1.1, 1.3], ddof=1) / 3**0.5), 3e-2)
    assert np.isnan(found.spread[0])


def test_spread_of_values_with_errors_leaves_the_errors_out():
    rng = np.random.default_rng(8)
    pulls = []
    for _ in range(100):
        errors = rng.uniform(0.5, 3.0, 30)
        values = 10 + 2.0 * rng.standard_normal(30) + errors * rng.standard_normal(30)
        (mean, of_mean), (spread, of_spread) = spread_of(values, errors)
        pulls.append(((mean - 10) / of_mean, (spread - 2) / of_spread))
    # 100 draws: rms of pulls to 1 / sqrt(200); three of these
    for column in np.transpose(pulls):
        assert rms(column) == pytest.approx(1, abs=3 / 200**0.5)


def test_probability_between_is_right_in_both_tails():
    found = log_between(np.array([-40.0, 38.0, -1.0, -np.inf]), np.array([-39.0, 39.0, 1.0, 0.0]))
    # log of phi(x) / x at the nearer end, less 1 / x^2; 68.27 %; a half
    far = [-0.5 * x**2 - np.log(x * (2 * np.pi) ** 0.5) - 1 / x**2 for x in (39.0, 38.0)]
    assert found == pytest.approx([*far, np.log(0.6826895), np.log(0.5)], abs=1e-4)


def test_both_parts_of_the_scatter_of_moves_are_told_apart():
    rng = np.random.default_rng(2)
    move = np.concatenate([np.full(400, 3e-6), np.full(400, 70e-6)])
    sigma = np.sqrt((0.08 * move) ** 2 + 0.4e-6**2 + 0.1e-6**2)
    seen = Scatter(
        sigma * rng.standard_normal(800),
        move,
        np.full(800, 0.1e-6**2),
        np.ones(800),
        np.arange(800),
    )
    found = move_noise(seen)
    for (value, error), truth in ((found.spread, 0.08), (found.floor_siemens, 0.4e-6)):
        assert value == pytest.approx(truth, abs=3 * error) and error < 0.1 * truth


def test_estimates_of_the_same_cells_do_not_average_out():
    a, b = (Estimate("set_v", value, 0.02, (run,)) for value, run in ((1.0, "a"), (1.01, "b")))
    (both,) = combined([a, b])
    assert (both.value, both.error) == pytest.approx((1.005, 0.02 / 2**0.5))
    (same,) = combined([a, b], same_cells=True)
    assert same.error == 0.02 and same.runs == ("a", "b")
    (apart,) = combined([a, replace(b, value=1.2)])
    assert apart.error == pytest.approx(0.1) and "differ by" in apart.note


def test_data_that_tell_nothing_are_refused():
    chip = Chip(1, **HIDDEN)
    (run,) = chip.iv_runs(1, SWEEPS)
    flat = {"conductance_siemens": np.full_like(run.data["conductance_siemens"], 5e-6)}
    with pytest.raises(InputError, match="hardly switched, from 5 to 5 µS"):
        fit_iv([replace(run, data=flat)])
    n = SWEEPS.steps_v.size
    with pytest.raises(InputError, match="SETs and . RESETs"):
        fit_iv([replace(run, data={k: v[: 2 * n] for k, v in run.data.items()})])
    curve = chip.set_curve(replace(CURVE, repetitions=1))
    for wrong, words in (
        ({k: v[:2] for k, v in curve.items()}, "2 gate voltages that SET"),
        ({k: v[..., :0] if v.ndim > 1 else v for k, v in curve.items()}, "0 cells"),
    ):
        with pytest.raises(InputError, match=words):
            fit_set_curve(wrong, exact_bench(), "set.h5")


def test_a_part_of_the_scatter_that_is_not_there_is_zero_within_its_error():
    rng = np.random.default_rng(4)
    move = rng.uniform(20e-6, 80e-6, 500)
    seen = Scatter(
        0.08 * move * rng.standard_normal(500), move, np.zeros(500), np.ones(500), np.arange(500)
    )
    value, error = move_noise(seen).floor_siemens
    # 8 % of 20 uS are 1.6 uS: a twentieth of its variance is told apart
    assert value < 3 * error and error < 1.6e-6
