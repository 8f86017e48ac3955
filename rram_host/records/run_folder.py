"""A run folder: run.json with settings and results, .npz with data, .png with pictures."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError
from rram_host.records.status import RUNNING, ending

_PACKAGES = ("rram-bench", "numpy", "torch", "matplotlib")


def plain(value: Any) -> Any:
    """A value as JSON can hold it: arrays become lists, NaN becomes null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def versions() -> dict[str, str]:
    """Python and the packages that decide numbers, with the git revision where there is one."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        answer = subprocess.run(git, capture_output=True, text=True, timeout=5, check=True)
        found["git"] = answer.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass
    return found


def _keep_earlier(path: Path) -> None:
    """Move the files of a finished or dead run into PATH/earlier-N; nothing else is touched."""
    record = path / "run.json"
    if not record.exists():
        return
    try:
        earlier = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        earlier = {}
    if earlier.get("status") == RUNNING and _alive(earlier.get("process")):
        raise InputError(f"a run of process {earlier['process']} is still writing into {path}")
    number = 1
    while (path / f"earlier-{number}").exists():
        number += 1
    kept = path / f"earlier-{number}"
    kept.mkdir()
    for name in [*earlier.get("files", []), "run.json"]:
        if (path / name).is_file():
            (path / name).rename(kept / name)


def _alive(process: object) -> bool:
    try:
        os.kill(int(str(process)), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


class RunFolder:
    """A folder that a run writes into, as a context manager that notes how the run ended.

    run.json is rewritten whole, so it is never half-written.

    Args:
        path: where; made if missing. An earlier run in it is kept, in a folder of its own inside.
        kind: what ran ("demo", "program", ...).
        settings: everything needed to run it again.

    Raises:
        InputError: the folder cannot be written, or a run in it is still going on.
    """

    def __init__(self, path: Path, kind: str, settings: Mapping[str, Any]) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            _keep_earlier(path)
        except OSError as error:
            raise InputError(f"cannot write into {path}: {error}") from None
        self._record: dict[str, Any] = {
            "kind": kind,
            "status": RUNNING,
            "process": os.getpid(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": plain(settings),
            "versions": versions(),
            "files": [],
        }
        self._write()

    @classmethod
    def new(cls, kind: str, settings: Mapping[str, Any], root: Path = Path("runs")) -> RunFolder:
        """A folder of a fresh name under `root`."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        path, number = root / f"{stamp}-{kind}", 2
        while path.exists():
            path, number = root / f"{stamp}-{kind}-{number}", number + 1
        return cls(path, kind, settings)

    def _write(self) -> None:
        temporary = self.path / "run.json.tmp"
        try:
            temporary.write_text(json.dumps(self._record, indent=1), encoding="utf-8")
            temporary.replace(self.path / "run.json")
        except OSError as error:
            raise InputError(f"cannot write into {self.path}: {error}") from None

    def file(self, name: str) -> Path:
        """Where to write a file of this run; noted in run.json as one of its own."""
        self._record["files"].append(name)
        self._write()
        return self.path / name

    def save(self, name: str, **arrays: npt.ArrayLike) -> None:
        """Write arrays to NAME.npz."""
        final = self.file(f"{name}.npz")
        temporary = self.path / f"{name}.npz.tmp"
        with temporary.open("wb") as stream:
            np.savez_compressed(stream, **{k: np.asarray(v) for k, v in arrays.items()})
        temporary.replace(final)

    def note(self, **entries: Any) -> None:
        """Add entries to run.json."""
        self._record.update(plain(entries))
        self._write()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the record: done, failed, or interrupted by Ctrl-C or a signal."""
        status, _ = ending(error)
        self.note(status=status, ended=datetime.now(UTC).isoformat(timespec="seconds"))
