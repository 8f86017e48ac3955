"""Programmed levels: what is recorded is what the cells hold, and findings follow from it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from rram_host import open_board
from rram_host.errors import InputError
from rram_host.experiments.distribution import EXPERIMENT, DistributionPlan, peaks
from rram_host.records.run_folder import plain
from sim import EmulatedBoard
from tests.array.rig import conducted, opened
from tests.experiments.boards import exact_board
from tests.experiments.whole import drawn, found, rows_of

SMALL = DistributionPlan(
    start_siemens=20e-6, stop_siemens=100e-6, step_siemens=40e-6, rounds=1, read_average=16
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    """One round on an emulated chip, and what its cells conduct right after."""
    emulated = exact_board(tmp_path_factory.mktemp("preset"), seed=5)
    with opened(emulated) as board:
        data = rows_of(board, EXPERIMENT, SMALL)
        return data, conducted(emulated)


def test_every_level_gets_as_many_cells_as_any_and_other_ones_in_every_round():
    plan = DistributionPlan()
    assert plan.levels_siemens == pytest.approx(np.arange(20, 101, 5) * 1e-6)
    one, other = plan.targets((32, 32), 0), plan.targets((32, 32), 1)
    counts = np.unique(one, return_counts=True)[1]
    assert counts.size == 17 and counts.max() - counts.min() <= 1
    assert (one == plan.targets((32, 32), 0)).all() and (one != other).mean() > 0.9


def test_records_are_what_the_cells_conduct(run):
    data, truth = run
    np.testing.assert_array_equal(data["target_siemens"][0], SMALL.targets((32, 32), 0))
    off = data["measured_siemens"][0] - truth
    # White read noise of 32 readings is 0.004 sqrt(50 uS G) / sqrt(32) = 0.05 uS at 100 uS; slow
    # noise moves on while they are taken, by some 0.1 uS, and more in the few cells with telegraph
    # noise: so a median.
    assert np.median(np.abs(off)) < 0.1e-6 and abs(off.mean()) < 0.05e-6
    assert data["working"].all() and data["board_time_s"][0] > 0


def test_widths_of_peaks_are_those_of_the_cells(run):
    data, truth = run
    by_name = found(EXPERIMENT, SMALL, data)
    target = SMALL.targets((32, 32), 0)
    for level in (20, 60, 100):
        stated = by_name[f"std at {level} µS"]
        cells = np.abs(target - level * 1e-6) < 1e-9
        own = truth[cells].std(ddof=1) / 1e-6
        # both see the same cells; what differs is slow noise, a part of what the error states
        assert stated.value == pytest.approx(own, abs=3 * stated.error)
    whole = by_name["std of a peak, rms of all"]
    mean_square = np.mean([by_name[f"std at {level} µS"].value ** 2 for level in (20, 60, 100)])
    assert whole.value == pytest.approx(np.sqrt(mean_square))
    assert 0 < whole.error < by_name["std at 60 µS"].error
    assert by_name["cells nearer to another level"].value == 0.0
    assert by_name["pulses of a cell, mean"].value == data["pulses"].mean()
    assert sum(len(peak) for peak in peaks(SMALL, data)) == 1024


def test_overlapping_levels_are_counted_and_bad_cells_are_not(run):
    data = {name: values.copy() for name, values in run[0].items()}
    data["measured_siemens"][0, :2, :5] = data["target_siemens"][0, :2, :5] + 25e-6
    data["working"][0, 31] = False
    data["measured_siemens"][0, 31] = 1.0
    by_name = found(EXPERIMENT, SMALL, data)
    assert by_name["cells nearer to another level"].value == pytest.approx(100 * 10 / 992)
    assert by_name["cells not formed or shorted, left out"].value == 32


def test_cells_that_the_passport_holds_back_are_counted_and_named(tmp_path):
    emulated = EmulatedBoard("ideal", seed=5)
    with open_board(emulated, passport=tmp_path / "chip.json") as board:
        for col in range(32):
            board.passport.note_dead(4, col, "broken line")
        data = rows_of(board, EXPERIMENT, SMALL)
    np.testing.assert_array_equal(data["target_siemens"][0], SMALL.targets((32, 32), 0))
    assert not data["working"][0, 4].any() and data["working"].sum() == 1024 - 32
    np.testing.assert_array_equal(data["left_out"], ~data["working"])
    by_name = found(EXPERIMENT, SMALL, data)
    assert by_name["cells dead or worn by the passport, left out"].value == 32
    assert by_name["cells not formed or shorted, left out"].value == 0
    assert by_name["cell (4, 9) left out by the passport"].value == 1
    assert by_name["cells nearer to another level"].value == 0
    data["left_out"][:] = True
    data["working"][:] = False
    assert (
        found(EXPERIMENT, SMALL, data)["cells dead or worn by the passport, left out"].value == 1024
    )
    drawn(EXPERIMENT, SMALL, data)


def test_a_level_with_too_few_cells_is_not_known_and_spoils_no_other(run):
    data = {name: values.copy() for name, values in run[0].items()}
    level = np.argwhere(np.abs(data["target_siemens"] - 20e-6) < 1e-9)
    data["working"][tuple(level[2:].T)] = False
    by_name = found(EXPERIMENT, SMALL, data)
    lost, whole = by_name["std at 20 µS"], by_name["std of a peak, rms of all"]
    assert np.isnan(lost.value) and lost.error is None
    two = [by_name[f"std at {level} µS"] for level in (60, 100)]
    assert whole.value == pytest.approx(np.sqrt(np.mean([std.value**2 for std in two])))
    each = [std.value * std.error / (2 * whole.value) for std in two]
    assert whole.error == pytest.approx(np.hypot(*each))
    told = json.dumps(plain({"findings": [vars(item) for item in by_name.values()]}))
    assert "NaN" not in told
    assert json.loads(told)
    drawn(EXPERIMENT, SMALL, data)


def test_no_level_with_enough_cells_has_no_width(run):
    data = {name: values.copy() for name, values in run[0].items()}
    data["working"][0] = False
    data["working"][0, 0, :2] = True
    whole = found(EXPERIMENT, SMALL, data)["std of a peak, rms of all"]
    assert np.isnan(whole.value) and whole.error is None


def test_the_picture_has_a_histogram_of_every_level(run):
    top, bottom = drawn(EXPERIMENT, SMALL, run[0]).axes
    assert sum(patch.get_height() for patch in top.patches) == 1024
    assert len(bottom.containers) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"step_siemens": 0.0},
        {"step_siemens": 7e-6},
        {"start_siemens": 2e-4},
        {"start_siemens": float("nan")},
        {"rounds": 0},
        {"read_average": 0},
        {"policy": "guess"},
    ],
)
def test_levels_that_are_none_are_refused(wrong: dict):
    with pytest.raises(InputError):
        replace(SMALL, **wrong)


def test_levels_outside_the_window_are_refused_before_the_first_pulse():
    emulated = EmulatedBoard("taox_180nm", seed=5)
    plan = replace(SMALL, start_siemens=1e-6, stop_siemens=1e-6)
    with opened(emulated) as board, pytest.raises(InputError, match="window"):
        EXPERIMENT.columns(plan, board.spec)
    assert emulated.truth.pulses.sum() == 0
