"""Linearity: currents are those of the cells, and a bend would be seen."""

from __future__ import annotations

import numpy as np
import pytest

from rram_host.errors import InputError
from rram_host.experiments.linearity import EXPERIMENT, LinearityPlan, lines
from sim import EmulatedBoard
from tests.array.rig import opened
from tests.experiments.whole import drawn, found, rows_of

SMALL = LinearityPlan(levels=6, sweeps=4)


@pytest.fixture(scope="module")
def swept():
    """Sweeps of cells of an emulated chip, and the chip."""
    emulated = EmulatedBoard("taox_180nm", seed=6)
    with opened(emulated) as board:
        return rows_of(board, EXPERIMENT, SMALL), emulated


def test_slopes_are_the_conductances_of_the_cells(swept):
    data, emulated = swept
    fitted = lines(SMALL, data)
    rows, cols = SMALL.places((32, 32))
    truth = (emulated.truth.conductances_siemens * emulated.bench.noise.factor)[rows, cols]
    # Slow noise of some 0.2 % goes on between sweeps; wires that an uncalibrated board does not
    # know, and a switch off by 8 ohm, take up to 0.5 % of 95 uS.
    assert fitted.g.mean(0) == pytest.approx(truth, rel=0.012)
    assert data["target_siemens"][0] == pytest.approx(SMALL.targets_siemens)


def test_cells_obey_ohms_law_to_the_noise(swept):
    """Emulated cells are linear up to 0.1 V: what deviates is noise, and the converters' bow."""
    data, _ = swept
    by_name = found(EXPERIMENT, SMALL, data)
    rms, noise = by_name["deviation from Ohm's law, rms"], by_name["of which noise, rms"]
    # 126 points: the rms of the noise is known to some 10 %; bow of an LSB is 0.03 % at most
    assert rms.value < np.hypot(1.3 * noise.value, 0.04)
    third = by_name["third order at V_max, mean of cells"]
    assert abs(third.value) < 3 * third.error + 0.03
    assert 28 < by_name["lowest conductance"].value < by_name["highest conductance"].value < 97


def test_without_noise_lines_are_straight_to_a_code():
    emulated = EmulatedBoard("ideal", seed=0)
    plan = LinearityPlan(levels=4, sweeps=1, average=1)
    with opened(emulated) as board:
        data = rows_of(board, EXPERIMENT, plan)
    fitted = lines(plan, data)
    rows, cols = plan.places((32, 32))
    truth = emulated.truth.conductances_siemens[rows, cols]
    # the largest current of a batch decides the range: a code of 45 kohm, 2.4 nA
    assert fitted.g[0] == pytest.approx(truth, rel=3e-3)
    worst_a = np.abs(fitted.deviation * fitted.g.mean(0) * plan.max_v).max()
    assert worst_a < 2 * 2.5e-9


def test_a_bend_is_found_with_its_order_and_size():
    plan = LinearityPlan(levels=3, sweeps=5)
    rng, x = np.random.default_rng(1), plan.volts / plan.max_v
    current = plan.targets_siemens * plan.volts[:, None] * (1 + 0.004 * x + 0.02 * x**2)[:, None]
    current = current + 3e-9 + 1e-9 * rng.standard_normal((5, *current.shape))
    data = {"current_a": current.reshape(-1, 3)}
    by_name = found(EXPERIMENT, plan, data)
    second, third = (by_name[f"{k} order at V_max, mean of cells"] for k in ("second", "third"))
    assert second.value == pytest.approx(0.4, abs=3 * max(second.error, 0.005))
    assert third.value == pytest.approx(2.0, abs=3 * max(third.error, 0.02))
    assert by_name["deviation from Ohm's law, rms"].value > 0.3


def test_cells_share_no_line_and_the_picture_shows_them(swept):
    for levels in (1, 7, 14, 32):
        rows, cols = LinearityPlan(levels=levels).places((32, 32))
        assert len(set(rows)) == len(set(cols)) == levels and max(*rows, *cols) < 32
    assert len(drawn(EXPERIMENT, SMALL, swept[0]).axes) == 2


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sweeps": 0}, "sweeps = 0"),
        ({"points": 4}, "points = 4"),
        ({"average": 2000}, "at most"),
        ({"low_siemens": 96e-6}, "low <= high"),
        ({"max_v": 0.0}, "above 0 V"),
    ],
)
def test_plans_that_cannot_run_are_refused(settings, says):
    with pytest.raises(InputError, match=says):
        LinearityPlan(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"levels": 33}, "33 cells"),
        ({"max_v": 0.2}, "max_v = 0.2 V is outside 0..0.1 V"),
        ({"high_siemens": 200e-6}, "outside the chip's window"),
    ],
)
def test_what_the_board_cannot_do_is_refused_before_the_first_pulse(settings, says):
    emulated = EmulatedBoard("ideal", seed=0)
    with opened(emulated) as board, pytest.raises(InputError, match=says):
        next(EXPERIMENT.run(board, LinearityPlan(**settings), 0, {}))
    assert emulated.truth.pulses.sum() == 0
