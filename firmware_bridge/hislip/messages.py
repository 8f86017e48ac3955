"""HiSLIP (IVI-6.1): message numbers, headers, and one of the two channels of a client."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass
from enum import IntEnum

HEADER = struct.Struct("!2sBBIQ")  # "HS", type, control code, parameter, payload bytes
PROLOGUE = b"HS"
MAX_PAYLOAD = 1 << 20  # of one message from a client; VISA's default message has 1 MiB
FIRST_MESSAGE_S = 10.0  # a client that connects has to say what for
STUCK_S = 5.0  # one that takes no byte of an answer for so long has lost interest
_PIECE = 1 << 16


class Kind(IntEnum):
    """Message types."""

    INITIALIZE = 0
    INITIALIZE_RESPONSE = 1
    FATAL_ERROR = 2
    ERROR = 3
    ASYNC_LOCK = 4
    ASYNC_LOCK_RESPONSE = 5
    DATA = 6
    DATA_END = 7
    DEVICE_CLEAR_COMPLETE = 8
    DEVICE_CLEAR_ACKNOWLEDGE = 9
    ASYNC_REMOTE_LOCAL_CONTROL = 10
    ASYNC_REMOTE_LOCAL_RESPONSE = 11
    TRIGGER = 12
    INTERRUPTED = 13
    ASYNC_INTERRUPTED = 14
    ASYNC_MAX_MSG_SIZE = 15
    ASYNC_MAX_MSG_SIZE_RESPONSE = 16
    ASYNC_INITIALIZE = 17
    ASYNC_INITIALIZE_RESPONSE = 18
    ASYNC_DEVICE_CLEAR = 19
    ASYNC_SERVICE_REQUEST = 20
    ASYNC_STATUS_QUERY = 21
    ASYNC_STATUS_RESPONSE = 22
    ASYNC_DEVICE_CLEAR_ACKNOWLEDGE = 23
    ASYNC_LOCK_INFO = 24
    ASYNC_LOCK_INFO_RESPONSE = 25


class Fatal(IntEnum):
    """Why a connection ends (control code of FatalError)."""

    HEADER = 1
    NO_ASYNC = 2
    SEQUENCE = 3
    TOO_MANY = 4


class Refusal(IntEnum):
    """Why a message was passed over (control code of Error)."""

    TYPE = 1
    CONTROL = 2
    VENDOR = 3
    TOO_LARGE = 4


FATAL_TEXT = {
    Fatal.HEADER: "poorly formed message header",
    Fatal.NO_ASYNC: "data before both channels are there",
    Fatal.SEQUENCE: "invalid initialization sequence",
    Fatal.TOO_MANY: "too many clients",
}
REFUSAL_TEXT = {
    Refusal.TYPE: "unrecognized message type",
    Refusal.CONTROL: "unrecognized control code",
    Refusal.VENDOR: "unrecognized vendor message",
    Refusal.TOO_LARGE: f"message too large; the limit is {MAX_PAYLOAD} bytes",
}


@dataclass(frozen=True)
class Message:
    """One message; `payload` is None where it was longer than `MAX_PAYLOAD`, and is gone."""

    kind: int
    control: int
    parameter: int
    payload: bytes | None


class FatalError(Exception):
    """What the client sends cannot go on."""

    def __init__(self, code: Fatal) -> None:
        super().__init__(FATAL_TEXT[code])
        self.code = code


class Channel:
    """One connection of a client: whole messages, from one thread in and from any thread out.

    Args:
        connection: is closed with the channel.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._sending = threading.Lock()
        self._ended = threading.Event()
        connection.settimeout(STUCK_S)
        with contextlib.suppress(OSError):  # gone again: `receive` says so
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def receive(self, within_s: float | None = None) -> Message | None:
        """The next message, or None at the end.

        Args:
            within_s: how long it may take; None: for ever.

        Raises:
            FatalError: no HiSLIP.
        """
        until = None if within_s is None else time.monotonic() + within_s
        header = self._exactly(HEADER.size, until)
        if header is None:
            return None
        prologue, kind, control, parameter, size = HEADER.unpack(header)
        if prologue != PROLOGUE:
            raise FatalError(Fatal.HEADER)
        if size > MAX_PAYLOAD:
            self.refuse(Refusal.TOO_LARGE)
            return Message(kind, control, parameter, None) if self._skip(size) else None
        payload = self._exactly(size, until)
        return None if payload is None else Message(kind, control, parameter, payload)

    def send(self, kind: Kind, control: int = 0, parameter: int = 0, payload: bytes = b"") -> None:
        """Send a message, or end the channel where nobody takes it."""
        data = HEADER.pack(PROLOGUE, kind, control, parameter, len(payload)) + payload
        left = memoryview(data)
        with self._sending:
            try:
                while left and not self._ended.is_set():
                    left = left[self._socket.send(left[:_PIECE]) :]
            except OSError:  # a time-out too: half a message cannot be mended
                self.end()

    def refuse(self, code: Refusal) -> None:
        """Say that a message was passed over."""
        self.send(Kind.ERROR, code, payload=REFUSAL_TEXT[code].encode())

    def fatal(self, code: Fatal) -> None:
        """Say why the connection ends."""
        self.send(Kind.FATAL_ERROR, code, payload=FATAL_TEXT[code].encode())

    def end(self) -> None:
        """Make `receive` return None, in whatever thread it waits."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up."""
        self.end()
        self._socket.close()

    def _exactly(self, size: int, until: float | None = None) -> bytes | None:
        data = bytearray()  # grows with what comes, whatever the header claims
        while len(data) < size:
            piece = self._piece(size - len(data), until)
            if piece is None:
                return None
            data += piece
        return bytes(data)

    def _skip(self, size: int) -> bool:
        while size:
            piece = self._piece(size, None)
            if piece is None:
                return False
            size -= len(piece)
        return True

    def _piece(self, most: int, until: float | None) -> bytes | None:
        while not self._ended.is_set() and (until is None or time.monotonic() < until):
            try:
                return self._socket.recv(min(most, _PIECE)) or None
            except TimeoutError:
                continue
            except OSError:
                return None
        return None
