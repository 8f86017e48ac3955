"""A training on its way, on disk: written whole or not at all, gone on with bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from rram_host.errors import InputError
from rram_host.file_lock import FileLock
from rram_host.flows.protocol import Flow
from rram_host.flows.train_settings import TrainLog

__all__ = ["Progress", "StateFile", "fingerprint"]

_FORMAT = "training/1"
_EVERY_S = 5.0  # least wall time between two writings


@dataclass
class Progress:
    """How far a training is, beside what flow, optimiser and generator hold.

    Attributes:
        step: optimiser steps done.
        log: entries so far.
        seconds: wall time spent so far.
    """

    step: int = 0
    log: list[TrainLog] = field(default_factory=list)
    seconds: float = 0.0


class StateFile:
    """The file that a training leaves behind, so that it can be gone on with.

    A context manager that keeps other processes from the same file. It is replaced whole: killed
    at any instant, a process leaves the state before or the state after, never a part of one.

    Args:
        path: the file; its folder must exist.
        key: what decides the training, as JSON holds it; a file of another key is refused.

    Raises:
        InputError: another process has the file, or the folder cannot be written.
    """

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        self.path = path
        self._key: dict[str, Any] = json.loads(json.dumps(key))
        self._lock = FileLock(path, str(path), f"{path}: another process trains with this state")
        self._written = time.monotonic()

    def __enter__(self) -> StateFile:
        self._lock.take()
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def restore(
        self, flow: Flow, optimiser: torch.optim.Optimizer, generator: torch.Generator
    ) -> Progress:
        """Bring everything back to where the file left it; a fresh start where there is none.

        Raises:
            InputError: the file is damaged, or of another flow, action or settings.
        """
        if not self.path.exists():
            return Progress()
        header, tensors = _read(self.path)
        self._check(json.loads(header["key"]))
        progress: dict[str, Any] = json.loads(header["progress"])
        _restore_flow(flow, tensors, self.path)
        _restore_optimiser(optimiser, tensors)
        generator.set_state(tensors["generator"])
        log = [TrainLog(**entry) for entry in progress["log"]]
        return Progress(progress["step"], log, progress["seconds"])

    def due(self) -> bool:
        """Whether the last writing is long enough ago."""
        return time.monotonic() - self._written >= _EVERY_S

    def write(
        self,
        flow: Flow,
        optimiser: torch.optim.Optimizer,
        generator: torch.Generator,
        progress: Progress,
    ) -> None:
        """Replace the file by the state at hand.

        Raises:
            InputError: it cannot be written.
        """
        tensors = {f"flow.{name}": value for name, value in flow.state_dict().items()}
        for index, values in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value for name, value in values.items()}
        tensors["generator"] = generator.get_state()
        content = serialise(
            {name: value.detach().contiguous().clone() for name, value in tensors.items()},
            {
                "format": _FORMAT,
                "key": json.dumps(self._key),
                "progress": json.dumps(asdict(progress)),
            },
        )
        try:
            _replace(self.path, content)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror}") from None
        self._written = time.monotonic()

    def _check(self, found: dict[str, Any]) -> None:
        for name, there, asked in _differences(found, self._key):
            raise InputError(
                f"{self.path}: this state is of another training: {name} is {there} there, "
                f"{asked} was asked"
            )


def fingerprint(flow: Flow) -> str:
    """A short digest of all that a flow holds: names, shapes and bits."""
    digest = hashlib.sha256()
    for name, value in sorted(flow.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _replace(path: Path, content: bytes) -> None:
    """Write beside the file, wait for the disk, rename over it."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not the state of a training: {error}") from None
    if header.get("format") != _FORMAT:
        raise InputError(f"{path}: format {header.get('format')!r} is not {_FORMAT!r}")
    return header, tensors


def _restore_flow(flow: Flow, tensors: dict[str, Tensor], path: Path) -> None:
    prefix = "flow."
    values = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
    try:
        flow.load_state_dict(values)
    except RuntimeError as error:
        raise InputError(f"{path}: the state does not fit the flow: {error}") from None


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def _differences(found: Any, asked: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """(name, there, asked) of every value that differs, nested tables by dotted names."""
    if not (isinstance(found, dict) and isinstance(asked, dict)):
        return [] if found == asked else [(name, found, asked)]
    rows = []
    for key in [*asked, *(key for key in found if key not in asked)]:
        inner = f"{name}.{key}" if name else str(key)
        rows += _differences(found.get(key, "not"), asked.get(key, "not"), inner)
    return rows
