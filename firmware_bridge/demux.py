"""Frames and text on one byte stream: bytes -> frames and messages, without any I/O.

A zero begins a frame, a letter, `*` or `:` begins a text message, which ends with its newline. A
zero in a message ends it, too, unless it stands inside a block: frames always get through, and the
message is dropped. What begins with neither is noise, until the next zero or newline.

A host that finds the stream in the middle of a frame or block of somebody else gets out of it: by
the zero that begins its own frames, and in a block, or in a frame in bulk, after `STALE_S` of
silence, which a host that hears nothing keeps by itself, since it waits ever longer before it sends
again.

Held at a time: one frame of the largest size (`frames.MAX_ENCODED`) and one message of the largest
size (`scpi.MAX_MESSAGE_BYTES`), whatever arrives.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from enum import Enum

from firmware_bridge.errors import InputError
from firmware_bridge.frames import Frame, FrameDecoder
from firmware_bridge.text import scpi

STALE_S = 1.5
_FRAME_CODE = 3  # first byte of every frame: the header's first zero is its third byte
_GAP = re.compile(rb"[\0\s]*")
_TEXT = re.compile(rb"[A-Za-z*:]")
_NOISE_END = re.compile(rb"[\0\n]")

Piece = Frame | bytes | InputError


class _In(Enum):
    """What the bytes that come next belong to."""

    NOTHING = 0
    FRAME = 1
    TEXT = 2
    LOST_TEXT = 3  # the rest of a message that was too long
    NOISE = 4


class Demux:
    """Cuts a byte stream into frames, text messages, and errors about messages that were too long.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._heard_s = clock, clock()
        self._mode = _In.NOTHING
        self._decoder = FrameDecoder()
        self._text, self._seen = bytearray(), scpi.Seen()
        self._block_bytes = 0  # of the block under way, still to come
        self._dropped = 0
        self._steps = {
            _In.NOTHING: self._begin,
            _In.FRAME: self._frame,
            _In.TEXT: self._message,
            _In.LOST_TEXT: self._skip,
            _In.NOISE: self._skip,
        }

    @property
    def dropped(self) -> int:
        """Pieces that were neither frame nor text."""
        return self._dropped + self._decoder.dropped

    @property
    def in_text(self) -> bool:
        """Whether a message has begun that has not ended."""
        return self._mode is _In.TEXT

    def reset(self) -> None:
        """Forget what is unfinished: what comes next begins anew."""
        self._decoder.give_up()
        self._text.clear()
        self._seen = scpi.Seen()
        self._block_bytes, self._mode = 0, _In.NOTHING

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Take bytes as they come; what they complete, in order.

        What is held stays small only if all of it is taken before the next call.
        """
        if not data:  # whoever listens in short turns: it is not he who was heard
            return
        now_s = self._clock()
        if now_s - self._heard_s > STALE_S:
            self._forget_stale(data)
        self._heard_s = now_s
        at = 0
        while at < len(data):
            at, found = self._steps[self._mode](data, at)
            if found is not None:
                yield found

    def _forget_stale(self, data: bytes) -> None:
        """Whoever sends after a long silence begins anew; a person may type slowly."""
        mode = self._mode
        if mode is _In.FRAME and (self._decoder.wanting or _TEXT.match(data)):
            self._decoder.give_up()
            self._mode = _In.NOTHING
        elif mode in (_In.LOST_TEXT, _In.NOISE) or (mode is _In.TEXT and self._block_bytes):
            self._drop_text()

    def _drop_text(self) -> None:
        self._text.clear()
        self._seen = scpi.Seen()
        self._block_bytes = 0
        self._dropped += 1
        self._mode = _In.NOTHING

    # ---- one step in each state: where it stopped, and what was complete ------------------------

    def _begin(self, data: bytes, at: int) -> tuple[int, None]:
        gap = _GAP.match(data, at)
        at = gap.end() if gap else at
        if at < len(data):
            if data[at] == _FRAME_CODE:
                self._mode = _In.FRAME
            else:
                self._mode = _In.TEXT if _TEXT.match(data, at) else _In.NOISE
        return at, None

    def _frame(self, data: bytes, at: int) -> tuple[int, Frame | None]:
        wanting = self._decoder.wanting
        end = at + wanting if wanting else data.find(0, at) + 1
        if not at < end <= len(data):
            self._decoder.feed(data, at)
            return len(data), None
        found = self._decoder.feed(data, at, end)
        if not self._decoder.wanting:
            self._mode = _In.NOTHING
        return end, found[0] if found else None

    def _skip(self, data: bytes, at: int) -> tuple[int, None]:
        end = _NOISE_END.search(data, at)
        if not end:
            return len(data), None
        self._drop_text()
        return end.start(), None

    def _message(self, data: bytes, at: int) -> tuple[int, bytes | InputError | None]:
        if self._block_bytes:
            piece = data[at : at + self._block_bytes]
            self._text += piece
            self._block_bytes -= len(piece)
            if not self._block_bytes:  # the rest of its length may have been among the bytes
                self._block_bytes = scpi.missing(self._text, self._seen)
            return at + len(piece), None
        zero = data.find(0, at)
        stop = zero if zero >= 0 else len(data)
        newline = data.find(b"\n", at, stop)
        cut = newline + 1 if newline >= 0 else stop
        self._text += data[at:cut]
        return cut, self._complete(zero == cut)

    def _complete(self, at_zero: bool) -> bytes | InputError | None:
        try:
            message = scpi.take_message(self._text, self._seen)
            lacks = 0 if message is not None else scpi.missing(self._text, self._seen)
            self._block_bytes = lacks
        except InputError as error:
            ended = self._text.endswith(b"\n")
            self._drop_text()
            self._mode = _In.NOTHING if ended else _In.LOST_TEXT
            return error
        if message is not None:
            self._seen, self._mode = scpi.Seen(), _In.NOTHING
        elif at_zero and not self._block_bytes:
            self._drop_text()
        return message
