"""Experiments on single cells: a run that was cut ends like a whole one, and can be looked at."""

from __future__ import annotations

import numpy as np
import pytest

from rram_host.experiments import cycle, forming, iv, linearity, set_curve
from rram_host.experiments.recording import record
from sim import EmulatedBoard
from tests.array.rig import opened
from tests.experiments.whole import drawn, found

PLANS = [
    (iv.EXPERIMENT, iv.IvPlan(cell=(2, 3), cycles=3, step_v=0.2)),
    (set_curve.EXPERIMENT, set_curve.SetCurvePlan(wl_step_v=0.4, repetitions=3, per_row=1)),
    (cycle.EXPERIMENT, cycle.CyclePlan(cycles=6, runs=3)),
    (linearity.EXPERIMENT, linearity.LinearityPlan(levels=3, points=5, sweeps=3, average=2)),
    (forming.EXPERIMENT, forming.FormingPlan(start_v=3.1, stop_v=3.3, step_v=0.2)),
]
IDS = [experiment.name for experiment, _ in PLANS]
STOP_AFTER = 2


@pytest.fixture(params=PLANS, ids=IDS)
def job(request):
    """An experiment and a small plan."""
    return request.param


def recorded(path, job, **how):
    """Records of a run on a fresh board of the same seed."""
    with opened(EmulatedBoard("taox_180nm", seed=12)) as board:
        return record(board, *job, path, **how).data()


def test_a_run_that_was_cut_ends_with_the_same_records(tmp_path, job):
    whole = recorded(tmp_path / "whole.h5", job)
    units_done = iter(range(100))
    cut = recorded(tmp_path / "cut.h5", job, should_stop=lambda: next(units_done) == STOP_AFTER)
    column = next(iter(cut))
    assert 0 < len(cut[column]) < len(whole[column])
    resumed = recorded(tmp_path / "cut.h5", job, resume=True)
    assert set(resumed) == set(whole)
    for name, values in whole.items():
        np.testing.assert_array_equal(resumed[name], values, err_msg=name)


def test_findings_and_picture_can_be_made_of_any_part_of_a_run(tmp_path, job):
    experiment, plan = job
    whole = recorded(tmp_path / "whole.h5", job)
    column = next(iter(whole))
    per_unit = len(whole[column]) // experiment.units(plan, opened_spec())
    for units in (1, 2):
        part = {name: values[: units * per_unit] for name, values in whole.items()}
        assert found(experiment, plan, part)
        assert drawn(experiment, plan, part).axes
    names = [finding.name for finding in experiment.findings(plan, whole)]
    assert len(names) == len(set(names))
    for finding in experiment.findings(plan, whole):
        assert finding.error is None or np.isfinite(finding.error)


def opened_spec():
    """The board file of the emulated board."""
    return EmulatedBoard("ideal").spec
