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

    >>> cobs_encode(bytes([1, 0, 0, 2])).hex()
    '020101'...
    """
    raw = np.frombuffer(data, dtype=np.uint8)
    starts = np.concatenate(([0], np.flatnonzero(raw == 0) + 1))
    lengths = np.diff(np.append(starts, raw.size + 1)) - 1
    runs = np.flatnonzero(lengths >= _BLOCK)
    breaks = [np.arange(starts[i] + _BLOCK, starts[i] + lengths[i] + 1, _BLOCK) for i in runs]
    inserts = np.concatenate(breaks) if breaks else np.empty(0, dtype=np.intp)
    if inserts.size and inserts[-1] == raw.size:
        inserts = inserts[:-1]  # a full block at the very end needs no further code byte
        full_end = True
    else:
        full_end = False
    stuffed = np.insert(raw, inserts, 0)
    out = np.concatenate((np.zeros(1, dtype=np.uint8), stuffed))
    marks = np.flatnonzero(out == 0)
    out[marks] = np.diff(np.append(marks, out.size))
    if full_end and out[marks[-1]] != _BLOCK + 1:
        raise InputError("COBS block of the wrong length")
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
