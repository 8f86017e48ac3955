"""Snapshots: what decides a board's future, kept beside a run file until the run is done.

The snapshot after unit N is whole on the disk before unit N is committed, and the one after N - 1
goes away afterwards. So whenever a process is killed, there is one for the last committed unit.
"""

from __future__ import annotations

import os
from pathlib import Path

from rram_host.errors import InputError, RecordError


class Snapshots:
    """Files beside a run file, `.NAME.snapshot-N`.

    Args:
        path: of the run file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def _of(self, units: int) -> Path:
        return self._path.with_name(f".{self._path.name}.snapshot-{units}")

    def save(self, units: int, snapshot: bytes | None) -> None:
        """Keep the board after so many units; nothing where the board keeps its state itself.

        Raises:
            RecordError: it cannot be written.
        """
        if snapshot is None:
            return
        final = self._of(units)
        temporary = final.with_name(final.name + ".tmp")
        try:
            with temporary.open("wb") as stream:
                stream.write(snapshot)
            temporary.replace(final)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise RecordError(
                f"snapshot of the board after unit {units} ({len(snapshot) / 1e6:.2f} MB) cannot "
                f"be kept in {final}: {os.strerror(error.errno or 0)}"
            ) from None

    def load(self, units: int) -> bytes | None:
        """The board after so many units; None where none was kept.

        Raises:
            InputError: it cannot be read.
        """
        try:
            return self._of(units).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{self._of(units)} cannot be read: {error.strerror}") from None

    def keep_only(self, units: int | None) -> None:
        """Remove all others; all with None."""
        kept = None if units is None else self._of(units)
        start = f".{self._path.name}.snapshot-"
        for path in self._path.parent.iterdir():
            if path.name.startswith(start) and path != kept:
                path.unlink(missing_ok=True)
