"""RunFile: what a run recorded, read from its file, whether it is done, still runs, or was killed.

Every reading opens the file anew and closes it again, so nobody is hindered. Records beyond the
commit counter do not exist here: the writer may be in the middle of them.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError
from rram_host.records import layout
from rram_host.records.columns import Column
from rram_host.records.layout import Header
from rram_host.records.process import Process
from rram_host.records.status import INTERRUPTED, KILLED, RUNNING

if TYPE_CHECKING:
    import xarray

T = TypeVar("T")

_TRIES = 5  # a file that is opened while its writer opens or closes it
_AGAIN_S = 0.05
_UNREADABLE = (
    *(OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError),
    zlib.error,
)


@dataclass(frozen=True)
class State:
    """How far a run has come.

    Attributes:
        units, rows: committed units of work, and their records.
        status: "running", "done", "interrupted", "failed".
        reason: why it was interrupted or failed.
        ended: ISO time, UTC; empty while it runs, and where it was killed.
        writer: the process that writes, or wrote.
        counts: what board and passport had counted, as JSON; empty where that was not kept.
    """

    units: int
    rows: int
    status: str
    reason: str
    ended: str
    writer: Process | None
    counts: str = ""

    @property
    def text(self) -> str:
        """Status and reason, on one line."""
        return f"{self.status} ({self.reason})" if self.reason else self.status


class RunFile:
    """A run, as it stood when this was made; `RunFile(path)` again looks again.

    Args:
        path: of the file.

    Attributes:
        header: what was known before the first record.
        columns: of the records.
        state: how far it has come.

    Raises:
        InputError: there is no such file, or it is not of a run.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.header, self.columns, self.state = _read(self.path, _about)

    def data(self) -> dict[str, npt.NDArray[np.generic]]:
        """All committed records, by column, (rows, *shape of one record), SI units."""
        rows = self.state.rows

        def take(file: h5py.File) -> dict[str, npt.NDArray[np.generic]]:
            return {column.name: _rows(file, column, slice(0, rows)) for column in self.columns}

        return _read(self.path, take)

    def column(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.generic]:
        """Committed records of one column, from row `start` up to `stop`, the last by default.

        Raises:
            InputError: there is no such column.
        """
        column = next((c for c in self.columns if c.name == name), None)
        if column is None:
            known = ", ".join(c.name for c in self.columns)
            raise InputError(f"{self.path} has no column {name!r}; it has {known}")
        rows = self.state.rows
        part = slice(start, rows if stop is None else min(stop, rows))
        return _read(self.path, lambda file: _rows(file, column, part))

    def traffic(self) -> list[bytes]:
        """Digest of the traffic with the board up to the end of every committed unit.

        See `firmware_bridge.traffic.TrafficDigest`. Empty for a file of an earlier version.
        """
        found = [row[:-1].tobytes() for row in self._traffic_rows()]
        return found if all(any(digest) for digest in found) else []

    def resumed_at(self) -> list[int]:
        """Units with which the run went on after it had been broken off, counted from 0.

        Empty for a file of an earlier version.
        """
        return [unit for unit, row in enumerate(self._traffic_rows()) if row[-1]]

    def _traffic_rows(self) -> npt.NDArray[np.uint8]:
        none = np.empty((0, layout.TRAFFIC_BYTES), np.uint8)

        def take(file: h5py.File) -> npt.NDArray[np.uint8]:
            found = file.get(layout.TRAFFIC)
            return none if found is None else np.asarray(found[: self.state.units], np.uint8)

        return _read(self.path, take)

    def start(self) -> bytes | None:
        """Snapshot of the board before the first unit; None where the file has none.

        Silicon offers none, and files of earlier versions were made without.

        Raises:
            InputError: it is damaged.
        """

        def take(file: h5py.File) -> bytes | None:
            found = layout.START in file
            return zlib.decompress(file[layout.START][()].tobytes()) if found else None

        return _read(self.path, take)

    @cached_property
    def dims(self) -> dict[str, int]:
        """Axes of records and their lengths, "row" and "col" always among them."""
        found = dict(zip(("row", "col"), self.header.map_siemens.shape, strict=True))
        for column in self.columns:
            found |= dict(zip(column.dims, column.shape, strict=True))
        return found

    def dataset(self) -> xarray.Dataset:
        """All committed records with coordinates, units and attributes, for xarray."""
        import xarray

        coordinates = {layout.RECORD: np.arange(self.state.rows)}
        coordinates |= {name: np.arange(n) for name, n in self.dims.items()}
        made = xarray.Dataset(coords=coordinates)
        for name, values in self.data().items():
            column = next(c for c in self.columns if c.name == name)
            labels = {"units": column.unit or "1", "long_name": column.text}
            made[name] = ((layout.RECORD, *column.dims), values, labels)
        labels = {"units": "S", "long_name": "conductance before the run"}
        made[layout.MAP] = (("row", "col"), self.header.map_siemens, labels)
        made.attrs = _attributes(self.path) | {"status": self.state.text, "ended": self.state.ended}
        return made


def _attributes(path: Path) -> dict[str, object]:
    return _read(path, lambda file: dict(file.attrs))


def _about(file: h5py.File) -> tuple[Header, tuple[Column, ...], State]:
    state = _state(file)  # first: what it counts is in the file before it
    return layout.header_of(file), layout.columns_of(file), state


def _state(file: h5py.File) -> State:
    units, rows = (int(n) for n in file[layout.COMMIT][()])
    names = (layout.STATUS, layout.REASON, layout.ENDED, layout.WRITER)
    status, reason, ended, writer = (file[name][()].decode(errors="replace") for name in names)
    process = Process.of_text(writer)
    if status == RUNNING and (process is None or not process.alive):
        status, reason = INTERRUPTED, KILLED
    elif status == RUNNING and process and process.elsewhere:
        reason = f"or was, by {process}"
    return State(units, rows, status, reason, ended, process, _counts(file))


def _counts(file: h5py.File) -> str:
    """Files of earlier versions have none."""
    if layout.COUNTS not in file:
        return ""
    text: str = file[layout.COUNTS][()].decode(errors="replace")
    return text


def _rows(file: h5py.File, column: Column, rows: slice) -> npt.NDArray[np.generic]:
    values: npt.NDArray[np.generic] = file[column.name][rows]
    return values.astype(bool) if column.dtype == "bool" else values


def _read(path: Path, take: Callable[[h5py.File], T]) -> T:
    """Open, take, close; again a few times, because the writer may be opening or closing it."""
    if not path.is_file():
        raise InputError(f"no run file {path}")
    for left in reversed(range(_TRIES)):
        try:
            with layout.open_to_read(path) as file:
                return take(file)
        except (
            OSError,
            KeyError,
            ValueError,
            TypeError,
            AttributeError,
            RuntimeError,
            zlib.error,
        ) as error:
            if not left or not _may_become_readable(path):
                raise InputError(f"{path} is not a run file: {_short(error)}") from None
        time.sleep(_AGAIN_S)
    raise InputError(f"{path} is not a run file")


def _may_become_readable(path: Path) -> bool:
    try:
        return bool(h5py.is_hdf5(path))
    except OSError:
        return False


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
