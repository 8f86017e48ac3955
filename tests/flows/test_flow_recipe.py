"""Recipes: TOML and back, and what is wrong said in one line."""

from dataclasses import replace
from pathlib import Path

import pytest

from rram_host.errors import InputError
from rram_host.flows import kinds, recipe
from rram_host.flows.presets import PRESETS
from rram_host.flows.protocol import Flow
from rram_host.flows.recipe import Recipe
from rram_host.flows.settings import FlowSettings
from rram_host.flows.train_settings import TrainSettings
from rram_host.lattice.actions import GrapheneAction, Phi4Action

_MINE = Recipe(
    "anf",
    FlowSettings(shape=(4, 6), hidden=5, stiffness=1.0, activation="sin"),
    GrapheneAction(0.1, 1e-20),
    TrainSettings(steps=7, warmup=0, lr=1.0 / 3.0),
)


@pytest.mark.parametrize("made", [*PRESETS.values(), _MINE])
def test_a_file_gives_the_same_recipe_back(tmp_path: Path, made: Recipe) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(recipe.to_toml(made))
    assert recipe.from_toml(path) == made


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("steps = 7", "stepps = 7", ("stepps", "did you mean 'steps'")),
        ("hidden = 5", "hiden = 5", ("hiden", "did you mean 'hidden'")),
        ("[train]", "[training]", ("training", "did you mean 'train'")),
        ('kind = "anf"', 'kind = "anff"', ("anff", "did you mean 'anf'", "realnvp")),
        ('name = "graphene"', 'name = "graphite"', ("graphite", "graphene")),
        ("g = 0.1", "g = -0.1", ("g must be > 0",)),
        ("steps = 7", "steps = 0", ("steps must be >= 1",)),
        ("steps = 7", 'steps = "many"', ("steps = 'many'", "int")),
        ("steps = 7", "steps = true", ("steps = True", "int")),
        ("shape = [4, 6]", "shape = [5, 6]", ("two even lengths",)),
        ("shape = [4, 6]", 'shape = "4x6"', ("shape = '4x6'", "not a list")),
        ("shape = [4, 6]", "shape = [4.0, 6.0]", ("shape = 4.0", "int")),
        ("hidden = 5", "hidden = [5]", ("hidden = [5]", "int")),
        ('lora_on = ["w1", "wt", "ws"]', 'lora_on = "w1"', ("lora_on = 'w1'", "not a list")),
        ('lora_on = ["w1", "wt", "ws"]', 'lora_on = ""', ("lora_on = ''", "not a list")),
        ('lora_on = ["w1", "wt", "ws"]', "lora_on = [1]", ("lora_on = 1", "str")),
        ('kind = "anf"', "kind = ", ("not TOML",)),
        ('kind = "anf"', "", ("kind is missing",)),
    ],
)
def test_what_is_wrong_is_said_with_the_nearest_known_name(
    tmp_path: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    text = recipe.to_toml(_MINE)
    assert text.count(old) >= 1
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError) as caught:
        recipe.from_toml(path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in (*words, str(path)))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", str(tmp_path / "none.toml")):
        with pytest.raises(InputError, match=r"none\.toml: No such file"):
            recipe.from_toml(path)


def test_changes() -> None:
    base = PRESETS["phi4_L4"]
    found = recipe.changed(
        base, {"steps": 50, "seed": 9, "batch": None}, {"lam": 6.0}, shape=(6, 6)
    )
    assert found.action == Phi4Action(-4.0, 6.0)
    assert found.flow == replace(base.flow, shape=(6, 6), seed=9)
    assert found.train == replace(base.train, steps=50, warmup=50, seed=9)
    assert recipe.changed(base, {}, {}) == base
    with pytest.raises(InputError, match="lam"):
        recipe.changed(base, {}, {"lam": -1.0})


def test_a_tied_flow_grows_with_its_lattice() -> None:
    found = recipe.changed(PRESETS["phi4_L12"], {}, {}, shape=(8, 10))
    assert (found.flow.channels, found.flow.hidden) == (4, 4 * 40)
    assert recipe.changed(PRESETS["phi4_L6"], {}, {}, shape=(8, 8)).flow.hidden == 18


def test_every_kind_builds_what_the_protocol_asks_for() -> None:
    for kind, (settings, _) in kinds.KINDS.items():
        flow = kinds.build(kind, {"shape": [6, 6]})
        assert isinstance(flow, Flow)
        assert flow.kind == kind
        assert flow.shape == (6, 6)
        assert isinstance(flow.settings, settings)  # type: ignore[arg-type]
