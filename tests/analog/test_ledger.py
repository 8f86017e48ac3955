"""The corrected ledger and the board's time: counts of one configuration, and what they cost."""

import pytest

from rram_host.analog.ledger import (
    Workload,
    board_time,
    corrected,
    published_workload,
)
from rram_host.analog.paper_model import PAPER
from rram_host.analog.products import ProductCount, mixer_products
from rram_host.errors import InputError
from rram_host.flows.mixer.settings import MixerSettings


def workload(*products: ProductCount) -> Workload:
    return Workload("test", "by hand", products)


def test_the_published_model_has_the_printed_weight_share_and_not_the_printed_mac_share():
    work = published_workload()
    assert work.products == mixer_products(MixerSettings())
    assert (work.weights_analog, work.weights_digital) == (43_360, 1792)
    assert (work.macs_analog, work.macs_digital) == (20 * 1_197_568, 20 * 40_960)
    assert 100 * work.weight_share == pytest.approx(96.0, abs=0.05)
    assert 100 * work.mac_share == pytest.approx(96.7, abs=0.05)  # 98.9 in the paper


def test_a_full_tile_costs_what_the_paper_s_converters_and_ohm_give():
    found = corrected(workload(ProductCount("w", 32, 32, 5)))
    # 456 fJ with the printed 2 fJ of the array, 18 fJ more by G V^2 t
    assert 1e15 * found.analog_mac_j == pytest.approx(456 + 18, abs=0.5)
    assert found.macro_s == pytest.approx(5 * 17.89e-9)
    assert found.energy_ratio == pytest.approx(549 / 474, abs=0.002)


def test_a_matrix_that_is_cut_takes_a_vector_a_block():
    work = workload(ProductCount("w", 40, 70, 3))
    # tiles of 32: three along the inputs, two along the outputs; small rests may share an array
    assert work.arrays == 3
    assert work.vectors >= 3 * 6
    assert work.utilisation == pytest.approx(40 * 70 * 3 / (work.vectors * 1024))


def test_a_tile_that_is_not_full_pays_its_converters_all_the_same():
    full = corrected(workload(ProductCount("w", 32, 32, 1)))
    narrow = corrected(workload(ProductCount("w", 32, 8, 1)))
    assert narrow.adc_j == full.adc_j
    assert narrow.dac_j == full.dac_j / 4
    assert narrow.analog_mac_j > 3 * full.analog_mac_j
    assert narrow.speed_serial == pytest.approx(full.speed_serial / 4)


def test_lora_is_paid_beside_the_array_and_merged_on_the_gpu():
    found = corrected(workload(ProductCount("w", 32, 32, 2, rank=1)))
    assert found.digital_j == pytest.approx(2 * 64 * 549e-15)
    assert found.gpu_j == pytest.approx(2 * 1024 * 549e-15)
    assert found.energy_ratio < found.energy_bound
    assert found.speed_serial < found.speed_bound


def test_what_is_digital_on_either_side_limits_both_ratios():
    (product,) = workload(ProductCount("w", 32, 32, 1)).products
    found = corrected(Workload("test", "by hand", (product,), rest=1024.0))
    assert found.rest_j == pytest.approx(1024 * 549e-15)
    assert found.gpu_j == pytest.approx(2048 * 549e-15)
    assert found.speed_serial < found.speed_bound == pytest.approx(2.0)  # half of the work is left
    assert found.energy_ratio < found.energy_bound < 2.0


def test_ratios_use_one_kind_of_flop():
    found = corrected(workload(ProductCount("w", 32, 32, 1)))
    assert found.speed_serial == pytest.approx(PAPER.density_ratio(2))


def test_board_time_is_products_times_their_time():
    work = workload(ProductCount("w", 64, 32, 10))
    time = board_time(work, 94.4e-6)
    assert time.one_board_s == pytest.approx(20 * 94.4e-6)
    assert time.board_each_s == pytest.approx(10 * 94.4e-6)


def test_no_product_and_no_size_are_refused():
    with pytest.raises(InputError, match="no product"):
        workload()
    with pytest.raises(InputError, match=">= 1"):
        ProductCount("w", 0, 3, 1)
