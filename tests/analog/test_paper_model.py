"""The paper's cost model: literal numbers of its text, and what they allow."""

import pytest

from rram_host.analog.paper_model import (
    CLAIMS,
    PAPER,
    energy_ratio,
    implied_analog_mac_j,
    judge,
    speed_up,
    speed_up_bound,
)
from rram_host.errors import InputError

JUDGED = [judge(claim) for claim in CLAIMS]


def test_array_energy_by_ohm_is_ten_times_the_printed_one():
    assert PAPER.array_mac_by_ohm_j == pytest.approx(20e-15)
    assert PAPER.array_mac_j == 2.0e-15


def test_a_product_takes_the_printed_time_and_the_printed_densities_follow():
    assert PAPER.step_s == pytest.approx(17.89e-9)
    assert PAPER.macro_flops_per_mm2() / 1e12 == pytest.approx(5.72, abs=0.005)
    assert PAPER.gpu_flops_per_mm2 / 1e12 == pytest.approx(0.14, abs=0.005)
    assert PAPER.density_ratio() == pytest.approx(40.9, abs=0.1)
    assert PAPER.density_ratio(2) == pytest.approx(81.9, abs=0.1)


def test_converters_dominate_a_tile():
    dac, tia, adc = (1e15 * energy for energy in PAPER.periphery_mac_j)
    assert (dac, tia, adc) == pytest.approx((7.1, 93.8, 353.1), abs=0.06)
    assert 1e15 * PAPER.tile_mac_j == pytest.approx(456, abs=0.5)
    assert PAPER.gpu_mac_j / PAPER.tile_mac_j == pytest.approx(1.2, abs=0.05)


def test_speed_bounds_of_phi4():
    bounds = [found.speed_bound for found in JUDGED[:4]]
    assert bounds == pytest.approx([16.7, 24.4, 41, 41], rel=0.012)  # the last two as 41
    assert all(found.claim.speed_up < found.speed_bound for found in JUDGED)


def test_printed_speed_ups_are_about_half_of_what_their_inputs_give_in_turns():
    ratios = [found.claim.speed_up / found.speed_serial for found in JUDGED]
    assert min(ratios) > 0.48
    assert max(ratios) < 0.58


def test_energy_bounds_without_converters():
    bounds = [found.energy_bound for found in JUDGED]
    assert bounds == pytest.approx([15.8, 22.5, 68.5, 86.1, 60, 46, 68, 131], rel=0.01)
    assert JUDGED[3].energy_bound_by_ohm == pytest.approx(22.7, abs=0.05)
    assert JUDGED[7].energy_bound_by_ohm == pytest.approx(24.8, abs=0.05)


def test_the_largest_energy_ratio_is_above_its_bound_but_for_rounding():
    found = JUDGED[7]
    low, high = found.energy_bound_low, found.energy_bound_high
    assert (low, high) == pytest.approx((123, 140), rel=0.005)
    assert found.claim.energy_ratio > found.energy_bound
    assert found.energy_verdict == "above its bound but for rounding of the share"


def test_implied_cost_of_a_mac_is_below_that_of_its_cells():
    assert 1e15 * JUDGED[3].implied_mac_j == pytest.approx(3.1, abs=0.05)
    assert 1e15 * JUDGED[7].implied_mac_j == pytest.approx(1.8, abs=0.05)
    assert JUDGED[7].implied_mac_j < PAPER.array_mac_j


def test_printed_cuts_and_ratios_are_one_number():
    # cuts are printed to 0.1 %: at 138 that is 7 % of the ratio either way
    for claim in CLAIMS:
        low, high = (1 / (1 - claim.energy_cut + shift) for shift in (0.0005, -0.0005))
        assert low - 0.05 <= claim.energy_ratio <= high + 0.05


def test_implied_cost_undoes_the_energy_ratio():
    ratio = energy_ratio(0.97, 30e-15)
    assert implied_analog_mac_j(0.97, ratio) == pytest.approx(30e-15)


def test_in_turns_is_never_faster_than_at_once():
    for share in (0.1, 0.5, 0.9, 1.0):
        assert speed_up(share, 41.0) <= speed_up_bound(share, 41.0) <= 41.0 / share


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_out_of_range_is_refused(share: float):
    with pytest.raises(InputError, match=r"0\.\.1"):
        speed_up(share, 41.0)


def test_a_ratio_that_is_not_positive_is_refused():
    with pytest.raises(InputError, match="positive"):
        energy_ratio(0.9, 0.0)
