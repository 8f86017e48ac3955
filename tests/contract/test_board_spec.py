"""BoardSpec: what is loaded is what the file says, and what cannot be built is refused."""

import dataclasses
import re
import tomllib

import pytest

from firmware_bridge import board_spec
from firmware_bridge.errors import InputError

TEXT = (board_spec.BOARDS / "zc706.toml").read_text(encoding="utf-8")


def _edited(tmp_path, old: str, new: str):
    assert TEXT.count(old) == 1, old
    path = tmp_path / "board.toml"
    path.write_text(TEXT.replace(old, new), encoding="utf-8")
    return path


def _with_value(tmp_path, key: str, value: str):
    """The board file with the value of one key exchanged."""
    text, found = re.subn(rf"(?m)^({key} = {{ value = )(\[.*?\]|[^,]+),", rf"\g<1>{value},", TEXT)
    assert found == 1, key
    path = tmp_path / "board.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_zc706_is_the_board_of_the_paper():
    spec = board_spec.load("zc706")
    assert (spec.rows, spec.cols, spec.dac_chips) == (32, 32, 8)
    assert sorted(spec.bl_channel + spec.wl_channel) == list(range(64))
    assert sorted(spec.sl_bit0 + spec.sl_bit1) == list(range(64))
    assert spec.read_voltage_v == 0.1
    assert 0.5 <= spec.adc_reference_v <= spec.tia_supply_v / 2  # ADS8324
    assert spec.mux_r_on_ohm == 125.0  # CD4051B, 15 V, typical


def test_every_value_of_the_file_has_its_provenance():
    raw = tomllib.loads(TEXT)
    keys = {f"{section}.{key}" for section in raw if section != "name" for key in raw[section]}
    provenance = {item.key: item for item in board_spec.load().provenance}
    assert set(provenance) == keys
    assert {item.source for item in provenance.values()} <= {"datasheet", "paper", "assumed"}
    assert all(item.note and item.unit for item in provenance.values())


def test_every_number_of_a_spec_comes_from_the_file():
    spec = board_spec.load()
    numbers = {f.name for f in dataclasses.fields(spec)} - {"name", "pulses", "provenance"}
    pulses = {f.name for f in dataclasses.fields(spec.pulses)}
    assert len(spec.provenance) == len(numbers) + len(pulses)


def test_currents_follow_from_reference_and_feedback():
    spec = board_spec.load()
    assert spec.current_lsb_a(0) == pytest.approx(1.8 / 16384 / 3500)  # 31 nA
    assert spec.full_scale_a(0) == pytest.approx((0.9 - 0.01) / 3500)  # 10 mV off the rail


def test_swapped_exchanges_two_entries_and_nothing_else():
    spec = board_spec.load()
    other = spec.swapped("bl_channel", 3, 5)
    assert other.bl_channel[3] == spec.bl_channel[5]
    assert other.bl_channel[5] == spec.bl_channel[3]
    assert other != spec
    assert other.swapped("bl_channel", 5, 3) == spec


def test_a_board_file_can_be_named_by_its_path(tmp_path):
    path = _edited(tmp_path, 'name = "zc706"', 'name = "other"')
    assert board_spec.load(path).name == "other"
    assert dataclasses.replace(board_spec.load(path), name="zc706") == board_spec.load()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            'source = "paper", note = "64 channels of DAC80508"',
            'note = ""',
            "wiring.dac_chips.*source",
        ),
        ('source = "assumed", note = "thick-oxide gate"', 'source = "assumed"', "limits.wl.*note"),
        (
            'unit = "V", source = "assumed", note = "thick-oxide gate"',
            'source = "assumed", note = ""',
            "limits.wl.*unit",
        ),
        (
            'source = "assumed", note = "thick-oxide gate"',
            'source = "guessed", note = ""',
            "limits.wl.*'guessed'.*datasheet",
        ),
        ("[limits]\nbl =", "[limits]\nbll =", "limits.bl, limits.bll"),
        (
            "[array]\n",
            "[extra]\na = { value = 1, unit = '1', source = 'paper', note = '' }\n[array]\n",
            "extra.a",
        ),
        ("rows = {", "rows = 32 #", "array.rows lacks.*source"),
        ('name = "zc706"', 'name = "zc706"\nrwos = 32', "rwos is neither"),
        ("[array]", "[array", "not a TOML file"),
    ],
)
def test_a_file_is_refused_with_its_key_and_reason(tmp_path, old, new, words):
    with pytest.raises(InputError, match=words):
        board_spec.load(_edited(tmp_path, old, new))


LINES = list(range(32))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("bl_channel", str([*LINES[:-1], 32]), r"bl_channel and wl_channel both use \[32\]"),
        ("sl_bit0", str([1, *range(2, 64, 2)]), r"sl_bit0 and sl_bit1 both use \[1\]"),
        ("bl_channel", str([0, *LINES[:-1]]), "bl_channel uses a place twice"),
        ("wl_channel", str([*range(32, 63), 64]), r"wl_channel \[64\] is outside 0..63"),
        ("wl_channel", str([*range(32, 63), -1]), r"wl_channel \[-1\] is outside 0..63"),
        ("bl_channel", str(LINES[:-1]), "bl_channel has 31 entries, not 32"),
        ("sl_bit1", str(LINES[:-1]), "sl_bit1 has 31 entries, not 32"),
        ("adc_of_row", str([0, 1, 2, 3] * 7), "adc_of_row has 28 entries, not 32"),
        ("select_of_row", str([0, 1, 2, 3] * 9), "select_of_row has 36 entries, not 32"),
        ("select_of_row", str([0] * 32), "every row needs an ADC input of its own"),
        ("adc_of_row", str([*range(1, 9)] * 4), r"adc_of_row outside 0..7"),
        ("tia", "0", r"sl_switch inputs \(0, 0, 2, 3\)"),
        ("tia_feedback", "[3500.0, 10000.0, 45000.0]", "tia_feedback needs four values"),
        ("tia_feedback", "[3500.0, 10000.0, 45000.0, -1.0]", "tia_feedback .* above 0 ohm"),
        ("adc_reference", "0.4", r"adc_reference 0.4 V is outside 0.5..0.9 V"),
        ("adc_reference", "2.943", r"adc_reference 2.943 V is outside"),
        ("bl", "-3.7", r"bl_limit_v = -3.7 must be above 0"),
        ("bl", "nan", r"bl_limit_v = nan must be above 0"),
        ("wl", "inf", r"wl_limit_v = inf must be above 0"),
        ("read_voltage", "0.0", r"read_voltage_v = 0.0 must be above 0"),
        ("set_width", "-1e-6", r"set_width_s = -1e-06 must be above 0"),
        ("form_bl_step", "0.0", r"form_bl_step_v = 0.0 must be above 0"),
        ("rows", '"32"', "array.rows = '32' is not a number"),
        ("wl_channel", '["a"]', "wiring.wl_channel = .* is not a number"),
        ("set_bl", '"high"', "pulses.set_bl = 'high' is not a number"),
    ],
)
def test_a_board_that_cannot_be_is_refused_with_its_key_and_reason(tmp_path, key, value, words):
    with pytest.raises(InputError, match=words):
        board_spec.load(_with_value(tmp_path, key, value))


def test_a_board_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(InputError, match=r"zc707.*known boards: .*zc706"):
        board_spec.load("zc707")
    with pytest.raises(InputError, match=r"none.toml"):
        board_spec.load(tmp_path / "none.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a TOML file"):
        board_spec.load(binary)


def test_a_supply_that_the_multiplexer_table_lacks_is_refused():
    spec = dataclasses.replace(board_spec.load(), mux_supply_v=12.0)
    with pytest.raises(InputError, match=r"12.0 V; the table has 5, 10, 15 V"):
        _ = spec.mux_r_on_ohm
