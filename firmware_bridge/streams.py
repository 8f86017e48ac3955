"""From file descriptors to clients: what every server of byte streams shares."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable

from firmware_bridge.agent import Agent
from firmware_bridge.client import Client
from firmware_bridge.windows import Window

_log = logging.getLogger(__name__)
POLL_S = 0.05  # how soon a server notices that it shall stop
STUCK_S = 5.0  # a host that takes no byte of an answer for so long has lost interest
LOCKED_S = 2.0  # how long a line that cannot hang up is deaf after too many wrong proofs
CHUNK = 1 << 16
TERMINAL = 4095  # bytes that a terminal gives at a time; more may be there
TOGETHER = 1 << 12  # answers that are shorter are sent together


def agent_of(window: Window | Agent) -> Agent:
    """The agent of a server: its own, or one that several servers share."""
    return window if isinstance(window, Agent) else Agent(window)


class Descriptor:
    """Bytes in and out of a non-blocking file descriptor, watching for `stop`.

    Args:
        fd: the descriptor; stays its owner's.
        stop: ends every waiting.
        give_up: a far end that takes nothing counts as gone; otherwise what it does not take is
            lost, and it may ask again.
    """

    def __init__(self, fd: int, stop: threading.Event, give_up: bool = False) -> None:
        os.set_blocking(fd, False)
        self._fd, self._stop, self._give_up = fd, stop, give_up
        self._gone = False

    def read(self) -> bytes | None:
        """Bytes as they come, b"" where none came for a while, None at the end."""
        if self._gone:
            return None
        try:
            ready, _, _ = select.select([self._fd], [], [], POLL_S)
            return (self._available() or None) if ready else b""
        except BlockingIOError:
            return b""
        except OSError:  # the other end is gone
            return None

    def _available(self) -> bytes:
        data = piece = os.read(self._fd, CHUNK)
        while len(piece) >= TERMINAL and len(data) < CHUNK:
            try:
                piece = os.read(self._fd, CHUNK)
            except BlockingIOError:
                break
            data += piece
        return data

    def write(self, data: bytes) -> None:
        """Send, or drop the rest when nobody takes it."""
        left = memoryview(data)
        until_s = time.monotonic() + STUCK_S
        while left and not self._gone:
            try:
                _, ready, _ = select.select([], [self._fd], [], POLL_S)
                if ready:
                    left = left[os.write(self._fd, left) :]
                    until_s = time.monotonic() + STUCK_S
                elif self._stop.is_set():
                    return
            except BlockingIOError:
                pass
            except OSError:
                until_s = 0.0
            if time.monotonic() >= until_s:
                self._gone = self._give_up
                return


def serve_client(
    client: Client,
    read: Callable[[], bytes | None],
    write: Callable[[bytes], None],
    stop: threading.Event,
) -> None:
    """Answer one client until its stream ends, it is refused, or `stop` is set; then close it."""
    try:
        while not stop.is_set() and not client.refused:
            data = read()
            if data is None:
                return
            held = b""
            for answer in client.answers(data):
                held += answer
                if len(held) >= TOGETHER:
                    write(held)
                    held = b""
                if stop.is_set():
                    break
            if held:  # of the request at hand, even if this is the end
                write(held)
    finally:
        client.close()


def serve_stream(
    agent: Agent,
    read: Callable[[], bytes | None],
    write: Callable[[bytes], None],
    stop: threading.Event,
    peer: str = "a stream",
) -> None:
    """Answer the requests of one byte stream until it ends or `stop` is set.

    Args:
        agent: who executes.
        read: returns the next bytes, b"" where none came for a while, None at the end.
        write: sends bytes.
        stop: ends the service.
        peer: what to call the client.
    """
    serve_client(Client(agent, peer), read, write, stop)


class LineService:
    """A thread that serves one line that nobody hangs up: a terminal, a serial port.

    Hosts come and go on it unseen, so it is one client, until too many wrong proofs: the line is
    deaf for `LOCKED_S` then, and what comes after is a new client.

    Args:
        agent: who executes.
        fd: the line; stays its owner's.
        peer: what to call it.
        key: what clients must prove to hold.
    """

    def __init__(self, agent: Agent, fd: int, peer: str, key: bytes | None) -> None:
        self._agent, self._peer, self._key = agent, peer, key
        self._stop = threading.Event()
        self._port = Descriptor(fd, self._stop)
        self._client: Client | None = None
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name=f"bridge {peer}", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """Finish the request at hand and stop; what waits for the board is broken off."""
        self._stop.set()
        with self._guard:
            if self._client is not None:
                self._client.cancel()
        if self._thread.is_alive():
            self._thread.join()

    def _serve(self) -> None:
        while not self._stop.is_set():
            with self._guard:
                self._client = client = Client(self._agent, self._peer, self._key)
            if self._stop.is_set():
                client.cancel()
            serve_client(client, self._port.read, self._port.write, self._stop)
            if not client.refused:
                if not self._stop.is_set():
                    _log.error("%s: the line is gone, and no longer served", self._peer)
                return
            self._be_deaf()

    def _be_deaf(self) -> None:
        until_s = time.monotonic() + LOCKED_S
        while time.monotonic() < until_s and not self._stop.is_set():
            if self._port.read() is None:
                return
