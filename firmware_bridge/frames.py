"""Frames on a byte stream: bytes <-> frames, without any I/O.

On the wire a frame is `0x00 | COBS(header + payload + CRC-32) | 0x00`. COBS removes every zero from
what it encodes, so a zero is always a border between frames: whatever was lost or damaged, reading
starts again at the next one. All numbers are little-endian.

======  =====  ===========================================================
offset  bytes  header field
======  =====  ===========================================================
0       1      protocol version, `PROTOCOL`
1       1      kind: 1 read, 2 write, 3 reply, 4 error reply
2       2      reserved, zero
4       4      session: random number drawn by the host
8       4      sequence: 0 opens the session, then one more each request
12      4      byte address in the register window
16      4      count of 32-bit words
======  =====  ===========================================================

The payload is `count` words in a write and in the reply to a read, a code word and UTF-8 text in an
error reply, and empty otherwise. A reply echoes session, sequence, address and count.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from firmware_bridge.errors import InputError

PROTOCOL = 1
MAX_WORDS = 16384  # 64 KiB: 4096 input vectors of 32 codes are four frames
MAX_IN_FLIGHT = 8  # unanswered requests of a session; an agent remembers as many replies
MAX_TEXT_BYTES = 1024

_HEADER = struct.Struct("<BBHIIII")
_CRC_BYTES = 4
_BLOCK = 254  # longest run without zero that one COBS code byte covers
_MAX_RAW = _HEADER.size + 4 * MAX_WORDS + _CRC_BYTES
MAX_ENCODED = _MAX_RAW + _MAX_RAW // _BLOCK + 1
_UINT32 = 1 << 32

Words = npt.NDArray[np.uint32]


class Kind(IntEnum):
    """What a frame is."""

    READ = 1
    WRITE = 2
    REPLY = 3
    ERROR = 4


REQUESTS = frozenset({Kind.READ, Kind.WRITE})


class ErrorCode(IntEnum):
    """Why a request was not done (first word of an error reply)."""

    REFUSED = 1  # the request is wrong: address, count, payload
    BOARD = 2  # the register window failed
    VERSION = 3  # the two sides speak different protocols
    SESSION = 4  # not a session that this agent knows
    ORDER = 5  # not the next request of its session; send the missing one first


# ---- COBS -----------------------------------------------------------------------------------


def cobs_encode(data: bytes) -> bytes:
    """Consistent Overhead Byte Stuffing: the same bytes without a zero, about 0.4 % longer.

    Zeros become the distance to the next zero; in runs of 254 bytes or more a distance byte is
    inserted every 254.

    >>> cobs_encode(bytes([7, 0, 0, 8])).hex(" ")
    '02 07 01 02 08'
    """
    if len(data) < _BLOCK:  # single registers: no run is long, and arrays cost more than they save
        return b"".join(bytes((len(run) + 1,)) + run for run in data.split(b"\0"))
    raw = np.frombuffer(data, dtype=np.uint8)
    starts = np.concatenate(([0], np.flatnonzero(raw == 0) + 1))
    lengths = np.diff(np.append(starts, raw.size + 1)) - 1
    runs = np.flatnonzero(lengths >= _BLOCK)
    breaks = [np.arange(starts[i] + _BLOCK, starts[i] + lengths[i] + 1, _BLOCK) for i in runs]
    inserts = np.concatenate(breaks) if breaks else np.empty(0, dtype=np.intp)
    inserts = inserts[inserts < raw.size]  # a full block at the very end is the last
    stuffed = np.insert(raw, inserts, 0)
    out = np.concatenate((np.zeros(1, dtype=np.uint8), stuffed))
    marks = np.flatnonzero(out == 0)
    out[marks] = np.diff(np.append(marks, out.size))
    return out.tobytes()


def cobs_decode(data: bytes) -> bytes:
    """Inverse of `cobs_encode`.

    Raises:
        InputError: `data` is empty, holds a zero, or ends inside a block.
    """
    marks, position, size = [], 0, len(data)
    while position < size:
        marks.append(position)
        step = data[position]
        if not step:
            break
        position += step
    if position != size or not size or 0 in data:
        raise InputError(f"{size} bytes are not COBS: a zero inside, or the last block is cut")
    raw = np.frombuffer(data, dtype=np.uint8).copy()
    at = np.array(marks)
    after_full_block = np.append(True, raw[at[:-1]] == _BLOCK + 1)
    raw[at] = 0
    return np.delete(raw, at[after_full_block]).tobytes()


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
    payload: bytes = b""
    version: int = PROTOCOL

    def __post_init__(self) -> None:
        """Refuse what does not fit the wire."""
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
        payload = b"" if words is None else np.ascontiguousarray(words, dtype="<u4").tobytes()
        return self._answer(Kind.REPLY, payload)

    def error(self, code: ErrorCode, text: str) -> Frame:
        """The answer to a request that was not done, with the reason for people."""
        raw = text.encode()[:MAX_TEXT_BYTES]
        raw += b"\0" * (-len(raw) % 4)
        return self._answer(Kind.ERROR, struct.pack("<I", code) + raw)

    def _answer(self, kind: Kind, payload: bytes) -> Frame:
        return Frame(kind, self.session, self.sequence, self.address, self.count, payload)

    def reason(self) -> tuple[int, str]:
        """Code and text of an error reply.

        Raises:
            InputError: this is no error reply.
        """
        if self.kind is not Kind.ERROR or len(self.payload) < 4:
            raise InputError(f"{self.kind.name} frame of {len(self.payload)} bytes gives no reason")
        text = self.payload[4:].rstrip(b"\0").decode(errors="replace")
        return int(self.words[0]), text

    def answers(self, request: Frame) -> bool:
        """True where this is a well-formed reply to `request` and to no other."""
        mine = (self.session, self.sequence, self.address, self.count)
        if mine != (request.session, request.sequence, request.address, request.count):
            return False
        if self.kind is Kind.ERROR:
            return len(self.payload) >= 4
        expected = 4 * request.count if request.kind is Kind.READ else 0
        return self.kind is Kind.REPLY and len(self.payload) == expected


def encode(frame: Frame) -> bytes:
    """Bytes of a frame on the wire, with both borders."""
    header = _HEADER.pack(
        frame.version,
        frame.kind,
        0,
        frame.session,
        frame.sequence,
        frame.address,
        frame.count,
    )
    body = header + frame.payload
    return b"\0" + cobs_encode(body + struct.pack("<I", zlib.crc32(body))) + b"\0"


def decode(encoded: bytes) -> Frame:
    """The frame between two borders.

    Raises:
        InputError: not COBS, too short, checksum wrong, or unknown kind.
    """
    raw = cobs_decode(encoded)
    if len(raw) < _HEADER.size + _CRC_BYTES:
        raise InputError(f"{len(raw)} bytes are too few for a frame")
    body, crc = raw[:-_CRC_BYTES], raw[-_CRC_BYTES:]
    if zlib.crc32(body) != int.from_bytes(crc, "little"):
        raise InputError(f"checksum of a frame of {len(raw)} bytes is wrong")
    version, kind, _, session, sequence, address, count = _HEADER.unpack_from(body)
    if kind not in {int(k) for k in Kind}:
        raise InputError(f"no frame is of kind {kind}")
    payload = body[_HEADER.size :]
    return Frame(Kind(kind), session, sequence, address, count, payload, version)


class FrameDecoder:
    """Cuts a byte stream into frames; drops and counts what is none.

    Holds at most one frame of the largest size, whatever arrives.

    Attributes:
        dropped: pieces between borders that were no frame.
    """

    def __init__(self) -> None:
        self._partial = bytearray()
        self._skipping = False
        self.dropped = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they come; return the frames that they complete, in order."""
        found: list[Frame] = []
        first, *rest = data.split(b"\0")
        self._extend(first)
        for piece in rest:
            frame = self._finish()
            if frame is not None:
                found.append(frame)
            self._extend(piece)
        return found

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
