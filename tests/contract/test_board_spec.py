"""BoardSpec: what is loaded is what the file says, and what cannot be built is refused."""

import dataclasses
import math
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
    """The board file with the value of one key (or section.key) exchanged."""
    section, _, name = key.rpartition(".")
    start = TEXT.index(f"[{section}]") if section else 0
    pattern = rf"(?m)^({name} = {{ value = )(\[.*?\]|[^,]+),"
    rest, found = re.subn(pattern, rf"\g<1>{value},", TEXT[start:], count=1)
    text = TEXT[:start] + rest
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
    # CD4051B at 15 V: 125 ohm typical at mid-range, less at 0.9 V: u = 1.8 / 15 - 1 = -0.88
    assert spec.mux_r_on_ohm == pytest.approx(125 * (1 - 0.4 * 0.88**2))


def test_every_value_of_the_file_has_its_provenance():
    raw = tomllib.loads(TEXT)
    keys = {f"{section}.{key}" for section in raw if section != "name" for key in raw[section]}
    provenance = {item.key: item for item in board_spec.load().provenance}
    assert set(provenance) == keys
    assert {item.source for item in provenance.values()} <= {"datasheet", "paper", "assumed"}
    assert all(item.note and item.unit for item in provenance.values())


def test_every_number_of_a_spec_comes_from_the_file():
    spec = board_spec.load()
    groups = {"pulses", "parts"}
    own = {f.name for f in dataclasses.fields(spec)} - groups - {"name", "provenance"}
    grouped = [dataclasses.fields(getattr(spec, group)) for group in groups]
    assert len(spec.provenance) == len(own) + sum(map(len, grouped))


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


def test_the_board_is_built_of_the_parts_of_the_paper():
    assert dataclasses.astuple(board_spec.load().parts) == (
        "DAC80508",
        "ADS8324",
        "CD4051B",
        "SN74HC595",
        "OPA4322",
    )


def test_settling_of_converter_and_amplifier_add_in_squares():
    spec = board_spec.load()
    assert spec.dac_settling_s == 5e-6
    # 90 kohm and 4.7 pF: 376 kHz, ln(2^15) / (2 pi f) = 10.397 * 0.423 us
    assert spec.tia_settling_s(3) == pytest.approx(15 * math.log(2) * 90e3 * 4.7e-12)
    assert spec.settling_s(3) == pytest.approx(math.sqrt(5e-6**2 + spec.tia_settling_s(3) ** 2))
    assert spec.mux_switch_s == 240e-9  # CD4051B, 15 V, the longest of the table


@pytest.mark.parametrize("count", [1, 4, 8, 32])
def test_rows_are_spread_over_any_number_of_converters(count):
    spec = board_spec.load().with_adcs(count)
    assert (spec.adcs, spec.selects) == (count, 32 // count)
    pairs = set(zip(spec.adc_of_row, spec.select_of_row, strict=True))
    assert pairs == {(adc, select) for adc in range(count) for select in range(32 // count)}
    assert spec.adc_of_row[:count] == tuple(range(count))
    assert spec.with_adcs(8) == board_spec.load()


@pytest.mark.parametrize("count", [0, -1, 33, 1.5, True, "8"])
def test_a_number_of_converters_that_cannot_be_is_refused(count):
    with pytest.raises(InputError, match=re.escape(f"{count!r} converters: outside 1..32")):
        board_spec.load().with_adcs(count)


def test_rows_that_a_converter_has_too_few_inputs_for_are_refused():
    spec = dataclasses.replace(
        board_spec.load(),
        rows=33,
        cols=31,
        bl_channel=tuple(range(31)),
        wl_channel=tuple(range(31, 64)),
        sl_bit0=tuple(range(0, 66, 2)),
        sl_bit1=tuple(range(1, 66, 2)),
        adcs=2,
        adc_of_row=tuple(row % 2 for row in range(33)),
        select_of_row=tuple(row // 2 for row in range(33)),
    )
    with pytest.raises(InputError, match="1 converters for 33 rows need 33 inputs each.*32"):
        spec.with_adcs(1)


WL = 'wl = { value = 4.5, unit = "V", source = "assumed", note = "thick-oxide gate" }'


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (WL, 'wl = { value = 4.5, unit = "V" }', "limits.wl = 4.5 V: lacks source, note"),
        (WL, "wl = 4.5", "limits.wl = 4.5 V: lacks value, unit, source, note"),
        (WL, WL.replace('"assumed"', '"guessed"'), "limits.wl = 4.5 V: source 'guessed' .*paper"),
        (WL, WL.replace('"assumed"', "[1]"), r"limits.wl = 4.5 V: source \[1\] is not one of"),
        (WL, WL.replace('"thick-oxide gate"', '" "'), "limits.wl = 4.5 V: note ' ' must say"),
        (WL, WL.replace('"thick-oxide gate"', "3"), "limits.wl = 4.5 V: note 3 must say"),
        (WL, WL.replace('"V"', '"mV"'), "limits.wl = 4.5: unit 'mV' must be 'V'"),
        (WL, WL.replace('"V"', "1"), "limits.wl = 4.5: unit 1 must be 'V'"),
        (WL, WL.replace(" }", ", sigma = 1 }"), "limits.wl = 4.5 V: sigma unknown beside value"),
        (WL, "", r"keys missing: limits.wl \(V\)"),
        ("[limits]\nbl =", "[limits]\nbll =", "limits.bll = .*3.7.*: unknown key"),
        ("[pulses]", "[pulse]", "pulse.form_bl_start = .*: unknown key"),
        (
            '[3500.0, 10000.0, 45000.0, 90000.0], unit = "ohm"',
            '[3.5, 10.0, 45.0, 90.0], unit = "kohm"',
            "readout.tia_feedback = .*45.0, 90.0.*: unit 'kohm' must be 'ohm'",
        ),
        ('name = "zc706"', 'name = "zc706"\nrwos = 32', "rwos = 32: neither the name nor"),
        ('name = "zc706"', "name = 706", "name = 706: must be a text"),
        ('name = "zc706"', 'name = ""', "name = '': must be a text"),
        ("[array]", "[array", "not a TOML file"),
    ],
)
def test_a_file_is_refused_with_its_key_its_value_and_the_reason(tmp_path, old, new, words):
    with pytest.raises(InputError, match=words):
        board_spec.load(_edited(tmp_path, old, new))


LINES = list(range(32))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        # lines
        (
            "wl_channel",
            str([31, *range(33, 64)]),
            "wl_channel[0] = 31: BL31 and WL0 overlap on channel 31",
        ),
        (
            "bl_channel",
            str([0, *LINES[:-1]]),
            "bl_channel[1] = 0: BL0 and BL1 overlap on channel 0",
        ),
        (
            "sl_bit0",
            str([0, 0, *range(4, 64, 2)]),
            "sl_bit0[1] = 0: low bit of SL0 and low bit of SL1 overlap",
        ),
        (
            "sl_bit0",
            str([1, *range(2, 64, 2)]),
            "sl_bit1[0] = 1: low bit of SL0 and high bit of SL0 overlap",
        ),
        ("wl_channel", str([*range(32, 63), 64]), "wl_channel[31] = 64: channel outside 0..63"),
        ("wl_channel", str([*range(32, 63), -1]), "wl_channel[31] = -1: outside 0 or more"),
        (
            "wl_channel",
            str([*range(32, 63), 63.0]),
            "wl_channel[31] = 63.0: must be a whole number",
        ),
        ("wl_channel", '["a"]', "wiring.wl_channel[0] = 'a': must be a number"),
        ("bl_channel", "7", "wiring.bl_channel = 7: must be a list"),
        ("bl_channel", str(LINES[:-1]), "29, 30]: has 31 entries, not 32"),
        ("sl_bit1", str(LINES[:-1]), "wiring.sl_bit1 = [0, 1, 2"),
        ("sl_bit1", str([*range(1, 63, 2), 64]), "sl_bit1[31] = 64: chain position outside 0..63"),
        ("dac_chips", "9", "wiring.dac_chips = 9: outside 1..8"),
        ("dac_chips", "0", "wiring.dac_chips = 0: outside 1..8"),
        ("dac_chips", "4", "wiring.wl_channel[0] = 32: channel outside 0..31"),
        # converters
        ("adc_of_row", str([0, 1, 2, 3] * 7), "wiring.adc_of_row = [0, 1, 2, 3, 0"),
        ("select_of_row", str([0, 1, 2, 3] * 9), "has 36 entries, not 32"),
        (
            "select_of_row",
            str([0] * 32),
            "select_of_row[8] = 0: rows 0 and 8 overlap on ADC 0, input 0",
        ),
        ("select_of_row", str([32] * 32), "select_of_row[0] = 32: outside 0..31"),
        ("adc_of_row", str([*range(1, 9)] * 4), "adc_of_row[7] = 8: converter outside 0..7"),
        ("adcs", "33", "wiring.adcs = 33: more converters than rows (32)"),
        ("adcs", "0", "wiring.adcs = 0: outside 1 or more"),
        # kinds of numbers
        ("rows", "32.5", "array.rows = 32.5: must be a whole number"),
        ("rows", "0", "array.rows = 0: outside 1 or more"),
        ("rows", "-32", "array.rows = -32: outside 1 or more"),
        ("rows", "true", "array.rows = True: must be a number"),
        ("rows", '"32"', "array.rows = '32': must be a number"),
        ("rows", "[32]", "array.rows = [32]: must be a number"),
        ("limits.bl", "true", "limits.bl = True V: must be a number"),
        ("limits.bl", "-3.7", "limits.bl = -3.7 V: must be finite and above 0 V"),
        ("limits.bl", "nan", "limits.bl = nan V: must be finite and above 0 V"),
        ("limits.wl", "inf", "limits.wl = inf V: must be finite and above 0 V"),
        ("limits.wl", "1" + "0" * 400, "V: must be finite and above 0 V"),
        ("limits.wl", "2020-01-01", "must be a number"),
        ("set_bl", '"high"', "pulses.set_bl = 'high' V: must be a number"),
        ("set_width", "-1e-6", "pulses.set_width = -1e-06 s: must be finite and above 0 s"),
        ("read_voltage", "0.0", "readout.read_voltage = 0.0 V: must be finite and above 0 V"),
        ("form_bl_step", "0.0", "pulses.form_bl_step = 0.0 V: must be finite and above 0 V"),
        # parts
        ("parts.dac", '"DAC81408"', "parts.dac = 'DAC81408': unknown part; known: DAC80508"),
        ("parts.adc", '"ads8324"', "parts.adc = 'ads8324': unknown part; known: ADS8324"),
        ("parts.switch", "4051", "parts.switch = 4051: unknown part; known: CD4051B"),
        ("parts.shift_register", '""', "parts.shift_register = '': unknown part; known: SN74HC595"),
        ("amplifier", '"ADS8324"', "parts.amplifier = 'ADS8324': unknown part; known: OPA4322"),
        # switches
        ("tia", "0", "sl_switch.tia = 0: input 0 is taken by sl_switch.ground"),
        ("float", "4", "sl_switch.float = 4: outside 0..3"),
        (
            "supply",
            "12.0",
            "sl_switch.supply = 12.0 V: CD4051B: no V_IH at 12.0 V; the table has 5",
        ),
        (
            "control",
            "3.3",
            "sl_switch.control = 3.3 V: CD4051B: A, B, C, INH driven high with 3.3 V",
        ),
        # readout
        ("tia_feedback", "[3500.0, 10000.0, 45000.0]", "has 3 entries, not 4"),
        (
            "tia_feedback",
            "[3500.0, 10000.0, 45000.0, -1.0]",
            "readout.tia_feedback[3] = -1.0 ohm: must be",
        ),
        (
            "tia_capacitance",
            "[1e-11, 0, 1e-11, 1e-11]",
            "readout.tia_capacitance[1] = 0 F: must be",
        ),
        ("tia_input_capacitance", "-6e-11", "tia_input_capacitance = -6e-11 F: must be"),
        ("adc_reference", "0.4", "readout.adc_reference = 0.4 V: outside 0.5..0.9 V (ADS8324"),
        ("adc_reference", "2.943", "readout.adc_reference = 2.943 V: outside 0.5..0.9 V"),
        ("tia_supply", "5.0", "rails.tia_supply = 5.0 V: outside 1.8..3.6 V (ADS8324"),
        ("tia_bias", "1.8", "rails.tia_bias = 1.8 V: outside 0.01..1.79 V (OPA4322 output)"),
        ("tia_bias", "1.2", "rails.tia_bias = 1.2 V leaves 0.04998 V either way within 0..1.25 V"),
        ("tia_bias", "0.05", "rails.tia_bias = 0.05 V leaves 0.05 V either way"),
        (
            "read_voltage",
            "0.5",
            "readout.read_voltage = 0.5 V: rails.tia_bias = 0.9 V leaves 0.35 V",
        ),
        # limits and rails
        ("limits.bl", "5.5", "limits.bl = 5.5 V: must be at most 5 V"),
        ("limits.wl", "5.01", "limits.wl = 5.01 V: must be at most 5 V"),
        ("watchdog", "0.0", "limits.watchdog = 0.0 s: must be finite and above 0 s"),
        ("watchdog", "43.0", "limits.watchdog = 43.0 s: must be at most 42.9497 s"),
        ("limits.pulse", "2.7", "limits.pulse = 2.7 s: must be at most 2.68435 s"),
        ("limits.pulse", "5e-5", "pulses.form_width = 0.0001 s: outside 2.4e-07 s"),
        ("limits.pulses", "0", "limits.pulses = 0: outside 1..4294967295"),
        ("limits.pulses", "1.5", "limits.pulses = 1.5: must be a whole number"),
        ("wl_read", "4.6", "readout.wl_read = 4.6 V: above limits.wl = 4.5 V"),
        ("sl_rail", "3.8", "rails.sl_rail = 3.8 V: above limits.bl = 3.7 V"),
        (
            "conductance_min",
            "2e-4",
            "array.conductance_min = 0.0002 S: must be below array.conductance_max = 0.00011 S",
        ),
        # pulses
        ("form_bl_stop", "3.9", "pulses.form_bl_stop = 3.9 V: above limits.bl = 3.7 V"),
        ("set_bl", "3.9", "pulses.set_bl = 3.9 V: above limits.bl = 3.7 V"),
        ("reset_wl", "4.9", "pulses.reset_wl = 4.9 V: above limits.wl = 4.5 V"),
        (
            "form_bl_start",
            "3.65",
            "pulses.form_bl_start = 3.65 V: above pulses.form_bl_stop = 3.6 V",
        ),
        ("form_bl_step", "1e-6", "pulses.form_bl_step = 1e-06 V: below one DAC code, 7.63e-05 V"),
        ("reset_stop", "3.1", "pulses.reset_stop = 3.1 V: above rails.sl_rail = 3 V"),
        ("reset_start", "2.9", "pulses.reset_start = 2.9 V: above pulses.reset_stop = 2.8 V"),
        ("reset_width", "1e-7", "pulses.reset_width = 1e-07 s: outside 2.4e-07 s (CD4051B"),
        (
            "form_width",
            "3",
            "pulses.form_width = 3.0 s: outside 2.4e-07 s (CD4051B turning on) to 0.001 s",
        ),
    ],
)
def test_a_board_that_cannot_be_is_refused_with_key_value_and_reason(tmp_path, key, value, words):
    with pytest.raises(InputError, match=re.escape(words)) as refusal:
        board_spec.load(_with_value(tmp_path, key, value))
    assert str(refusal.value).startswith("board zc706: ")


def test_a_board_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(InputError, match=r"zc707.*known boards: .*zc706"):
        board_spec.load("zc707")
    with pytest.raises(InputError, match=r"none.toml"):
        board_spec.load(tmp_path / "none.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a TOML file"):
        board_spec.load(binary)


def test_a_board_changed_in_code_is_checked_like_a_file(tmp_path):
    spec = board_spec.load()
    with pytest.raises(InputError, match="board zc706: array.rows = 32.0: must be a whole number"):
        dataclasses.replace(spec, rows=32.0)
    with pytest.raises(InputError, match="limits.bl = nan V: must be finite"):
        dataclasses.replace(spec, bl_limit_v=math.nan)
    with pytest.raises(InputError, match="pulses.set_bl = 4.0 V: above limits.bl = 3.7 V"):
        dataclasses.replace(spec, pulses=dataclasses.replace(spec.pulses, set_bl_v=4.0))


def test_a_path_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(InputError, match=r"folder.toml cannot be read: Is a directory"):
        board_spec.load(tmp_path / "folder.toml")
    with pytest.raises(InputError, match="not a TOML file"):
        board_spec.load("zc\0.toml")
