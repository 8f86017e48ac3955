"""Flows on disk: safetensors, with their settings and figures as JSON in the metadata."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from rram_host.errors import InputError
from rram_host.flows import kinds
from rram_host.flows.lora import ranks_of, set_ranks
from rram_host.flows.protocol import Flow
from rram_host.flows.train_settings import FinetuneSettings, TrainSettings
from rram_host.lattice.actions import Action, action_of
from rram_host.lattice.actions import settings_of as settings_of_action

__all__ = ["LoadedFlow", "load", "resolve", "save", "shipped"]

_FORMAT = "flow/2"
_FIRST_FORMAT = "coupling-flow/1"  # had one kind of flow, and one rank for all its products
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class LoadedFlow:
    """What a file holds.

    Attributes:
        flow: the flow, ready to sample.
        action: the action it was trained for.
        metadata: {"kind": ..., "flow": {...}, "ranks": {...}, "action": {...}, "train": {...},
            "extra": {...}}.
    """

    flow: Flow
    action: Action
    metadata: dict[str, Any]


def save(
    path: Path | str,
    flow: Flow,
    action: Action,
    train_settings: TrainSettings | FinetuneSettings,
    extra: dict[str, Any],
) -> None:
    """Write a flow with everything needed to make it again; a file there is replaced whole.

    Args:
        path: file to write.
        flow: the flow; its products must have matrices.
        action: the action it was trained for.
        train_settings: how it was trained.
        extra: further figures, as JSON can hold them.

    Raises:
        InputError: if a product of the flow has been replaced, a weight is not finite, or `extra`
            is not JSON.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    tensors = {name: value.detach().contiguous() for name, value in flow.state_dict().items()}
    metadata = {
        "kind": flow.kind,
        "flow": asdict(flow.settings),
        "ranks": ranks_of(flow),
        "action": settings_of_action(action),
        "train": asdict(train_settings),
        "extra": extra,
    }
    _check_tensors(str(path), tensors, _empty(metadata).state_dict())
    try:
        text = json.dumps(metadata)
    except (TypeError, ValueError) as error:
        raise InputError(f"extra figures of a flow must be JSON: {error}") from error
    content = serialise(tensors, metadata={"format": _FORMAT, "settings": text})
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)


def load(path: Path | str) -> LoadedFlow:
    """Read a flow written by `save`.

    Raises:
        InputError: if the file is missing, not safetensors, of another format, its settings do not
            stand, its tensors are not those its settings ask for, or a weight is not finite.
    """
    header, tensors = _read(Path(path))
    if header.get("format") not in (_FORMAT, _FIRST_FORMAT):
        raise InputError(f"{path}: format {header.get('format')!r} is not {_FORMAT!r}")
    try:
        metadata = {"kind": "anf", "ranks": {}} | json.loads(header["settings"])
        flow = _empty(metadata)
        action = action_of(metadata["action"])
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: settings do not describe a flow: {reason}") from error
    _check_tensors(str(path), tensors, flow.state_dict())
    dtype = next((v.dtype for v in tensors.values() if v.is_floating_point()), torch.float32)
    flow.to(dtype)
    flow.load_state_dict(tensors)
    return LoadedFlow(flow, action, metadata)


def shipped() -> dict[str, Path]:
    """Flows that come with the package: name -> file."""
    folder = Path(str(resources.files("rram_host.flows"))) / "weights"
    return {file.stem: file for file in sorted(folder.glob(f"*{_SUFFIX}"))}


def resolve(name_or_file: Path | str) -> Path:
    """The file of a shipped flow's name, or the file itself.

    Raises:
        InputError: if it is neither; the message lists the known names.
    """
    known = shipped()
    if str(name_or_file) in known:
        return known[str(name_or_file)]
    path = Path(name_or_file)
    if path.is_file():
        return path
    raise InputError(
        f"no flow {str(name_or_file)!r}: not a file, and not one of the shipped "
        f"({', '.join(known) or 'none'})"
    )


def _empty(metadata: dict[str, Any]) -> Flow:
    """The flow that metadata describe, with weights of an untrained one."""
    flow = kinds.build(metadata["kind"], metadata["flow"])
    set_ranks(flow, metadata["ranks"])
    return flow


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, tensors
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file: {error}") from error


def _check_tensors(path: str, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or unknown:
        raise InputError(f"{path}: tensors missing {missing}, not expected {unknown}")
    for name, value in found.items():
        if value.shape != wanted[name].shape:
            raise InputError(
                f"{path}: {name} has shape {tuple(value.shape)}, "
                f"its settings ask for {tuple(wanted[name].shape)}"
            )
        if value.is_floating_point() != wanted[name].is_floating_point() or not bool(
            torch.isfinite(value).all()
        ):
            raise InputError(f"{path}: {name} holds values that are not finite numbers")
