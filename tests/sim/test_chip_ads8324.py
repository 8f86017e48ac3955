"""ADS8324 against the words and limits of SBAS172A, pages 8 and 9."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.chips import ads8324 as facts
from firmware_bridge.errors import InputError
from sim.chips.ads8324 import Ads8324, codes, dout

Z = None
CODES = st.integers(-8192, 8191)
VOLTS = st.floats(-1.2, 1.2)
ERRORS = {"gain": 1.0003, "offset_lsb": -3.2, "inl_lsb": 2.0}


def _spi(bits, floating=0):
    """A plain SPI driver: every bit from the first clock on, as one unsigned number."""
    return int("".join(str(floating if bit is None else bit) for bit in bits), 2)


# ---- bit stream -----------------------------------------------------------------------------


def test_forty_clocks_written_out_by_hand():
    # code 4660 = 0x1234 = 01 0010 0011 0100
    assert dout(4660, 40) == (
        [Z, Z, Z, Z, Z]  # sampling
        + [0]  # null bit
        + [0, 1, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0]  # B13 to B0
        + [0, 0]  # dummy bits
        + [0]  # "starting with a zero"
        + [0, 0, 1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0]  # B0 to B13
        + [0, 0, 0]  # nothing more to say, and CS still low
    )


@pytest.mark.parametrize(
    ("code", "stream"),
    [
        (8191, "ZZZZZ 0 01111111111111 00 0 1"),
        (-8192, "ZZZZZ 0 10000000000000 00 0 0"),
        (-1, "ZZZZZ 0 11111111111111 00 0 1"),
        (1, "ZZZZZ 0 00000000000001 00 0 1"),
        (0, "ZZZZZ 0 00000000000000 00 0 0"),
    ],
)
def test_twenty_four_clocks(code, stream):
    literal = [None if s == "Z" else int(s) for s in stream.replace(" ", "")]
    assert dout(code, 24) == literal
    assert Ads8324(0.9).dout(code, 24) == literal


def test_a_capture_by_hand_gives_the_word():
    assert facts.word_from_capture([0] * 6 + [0, 1, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0]) == 0x1234
    assert facts.word_from_capture([1] * 5 + [0, 1] + [0] * 13 + [0, 0, 0, 0]) == 0x2000


@given(CODES, st.integers(20, 60))
def test_a_careful_master_gets_every_code_back(code, n_clocks):
    word = facts.word_from_capture(dout(code, n_clocks))
    assert int(facts.to_signed(word)) == code


@given(CODES)
def test_the_repetition_is_the_same_word_backwards(code):
    stream = dout(code, 37)
    assert stream[23:37] == stream[6:20][::-1]


def test_sixteen_clocks_as_one_number_are_the_wrong_word():
    # 00000 0 01 0010 0011: sampling, null bit, and ten of the fourteen bits
    assert _spi(dout(4660, 16)) == 0x0123 == 291
    assert _spi(dout(4660, 16), floating=1) == 0xF923  # with a pull-up
    assert _spi(dout(-1, 16)) == 1023  # a negative code looks like a small positive one


@given(CODES.filter(bool))
def test_sixteen_clocks_are_wrong_for_every_code_but_zero(code):
    assert _spi(dout(code, 16)) not in (code, int(facts.to_word(code)))


@pytest.mark.parametrize(
    ("bits", "match"),
    [
        ([0] * 16, "16 clocks.*take 20"),
        ([0] * 5 + [1] + [0] * 18, "null bit .clock 6. is 1"),
        ([0] * 20 + [0, 1, 0, 0], "dummy bits .clocks 21, 22. are .0, 1."),
        ([0] * 10 + [None] * 10, "data bits"),
    ],
)
def test_a_capture_out_of_step_is_refused(bits, match):
    with pytest.raises(InputError, match=match):
        facts.word_from_capture(bits)


@pytest.mark.parametrize("code", [8192, -8193])
def test_there_is_no_code_of_fifteen_bits(code):
    with pytest.raises(InputError, match="-8192..8191"):
        dout(code, 24)


# ---- CS -------------------------------------------------------------------------------------


def test_a_new_conversion_needs_cs_high_and_low_again():
    adc = Ads8324(0.9)
    adc.select(0.45)
    first = adc.clock(24)
    assert facts.word_from_capture(first) == 0x1000
    adc.select(-0.45)  # still low: no falling edge, no conversion
    assert first + adc.clock(13) == dout(4096, 37)
    adc.deselect()
    assert adc.clock(3) == [Z, Z, Z]
    adc.select(-0.45)
    assert facts.word_from_capture(adc.clock(24)) == 0x3000


def test_clocks_may_come_in_pieces():
    adc = Ads8324(0.9)
    adc.select(0.45)
    assert adc.clock(8) + adc.clock(8) + adc.clock(8) == dout(4096, 24)


# ---- codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("volts", "code"),
    [(0.0, 0), (0.45, 4096), (-0.45, -4096), (0.9, 8191), (-0.9, -8192), (2.0, 8191), (-2.0, -8192)]
    + [(109.863e-6, 1), (-109.863e-6, -1), (54e-6, 0), (56e-6, 1)],
)
def test_codes_at_a_reference_of_0v9(volts, code):
    assert Ads8324(0.9).code(volts) == code


@given(VOLTS, VOLTS)
def test_codes_are_monotonic_with_every_error(one, other):
    adc = Ads8324(0.9, **ERRORS)
    low, high = sorted((one, other))
    assert adc.code(low) <= adc.code(high)


@given(st.lists(VOLTS, min_size=1, max_size=20))
def test_a_batch_gives_the_code_of_each(volts):
    adc = Ads8324(0.9, noise_lsb=0.76, **ERRORS)
    noise = np.linspace(-3, 3, len(volts))
    singly = [adc.code(v, n) for v, n in zip(volts, noise, strict=True)]
    assert adc.codes(volts, noise).tolist() == singly
    assert codes(volts, 0.9, noise_lsb=0.76 * noise, **ERRORS).tolist() == singly


def test_a_sum_in_another_order_gives_the_same_code():
    half = 0.5 * facts.lsb_v(0.9)
    assert {Ads8324(0.9).code(v) for v in np.nextafter(half, [-1, half, 1])} == {0}


def test_the_bow_vanishes_at_the_ends_and_in_the_middle_and_peaks_between():
    adc = Ads8324(0.9, inl_lsb=100.0)
    assert [adc.code(v) for v in (-0.9, 0.0, 0.9)] == [-8192, 0, 8191]
    assert adc.code(0.9 / 3**0.5) == 4730 + 100  # 8192 / sqrt(3) = 4729.7
    assert adc.code(-0.9 / 3**0.5) == -4730 - 100
    deviation = adc.codes(np.linspace(-0.9, 0.9, 1001)) - np.linspace(-8192, 8192, 1001)
    assert np.abs(deviation).max() == pytest.approx(100, abs=1.0)


def test_gain_and_offset_and_noise_are_in_lsb():
    assert Ads8324(0.9, offset_lsb=7).code(0.0) == 7
    assert Ads8324(0.9, gain=1.01).code(0.45) == 4137
    assert Ads8324(0.9, noise_lsb=10.0).code(0.0, noise=-1.5) == -15


# ---- limits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (facts.SAMPLE_CLOCKS, 5),
        (facts.CLOCKS_MIN, 20),
        (facts.CLOCKS_PER_SAMPLE, 24),
        (facts.CLOCK_MIN_HZ, 24_000),
        (facts.CLOCK_MAX_HZ, 1_200_000),
        (facts.CLOCK_HALF_MIN_S, 200e-9),
        (facts.SAMPLES_MAX_PER_S, 50_000),
        (facts.REFERENCE_MIN_V, 0.5),
        (facts.INPUT_FARAD, 25e-12),
        (facts.NOISE_LSB_PP, 5),
    ],
)
def test_constants_of_the_datasheet(value, printed):
    assert value == printed


def test_noise_in_lsb_grows_as_the_reference_falls():
    assert facts.noise_lsb_rms(0.9) == pytest.approx(5 / 6.6, abs=0.005)
    assert facts.noise_lsb_rms(0.5) == pytest.approx(1.368)


@pytest.mark.parametrize(
    "settings",
    [
        (1.2e6, 24, 1e-7, 0.9, 1.8),
        (24e3, 24, 1e-7, 0.5, 1.8),
        (1.2e6, 20, 4e-6, 0.9, 1.8),
        (1e6, 22, 1e-6, 1.5, 3.0),
    ],
)
def test_what_the_datasheet_allows_passes(settings):
    facts.check_timing(*settings)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ((1.21e6, 24, 1e-6, 0.9, 1.8), "DCLOCK 1.21e.06 Hz is outside 24 kHz to 1.2 MHz"),
        ((23e3, 24, 1e-6, 0.9, 1.8), "DCLOCK 23000 Hz"),
        ((0.0, 24, 1e-6, 0.9, 1.8), "DCLOCK 0 Hz"),
        ((1e6, 19, 1e-5, 0.9, 1.8), "19 clocks a conversion, minimum 20"),
        ((1e6, 24, 0.0, 0.9, 1.8), "CS high for 0 s"),
        ((1.2e6, 20, 1e-6, 0.9, 1.8), "56604 samples/s, maximum 50000"),
        ((1e6, 24, 1e-6, 0.95, 1.8), "V_REF 0.95 V is outside 0.5 V to V_CC/2 = 0.9 V"),
        ((1e6, 24, 1e-6, 0.49, 1.8), "V_REF 0.49 V"),
        ((1e6, 24, 1e-6, 0.9, 5.0), "V_CC 5 V is outside 1.8 to 3.6 V"),
    ],
)
def test_what_the_datasheet_forbids_is_refused(settings, match):
    with pytest.raises(InputError, match="ADS8324: .*" + match):
        facts.check_timing(*settings)


def test_every_broken_rule_is_named_at_once():
    with pytest.raises(InputError) as refused:  # as a public driver has it
        facts.check_timing(1e6, 16, 0.5, 2.943, 3.0)
    assert "16 clocks" in str(refused.value)
    assert "V_REF 2.943 V" in str(refused.value)


@pytest.mark.parametrize("reference_v", [0.49, 1.81])
def test_a_converter_without_a_sound_reference_is_refused(reference_v):
    with pytest.raises(InputError, match="0.5 to 1.8 V"):
        Ads8324(reference_v)


def test_acquisition_leaves_what_4_clocks_and_a_half_do_not_charge():
    # 3.75 us at 1.2 MHz; 15 kohm on 25 pF has a time constant of 0.375 us: exp(-10)
    assert facts.acquisition_error(15e3, 1.2e6) == pytest.approx(4.54e-5, rel=1e-3)
    assert facts.acquisition_error(0.0, 1.2e6) == 0.0
    assert facts.acquisition_error(100.0, 1.2e6) < 2**-15


@pytest.mark.parametrize("settings", [(-1.0, 1e6), (1e3, 0.0)])
def test_acquisition_through_nothing_sensible_is_refused(settings):
    with pytest.raises(InputError, match="ADS8324: source of"):
        facts.acquisition_error(*settings)


@given(st.floats(1e3, 1e6), st.floats(1.0, 50.0))
def test_a_weaker_source_or_a_faster_clock_leaves_more(ohm, factor):
    less = facts.acquisition_error(ohm, 24e3)
    assert less <= facts.acquisition_error(ohm * factor, 24e3)
    assert facts.acquisition_error(ohm, 24e3 * factor) == pytest.approx(
        facts.acquisition_error(ohm * factor, 24e3), rel=1e-9
    )
