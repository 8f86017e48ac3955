"""`rram finetune` broken off and gone on with, killed or by Ctrl-C."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch

from rram_host.cli import training_run
from rram_host.flows import checkpoint, ship
from rram_host.flows.recipe import Recipe, from_toml
from tests.training_rig import Rram, tiny_recipe

# A process that writes its state after every step, and is killed as it logs a given one.
_KILLED = """
import os, signal, sys
from rram_host.cli import main, training_run
from rram_host.flows import train_state
train_state._EVERY_S = 0.0
bar = training_run.progress_bar
class Killing:
    def __init__(self, name): self.bar = bar(name)
    def __enter__(self):
        advance = self.bar.__enter__()
        def told(done, total, note=""):
            if done >= {step}:
                os.kill(os.getpid(), signal.SIGKILL)
            advance(done, total, note)
        return told
    def __exit__(self, *error): return self.bar.__exit__(*error)
training_run.progress_bar = Killing
main(sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the figures are is of no interest here."""
    monkeypatch.setattr(ship, "figures", partial(ship.figures, samples=256))


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "tiny.toml").write_text(tiny_recipe(40))
    return from_toml(tmp_path / "tiny.toml")


@pytest.fixture
def command(recipe: Recipe, tmp_path: Path) -> list[str]:
    """A short adaptation of an untrained flow; --out is left to be said."""
    model = tmp_path / "tiny.safetensors"
    checkpoint.save(model, recipe.build(), recipe.action, recipe.train, {})
    return ["finetune", str(model), *shlex.split("--lam 6 --steps 40 --batch 16 --rank 1 --json")]


def same_weights(one: Path, two: Path) -> bool:
    a, b = (dict(checkpoint.load(path).flow.state_dict()) for path in (one, two))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def killed(step: int, command: list[str]) -> None:
    """Run a command that is killed at a step, of which no state is left any more."""
    script = [sys.executable, "-c", _KILLED.format(step=step), *command]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr


def pressing_ctrl_c(step: int) -> Callable[[str], object]:
    """A progress bar at which somebody presses Ctrl-C when it shows a step."""

    @contextmanager
    def bar(name: str) -> Iterator[Callable[..., None]]:
        def advance(done: int, total: int, note: str = "") -> None:
            if done == step:
                os.kill(os.getpid(), signal.SIGINT)

        yield advance

    return bar


def test_killed_at_any_instant_it_goes_on_to_the_same_weights(
    rram: Rram, command: list[str], tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    assert rram(*command, "--out", whole)[0] == 0
    assert not whole.with_suffix(".state").exists()
    killed(10, [*command, "--out", str(parts)])
    state = parts.with_suffix(".state")
    assert state.exists() and not parts.exists()
    code, out, err = rram(*command, "--out", parts)
    assert (code, out) == (2, "") and f"{state} exists: --resume goes on" in err
    code, _, err = rram(*command, "--out", parts, "--board", "sim://?preset=ideal&seed=1")
    assert code == 2 and f"{state} exists: --force writes over it" in err
    code, _, err = rram(*command, "--out", parts, "--lam", "6.5", "--resume")
    assert code == 2 and "action.lam is 6.0 there, 6.5 was asked" in err
    code, out, err = rram(*command, "--out", parts, "--resume")
    assert code == 0, err
    assert json.loads(out)["file"] == str(parts) and not state.exists()
    assert same_weights(whole, parts)
    code, _, err = rram(*command, "--out", parts, "--resume")
    assert code == 2 and "nothing to resume" in err and f"but {parts}: --force" in err


def test_ctrl_c_stops_after_the_step_and_says_how_to_go_on(
    rram: Rram, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    assert rram(*command, "--out", whole)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(training_run, "progress_bar", pressing_ctrl_c(10))
        code, out, err = rram(*command, "--out", parts, "--force")
    state = str(parts.with_suffix(".state"))
    assert code == 130
    assert json.loads(out) == {"file": None, "state": state, "status": "stopped"}
    assert "stopped after step 10 of 40; to go on: rram finetune" in err
    again = shlex.split(err.strip().partition("to go on: rram ")[2])
    assert "--force" not in again and again[-1] == "--resume"
    assert rram(*again)[0] == 0
    assert same_weights(whole, parts)


def test_broken_off_after_the_last_step_only_the_rest_is_done(
    rram: Rram, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(ship, "figures", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        code, _, err = rram(*command, "--out", out)
    assert code == 130 and "to go on: rram finetune" in err and not out.exists()
    code, text, err = rram(*command, "--out", out, "--resume")
    assert code == 0, err
    assert json.loads(text)["seconds"] is None and out.exists()  # no step was left to take


def test_a_training_killed_before_its_first_state_begins_again(
    rram: Rram, recipe: Recipe, command: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "b.safetensors"
    code, _, err = rram(*command, "--out", out, "--resume")
    assert code == 0 and "had not been written yet: beginning again" in err
    assert rram(*command, "--out", tmp_path / "c.safetensors")[0] == 0
    assert same_weights(out, tmp_path / "c.safetensors")
    train = ["train", "--config", tmp_path / "tiny.toml", "--out", tmp_path / "t", "--json"]
    code, _, err = rram(*train, "--resume")
    assert code == 2 and "nothing to resume" in err  # nobody began one there
    assert not (tmp_path / "t").exists()
    killed(0, [str(word) for word in train])
    assert [file.name for file in (tmp_path / "t").glob("[!.]*")] == ["tiny.recipe.toml"]
    assert rram(*train, "--resume")[0] == 0


def test_what_finetune_refuses_to_resume(rram: Rram, command: list[str], tmp_path: Path) -> None:
    out = ("--out", tmp_path / "d.safetensors")
    refusals = {
        "exclude each other: weights read back": ("--board", "sim://?seed=7", "--resume"),
        "--resume and --force exclude each other": ("--resume", "--force"),
        "the name of a flow ends in .safetensors": ("--out", tmp_path / "d.h5"),
    }
    for message, arguments in refusals.items():
        code, stdout, err = rram(*command, *out, *arguments)
        assert (code, stdout) == (2, "") and message in err, err
        assert len(err.strip().splitlines()) == 1
