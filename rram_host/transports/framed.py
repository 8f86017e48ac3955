"""A register window at the far end of a byte stream.

Every request carries a random session number and a sequence number; the agent at the other end
executes each exactly once and in order (firmware_bridge.agent). So a request without an answer can
be sent again without fear: a lost reply never pulses a cell twice. Long transfers travel as several
frames, a few of them on their way at a time.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from firmware_bridge import auth
from firmware_bridge.frames import (
    MAX_IN_FLIGHT,
    MAX_WORDS,
    PROTOCOL,
    ErrorCode,
    Frame,
    FrameDecoder,
    Kind,
    Payload,
    encode,
    payload_of,
)
from rram_host.errors import ContractError, InputError, LinkError, ReadOnlyLinkError
from rram_host.transports.base import Words, Writes, checked_span, checked_words
from rram_host.transports.flight import Flight

_Part = tuple[Kind, int, int, Payload]
_NOTHING = np.empty(0, np.uint32)
_BULK_WORDS = 64  # below, stuffing costs less than a second check sum
_TOGETHER_BYTES = 1 << 12
_LAST_SEQUENCE = (1 << 32) - 1
_PROOFS = 4  # how often a key is shown: a demand that was repeated on the way may come late


class Stream(Protocol):
    """Bytes to and from the board; every method raises `LinkError` where the line is dead."""

    def write(self, data: bytes) -> None:
        """Send all bytes."""
        ...

    def read(self, timeout_s: float) -> bytes:
        """Return bytes as soon as some are there; b"" after `timeout_s` without any."""
        ...

    def close(self) -> None:
        """Give the line back."""
        ...


@dataclass(frozen=True)
class LinkSettings:
    """How patient a link is.

    Attributes:
        timeout_s: silence after which a request is given up. Generous, because an emulated board
            answers a START only when the program is through.
        connect_s: the same for the first request, where silence means a wrong port.
        resend_s: silence after which a request is sent again; doubles every time.
        in_flight: frames on their way at a time.
        frame_words: words a frame carries at most.
        bytes_per_s: speed of the line, which adds to all of the above.
        bulk: long payloads travel as they are, unstuffed: for links that lose nothing.

    Raises:
        InputError: a time that is not positive, or a count outside what an agent takes.
    """

    timeout_s: float = 30.0
    connect_s: float = 5.0
    resend_s: float = 0.5
    in_flight: int = 4
    frame_words: int = 1 << 14
    bytes_per_s: float = math.inf
    bulk: bool = False

    def lossless(self) -> LinkSettings:
        """The same for a link that loses nothing: large frames as they are, many at a time."""
        return replace(self, bulk=True, in_flight=MAX_IN_FLIGHT, frame_words=MAX_WORDS)

    def __post_init__(self) -> None:
        """Check every number against its limits."""
        for name in ("timeout_s", "connect_s", "resend_s", "bytes_per_s"):
            value = getattr(self, name)
            if not value > 0 or (math.isinf(value) and name != "bytes_per_s"):
                raise InputError(f"link: {name} = {value} must be positive and finite")
        for name, top in (("in_flight", MAX_IN_FLIGHT), ("frame_words", MAX_WORDS)):
            if not 1 <= getattr(self, name) <= top:
                raise InputError(f"link: {name} = {getattr(self, name)} is outside 1..{top}")


def _demand(reply: Frame) -> bytes | None:
    """The nonce that a bridge wants its key proved with; None where it wants no proof."""
    if reply.kind is not Kind.ERROR:
        return None
    code, text = reply.reason()
    return auth.nonce_in(text) if code == ErrorCode.AUTH else None


class FramedTransport:
    """A `Transport` over frames on a byte stream.

    Args:
        stream: the line; closed by `close`.
        name: what to call it in messages, normally its URL.
        settings: patience and sizes.
        clock: seconds, monotonic.
        draw_session: draws a session number, 32 bits.
        key: shown to a bridge that demands one; it does not travel itself.

    Attributes:
        resent: requests that were sent more than once.
        strays: frames that came and answered nothing that was asked.
    """

    def __init__(
        self,
        stream: Stream,
        name: str = "link",
        settings: LinkSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        draw_session: Callable[[], int] = lambda: secrets.randbits(32),
        key: bytes | None = None,
    ) -> None:
        self._stream, self._name, self._clock = stream, name, clock
        self._settings = settings or LinkSettings()
        self._draw_session, self._key = draw_session, key
        self._decoder = FrameDecoder()
        self._session: int | None = None
        self._sequence = 0
        self._received: list[Frame] = []
        self.resent = self.strays = 0

    # ---- Transport --------------------------------------------------------------------------

    def connect(self) -> None:
        """Open a session with the agent, unless one is open; touches no register.

        Raises:
            InputError: the bridge demands a key, and there is none, or another.
            LinkError: nobody answers.
            ContractError: the bridge speaks another protocol.
        """
        self._connected()

    def read(self, address: int, count: int) -> Words:
        """Read `count` words from consecutive addresses.

        Raises:
            InputError: outside the window, or refused by the board.
            LinkError: no answer; or the board failed, with its own words.
        """
        return self.write_then_read((), address, count)

    def write(self, address: int, words: Words) -> None:
        """Write words to consecutive addresses; returns when the board has taken them all.

        Raises:
            InputError: outside the window, no 32-bit words, or refused by the board.
            LinkError: no answer, and then it is unknown which of the words were taken; or the
                board failed, with its own words.
        """
        self._transfer(self._write_parts(address, words))

    def write_then_read(self, writes: Writes, address: int, count: int) -> Words:
        """Write, and write, and read, in this order, without waiting in between.

        Nothing is done behind what was not done.

        Raises:
            InputError: outside the window, no 32-bit words, or refused by the board.
            LinkError: no answer, and then it is unknown how far the board has come; or the board
                failed, with its own words.
        """
        parts = [part for at, words in writes for part in self._write_parts(at, words)]
        written = len(parts)
        address, count = checked_span(address, count)
        parts += [(Kind.READ, at, n, b"") for at, n in self._spans(address, count)]
        found = [reply.words for reply in self._transfer(parts)[written:]]
        return found[0].copy() if len(found) == 1 else np.concatenate([_NOTHING, *found])

    def _write_parts(self, address: int, words: Words) -> list[_Part]:
        words = checked_words(words)
        address, count = checked_span(address, words.size)
        data = payload_of(words)
        return [
            (Kind.WRITE, at, n, data[at - address : at - address + 4 * n])
            for at, n in self._spans(address, count)
        ]

    def close(self) -> None:
        """Give the line back."""
        self._session = None
        self._stream.close()

    # ---- requests ---------------------------------------------------------------------------

    def _connected(self) -> int:
        if self._session is None:
            session = self._draw_session()
            self._sequence = self._hello(session)
            self._session = session
        return self._session

    def _hello(self, session: int) -> int:
        """Open a session, proving the key where one is demanded; sequence of its first request."""
        hello = Frame(Kind.READ, session, 0, 0, 0)
        for _ in range(_PROOFS):
            (reply,) = self._exchange([hello], self._settings.connect_s)
            nonce = _demand(reply)
            if nonce is None:
                break
            self._prove(session, nonce)
        self._raise_first_error([reply])
        return int(reply.words[0])

    def _prove(self, session: int, nonce: bytes) -> None:
        if self._key is None:
            raise InputError(
                f"{self._name}: the bridge demands a key: give its file, key=FILE in the URL"
            )
        digest = auth.frames_digest(self._key, nonce, session)
        proof = Frame(Kind.AUTH, session, 0, 0, len(digest) // 4, digest)
        self._raise_first_error(self._exchange([proof], self._settings.connect_s))

    def _in_bulk(self, count: int) -> bool:
        return self._settings.bulk and count >= _BULK_WORDS

    def _is_last(self, index: int, count: int) -> bool:
        """Of a transfer, or of as many as may be on their way at a time."""
        return index + 1 == count or (index + 1) % self._settings.in_flight == 0

    def _spans(self, address: int, count: int) -> list[tuple[int, int]]:
        size = self._settings.frame_words
        return [(address + 4 * i, min(size, count - i)) for i in range(0, count, size)]

    def _transfer(self, parts: Sequence[_Part]) -> list[Frame]:
        if self._sequence + len(parts) > _LAST_SEQUENCE:
            self._session = None
        session = self._connected()
        try:
            first = self._sequence
            self._sequence += len(parts)
            requests = [
                Frame(
                    *(kind, session, sequence, address, count, payload),
                    bulk=self._in_bulk(count),
                    chained=sequence > first,
                    quiet=kind is Kind.WRITE and not self._is_last(sequence - first, len(parts)),
                )
                for sequence, (kind, address, count, payload) in enumerate(parts, first)
            ]
            replies = self._exchange(requests, self._settings.timeout_s)
            self._raise_first_error(replies)
        except InputError:
            raise
        except BaseException:
            # What was under way may or may not have been executed. It is never sent again: the
            # next request opens a new session.
            self._session = None
            raise
        return replies

    def _raise_first_error(self, replies: Sequence[Frame]) -> None:
        for reply in replies:
            if reply.kind is Kind.ERROR:
                code, text = reply.reason()
                if code == ErrorCode.REFUSED:
                    raise InputError(f"{self._name}: refused: {text}")
                if code == ErrorCode.VERSION:
                    raise ContractError(f"{self._name}: {text}")
                if code == ErrorCode.AUTH and _demand(reply) is None:
                    raise InputError(f"{self._name}: the bridge does not take this key: {text}")
                if code == ErrorCode.AUTH:
                    raise LinkError(f"{self._name}: the bridge asks for its key once more")
                if code == ErrorCode.READONLY:
                    raise ReadOnlyLinkError(f"{self._name}: this host may not write now: {text}")
                raise LinkError(f"{self._name}: the bridge answered: {text}")

    # ---- sending, and sending again ---------------------------------------------------------

    def _exchange(self, requests: Sequence[Frame], limit_s: float) -> list[Frame]:
        """Send requests and collect their answers, in order."""
        flight = Flight(requests, self._settings.in_flight)
        heard_s, tries = self._clock(), 0
        while not flight.done:
            self._send(flight.next_to_send())
            waiting = flight.waiting()
            line_s = sum(request.wire_bytes for request in waiting) / self._settings.bytes_per_s
            now = self._clock()
            give_up = heard_s + limit_s + 2 * line_s
            if now >= give_up:
                raise LinkError(self._silence(waiting[0], now - heard_s, tries))
            patience_s = self._settings.resend_s * 2**tries + 2 * line_s
            if self._hear(flight, min(now + patience_s, give_up)):
                heard_s, tries = self._clock(), 0
            elif self._clock() < give_up:
                tries += 1
                if self._decoder.wanting:  # begun in bulk, and does not go on
                    self._decoder.give_up()
                self.resent += len(waiting)
                self._send(waiting)
        return [reply for reply in flight.replies if reply is not None]

    def _send(self, requests: Sequence[Frame]) -> None:
        # Each call wakes the bridge, so small frames go together; but what is long is worked on
        # there while the next is made here, and a lossy line shall lose one frame at a time.
        least = _TOGETHER_BYTES if self._settings.bulk else 1
        held = b""
        for request in requests:
            held += encode(request)
            if len(held) >= least:
                self._stream.write(held)
                held = b""
        if held:
            self._stream.write(held)

    def _hear(self, flight: Flight, until: float) -> bool:
        """Listen until an answer came (True), or the time is over (False)."""
        while True:
            while self._received:
                frame = self._received.pop(0)
                if flight.accept(frame):
                    if frame.version != PROTOCOL:
                        raise ContractError(self._other_protocol(frame))
                    return True
                self.strays += 1
            left_s = until - self._clock()
            if left_s <= 0:
                return False
            self._received = self._decoder.feed(self._stream.read(left_s))

    def _other_protocol(self, frame: Frame) -> str:
        return f"{self._name}: the bridge speaks protocol {frame.version}, this host {PROTOCOL}"

    def _silence(self, request: Frame, silent_s: float, tries: int) -> str:
        what = f"{request.kind.name.lower()} of {request.count} words at {request.address:#x}"
        if request.is_hello:
            return (
                f"{self._name}: nothing answers (silent for {silent_s:.1f} s, asked "
                f"{tries + 1} times): is the bridge running there, and the speed right?"
            )
        return (
            f"{self._name}: no answer to a {what} for {silent_s:.1f} s, sent {tries + 1} times; "
            "whether the board has executed it is unknown"
        )
