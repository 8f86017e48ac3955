"""Linearity: currents are those of the cells, and a bend would be seen."""

from __future__ import annotations

import numpy as np
import pytest

from rram_host import open_board
from rram_host.errors import InputError
from rram_host.experiments.linearity import EXPERIMENT, LinearityPlan, largest_of_noise, lines
from sim import EmulatedBoard
from sim.wiring import LINEAR_V
from tests.array.rig import opened
from tests.experiments.whole import drawn, found, rows_of

SMALL = LinearityPlan(levels=6, sweeps=4)
OF_NOISE = "largest that noise alone would give, median"


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


def test_the_largest_deviation_stands_beside_that_of_noise_alone():
    """60 runs of straight lines with noise: the largest is above the stated median in half of
    them, 30 +- 3.9, three errors; a bend of 1 % of I is far above it in all."""
    plan, rng = LinearityPlan(levels=6, sweeps=5), np.random.default_rng(3)
    above = 0
    for _ in range(60):
        ohmic = plan.targets_siemens * plan.volts[:, None]
        scatter = 0.001 * rng.standard_normal((5, *ohmic.shape))
        # noise of reads goes with the voltage, and some cells have more
        size = np.array([1.0, 1.0, 1.0, 2.0, 1.0, 3.0]) * np.hypot(0.3, plan.volts / 0.1)[:, None]
        current = ohmic + scatter * size * plan.targets_siemens * plan.max_v
        by_name = found(EXPERIMENT, plan, {"current_a": current.reshape(-1, 6)})
        largest, noise = by_name["largest deviation"], by_name[OF_NOISE]
        assert largest.error is None and noise.error is None
        above += largest.value > noise.value
        bent = current + 0.03 * ohmic * (plan.volts / 0.1)[:, None] ** 2
        by_name = found(EXPERIMENT, plan, {"current_a": bent.reshape(-1, 6)})
        assert by_name["largest deviation"].value > 1.5 * by_name[OF_NOISE].value
    assert abs(above - 30) <= 3 * 3.9


def test_the_largest_of_noise_is_that_of_independent_gaussians():
    """Against 20000 draws; the median of the largest of 21 x 6 is known to some 0.3 %."""
    error = np.linspace(1.0, 3.0, 6) * np.linspace(0.5, 1.5, 21)[:, None]
    draws = error * np.random.default_rng(0).standard_normal((20000, 21, 6))
    expected = np.median(np.abs(draws).max((1, 2)))
    assert largest_of_noise(error) == pytest.approx(expected, rel=0.01)
    assert largest_of_noise(np.zeros((21, 6))) == 0.0
    assert np.isnan(largest_of_noise(np.full((21, 6), np.nan)))


def test_the_help_says_that_emulated_cells_are_ohmic():
    help_text = " ".join(EXPERIMENT.help.split())
    assert "the emulated board (sim://) reads cells as ohmic up to 0.2 V" in help_text
    assert LINEAR_V == 0.2


def test_cells_share_no_line_and_the_picture_shows_them(swept):
    for levels in (1, 7, 14, 32):
        rows, cols = LinearityPlan(levels=levels).places((32, 32))
        assert len(set(rows)) == len(set(cols)) == levels and max(*rows, *cols) < 32
    assert len(drawn(EXPERIMENT, SMALL, swept[0]).axes) == 2


def test_cells_that_cannot_be_used_are_nan_and_in_no_finding(tmp_path):
    plan = LinearityPlan(levels=4, sweeps=2, average=2)
    rows, cols = plan.places((32, 32))
    emulated = EmulatedBoard("ideal", seed=0)
    emulated.bench.cells.form_v[rows[2], cols[2]] = 99.0
    with open_board(emulated, passport=tmp_path / "chip.json") as board:
        board.passport.note_dead(int(rows[1]), int(cols[1]), "leaks")
        data = rows_of(board, EXPERIMENT, plan)
        again = rows_of(board, EXPERIMENT, plan, 1, {name: v[:21] for name, v in data.items()})
    for read in (data, again):
        lost = np.isnan(read["current_a"])
        assert lost.all(0).tolist() == lost.any(0).tolist() == [False, True, True, False]
    by_name = found(EXPERIMENT, plan, data)
    assert by_name["cells that could not be used, left out"].value == 2
    assert by_name["deviation from Ohm's law, rms"].value < 1.0
    assert by_name["lowest conductance"].value == pytest.approx(30, abs=1.5)
    assert by_name["highest conductance"].value == pytest.approx(95, abs=1.5)
    assert len(drawn(EXPERIMENT, plan, data).axes[0].lines) == 4
    data["current_a"][:] = np.nan
    assert found(EXPERIMENT, plan, data)["cells that could not be used, left out"].value == 4
    drawn(EXPERIMENT, plan, data)


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
