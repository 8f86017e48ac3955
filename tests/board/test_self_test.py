"""The diagnosis: what it leaves alone, what it says it did not test, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from rram_host import open_board
from rram_host.board.diagnosis import KINDS, Finding
from rram_host.board.diagnosis.probe import binary_patterns
from rram_host.board.diagnosis.run import weak_gate_v
from rram_host.board.self_test import dac_faults
from rram_host.errors import BoardFault, InputError
from sim.board import EmulatedBoard
from tests.array.rig import emulated_with, random_g

# Faults that put lines where they should not be: the rail, ground, another line's voltage.
WILD = [
    "stuck_mux:14:0",
    "stuck_mux:15:1",
    "stuck_mux:14:1",
    "swapped_mux:8:9",
    "swapped_mux:9:21",
    "stuck_dac:5:0",
    "stuck_dac:40:2",
    "swapped_dac:3:40",
    "dead_dac:1",
    "dac_reference:2:0.5",
]


def _diagnosed(emulated: EmulatedBoard, *arguments, **options):
    with open_board(emulated, check=False) as board:
        return board.diagnose(*arguments, **options)


# ---- what it leaves alone ---------------------------------------------------------------------


def test_no_cell_of_a_healthy_board_sees_more_than_a_read():
    """The emulated board counts every time that a cell with an open gate sees 0.4 V and more."""
    emulated = emulated_with(random_g(1))
    before = emulated.truth.conductances_siemens
    assert _diagnosed(emulated).passed
    assert (emulated.truth.conductances_siemens == before).all()
    assert emulated.truth.pulses.sum() == 0


@pytest.mark.parametrize("fault", WILD)
def test_no_cell_moves_whatever_the_fault_does_to_its_line(fault):
    emulated = emulated_with(random_g(2))
    emulated.inject(fault)
    before = emulated.truth.conductances_siemens
    assert not _diagnosed(emulated).passed
    assert np.array_equal(emulated.truth.conductances_siemens, before)


def test_exercise_gives_every_cell_at_least_a_reset_and_a_set():
    emulated = emulated_with(random_g(3))
    result = _diagnosed(emulated, exercise=True)
    assert result.passed and "1024 of 1024 cells move" in str(result.checks)
    assert emulated.truth.pulses.min() >= 2


def test_exercise_gives_no_pulse_where_a_line_is_at_fault():
    emulated = emulated_with(random_g(3))
    emulated.inject("open_wl:3")
    result = _diagnosed(emulated, exercise=True)
    assert "no pulses on a board with a faulty part or line" in str(result.not_tested)
    with open_board(emulated) as board:
        assert board.info()["pulses_since_power_up"] == 0


@pytest.mark.parametrize("fault", ["", "stuck_mux:14:0"])
def test_rails_are_safe_afterwards(fault):
    emulated = emulated_with(random_g(4))
    emulated.inject(fault)
    with open_board(emulated) as board:
        board.diagnose()
        rails = emulated.truth.rails_v
    assert all(rails[f"BL{n}"] == rails[f"WL{n}"] == 0.0 for n in range(32))


# ---- what it says it did not test -------------------------------------------------------------


def test_an_array_that_is_not_formed_leaves_lines_untested_and_is_no_fault():
    result = _diagnosed(EmulatedBoard("taox_180nm", seed=2))
    assert result.passed
    assert "form the array" in " ".join(result.not_tested)
    assert np.isfinite(result.offsets_v).all()


@pytest.mark.parametrize("fault", ["dead_adc:3", "tia_offset:4", "tia_saturated:5", "dead_dac:7"])
def test_amplifiers_converters_and_links_need_no_formed_array(fault):
    emulated = EmulatedBoard("taox_180nm", seed=2, defects=fault)
    (finding,) = _diagnosed(emulated).findings
    assert (finding.kind, str(finding.where[0])) == tuple(fault.split(":"))


def test_without_map_and_exercise_it_says_what_was_left_out():
    result = _diagnosed(emulated_with(random_g(5)))
    assert [text.split(":")[0] for text in result.not_tested] == [
        "order of the bit lines",
        "whether cells switch",
    ]


@pytest.mark.parametrize("empty", [20, 24])  # 24: all rows of the last DAC of word lines
def test_part_of_an_array_is_tested_as_far_as_it_goes(empty):
    g = random_g(6)
    g[empty:] = 0.0
    result = _diagnosed(emulated_with(g, "taox_180nm"))
    assert result.passed
    assert f"{32 - empty} rows carry no current" in " ".join(result.not_tested)


def test_a_few_cells_that_are_not_formed_are_named_many_are_not():
    g = random_g(7)
    g[3, 5] = 0.0
    (finding,) = _diagnosed(emulated_with(g, "taox_180nm")).findings
    assert (finding.kind, finding.where) == ("stuck_low", (3, 5))
    g[:, ::8] = np.where(np.arange(32)[:, None] % 2, 0.0, g[:, ::8])
    result = _diagnosed(emulated_with(g, "taox_180nm"))
    assert result.passed and "cells below 1 µS" in " ".join(result.not_tested)


# ---- the map ----------------------------------------------------------------------------------


def test_a_map_with_holes_is_enough_and_a_map_of_another_chip_is_no_fault_of_lines():
    g = random_g(8)
    holes = np.where(np.random.default_rng(0).random(g.shape) < 0.5, np.nan, g)
    assert _diagnosed(emulated_with(g), holes).passed
    result = _diagnosed(emulated_with(g), random_g(9))
    assert result.passed and "neither their own map" in " ".join(result.not_tested)
    assert _diagnosed(emulated_with(g), np.full(g.shape, np.nan)).passed


@pytest.mark.parametrize("shape", [(32,), (31, 32), (32, 32, 1)])
def test_a_map_of_another_shape_is_refused(shape):
    with pytest.raises(InputError, match="reference map has shape"):
        _diagnosed(emulated_with(None), np.zeros(shape))


# ---- parts ------------------------------------------------------------------------------------


def test_a_dead_dac_is_refused_on_opening_and_named_when_asked():
    with pytest.raises(BoardFault, match="DAC chip 2: no answer"):
        open_board(EmulatedBoard("ideal", defects="dead_dac:2"))
    (finding,) = _diagnosed(EmulatedBoard("ideal", defects="dead_dac:2")).findings
    assert (finding.kind, finding.where) == ("dead_dac", (2,))
    assert "BL16 to BL23" in finding.text


def test_links_are_told_chip_by_chip():
    with open_board(EmulatedBoard("ideal", defects="dead_dac:2,dead_dac:5"), check=False) as board:
        assert sorted(dac_faults(board._core.driver, board.spec)) == [2, 5]


def test_subsets_tell_any_two_apart_and_hold_each_once_and_leave_it_out_once():
    for count in (1, 2, 5, 32, 33):
        subsets = binary_patterns(count)
        assert len({column.tobytes() for column in subsets.T}) == count
        assert subsets.any(0).all() and (~subsets).any(0).all()


def test_the_weak_gate_is_below_the_compliance_of_every_cell_in_the_window():
    with open_board(EmulatedBoard("ideal")) as board:
        p = board.spec.pulses
        passed = p.set_wl_slope_siemens_per_v * (weak_gate_v(board.spec) - p.set_wl_offset_v)
        assert passed == pytest.approx(board.spec.conductance_min_siemens)


def test_a_finding_of_unknown_kind_is_refused_and_places_read_well():
    with pytest.raises(ValueError, match="finding of kind 'bad'"):
        Finding("bad", (1,), "")
    assert Finding("open_wl", (7,), "").place == "row 7"
    assert Finding("swapped_dac", (3, 4), "").place == "DAC channels 3, 4"
    assert Finding("adc_reference", (), "").place == "all ADCs"
    assert all(KINDS.values())


@pytest.mark.parametrize("adcs", [1, 4, 32])
def test_boards_with_other_numbers_of_converters(adcs):
    from firmware_bridge import board_spec

    spec = board_spec.load().with_adcs(adcs)
    for fault in ("", "open_wl:9", f"adc_gain:{adcs - 1}", f"dead_adc:{adcs - 1}"):
        emulated = EmulatedBoard("taox_180nm", seed=4, spec=spec, defects=fault)
        emulated.bench.cells.formed[:] = True
        emulated.bench.cells.g = random_g(4)
        with open_board(emulated, spec=spec, check=False) as board:
            result = board.diagnose()
        found = [item.kind for item in result.findings]
        if adcs == 1 and "dead" in fault:  # nothing moves at all: it may be a board without noise
            assert not found and "all are dead" in " ".join(result.not_tested)
            continue
        assert found == ([fault.split(":")[0]] if fault else [])
