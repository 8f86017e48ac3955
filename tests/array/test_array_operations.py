"""Operations on masks of cells: both polarities, inhibition, forming, partial reads."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import board_spec
from rram_host import open_board
from rram_host.array import masks
from rram_host.array.compensation import reset_bl_volts
from rram_host.array.forming import FormSettings
from rram_host.array.policies import CoarseFine, Ispp
from rram_host.array.pulses import ArrayProgram, PulseTrain, check_inhibited, set_train
from rram_host.errors import InputError
from sim.board import EmulatedBoard
from tests.array.rig import emulated_with, opened, random_g

ON_BL = board_spec.load()
ON_SL = dataclasses.replace(ON_BL, polarity="te_on_sl", sl_rail_v=3.7)
BOTH = pytest.mark.parametrize("spec", [ON_BL, ON_SL], ids=["te_on_bl", "te_on_sl"])
ONE = masks.block((32, 32), 4, 5)


def _board(spec, g: np.ndarray | None = None, preset: str = "ideal", seed: int = 0):
    emulated = EmulatedBoard(preset, seed=seed, spec=spec)
    if g is not None:
        emulated.bench.cells.formed[:] = True
        emulated.bench.cells.g = g.copy()
    return emulated


# ---- both polarities --------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("preset", ["ideal", "taox_180nm"])
def test_the_same_job_forms_and_programs_in_either_polarity(spec, preset):
    """Read back, which without calibration is what the host can know."""
    targets = random_g(4, 20e-6, 80e-6)
    emulated = _board(spec, preset=preset, seed=4)
    with open_board(emulated, spec=spec) as board:
        formed = board.array.form()
        report = board.array.program(targets)
        again = board.array.read(16)
    assert not formed.unformed.any()
    assert np.array_equal(emulated.truth.pulses, formed.pulses + report.pulses)
    assert report.share_within(1.5e-6) >= 0.99
    assert (np.abs(again - targets) <= 2e-6).mean() >= 0.99
    assert report.mean_pulses <= 8


@BOTH
def test_set_and_reset_end_where_their_voltages_say_and_touch_no_other_cell(spec):
    """20 switching times, so all of the way; the cell's own sag is made up for."""
    emulated = _board(spec, np.full((32, 32), 40e-6))
    with open_board(emulated, spec=spec) as board:
        board.array.set_cells(ONE, np.full((32, 32), 1.5))
        up = emulated.truth.conductances_siemens
        board.array.reset_cells(ONE, np.full((32, 32), 2.0))
        down = emulated.truth.conductances_siemens
    assert up[4, 5] == pytest.approx(80e-6, rel=1e-3)
    assert down[4, 5] == pytest.approx(40e-6, rel=5e-3)
    assert (up[~ONE] == 40e-6).all()
    assert (down[~ONE] == 40e-6).all()
    assert np.array_equal(emulated.truth.pulses, 2 * ONE)


@BOTH
def test_whole_rows_are_reset_to_what_their_voltage_says_in_spite_of_the_source_line(spec):
    emulated = _board(spec, np.full((32, 32), 100e-6))
    every = np.ones((32, 32), dtype=bool)
    with open_board(emulated, spec=spec) as board:
        board.array.reset_cells(every, np.full((32, 32), 1.75))
    assert np.abs(emulated.truth.conductances_siemens - 60e-6).max() < 1.5e-6


@BOTH
def test_voltages_that_the_lines_cannot_give_are_refused_with_their_numbers(spec):
    emulated = _board(spec, np.full((32, 32), 40e-6))
    set_most = "3.7" if spec is ON_SL else f"{spec.bl_limit_v:g}"
    reset_most = f"{spec.sl_rail_v:g}" if spec is ON_BL else f"{spec.bl_limit_v:g}"
    with open_board(emulated, spec=spec) as board:
        with pytest.raises(InputError, match=rf"SET voltage 3.8 V is outside 0..{set_most} V"):
            board.array.set_cells(ONE, np.full((32, 32), 1.5), 3.8)
        with pytest.raises(InputError, match=rf"RESET voltage 3.8 V is outside 0..{reset_most} V"):
            board.array.reset_cells(ONE, np.full((32, 32), 3.8))
    assert not emulated.truth.pulses.any()


def test_a_gate_at_the_compliance_above_ground_sets_nothing_where_source_lines_are_driven():
    """The transistor's source is the bit line at 3.7 V - 1.8 V; the gate is 0.4 V below it."""
    emulated = _board(ON_SL, np.full((32, 32), 40e-6))
    wanted = set_train(ON_SL, ONE, np.full((32, 32), 1.5), 1.8, 1e-6)
    assert wanted.bl_v[0, 5] == pytest.approx(1.9)
    assert wanted.wl_v[0, 4] == pytest.approx(1.9 + 1.5)
    found = []
    with open_board(emulated, spec=ON_SL) as board:
        for gates in (np.where(wanted.wl_v > 0, 1.5, 0.0), wanted.wl_v):
            program = ArrayProgram(ON_SL)
            program.pulse(dataclasses.replace(wanted, wl_v=gates))
            board._core.driver.run(program.asm, program.table)
            found.append((emulated.truth.conductances_siemens[4, 5], emulated.truth.pulses.sum()))
    assert found[0] == (40e-6, 0)
    assert found[1] == (pytest.approx(80e-6, rel=1e-3), 1)


def test_a_compliance_above_the_bit_line_that_gates_cannot_give_is_refused_with_the_sum():
    emulated = _board(ON_SL, np.full((32, 32), 40e-6))
    with open_board(emulated, spec=ON_SL) as board:
        words = r"compliance 2.7 V above the bit line at 1.9 V is a gate at 4.6 V: outside 1.9..4.5"
        with pytest.raises(InputError, match=words):
            board.array.set_cells(ONE, np.full((32, 32), 2.7))
        with pytest.raises(InputError, match="compliance -0.1 V above the bit line at 1.9 V"):
            board.array.set_cells(ONE, np.full((32, 32), -0.1))
        with pytest.raises(InputError, match="up to 2.7 V is outside 0..2.6 V"):
            board.array.program(np.full((32, 32), 80e-6), CoarseFine(stop_v=2.7))
        with pytest.raises(InputError, match="forming gate 3.5 V is above 3.4 V"):
            ramp = dataclasses.replace(FormSettings.of(ON_SL), wl_v=3.5)
            board.array.form(ONE, settings=ramp)
        board.array.set_cells(ONE, np.full((32, 32), 2.6))
    assert emulated.truth.pulses.sum() == 1
    assert Ispp().stepper(ON_SL, np.full((32, 32), 80e-6))._stairs[1].stop_v == pytest.approx(2.6)
    weak = dataclasses.replace(ON_BL.pulses, form_wl_v=3.5)
    with pytest.raises(InputError, match=r"pulses.form_wl = 3.5 V: above 3.4 V: limits.wl = 4.5 V"):
        dataclasses.replace(ON_SL, pulses=weak)
    dataclasses.replace(ON_BL, pulses=weak)


def test_a_rail_below_the_forming_voltage_is_no_board_for_top_electrodes_on_source_lines():
    with pytest.raises(InputError, match="pulses.form_bl_stop = 3.6 V: above rails.sl_rail = 3 V"):
        dataclasses.replace(ON_BL, polarity="te_on_sl")
    with pytest.raises(InputError, match=r"wiring.polarity = 'sideways': unknown terminal; known"):
        dataclasses.replace(ON_BL, polarity="sideways")


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 3.0]))
def test_reset_bit_lines_put_the_voltage_across_by_kirchhoff(seed, source_v):
    """The source line's node, solved for the bit lines that were chosen."""
    rng = np.random.default_rng(seed)
    g, ohm = rng.uniform(1e-6, 1e-4, (3, 8)), rng.uniform(50, 200, 3)
    selected, wanted = rng.random((3, 8)) < 0.4, rng.uniform(1.0, 2.5, (3, 8))
    bl_v = reset_bl_volts(wanted, selected, g, source_v, ohm)
    sl_v = (source_v / ohm + (g * bl_v).sum(1)) / (1 / ohm + g.sum(1))
    across = (sl_v[:, None] - bl_v) * (1 if source_v else -1)
    assert across[selected] == pytest.approx(wanted[selected], rel=1e-9)
    assert (bl_v[~selected] == source_v).all()


# ---- inhibition -------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("excess_v", [0.3, 2.0])
def test_a_reset_with_bit_lines_that_are_not_inhibited_is_refused(spec, excess_v):
    """By row, column and voltage, before anything runs; within the limit it is let pass."""
    on_bl = spec is ON_BL
    source_v = spec.sl_rail_v if on_bl else 0.0
    toward = -1.0 if on_bl else 1.0
    bl = np.full((1, 32), source_v)
    bl[0, 5] = source_v + 2.0 * toward
    wl = np.zeros((1, 32))
    wl[0, 4] = 4.0
    selected = ONE[None]
    sl_input = spec.sl_rail if on_bl else spec.sl_ground
    check_inhibited(spec, PulseTrain(bl, wl, selected, 1e-6, sl_input))
    bl[0, 9] = source_v + 0.2 * toward
    check_inhibited(spec, PulseTrain(bl, wl, selected, 1e-6, sl_input))
    bl[0, 9] = source_v + excess_v * toward
    words = rf"put {excess_v:.4g} V across the unselected cell \(4, 9\).*at most 0.25 V"
    with pytest.raises(InputError, match=words):
        ArrayProgram(spec).pulse(PulseTrain(bl, wl, selected, 1e-6, sl_input))


@BOTH
def test_lines_behind_closed_gates_and_floating_source_lines_are_nobodys_business(spec):
    bl = np.full((1, 32), 1.5)
    nothing = np.zeros((1, 32))
    selected = np.zeros((1, 32, 32), dtype=bool)
    check_inhibited(spec, PulseTrain(bl, nothing, selected, 1e-6, spec.sl_ground))
    check_inhibited(spec, PulseTrain(bl, nothing + 1.0, selected, 1e-6, spec.sl_float))


@BOTH
def test_a_second_open_row_with_one_cell_meant_is_refused(spec):
    """Its cell on the driven bit line would see the whole pulse, inhibited columns or not."""
    train = set_train(spec, ONE, np.full((32, 32), 1.5), 1.8, 1e-6)
    check_inhibited(spec, train)
    gates = train.wl_v.copy()
    gates[0, 9] = gates[0, 4]
    with pytest.raises(InputError, match=r"put 1.8 V across the unselected cell \(9, 5\)"):
        ArrayProgram(spec).pulse(dataclasses.replace(train, wl_v=gates))


@BOTH
@given(seed=st.integers(0, 2**32 - 1))
def test_every_set_of_any_mask_is_inhibited(spec, seed):
    cells = np.random.default_rng(seed).random((32, 32)) < 0.2
    check_inhibited(spec, set_train(spec, cells, np.full((32, 32), 1.5), 1.8, 1e-6))


# ---- forming ----------------------------------------------------------------------------------


def test_forming_tells_of_cells_that_did_not_form_and_of_shorted_ones():
    emulated = emulated_with(None, "taox_180nm", seed=5)
    cells = emulated.bench.cells
    cells.form_v[1, 2] = 9.0
    cells.stick(3, 4, 400e-6)
    with opened(emulated) as board:
        report = board.array.form()
    assert np.argwhere(report.unformed).tolist() == [[1, 2]]
    assert np.argwhere(report.shorted).tolist() == [[3, 4]]
    assert report.stop_v == pytest.approx(3.6)
    assert report.pulses[1, 2] == 11
    assert report.formed_v[1, 2] == pytest.approx(3.6)
    assert np.isnan(report.formed_v[3, 4])
    formed = ~report.unformed & ~report.shorted
    # a cell forms by the first step above its voltage: no earlier, and a step later at most
    above_v = (report.formed_v - cells.form_v)[formed]
    assert above_v.min() > -0.02
    assert above_v.max() < 0.1 + 0.02
    assert (report.energy_j[report.pulses > 0] > 0).all()


def test_the_gate_limits_what_a_forming_cell_conducts():
    """G = slope (V_WL - offset) of an ideal cell: 100 uS/V from 0.7 V on."""
    for wl_v in (1.0, 1.3):
        emulated = emulated_with(None)
        ramp = dataclasses.replace(FormSettings.of(ON_BL), wl_v=wl_v)
        with opened(emulated) as board:
            report = board.array.form(ONE, settings=ramp)
        g = emulated.truth.conductances_siemens[4, 5]
        assert g == pytest.approx(100e-6 * (wl_v - 0.7), rel=1e-3)
        assert np.array_equal(report.pulses > 0, ONE)


def test_a_ramp_goes_on_until_its_target():
    """A gate just above the offset leaves 3 uS: formed for a target of 1 uS, not for 5 uS."""
    weak = dataclasses.replace(FormSettings.of(ON_BL), wl_v=0.73, start_v=3.0, stop_v=3.4)
    for target, unformed in ((1e-6, False), (5e-6, True)):
        with opened(emulated_with(None)) as board:
            ramp = dataclasses.replace(weak, target_siemens=target)
            report = board.array.form(ONE, settings=ramp)
        assert bool(report.unformed[4, 5]) is unformed
        assert report.pulses[4, 5] == (5 if unformed else 3)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"start_v": 3.7}, "forming ramp from 3.7 V by 0.1 V to 3.6 V does not climb"),
        ({"step_v": 0.0}, "does not climb"),
        ({"step_v": 1e-6}, "more than 10000 steps"),
        ({"wl_v": 0.0}, "gate of 0 V"),
        ({"pulse_width_s": 0.0}, "for 0 s"),
        ({"target_siemens": 1e-8}, "at least 0.3 µS"),
    ],
)
def test_a_ramp_that_cannot_work_is_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(FormSettings.of(ON_BL), **wrong)


def test_a_ramp_beyond_the_board_is_refused_before_its_first_step():
    emulated = emulated_with(None)
    with opened(emulated) as board:
        for wrong, words in (({"stop_v": 3.8}, "forming voltage 3.8 V"), ({"wl_v": 5.0}, "gate 5")):
            ramp = dataclasses.replace(FormSettings.of(ON_BL), **wrong)
            with pytest.raises(InputError, match=words):
                board.array.form(settings=ramp)
    assert not emulated.truth.pulses.any()


# ---- reads of some cells ----------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.001, 0.02, 0.5]))
def test_reading_some_cells_reads_what_reading_all_reads(seed, share):
    """An ideal board: half a code of the converter, 12 nS in the range of whole reads."""
    rng = np.random.default_rng(seed)
    g, cells = rng.uniform(1e-6, 110e-6, (32, 32)), rng.random((32, 32)) < share
    with opened(emulated_with(g)) as board:
        some, every = board.array.read(1, cells), board.array.read(1)
    assert np.isnan(some[~cells]).all()
    assert np.abs(some - every)[cells].max(initial=0.0) < 0.06e-6


def test_weak_cells_are_read_in_a_finer_range_and_strong_ones_in_a_coarser_one():
    g = np.full((32, 32), 10e-6)
    g[7] = 190e-6
    emulated = emulated_with(g)
    finest, coarsest = masks.block((32, 32), 2, 3), masks.block((32, 32), 7, 3)
    with opened(emulated) as board:
        fine, coarse = board.array.read(1, finest)[2, 3], board.array.read(1, coarsest)[7, 3]
    # range 3 has codes of 12 nS; a whole read, in range 2 of 24 nS, saturates at 197 uS
    assert fine == pytest.approx(10e-6, abs=13e-9)
    assert coarse == pytest.approx(190e-6, abs=0.4e-6)


def test_a_read_of_no_cell_is_no_read_and_a_mask_of_another_shape_none():
    emulated = emulated_with(np.full((32, 32), 50e-6))
    with opened(emulated) as board:
        before = board.traffic.programs
        assert np.isnan(board.array.read(cells=np.zeros((32, 32), dtype=bool))).all()
        assert board.traffic.programs == before
        with pytest.raises(InputError, match=r"mask has shape \(2, 2\)"):
            board.array.read(cells=np.ones((2, 2), dtype=bool))
        with pytest.raises(InputError, match="average 0"):
            board.array.read(0, ONE)


# ---- masks ------------------------------------------------------------------------------------


def test_masks_mean_what_they_say():
    board = masks.checkerboard((3, 4))
    assert board.tolist()[0] == [True, False, True, False]
    assert board.tolist()[1] == [False, True, False, True]
    assert np.array_equal(masks.checkerboard((3, 4), 1), ~board)
    assert np.argwhere(masks.block((4, 4), 1, 2, 2, 1)).tolist() == [[1, 2], [2, 2]]
    assert np.argwhere(masks.of_cells((4, 4), [(3, 0), (1, 1)])).tolist() == [[1, 1], [3, 0]]
    assert masks.checked(None, (2, 2)).all()
    for wrong in (
        lambda: masks.checkerboard((2, 2), 2),
        lambda: masks.block((2, 2), 1, 1, 2, 1),
        lambda: masks.block((2, 2), -1, 0),
        lambda: masks.of_cells((2, 2), [(0, 2)]),
        lambda: masks.checked(np.ones((3, 2)), (2, 2)),
    ):
        with pytest.raises(InputError):
            wrong()


def test_idle_leaves_gates_closed_and_lines_at_zero():
    emulated = emulated_with(np.full((32, 32), 50e-6))
    with opened(emulated) as board:
        board.array.idle()
        rails = emulated.truth.rails_v
    assert all(rails[f"{line}{n}"] == 0.0 for line in ("BL", "WL", "SL") for n in range(32))
