"""Register traffic as one form of it: for recordings, their replay, and digests of runs.

Two hosts have done the same to a board when these agree, word by word: read or written, address,
word. How words are cut into transactions is left out: a link may carry a long transfer in pieces.
How often a running program was looked at depends on clocks and links, so of a run of identical
polls (reads that begin at STATUS) only the last counts. Writes to KICK, which only restart the
watchdog, do not count at all, nor do looks at STATUS alone, which a bridge takes by itself when a
client leaves.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge import registers

Words = npt.NDArray[np.uint32]

READ, WRITE, RESTORE = "r", "w", "restore"
DIGEST_BYTES = 16
_STATUS = registers.offset("STATUS")
_KICK = registers.offset("KICK")
_NAMES = {register.offset: register.name for register in registers.REGISTERS}


@dataclass(frozen=True)
class Access:
    """One transaction with the register window, as it was recorded.

    Attributes:
        number: 1 for the first of a recording.
        kind: READ, WRITE, or RESTORE (an emulated board was put back to a snapshot).
        address: byte offset.
        count: words.
        words: those read or written, (count,); none of a read that failed.
        t_s: seconds since the recording began.
        error: why it failed; empty where it did not.
    """

    number: int
    kind: str
    address: int
    count: int
    words: Words
    t_s: float = 0.0
    error: str = ""

    @property
    def poll(self) -> tuple[int, int] | None:
        """Address and count of a look at a running program; None for anything else."""
        is_poll = self.kind == READ and self.address == _STATUS and not self.error
        return (self.address, self.count) if is_poll else None


def is_kick(kind: str, address: int, count: int) -> bool:
    """Whether this only restarts the watchdog."""
    return kind == WRITE and address == _KICK and count == 1


def place(address: int) -> str:
    """Name of what lies at a byte offset; words of a memory by their index.

    >>> place(0x18), place(0x1000C), place(0x7FFFC)
    ('STATUS', 'PROGRAM[3]', '0x7fffc')
    """
    for memory in registers.MEMORIES:
        if memory.offset <= address < memory.end:
            index = (address - memory.offset) // 4
            return f"{memory.name}[{index}]" if index else memory.name
    return _NAMES.get(address, f"{address:#x}")


def is_look(kind: str, address: int, count: int) -> bool:
    """Whether this is a look at STATUS and at nothing else."""
    return kind == READ and address == _STATUS and count == 1


def folded(accesses: Iterable[Access]) -> Iterator[Access]:
    """Without kicks, and of every run of polls the last of each kind."""
    held: dict[tuple[int, int], Access] = {}
    for access in accesses:
        if is_kick(access.kind, access.address, access.count):
            continue
        if access.poll is not None:
            held[access.poll] = access
            continue
        yield from held.values()
        held.clear()
        yield access
    yield from held.values()


class TrafficDigest:
    """A chain of digests, one a unit of work: equal chains mean equal traffic up to there.

    d_n = first 16 bytes of SHA-256(d_(n-1) || traffic of unit n), d_0 = 0.

    Args:
        before: digest after the units that came before; None where it is not known. Then the
            digests of all later units are not known either.

    >>> whole, pieces = TrafficDigest(), TrafficDigest()
    >>> whole.note("w", 0x10000, np.array([7, 8], np.uint32))
    >>> pieces.note("w", 0x10000, np.array([7], np.uint32))
    >>> pieces.note("w", 0x10004, np.array([8], np.uint32))
    >>> whole.end_unit() == pieces.end_unit()
    True
    """

    def __init__(self, before: bytes | None = bytes(DIGEST_BYTES)) -> None:
        self._before = before
        self._begin()

    def _begin(self) -> None:
        self._hash = hashlib.sha256(self._before or b"")
        self._next: tuple[str, int] | None = None  # kind and address that would go on
        self._count = 0
        self._poll: tuple[int, Words] | None = None

    def note(self, kind: str, address: int, words: Words) -> None:
        """Take one transaction."""
        transfer = kind, address, words.size
        if not words.size or is_kick(*transfer) or is_look(*transfer):
            return
        if self._poll is not None:
            at, last = self._poll
            self._poll = None
            if (READ, at, last.size) != transfer:
                self._put(READ, at, last)
        if kind == READ and address == _STATUS:
            self._poll = address, words
        else:
            self._put(kind, address, words)

    def _put(self, kind: str, address: int, words: Words) -> None:
        if self._next != (kind, address):
            self._close()
            self._hash.update(struct.pack("<1sQ", kind.encode(), address))
        self._hash.update(words.astype("<u4", copy=False).tobytes())
        self._count += words.size
        self._next = kind, address + 4 * words.size

    def _close(self) -> None:
        """End a row of words; their number keeps two rows from looking like another two."""
        if self._next is not None:
            self._hash.update(struct.pack("<Q", self._count))
        self._next, self._count = None, 0

    def end_unit(self) -> bytes | None:
        """Digest after this unit; None where that before it was not known."""
        if self._poll is not None:
            self._put(READ, *self._poll)
        self._close()
        if self._before is not None:
            self._before = self._hash.digest()[:DIGEST_BYTES]
        self._begin()
        return self._before
