"""The products' example: what is sent, what the array holds, what comes out, and the error."""

from __future__ import annotations

import numpy as np
import pytest

from rram_host import open_board
from rram_host.errors import InputError
from rram_host.experiments.vmm_example import EXPERIMENT, VmmExamplePlan, relative_error
from sim import EmulatedBoard
from tests.array.rig import opened
from tests.experiments.whole import drawn, found, rows_of


@pytest.fixture(scope="module", params=["single", "differential"])
def run(request: pytest.FixtureRequest):
    plan = VmmExamplePlan(matrices=2, vectors=64, scheme=request.param, read_average=4)
    emulated = EmulatedBoard("ideal", seed=1)
    with opened(emulated) as board:
        data = rows_of(board, EXPERIMENT, plan)
    return plan, data, emulated.truth.conductances_siemens


def test_weights_read_back_are_those_of_the_cells(run):
    plan, data, g = run
    single = plan.scheme == "single"
    truth = (g - 50e-6) / 30e-6 if single else (g[:, ::2] - g[:, 1::2]) / 60e-6
    largest = np.abs(data["weights"][-1]).max()
    # a converter's code is 12 nS, so a reading of 8 is true to 0.01 uS, 4e-4 of the span
    np.testing.assert_allclose(data["weights_read"][-1], truth * largest, atol=1e-3)
    assert np.abs(data["weights"]).max() <= 1 and np.abs(data["inputs_v"]).max() <= 0.1
    assert (data["weights"][0] != data["weights"][1]).all()


def test_cells_that_the_passport_holds_back_are_counted(tmp_path):
    plan = VmmExamplePlan(matrices=1, vectors=8, read_average=4)
    with open_board(EmulatedBoard("ideal", seed=1), passport=tmp_path / "chip.json") as board:
        for col in (3, 4):
            board.passport.note_dead(4, col, "leaks")
        data = rows_of(board, EXPERIMENT, plan)
    name = "cells dead or worn by the passport, left as they were"
    assert found(EXPERIMENT, plan, data)[name].value == 2


def test_outputs_are_the_products_of_what_the_cells_hold(run):
    plan, data, _ = run
    rms, error = relative_error(data, "weights_read")
    # an ideal board rounds to codes and nothing else: 36 nA of products of 2 uA and more
    assert rms < 0.03 and 0 < error < 0.1 * rms
    by_name = found(EXPERIMENT, plan, data)
    asked = by_name["rms error of a product against W, of its rms"]
    read = by_name["rms error of a product against W as read back, of its rms"]
    assert read.value == pytest.approx(100 * rms) and asked.value > read.value
    assert by_name["products measured"].value == data["outputs_v"].size
    assert by_name["conversions saturated"].value == 0


def test_the_error_is_the_rms_of_the_difference(run):
    _, data, _ = run
    exact = np.stack([x @ w.T for x, w in zip(data["inputs_v"], data["weights"], strict=True)])
    by_hand = np.sqrt(np.mean((data["outputs_v"] - exact) ** 2) / np.mean(exact**2))
    assert relative_error(data, "weights")[0] == pytest.approx(by_hand)


def test_units_stand_alone(run):
    plan, data, _ = run
    with opened(EmulatedBoard("ideal", seed=1)) as board:
        second = list(EXPERIMENT.run(board, plan, 1, {}))
    assert len(second) == 1
    np.testing.assert_array_equal(second[0]["weights"][0], data["weights"][1])
    np.testing.assert_array_equal(second[0]["inputs_v"][0], data["inputs_v"][1])


def test_the_picture_shows_inputs_weights_and_outputs(run):
    plan, data, _ = run
    images = [axes.images[0] for axes in drawn(EXPERIMENT, plan, data).axes if axes.images]
    np.testing.assert_array_equal(images[1].get_array(), data["weights_read"][0])


@pytest.mark.parametrize(
    "wrong", [{"matrices": 0}, {"vectors": 0}, {"scheme": "triple"}, {"policy": "guess"}]
)
def test_products_of_nothing_are_refused(wrong: dict):
    with pytest.raises(InputError):
        VmmExamplePlan(**wrong)
