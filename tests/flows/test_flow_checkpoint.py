"""Files: what is written comes back, and what is wrong is refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rram_host.errors import InputError
from rram_host.flows import checkpoint
from rram_host.flows.coupling import CouplingFlow
from rram_host.flows.lora import set_ranks
from rram_host.flows.training import FinetuneSettings, TrainSettings
from rram_host.lattice.actions import GrapheneAction, Phi4Action

Make = Callable[..., CouplingFlow]
_ACTION = Phi4Action(-4.0, 5.0)


@pytest.fixture
def file(tmp_path: Path, flow: CouplingFlow) -> Path:
    path = tmp_path / "flow.safetensors"
    checkpoint.save(path, flow, _ACTION, TrainSettings(), {"note": [1, 2]})
    return path


def _rewrite(file: Path, tensors: dict[str, torch.Tensor], **metadata: str) -> None:
    header, _ = checkpoint._read(file)
    save_file(tensors, str(file), metadata={**header, **metadata})


def _refusal(file: Path) -> str:
    with pytest.raises(InputError) as caught:
        checkpoint.load(file)
    text = str(caught.value)
    assert "\n" not in text
    assert str(file) in text
    return text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_saved_comes_back(tmp_path: Path, random_flow: Make, dtype: torch.dtype) -> None:
    flow, path = random_flow((4, 6), 2).to(dtype), tmp_path / "flow.safetensors"
    settings = TrainSettings(seed=3)
    checkpoint.save(path, flow, _ACTION, settings, {"ess": 0.5})
    found = checkpoint.load(path)
    assert found.flow.settings == flow.settings
    assert found.action == _ACTION
    assert TrainSettings(**found.metadata["train"]) == settings
    assert found.metadata["extra"] == {"ess": 0.5}
    for one, two in zip(
        flow.sample(9, torch.Generator().manual_seed(0)),
        found.flow.sample(9, torch.Generator().manual_seed(0)),
        strict=True,
    ):
        assert torch.equal(one, two)


def test_ranks_of_their_own_come_back(tmp_path: Path, flow: CouplingFlow) -> None:
    set_ranks(flow, {"w1": 0, "wt": 3})
    path = tmp_path / "flow.safetensors"
    checkpoint.save(path, flow, GrapheneAction(0.5, 0.2), FinetuneSettings(), {})
    found = checkpoint.load(path)
    assert found.metadata["ranks"] == {"w1": 0, "wt": 3, "ws": 1}
    assert found.action == GrapheneAction(0.5, 0.2)
    assert found.metadata["kind"] == found.flow.kind == "anf"
    z = flow.draw(5, torch.Generator().manual_seed(0))
    assert torch.equal(found.flow.push(z)[0], flow.push(z)[0])


def test_refuses_a_file_that_is_not_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "flow.safetensors"
    path.write_bytes(b"PK\x03\x04 something else entirely")
    assert "not a safetensors file" in _refusal(path)
    path.write_bytes(b"")
    assert "not a safetensors file" in _refusal(path)


def test_refuses_a_truncated_file(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])
    assert "not a safetensors file" in _refusal(file)


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    assert "no such file" in _refusal(tmp_path / "none.safetensors")


def test_refuses_another_format(file: Path, flow: CouplingFlow) -> None:
    _rewrite(file, flow.state_dict(), format="flow/99")
    assert "flow/99" in _refusal(file)
    save_file({"x": torch.zeros(1)}, str(file))
    assert "format None" in _refusal(file)


def test_refuses_tensors_missing_and_unknown(file: Path, flow: CouplingFlow) -> None:
    tensors = dict(flow.state_dict())
    tensors["extra.weight"] = tensors.pop("wt.base.weight")
    _rewrite(file, tensors)
    text = _refusal(file)
    assert "wt.base.weight" in text
    assert "extra.weight" in text


def test_refuses_another_shape(file: Path, flow: CouplingFlow) -> None:
    _rewrite(file, {**flow.state_dict(), "w1.base.weight": torch.zeros(3, 3)})
    assert "w1.base.weight has shape (3, 3)" in _refusal(file)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_weights_that_are_not_finite(file: Path, flow: CouplingFlow, value: float) -> None:
    tensors = {name: t.clone() for name, t in flow.state_dict().items()}
    tensors["ws.base.weight"][2, 3] = value
    _rewrite(file, tensors)
    assert "ws.base.weight" in _refusal(file)


@pytest.mark.parametrize(
    "settings",
    [
        "not json",
        "[]",
        "{}",
        json.dumps({"flow": {"depth": 3}, "action": {}}),
        json.dumps({"flow": {"steps": -1}, "action": {}}),
        json.dumps({"kind": "spline", "flow": {}, "action": {"name": "phi4"}}),
        json.dumps({"flow": {}, "ranks": {"w9": 1}, "action": {"name": "phi4"}}),
        json.dumps({"flow": {}, "ranks": [], "action": {"name": "phi4"}}),
        json.dumps({"flow": {}, "action": {"name": "phi4", "m2": -4.0, "lam": -1.0}}),
    ],
)
def test_refuses_settings_that_describe_no_flow(
    file: Path, flow: CouplingFlow, settings: str
) -> None:
    _rewrite(file, flow.state_dict(), settings=settings)
    assert "do not describe a flow" in _refusal(file)


def test_refuses_another_action(file: Path, flow: CouplingFlow) -> None:
    metadata = checkpoint.load(file).metadata
    metadata["action"]["name"] = "phi6"
    _rewrite(file, flow.state_dict(), settings=json.dumps(metadata))
    assert "phi6" in _refusal(file)


def test_refuses_to_save_a_flow_without_its_matrices(tmp_path: Path, flow: CouplingFlow) -> None:
    flow.w1.base = nn.Identity()
    with pytest.raises(InputError, match=r"w1\.base\.weight"):
        checkpoint.save(tmp_path / "f.safetensors", flow, _ACTION, TrainSettings(), {})


def test_refuses_to_save_what_json_cannot_hold(tmp_path: Path, flow: CouplingFlow) -> None:
    with pytest.raises(InputError, match="JSON"):
        checkpoint.save(tmp_path / "f.safetensors", flow, _ACTION, TrainSettings(), {"x": object()})


def test_names_and_files_are_resolved(file: Path) -> None:
    assert checkpoint.resolve("phi4_L4") == checkpoint.shipped()["phi4_L4"]
    assert checkpoint.resolve(file) == file
    assert checkpoint.resolve(str(file)) == file
    with pytest.raises(InputError, match=r"'phi4_L5'.*phi4_L4"):
        checkpoint.resolve("phi4_L5")
