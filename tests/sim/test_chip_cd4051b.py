"""CD4051B against the tables of SCHS047 at 25 C."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.chips import cd4051b as facts
from firmware_bridge.errors import InputError
from sim.chips.cd4051b import Cd4051b

SUPPLIES = st.sampled_from([5.0, 10.0, 15.0])

# INH C B A | channel, as printed
TRUTH_TABLE = """
    0 0 0 0 | 0
    0 0 0 1 | 1
    0 0 1 0 | 2
    0 0 1 1 | 3
    0 1 0 0 | 4
    0 1 0 1 | 5
    0 1 1 0 | 6
    0 1 1 1 | 7
    1 0 0 0 | none
    1 0 0 1 | none
    1 0 1 0 | none
    1 0 1 1 | none
    1 1 0 0 | none
    1 1 0 1 | none
    1 1 1 0 | none
    1 1 1 1 | none
"""


# ---- control --------------------------------------------------------------------------------


@pytest.mark.parametrize("line", TRUTH_TABLE.strip().splitlines())
def test_truth_table(line):
    levels, closed = line.split("|")
    inhibit, c, b, a = map(int, levels.split())
    expected = None if closed.strip() == "none" else int(closed)
    assert facts.channel(a, b, c, inhibit) == expected
    assert Cd4051b(15.0, 15.0).channel(a, b, c, inhibit) == expected


@pytest.mark.parametrize("levels", [(2, 0, 0, 0), (0, -1, 0, 0), (0, 0, 3, 0), (0, 0, 0, 2)])
def test_what_is_no_level_is_refused(levels):
    with pytest.raises(InputError, match="must be 0 or 1"):
        facts.channel(*levels)


@pytest.mark.parametrize(("supply", "v_il", "v_ih"), [(5, 1.5, 3.5), (10, 3, 7), (15, 4, 11)])
def test_control_thresholds(supply, v_il, v_ih):
    assert facts.V_IL_MAX_V[supply] == v_il
    assert facts.V_IH_MIN_V[supply] == v_ih
    facts.check_levels(supply, v_ih)
    with pytest.raises(InputError, match=f"V_IH at a supply of {supply} V is {v_ih} V minimum"):
        facts.check_levels(supply, v_ih - 0.01)


@pytest.mark.parametrize("supply", [5.0, 10.0, 15.0])
def test_3v3_logic_switches_no_part(supply):
    with pytest.raises(InputError, match="CD4051B: A, B, C, INH driven high with 3.3 V"):
        Cd4051b(supply, 3.3)


def test_5v_logic_switches_a_part_at_5_v_alone():
    Cd4051b(5.0, 5.0)
    with pytest.raises(InputError, match="7 V minimum"):
        Cd4051b(10.0, 5.0)


def test_a_level_above_the_supply_is_refused():
    facts.check_levels(5.0, 5.5)
    with pytest.raises(InputError, match="above V_DD . 0.5 V = 5.5 V"):
        facts.check_levels(5.0, 6.0)


@pytest.mark.parametrize("v", [float("nan"), 0.0])
def test_a_level_that_is_none_is_refused(v):
    with pytest.raises(InputError, match="V_IH"):
        facts.check_levels(5.0, v)


# ---- numbers of the table -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("supply", "typical", "maximum"), [(5.0, 470, 1050), (10.0, 180, 400), (15.0, 125, 240)]
)
def test_on_resistance(supply, typical, maximum):
    assert facts.typical_r_on_ohm(supply) == typical
    assert facts.maximum_r_on_ohm(supply) == maximum
    assert facts.r_on_ohm(supply, supply / 2) == typical


@pytest.mark.parametrize(
    ("supply", "address", "on", "off"),
    [
        (5.0, (450, 720), (400, 720), (200, 450)),
        (10.0, (160, 320), (160, 320), (90, 210)),
        (15.0, (120, 240), (120, 240), (70, 160)),
    ],
)
def test_switching_times_in_ns(supply, address, on, off):
    assert [t * 1e9 for t in facts.ADDRESS_S[supply]] == pytest.approx(address)
    assert [t * 1e9 for t in facts.INHIBIT_ON_S[supply]] == pytest.approx(on)
    assert [t * 1e9 for t in facts.INHIBIT_OFF_S[supply]] == pytest.approx(off)
    assert facts.SWITCH_ON_S[supply] * 1e9 == pytest.approx(on[0])


@pytest.mark.parametrize(("supply", "ns"), [(5.0, 720), (10.0, 320), (15.0, 240)])
def test_longest_switching_time(supply, ns):
    assert facts.switching_max_s(supply) * 1e9 == pytest.approx(ns)


def test_leakage_in_na():
    assert [i * 1e9 for i in facts.LEAKAGE_CHANNEL_A] == pytest.approx([0.01, 100])
    assert [i * 1e9 for i in facts.LEAKAGE_COMMON_A] == pytest.approx([0.08, 200])
    assert Cd4051b(15.0, 15.0).leakage_a == pytest.approx(1e-11)


@pytest.mark.parametrize("supply", [3.3, 7.0, 12.0])
def test_a_supply_between_the_columns_is_refused(supply):
    for ask in (
        facts.typical_r_on_ohm,
        facts.maximum_r_on_ohm,
        facts.switching_max_s,
        lambda v: facts.r_on_ohm(v, 1.0),
        lambda v: facts.check_levels(v, v),
    ):
        with pytest.raises(InputError, match=f"at {supply} V; the table has 5, 10, 15 V"):
            ask(supply)


# ---- a part ---------------------------------------------------------------------------------


def test_on_resistance_falls_by_four_tenths_towards_the_rails():
    ohm = Cd4051b(5.0, 5.0).r_on_ohm([-0.5, 0.0, 1.25, 2.5, 3.75, 5.0, 5.5])
    assert ohm.tolist() == pytest.approx([282, 282, 423, 470, 423, 282, 282])


@given(SUPPLIES, st.floats(0, 1))
def test_on_resistance_is_even_about_mid_range_and_never_above_its_peak(supply, x):
    low, high = facts.r_on_ohm(supply, [supply * x / 2, supply * (1 - x / 2)])
    assert low == pytest.approx(high)
    assert 0.6 * facts.typical_r_on_ohm(supply) <= low * 1.000001
    assert low <= facts.typical_r_on_ohm(supply)


def test_a_part_deviates_from_the_typical_one():
    assert Cd4051b(15.0, 15.0, deviation_ohm=5.0).r_on_ohm(7.5) == pytest.approx(130)
    assert Cd4051b(15.0, 15.0, deviation_ohm=-500.0).r_on_ohm(7.5) == 0.0


@pytest.mark.parametrize("volts", [-0.51, 5.51, float("nan")])
def test_signals_beyond_the_rails_are_refused(volts):
    part = Cd4051b(5.0, 5.0)
    with pytest.raises(InputError, match="CD4051B: signal of .* here -0.5 to 5.5 V"):
        part.r_on_ohm([1.0, volts])
    with pytest.raises(InputError, match="CD4051B: signal"):
        part.current_a(1, 0, 1.0, volts)


def test_the_closed_channel_obeys_ohm_and_the_others_leak():
    part = Cd4051b(10.0, 10.0, leakage_a=1e-9)
    closed = part.channel(1, 1, 0, 0)
    assert part.current_a(closed, 3, 5.09, 4.91) == pytest.approx(1e-3)  # 0.18 V on 180 ohm
    assert part.current_a(closed, 2, 5.09, 4.91) == 1e-9
    assert part.current_a(None, 3, 4.91, 5.09) == -1e-9
    assert np.array_equal(part.current_a(closed, 3, [1.0, 2.0], [1.0, 2.0]), [0.0, 0.0])
