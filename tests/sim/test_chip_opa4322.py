"""OPA4322 as transimpedance amplifier: SBOS538's numbers, the sizing table, Ohm and Kirchhoff."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.chips import opa4322 as facts
from firmware_bridge.errors import InputError
from sim.chips.opa4322 import Tia, settled

RANGES = st.sampled_from([3.5e3, 10e3, 45e3, 90e3])
VOLTS = st.floats(0.0, 1.8)
SIEMENS = st.floats(0.0, 5e-3)
OFFSETS = st.floats(-2e-3, 2e-3)


# ---- facts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (facts.GAIN_BANDWIDTH_HZ, 20e6),
        (facts.SLEW_V_PER_S, 10e6),
        (facts.NOISE_V_PER_RTHZ, 8.5e-9),
        (facts.OFFSET_TYPICAL_V, 0.5e-3),
        (facts.OFFSET_MAX_V, 2e-3),
        (facts.BIAS_TYPICAL_A, 0.2e-12),
        (facts.BIAS_MAX_A, 10e-12),
    ],
)
def test_constants_of_the_datasheet(value, printed):
    assert value == printed


@pytest.mark.parametrize(
    ("ohm", "farad", "mega_hz", "settling"),
    [(3.5e3, 10e-12, 3.6, 0.46e-6), (90e3, 4.7e-12, 0.38, 4.4e-6)],
)
def test_bandwidth_and_settling_to_14_bit_with_60_pf_at_the_input(ohm, farad, mega_hz, settling):
    assert facts.bandwidth_hz(ohm, farad, 60e-12) / 1e6 == pytest.approx(mega_hz, abs=0.006)
    assert facts.settling_s(ohm, farad, 60e-12) == pytest.approx(settling, rel=0.01)


def test_bandwidth_is_that_of_the_slower_half():
    assert facts.bandwidth_hz(10e3, 1e-9, 60e-12) == pytest.approx(15915.5, rel=1e-5)
    assert facts.bandwidth_hz(10e3, 0.0, 50e-12) == pytest.approx(2.5231e6, rel=1e-4)


@pytest.mark.parametrize("parts", [(0.0, 1e-12, 1e-12), (1e3, 0.0, 0.0), (1e3, -1e-12, 1e-12)])
def test_a_loop_without_parts_is_refused(parts):
    with pytest.raises(InputError, match="OPA4322: R_f .* must be positive"):
        facts.bandwidth_hz(*parts)


def test_half_a_millivolt_of_offset_is_thirty_codes_behind_a_loaded_line():
    gain = facts.noise_gain(3.5e3, 1.6e-3)
    assert gain == pytest.approx(6.6)
    assert 0.5e-3 * gain / 109.863e-6 == pytest.approx(30, abs=0.1)


# ---- while the output follows ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("current", "volts"),
    [(0.0, 0.9), (100e-6, 0.55), (-100e-6, 1.25), (254e-6, 0.011), (256e-6, 0.01), (-1e-3, 1.79)],
)
def test_output_of_the_product_range(current, volts):
    assert Tia(3.5e3, 0.9, 1.8).output_v(current) == pytest.approx(volts)


def test_offset_appears_with_the_noise_gain_and_the_resistor_scales_the_current():
    tia = Tia(3.5e3, 0.9, 1.8, offset_v=0.5e-3, gain=1.001)
    assert tia.output_v(100e-6) == pytest.approx(0.9005 - 0.35035)
    at_zero_input = Tia(3.5e3, 0.9, 1.8, offset_v=0.5e-3)
    current = at_zero_input.current_a(0.9, 1.6e-3)
    assert at_zero_input.output_v(current) - 0.9 == pytest.approx(3.3e-3)


@given(RANGES, OFFSETS, VOLTS)
def test_full_scale_is_where_the_clamp_begins(ohm, offset, bias):
    bias = 0.05 + bias * 1.7 / 1.8
    tia = Tia(ohm, bias, 1.8)
    edge = facts.full_scale_a(ohm, bias, 1.8)
    for current in (edge, -edge):
        assert tia.output_v(0.999 * current) == pytest.approx(bias - 0.999 * current * ohm)
    assert tia.output_v(1.001 * edge) == 0.01 or tia.output_v(-1.001 * edge) == 1.79


# ---- saturation -----------------------------------------------------------------------------


def test_a_clamped_output_loses_the_virtual_ground():
    tia = Tia(90e3, 0.9, 1.8)
    # 20 uA are wanted, 89/9 uA can be had: 5 kohm from 1.0 V, 90 kohm to 10 mV
    assert tia.saturated(1.0, 200e-6)
    line = tia.input_v(1.0, 200e-6)
    assert line == pytest.approx((18 * 1.0 + 0.01) / 19)
    assert line == pytest.approx(0.9479, abs=1e-4)  # not 0.9
    assert not tia.saturated(0.949, 200e-6)
    assert tia.input_v(0.949, 200e-6) == 0.9


@given(RANGES, OFFSETS, VOLTS, SIEMENS)
def test_currents_at_the_input_node_add_up_to_nothing(ohm, offset, source, siemens):
    tia = Tia(ohm, 0.9, 1.8, offset)
    line = tia.input_v(source, siemens)
    into = siemens * (source - line)
    output = tia.output_v(into)
    assert into - (line - output) / ohm == pytest.approx(0.0, abs=1e-15 + 1e-9 * abs(into))
    assert tia.current_a(source, siemens) == into
    assert (line == 0.9 + offset) or tia.saturated(source, siemens)
    if tia.saturated(source, siemens):
        assert output == pytest.approx(0.01, abs=1e-9) or output == pytest.approx(1.79, abs=1e-9)


@given(RANGES, OFFSETS, st.floats(1e-6, 5e-3), st.sampled_from([0.01, 1.79]))
def test_the_line_does_not_jump_where_the_output_clamps(ohm, offset, siemens, clamp):
    ground = 0.9 + offset
    onset = ground + (ground - clamp) / (ohm * siemens)
    tia = Tia(ohm, 0.9, 1.8, offset)
    around = tia.input_v(onset + np.array([-1e-9, 0.0, 1e-9]), siemens)
    assert around == pytest.approx(ground, abs=2e-9)


@given(RANGES, SIEMENS, VOLTS, VOLTS)
def test_the_line_rises_with_its_source(ohm, siemens, one, other):
    low, high = Tia(ohm, 0.9, 1.8).input_v(sorted((one, other)), siemens)
    assert low <= high + 1e-12


def test_an_open_line_stays_at_the_virtual_ground():
    assert Tia(3.5e3, 0.9, 1.8, offset_v=1e-3).input_v(0.0, 0.0) == pytest.approx(0.901)


def test_arrays_are_rows_of_amplifiers():
    ohm, offset = np.array([3.5e3, 90e3]), np.array([1e-3, -1e-3])
    source, siemens = np.array([[1.0, 1.0], [0.8, 0.9], [0.1, 0.0]]), 1e-3
    many = Tia(ohm, 0.9, 1.8, offset, gain=[1.0, 1.01])
    for row in range(2):
        one = Tia(ohm[row], 0.9, 1.8, offset[row], gain=[1.0, 1.01][row])
        column = source[:, row]
        assert np.array_equal(many.input_v(source, siemens)[:, row], one.input_v(column, siemens))
        assert np.array_equal(
            many.output_v(many.current_a(source, siemens))[:, row],
            one.output_v(one.current_a(column, siemens)),
        )


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ((3.5e3, 0.9, 1.7), "supply 1.7 V is outside 1.8 to 5.5 V"),
        ((3.5e3, 0.9, 6.0), "supply 6 V"),
        ((0.0, 0.9, 1.8), "must be positive"),
        ((3.5e3, 1.8, 1.8), "bias 1.8 V is outside the output's 0.01 to 1.79 V"),
    ],
)
def test_an_amplifier_that_cannot_work_is_refused(settings, match):
    with pytest.raises(InputError, match="OPA4322: .*" + match):
        Tia(*settings)


# ---- settling -------------------------------------------------------------------------------


def test_a_small_step_is_an_exponential():
    tau = 1 / (2 * np.pi * 1e6)
    at = settled(0.9, 1.0, [-1.0, 0.0, tau, 2 * tau, 1.0], 1e6)
    assert at.tolist() == pytest.approx([0.9, 0.9, 0.9632121, 0.9864665, 1.0])


def test_a_large_step_slews_at_ten_volts_a_microsecond():
    assert settled(1.7, 0.1, [0.0, 50e-9, 100e-9], 20e6).tolist() == pytest.approx([1.7, 1.2, 0.7])
    assert settled(0.1, 1.7, 100e-9, 20e6) == pytest.approx(1.1)


@given(VOLTS, VOLTS, st.floats(1e5, 2e7), st.floats(0, 1e-5), st.floats(0, 1e-5))
def test_settling_in_two_waits_is_settling_in_one(start, end, hertz, first, second):
    halfway = settled(start, end, first, hertz)
    assert settled(halfway, end, second, hertz) == pytest.approx(
        settled(start, end, first + second, hertz), abs=1e-9
    )


@given(VOLTS, VOLTS, RANGES)
def test_after_the_settling_time_and_slewing_half_an_lsb_is_left(start, end, ohm):
    hertz = facts.bandwidth_hz(ohm, 10e-12, 60e-12)
    wait = facts.settling_s(ohm, 10e-12, 60e-12) + abs(end - start) / facts.SLEW_V_PER_S
    assert abs(settled(start, end, wait, hertz) - end) <= abs(end - start) * 2**-15 * 1.000001
