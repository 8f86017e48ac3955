"""VISA resources as byte streams: sockets, serial ports, HiSLIP, each as its library takes it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from firmware_bridge.frames import Frame, Kind, encode
from rram_host.errors import LinkError

if TYPE_CHECKING:
    from pyvisa.resources import MessageBasedResource, SerialInstrument

_WAIT_MS = 50
_DRAIN_MS = 1  # the shortest that VISA knows
_BULK = 1 << 16
_PAUSES_S = (1e-4, 5e-3)
LONGEST_MS = 0xFFFF_FFFE  # one more means for ever

# Without a message end pyvisa-py's sockets return at once only when all that was asked for is
# there, and wait at least 1 ms for more otherwise. Of the usual replies the sizes are known: the
# shortest there is, to a write, and how much longer the reply with one word is.
_SHORTEST = len(encode(Frame(Kind.REPLY, 0, 0, 0, 0)))
_SIZES = (_SHORTEST, 4, _BULK)

# HiSLIP: bytes that are sent whoever listens, bytes of an answer, bytes the library reads at a time
_AT_ONCE = 1 << 16
_WHOLE = 1 << 30
_PIECE = 1 << 17


class MessageStream:
    """A VISA resource as a `Stream`; every read of the library returns what is there.

    Args:
        resource: an open resource without termination characters.
        name: what to call it in messages, normally its URL.
        write_ms: how long the far end may take no byte.
        held: what `close` gives back.
    """

    def __init__(
        self, resource: MessageBasedResource, name: str, write_ms: int, held: ExitStack
    ) -> None:
        self._resource, self._name, self._write_ms, self._held = resource, name, write_ms, held
        self._patience_ms = -1

    def write(self, data: bytes) -> None:
        """Send all bytes.

        Raises:
            LinkError: the resource is gone, or takes nothing.
        """
        with _link_errors(f"{self._name}: cannot send"):
            self._be_patient(self._write_ms)
            sent = self._resource.write_raw(data)
        if sent != len(data):
            raise LinkError(f"{self._name}: cannot send: {sent} of {len(data)} bytes were taken")

    def read(self, timeout_s: float) -> bytes:
        """Return bytes as soon as some are there; b"" after `timeout_s` without any.

        Raises:
            LinkError: the resource is gone.
        """
        until = time.monotonic() + timeout_s
        with _link_errors(f"{self._name}: the line is gone"):
            while True:
                data = self._available()
                if data or time.monotonic() >= until:
                    return data

    def close(self) -> None:
        """Give the resource back, and the resource manager with its last link."""
        self._held.close()

    def _available(self) -> bytes:
        data = b""
        for size in _SIZES:
            self._be_patient(_DRAIN_MS if size == _BULK else _WAIT_MS)
            piece = self._piece(size)
            data += piece
            if len(piece) < size or piece.endswith(b"\0"):  # that is all, or a frame is complete
                break
        return data

    def _piece(self, size: int, chunk_size: int = 0) -> bytes:
        from pyvisa import VisaIOError  # only this module needs it
        from pyvisa.constants import StatusCode

        try:
            return self._resource.read_bytes(
                size, chunk_size=chunk_size or size, break_on_termchar=True
            )
        except VisaIOError as error:
            if error.error_code != StatusCode.error_timeout:
                raise
            return b""

    def _be_patient(self, patience_ms: int) -> None:
        if patience_ms != self._patience_ms:
            self._resource.timeout = patience_ms
            self._patience_ms = patience_ms


class SerialStream(MessageStream):
    """The same for ASRL resources, which have no message end but know what has arrived.

    A read that runs out of time loses what it had, and a change of the timeout sets the whole port
    up again. So nothing is read that is not there, and the timeout is set once, for writing.
    """

    _resource: SerialInstrument

    def read(self, timeout_s: float) -> bytes:
        """Return bytes as soon as some are there; b"" after `timeout_s` without any.

        Raises:
            LinkError: the port is gone.
        """
        start_s, waited_s = time.monotonic(), 0.0
        with _link_errors(f"{self._name}: the line is gone"):
            self._be_patient(self._write_ms)
            while True:
                size = self._resource.bytes_in_buffer
                if size or waited_s >= timeout_s:
                    return self._piece(size)
                # Short against what was waited already: soon heard, and yet few looks.
                time.sleep(min(max(waited_s / 8, _PAUSES_S[0]), _PAUSES_S[1]))
                waited_s = time.monotonic() - start_s


class HislipStream(MessageStream):
    """The same for HiSLIP: a write is one message, and one message answers it.

    The library drops what answers an earlier message, by its number. pyvisa-py keeps no piece of a
    message that stops for longer than its timeout, and then has lost its place in the stream: it
    fails at the next header. After any failure the next write opens the resource anew.

    Args:
        resource: an open resource without termination characters.
        name: what to call it in messages, normally its URL.
        write_ms: how long the far end may take no byte.
        held: what `close` gives back.
        reopen: opens the resource again, to be closed with `held`.
    """

    def __init__(
        self,
        resource: MessageBasedResource,
        name: str,
        write_ms: int,
        held: ExitStack,
        reopen: Callable[[], MessageBasedResource],
    ) -> None:
        super().__init__(resource, name, write_ms, held)
        self._reopen = reopen
        self._asked = self._failed = False

    def write(self, data: bytes) -> None:
        """Send one message.

        Raises:
            LinkError: the resource is gone, or takes nothing.
        """
        with self._noticing():
            if self._failed:
                self._open_anew()
            if len(data) > _AT_ONCE:  # less than that fits into the line, whoever is busy
                self._be_patient(self._write_ms)
            with _link_errors(f"{self._name}: cannot send"):
                self._resource.write_raw(data)
        self._asked = True

    def read(self, timeout_s: float) -> bytes:
        """Return the answer to the last message; b"" after `timeout_s` without any.

        Raises:
            LinkError: the resource is gone.
        """
        if not self._asked:  # pyvisa-py would not wait: it sees the end of the last answer
            time.sleep(timeout_s)
            return b""
        with self._noticing(), _link_errors(f"{self._name}: the line is gone"):
            self._be_patient(min(math.ceil(1000 * timeout_s), LONGEST_MS))
            data = self._piece(_WHOLE, _PIECE)
        self._asked = not data
        return data

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except LinkError:
            self._failed = True
            raise

    def _open_anew(self) -> None:
        with _link_errors(f"{self._name}: cannot close"):
            self._resource.close()
        self._resource = self._reopen()
        self._patience_ms = -1
        self._failed = self._asked = False


@contextmanager
def _link_errors(what: str) -> Iterator[None]:
    from pyvisa import Error  # only this module needs it

    try:
        yield
    # pyvisa-py passes on what sockets and pyserial raise, fails as it can if closed under way, and
    # calls a HiSLIP header that it does not expect a RuntimeError, or asserts.
    except (
        Error,
        OSError,
        AttributeError,
        TypeError,
        ValueError,
        RuntimeError,
        AssertionError,
    ) as error:
        raise LinkError(f"{what}: {error}") from error
