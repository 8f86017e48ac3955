"""Links that somebody listens to: for a while (`Tap`), or from the start (`recorded`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from firmware_bridge.recording import Recorder
from firmware_bridge.traffic import READ, WRITE
from rram_host.transports.base import Snapshots, Transport, Words, Writes, write_then_read

# Called with READ or WRITE, the address and the words, after the board has done it.
Listener = Callable[[str, int, Words], None]


class Tap:
    """A `Transport` that passes everything on, and tells a listener, if there is one.

    Args:
        link: to pass on to.

    Attributes:
        listener: is told of every transaction; None for nobody.
    """

    def __init__(self, link: Transport) -> None:
        self._link = link
        self.listener: Listener | None = None

    def read(self, address: int, count: int) -> Words:
        """Read `count` words from consecutive addresses."""
        words = self._link.read(address, count)
        if self.listener is not None:
            self.listener(READ, address, words)
        return words

    def write(self, address: int, words: Words) -> None:
        """Write words to consecutive addresses."""
        self._link.write(address, words)
        if self.listener is not None:
            self.listener(WRITE, address, words)

    def write_then_read(self, writes: Writes, address: int, count: int) -> Words:
        """Write, and write, and read, in this order."""
        found = write_then_read(self._link, writes, address, count)
        if self.listener is not None:
            for at, words in writes:
                self.listener(WRITE, at, words)
            self.listener(READ, address, found)
        return found

    def close(self) -> None:
        """Give the link back."""
        self._link.close()


class SnapshotRecorder(Recorder):
    """A recorder of an emulated board: what can be put back still can.

    A recording from which the board was put back in between holds that it was, not to what.
    """

    def snapshot(self) -> bytes:
        """All that decides the future of the board."""
        return self._emulated.snapshot()

    def restore(self, blob: bytes) -> None:
        """Take over a snapshot."""
        self._emulated.restore(blob)
        self.note_restored(blob)

    @property
    def _emulated(self) -> Snapshots:
        if not isinstance(self._window, Snapshots):
            raise TypeError("only a board that takes snapshots is recorded by this")
        return self._window


def recorded(link: Transport, path: Path | str, board: str, spec: str) -> Recorder:
    """The same link, with every transaction recorded in a new file.

    Args:
        link: closed with the recording.
        path: of the file.
        board: URL of the board, for the file's first line.
        spec: name of the board file, likewise.

    Raises:
        InputError: the file exists, or cannot be made.
    """
    kind = SnapshotRecorder if isinstance(link, Snapshots) else Recorder
    return kind(link, path, board, spec)
