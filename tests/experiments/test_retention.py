"""Retention: times are kept, drift and spread are those of the cells, a resumed run waits once."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rram_host.errors import BoardFault, InputError
from rram_host.experiments.retention import EXPERIMENT, RetentionPlan, changes_siemens, slopes
from sim import EmulatedBoard
from tests.array.rig import conducted, opened
from tests.experiments.boards import exact_board
from tests.experiments.whole import drawn, found, rows_of

MANY = RetentionPlan(cells=1024, start_s=1.0, stop_s=1e6, points_per_decade=1, read_average=16)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    """All cells of a chip without read noise, so that what moves is relaxation alone."""
    quiet = {"read_noise": 0.0, "flicker": 0.0, "telegraph_share": 0.0}
    emulated = exact_board(tmp_path_factory.mktemp("preset"), 8, **quiet)
    with opened(emulated) as board:
        began = time.perf_counter()
        data = rows_of(board, EXPERIMENT, MANY)
        return data, conducted(emulated), time.perf_counter() - began, emulated.clock.now_s


def test_times_are_logarithmic_and_end_where_asked():
    assert RetentionPlan().times_s.size == 19
    assert RetentionPlan().times_s[[0, 3, -1]] == pytest.approx([1, 10, 1e6])
    odd = RetentionPlan(start_s=2.0, stop_s=50.0, points_per_decade=2)
    assert odd.times_s == pytest.approx([2, 2 * 10**0.5, 20, 50])


def test_a_reading_is_taken_when_it_was_planned_and_no_wall_time_passes(run):
    data, _, wall_s, clock_s = run
    off = data["time_s"][1:] - MANY.times_s
    # half of a reading of 16 averages, 0.1 s of board time, later than planned
    assert (off > 0).all() and (off < 0.1).all()
    assert 0 < data["time_s"][0] < 0.1
    assert clock_s > 1e6 and wall_s < 60


def test_places_and_targets_are_recorded_and_the_last_reading_is_what_cells_hold(run):
    data, truth, _, _ = run
    places = data["cell_row"][0], data["cell_col"][0]
    assert len(set(zip(*(p.tolist() for p in places), strict=True))) == 1024
    assert (data["cell_row"] == data["cell_row"][0]).all()
    assert data["target_siemens"][0][[0, -1]] == pytest.approx([30e-6, 95e-6])
    # nothing but the converter's noise of 32 readings, 0.8 codes of 12 nS each, is in between
    np.testing.assert_allclose(data["conductance_siemens"][-1], truth[places], atol=0.06e-6)


def test_slopes_are_those_that_the_cells_were_given(run):
    by_name = found(EXPERIMENT, MANY, run[0])
    mean, variance = (by_name[f"slope of the {what} a decade"] for what in ("mean", "variance"))
    # the preset's -0.03 uS and 0.07 uS^2 a decade; each within 4 of its stated errors
    assert mean.value == pytest.approx(-0.03, abs=4 * mean.error)
    assert variance.value == pytest.approx(0.07, abs=4 * variance.error)
    assert mean.error < 0.02 and variance.error < 0.01
    last = by_name["std of G(t) - G(0) at 1e+06 s"]
    # Var = A log10((t + t0) / t0) with t0 = 1 ms, less what had relaxed before the first reading,
    # 1 to 2.5 decades after the last pulse of each cell
    assert 0.6 < last.value < 0.8 and last.value > by_name["std of G(t) - G(0) at 1 s"].value


def test_errors_of_slopes_are_what_leaving_out_a_cell_shows():
    rng = np.random.default_rng(3)
    times, change = 10.0 ** np.arange(5), rng.normal(0, 1, (5, 12)).cumsum(0)
    (_, _), (value, error) = slopes(times, change)
    x = np.arange(5.0)

    def of(cells: np.ndarray) -> float:
        return float(np.polyfit(x, cells.var(1, ddof=1), 1)[0])

    left = np.array([of(np.delete(change, k, axis=1)) for k in range(12)])
    assert value == pytest.approx(of(change))
    assert error == pytest.approx(np.sqrt(11 / 12 * ((left - left.mean()) ** 2).sum()))


def test_a_resumed_run_waits_for_what_is_left_and_not_once_more():
    plan = replace(MANY, cells=20, stop_s=1000.0)
    emulated = EmulatedBoard("taox_180nm", seed=2)
    with opened(emulated) as board:
        first = []
        for batch in EXPERIMENT.run(board, plan, 0, {}):
            first.append(batch)
            if len(first) == 3:  # programmed, 1 s, 10 s
                break
        done = {name: np.concatenate([b[name] for b in first]) for name in first[0]}
        board.wait(40.0)
        rest = rows_of(board, EXPERIMENT, plan, 3, done)
    assert rest["time_s"] == pytest.approx([100.0, 1000.0], abs=0.1)
    assert (rest["programmed_clock_s"] == done["programmed_clock_s"][0]).all()
    assert (rest["cell_row"] == done["cell_row"][0]).all()


def test_a_board_that_was_off_in_between_is_refused():
    plan = replace(MANY, cells=4, stop_s=10.0)
    with opened(EmulatedBoard("ideal", seed=2)) as board:
        done = rows_of(board, EXPERIMENT, plan)
    done = {name: values[:2] for name, values in done.items()}
    other = EmulatedBoard("ideal", seed=2)
    with opened(other) as board, pytest.raises(BoardFault, match="board was off"):
        list(EXPERIMENT.run(board, plan, 2, done))
    assert other.truth.pulses.sum() == 0


def test_cells_that_cannot_be_formed_are_not_a_number(tmp_path: Path):
    plan = replace(MANY, cells=5, stop_s=1.0)
    row, col = plan.places((32, 32))[2].tolist()
    broken = exact_board(tmp_path, 3, faults=f"stuck_low:{row}:{col}:1e-8")
    with opened(broken) as board:
        data = rows_of(board, EXPERIMENT, plan)
    lost = np.isnan(data["conductance_siemens"])
    np.testing.assert_array_equal(lost, np.tile(np.arange(5) == 2, (2, 1)))
    assert found(EXPERIMENT, plan, data)["cells watched"].value == 4
    assert changes_siemens(data)[1].shape == (1, 4)


def test_the_picture_follows_every_cell(run):
    top, bottom = drawn(EXPERIMENT, MANY, run[0]).axes
    assert len(top.lines) == 1024 and len(bottom.lines) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"cells": 0},
        {"start_s": 0.0},
        {"start_s": 10.0, "stop_s": 1.0},
        {"stop_s": 1e8},
        {"stop_s": float("nan")},
        {"points_per_decade": 0},
        {"low_siemens": 9e-5, "high_siemens": 3e-5},
        {"policy": "guess"},
    ],
)
def test_times_and_cells_that_are_none_are_refused(wrong: dict):
    with pytest.raises(InputError):
        RetentionPlan(**wrong)


def test_what_the_array_has_not_is_refused():
    with opened(EmulatedBoard("ideal")) as board:
        with pytest.raises(InputError, match="the array has 1024"):
            EXPERIMENT.columns(RetentionPlan(cells=1025), board.spec)
        with pytest.raises(InputError, match="window"):
            EXPERIMENT.columns(RetentionPlan(high_siemens=120e-6), board.spec)
