"""Whole copies of run files, put in their place: after a kill, and after rows of no use."""

from __future__ import annotations

import os
from pathlib import Path

import h5py

from rram_host.records import layout
from rram_host.records.run_file import RunFile


def left_open(path: Path) -> bool:
    """Whether the file says that a process writes it."""
    try:
        with h5py.File(path, "r", locking=False):
            return False
    except OSError:
        return True


def rewrite(run: RunFile) -> None:
    """Put a whole copy, with the committed records only, in the place of a run's file.

    Raises:
        OSError: it cannot be written.
    """
    temporary, state = beside(run.path), run.state
    try:
        texts = {layout.STATUS: state.status, layout.REASON: state.reason}
        texts |= {layout.ENDED: state.ended, layout.COUNTS: state.counts}
        texts |= {layout.WRITER: state.writer.text() if state.writer else ""}
        layout.lay_out(temporary, run.header, run.columns, texts, run.start())
        with layout.open_to_read(run.path) as old, h5py.File(temporary, "r+", locking=False) as new:
            for name in (layout.RECORD, *(column.name for column in run.columns)):
                new[name].resize(state.rows, axis=0)
                _copy(old[name], new[name], state.rows)
            if layout.TRAFFIC in old:  # a file of an earlier version has none
                new[layout.TRAFFIC][...] = old[layout.TRAFFIC][()]
            new[layout.COMMIT][...] = state.units, state.rows
        sync(temporary)
        temporary.replace(run.path)
    finally:
        temporary.unlink(missing_ok=True)


def _copy(old: h5py.Dataset, new: h5py.Dataset, rows: int) -> None:
    step = 64 * new.chunks[0]
    for first in range(0, rows, step):
        part = slice(first, min(first + step, rows))
        new[part] = old[part]


def beside(path: Path) -> Path:
    """Where this process makes a file before it puts it in its place."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def sweep(path: Path) -> None:
    """Remove what processes that were killed while they made this file have left."""
    for item in path.parent.iterdir():
        if item.name.startswith(f".{path.name}.") and item.suffix == ".tmp":
            item.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
