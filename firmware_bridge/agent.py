"""Requests in, register accesses out; the same code beside the silicon and in the tests.

Requests of a session are executed strictly in the order of their sequence numbers and each exactly
once. A request that comes again is answered again from memory; one that comes too early is refused,
because the missing one before it may still arrive. A session begins with an empty read
(`Frame.is_hello`), so no write can ever open one: after a restart of the bridge, requests of the
sessions before it are refused instead of being executed a second time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from firmware_bridge import registers
from firmware_bridge.errors import InputError
from firmware_bridge.frames import (
    MAX_IN_FLIGHT,
    MAX_WORDS,
    PROTOCOL,
    REQUESTS,
    ErrorCode,
    Frame,
    Kind,
)
from firmware_bridge.windows import Window, check_span

MAX_SESSIONS = 16


@dataclass
class _Session:
    """What is next, and the replies that a lost answer may be asked for again."""

    next: int = 0
    replies: OrderedDict[int, Frame] = field(default_factory=OrderedDict)

    def remember(self, reply: Frame) -> Frame:
        self.replies[reply.sequence] = reply
        self.next = reply.sequence + 1
        if len(self.replies) > MAX_IN_FLIGHT:
            self.replies.popitem(last=False)
        return reply


class Agent:
    """Serves one register window to any number of hosts, one request at a time.

    Args:
        window: the board's registers.
        window_bytes: length of the window.

    Attributes:
        executed: requests that reached the window.
        repeated: requests that were answered from memory.
    """

    def __init__(self, window: Window, window_bytes: int = registers.WINDOW_BYTES) -> None:
        self._window, self._window_bytes = window, window_bytes
        self._sessions: OrderedDict[int, _Session] = OrderedDict()
        self._lock = threading.Lock()
        self.executed = self.repeated = 0

    def handle(self, frame: Frame) -> Frame:
        """Answer one request; whatever goes wrong becomes an error reply."""
        with self._lock:
            if frame.version != PROTOCOL:
                text = f"this bridge speaks protocol {PROTOCOL}, not {frame.version}"
                return frame.error(ErrorCode.VERSION, text)
            if frame.kind not in REQUESTS:
                return frame.error(ErrorCode.REFUSED, f"{frame.kind.name} is not a request")
            session = self._session(frame)
            if session is None:
                text = "unknown session: the bridge was restarted, or forgot it for newer ones"
                return frame.error(ErrorCode.SESSION, text)
            return self._in_order(session, frame)

    def _session(self, frame: Frame) -> _Session | None:
        session = self._sessions.get(frame.session)
        if session is None and frame.is_hello:
            session = self._sessions[frame.session] = _Session()
            if len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        if session is not None:
            self._sessions.move_to_end(frame.session)
        return session

    def _in_order(self, session: _Session, frame: Frame) -> Frame:
        known = session.replies.get(frame.sequence)
        if known is not None:
            self.repeated += 1
            if (known.address, known.count) == (frame.address, frame.count):
                return known
            text = f"sequence {frame.sequence} was used for another request"
            return frame.error(ErrorCode.REFUSED, text)
        if frame.sequence != session.next:
            text = f"sequence {frame.sequence} came, {session.next} is next"
            return frame.error(ErrorCode.ORDER, text)
        return session.remember(self._execute(frame))

    def _execute(self, frame: Frame) -> Frame:
        try:
            _check(frame, self._window_bytes)
            if not frame.count:
                return frame.reply()
            self.executed += 1
            return self._write(frame) if frame.kind is Kind.WRITE else self._read(frame)
        except InputError as error:
            return frame.error(ErrorCode.REFUSED, str(error))
        except Exception as error:  # a host far away must hear of it, whatever it is
            return frame.error(ErrorCode.BOARD, f"{type(error).__name__}: {error}")

    def _write(self, frame: Frame) -> Frame:
        self._window.write(frame.address, frame.words.astype(np.uint32))
        return frame.reply()

    def _read(self, frame: Frame) -> Frame:
        words = self._window.read(frame.address, frame.count)
        if words.size != frame.count:
            text = f"the window returned {words.size} words, {frame.count} were asked for"
            return frame.error(ErrorCode.BOARD, text)
        return frame.reply(words)


def _check(frame: Frame, window_bytes: int) -> None:
    if frame.count > MAX_WORDS:
        raise InputError(f"{frame.count} words in one request; the limit is {MAX_WORDS}")
    if frame.kind is Kind.WRITE and len(frame.payload) != 4 * frame.count:
        raise InputError(f"write of {frame.count} words came with {len(frame.payload)} bytes")
    check_span(frame.address, frame.count, window_bytes)
