"""Which process writes a run, and whether it still lives; one writer a file."""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from rram_host.errors import InputError

if sys.platform != "win32":
    import fcntl

_SAME_START_S = 5.0  # as told by a clock that may have been set meanwhile


@dataclass(frozen=True)
class Process:
    """A process, told apart from a later one of the same number.

    Attributes:
        pid: its number.
        started_s: when it began, seconds since 1970.
        host: name of its machine.
        boot: of the machine since it was switched on; empty where the system does not say.
    """

    pid: int
    started_s: float
    host: str
    boot: str

    @staticmethod
    def this() -> Process:
        """The process that asks."""
        pid = os.getpid()
        return Process(pid, psutil.Process(pid).create_time(), socket.gethostname(), _boot())

    @staticmethod
    def of_text(text: str) -> Process | None:
        """The inverse of `text`; None where it is none."""
        try:
            return Process(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def text(self) -> str:
        """For a file."""
        return json.dumps(asdict(self))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def elsewhere(self) -> bool:
        """On another machine, where nobody here can look."""
        return self.host != socket.gethostname() and self.boot != _boot()

    @property
    def alive(self) -> bool:
        """Whether it still runs; True for one that is `elsewhere`."""
        if self.elsewhere:
            return True
        if self.boot != _boot():
            return False
        try:
            found = psutil.Process(self.pid)
            ended = found.status() == psutil.STATUS_ZOMBIE
            return not ended and abs(found.create_time() - self.started_s) < _SAME_START_S
        except psutil.NoSuchProcess:
            return False


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Claim:
    """The right to write a file, kept by a locked file beside it.

    The system gives the lock back when the process ends, however it ends.

    Raises:
        InputError: somebody else has it, or the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f".{path.name}.lock")
        self._lock: int | None = None
        while self._lock is None:
            self._lock = self._locked(path)

    def _locked(self, path: Path) -> int | None:
        """A locked descriptor; None where the lock file went away meanwhile."""
        try:
            lock = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(f"cannot write into {path.parent}: {error.strerror}") from None
        if sys.platform == "win32":  # no flock: a live writer is still known by its number
            return lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), self._path.stat()):
                return lock
        except BlockingIOError:
            os.close(lock)
            raise InputError(f"{path} is being written by another process") from None
        except FileNotFoundError:
            pass
        os.close(lock)
        return None

    def release(self) -> None:
        """Let others write. Releasing twice does nothing."""
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        if sys.platform != "win32":  # unlinked while locked: who waits for it looks again
            self._path.unlink(missing_ok=True)
        os.close(lock)
