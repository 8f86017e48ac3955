"""RunWriter: puts records into a run file, a unit at a time, so that a kill loses no committed one.

Order of a commit: all rows of the unit go out, then the counter of units and rows, sixteen bytes in
one write. Whatever is killed in between, readers go by the counter. HDF5 in its SWMR mode sees to
it that the file's own bookkeeping is whole after every single write.

HDF5 does not take a full disk well: it forgets rows in silence, and later crashes. So room for
every unit is set aside before HDF5 hears of it, and a disk that is full is found there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError, RecordError
from rram_host.file_lock import FileLock
from rram_host.records import layout
from rram_host.records.batches import checked
from rram_host.records.columns import Batch, Column
from rram_host.records.layout import Header
from rram_host.records.process import Process
from rram_host.records.rewrite import beside, left_open, rewrite, sweep, sync
from rram_host.records.run_file import RunFile, State
from rram_host.records.status import FAILED, INTERRUPTED, KILLED, RUNNING, ending

_STEP_BYTES = 1 << 20  # set aside at once
_MARGIN_BYTES = 1 << 18  # of that, for the file's own bookkeeping and its end
_SYNC_S = 1.0  # at most this often: a kill loses nothing that was written, a power cut does
_FAILURES = (OSError, RuntimeError, MemoryError)  # of HDF5, and of the disk below it


def now() -> str:
    """ISO time, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunWriter:
    """Writes one run file; a context manager that lets it go.

    Args:
        path: of the file. `begin` makes it, `go_on` opens an earlier one.

    Raises:
        InputError: somebody else writes it, or its folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: h5py.File | None = None
        self._columns: tuple[Column, ...] = ()
        self._sets: dict[str, h5py.Dataset] = {}  # kept open: one that closes hides its failures
        self._units = self._rows = self._reserved = 0
        self._synced_s = -np.inf
        self._broken = False  # HDF5 could not write
        if not path.parent.is_dir():
            raise InputError(f"cannot record into {path}: there is no folder {path.parent}")
        self._lock = FileLock(path, str(path), f"{path} is being written by another process")
        self._lock.take()
        sweep(path)

    @property
    def units(self) -> int:
        """Committed units of work."""
        return self._units

    # ---- beginning --------------------------------------------------------------------------

    def begin(
        self, header: Header, columns: tuple[Column, ...], start: bytes | None = None
    ) -> None:
        """Make the file; it appears under its name when it is whole.

        Args:
            header: of the run.
            columns: of its records.
            start: snapshot of the board that it begins on, where the board offers one.

        Raises:
            InputError: columns that do not go together, or the file cannot be made.
        """
        temporary = beside(self.path)
        try:
            layout.lay_out(temporary, header, columns, _running(), start)
            sync(temporary)
            temporary.replace(self.path)
            self._open(columns)
        except _FAILURES as error:
            raise InputError(f"cannot record into {self.path}: {error}") from None
        finally:
            temporary.unlink(missing_ok=True)

    def go_on(self, force: bool = False) -> State:
        """Open a run that has ended before it was done.

        Args:
            force: as of `mend`.

        Returns:
            How far it had come.

        Raises:
            InputError: it is still being written, or cannot be.
        """
        run = self.mend(force)
        try:
            self._units, self._rows = run.state.units, run.state.rows
            self._open(run.columns)
        except _FAILURES as error:
            raise InputError(f"cannot record into {self.path}: {_cause(error)}") from None
        return run.state

    def mend(self, force: bool = False) -> RunFile:
        """Close the file in the place of a process that was killed before it could.

        Args:
            force: take a writer on another machine, which nobody here can ask, for dead.

        Raises:
            InputError: it is being written, or cannot be.
        """
        run, gone = RunFile(self.path), False
        if run.state.status == RUNNING:
            writer = run.state.writer
            elsewhere = writer is not None and writer.elsewhere
            if not (force and elsewhere):
                hint = ", or was; --force where that process is gone" if elsewhere else ""
                raise InputError(f"{self.path} is being written by {writer}{hint}")
            run.state = dataclasses.replace(run.state, status=INTERRUPTED, reason=KILLED)
            gone = True
        try:
            if gone or left_open(self.path):
                rewrite(run)
        except _FAILURES as error:
            raise InputError(f"cannot write {self.path}: {_cause(error)}") from None
        return run

    def _open(self, columns: tuple[Column, ...]) -> None:
        self._file, self._columns = layout.open_to_write(self.path), columns
        names = (layout.RECORD, *(column.name for column in columns), layout.COMMIT)
        self._sets = {name: self._file[name] for name in names}
        if layout.TRAFFIC in self._file:  # a file of an earlier version has none
            self._sets[layout.TRAFFIC] = self._file[layout.TRAFFIC]
        self._reserve(0)
        self._put_texts(_running())

    # ---- records ----------------------------------------------------------------------------

    def commit(self, batch: Batch, traffic: bytes | None = None, resumed: bool = False) -> None:
        """Append the records of one unit of work; when this returns, no kill can lose them.

        Args:
            batch: the records.
            traffic: digest of the traffic up to the end of this unit; None where not known.
            resumed: a run that had been broken off went on with this unit.

        Raises:
            InputError: the batch has not the run's columns.
            RecordError: the disk is full, or the file cannot be written; earlier units stay.
        """
        self._opened()
        values = checked(batch, self._columns)
        rows = self._rows + len(next(iter(values.values())))
        self._make_room(sum(self._room_of(name, item) for name, item in values.items()))
        try:
            for name, item in {layout.RECORD: np.arange(self._rows, rows), **values}.items():
                self._append(self._sets[name], item.view("i1") if item.dtype == bool else item)
            self._put_traffic(traffic, resumed)
            self._sets[layout.COMMIT][...] = self._units + 1, rows
            self._sets[layout.COMMIT].flush()
            self._units, self._rows = self._units + 1, rows
            self._sync_at_times()
        except _FAILURES as error:
            self._broken = True
            raise self._failure(error) from None

    def _put_traffic(self, digest: bytes | None, resumed: bool) -> None:
        if layout.TRAFFIC in self._sets:
            row = (digest or bytes(layout.TRAFFIC_BYTES - 1)) + bytes([resumed])
            self._sets[layout.TRAFFIC][self._units] = np.frombuffer(row, dtype="u1")
            self._sets[layout.TRAFFIC].flush()

    def note(self, counts: str) -> None:
        """Keep what board and passport count now.

        Raises:
            RecordError: the file cannot be written.
        """
        try:
            self._put_texts({layout.COUNTS: counts})
        except _FAILURES as error:
            self._broken = True
            raise RecordError(f"{self.path} cannot be written: {_cause(error)}") from None

    def _failure(self, error: BaseException) -> RecordError:
        unit = self._units + 1
        return RecordError(f"unit {unit} cannot be recorded in {self.path}: {_cause(error)}")

    def _opened(self) -> h5py.File:
        if self._file is None:
            raise InputError(f"{self.path} is not open for writing")
        return self._file

    def _append(self, to: h5py.Dataset, item: npt.NDArray[np.generic]) -> None:
        to.resize(self._rows + len(item), axis=0)
        to[self._rows :] = item
        to.flush()

    def _room_of(self, name: str, item: npt.NDArray[np.generic]) -> int:
        """Bytes that these rows take at most: HDF5 makes room by whole chunks."""
        chunks = self._sets[name].chunks
        whole = len(item) // int(chunks[0]) + 2
        return whole * int(np.prod(chunks)) * item.itemsize

    def _make_room(self, n_bytes: int) -> None:
        try:
            self._reserve(n_bytes)
        except OSError as error:
            raise self._failure(error) from None

    def _reserve(self, n_bytes: int) -> None:
        """Set room aside on the disk, beyond what HDF5 uses; `_close` cuts it off."""
        file = self._opened()
        need = int(file.id.get_filesize()) + n_bytes + _MARGIN_BYTES
        if need > self._reserved and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.id.get_vfd_handle(), 0, need + _STEP_BYTES)
            self._reserved = need + _STEP_BYTES

    def _sync_at_times(self) -> None:
        if time.monotonic() - self._synced_s >= _SYNC_S:
            os.fsync(self._opened().id.get_vfd_handle())
            self._synced_s = time.monotonic()

    # ---- end --------------------------------------------------------------------------------

    def finish(self, status: str, reason: str = "", counts: str = "") -> None:
        """Say how the run ended, and close the file. Finishing twice does nothing.

        Args:
            status: "done", "interrupted" or "failed".
            reason: why.
            counts: what board and passport have counted; empty leaves what was noted last.

        Raises:
            RecordError: the file could not be closed; it holds what was committed all the same.
        """
        if self._file is None:
            return
        try:
            told = {layout.COUNTS: counts} if counts else {}
            told |= {layout.REASON: reason, layout.ENDED: now(), layout.STATUS: status}
            self._put_texts(told)
            os.fsync(self._file.id.get_vfd_handle())
            uncommitted = any(len(self._sets[name]) != self._rows for name in self._recorded())
            if self._broken:
                self._let_go()
                return
            self._close()
            if uncommitted:
                rewrite(RunFile(self.path))
        except _FAILURES as error:
            self._let_go()
            raise RecordError(f"{self.path} could not be closed: {_cause(error)}") from None

    def _close(self) -> None:
        file, self._file = self._file, None
        self._sets = {}
        if file is not None:
            os.ftruncate(file.id.get_vfd_handle(), int(file.id.get_filesize()))
            file.close()

    def _let_go(self) -> None:
        """Close a file that HDF5 cannot write: what it still wants to write goes nowhere.

        The file stays as a killed process leaves it, and HDF5 does not stumble over it at exit.
        """
        if self._file is None:
            return
        with tempfile.TemporaryFile() as nowhere:
            os.dup2(nowhere.fileno(), self._file.id.get_vfd_handle())
        with contextlib.suppress(*_FAILURES):  # the caller raises why it came to this
            self._close()

    def _recorded(self) -> tuple[str, ...]:
        return (layout.RECORD, *(column.name for column in self._columns))

    def _put_texts(self, texts: dict[str, str]) -> None:
        """Texts of the state, each cut to its place; places exist already, also on a full disk."""
        for name, text in texts.items():
            if name not in self._opened():
                continue  # a file of an earlier version
            dataset = self._opened()[name]
            room = dataset.dtype.itemsize
            dataset[()] = text.encode()[:room].decode(errors="ignore").encode()
            dataset.flush()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with contextlib.suppress(*([RecordError] if error else [])):  # the first is told
                self.finish(*(ending(error) if error else (FAILED, "ended without a word")))
        finally:
            self._lock.release()


def _running() -> dict[str, str]:
    """The state of a run that this process writes."""
    texts = {layout.WRITER: Process.this().text(), layout.STATUS: RUNNING}
    return {**texts, layout.REASON: "", layout.ENDED: ""}


# ---- files of killed processes ------------------------------------------------------------------


def repair(path: Path, force: bool = False) -> RunFile:
    """Make the file of a killed run one that every program opens; others are left as they are.

    Args:
        path: of the file.
        force: take a writer on another machine, which nobody here can ask, for dead.

    Raises:
        InputError: not a run file, or it is being written.
    """
    with RunWriter(path) as writer:
        writer.mend(force)
    return RunFile(path)


def _cause(error: BaseException) -> str:
    """What the system says, out of HDF5's long tale."""
    number = getattr(error, "errno", None)
    told = re.search(r"error message = '([^']*)'", str(error))
    if number or told:
        return os.strerror(number) if number else str(told and told[1])
    return " ".join(str(error).split())[:200]
