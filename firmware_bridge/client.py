"""The bridge's end of one byte stream: bytes in, answers out, without any I/O.

Frames and text may come on the same stream (firmware_bridge.demux). Where the bridge has a key,
nothing is done for a session, or for the text dialect, before it has been proved (`auth`).

What a client may hold at a time: one frame and one message of the largest size, the last 8 replies
of its session (4 MiB), and the program and table of its text dialect: below 8 MiB.
"""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

from firmware_bridge import auth, registers
from firmware_bridge.agent import Agent
from firmware_bridge.auth import Gate
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.demux import Demux
from firmware_bridge.errors import ClosingError
from firmware_bridge.frames import REQUESTS, ErrorCode, Frame, Kind, encode
from firmware_bridge.sessions import Mark
from firmware_bridge.text.instrument import TextSession
from firmware_bridge.windows import Words

MAX_ANSWER_BYTES = 1 << 23  # of one call of `feed`
MAX_PROVED = 4  # sessions of a stream that may use it at a time: hosts come and go on a serial line
TEXT_IDLE_S = 600.0  # a text client that was silent for so long must prove its key again
_INPUT_OVERRUN = -363
_log = logging.getLogger(__name__)


class Client:
    """One peer of the bridge.

    Args:
        agent: who executes.
        peer: what to call the client, e.g. "127.0.0.1:51234".
        key: what it must prove to hold; None where nothing is asked of it.
        clock: seconds, monotonic.
        gone: whether the peer has hung up; asked while a command waits for a program.

    Attributes:
        heard_s: when it last sent something whole that it was allowed to send; None if never.
        dropped: answers that were not given because too much was asked for at once.
    """

    def __init__(
        self,
        agent: Agent,
        peer: str,
        key: bytes | None = None,
        clock: Callable[[], float] = time.monotonic,
        gone: Callable[[], bool] = lambda: False,
    ) -> None:
        self.peer, self.dropped = peer, 0
        self.heard_s: float | None = None
        self._agent, self._clock = agent, clock
        self._role = agent.join(peer)
        self._gate = Gate(key) if key is not None else None
        self._proved: OrderedDict[int, None] = OrderedDict()
        self._demux = Demux(clock)
        self._cancelled = self._interrupted = False
        self._access = _Access(self, clock)
        self._text = TextSession(
            self._access, lambda: self._cancelled or self._interrupted or gone()
        )

    @property
    def writes(self) -> bool:
        """Whether this is the one that writes."""
        return self._agent.is_writer(self._role)

    @property
    def silent_s(self) -> float:
        """How long nothing whole and allowed has come; infinite where nothing ever has."""
        return math.inf if self.heard_s is None else self._clock() - self.heard_s

    @property
    def refused(self) -> bool:
        """Too many wrong proofs: hang up."""
        return self._gate is not None and self._gate.shut

    @property
    def authorised(self) -> bool:
        """Whether it has proved its key in one way or another, where there is one."""
        return self._access.authorised or bool(self._proved)

    def feed(self, data: bytes, end: bool = False) -> list[bytes]:
        """Take bytes as they come; what to send back, in order.

        What would make the answers longer than `MAX_ANSWER_BYTES` together is not executed any
        more: `answers` has no such limit.

        Args:
            data: the bytes.
            end: the peer says that its message ends here; a line of text needs no newline then.
        """
        found: list[bytes] = []
        size = 0
        for answer in self.answers(data, end):
            found.append(answer)
            size += len(answer)
            if size > MAX_ANSWER_BYTES:
                self.dropped += 1
                self._demux.reset()
                break
        return found

    def answers(self, data: bytes, end: bool = False) -> Iterator[bytes]:
        """The same, one answer after another: each is made when it is asked for."""
        for piece in self._demux.feed(data):
            answer = self._answer(piece)
            if answer:
                yield answer
        if end and self._demux.in_text:
            yield from self.answers(b"\n")
            if self._demux.in_text:  # a block that the message does not hold whole
                self._demux.reset()
                self.report(-161, "the message ends inside a block")

    def cancel(self) -> None:
        """Break off what waits for the board; may be called from another thread."""
        self._cancelled = True

    def interrupt(self) -> None:
        """Break off what waits for the board until `clear`; may be called from another thread."""
        self._interrupted = True

    def clear(self) -> None:
        """Forget what is unfinished, and go on: device clear."""
        self._demux.reset()
        self._interrupted = False

    def report(self, number: int, detail: str = "") -> None:
        """Queue an error of the text dialect that its link has found."""
        self._text.report(number, detail)

    def status_byte(self, message: bool) -> int:
        """Status byte of the text dialect; may be called from another thread.

        Args:
            message: whether an answer waits to be read.
        """
        return self._text.status.byte(message)

    def close(self) -> None:
        """The stream has ended: makes the rails safe if this client wrote. May be called twice."""
        self._cancelled = True
        self._agent.leave(self._role)

    # ---- frames and text ------------------------------------------------------------------------

    def _answer(self, piece: Frame | bytes | Exception) -> bytes:
        if self.refused or self._cancelled:
            return b""
        if isinstance(piece, Frame):
            answer = self._answer_frame(piece)
            return encode(answer) if answer is not None else b""
        if isinstance(piece, bytes):
            self._access.heard()
            answered = self._text.execute(piece)
            self._access.done()
            return answered
        self._text.report(_INPUT_OVERRUN, str(piece))
        return b""

    def _answer_frame(self, frame: Frame) -> Frame | None:
        if frame.kind is Kind.AUTH:
            return self._prove(frame)
        # Answering an answer could go on for ever between two bridges, or on an echoing line.
        if frame.kind not in REQUESTS:
            return None
        if self._gate is not None and frame.session not in self._proved:
            return frame.error(ErrorCode.AUTH, auth.challenge_text(self._gate.nonce))
        self.heard_s = self._clock()
        answer = self._agent.handle(frame, self._role)
        return None if frame.quiet and answer.kind is Kind.REPLY else answer

    def _prove(self, frame: Frame) -> Frame:
        # A proof may come twice, and its nonce is spent by then.
        if self._gate is None or frame.session in self._proved:
            return frame.reply()
        if not self._gate.try_frames(bytes(frame.payload), frame.session):
            _log.warning("%s: wrong proof of the key (%d)", self.peer, self._gate.failures)
            return frame.error(ErrorCode.AUTH, "this is not the proof of the bridge's key")
        self._proved[frame.session] = None
        if len(self._proved) > MAX_PROVED:
            self._proved.popitem(last=False)
        return frame.reply()


class _Access:
    """The register window as the text dialect of one client may use it."""

    def __init__(self, client: Client, clock: Callable[[], float]) -> None:
        self._client, self._clock = client, clock
        self._mark = Mark()
        self._proved, self._heard_s = False, 0.0

    def heard(self) -> None:
        """A command came."""
        if self._clock() - self._heard_s > TEXT_IDLE_S:
            self._proved = False
        self.done()

    def done(self) -> None:
        """A command was done, however long that took: its client was not silent."""
        self._heard_s = self._clock()
        if self.authorised:
            self._client.heard_s = self._heard_s

    @property
    def authorised(self) -> bool:
        """Whether commands may be done."""
        return self._client._gate is None or self._proved

    def challenge(self) -> str:
        """The nonce to prove the key with, in hexadecimal digits."""
        gate = self._client._gate
        return gate.nonce.hex() if gate is not None else ""

    def authorise(self, digest_hex: str) -> bool:
        """Whether the digest proves that the client holds the key."""
        gate = self._client._gate
        if gate is not None and not self._proved:
            self._proved = gate.try_text(digest_hex)
            if not self._proved:
                _log.warning("%s: wrong proof of the key (%d)", self._client.peer, gate.failures)
        return self.authorised

    @property
    def identity(self) -> str:
        """Maker, model, serial number, version."""
        version = registers.VERSION
        return f"RRAM,{self.spec.name},0,{version >> 16}.{version & 0xFFFF}"

    @property
    def spec(self) -> BoardSpec:
        """How the board is wired."""
        return self._client._agent.spec

    def read(self, address: int, count: int) -> Words:
        """Read words.

        Raises:
            ClosingError: the link or the bridge is being closed.
            InputError: outside the window.
            ReadOnlyError: results of another client's program.
        """
        self._check_open()
        return self._client._agent.read(self._client._role, self._mark, address, count)

    def write(self, address: int, words: Words) -> None:
        """Write words.

        Raises:
            ClosingError: the link or the bridge is being closed.
            InputError: outside the window.
            ReadOnlyError: another client writes, or has written since.
        """
        self._check_open()
        self._client._agent.write(self._client._role, self._mark, address, words)

    def _check_open(self) -> None:
        if self._client._cancelled:
            raise ClosingError("the link or the bridge is being closed")
