"""Where a run can be recorded, found out before the first pulse."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

from rram_host.errors import InputError
from rram_host.records.run_file import RunFile
from rram_host.records.status import DONE, RUNNING

RESERVE_BYTES = 4 << 20  # must be free to begin


def check_place(path: Path) -> None:
    """Find out before the first pulse whether a new run can be recorded here.

    Raises:
        InputError: no such folder, no right to write, no room, or the file exists.
    """
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"cannot record into {path}: there is no folder {folder}")
    if path.exists():
        raise _taken(path)
    trial = path.with_name(f".{path.name}.{os.getpid()}.room.tmp")
    try:
        _fill(trial)
    except OSError as error:
        raise InputError(f"cannot record into {path}: {_why(error, folder)}") from None
    finally:
        with contextlib.suppress(OSError):
            trial.unlink(missing_ok=True)


def _why(error: OSError, folder: Path) -> str:
    if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return str(error.strerror)
    free = shutil.disk_usage(folder).free
    return (
        f"{error.strerror}: {RESERVE_BYTES / 1e6:.1f} MB are needed to begin, the disk of {folder} "
        f"has {free / 1e6:.1f} MB free"
    )


def _fill(trial: Path) -> None:
    with trial.open("wb") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, RESERVE_BYTES)
        else:
            stream.write(bytes(RESERVE_BYTES))


def _taken(path: Path) -> InputError:
    try:
        run = RunFile(path)
    except InputError:
        return InputError(f"{path} exists and is not a run file; it is left as it is")
    what, writer = f"{path} holds a run of {run.header.experiment}", run.state.writer
    if run.state.status == RUNNING:
        return InputError(f"{what} that {writer or 'another process'} is writing")
    if run.state.status == DONE:
        return InputError(f"{what}, which is done: record into another file")
    return InputError(f"{what}, {run.state.text}: resume it or record into another file")
