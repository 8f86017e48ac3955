"""Single-shot SET: the fitted line is that of the cells, and its errors are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from rram_host import open_board
from rram_host.errors import InputError
from rram_host.experiments.common import spread_cells
from rram_host.experiments.set_curve import EXPERIMENT, SetCurvePlan, curve, fit
from rram_host.passport import Limits
from sim import EmulatedBoard
from tests.array.rig import opened
from tests.experiments.whole import drawn, found, rows_of

SMALL = SetCurvePlan(wl_step_v=0.1, repetitions=4, per_row=1)
SLOPE = "slope, mean of these cells, reading error apart"


def of_cells(emulated: EmulatedBoard, chosen: np.ndarray) -> tuple[float, float]:
    """Slope (S/V) and offset (V) of the line that the mean of some cells lies on."""
    cells = emulated.bench.cells
    slope = cells.set_slope[chosen].mean()
    return slope, (cells.set_slope * cells.set_offset_v)[chosen].mean() / slope


@pytest.fixture(scope="module")
def measured():
    """A small curve on an emulated chip, and the chip."""
    emulated = EmulatedBoard("taox_180nm", seed=3)
    with opened(emulated) as board:
        return rows_of(board, EXPERIMENT, SMALL), emulated


def test_the_fitted_line_is_that_of_the_cells(measured):
    data, emulated = measured
    by_name = found(EXPERIMENT, SMALL, data)
    slope, offset_v = of_cells(emulated, spread_cells(1, (32, 32)))
    stated = by_name[SLOPE]
    # 0.3 %: wires of up to 64 ohm in series with 60 uS, which an uncalibrated board does not know
    assert stated.value == pytest.approx(slope / 1e-6, abs=3 * stated.error + 0.3)
    offset = by_name["offset, mean of these cells, reading error apart"]
    assert offset.value == pytest.approx(offset_v, abs=3 * offset.error)
    # 7 % of the move of the preset; 9 x 32 x 3 degrees of freedom tell it to 2.4 %, and the
    # fixed 0.4 uS of small moves adds a tenth at 20 uS
    assert by_name["scatter from pulse to pulse"].value == pytest.approx(7.0, rel=0.12)
    assert by_name["cells"].value == 32


def test_worn_cells_are_left_out_and_too_many_pulses_refused_before_the_first(tmp_path):
    plan = SetCurvePlan(wl_step_v=0.4, repetitions=2, per_row=1)  # 2 x 3 x 3 pulses a cell
    emulated = EmulatedBoard("ideal", seed=3)
    had = np.zeros((32, 32), dtype=np.int64)
    had[2, 2] = 18
    with open_board(emulated, passport=tmp_path / "chip.json") as board:
        board.passport.note_pulses(had)
        board.passport.note_limits(Limits(max_pulses_per_cell=17))
        with pytest.raises(InputError, match=r"18 pulses a cell; .* allows 17"):
            next(EXPERIMENT.run(board, plan, 0, {}))
        assert emulated.truth.pulses.sum() == 0
        board.passport.note_limits(Limits(max_pulses_per_cell=18))
        data = rows_of(board, EXPERIMENT, plan)
        assert board.passport.contents.pulses.max() == 18
    assert emulated.truth.pulses[2, 2] == 0 and np.isnan(data["set_siemens"][:, 2, 2]).all()
    assert found(EXPERIMENT, plan, data)["cells"].value == 31


def test_an_uncalibrated_slope_is_not_told_as_known_to_its_error(measured):
    """Readings a common 1 % low move the slope by more than its error, which cannot know: the
    finding says that they are not in it, and the help what to do."""
    data, _ = measured
    low = found(EXPERIMENT, SMALL, {**data, "set_siemens": 0.99 * data["set_siemens"]})
    stated = found(EXPERIMENT, SMALL, data)[SLOPE]
    assert stated.value - low[SLOPE].value > 2 * stated.error
    assert "reading error apart" in SLOPE and "Calibrate first" in EXPERIMENT.help


def test_every_set_starts_from_reset(measured):
    data, _ = measured
    chosen = spread_cells(1, (32, 32))
    # 2.6 V takes cells to the floor of 1 uS, those whose threshold is three sigma high (0.2 V) to
    # 8 uS: below the 20 uS of the weakest SET
    assert (data["reset_siemens"][:, chosen] < 10e-6).all()
    assert np.isnan(data["set_siemens"][:, ~chosen]).all()
    orders = data["wl_v"].reshape(SMALL.repetitions, -1)
    assert (np.sort(orders, axis=1) == SMALL.wl_v).all()  # each voltage once a repetition
    assert (orders[0] != orders[1]).any()


def test_without_noise_the_line_is_exact():
    emulated = EmulatedBoard("ideal", seed=0)
    plan = SetCurvePlan(wl_step_v=0.2, repetitions=2, per_row=1)
    with opened(emulated) as board:
        data = rows_of(board, EXPERIMENT, plan)
    line, _, _ = fit(curve(data))
    slope, offset_v = of_cells(emulated, spread_cells(1, (32, 32)))
    # a code is 0.024 uS, and gates are set to 76 uV
    assert line[0] == pytest.approx(slope, rel=2e-3)
    assert -line[1] / line[0] == pytest.approx(offset_v, abs=1e-3)


def test_errors_of_the_fit_are_what_they_say():
    """Pulls of many fits have mean 0 and variance 1."""
    rng, volts = np.random.default_rng(11), np.linspace(0.9, 1.7, 9)
    pulls, chi2 = [], []
    for _ in range(150):
        cell = 100e-6 * (volts[:, None] - 0.7) * (1 + 0.1 * rng.standard_normal(12))
        slope = np.polyfit(volts, cell.mean(1), 1)[0]
        read = cell + 0.07 * cell * rng.standard_normal((8, *cell.shape))
        data = {"wl_v": np.tile(volts, 8), "set_siemens": read.reshape(72, 3, 4)}
        line, covariance, found_chi2 = fit(curve(data))
        pulls.append((line[0] - slope) / np.sqrt(covariance[0, 0]))
        chi2.append(found_chi2)
    # 150 draws: mean to 1 / sqrt(150), standard deviation to 1 / sqrt(300); three of each
    assert abs(np.mean(pulls)) < 3 / 150**0.5
    assert abs(np.std(pulls) - 1) < 3 / 300**0.5
    assert np.mean(chi2) == pytest.approx(
        7, abs=3 * (14 / 150) ** 0.5 + 0.1
    )  # errors are estimates


def test_a_run_cut_short_has_a_line_without_an_error(measured):
    data, _ = measured
    first = {name: values[: SMALL.wl_v.size] for name, values in data.items()}
    by_name = found(EXPERIMENT, SMALL, first)
    assert by_name[SLOPE].error is None and by_name[SLOPE].value > 50
    drawn(EXPERIMENT, SMALL, first)
    assert len(drawn(EXPERIMENT, SMALL, data).axes) == 2


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"repetitions": 0}, "repetitions = 0"),
        ({"per_row": 0}, "per_row = 0"),
        ({"wl_step_v": -0.1}, "steps must be above"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_plans_that_cannot_run_are_refused(settings, says):
    with pytest.raises(InputError, match=says):
        SetCurvePlan(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"wl_stop_v": 4.6}, "wl_stop_v = 4.6 V is outside 0..4.5 V"),
        ({"set_v": 3.8}, "set_v = 3.8 V is outside 0..3.7 V"),
        ({"reset_v": 2.9}, "reset_v = 2.9 V is outside"),
        ({"per_row": 33}, "per_row = 33 cells"),
    ],
)
def test_what_the_board_cannot_do_is_refused_before_the_first_pulse(settings, says):
    emulated = EmulatedBoard("ideal", seed=0)
    with opened(emulated) as board, pytest.raises(InputError, match=says):
        next(EXPERIMENT.run(board, SetCurvePlan(**settings), 0, {}))
    assert emulated.truth.pulses.sum() == 0
