"""Parameter sets: what is in them, and that a bad one is refused by file, key, value and reason."""

from __future__ import annotations

import dataclasses
import re
import tomllib

import pytest

from firmware_bridge.errors import InputError
from rram_host.cli import main
from sim import presets
from sim.board import open_url
from sim.presets import FOLDER, AnalogPreset, CellPreset

GOOD = (FOLDER / "taox_180nm.toml").read_text(encoding="utf-8")


def _with(key: str, entry: str | None) -> str:
    """The good file with the entry of a key replaced; None takes the line out."""
    line = "" if entry is None else f"{key} = {entry}"
    text, found = re.subn(rf"(?m)^{key} = .*$", line.replace("\\", r"\\"), GOOD)
    assert found == 1, key
    return text


def _value(key: str, value: str) -> str:
    """The good file with the value of a key replaced, provenance kept."""
    text, found = re.subn(rf"(?m)^({key} = {{ value = )[^,]*,", rf"\g<1>{value},", GOOD)
    assert found == 1, key
    return text


# what is wrong: text of the file, what the refusal must say
BAD: dict[str, tuple[str, str]] = {
    "no section": (GOOD.replace("[analog]", "[analogue]"), "section [analog] is missing"),
    "section too many": (GOOD + "\n[wires]\nr = 1\n", "section [wires] is not known; there"),
    "key outside a section": ('name = "x"\n' + GOOD, "name = 'x' is not known"),
    "section that is none": ("cells = 3\n", "cells = 3 must be a section, [cells]"),
    "empty": ("", "section [cells] is missing"),
    "key missing": (_with("sinh_v", None), "[cells] lacks sinh_v"),
    "two missing": (
        _with("sinh_v", None).replace("\nset_v =", "\n# set_v ="), "[cells] lacks set_v, sinh_v"),
    "key misspelt": (
        GOOD.replace("\nform_v =", "\nform_volt ="),
        "cells.form_volt = 3.1 is not a key of a preset; did you mean form_v?"),
    "key of the other section": (
        _with("tia_gain", None).replace("[cells]", "[cells]\ntia_gain = 1"),
        "cells.tia_gain = 1 is not a key of a preset"),
    "bare number": (_with("set_v", "1.0"), "cells.set_v needs value, source and note: = 1.0 lacks"),
    "no value": (
        _with("set_v", '{ source = "assumed", note = "n" }'), "cells.set_v needs value, source"),
    "no source": (
        _with("adc_noise_lsb", '{ value = 0.76, note = "n" }'),
        "analog.adc_noise_lsb needs value, source and note: = 0.76 lacks source"),
    "no note": (_with("set_v", '{ value = 1.0, source = "assumed" }'), "= 1.0 lacks note"),
    "source of nowhere": (
        _with("set_v", '{ value = 1.0, source = "guess", note = "n" }'),
        "set_v = 1.0 has source 'guess', which is not one of datasheet, paper, data, assumed"),
    "source not text": (
        _with("set_v", '{ value = 1.0, source = [1], note = "n" }'), "has source [1]"),
    "note empty": (
        _with("set_v", '{ value = 1.0, source = "paper", note = " " }'), "1.0 has note ' '"),
    "aspect too many": (
        _with("set_v", '{ value = 1.0, source = "paper", note = "n", unit = "V" }'),
        "cells.set_v = 1.0 has unit beside value, source, note"),
    "text": (_value("set_v", "'1.0'"), "cells.set_v = '1.0' must be a number"),
    "list": (_value("set_v", "[1.0]"), "cells.set_v = [1.0] must be a number"),
    "boolean": (_value("flicker", "true"), "cells.flicker = True must be a number"),
    "date": (_value("set_v", "1979-05-27"), "must be a number"),
    "NaN": (_value("set_v", "nan"), "cells.set_v = nan must be finite"),
    "infinite": (_value("form_v", "inf"), "cells.form_v = inf must be finite"),
    "minus infinity": (
        _value("relax_mean_siemens_per_decade", "-inf"), "decade = -inf must be finite"),
    "integer without end": (_value("form_v", "1" + 400 * "0"), "must be finite"),
    "negative resistance": (
        _value("bl_segment_ohm", "-1.0"), "analog.bl_segment_ohm = -1.0 must be 0 or more"),
    "negative lead": (_value("bl_lead_ohm", "-2"), "analog.bl_lead_ohm = -2 must be 0 or more"),
    "negative spread": (_value("dac_offset_v", "-1e-3"), "dac_offset_v = -0.001 must be 0 or more"),
    "no time": (_value("switch_time_s", "0.0"), "cells.switch_time_s = 0.0 must be above 0"),
    "no conductance": (_value("pristine_siemens", "0"), "pristine_siemens = 0 must be above 0"),
    "no curvature scale": (_value("sinh_v", "0.0"), "cells.sinh_v = 0.0 must be above 0"),
    "share above 1": (
        _value("telegraph_share", "1.5"), "telegraph_share = 1.5 must be at most 1: a share"),
    "telegraph deeper than the cell": (
        _value("telegraph", "1.01"), "cells.telegraph = 1.01 must be at most 1"),
    "read noise above the signal": (_value("read_noise", "40"), "read_noise = 40 must be at m"),
    "log-normal spread": (
        _value("telegraph_spread", "8"), "telegraph_spread = 8 must be at most 3: log-normal"),
    "broken converters": (_value("adc_gain", "0.5"), "analog.adc_gain = 0.5 must be at most 0.1"),
    "spread above its mean": (
        _value("set_spread_v", "1.1"),
        "cells.set_spread_v = 1.1 must be at most set_v = 1, of which it is the spread"),
    "floor above the top": (
        _value("floor_siemens", "2e-4"),
        "cells.floor_siemens = 0.0002 must be below reset_top_siemens = 0.00012"),
    "not TOML": (GOOD.replace("[analog]", "[analog"), "is not a TOML file: "),
    "key twice": (GOOD + "\ntia_gain = 1\n", "is not a TOML file: "),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_preset_is_refused_with_its_file_key_value_and_reason(what, tmp_path):
    text, words = BAD[what]
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refusal:
        presets.load(str(path))
    message = str(refusal.value)
    assert str(path) in message and words in message
    assert "\n" not in message
    with pytest.raises(InputError, match=re.escape(str(path))):
        open_url(f"sim://?preset={path}")


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00cells")
    with pytest.raises(InputError, match=r"mine\.toml' is not a TOML file"):
        presets.load(str(path))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gold", "unknown preset 'gold'; known: ideal, relax_40, taox_180nm"),
        ("", "unknown preset ''; known: ideal"),
        ("/no/such/mine.toml", "unknown preset '/no/such/mine.toml': there is no such file; known"),
        ("nul\0.toml", "is not a TOML file"),
        (300 * "x" + ".toml", "cannot be read: File name too long"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_known_ones(name, words):
    with pytest.raises(InputError) as refusal:
        presets.load(name)
    assert words in str(refusal.value)


def test_a_folder_is_no_preset(tmp_path):
    (tmp_path / "mine.toml").mkdir()
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        presets.load(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize(
    "what", ["negative resistance", "no source", "key misspelt", "not TOML", "no section"]
)
def test_the_command_line_refuses_a_bad_preset_in_one_line_with_exit_code_2(what, tmp_path, capsys):
    text, words = BAD[what]
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        main(["info", "--board", f"sim://?preset={path}"])
    out, err = capsys.readouterr()
    assert left.value.code == 2
    assert out == ""
    assert err.startswith("rram: ") and err.count("\n") == 1
    assert str(path) in err and words in err


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_that_comes_along_is_whole(name):
    """Every key once, with a source, and the numbers as the file has them."""
    preset = presets.load(name)
    raw = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    assert preset.name == name
    for section, part, kind in (
        ("cells", preset.cells, CellPreset),
        ("analog", preset.analog, AnalogPreset),
    ):
        values = {key: item["value"] for key, item in raw[section].items()}
        assert dataclasses.asdict(part) == values
        assert set(values) == {field.name for field in dataclasses.fields(kind)}
        assert {item["source"] for item in raw[section].values()} <= {
            "datasheet",
            "paper",
            "data",
            "assumed",
        }


def test_literals_of_the_default_preset():
    """CD4051B: 5 ohm between channels; DAC80508: 0.75 mV; ADS8324: 5 LSB p-p are 0.76 LSB rms."""
    preset = presets.load("taox_180nm")
    assert preset.analog.mux_r_on_spread_ohm == 2.0
    assert preset.analog.dac_offset_v == 0.75e-3
    assert preset.analog.adc_noise_lsb == 0.76
    assert preset.cells.relax_mean_siemens_per_decade == -3e-8  # the one that may be negative


def test_a_path_is_read_as_a_preset_named_by_it(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(_value("set_v", "1.25"), encoding="utf-8")
    preset = presets.load(str(path))
    assert (preset.name, preset.cells.set_v) == (str(path), 1.25)
    assert open_url(f"sim://?preset={path}").preset == preset


@pytest.mark.parametrize("value", ["0", "0.0", "1", "1.0"])
def test_bounds_themselves_are_allowed(value, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(_value("telegraph_share", value), encoding="utf-8")
    assert presets.load(str(path)).cells.telegraph_share == float(value)
