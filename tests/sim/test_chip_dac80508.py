"""DAC80508 against words of SLASEL1D, published CRC words, and a small model of its own."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.chips import dac80508 as facts
from firmware_bridge.errors import InputError
from sim.chips.dac80508 import Dac80508

NOP = 0x00_0000
NOP_CRC = 0x0000_0000  # the CRC of all zero is zero
LDAC = 0x05_0010
SOFT_RESET = 0x05_000A
CRC_ON = 0x03_0800
ERROR_BIT = 0x4000_0000

# frame, CRC-8: the first three were published for this CRC by users and TI's engineers
CRC_WORDS = [
    (0x06_0000, 0x7D),
    (0x86_0000, 0x76),
    (0x82_0000, 0xDD),
    (0x05_000A, 0xF6),
    (0x03_0800, 0x15),
    (0x04_0100, 0xBE),
    (0x04_01FF, 0x4D),
    (0x08_8000, 0xE7),
    (0x02_FF00, 0x01),
    (0x81_0000, 0x60),
    (0x00_0000, 0x00),
]


def _read(dac: Dac80508, command: int) -> int:
    dac.transfer(command)
    return dac.transfer(NOP)


def _remainder(word32: int) -> int:
    """Long division by x^8 + x^2 + x + 1; 0 for a frame with its CRC."""
    for place in range(31, 7, -1):
        if word32 >> place & 1:
            word32 ^= 0b1_0000_0111 << (place - 8)
    return word32


def _in_crc_mode() -> Dac80508:
    dac = Dac80508()
    dac.transfer(CRC_ON)
    return dac


# ---- facts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("frame", "crc"), CRC_WORDS)
def test_crc_is_that_of_published_words(frame, crc):
    assert facts.crc8(frame) == crc
    assert facts.with_crc(frame) == frame << 8 | crc
    assert facts.crc_holds(frame << 8 | crc)


@given(st.integers(0, 0xFF_FFFF), st.integers(0, 31))
def test_crc_finds_every_wrong_bit(frame, place):
    assert not facts.crc_holds(facts.with_crc(frame) ^ 1 << place)


def test_a_frame_of_more_than_24_bits_gets_no_crc():
    with pytest.raises(InputError, match="0x1000000 does not fit into 24 bits"):
        facts.with_crc(0x100_0000)


def test_register_words_of_the_datasheet():
    assert (facts.DEVICE_ID_Z, facts.DEVICE_ID_M) == (0x0816, 0x0896)
    assert facts.CONFIG_ALM_SEL == 0x2000
    assert facts.CONFIG_ALM_EN == 0x1000
    assert facts.CONFIG_CRC_EN == 0x0800
    assert facts.CONFIG_FSDO == 0x0400
    assert facts.CONFIG_DSDO == 0x0200
    assert facts.CONFIG_REF_PWDWN == 0x0100
    assert facts.CONFIG_PWDWN_ALL == 0x00FF
    assert facts.STATUS_REF_ALM == 0x0001


@pytest.mark.parametrize(
    ("gain", "full_scale", "lsb_uv"),
    [(0x0100, 1.25, 19.1), (0x01FF, 2.5, 38.1), (0x00FF, 5.0, 76.3)],
)
def test_ranges_and_their_lsb(gain, full_scale, lsb_uv):
    assert facts.full_scale_v(gain, 0) == full_scale
    assert float(facts.code_to_volts(1, full_scale)) * 1e6 == pytest.approx(lsb_uv, abs=0.05)
    assert facts.not_recommended(gain) == ()


def test_undivided_reference_without_gain_is_not_recommended():
    assert facts.not_recommended(0x0000) == (0, 1, 2, 3, 4, 5, 6, 7)
    assert facts.not_recommended(0x00FB) == (2,)


@pytest.mark.parametrize(
    ("vio_v", "fast", "mhz"),
    [(1.8, False, 12), (1.8, True, 20), (2.7, False, 18), (3.3, False, 18), (3.3, True, 25)],
)
def test_read_clock(vio_v, fast, mhz):
    assert facts.read_clock_limit_hz(vio_v, fast) == mhz * 1e6


def test_one_write_at_50_mhz_takes_495_ns():
    assert facts.frame_s(50e6) == pytest.approx(495e-9)
    assert facts.frame_s(50e6, 32) == pytest.approx(655e-9)
    with pytest.raises(InputError, match="5.1e.07 Hz; the limit is 50 MHz"):
        facts.frame_s(51e6)
    with pytest.raises(InputError, match="VIO of 1.2 V"):
        facts.read_clock_limit_hz(1.2)


def test_times_between_frames_and_updates():
    assert (facts.UPDATE_INTERVAL_S, facts.SETTLING_S, facts.SOFT_RESET_S) == (1e-6, 5e-6, 250e-6)
    assert facts.CS_HIGH_S == 15e-9


@pytest.mark.parametrize("full_scale", [1.25, 2.5, 5.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_quarter_to_three_quarter_step_is_within_2_lsb_after_5_us(full_scale, sign):
    step = sign * full_scale / 2
    left = step - float(facts.settling(step, 5e-6))
    assert 0 < sign * left <= 2 * full_scale / 65536


def test_a_large_step_starts_at_the_slew_rate():
    assert facts.settling(2.5, 0.5e-6) == pytest.approx(0.9)
    assert facts.settling(-2.5, 0.5e-6) == pytest.approx(-0.9)


@given(st.floats(-5, 5), st.lists(st.floats(-1e-6, 20e-6), min_size=2, max_size=9).map(sorted))
def test_settling_is_monotonic_bounded_by_slew_and_step(step, times):
    covered = np.abs(facts.settling(step, times))
    assert (np.diff(covered) >= -1e-12).all()
    assert (np.diff(covered) <= 1.8e6 * np.diff(np.maximum(times, 0)) + 1e-12).all()
    assert (covered <= abs(step)).all()
    assert (covered[np.array(times) <= 0] == 0).all()
    assert facts.settling(step, 1.0) == pytest.approx(step)


# ---- power-up, variants, supply ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ("Z", (0x81_0816, 0x82_FF00, 0x83_0000, 0x84_0000, 0x86_0000, 0x87_0000, 0x88_0000)),
        ("M", (0x81_0896, 0x82_FF00, 0x83_0000, 0x84_00FF, 0x86_0000, 0x87_0000, 0x8F_8000)),
    ],
)
def test_registers_after_power_up(variant, words):
    dac = Dac80508(variant)
    for word in words:
        assert _read(dac, word & 0xFF_0000) == word


def test_m_parts_power_up_in_the_middle_of_5_v():
    dac = Dac80508("M")
    assert dac.active == dac.buffer == [0x8000] * 8
    assert [dac.output_v(channel) for channel in range(8)] == [2.5] * 8
    assert [Dac80508("Z").output_v(channel) for channel in range(8)] == [0.0] * 8


def test_soft_reset_of_an_m_part_is_its_own_power_up():
    dac = Dac80508("M")
    for word in (0x08_1234, 0x04_0100, 0x02_00FF, 0x03_0401, SOFT_RESET):
        dac.transfer(word)
    assert _read(dac, 0x88_0000) == 0x88_8000
    assert _read(dac, 0x84_0000) == 0x84_00FF
    assert _read(dac, 0x82_0000) == 0x82_FF00
    assert _read(dac, 0x83_0000) == 0x83_0000


def test_a_read_that_soft_reset_overtakes_is_not_answered():
    dac = Dac80508()
    dac.transfer(0x81_0000)
    assert dac.transfer(SOFT_RESET) == 0x81_0816
    assert dac.transfer(NOP) == 0


def test_what_does_not_exist_is_refused():
    with pytest.raises(InputError, match="no variant 'X'; there are 'Z' and 'M'"):
        Dac80508("X")
    with pytest.raises(InputError, match="VDD of 1.8 V; allowed are 2.7 to 5.5 V"):
        Dac80508(vdd_v=1.8)


@pytest.mark.parametrize(
    ("vdd_v", "gain", "alarm"),
    [
        (5.0, 0x04_00FF, 0),
        (4.75, 0x04_00FF, 1),
        (3.3, 0x04_0000, 1),
        (3.3, 0x04_0100, 0),
        (2.7, 0x04_0100, 0),
    ],
)
def test_reference_alarm_at_low_supply_until_the_reference_is_divided(vdd_v, gain, alarm):
    dac = Dac80508(vdd_v=vdd_v)
    for word in (gain, 0x08_8000):
        dac.transfer(word)
    assert _read(dac, 0x87_0000) == 0x87_0000 + alarm
    assert (dac.output_v(0) == 0.0) == bool(alarm)
    assert _read(dac, 0x88_0000) == 0x88_8000  # codes are untouched
    dac.transfer(0x04_01FF)
    assert _read(dac, 0x87_0000) == 0x87_0000
    assert dac.output_v(0) == 1.25


def test_full_scale_is_one_lsb_below_the_range():
    dac = Dac80508(vdd_v=2.7)
    for word in (0x04_01FF, 0x08_FFFF):
        dac.transfer(word)
    assert dac.output_v(0) == pytest.approx(2.5 - 38.1e-6, abs=1e-7)


# ---- CONFIG -----------------------------------------------------------------------------------


def test_powered_down_channels_are_at_0_v_and_come_back_with_their_code():
    dac = Dac80508()
    for word in (0x04_01FF, 0x08_8000, 0x0B_8000, 0x03_0008):
        dac.transfer(word)
    assert (dac.output_v(0), dac.output_v(3)) == (1.25, 0.0)
    assert dac.full_scale_v(3) == 2.5  # what it would have when on
    dac.transfer(0x0B_4000)
    dac.transfer(0x03_0000)
    assert (dac.output_v(0), dac.output_v(3)) == (1.25, 0.625)


def test_without_its_reference_no_channel_drives_and_there_is_no_alarm():
    dac = Dac80508(vdd_v=3.3)
    for word in (0x08_8000, 0x03_0100):
        dac.transfer(word)
    assert dac.output_v(0) == 0.0
    assert _read(dac, 0x87_0000) == 0x87_0000


@pytest.mark.parametrize(("word", "moves"), [(0x03_0001, 1), (0x03_0100, 1), (0x03_0400, 0)])
def test_power_bits_count_as_updates_and_others_do_not(word, moves):
    dac = Dac80508()
    before = dac.updates
    dac.transfer(word)
    dac.transfer(word)  # no change, nothing moves
    assert dac.updates - before == moves


@pytest.mark.parametrize(
    ("word", "answer"), [(0x03_C400, 0x83_0400), (0x04_FFFF, 0x84_07FF), (0x02_1234, 0x82_1234)]
)
def test_reserved_bits_read_as_zero(word, answer):
    dac = Dac80508()
    dac.transfer(word)
    assert _read(dac, answer & 0xFF_0000) == answer


def test_read_only_registers_are_not_written():
    dac = Dac80508()
    dac.transfer(0x01_FFFF)
    dac.transfer(0x07_FFFF)
    assert _read(dac, 0x81_0000) == 0x81_0816
    assert _read(dac, 0x87_0000) == 0x87_0000


def test_dsdo_kills_readback_and_nothing_else():
    dac = Dac80508()
    dac.transfer(0x03_0200)
    assert _read(dac, 0x81_0000) == 0
    dac.transfer(0x08_8000)
    assert dac.active[0] == 0x8000
    dac.transfer(0x03_0000)
    assert _read(dac, 0x81_0000) == 0x81_0816


def test_fsdo_raises_the_read_clock():
    dac = Dac80508()
    assert dac.read_clock_limit_hz() == 18e6
    dac.transfer(0x03_0400)
    assert dac.read_clock_limit_hz() == 25e6
    assert dac.read_clock_limit_hz(1.8) == 20e6


def test_alarm_pin_takes_the_place_of_sdo():
    dac = Dac80508(vdd_v=3.3)
    dac.transfer(0x03_3200)  # ALM-SEL, ALM-EN, DSDO: the last is ignored
    assert _read(dac, 0x81_0000) == 0  # pulled low by the reference alarm
    dac.transfer(0x04_0100)
    assert _read(dac, 0x81_0000) == 0xFF_FFFF  # released


def test_alarm_pin_falls_on_a_crc_error():
    dac = Dac80508()
    dac.transfer(0x03_1800)
    assert dac.transfer(0x0880_00E7, 32) == 0xFFFF_FFFF
    dac.transfer(0x0880_00E6, 32)
    assert dac.alarm
    assert dac.transfer(NOP_CRC, 32) == 0
    assert dac.transfer(NOP_CRC, 32) == 0xFFFF_FFFF


# ---- frames and CRC mode ----------------------------------------------------------------------


def test_broadcast_does_not_wait_for_ldac():
    dac = Dac80508()
    for word in (0x02_FFFF, 0x08_1111, 0x06_ABCD):
        dac.transfer(word)
    assert dac.active == dac.buffer == [0xABCD] * 8
    assert _read(dac, 0x86_0000) == 0x86_ABCD


def test_a_short_frame_leaves_a_pending_answer_alone():
    dac = Dac80508()
    dac.transfer(0x81_0000)
    assert dac.transfer(0x08_8000, n_clocks=23) == 0
    assert dac.transfer(NOP) == 0x81_0816


def test_a_part_in_crc_mode_answers_with_a_crc():
    dac = _in_crc_mode()
    assert dac.transfer(0x8200_00DD, 32) == 0  # the frame before had no CRC to report on
    assert dac.transfer(0x8600_0076, 32) == 0x82FF_000A
    assert dac.transfer(NOP_CRC, 32) == 0x8600_0076
    assert dac.transfer(NOP_CRC, 32) == NOP_CRC


def test_writes_of_crc_mode_are_echoed():
    dac = _in_crc_mode()
    dac.transfer(0x0880_00E7, 32)
    assert dac.active[0] == 0x8000
    assert dac.transfer(0x0401_FF4D, 32) == 0x0880_00E7
    assert dac.transfer(NOP_CRC, 32) == 0x0401_FF4D
    assert dac.gain == 0x01FF


@pytest.mark.parametrize("place", [0, 7, 8, 15, 23, 24, 31])
def test_a_frame_with_a_wrong_bit_is_ignored_and_reported(place):
    dac = _in_crc_mode()
    broken = 0x0880_00E7 ^ 1 << place
    before = copy.deepcopy(dac)
    dac.transfer(broken, 32)
    assert (dac.buffer, dac.active, dac.updates) == (before.buffer, before.active, before.updates)
    assert dac.crc_error
    report = dac.transfer(NOP_CRC, 32)
    assert report & ERROR_BIT
    assert (report ^ broken) & 0xBFFF_FF00 == 0  # echo of what came in
    assert _remainder(report) == 0
    assert dac.transfer(NOP_CRC, 32) & ERROR_BIT == 0


def test_lengths_of_crc_mode_are_those_of_32_bits():
    dac = _in_crc_mode()
    for n_clocks in (24, 31):
        dac.transfer(0x08_8000, n_clocks)
    assert dac.active[0] == 0
    dac.transfer(0xFFFF_FF00_0880_00E7, 64)
    assert dac.active[0] == 0x8000


def test_the_user_frame_with_the_other_crc_does_not_reset():
    dac = _in_crc_mode()
    dac.transfer(0x0880_00E7, 32)
    dac.transfer(0x0500_0ADD, 32)  # start value 0xFF instead of 0
    assert dac.active[0] == 0x8000
    dac.transfer(0x0500_0AF6, 32)
    assert dac.active[0] == 0
    assert dac.transfer(0x81_0000) == 0  # 24 bits again
    assert dac.transfer(NOP) == 0x81_0816


def test_crc_mode_ends_with_a_checked_frame():
    dac = _in_crc_mode()
    dac.transfer(0x0300_00BD, 32)
    assert dac.transfer(0x88_0000) == 0
    assert dac.transfer(NOP) == 0x88_0000


# ---- against a model written from the register table alone ------------------------------------


class _Model:
    """SYNC, BRDCAST, LDAC and the DAC registers of a Z part, by the sentences of the datasheet."""

    def __init__(self) -> None:
        self.regs = {2: 0xFF00, 4: 0, 6: 0, **dict.fromkeys(range(8, 16), 0)}
        self.out = [0] * 8

    def write(self, addr: int, data: int) -> None:
        if addr == 5 and data % 16 == 10:
            self.__init__()
        elif addr == 5 and data & 16:
            self.out = [
                self.regs[8 + n] if self.regs[2] & 1 << n else self.out[n] for n in range(8)
            ]
        elif addr == 4:
            self.regs[4] = data % 0x800
        elif addr in self.regs:
            self.regs[addr] = data
        for n in range(8):
            if addr == 6 and self.regs[2] & 0x100 << n:
                self.regs[8 + n] = self.out[n] = data
            if addr == 8 + n and not self.regs[2] & 1 << n:
                self.out[n] = data


FRAMES = st.tuples(
    st.sampled_from([0, 1, 2, 4, 5, 6, 7, *range(8, 16)]),
    st.one_of(st.integers(0, 0xFFFF), st.sampled_from([0x0010, 0x000A, 0x00FF, 0xFF00, 0xFFFF])),
)


@given(st.lists(FRAMES, max_size=40), st.booleans())
def test_any_writes_leave_what_the_register_table_says(frames, crc_mode):
    dac, model = Dac80508(), _Model()
    for addr, data in frames:
        frame = addr << 16 | data
        if crc_mode and not dac.config:
            dac.transfer(CRC_ON)  # a soft reset has left the mode
        if crc_mode:
            dac.transfer(frame << 8 | _remainder(frame << 8), 32)
        else:
            dac.transfer(frame)
        model.write(addr, data)
        assert dac.active == model.out
    dac.config = 0
    dac.transfer(NOP)  # takes the echo of CRC mode away
    for addr, data in model.regs.items():
        assert _read(dac, 0x80_0000 | addr << 16) == 0x80_0000 | addr << 16 | data
