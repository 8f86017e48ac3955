"""Frames on a byte stream: bytes <-> frames, without any I/O.

On the wire a frame is `0x00 | COBS(header + payload + CRC-32) | 0x00`. COBS removes every zero from
what it encodes, so a zero is always a border between frames: whatever was lost or damaged, reading
starts again at the next one. All numbers are little-endian.

======  =====  ===========================================================
offset  bytes  header field
======  =====  ===========================================================
0       1      protocol version, `PROTOCOL`
1       1      kind: 1 read, 2 write, 3 reply, 4 error reply, 5 proof of a key
2       2      flags: bit 8 bulk, bit 9 chained, bit 10 quiet, others zero
4       4      session: random number drawn by the host
8       4      sequence: 0 opens the session, then from what the bridge drew, one more each request
12      4      byte address in the register window
16      4      count of 32-bit words
======  =====  ===========================================================

The payload is `count` words in a write and in the reply to a read, a code word and UTF-8 text in an
error reply, 8 words in a proof (firmware_bridge.auth), one word in the reply to the hello, which is
the sequence of the session's first request, and empty otherwise. A reply echoes session, sequence,
address and count.

Bulk, on links that lose nothing by themselves (TCP, HiSLIP): the payload of a write, or of the
reply to a read that asks for it, follows the closing border as it is, with a CRC-32 of its own.
Stuffing would cost more there than all the rest. What is begun is waited for; who hears nothing for
a while gives it up (`FrameDecoder.give_up`).

Chained requests are sent before those in front of them are answered. Each is done only if the one
before it was: a START never follows an upload that was refused. So the answer to one says that all
before it were done, and quiet ones are answered only where they were not.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from firmware_bridge.cobs import BLOCK, cobs_decode, cobs_encode
from firmware_bridge.errors import InputError

PROTOCOL = 1
MAX_WORDS = 1 << 17  # 512 KiB: 4096 input vectors of 32 codes are one frame
MAX_IN_FLIGHT = 8  # unanswered requests of a session; an agent remembers as many replies
MAX_TEXT_BYTES = 1024

_HEADER = struct.Struct("<BBHIIII")
_CRC_BYTES = 4
_BULK, _CHAINED, _QUIET = 1 << 8, 1 << 9, 1 << 10
_MAX_RAW = _HEADER.size + 4 * MAX_WORDS + _CRC_BYTES
MAX_ENCODED = _MAX_RAW + _MAX_RAW // BLOCK + 1
_UINT32 = 1 << 32

Words = npt.NDArray[np.uint32]
Payload = bytes | memoryview  # what is long is not copied where it need not be


class Kind(IntEnum):
    """What a frame is."""

    READ = 1
    WRITE = 2
    REPLY = 3
    ERROR = 4
    AUTH = 5  # proves that the host holds the bridge's key; sequence 0, count 8


REQUESTS = frozenset({Kind.READ, Kind.WRITE})
_KINDS = frozenset(int(kind) for kind in Kind)


class ErrorCode(IntEnum):
    """Why a request was not done (first word of an error reply)."""

    REFUSED = 1  # the request is wrong: address, count, payload
    BOARD = 2  # the register window failed
    VERSION = 3  # the two sides speak different protocols
    SESSION = 4  # not a session that this agent knows
    ORDER = 5  # not the next request of its session; send the missing one first
    AUTH = 6  # the bridge demands its key; the text holds what to prove it with
    READONLY = 7  # another client writes, or has written since; the text names it
    SKIPPED = 8  # chained to a request that was not done


# ---- frames ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """One request or reply; see the module for the fields.

    Raises:
        InputError: a number does not fit its field, or the payload is not whole words of at most
            `MAX_WORDS`.
    """

    kind: Kind
    session: int
    sequence: int
    address: int
    count: int
    payload: Payload = b""
    version: int = PROTOCOL
    bulk: bool = False
    chained: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        """Refuse what does not fit the wire."""
        if not 0 <= self.session | self.sequence | self.address | self.count < _UINT32:
            for name in ("session", "sequence", "address", "count"):
                if not 0 <= getattr(self, name) < _UINT32:
                    raise InputError(f"frame: {name} {getattr(self, name)} is not a 32-bit number")
        if len(self.payload) % 4 or len(self.payload) > 4 * MAX_WORDS:
            raise InputError(
                f"frame: payload of {len(self.payload)} bytes; the limit is {MAX_WORDS} whole "
                "32-bit words"
            )

    @property
    def words(self) -> Words:
        """The payload as words; read-only."""
        return np.frombuffer(self.payload, dtype="<u4")

    @property
    def is_hello(self) -> bool:
        """Opens a session: sequence 0 and touches nothing, so that a stray copy does no harm."""
        return self.kind is Kind.READ and self.sequence == 0 and self.count == 0

    @property
    def wire_bytes(self) -> int:
        """Bytes on the wire, both ways together, of this request and its reply, about."""
        return 2 * (_HEADER.size + _CRC_BYTES + 4) + 4 * self.count

    def reply(self, words: Words | None = None) -> Frame:
        """The answer to this request, with the words that it read."""
        return self._answer(Kind.REPLY, b"" if words is None else payload_of(words))

    def error(self, code: ErrorCode, text: str) -> Frame:
        """The answer to a request that was not done, with the reason for people."""
        raw = text.encode()[:MAX_TEXT_BYTES]
        raw += b"\0" * (-len(raw) % 4)
        return self._answer(Kind.ERROR, struct.pack("<I", code) + raw)

    def _answer(self, kind: Kind, payload: Payload) -> Frame:
        bulk = self.bulk and self.kind is Kind.READ and kind is Kind.REPLY
        return Frame(
            kind, self.session, self.sequence, self.address, self.count, payload, bulk=bulk
        )

    @property
    def outside_bytes(self) -> int:
        """Bytes that follow the closing border: a payload in bulk, with its checksum."""
        outside = self.bulk and self.kind in (Kind.WRITE, Kind.REPLY) and self.count > 0
        return 4 * self.count + _CRC_BYTES if outside else 0

    def reason(self) -> tuple[int, str]:
        """Code and text of an error reply.

        Raises:
            InputError: this is no error reply.
        """
        if self.kind is not Kind.ERROR or len(self.payload) < 4:
            raise InputError(f"{self.kind.name} frame of {len(self.payload)} bytes gives no reason")
        text = bytes(self.payload[4:]).rstrip(b"\0").decode(errors="replace")
        return int(self.words[0]), text

    def answers(self, request: Frame) -> bool:
        """True where this is a well-formed reply to `request` and to no other."""
        mine = (self.session, self.sequence, self.address, self.count)
        if mine != (request.session, request.sequence, request.address, request.count):
            return False
        if self.kind is Kind.ERROR:
            return len(self.payload) >= 4
        expected = 4 * request.count if request.kind is Kind.READ else 0
        expected = 4 if request.is_hello else expected
        return self.kind is Kind.REPLY and len(self.payload) == expected


def encode(frame: Frame) -> bytes:
    """Bytes of a frame on the wire, with both borders."""
    header = _HEADER.pack(
        frame.version,
        frame.kind,
        _BULK * frame.bulk | _CHAINED * frame.chained | _QUIET * frame.quiet,
        frame.session,
        frame.sequence,
        frame.address,
        frame.count,
    )
    inside = b"" if frame.outside_bytes else bytes(frame.payload)
    wire = b"\0" + cobs_encode(_checked(header + inside)) + b"\0"
    return b"".join((wire, frame.payload, _crc(frame.payload))) if frame.outside_bytes else wire


def payload_of(words: Words) -> Payload:
    """Words as they travel; looks at the array where that is so in memory, too."""
    return np.ascontiguousarray(words, dtype="<u4").data.cast("B") if words.size else b""


def _crc(data: Payload) -> bytes:
    return zlib.crc32(data).to_bytes(_CRC_BYTES, "little")


def _checked(body: bytes) -> bytes:
    return body + _crc(body)


def decode(encoded: bytes) -> Frame:
    """The frame between two borders; of one in bulk, without its payload.

    Raises:
        InputError: not COBS, too short, checksum wrong, unknown kind or flag, or too much in bulk.
    """
    raw = cobs_decode(encoded)
    if len(raw) < _HEADER.size + _CRC_BYTES:
        raise InputError(f"{len(raw)} bytes are too few for a frame")
    body, crc = raw[:-_CRC_BYTES], raw[-_CRC_BYTES:]
    if zlib.crc32(body) != int.from_bytes(crc, "little"):
        raise InputError(f"checksum of a frame of {len(raw)} bytes is wrong")
    version, kind, flags, session, sequence, address, count = _HEADER.unpack_from(body)
    if kind not in _KINDS:
        raise InputError(f"no frame is of kind {kind}")
    bulk, chained = bool(flags & _BULK), bool(flags & _CHAINED)
    if flags & ~(_BULK | _CHAINED | _QUIET) or (bulk and count > MAX_WORDS):
        raise InputError(f"no frame has flags {flags:#06x} with a count of {count}")
    payload = body[_HEADER.size :]
    numbers = (session, sequence, address, count)
    return Frame(Kind(kind), *numbers, payload, version, bulk, chained, bool(flags & _QUIET))


class FrameDecoder:
    """Cuts a byte stream into frames; drops and counts what is none.

    Holds at most one frame of the largest size, whatever arrives.

    Attributes:
        dropped: pieces between borders that were no frame, and payloads in bulk that were damaged.
        wanting: bytes that are still to come of a payload in bulk.
    """

    def __init__(self) -> None:
        self._partial = bytearray()
        self._skipping = False
        self._head: Frame | None = None
        self.wanting = 0
        self.dropped = 0

    def feed(self, data: bytes, at: int = 0, end: int | None = None) -> list[Frame]:
        """Take bytes as they come, from `at` to `end`; the frames that they complete, in order."""
        found: list[Frame] = []
        end = len(data) if end is None else end
        while at < end:
            step = self._collect if self.wanting else self._scan
            at, frame = step(data, at, end)
            if frame is not None:
                found.append(frame)
        return found

    def give_up(self) -> None:
        """Forget what is unfinished: nothing more comes of it."""
        self.dropped += bool(self._partial) or self._skipping or self.wanting > 0
        self._partial.clear()
        self._skipping, self.wanting, self._head = False, 0, None

    def _scan(self, data: bytes, at: int, end: int) -> tuple[int, Frame | None]:
        border = data.find(0, at, end)
        self._extend(data[at : border if border >= 0 else end])
        if border < 0:
            return end, None
        frame = self._finish()
        if frame is None or not frame.outside_bytes:
            return border + 1, frame
        self._head, self.wanting = frame, frame.outside_bytes
        self._partial = bytearray(self.wanting)  # growing it would copy what is there
        return border + 1, None

    def _collect(self, data: bytes, at: int, end: int) -> tuple[int, Frame | None]:
        piece = memoryview(data)[at : min(at + self.wanting, end)]
        place = len(self._partial) - self.wanting
        self._partial[place : place + len(piece)] = piece
        self.wanting -= len(piece)
        head = self._head
        if self.wanting or head is None:
            return at + len(piece), None
        whole = memoryview(self._partial)
        payload, crc = whole[:-_CRC_BYTES], whole[-_CRC_BYTES:]
        self._partial, self._head = bytearray(), None
        if _crc(payload) != crc or head.payload:
            self.dropped += 1
            return at + len(piece), None
        return at + len(piece), replace(head, payload=payload)

    def _extend(self, piece: bytes) -> None:
        if self._skipping or len(self._partial) + len(piece) > MAX_ENCODED:
            self._skipping = True
            self._partial.clear()
        else:
            self._partial += piece

    def _finish(self) -> Frame | None:
        encoded, skipped = bytes(self._partial), self._skipping
        self._partial.clear()
        self._skipping = False
        if not encoded and not skipped:
            return None  # two borders in a row: nothing was sent between them
        try:
            return decode(encoded)
        except InputError:
            self.dropped += 1
            return None
