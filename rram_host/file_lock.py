"""One writer a file: a locked file beside it, which the system unlocks when its process ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rram_host.errors import InputError

if sys.platform != "win32":
    import fcntl


class FileLock:
    """The right to write a file, kept by a locked file beside it.

    The system gives the lock back when the process ends, however it ends. Where there is no
    `flock` (Windows) nobody is kept out: what others write has to be noticed otherwise.

    Args:
        path: of the file to be written; it need not exist, its folder must.
        named: what messages call the file.
        busy: message where somebody else has the lock, this process by another object included.
    """

    def __init__(self, path: Path, named: str, busy: str) -> None:
        self._path = path.with_name(f".{path.name}.lock")
        self._named, self._busy = named, busy
        self._lock: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object has the lock."""
        return self._lock is not None

    def take(self) -> None:
        """Lock, at once or not at all.

        Raises:
            InputError: it is taken, by this object too, or the folder cannot be written.
        """
        if self.held:
            raise InputError(self._busy)
        while self._lock is None:
            self._lock = self._locked()

    def _locked(self) -> int | None:
        """A locked descriptor; None where the lock file went away meanwhile."""
        try:
            lock = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            folder = self._path.parent
            raise InputError(
                f"{self._named}: cannot write into {folder}: {error.strerror}"
            ) from None
        if sys.platform == "win32":
            return lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), self._path.stat()):
                return lock
        except BlockingIOError:
            os.close(lock)
            raise InputError(self._busy) from None
        except FileNotFoundError:
            pass
        os.close(lock)
        return None

    def release(self) -> None:
        """Let others write. Releasing twice does nothing."""
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        if sys.platform != "win32":  # unlinked while it is locked: who waits for it looks again
            self._path.unlink(missing_ok=True)
        os.close(lock)
