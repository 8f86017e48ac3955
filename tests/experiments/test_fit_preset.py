"""Preset files that name a base, and those that `rram fit` writes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rram_host.errors import InputError
from rram_host.experiments.fitting import preset_file
from rram_host.experiments.fitting.estimate import Estimate
from sim import presets

FITTED = [
    Estimate("set_v", 1.2, 0.02, ("iv.h5",), "8 cells"),
    Estimate("cycle_floor_siemens", 1e-9, 4e-7, ("set.h5",)),
    Estimate("relax_mean_siemens_per_decade", 1e-9, 2e-8, ("r.h5",)),
    Estimate("reset_v", 1.1, float("nan"), ("iv.h5",)),
]


def test_a_written_preset_holds_what_was_fitted_and_its_base_the_rest(tmp_path):
    path = tmp_path / "mine.toml"
    preset_file.write(path, FITTED, "taox_180nm_worst")
    found, base = presets.load(str(path)), presets.load("taox_180nm_worst")
    assert found.cells.set_v == 1.2 and found.cells.relax_mean_siemens_per_decade == 1e-9
    # lost in its error, or without one: the base's
    assert found.cells.cycle_floor_siemens == base.cells.cycle_floor_siemens
    assert found.cells.reset_v == base.cells.reset_v and found.analog == base.analog
    assert "standard error 0.02 V; from iv.h5; 8 cells" in path.read_text(encoding="utf-8")


def test_a_spread_of_amplitudes_does_not_come_on_top_of_the_bases_jumps(tmp_path):
    path, base = tmp_path / "mine.toml", presets.load("relax_40").cells
    assert base.relax_jump_share > 0
    spread = Estimate("relax_spread", 0.6, 0.05, ("r.h5",))
    preset_file.write(path, [spread], "relax_40")
    assert presets.load(str(path)).cells.relax_jump_share == 0
    # nothing told of tails: all of the base's
    preset_file.write(path, [replace(spread, name="relax_onset_s")], "relax_40")
    cells = presets.load(str(path)).cells
    assert (cells.relax_jump_share, cells.relax_spread) == (base.relax_jump_share, 0)


def test_bases_may_have_bases(tmp_path):
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    preset_file.write(first, FITTED[:1], "ideal")
    preset_file.write(second, [Estimate("reset_v", 1.3, 0.1, ("x.h5",))], str(first))
    cells = presets.load(str(second)).cells
    assert (cells.set_v, cells.reset_v) == (1.2, 1.3)
    assert cells.form_v == presets.load("ideal").cells.form_v


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('base = "gold"\n', "unknown preset 'gold'"),
        ("base = 3\n", "base = 3 must be the name of a preset"),
        ('base = "ideal"\ncells = 3\n', "cells = 3 must be a section"),
        ('base = "ideal"\n[cells]\nset_volt = 1\n', "cells.set_volt = 1 is not a key of a preset"),
        ('base = "ideal"\n[cells]\nset_v = 1\n', "cells.set_v needs value, source and note"),
        ('base = "ideal"\n[wires]\n', "section [wires] is not known"),
        ("", "section [cells] is missing"),
    ],
)
def test_a_bad_preset_on_a_base_is_refused(text, words, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        presets.load(str(path))
    assert words in str(refused.value)


def test_a_base_that_leads_back_is_refused(tmp_path):
    path, other = tmp_path / "a.toml", tmp_path / "b.toml"
    path.write_text(f'base = "{other}"\n')
    other.write_text(f'base = "{path}"\n')
    with pytest.raises(InputError, match="leads back to itself"):
        presets.load(str(path))


def test_the_base_is_that_of_the_runs_boards():
    assert preset_file.base_of(["sim://?preset=ideal&seed=3", "sim://?seed=4&preset=ideal"]) == (
        "ideal"
    )
    assert preset_file.base_of(["serial:///dev/ttyUSB0"]) == "taox_180nm"
    with pytest.raises(InputError, match="say which is the --base"):
        preset_file.base_of(["sim://?preset=ideal", "sim://?preset=taox_180nm"])


@pytest.mark.parametrize("name", ["mine.txt", "none/mine.toml"])
def test_places_that_cannot_be_written_are_refused(name, tmp_path):
    with pytest.raises(InputError, match=name):
        preset_file.write(tmp_path / name, FITTED, "ideal")
