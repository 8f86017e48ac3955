"""Finished pieces of work in a folder: a figure that was broken off goes on with the next one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError
from rram_host.records.run_folder import plain

Arrays = dict[str, npt.NDArray[Any]]
_SETTINGS = "settings"


class Store:
    """A folder of .npz files, each with the settings it was made with.

    Args:
        folder: made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str, settings: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        """Arrays of this name: those kept, or newly made and kept.

        Raises:
            InputError: those kept were made with other settings, or cannot be read.
        """
        found = self.find(name, settings)
        if found is None:
            found = make()
            self._write(name, settings, found)
        return found

    def find(self, name: str, settings: Mapping[str, Any]) -> Arrays | None:
        """Arrays kept under a name; None where there are none."""
        path = self.path(name)
        if not path.exists():
            return None
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
            there = json.loads(str(arrays.pop(_SETTINGS)))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise InputError(f"{path} cannot be read ({error}); remove it") from None
        if there != _text(settings):
            raise InputError(
                f"{path} was made with other settings; give another --out, or remove it"
            )
        return arrays

    def path(self, name: str) -> Path:
        """Where a piece of work is kept."""
        return self.folder / f"{name}.npz"

    def _write(self, name: str, settings: Mapping[str, Any], arrays: Arrays) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = self.path(f".{name}.new")
        try:
            with beside.open("wb") as stream:
                kept: dict[str, Any] = {**arrays, _SETTINGS: json.dumps(_text(settings))}
                np.savez(stream, **kept)
            beside.replace(self.path(name))
        except OSError as error:
            raise InputError(f"cannot write {self.path(name)}: {error.strerror}") from None


def _text(settings: Mapping[str, Any]) -> Any:
    """Settings as they look after a way through JSON."""
    return json.loads(json.dumps(plain(settings)))
