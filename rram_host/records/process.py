"""Which process writes a run, and whether it still lives."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

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
