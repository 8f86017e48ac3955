"""Forming: every cell forms at the first step above its threshold, and lost cells are named."""

from __future__ import annotations

import numpy as np
import pytest

from rram_host import open_board
from rram_host.errors import InputError
from rram_host.experiments.forming import EXPERIMENT, FormingPlan, cells_where
from sim import EmulatedBoard
from tests.array.rig import opened
from tests.experiments.whole import drawn, found, rows_of

PLAN = FormingPlan(step_v=0.1)
UNFORMABLE, SHORTED = (5, 6), (7, 8)


@pytest.fixture(scope="module")
def formed(tmp_path_factory):
    """A chip with a passport, a cell that will not form and one that is shorted, after forming."""
    emulated = EmulatedBoard("taox_180nm", seed=8, defects="shorted_cell:7:8")
    emulated.bench.cells.form_v[UNFORMABLE] = 4.0
    passport = tmp_path_factory.mktemp("passport") / "chip.json"
    with open_board(emulated, passport=passport) as board:
        data = rows_of(board, EXPERIMENT, PLAN)
        dead = np.argwhere(board.passport.dead).tolist()
    return data, emulated, dead


def test_a_cell_forms_at_the_first_step_above_its_threshold(formed):
    data, emulated, _ = formed
    formed_v, threshold_v = data["formed_v"], emulated.bench.cells.form_v
    here = np.isfinite(formed_v)
    assert here.sum() == 1022
    # 4 mV: offset and gain of converters, 0.75 mV and 0.03 % of 3 V rms, three sigma and more
    # for the largest of 32 lines
    above, first = threshold_v <= formed_v + 0.004, formed_v < PLAN.start_v + 0.01
    assert above[here].all()
    assert ((threshold_v > formed_v - PLAN.step_v - 0.004) | first)[here].all()


def test_mean_and_spread_of_forming_voltages_are_those_of_the_cells(formed):
    data, emulated, _ = formed
    by_name = found(EXPERIMENT, PLAN, data)
    true_v = emulated.bench.cells.form_v[np.isfinite(data["formed_v"])]
    mean, std = by_name["forming voltage, mean"], by_name["forming voltage, std"]
    # the sample is the same: the error is that of the steps alone, and below the stated one
    assert mean.value == pytest.approx(true_v.mean(), abs=3 * mean.error)
    assert std.value == pytest.approx(true_v.std(ddof=1), abs=3 * std.error)


def test_lost_cells_are_counted_named_and_put_into_the_passport(formed):
    data, _, dead = formed
    by_name = found(EXPERIMENT, PLAN, data)
    assert cells_where(data, "unformed") == [UNFORMABLE]
    assert cells_where(data, "shorted") == [SHORTED]
    assert sorted(map(tuple, dead)) == sorted([UNFORMABLE, SHORTED])
    assert by_name["cells formed"].value == 1022 and by_name["cells shorted"].value == 1
    assert by_name["cells that did not form"].value == 1
    texts = [text.get_text() for text in drawn(EXPERIMENT, PLAN, data).axes[0].texts]
    assert "unformed: (5, 6)" in texts[0] and "shorted: (7, 8)" in texts[0]


def test_pulses_and_steps_on_record_are_those_that_the_cells_saw(formed):
    data, emulated, _ = formed
    here = np.isfinite(data["formed_v"])
    steps = np.rint((data["formed_v"] - PLAN.start_v) / PLAN.step_v)[here] + 1
    assert (data["pulses"][here] == steps).all()
    seen = emulated.truth.pulses
    assert (data["pulses"][here] == seen[here]).all()
    step, row, col = 0, 3, 4
    step = int(data["pulses"][row, col]) - 1
    assert data["step_siemens"][row, step - 1, col] < 1e-6 < data["step_siemens"][row, step, col]


def test_cells_that_are_formed_are_left_alone():
    emulated = EmulatedBoard("taox_180nm", seed=9)
    plan = FormingPlan(start_v=3.5, stop_v=3.6, step_v=0.1)
    with opened(emulated) as board:
        board.array.form()
        before = emulated.truth.pulses
        data = rows_of(board, EXPERIMENT, plan)
    assert (emulated.truth.pulses == before).all()
    assert found(EXPERIMENT, plan, data)["cells formed before"].value == 1024
    drawn(EXPERIMENT, plan, data)


def test_cells_that_the_passport_calls_dead_are_left_alone_and_named(tmp_path):
    emulated = EmulatedBoard("taox_180nm", seed=9)
    plan = FormingPlan(start_v=3.3, stop_v=3.5, step_v=0.2)
    with open_board(emulated, passport=tmp_path / "chip.json") as board:
        board.passport.note_dead(3, 5, "leaks into its column")
        board.passport.note_dead(4, 6, "not formed at 3.0 V")  # a higher ramp is worth a try
        data = rows_of(board, EXPERIMENT, plan)
        assert np.argwhere(board.passport.dead).tolist() == [[3, 5]]
    assert emulated.truth.pulses[3, 5] == 0 < emulated.truth.pulses[4, 6]
    assert cells_where(data, "left_out") == [(3, 5)]
    by_name = found(EXPERIMENT, plan, data)
    assert by_name["cells dead by the passport, left alone"].value == 1
    assert by_name["cells formed before"].value == 0
    texts = [text.get_text() for text in drawn(EXPERIMENT, plan, data).axes[0].texts]
    assert "left out: (3, 5)" in texts[0]


@pytest.mark.parametrize("width_s", [1e-8, 3.0, 10.0])
def test_a_width_that_no_pulse_has_is_refused_before_anything_is_recorded(width_s):
    spec = EmulatedBoard("ideal").spec
    with pytest.raises(InputError, match=rf"pulses of {width_s:g} s are outside .* to 0.001 s"):
        EXPERIMENT.units(FormingPlan(width_s=width_s), spec)


@pytest.mark.parametrize(
    "settings", [{"step_v": 0.0}, {"start_v": 3.7}, {"wl_v": 0.0}, {"width_s": float("nan")}]
)
def test_plans_that_cannot_run_are_refused(settings):
    with pytest.raises(InputError):
        FormingPlan(**settings)


@pytest.mark.parametrize("settings", [{"stop_v": 3.8}, {"wl_v": 4.6}])
def test_what_the_board_cannot_do_is_refused_before_the_first_pulse(settings):
    emulated = EmulatedBoard("ideal", seed=0)
    with opened(emulated) as board, pytest.raises(InputError):
        next(EXPERIMENT.run(board, FormingPlan(**settings), 0, {}))
    assert emulated.truth.pulses.sum() == 0
