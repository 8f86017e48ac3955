"""Reads the published checkpoints (github.com/hustmeng/ANF, MIT licence, (c) 2024 MengXu)."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from rram_host.errors import InputError
from rram_host.flows.checkpoint import LoadedFlow
from rram_host.flows.mixer.flow import MixerFlow
from rram_host.flows.mixer.network import Mixer
from rram_host.flows.mixer.settings import MixerSettings
from rram_host.lattice.actions import Phi4Action, settings_of

__all__ = ["load_published"]

_PARTS = ("mass2", "lambda", "model_cfg", "state_dict")


def load_published(
    path: Path | str, statistics: int = 4096, seed: int = 0, lora_rank: int = 2
) -> LoadedFlow:
    """Read a published base checkpoint, and freeze its statistics.

    The file holds running statistics, one set for all 20 steps, with which the flow is useless
    (ESS 1e-4). They are replaced by those of every step in one large batch of draws, which is how
    the published code itself samples, but for the size of its batches.

    Args:
        path: a zip of torch with `state_dict`, `model_cfg`, `mass2` and `lambda`.
        statistics: draws of that batch; 0 keeps mean 0 and variance 1, for who freezes later.
        seed: of those draws.
        lora_rank: rank of the corrections beside the products in mixer blocks, which start at zero.

    Returns:
        The flow with its action, and where it came from in the metadata.

    Raises:
        InputError: if the file is missing or not such a checkpoint, or a weight is not finite.
    """
    content = _read(Path(path))
    config, state = content["model_cfg"], content["state_dict"]
    try:
        dim = int(config["hidden_feature"])
        settings = MixerSettings(
            shape=tuple(config["lattice_shape"]),
            patch=int(config["patch_size"]),
            dim=dim,
            hidden=dim,
            blocks=int(config["depth"]) - 1,
            steps=int(config["n_layers"]),
            lora_rank=lora_rank,
        )
        action = Phi4Action(float(content["mass2"]), float(content["lambda"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: settings do not describe a published flow: {error!r}") from error
    flow = MixerFlow(settings)
    _fill(flow.net, _shared(str(path), state, settings.steps), str(path))
    if statistics:
        flow.freeze_statistics(statistics, torch.Generator().manual_seed(seed))
    extra = {
        "source": "github.com/hustmeng/ANF, MIT licence, (c) 2024 MengXu",
        "era": content.get("era"),
        "statistics": statistics,
        "statistics_seed": seed,
    }
    metadata = {
        "kind": MixerFlow.kind,
        "flow": asdict(settings),
        "action": settings_of(action),
        "train": {},
        "extra": extra,
    }
    return LoadedFlow(flow, action, metadata)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a checkpoint of torch: {error}") from error
    if not isinstance(content, dict) or any(name not in content for name in _PARTS):
        raise InputError(f"{path}: not a published checkpoint, which has {', '.join(_PARTS)}")
    return content


def _shared(path: str, state: Mapping[str, Tensor], steps: int) -> dict[str, Tensor]:
    """The tensors of the one network, which the file repeats for every step."""
    first = {
        name.removeprefix("0.net."): value
        for name, value in state.items()
        if name.startswith("0.net.")
    }
    for name, value in first.items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"{path}: {name} holds values that are not finite numbers")
        for step in range(1, steps):
            other = state.get(f"{step}.net.{name}")
            if other is None or not torch.equal(other, value):
                raise InputError(f"{path}: step {step} does not share {name} with step 0")
    return first


def _fill(net: Mixer, state: dict[str, Tensor], path: str) -> None:
    """Copy every tensor to its place; running statistics have none."""
    places = _places(net)
    found = {name: value for name, value in state.items() if not _is_running(name)}
    missing, unknown = sorted(places.keys() - found.keys()), sorted(found.keys() - places.keys())
    if missing or unknown:
        raise InputError(f"{path}: tensors missing {missing}, not expected {unknown}")
    for name, place in places.items():
        value = found[name]
        if name == "out_embedding.weight":  # torch: (in, out, k, k); the product: (out k k, in)
            value = value.flatten(1).T
        if value.numel() != place.numel():
            raise InputError(
                f"{path}: {name} has shape {tuple(value.shape)}, its settings ask for "
                f"{tuple(place.shape)}"
            )
        with torch.no_grad():
            place.copy_(value.reshape(place.shape))


def _is_running(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def _places(net: Mixer) -> dict[str, Tensor]:
    """Where each published tensor goes, by its name there."""
    places = {
        "to_embedding.0.weight": net.pixel.product.weight(),
        "to_embedding.2.weight": net.patch.product.weight(),
        "out_embedding.weight": net.unpatch.product.weight(),
    }
    _add_norm(places, "to_embedding.1", net.pixel_norm.gain, net.pixel_norm.shift)
    for index, block in enumerate(net.mixers()):
        places[f"temb_blocks.{index}.weight"] = net.time[index]
        prefix = f"mixer_blocks.{index}"
        _add_norm(places, f"{prefix}.layer_normal", block.norm.gain, block.norm.shift)
        for theirs, ours, inner in (
            (f"{prefix}.token_mixer", "token", "2.net"),
            (f"{prefix}.channel_mixer", "channel", "1.net"),
        ):
            _add_layer_norm(places, f"{theirs}.0", getattr(block, f"{ours}_norm"))
            _add_layer_norm(places, f"{theirs}.{inner}.1", getattr(block, f"{ours}_hidden"))
            places[f"{theirs}.{inner}.0.weight"] = getattr(block, f"{ours}_in").weight()
            places[f"{theirs}.{inner}.3.weight"] = getattr(block, f"{ours}_out").weight()
    for index in range(3):
        norm = net.regression.norm(index)
        _add_norm(places, f"regression.{3 * index}", norm.gain, norm.shift)
        places[f"regression.{3 * index + 2}.fc.weight"] = net.regression.product(index).weight()
    return places


def _add_norm(places: dict[str, Tensor], name: str, gain: Tensor, shift: Tensor) -> None:
    places[f"{name}.weight"], places[f"{name}.bias"] = gain, shift


def _add_layer_norm(places: dict[str, Tensor], name: str, norm: nn.LayerNorm) -> None:
    _add_norm(places, name, norm.weight, norm.bias)
