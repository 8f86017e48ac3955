"""Parts against literal words of their datasheets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.chips import ads8324, cd4051b, dac80508, opa4322, sn74hc595
from firmware_bridge.errors import InputError
from sim.chips.dac80508 import Dac80508

NOP = 0x00_0000
LDAC = 0x05_0010
SOFT_RESET = 0x05_000A
VERSION_BITS = 0b11  # of DEVICE ID, "subject to change"


def _frame(*octets: int) -> int:
    return int.from_bytes(bytes(octets), "big")


def _read(dac: Dac80508, command: int) -> int:
    """Two-frame readback: what SDO sends in the frame behind a read command."""
    dac.transfer(command)
    return dac.transfer(NOP)


# ---- DAC80508 (SLASEL1D) --------------------------------------------------------------------


def test_frames_are_the_octets_of_the_datasheet():
    assert dac80508.write_frame(8, 0x8000) == _frame(0x08, 0x80, 0x00)
    assert dac80508.read_frame(1) == _frame(0x81, 0x00, 0x00)
    assert dac80508.write_frame(dac80508.TRIGGER, dac80508.TRIGGER_LDAC) == LDAC
    assert dac80508.write_frame(dac80508.TRIGGER, dac80508.TRIGGER_SOFT_RESET) == SOFT_RESET
    assert dac80508.write_frame(dac80508.GAIN, dac80508.GAIN_0_TO_5_V) == _frame(4, 0x00, 0xFF)
    assert dac80508.write_frame(dac80508.GAIN, dac80508.GAIN_0_TO_1V25) == _frame(4, 0x01, 0x00)
    assert dac80508.write_frame(dac80508.SYNC, dac80508.SYNC_ALL) == _frame(2, 0x00, 0xFF)


def test_a_write_of_dac0_sets_dac0_alone():
    dac = Dac80508()
    dac.transfer(_frame(0x08, 0x80, 0x00))
    assert dac.active == [0x8000, 0, 0, 0, 0, 0, 0, 0]
    dac.transfer(_frame(0x0F, 0x12, 0x34))
    assert dac.active == [0x8000, 0, 0, 0, 0, 0, 0, 0x1234]


def test_device_id_is_answered_in_the_next_frame_with_the_echo():
    dac = Dac80508()
    assert dac.transfer(_frame(0x81, 0x00, 0x00)) == 0
    assert dac.transfer(NOP) & ~VERSION_BITS == _frame(0x81, 0x08, 0x14)
    assert dac.transfer(NOP) == 0  # once
    assert dac80508.DEVICE_ID_Z == 0x0816
    assert dac80508.DEVICE_ID_Z & dac80508.DEVICE_ID_MASK == 0x0814


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (0x82_0000, 0x82_FF00),
        (0x83_0000, 0x83_0000),
        (0x84_0000, 0x84_0000),
        (0x88_0000, 0x88_0000),
    ],
)
def test_registers_after_power_up(command, answer):
    assert _read(Dac80508(), command) == answer


def test_a_short_frame_is_ignored_and_of_a_long_one_the_last_24_bits_count():
    dac = Dac80508()
    dac.transfer(_frame(0x08, 0x80, 0x00), n_clocks=23)
    assert dac.active[0] == 0
    dac.transfer(_frame(0x09, 0xFF, 0xFF, 0x08, 0x80, 0x00), n_clocks=48)
    assert dac.active[:2] == [0x8000, 0]


def test_a_synchronous_channel_waits_for_ldac():
    dac = Dac80508()
    dac.transfer(_frame(0x02, 0x00, 0x01))  # DAC0 synchronous, no broadcast
    dac.transfer(_frame(0x08, 0x12, 0x34))
    dac.transfer(_frame(0x09, 0x56, 0x78))  # DAC1 is asynchronous
    assert dac.active[:2] == [0, 0x5678]
    assert _read(dac, 0x88_0000) == 0x88_1234  # the buffer, not the output
    dac.transfer(LDAC)
    assert dac.active[:2] == [0x1234, 0x5678]


def test_broadcast_ignores_the_synchronous_mode_and_obeys_its_own_mask():
    dac = Dac80508()
    dac.transfer(_frame(0x02, 0x0F, 0xFF))  # all synchronous, broadcast to DAC0 to DAC3
    dac.transfer(_frame(0x06, 0xAB, 0xCD))
    assert dac.active == [0xABCD] * 4 + [0] * 4
    dac.transfer(LDAC)
    assert dac.active == [0xABCD] * 4 + [0] * 4
    assert _read(dac, 0x86_0000) == 0x86_ABCD


def test_soft_reset_is_a_power_up():
    dac = Dac80508()
    for word in (0x02_00FF, 0x04_00FF, 0x08_8000, 0x03_0400, LDAC):
        dac.transfer(word)
    assert dac.active[0] == 0x8000
    dac.transfer(SOFT_RESET)
    assert dac.active == dac.buffer == [0] * 8
    for command, answer in ((0x82_0000, 0x82_FF00), (0x84_0000, 0x84_0000), (0x83_0000, 0x83_0000)):
        assert _read(dac, command) == answer


@pytest.mark.parametrize("data", [0x0000, 0x0008, 0x0002, 0x0005])
def test_other_trigger_words_do_nothing(data):
    dac = Dac80508()
    for word in (0x02_00FF, 0x08_8000, _frame(5, 0, data)):
        dac.transfer(word)
    assert (dac.active[0], dac.buffer[0], dac.sync) == (0, 0x8000, 0x00FF)


def test_updates_count_every_event_that_may_move_an_output():
    dac = Dac80508()
    for word, moves in (
        (0x08_8000, True),
        (0x02_00FF, False),
        (0x08_4000, False),
        (LDAC, True),
        (0x04_00FF, True),
        (0x06_0000, True),
        (NOP, False),
        (0x88_0000, False),
        (SOFT_RESET, True),
    ):
        before = dac.updates
        dac.transfer(word)
        assert (dac.updates != before) == moves, hex(word)


@pytest.mark.parametrize(
    ("gain", "full_scale"), [(0x0000, 2.5), (0x00FF, 5.0), (0x0100, 1.25), (0x01FF, 2.5)]
)
def test_output_is_code_over_65536_times_reference_over_divider_times_gain(gain, full_scale):
    assert dac80508.full_scale_v(gain, 3) == full_scale
    volts = dac80508.code_to_volts([0, 0x8000, 0xFFFF], full_scale)
    assert volts.tolist() == [0.0, full_scale / 2, full_scale * 65535 / 65536]


def test_gain_is_set_channel_by_channel():
    assert [dac80508.full_scale_v(0x0104, channel) for channel in (1, 2, 3)] == [1.25, 2.5, 1.25]


@given(st.integers(0, 0xFFFF), st.sampled_from([1.25, 2.5, 5.0]))
def test_nearest_code_of_the_voltage_of_a_code_is_that_code(code, full_scale):
    lsb = full_scale / 65536
    for shift in (-0.49, 0.0, 0.49):
        assert dac80508.volts_to_code(code * lsb + shift * lsb, full_scale) == code


# ---- ADS8324 (SBAS172A) ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "code"),
    [(0x0000, 0), (0x0001, 1), (0x1FFF, 8191), (0x2000, -8192), (0x3FFF, -1), (0x2001, -8191)],
)
def test_conversions_are_14_bit_twos_complement(word, code):
    assert int(ads8324.to_signed(word)) == code
    assert int(ads8324.to_word(code)) == word


def test_every_code_survives_word_and_back():
    codes = np.arange(-8192, 8192)
    assert np.array_equal(ads8324.to_signed(ads8324.to_word(codes)), codes)
    assert (ads8324.CODE_MIN, ads8324.CODE_MAX) == (-8192, 8191)


def test_lsb_is_two_references_over_16384():
    assert ads8324.lsb_v(0.9) == pytest.approx(109.863e-6, rel=1e-5)


# ---- SN74HC595 chain ------------------------------------------------------------------------


def _shifted(words: tuple[int, ...], n_bits: int) -> list[int]:
    """A chain clocked bit by bit: SRCLK moves every stage on and SER into QA of the first part."""
    stages = [0] * n_bits
    bits = [word >> place & 1 for word in words for place in range(31, -1, -1)]
    for bit in bits[:n_bits]:
        stages = [bit, *stages[:-1]]
    return stages


@given(st.lists(st.integers(0, 1), min_size=1, max_size=200))
def test_words_leave_every_bit_on_its_place_in_a_chain_clocked_bit_by_bit(outputs):
    words = sn74hc595.words_from_outputs(outputs)
    assert len(words) == -(-len(outputs) // 32)
    assert _shifted(words, len(outputs)) == outputs
    assert sn74hc595.outputs_from_words(words, len(outputs)).tolist() == outputs


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5), st.integers(0, 31))
def test_outputs_of_any_words_are_those_of_a_chain_clocked_bit_by_bit(words, fewer):
    n_bits = 32 * len(words) - fewer
    assert sn74hc595.outputs_from_words(tuple(words), n_bits).tolist() == _shifted(
        tuple(words), n_bits
    )


def test_the_bit_sent_first_ends_at_the_far_end():
    assert sn74hc595.words_from_outputs([0] * 63 + [1]) == (0x8000_0000, 0)
    assert sn74hc595.words_from_outputs([1] + [0] * 63) == (0, 1)


# ---- CD4051B, OPA4322 -----------------------------------------------------------------------


@pytest.mark.parametrize(("supply", "ohm"), [(5.0, 470.0), (10.0, 180.0), (15.0, 125.0)])
def test_on_resistance_is_that_of_the_table(supply, ohm):
    assert cd4051b.typical_r_on_ohm(supply) == ohm


def test_a_supply_between_the_columns_of_the_table_is_refused():
    with pytest.raises(InputError, match=r"7.0 V; the table has 5, 10, 15 V"):
        cd4051b.typical_r_on_ohm(7.0)


def test_amplifier_full_scale_ends_10_mv_before_the_nearer_rail():
    assert opa4322.full_scale_a(10e3, 0.9, 1.8) == pytest.approx(89e-6)
    assert opa4322.full_scale_a(10e3, 0.6, 1.8) == pytest.approx(59e-6)
    assert opa4322.full_scale_a(10e3, 1.5, 1.8) == pytest.approx(29e-6)
