"""A picture in the array: drawn, programmed, judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rram_host import open_board
from rram_host.errors import InputError
from rram_host.experiments import pictures
from rram_host.experiments.pattern import EXPERIMENT, PatternPlan
from sim import EmulatedBoard
from tests.array.rig import conducted, opened
from tests.experiments.boards import exact_board
from tests.experiments.whole import drawn, found, rows_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    """ "AI4S" on an emulated chip, and what its cells conduct right after."""
    emulated = exact_board(tmp_path_factory.mktemp("preset"), seed=6)
    with opened(emulated) as board:
        return rows_of(board, EXPERIMENT, PatternPlan()), conducted(emulated)


def test_the_text_is_drawn_letter_by_letter_in_square_boxes():
    ink = pictures.drawn_text("AI4S", (32, 32)) > 0.5
    assert 0.2 < ink.mean() < 0.5
    a, i, four, s = ink[:16, :16], ink[:16, 16:], ink[16:, :16], ink[16:, 16:]
    assert all(0.15 < letter.mean() < 0.6 for letter in (a, i, four, s))
    np.testing.assert_array_equal(i, i[:, ::-1])  # a bar in the middle
    assert (a == a[:, ::-1]).mean() > 0.95
    # "A" and "4" have holes, which stay empty
    assert not a[8, 8] and a[10, 8] and not four[8, 7]
    again = pictures.drawn_text("AI4S", (32, 32))
    assert ((again > 0.5) == ink).all() and again.min() == 0.0 and again.max() == 1.0


def test_a_text_fits_any_array_and_a_wide_one_takes_one_line():
    ink = pictures.drawn_text("HI", (8, 16)) > 0.5
    for letter in (ink[:, :8], ink[:, 8:]):
        assert letter.any() and not letter.all()
        np.testing.assert_array_equal(letter, letter[:, ::-1])
        np.testing.assert_array_equal(letter, letter[::-1])


def test_the_array_holds_the_picture(run):
    data, truth = run
    ink = pictures.drawn_text("AI4S", (32, 32)) > 0.5
    np.testing.assert_array_equal(data["target_siemens"][0], np.where(ink, 80e-6, 20e-6))
    np.testing.assert_array_equal(truth > 50e-6, ink)
    by_name = found(EXPERIMENT, PatternPlan(), data)
    within = by_name["cells within ±3.5 µS"]
    target = data["target_siemens"][0]
    assert within.value == 100 * (np.abs(truth - target) <= 3.5e-6).mean() == 100.0
    assert within.error > 0 and "95" in within.paper
    spread = by_name["std of reading minus target"]
    # both see the same cells, so they differ by far less than the error
    assert spread.value == pytest.approx((truth - target).std() / 1e-6, abs=spread.error)


def test_shares_and_largest_error_follow_from_the_records(run):
    data = {name: values.copy() for name, values in run[0].items()}
    data["measured_siemens"][0, 0, :8] = data["target_siemens"][0, 0, :8] - 10e-6
    by_name = found(EXPERIMENT, PatternPlan(), data)
    assert by_name["cells within ±3.5 µS"].value == pytest.approx(100 * 1016 / 1024)
    assert by_name["largest error"].value == pytest.approx(10.0)


def test_cells_that_the_passport_holds_back_are_counted_and_named(tmp_path: Path):
    plan = PatternPlan()
    with open_board(EmulatedBoard("ideal", seed=5), passport=tmp_path / "chip.json") as board:
        board.passport.note_dead(4, 7, "leaks")
        data = rows_of(board, EXPERIMENT, plan)
    np.testing.assert_array_equal(data["target_siemens"][0], plan.targets((32, 32)))
    by_name = found(EXPERIMENT, plan, data)
    assert by_name["cells dead or worn by the passport, left out"].value == 1
    assert by_name["cell (4, 7) left out by the passport"].value == 1
    assert by_name["cells within ±3.5 µS"].value == 100.0


def test_the_picture_of_a_run_has_both_maps_and_the_distribution(run):
    figure = drawn(EXPERIMENT, PatternPlan(), run[0])
    maps = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    np.testing.assert_allclose(maps[0], run[0]["measured_siemens"][0] * 1e6)


def test_an_image_is_stretched_and_keeps_as_many_greys_as_asked(tmp_path: Path):
    ramp = np.tile(np.linspace(0, 255, 320).astype(np.uint8), (64, 1))
    path = tmp_path / "ramp.png"
    Image.fromarray(ramp).save(path)
    greys = pictures.image(path, (32, 32))
    # means of ten pixels of a ramp, whose values were rounded down
    assert greys == pytest.approx(np.tile((np.arange(32) + 0.5) / 32, (32, 1)), abs=0.02)
    plan = PatternPlan(image=str(path), levels=4, low_siemens=10e-6, high_siemens=100e-6)
    targets = plan.targets((32, 32))
    assert np.unique(targets) == pytest.approx([10e-6, 40e-6, 70e-6, 100e-6])
    assert (np.diff(targets, axis=1) >= 0).all()
    turned = replace(plan, invert=True).targets((32, 32))
    np.testing.assert_allclose(turned + targets, 110e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"low_siemens": 80e-6, "high_siemens": 20e-6},
        {"levels": 1},
        {"text": "  "},
        {"text": "\u4f60\u597d"},
        {"text": "x" * 17},
        {"read_average": 0},
    ],
)
def test_pictures_that_are_none_are_refused(wrong: dict):
    with pytest.raises(InputError):
        PatternPlan(**wrong)


def test_an_image_that_cannot_be_read_is_refused_before_the_first_pulse(tmp_path: Path):
    (tmp_path / "text.png").write_text("no image")
    emulated = EmulatedBoard("ideal")
    with opened(emulated) as board:
        for name in ("text.png", "missing.png"):
            with pytest.raises(InputError, match=name):
                EXPERIMENT.columns(PatternPlan(image=str(tmp_path / name)), board.spec)
        with pytest.raises(InputError, match=r"window is 5\.\.110"):
            EXPERIMENT.columns(PatternPlan(low_siemens=0.5e-6), board.spec)
    assert emulated.truth.pulses.sum() == 0
