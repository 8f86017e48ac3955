"""Runs that are stopped after a unit and resumed on a new board end with the same records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rram_host import open_board
from rram_host.experiments import forming
from rram_host.experiments.distribution import DistributionPlan
from rram_host.experiments.endurance import EndurancePlan
from rram_host.experiments.experiment import Experiment
from rram_host.experiments.recording import record
from rram_host.experiments.retention import RetentionPlan
from rram_host.experiments.vmm_example import VmmExamplePlan

URL = "sim://?preset=taox_180nm&seed=3"
PLANS = {
    "distribution": DistributionPlan(step_siemens=40e-6, rounds=2),
    "retention": RetentionPlan(cells=5, stop_s=1e4, points_per_decade=1),
    "endurance": EndurancePlan(cycles=20, block_rows=2, block_cols=2),
    "vmm-example": VmmExamplePlan(matrices=2, vectors=8),
}


def stopped_after(units: int):
    """A question that is answered with yes once so many units are done."""
    done: list[int] = []

    def advance(finished: int, total: int) -> None:
        done.append(finished)

    return {"progress": advance, "should_stop": lambda: bool(done) and done[-1] >= units}


@pytest.mark.parametrize("name", PLANS)
def test_a_resumed_run_has_the_records_of_one_that_was_not_broken_off(name: str, tmp_path: Path):
    experiment, plan = _experiment(name), PLANS[name]
    with open_board(URL) as board:
        whole = record(board, experiment, plan, tmp_path / "whole.h5")
    path = tmp_path / "parts.h5"
    with open_board(URL) as board:
        first = record(board, experiment, plan, path, **stopped_after(1))
    assert first.state.status == "interrupted" and first.state.units == 1
    with open_board(URL) as board:
        board.array.look()  # what a fresh board went through does not matter
        rest = record(board, experiment, plan, path, resume=True)
    assert rest.state.status == "done" == whole.state.status
    one, other = whole.data(), rest.data()
    for column, values in one.items():
        np.testing.assert_array_equal(other[column], values, err_msg=column)


def _experiment(name: str) -> Experiment[Any]:
    from rram_host.experiments.catalogue import EXPERIMENTS

    return EXPERIMENTS[name]


def test_a_row_that_was_being_formed_is_formed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The passport has seen its cells formed; the board that was put back has not."""
    plan = forming.FormingPlan(start_v=3.2, stop_v=3.4, step_v=0.2)
    job = forming.EXPERIMENT, plan
    with open_board(URL, passport=tmp_path / "whole.json") as board:
        whole = record(board, *job, tmp_path / "whole.h5", **stopped_after(4)).data()

    def broken(row: int, *rest: Any) -> Any:
        if row == 2:
            raise KeyboardInterrupt
        return honest(row, *rest)

    honest, path, passport = forming._record, tmp_path / "parts.h5", tmp_path / "parts.json"
    with monkeypatch.context() as cut:
        cut.setattr(forming, "_record", broken)
        with pytest.raises(KeyboardInterrupt), open_board(URL, passport=passport) as board:
            record(board, *job, path)
    with open_board(URL, passport=passport, check_map=False) as board:
        rest = record(board, *job, path, resume=True, **stopped_after(4)).data()
        assert board.passport.contents.formed[2].any()
    assert len(rest["pulses"]) == 4 and (rest["pulses"][2] > 0).any()
    for column, values in whole.items():
        np.testing.assert_array_equal(rest[column], values, err_msg=column)
