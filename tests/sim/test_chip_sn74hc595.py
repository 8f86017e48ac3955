"""SN74HC595 chain against the function table of SCLS041 and a plain list clocked bit by bit."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.chips import sn74hc595 as facts
from firmware_bridge.errors import InputError
from sim.chips.sn74hc595 import Sn74hc595Chain

BITS = st.lists(st.integers(0, 1), max_size=80)


def _chain(n_parts: int = 1, seed: int = 0) -> Sn74hc595Chain:
    return Sn74hc595Chain(n_parts, np.random.default_rng(seed))


def _cleared(n_parts: int = 1) -> Sn74hc595Chain:
    chain = _chain(n_parts)
    chain.clear()
    chain.latch()
    return chain


# ---- function table ---------------------------------------------------------------------------


def test_the_bit_sent_first_ends_on_qh_and_the_last_on_qa():
    chain = _cleared()
    chain.shift_in([1, 1, 0, 1, 0, 0, 0, 0])
    assert chain.shift.tolist() == [0, 0, 0, 0, 1, 0, 1, 1]
    assert chain.serial_out == 1


def test_outputs_change_with_rclk_only():
    chain = _cleared()
    chain.shift_in([1] * 8)
    assert chain.outputs(oe_low=True).tolist() == [0] * 8
    chain.latch()
    assert chain.outputs(oe_low=True).tolist() == [1] * 8


def test_srclr_clears_the_shift_register_and_no_output():
    chain = _cleared()
    chain.shift_in([1] * 8)
    chain.latch()
    chain.clear()
    assert chain.serial_out == 0
    assert chain.outputs(oe_low=True).tolist() == [1] * 8
    chain.latch()
    assert chain.outputs(oe_low=True).tolist() == [0] * 8


def test_with_oe_high_outputs_float_and_the_chain_goes_on():
    chain = _cleared()
    chain.shift_in([1, 0, 0, 0, 0, 0, 0, 0])
    assert chain.outputs(oe_low=False) is None
    assert chain.serial_out == 1  # QH' does not know OE
    chain.latch()
    assert chain.outputs(oe_low=False) is None
    assert chain.outputs(oe_low=True).tolist() == [0, 0, 0, 0, 0, 0, 0, 1]


def test_qh_of_one_part_feeds_the_next():
    chain = _cleared(2)
    assert chain.shift_in([1] + [0] * 8).tolist() == [0] * 9
    assert chain.shift.tolist() == [0] * 8 + [1] + [0] * 7
    assert chain.shift_in([0] * 8).tolist() == [0] * 7 + [1]


def test_with_clocks_tied_storage_is_one_pulse_behind():
    chain = _cleared()
    chain.clock_together([1])
    assert chain.shift.tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert chain.storage.tolist() == [0] * 8
    chain.clock_together([0])
    assert chain.shift.tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert chain.storage.tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


# ---- power-up ---------------------------------------------------------------------------------


def test_nobody_can_rely_on_what_a_chain_powers_up_with():
    chains = [_chain(8, seed) for seed in range(3)]
    for chain in chains:
        for register in (chain.shift, chain.storage):
            assert register.shape == (64,)
            assert set(register.tolist()) == {0, 1}
    assert len({chain.storage.tobytes() for chain in chains}) == 3
    assert _chain(8, 1).storage.tolist() == chains[1].storage.tolist()


def test_a_full_length_of_bits_replaces_all_of_it():
    chain = _chain(2, 7)
    before = chain.shift.tolist()
    fallen = chain.shift_in([1, 0] * 8)
    assert fallen.tolist() == before[::-1]
    assert chain.shift.tolist() == [0, 1] * 8


# ---- laws -------------------------------------------------------------------------------------


def _clocked(stages: list[int], bits: list[int]) -> tuple[list[int], list[int]]:
    """Every part on its own: QH' of each is read before any of them moves on."""
    parts = [stages[k : k + 8] for k in range(0, len(stages), 8)]
    fallen = []
    for bit in bits:
        serial = [bit, *(part[7] for part in parts)]
        fallen.append(serial[-1])
        parts = [[ser, *part[:7]] for ser, part in zip(serial, parts, strict=False)]
    return [stage for part in parts for stage in part], fallen


@given(st.integers(1, 5), BITS, st.integers(0, 99))
def test_a_sequence_is_the_same_as_its_clocks_one_by_one(n_parts, bits, seed):
    chain = _chain(n_parts, seed)
    stages, fallen = _clocked(chain.shift.tolist(), bits)
    assert chain.shift_in(bits).tolist() == fallen
    assert chain.shift.tolist() == stages


@given(st.integers(1, 3), BITS, BITS)
def test_two_sequences_are_one(n_parts, first, second):
    one, two = _chain(n_parts), _chain(n_parts)
    fallen = [*two.shift_in(first), *two.shift_in(second)]
    assert one.shift_in(first + second).tolist() == fallen
    assert one.shift.tolist() == two.shift.tolist()


@given(st.integers(1, 3), BITS)
def test_tied_clocks_are_a_latch_before_every_shift(n_parts, bits):
    tied, separate = _chain(n_parts), _chain(n_parts)
    fallen = []
    for bit in bits:
        separate.latch()
        fallen += separate.shift_in([bit]).tolist()
    assert tied.clock_together(bits).tolist() == fallen
    assert tied.shift.tolist() == separate.shift.tolist()
    assert tied.storage.tolist() == separate.storage.tolist()


@given(st.lists(st.integers(0, 1), min_size=64, max_size=64))
def test_words_of_a_shift_put_every_bit_on_its_pin(outputs):
    chain = _chain(8)
    words = facts.words_from_outputs(outputs)
    chain.shift_in([word >> place & 1 for word in words for place in range(31, -1, -1)])
    chain.latch()
    assert chain.outputs(oe_low=True).tolist() == outputs


# ---- copies and refusals ----------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.deepcopy, Sn74hc595Chain.copy])
def test_a_copy_goes_its_own_way(duplicate):
    chain = _chain(2, 3)
    twin = duplicate(chain)
    assert twin.shift.tolist() == chain.shift.tolist()
    before = chain.storage.tolist()
    twin.shift_in([1] * 16)
    twin.latch()
    assert chain.storage.tolist() == before
    outputs = chain.outputs(oe_low=True)
    outputs[:] = 9
    assert chain.storage.tolist() == before


@pytest.mark.parametrize("bits", [[0, 2], [-1], [0.5], [256], [float("nan")]])
def test_bits_are_0_and_1(bits):
    with pytest.raises(InputError, match="SER takes 0 and 1 only"):
        _chain().shift_in(bits)


def test_shapes_and_lengths_are_checked():
    with pytest.raises(InputError, match=r"bits of shape \(1, 2\)"):
        _chain().clock_together([[0, 1]])
    with pytest.raises(InputError, match="a chain of 0 parts"):
        _chain(0)


# ---- timing -----------------------------------------------------------------------------------


def test_timing_words_of_the_datasheet():
    assert [facts.CLOCK_MAX_HZ[v] for v in (2.0, 4.5, 6.0)] == [5e6, 25e6, 29e6]
    assert [facts.CLOCK_MAX_25C_HZ[v] for v in (2.0, 4.5, 6.0)] == [6e6, 31e6, 36e6]
    assert [facts.SER_SETUP_S[v] for v in (2.0, 4.5, 6.0)] == [100e-9, 20e-9, 17e-9]
    assert [facts.PULSE_S[v] for v in (2.0, 4.5, 6.0)] == [80e-9, 16e-9, 14e-9]
    assert (facts.SHIFT_DELAY_S[4.5], facts.LATCH_DELAY_S[4.5]) == (32e-9, 30e-9)


@pytest.mark.parametrize(
    ("supply_v", "mhz"), [(2.0, 5), (3.3, 5), (4.5, 25), (5.0, 25), (5.99, 25), (6.0, 29)]
)
def test_between_columns_the_slower_one_holds(supply_v, mhz):
    assert facts.clock_limit_hz(supply_v) == mhz * 1e6


def test_64_bits_at_20_mhz_take_3_2_us_and_one_rclk():
    assert facts.shift_s(64, 20e6, 5.0) == pytest.approx(3.25e-6)
    with pytest.raises(InputError, match=r"SRCLK of 2e.07 Hz; at 3.3 V: 5e.06 Hz"):
        facts.shift_s(64, 20e6, 3.3)
    with pytest.raises(InputError, match=r"supply of 1.8 V; allowed are 2 to 6 V"):
        facts.clock_limit_hz(1.8)
