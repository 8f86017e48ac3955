"""replay:///FILE: a board that is a recording; what is done to it must be what was done then.

Reads are answered from the recording, and every access is compared with the recorded one: kind,
address and words. Compared is `firmware_bridge.traffic`: words, not how a link cut them into
transactions, so a recording made over one link replays for a host on any. A host may look at a
running program less often than was recorded, and gets the last answer at once; or more often, and
gets it again. Kicks of the watchdog and a bridge's own looks at STATUS are neither asked for nor
missed.

The first difference is a `LinkError`; every later access gets the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from firmware_bridge import microcode, registers
from firmware_bridge.contract import contract_hash
from firmware_bridge.recording import Recording
from firmware_bridge.traffic import READ, WRITE, Access, folded, is_kick, is_look, place
from rram_host.errors import ContractError, InputError, LinkError
from rram_host.transports.base import Words, checked_span, checked_words

_VERBS = {READ: "read", WRITE: "write"}


class ReplayTransport:
    """A `Transport` over a recording.

    Args:
        recording: to answer from.

    Raises:
        ContractError: it was made for another contract.
    """

    def __init__(self, recording: Recording) -> None:
        check_contract(recording)
        self._path = recording.path
        self._left: Iterator[Access] | None = folded(iter(recording))
        self._now: Access | None = None  # the recorded transaction at hand
        self._taken = 0  # words of it
        self._number = 0  # of the last one that began
        self._polled: Access | None = None
        self._difference = ""

    def read(self, address: int, count: int) -> Words:
        """The words that were read then.

        Raises:
            InputError: outside the window.
            LinkError: something else was done then, or the board failed then; or closed.
        """
        address, count = checked_span(address, count)
        self._check_open()
        polled = self._polled
        if polled is not None and polled.poll == (address, count):
            return polled.words.copy()
        words: Words = np.empty(count, np.uint32)
        done = 0
        while done < count:
            access = self._next(READ, address, done, count)
            self._fail_as(access)
            n = min(count - done, access.count - self._taken)
            words[done : done + n] = access.words[self._taken : self._taken + n]
            self._taken, done = self._taken + n, done + n
            self._polled = access if access.poll == (address, count) else None
        return words

    def write(self, address: int, words: Words) -> None:
        """Compare with what was written then.

        Raises:
            InputError: outside the window, or no 32-bit words.
            LinkError: something else was done then, or the board failed then; or closed.
        """
        words = checked_words(words)
        address, count = checked_span(address, words.size)
        self._check_open()
        done = 0
        while done < count and not is_kick(WRITE, address, count):
            access = self._next(WRITE, address, done, count)
            n = min(count - done, access.count - self._taken)
            there, here = access.words[self._taken : self._taken + n], words[done : done + n]
            if not np.array_equal(there, here):
                raise self._differs(_words_differ(access, self._taken, address, words, done))
            self._fail_as(access)
            self._taken, done = self._taken + n, done + n

    def close(self) -> None:
        """Let the recording go."""
        self._left = None

    @property
    def finished(self) -> bool:
        """Whether everything that was recorded has been done again."""
        return not self._difference and self._reach_for("", 0) is None

    # ---- where it stands --------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._difference:
            raise LinkError(self._difference)
        if self._left is None:
            raise LinkError("the recording has been closed")

    def _reach(self) -> Access | None:
        """The transaction that is not yet done; None at the end."""
        while self._now is None or self._taken == self._now.count:
            self._now, self._taken = next(self._left or iter(()), None), 0
            if self._now is None:
                return None
            self._number = self._now.number
        return self._now

    def _reach_for(self, kind: str, address: int) -> Access | None:
        """Likewise; but a bridge's own look at STATUS needs not be done again."""
        access = self._reach()
        while (
            access is not None
            and is_look(access.kind, access.address, access.count)
            and (kind, address) != (access.kind, access.address)
        ):
            self._taken = access.count
            access = self._reach()
        return access

    def _next(self, kind: str, address: int, done: int, count: int) -> Access:
        """The recorded transaction that this one is, or goes on with."""
        self._polled = None
        at = address + 4 * done
        access = self._reach_for(kind, at)
        if access is None:
            raise self._differs(
                f"the recording ends after transaction {self._number}; "
                f"here came {_told(kind, address, count, done)}"
            )
        if (access.kind, access.address + 4 * self._taken) != (kind, at):
            raise self._differs(
                f"transaction {access.number} differs: recorded is "
                f"{_told(access.kind, access.address, access.count, self._taken)}; "
                f"here came {_told(kind, address, count, done)}"
            )
        return access

    def _fail_as(self, access: Access) -> None:
        """Fail where the recorded transaction did."""
        if access.error:
            self._taken = access.count
            raise LinkError(f"{self._path}: transaction {access.number} failed: {access.error}")

    def _differs(self, text: str) -> LinkError:
        self._difference = f"{self._path}: {text}"
        return LinkError(self._difference)


def open_replay(url: str) -> ReplayTransport:
    """Open `replay:///FILE`, or `replay://./FILE`.

    Raises:
        InputError: no such file, or not a recording.
        ContractError: made for another contract.
    """
    path = url.partition("://")[2]
    if not path:
        raise InputError(f"{url} names no recording; expected replay:///path/run.jsonl")
    return ReplayTransport(Recording(Path(path)))


def check_contract(recording: Recording) -> None:
    """Refuse a recording that no host of this contract can repeat.

    Raises:
        ContractError: it was made for another one; says how it was made.
    """
    there, here = recording.text("contract"), f"{contract_hash():#010x}"
    if there != here:
        how = recording.text("command")
        raise ContractError(
            f"{recording.path} was made for another contract ({there}, this host has {here}): "
            "make it anew" + (f"; it was made by: {how}" if how else "")
        )


# ---- in words -----------------------------------------------------------------------------------


def _told(kind: str, address: int, count: int, done: int = 0) -> str:
    """Such as "a write of 12 words to PROGRAM, of which 10 were done"."""
    what = f"a {_VERBS[kind]} of {count} word{'s' if count > 1 else ''}"
    text = f"{what} {'at' if kind == READ else 'to'} {place(address)}"
    return f"{text}, of which {done} were done" if done else text


def _words_differ(access: Access, taken: int, address: int, words: Words, done: int) -> str:
    """First word of a write that differs: `access.words[taken:]` beside `words[done:]`."""
    there, here = access.words[taken:], words[done:]
    n = min(there.size, here.size)
    first = int(np.flatnonzero(there[:n] != here[:n])[0])
    where = place(address + 4 * (done + first))
    return (
        f"transaction {access.number} differs: in a write to {place(access.address)}, {where} is "
        f"{_shown(access.address, access.words, taken + first)} in the recording, "
        f"{_shown(address, words, done + first)} here"
    )


def _shown(address: int, words: Words, index: int) -> str:
    """A word; in a program with the instruction that it belongs to."""
    text = f"{int(words[index]):#010x}"
    program = registers.PROGRAM
    if not program.offset <= address < program.end:
        return text
    return f"{text} ({_instruction(words, index)})"


def _instruction(words: Words, index: int) -> str:
    """The instruction around a word of a program, as far as the words before it can be read."""
    at = 0
    try:
        while True:
            found = microcode.decode_one(words, at)
            if index <= at + len(found.data):
                return " ".join(str(found).split())
            at += 1 + len(found.data)
    except (InputError, IndexError):
        return "no instruction"
