"""Requests in, register accesses out; the same code beside the silicon and in the tests.

Requests of a session are executed strictly in the order of their sequence numbers and each exactly
once. A request that comes again is answered again from memory; one that comes too early is refused,
because the missing one before it may still arrive. A session begins with an empty read
(`Frame.is_hello`), so no write can ever open one: after a restart of the bridge, requests of the
sessions before it are refused instead of being executed a second time. A session belongs to the
client that opened it, and ends when a newer one begins on the same stream, or with the stream: what
comes of it later is refused.

One client writes at a time (firmware_bridge.pen); all may read, and make the rails safe.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable

import numpy as np

from firmware_bridge import board_spec, registers
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.errors import InputError, ReadOnlyError, RramError
from firmware_bridge.fair_lock import FairLock
from firmware_bridge.frames import MAX_WORDS, PROTOCOL, REQUESTS, ErrorCode, Frame, Kind
from firmware_bridge.pen import WRITER_S, Pen, StaleError
from firmware_bridge.sessions import MAX_SESSIONS, Mark, Role, Session, Sessions
from firmware_bridge.windows import Window, Words, check_span

__all__ = ["MAX_SESSIONS", "Agent"]

_CTRL, _STATUS = registers.offset("CTRL"), registers.offset("STATUS")
_ACTIVE = registers.STATUS_BUSY | registers.STATUS_LIVE
_log = logging.getLogger(__name__)


class Agent:
    """Serves one register window to any number of clients, one request at a time.

    Args:
        window: the board's registers.
        window_bytes: length of the window.
        spec: how the board is wired, for the text dialect; zc706 where none is given.
        writer_s: silence after which the writer loses its place to another that wants to write.
        clock: seconds, monotonic.
        draw_first: draws the sequence of a session's first request, 1 to 2^31. At random, copies
            of an old hello and of what followed it are not executed by a bridge that was restarted.

    Attributes:
        executed: requests that reached the window.
        repeated: requests that were answered from memory.
    """

    def __init__(
        self,
        window: Window,
        window_bytes: int = registers.WINDOW_BYTES,
        spec: BoardSpec | None = None,
        writer_s: float = WRITER_S,
        clock: Callable[[], float] = time.monotonic,
        draw_first: Callable[[], int] = lambda: 1 + secrets.randbelow(1 << 31),
    ) -> None:
        self._window, self._window_bytes, self._clock = window, window_bytes, clock
        self._spec = spec
        self._sessions, self._pen = Sessions(draw_first), Pen(writer_s)
        self._anyone = Role("another host", one_host=False)
        self._lock = FairLock()
        self._calm = True  # nothing was written since the board was seen idle or told to be
        self.executed = self.repeated = 0

    @property
    def spec(self) -> BoardSpec:
        """How the board is wired."""
        if self._spec is None:
            self._spec = board_spec.load()
        return self._spec

    @property
    def writer(self) -> str:
        """Who writes; empty where nobody does."""
        holder = self._pen.holder
        return holder.peer if holder else ""

    def is_writer(self, role: Role) -> bool:
        """Whether a client is the one that writes."""
        return self._pen.holder is role

    # ---- clients --------------------------------------------------------------------------------

    def join(self, peer: str) -> Role:
        """A new client; give it back with `leave`."""
        return Role(peer, heard_s=self._clock())

    def leave(self, role: Role) -> None:
        """A client's stream has ended: its sessions with it. If it was the writer: rails safe."""
        with self._lock:
            role.ended = True
            self._sessions.end_all_of(role)
            if self._pen.give_back(role):
                self._make_safe(f"{role.peer}, which wrote, is gone")

    def make_safe(self, why: str) -> None:
        """Run the safe program, unless nothing runs and the rails are known to be safe."""
        with self._lock:
            self._make_safe(why)

    def _make_safe(self, why: str) -> None:
        try:
            if self._calm or not int(self._window.read(_STATUS, 1)[0]) & _ACTIVE:
                return
            _log.warning("%s: making the rails safe", why)
            self._window.write(_CTRL, np.array([registers.CTRL_SAFE], dtype=np.uint32))
            self._calm = True
        except Exception as error:  # whatever a board raises: the bridge goes on
            _log.error("%s, and the rails could not be made safe: %s", why, error)

    # ---- text -----------------------------------------------------------------------------------

    def read(self, role: Role, mark: Mark, address: int, count: int) -> Words:
        """Read words for a client.

        Raises:
            InputError: outside the window.
            ReadOnlyError: results of somebody who has written since this client did.
            RramError: the window gave another number of words.
        """
        with self._lock:
            check_span(address, count, self._window_bytes)
            if _holds_results(address, count):
                self._pen.check(mark)
            words = self._read_words(address, count)
            role.heard_s = self._clock()
            return words

    def write(self, role: Role, mark: Mark, address: int, words: Words) -> None:
        """Write words for a client.

        Raises:
            InputError: outside the window.
            ReadOnlyError: another client writes, or has written since; the latter is said once.
        """
        with self._lock:
            check_span(address, words.size, self._window_bytes)
            try:
                self._may_write(role, mark, address, words)
            except StaleError:
                mark.generation = None
                raise
            self._write_words(address, words)
            role.heard_s = self._clock()

    # ---- frames ---------------------------------------------------------------------------------

    def handle(self, frame: Frame, role: Role | None = None) -> Frame:
        """Answer one request; whatever goes wrong becomes an error reply.

        Args:
            frame: the request.
            role: who asks; without one, all who ask so are one client with many sessions.
        """
        role = role or self._anyone
        with self._lock:
            try:
                return self._answer(frame, role)
            finally:  # a board may have taken long
                role.heard_s = self._clock()

    def _answer(self, frame: Frame, role: Role) -> Frame:
        if frame.version != PROTOCOL:
            text = f"this bridge speaks protocol {PROTOCOL}, not {frame.version}"
            return frame.error(ErrorCode.VERSION, text)
        if frame.kind not in REQUESTS:
            return frame.error(ErrorCode.REFUSED, f"{frame.kind.name} is not a request")
        if role.ended:
            return frame.error(ErrorCode.SESSION, "this link has been closed")
        session = self._sessions.find(frame, role)
        if isinstance(session, str):
            return frame.error(ErrorCode.SESSION, session)
        return self._in_order(session, frame)

    def _in_order(self, session: Session, frame: Frame) -> Frame:
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
        if frame.chained and session.failed:
            reply = frame.error(ErrorCode.SKIPPED, "the request before it was not done")
        else:
            reply = self._execute(session, frame)
        session.failed = reply.kind is Kind.ERROR
        return session.remember(reply)

    def _execute(self, session: Session, frame: Frame) -> Frame:
        try:
            _check(frame, self._window_bytes)
            if frame.is_hello:
                return frame.reply(np.array([session.first]))
            if not frame.count:
                return frame.reply()
            if frame.kind is Kind.READ:
                if _holds_results(frame.address, frame.count):
                    self._pen.check(session.mark)
                return frame.reply(self._read_words(frame.address, frame.count))
            return self._write(session, frame)
        except ReadOnlyError as error:
            return frame.error(ErrorCode.READONLY, str(error))
        except InputError as error:
            return frame.error(ErrorCode.REFUSED, str(error))
        except Exception as error:  # a host far away must hear of it, whatever it is
            return frame.error(ErrorCode.BOARD, f"{type(error).__name__}: {error}")

    def _write(self, session: Session, frame: Frame) -> Frame:
        words = frame.words.astype(np.uint32, copy=False)
        try:
            if session.read_only and not _is_safe(frame.address, words):
                raise ReadOnlyError(session.read_only)
            self._may_write(session.role, session.mark, frame.address, words)
        except ReadOnlyError as error:
            # Once refused, always refused: a transfer of many frames is not taken in parts.
            session.read_only = str(error)
            return frame.error(ErrorCode.READONLY, str(error))
        self._write_words(frame.address, words)
        return frame.reply()

    # ---- the window -----------------------------------------------------------------------------

    def _may_write(self, role: Role, mark: Mark, address: int, words: Words) -> None:
        if not _is_safe(address, words):
            self._pen.take(role, mark, self._clock())
        elif self._pen.holder is not role:
            self._pen.disturb(f"{role.peer} has made the board safe")

    def _write_words(self, address: int, words: Words) -> None:
        self.executed += 1
        self._calm = False
        self._window.write(address, words)
        self._calm = _is_safe(address, words)

    def _read_words(self, address: int, count: int) -> Words:
        self.executed += 1
        words = self._window.read(address, count)
        if words.size != count:
            raise RramError(f"the window returned {words.size} words, {count} were asked for")
        if address <= _STATUS < address + 4 * count:
            self._calm = not int(words[(_STATUS - address) // 4]) & _ACTIVE
        return words


def _is_safe(address: int, words: Words) -> bool:
    """Whether a write does nothing but make the rails safe."""
    return address == _CTRL and words.size == 1 and int(words[0]) == registers.CTRL_SAFE


def _holds_results(address: int, count: int) -> bool:
    """Whether a read takes results of a program, which must be the reader's own."""
    results = registers.RESULTS
    return address < results.offset + 4 * results.words and results.offset < address + 4 * count


def _check(frame: Frame, window_bytes: int) -> None:
    if frame.count > MAX_WORDS:
        raise InputError(f"{frame.count} words in one request; the limit is {MAX_WORDS}")
    if frame.kind is Kind.WRITE and len(frame.payload) != 4 * frame.count:
        raise InputError(f"write of {frame.count} words came with {len(frame.payload)} bytes")
    check_span(frame.address, frame.count, window_bytes)
