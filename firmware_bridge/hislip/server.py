"""HiSLIP (IVI-6.1) in synchronized mode: text and frames of VISA clients, each message whole.

What comes in Data and DataEND messages goes through the bridge's `Client`; the answer is one
DataEND (long ones have Data messages before it) with the id of the request, so that a client that
has given up a request drops its late answer by itself. Not spoken: overlap mode, service requests,
and what version 2.0 adds (encryption, authentication, descriptors).
"""

from __future__ import annotations

import logging
import select
import threading
from collections.abc import Callable

from firmware_bridge.addresses import checked_host, listen
from firmware_bridge.agent import Agent
from firmware_bridge.client import Client
from firmware_bridge.hislip.locks import Locks
from firmware_bridge.hislip.messages import (
    FIRST_MESSAGE_S,
    Channel,
    Fatal,
    FatalError,
    Kind,
    Message,
)
from firmware_bridge.hislip.session import Session

PORT = 4880
VERSION = 0x0200
MAX_CLIENTS = 8
MAX_CONNECTIONS = 4 * MAX_CLIENTS  # those that have not said yet what for, too
_VENDOR = int.from_bytes(b"RR", "big")
_POLL_S = 0.05
_log = logging.getLogger(__name__)


class HislipServer:
    """Serves an agent to VISA clients, e.g. `TCPIP::127.0.0.1::hislip0,4880::INSTR`.

    Args:
        agent: who answers.
        host: an address of this machine.
        port: port number; 0 takes a free one.
        key: what clients must prove to hold; needed beyond loopback.

    Attributes:
        host: the address in use.
        port: the port number in use.

    Raises:
        InputError: the address is not loopback and there is no key, or the port is taken.
    """

    def __init__(
        self, agent: Agent, host: str = "127.0.0.1", port: int = PORT, key: bytes | None = None
    ) -> None:
        self._agent, self._key = agent, key
        self.host = checked_host(host, key)
        self._listener = listen(self.host, port)
        self.port: int = self._listener.getsockname()[1]
        self._stop, self._guard = threading.Event(), threading.Lock()
        self._threads: list[threading.Thread] = []
        self._channels: set[Channel] = set()
        self._sessions: dict[int, Session] = {}
        self._locks, self._last_number = Locks(), 0

    def start(self) -> HislipServer:
        """Serve from threads of its own, two a client."""
        self._spawn(self._accept, f"hislip {self.port}")
        return self

    def close(self) -> None:
        """Hang up, stop every thread, and free the port."""
        self._stop.set()
        while (thread := self._next_to_end()) is not None:
            thread.join()
        self._listener.close()

    def _next_to_end(self) -> threading.Thread | None:
        """Hang up on everybody that is there now, and take a thread that ends by it."""
        with self._guard:
            sessions, channels = list(self._sessions.values()), list(self._channels)
        for session in sessions:
            session.end()
        for channel in channels:
            channel.end()
        with self._guard:
            return self._threads.pop() if self._threads else None

    def __enter__(self) -> HislipServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- connections ------------------------------------------------------------------------

    def _spawn(self, work: Callable[..., None], name: str, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, name=name, daemon=True)
        thread.start()
        with self._guard:  # `close` joins it, so not before it runs
            self._threads.append(thread)

    def _accept(self) -> None:
        while not self._stop.is_set():
            ready, _, _ = select.select([self._listener], [], [], _POLL_S)
            if not ready:
                continue
            try:
                connection, peer = self._listener.accept()
            except OSError:  # gone again before we answered
                continue
            channel = Channel(connection)
            if self._n_threads() > MAX_CONNECTIONS:
                channel.fatal(Fatal.TOO_MANY)
                channel.close()
                continue
            with self._guard:
                self._channels.add(channel)
            if self._stop.is_set():  # `close` may have looked before it was there
                channel.end()
            self._spawn(self._serve, f"hislip {peer[0]}:{peer[1]}", channel, peer)

    def _n_threads(self) -> int:
        with self._guard:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            return len(self._threads)

    def _serve(self, channel: Channel, peer: tuple[str, int]) -> None:
        try:
            first = channel.receive(FIRST_MESSAGE_S)
            if first is not None and first.kind == Kind.INITIALIZE:
                self._serve_data(channel, first, f"hislip {peer[0]}:{peer[1]}")
            elif first is not None and first.kind == Kind.ASYNC_INITIALIZE:
                self._serve_news(channel, first)
            elif first is not None:
                raise FatalError(Fatal.SEQUENCE)
        except FatalError as error:
            channel.fatal(error.code)
        finally:
            channel.close()
            with self._guard:
                self._channels.discard(channel)

    def _serve_data(self, channel: Channel, first: Message, peer: str) -> None:
        version = min(first.parameter >> 16, VERSION)
        with self._guard:
            self._make_room()
            number = self._free_number()
            client = Client(self._agent, peer, self._key)
            session = Session(number, client, channel, first.parameter & 0xFFFF, self._locks)
            self._sessions[number] = session
        _log.info("%s: connected", peer)
        try:
            channel.send(Kind.INITIALIZE_RESPONSE, 0, version << 16 | number)
            session.serve_data()
        finally:
            with self._guard:
                if self._sessions.get(number) is session:
                    del self._sessions[number]
            _log.info("%s: gone", peer)

    def _make_room(self) -> None:
        """Hang up on the oldest client that has not proved the key, if there are too many."""
        if len(self._sessions) < MAX_CLIENTS:
            return
        strangers = (number for number, one in self._sessions.items() if not one.authorised)
        number = next(strangers, None)
        if number is None:
            raise FatalError(Fatal.TOO_MANY)
        self._sessions.pop(number).end()

    def _free_number(self) -> int:
        while True:
            self._last_number = self._last_number % 0xFFFF + 1
            if self._last_number not in self._sessions:
                return self._last_number

    def _serve_news(self, channel: Channel, first: Message) -> None:
        with self._guard:
            session = self._sessions.get(first.parameter)
            if session is None or session.news is not None:
                raise FatalError(Fatal.SEQUENCE)
            session.news = channel  # before the client hears of it, and sends data
        channel.send(Kind.ASYNC_INITIALIZE_RESPONSE, 0, _VENDOR)
        session.serve_news(channel)
