"""Calibration: found by reads alone, then compared with what the emulated parts really are.

A board's seed decides what its parts are worth, so the truth is that of a fresh board of the same
seed, and the host never sees it.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge import board_spec
from firmware_bridge.chips import ads8324
from rram_host.array.calibrate import DAC_OFFSET_PRIOR_V, CalibrationPlan
from rram_host.array.calibration import Calibration
from rram_host.errors import BoardFault, InputError
from sim import presets
from sim.board import EmulatedBoard
from sim.chips import ads8324 as emulated_adc
from tests.array.rig import BIAS_V, GRID_V, emulated_with, opened, random_g

SPEC = board_spec.load()
LSB_V = ads8324.lsb_v(SPEC.adc_reference_v)
SEEDS = (0, 1, 2)
QUICK = CalibrationPlan(turns=8, levels=2, offset_reads=16)


def bench_of(seed: int):
    """Parts of the board of a seed."""
    return EmulatedBoard("taox_180nm", seed=seed).bench


# ---- against the truth ----------------------------------------------------------------------


def test_amplifier_offsets_are_found_to_their_standard_error(calibration_of):
    """A conversion has 0.76 LSB of noise and 0.29 of rounding, so the mean of 256 has 0.051 LSB:
    the rms of 384 errors over that is 1 +- 0.036, and the largest of them below 4.5."""
    standard_error = np.hypot(0.76, 12**-0.5) / np.sqrt(256)
    scores = []
    for seed in SEEDS:
        bench, adc = bench_of(seed), np.array(SPEC.adc_of_row)
        # at the output of a closed row: the amplifier, and what its converter adds
        shown = emulated_adc.codes(
            (bench.tia_offset_v / LSB_V)[None] * LSB_V + LSB_V * _DITHER[:, None],
            SPEC.adc_reference_v,
            gain=bench.adc_gain[adc],
            offset_lsb=bench.adc_offset_lsb[adc],
            inl_lsb=bench.adc_inl_lsb[adc],
        ).mean(0)
        found = calibration_of(seed).tia_offset_v / LSB_V
        assert found.shape == (4, 32)
        scores.append((found - shown) / standard_error)
    rms = float(np.sqrt(np.mean(np.square(scores))))
    assert rms == pytest.approx(1, abs=5 * 0.036)
    assert np.abs(scores).max() < 4.5


# inputs all over one code, so that the mean code is the input
_DITHER = (np.arange(1000) + 0.5) / 1000 - 0.5


def test_gains_of_ranges_are_found_relative_to_the_one_that_cells_are_read_in(calibration_of):
    """Feedback resistors differ by 0.05 %; what is left, 0.01 %, is the bow of the converters, of
    1 LSB in the 5000 that a comparison spans."""
    for seed in SEEDS:
        bench, found = bench_of(seed), calibration_of(seed).range_gain
        true = bench.tia_gain[2] / bench.tia_gain  # a smaller resistor makes less of a current
        assert (found[2] == 1).all()
        error, spread = (found - true)[[0, 1, 3]], (true - 1)[[0, 1, 3]]
        assert np.sqrt((error**2).mean()) < 2e-4
        assert np.sqrt((spread**2).mean()) > 5e-4
        assert np.abs(error).max() < 8e-4  # 5 of the 0.016 % rms of range 0, of 96


def test_switches_are_found_to_their_stated_errors(calibration_of):
    """96 rows; errors within a board are partly common (the source line's wire), so of their rms
    over what is stated only 0.5 to 1.3 is asked. The typical switch is off by the lot, 8 %."""
    scores = []
    for seed in SEEDS:
        true, cal = bench_of(seed).switch_ohm[SPEC.sl_tia], calibration_of(seed)
        error = cal.lines.row_ohm - true
        scores.append(error / cal.row_error_ohm)
        assert 0.5 < cal.row_error_ohm.mean() < 3
        assert np.sqrt((error**2).mean()) < 3
    assert 0.5 < np.sqrt(np.mean(np.square(scores))) < 1.3
    assert np.abs(scores).max() < 4


def test_wires_are_found(calibration_of):
    """Standard errors: 3 % of the lead, 1 % of a bit line's segment, 10 % of a source line's."""
    for seed in SEEDS:
        lines = calibration_of(seed).lines
        wires = presets.load("taox_180nm").analog
        assert lines.bl_lead_ohm == pytest.approx(wires.bl_lead_ohm, rel=0.15)
        assert lines.bl_segment_ohm == pytest.approx(wires.bl_segment_ohm, rel=0.05)
        assert lines.sl_segment_ohm == pytest.approx(wires.sl_segment_ohm, rel=0.3)


def test_offsets_of_bit_lines_are_as_good_as_they_say(calibration_of):
    """At the voltage that a read rests at: offset, gain error of 0.9 V and bow of the converter.

    32 currents do not show 32 offsets and 8 offsets of ADCs apart, so only some combinations are
    known better than the datasheet; the stated errors tell how much. 96 errors over stated ones
    have an rms of 1 +- 0.07, and 0.3 more for a board whose converters are worse than the prior.
    One line of seed 2 is: 3.1 of its stated errors off in the mean of 18 calibrations, and 0.8 rms
    around that by noise.
    """
    resting = int(BIAS_V / GRID_V + 0.5)
    scores, errors, offsets = [], [], []
    for seed in SEEDS:
        bench, cal = bench_of(seed), calibration_of(seed)
        bench.dacs = _reading_dacs(seed)
        true = bench.line_law(bench.bl_channels, BIAS_V).volts(np.full(32, resting))
        errors.append(cal.dac_offset_v - true)
        offsets.append(true)
        scores.append(errors[-1] / cal.dac_offset_error_v)
        assert (cal.dac_offset_error_v < 0.8 * DAC_OFFSET_PRIOR_V).all()
        # the mean of all lines shows best
        assert abs(errors[-1].mean()) < 0.15e-3
    assert 0.7 < np.sqrt(np.mean(np.square(scores))) < 1.5
    assert np.abs(scores).max() < 3.1 + 3 * 0.8
    assert np.std(errors) < 0.75 * np.std(offsets)


def _reading_dacs(seed: int):
    """Converters set up as the host leaves them, with the full scale that reads have."""
    emulated = EmulatedBoard("taox_180nm", seed=seed)
    with opened(emulated) as board:
        board.array.read(1)
        return copy.deepcopy(emulated.bench.dacs)


# ---- what it leaves alone -------------------------------------------------------------------


def test_it_only_reads_and_leaves_every_cell_bit_for_bit(tmp_path: Path):
    """Noisy parts and cells, none of which relaxes: what is stored does not change at all."""
    still = tmp_path / "still.toml"
    lines = (Path(presets.__file__).parent / "taox_180nm.toml").read_text().splitlines()
    quiet = [
        f'{line.split(" = ")[0]} = {{ value = 0.0, source = "assumed", note = "still" }}'
        if line.startswith(("relax_siemens2", "relax_mean", "relax_spread"))
        else line
        for line in lines
    ]
    still.write_text("\n".join(quiet))
    emulated = emulated_with(random_g(4, 20e-6, 80e-6), str(still), seed=4)
    before = emulated.truth
    with opened(emulated) as board:
        calibration = board.calibrate(QUICK)
        after = emulated.truth
    assert after.conductances_siemens.tobytes() == before.conductances_siemens.tobytes()
    assert not after.pulses.any()
    assert board.array.calibration is calibration


def test_ageing_cells_age_and_nothing_else():
    """An hour after writing, a second of reads moves a cell by 0.46 uS x sqrt(1 / 3600)."""
    emulated = emulated_with(random_g(5, 20e-6, 80e-6), "taox_180nm", seed=5)
    emulated.clock.advance(3600 * 10**8)
    before = emulated.truth
    with opened(emulated) as board:
        board.calibrate(QUICK)
    after = emulated.truth
    assert np.abs(after.conductances_siemens - before.conductances_siemens).max() < 0.1e-6
    assert not after.pulses.any()


def test_progress_ends_at_all_steps():
    seen: list[tuple[int, int]] = []
    with opened(emulated_with(random_g(6, 20e-6, 80e-6))) as board:
        board.calibrate(QUICK, lambda *step: seen.append(step))
    assert seen == [(number, 5) for number in range(6)]


# ---- boards and plans that cannot be calibrated ---------------------------------------------


def test_a_board_that_is_not_formed_is_refused_in_words():
    with opened(emulated_with(None, "taox_180nm")) as board:
        before = board.array.calibration
        with pytest.raises(BoardFault, match=r"this array has 0: form and program it"):
            board.calibrate(QUICK)
        assert board.array.calibration is before


def test_three_rows_are_too_few():
    g = np.zeros((32, 32))
    g[[3, 11, 30]] = 50e-6
    g[12, :15] = 50e-6  # and one cell too few
    with (
        opened(emulated_with(g)) as board,
        pytest.raises(BoardFault, match=r"4 rows with at least 16 conducting .* array has 3:"),
    ):
        board.calibrate(QUICK)


@pytest.mark.parametrize("preset", ["ideal", "taox_180nm"])
def test_rows_without_cells_get_the_mean_of_the_others(preset):
    """Half of the rows hold nothing: their switches are guessed, and stated as badly known."""
    g = random_g(7, 20e-6, 80e-6)
    g[::2] = 0
    emulated = emulated_with(g, preset, seed=7)
    with opened(emulated) as board:
        cal = board.calibrate(CalibrationPlan(turns=64))
    true = emulated.bench.switch_ohm[SPEC.sl_tia]
    empty, seen = cal.lines.row_ohm[::2], cal.lines.row_ohm[1::2]
    assert np.ptp(empty) == 0
    assert empty[0] == pytest.approx(seen.mean(), abs=cal.row_error_ohm.max())
    assert (cal.range_gain[:, ::2] == 1).all()
    assert cal.row_error_ohm[::2].min() > 0.9 * cal.row_error_ohm[1::2].max()
    assert np.abs(cal.lines.row_ohm - true).max() < 4 * max(cal.row_error_ohm.max(), 2)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"turns": 0}, "turns = 0"),
        ({"turns": 10_001}, "turns = 10001"),
        ({"levels": 0}, "levels = 0"),
        ({"offset_reads": -1}, "offset_reads = -1"),
        ({"low_gate_v": 0.6}, "low gate voltage 0.6 V"),
        ({"low_gate_v": float("nan")}, "low gate voltage nan V"),
    ],
)
def test_plans_that_measure_nothing_are_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        CalibrationPlan(**wrong)


# ---- kept and taken over --------------------------------------------------------------------


def same(one: Calibration, other: Calibration) -> bool:
    """Whether two calibrations are equal to the last bit."""
    return repr(one.to_dict()) == repr(other.to_dict()) and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("tia_offset_v", "range_gain", "dac_offset_v", "row_error_ohm")
    )


def test_a_calibration_comes_back_from_json_to_the_last_bit(calibration_of):
    for calibration in (calibration_of(0), Calibration.nominal(SPEC)):
        back = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())))
        assert same(back, calibration)
        np.testing.assert_array_equal(back.lines.row_ohm, calibration.lines.row_ohm)
        np.testing.assert_array_equal(back.dac_offset_error_v, calibration.dac_offset_error_v)
    assert np.isinf(Calibration.nominal(SPEC).row_error_ohm).all()


def _changed(**changes) -> dict:
    return Calibration.nominal(SPEC).to_dict() | changes


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "missing or unknown"),
        ({k: v for k, v in _changed().items() if k != "range_gain"}, "range_gain"),
        (_changed(colour="red"), "colour"),
        (_changed(lines=None), "not a calibration"),
        (_changed(lines={"row_ohm": [86.0] * 32, "width": 1.0}), "width"),
        (_changed(lines={"row_ohm": [-1.0] * 32}), "resistances"),
        (_changed(lines={"row_ohm": [None] * 32}), "resistances"),
        (_changed(lines={"row_ohm": [86.0] * 31}), "must be"),
        (_changed(lines={"row_ohm": 86.0}), "not a calibration"),
        (_changed(range_gain=[[1.0] * 32] * 3), "range_gain must be"),
        (_changed(range_gain=[[0.0] * 32] * 4), "range_gain must be finite and above 0"),
        (_changed(range_gain=[[None] * 32] * 4), "range_gain must be finite"),
        (_changed(tia_offset_v="high"), "not a calibration"),
        (_changed(tia_offset_v=[[None] * 32] * 4), "tia_offset_v"),
        (_changed(dac_offset_v=[None] * 32), "dac_offset_v"),
        (_changed(row_error_ohm=[1.0] * 33), "row_error_ohm must be"),
    ],
)
def test_what_is_no_calibration_is_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        Calibration.from_dict(wrong)


def test_a_calibration_of_another_array_is_refused():
    values = _changed(
        tia_offset_v=[[0.0] * 16] * 4,
        range_gain=[[1.0] * 16] * 4,
        row_error_ohm=[1.0] * 16,
        lines={"row_ohm": [86.0] * 16},
    )
    small = Calibration.from_dict(values)
    assert small.shape == (16, 32)
    with opened(emulated_with(None)) as board:
        before = board.array.calibration
        with pytest.raises(InputError, match=r"\(16, 32\) cells for an array of \(32, 32\)"):
            board.array.use(small)
        assert board.array.calibration is before


def test_the_switch_at_the_rail_keeps_the_datasheet_s_ratio_to_the_measured_one(calibration_of):
    """107 ohm at 3.0 V for 86 at 0.9 V: pulses are driven through the former."""
    for seed in SEEDS:
        cal, bench = calibration_of(seed), bench_of(seed)
        true = bench.switch_ohm[SPEC.sl_rail]
        assert np.abs(cal.switch_ohm(SPEC, SPEC.sl_rail_v) - true).max() < 10
    nominal = Calibration.nominal(SPEC)
    np.testing.assert_allclose(
        nominal.switch_ohm(SPEC, SPEC.sl_rail_v), SPEC.switch_ohm(SPEC.sl_rail_v)
    )


# ---- what it refuses, and what it leaves out ------------------------------------------------


def test_a_shorted_cell_does_not_falsify_its_row():
    """Its row gets the mean of the others; at 32 turns that is good to a few ohm."""
    emulated = emulated_with(random_g(5, 20e-6, 80e-6), "taox_180nm", seed=4)
    emulated.inject("shorted_cell:3:4")
    with opened(emulated) as board:
        found = board.calibrate(CalibrationPlan(turns=32))
    row_ohm = found.lines.row_ohm
    assert row_ohm[3] == pytest.approx(np.delete(row_ohm, 3).mean(), abs=0.5)
    assert np.isfinite(found.row_error_ohm).all()
    assert (found.range_gain[:, 3] == 1).all()
    true_ohm = bench_of(4).switch_ohm[SPEC.sl_tia]
    assert np.abs(row_ohm - true_ohm).max() < 15


def test_conductances_that_are_alike_are_refused_before_anything_is_kept():
    g = np.full((32, 32), 50e-6)
    with opened(emulated_with(g, "taox_180nm")) as board:
        with pytest.raises(BoardFault, match=r"spread by \d % here, at least 15 %.*--prepare"):
            board.calibrate(QUICK)
        assert board.array.calibration.measured == ""


def test_negative_wires_are_refused():
    values = Calibration.nominal(SPEC).to_dict()
    values["lines"] |= {"bl_segment_ohm": -1.0}
    with pytest.raises(InputError, match="at least 0 ohm"):
        Calibration.from_dict(values)
