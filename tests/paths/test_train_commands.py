"""`rram train` and `rram finetune`: what they write, what they refuse, how a training goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rram_host.flows import checkpoint
from rram_host.flows.recipe import from_toml
from rram_host.flows.train_settings import TrainSettings
from rram_host.lattice.actions import Phi4Action
from tests.training_rig import Rram, tiny_recipe


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(tiny_recipe(6))
    return path


def refused(done: tuple[int, str, str], *words: str) -> None:
    """Exit code 2, one line on stderr that says why, nothing on stdout."""
    code, out, err = done
    assert (code, out) == (2, ""), err
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("rram: ")
    assert all(word in err for word in words), err


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoint.load(path).flow.state_dict())


def test_train_leaves_model_log_picture_and_recipe(
    rram: Rram, config: Path, tmp_path: Path
) -> None:
    code, out, _ = rram("train", "--config", config, "--out", tmp_path / "a", "--json")
    assert code == 0
    values = json.loads(out)
    assert values["samples"] == 32_768
    assert 0.0 < values["ess"] <= 1.0
    names = {file.name for file in (tmp_path / "a").iterdir()}
    assert names == {"tiny.safetensors", "tiny.log.csv", "tiny.png", "tiny.recipe.toml"}
    assert (tmp_path / "a" / "tiny.png").read_bytes()[:4] == b"\x89PNG"
    assert len((tmp_path / "a" / "tiny.log.csv").read_text().splitlines()) == 4
    assert from_toml(tmp_path / "a" / "tiny.recipe.toml") == from_toml(config)


def test_a_stopped_training_says_how_to_go_on_and_ends_the_same(
    rram: Rram, config: Path, tmp_path: Path
) -> None:
    long = ["train", "--config", config, "--steps", 40]
    assert rram(*long, "--out", tmp_path / "whole", "--json")[0] == 0
    # an instant is over before the first step is
    code, out, err = rram(*long, "--out", tmp_path / "parts", "--seconds", 1e-9, "--json")
    state = str(tmp_path / "parts" / "tiny.state")
    assert code == 0
    assert json.loads(out) == {"file": None, "state": state, "status": "stopped"}
    assert "stopped after step 1 of 40; to go on: rram train --config" in err
    again = err.strip().partition("to go on: rram ")[2].split()
    assert rram(*again, "--json")[0] == 0
    one, two = (weights(tmp_path / n / "tiny.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    refused(rram(*again), "nothing to resume")


def test_results_are_not_written_over_unasked(rram: Rram, config: Path, tmp_path: Path) -> None:
    command = ["train", "--config", config, "--out", tmp_path]
    assert rram(*command, "--json")[0] == 0
    before = (tmp_path / "tiny.safetensors").read_bytes()
    refused(rram(*command, "--seed", 1), "tiny.safetensors exists", "--force", "--name")
    assert (tmp_path / "tiny.safetensors").read_bytes() == before
    assert rram(*command, "--seed", 1, "--force", "--json")[0] == 0
    assert (tmp_path / "tiny.safetensors").read_bytes() != before
    assert rram(*command, "--name", "other", "--json")[0] == 0
    assert (tmp_path / "other.safetensors").read_bytes() != before  # figures hold the time taken


def test_a_state_of_other_settings_is_refused(rram: Rram, config: Path, tmp_path: Path) -> None:
    command = ["train", "--config", config, "--out", tmp_path]
    rram(*command, "--seconds", 1e-9)
    assert (tmp_path / "tiny.state").is_file()
    refused(rram(*command), "tiny.state exists", "--resume", "--force")
    refused(rram(*command, "--resume", "--lam", 6), "action.lam is 5.5 there, 6.0 was asked")
    refused(rram(*command, "--resume", "--force"), "exclude each other")


def test_print_config_writes_what_would_be_trained(rram: Rram, tmp_path: Path) -> None:
    code, out, _ = rram("train", "--L", "6", "--lam", 5.2, "--steps", 50, "--print-config")
    assert code == 0
    (tmp_path / "mine.toml").write_text(out)
    found = from_toml(tmp_path / "mine.toml")
    assert found.flow.shape == (6, 6)
    assert found.action == Phi4Action(-4.0, 5.2)
    assert (found.train.steps, found.train.warmup) == (50, 50)
    code, out, _ = rram("train", "--g", 0.7, "--m-over-g", 0.1, "--print-config", "--json")
    assert code == 0
    assert json.loads(out)["action"] == {"name": "graphene", "g": 0.7, "m_over_g": 0.1}


def test_train_refuses_what_cannot_be(rram: Rram, config: Path, tmp_path: Path) -> None:
    refused(rram("train", "--preset", "phi4_L5"), "phi4_L5", "phi4_L4")
    refused(rram("train", "--steps", 0), "steps must be >= 1, got 0")
    refused(rram("train", "--L", 5), "even lengths")
    refused(rram("train", "--action", "phi5"), "no action 'phi5'; known: phi4, graphene")
    refused(rram("train", "--action", "graphene", "--lam", 5), "graphene has g, m_over_g")
    refused(rram("train", "--g", 1, "--lam", 5), "phi4 has m2, lam; graphene has g, m_over_g")
    refused(rram("train", "--L", "4by4"), "4by4", "6x8")
    refused(rram("train", "--lam", -1), "lam must be > 0")
    refused(rram("train", "--config", tmp_path / "none.toml"), "No such file")
    refused(rram("train", "--config", config, "--preset", "phi4_L4"), "exclude each other")
    refused(rram("train", "--config", config, "--action", "graphene"), "'phi4'", "'graphene'")
    refused(rram("train", "--config", config, "--name", "../x"), "../x")
    (tmp_path / "bad.toml").write_text(tiny_recipe(6).replace("hidden", "hiden"))
    refused(rram("train", "--config", tmp_path / "bad.toml"), "hiden", "did you mean 'hidden'")


def finetune(tmp_path: Path, *more: object) -> tuple[Any, ...]:
    out = ("--out", tmp_path / "fine.safetensors", "--json")
    return ("finetune", "phi4_L4", "--steps", 3, "--batch", 16, *more, *out)


def test_finetune_to_another_coupling(rram: Rram, tmp_path: Path) -> None:
    where = ("--rank", 2, "--attach", "wt,ws", "--parameters", "lora", "--also", "prior")
    code, out, err = rram(*finetune(tmp_path, "--lam", 6, *where))
    assert code == 0, err
    values = json.loads(out)
    assert values["ranks"] == {"w1": 0, "wt": 2, "ws": 2}
    # rank 2 x (32 + 8) x 2 products, and six classes of momenta on 4 x 4 sites
    assert values["trained_numbers"] == 160 + 6
    assert values["lora_share"] == pytest.approx(160 / (768 + 160))
    loaded = checkpoint.load(tmp_path / "fine.safetensors")
    assert loaded.action == Phi4Action(-4.0, 6.0)
    assert loaded.metadata["extra"]["adapted_from"]["action"]["lam"] == 5.5
    base = checkpoint.load(checkpoint.resolve("phi4_L4")).flow
    for name, product in loaded.flow.products().items():
        assert torch.equal(product.weight(), base.products()[name].weight())
    refused(rram(*finetune(tmp_path, "--lam", 6)), "fine.safetensors exists", "--force")


def test_finetune_to_errors_of_weights(rram: Rram, tmp_path: Path) -> None:
    code, out, err = rram(*finetune(tmp_path, "--errors", 0.025))
    assert code == 0, err
    figures = json.loads(out)["figures"]
    assert figures["before"]["ess"] < 0.98  # without errors 0.99


def test_finetune_compare_leaves_both_curves(rram: Rram, tmp_path: Path) -> None:
    code, out, err = rram(*finetune(tmp_path, "--lam", 5.8, "--compare"))
    assert code == 0, err
    found = json.loads(out)["comparison"]
    assert found["scratch"]
    assert [point["steps"] for point in found["adaptations"][0]["points"]] == [1, 3]
    assert (tmp_path / "fine.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "fine.json").read_text()) == found
    assert (tmp_path / "fine.csv").read_text().startswith("case,run,steps,ess")


def test_a_training_from_scratch_that_never_gets_there_gives_a_bound(
    rram: Rram, tmp_path: Path
) -> None:
    given = [each for each in finetune(tmp_path, "--lam", 5.6, "--compare") if each != "--json"]
    code, out, err = rram(*given, "--lr", 1e-5)
    assert code == 0, err
    longest = json.loads((tmp_path / "fine.json").read_text())["scratch"][-1]["steps"]
    lines = [line for line in out.splitlines() if line.startswith("adapted in")]
    bound = f"the same ESS: < {3 / longest:.2g}, {longest} from scratch do not reach it"
    assert lines[-1].endswith(bound)


def test_finetune_refuses_what_cannot_be(rram: Rram, tmp_path: Path) -> None:
    refused(rram("finetune", "phi4_L4"), "nothing to adapt to")
    refused(rram("finetune", "phi4_L9", "--lam", 6), "phi4_L9", "phi4_L4")
    refused(rram("finetune", "phi4_L4", "--g", 1), "'phi4'", "g", "rram train")
    refused(rram("finetune", "phi4_L4", "--lam", 6, "--L", 6), "4 x 4", "6 x 6")
    refused(rram("finetune", "phi4_L4", "--lam", 6, "--steps", 0), "steps must be >= 1")
    refused(rram("finetune", "phi4_L4", "--lam", 6, "--rank", 1, "--attach", "w9"), "w9", "w1")
    refused(rram("finetune", "phi4_L4", "--lam", 6, "--attach", "w1"), "not of which rank")
    refused(rram("finetune", "phi4_L4", "--errors", "nan"), "fraction >= 0")
    board = ("--board", "sim://?seed=7")
    refused(rram("finetune", "phi4_L4", "--errors", 0.1, *board), "exclude each other")
    broken, path = checkpoint.load(checkpoint.resolve("phi4_L4")), tmp_path / "nan.safetensors"
    checkpoint.save(path, broken.flow, broken.action, TrainSettings(), {})
    content, weight = path.read_bytes(), broken.flow.products()["wt"].weight().detach()[0, :4]
    nan = torch.full_like(weight, float("nan"))
    path.write_bytes(content.replace(weight.numpy().tobytes(), nan.numpy().tobytes()))
    refused(rram("finetune", path, "--lam", 6), "wt.base.weight", "not finite")
