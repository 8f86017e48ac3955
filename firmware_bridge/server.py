"""Pseudo-terminals and TCP ports, with an agent behind them: frames and text alike.

Beyond this machine nothing listens without a key.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import select
import socket
import threading
import time
import tty
from pathlib import Path

from firmware_bridge.addresses import checked_host, listen, url_host
from firmware_bridge.agent import Agent
from firmware_bridge.client import Client
from firmware_bridge.errors import InputError
from firmware_bridge.streams import (
    POLL_S,
    Descriptor,
    LineService,
    agent_of,
    serve_client,
    serve_stream,
)
from firmware_bridge.windows import Window

__all__ = ["MAX_CLIENTS", "PtyServer", "TcpServer", "serve_stream"]

MAX_CLIENTS = 16
IDLE_S = 60.0
LINGER_S = 1.0  # below the watchdog's time
_log = logging.getLogger(__name__)


# ---- pseudo-terminals -----------------------------------------------------------------------


class PtyServer:
    """Serves a window on a pseudo-terminal, which a host opens like any serial port.

    >>> import numpy as np
    >>> class Nothing:
    ...     def read(self, address, count):
    ...         return np.zeros(count, np.uint32)
    ...     def write(self, address, words):
    ...         pass
    >>> with PtyServer(Nothing()) as server:
    ...     server.path.startswith("/dev/")
    True

    Args:
        window: the board, or an `Agent` that several servers share.
        link_path: where to put a symbolic link to the terminal; a stale link is replaced.
        key: what clients must prove to hold; None where nothing is asked of them.

    Attributes:
        path: the terminal to open.

    Raises:
        InputError: `link_path` is taken, or its folder does not exist.
    """

    def __init__(
        self, window: Window | Agent, link_path: str | Path | None = None, key: bytes | None = None
    ) -> None:
        self._link = Path(link_path) if link_path is not None else None
        self._master, self._slave = os.openpty()
        self.path = os.ttyname(self._slave)
        try:
            # Kept open here, the slave side survives hosts that come and go, and stays raw.
            tty.setraw(self._slave)
            fcntl.lockf(self._slave, fcntl.LOCK_EX | fcntl.LOCK_NB)  # `flock` is for hosts
            name = str(link_path or self.path)
            self._service = LineService(agent_of(window), self._master, name, key)
            if self._link is not None:
                _make_link(self._link, self.path)
        except BaseException:
            self._close_terminal()
            raise

    @property
    def url(self) -> str:
        """What a host opens."""
        return f"serial://{self._link or self.path}"

    def start(self) -> PtyServer:
        """Serve from a thread of its own."""
        self._service.start()
        return self

    def close(self) -> None:
        """Finish the request at hand, stop the thread, remove terminal and link."""
        self._service.close()
        if self._link is not None and _points_to(self._link, self.path):
            self._link.unlink()
        self._close_terminal()

    def _close_terminal(self) -> None:
        for fd in (self._master, self._slave):
            if fd >= 0:
                os.close(fd)
        self._master = self._slave = -1

    def __enter__(self) -> PtyServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


def _points_to(link: Path, target: str) -> bool:
    return link.is_symlink() and str(link.readlink()) == target


def _is_served(link: Path) -> bool:
    """Whether another process holds the terminal as `PtyServer` does."""
    try:
        fd = os.open(link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _make_link(link: Path, target: str) -> None:
    """Replace a link that a killed bridge left behind, and nothing else."""
    if link.is_symlink() and (not link.exists() or str(link.readlink()).startswith("/dev/pts/")):
        if _is_served(link):
            raise InputError(f"{link} is the terminal of another bridge, which still serves it")
        link.unlink()
    try:
        link.symlink_to(target)
    except OSError as error:
        raise InputError(f"cannot make the link {link} to {target}: {error.strerror}") from error


# ---- TCP ------------------------------------------------------------------------------------


class _Connection:
    """One client on TCP, served by a thread of its own."""

    def __init__(self, server: TcpServer, sock: socket.socket, peer: str) -> None:
        self._socket, self._stop = sock, threading.Event()
        self._hung_up_s = math.inf
        self.client = Client(server.agent, peer, server.key, gone=self._has_hung_up)
        self.thread = threading.Thread(target=self._serve, name=f"bridge {peer}", daemon=True)
        self.thread.start()

    def hang_up(self) -> None:
        """Let the thread end: it finishes the request at hand."""
        self._stop.set()
        self.client.cancel()
        with contextlib.suppress(OSError):  # gone already
            self._socket.shutdown(socket.SHUT_RD)  # it need not wait for more

    def _has_hung_up(self) -> bool:
        """Whether that was some time ago: `printf ... | nc -N` still gets what takes no longer.

        Seen behind what it sent before, too: who is gone must not keep the watchdog at bay.
        """
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        if not poll.poll(0):
            return False
        self._hung_up_s = min(self._hung_up_s, time.monotonic())
        return time.monotonic() - self._hung_up_s > LINGER_S

    def _serve(self) -> None:
        with self._socket:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            port = Descriptor(self._socket.fileno(), self._stop, give_up=True)
            serve_client(self.client, port.read, port.write, self._stop)
        _log.info("%s: closed", self.client.peer)


class TcpServer:
    """Serves a window on a TCP port, for `socket://127.0.0.1:PORT` and for terminal programs.

    At most `MAX_CLIENTS` at a time. One more takes the place of the oldest that has not yet sent
    anything whole, or of a reader that was silent for `IDLE_S`; where there is none, it is hung up
    on.

    Args:
        window: the board, or an `Agent` that several servers share.
        host: an IP address; one that others reach only together with a key.
        port: port number; 0 takes a free one.
        key: what clients must prove to hold; None where nothing is asked of them.

    Attributes:
        port: the port number in use.

    Raises:
        InputError: `host` may not be listened on, or the port is taken.
    """

    def __init__(
        self,
        window: Window | Agent,
        host: str = "127.0.0.1",
        port: int = 0,
        key: bytes | None = None,
    ) -> None:
        self.agent, self.host, self.key = agent_of(window), checked_host(host, key), key
        self._stop = threading.Event()
        self._connections: list[_Connection] = []
        self._listener = listen(self.host, port)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(
            target=self._accept, name=f"bridge port {self.port}", daemon=True
        )

    @property
    def url(self) -> str:
        """What a host opens."""
        return f"socket://{url_host(self.host)}:{self.port}"

    def start(self) -> TcpServer:
        """Serve from threads of its own, one a client."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Finish the requests at hand, hang up and stop every thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for connection in self._connections:
            connection.hang_up()
        while self._connections:
            self._connections.pop().thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            ready, _, _ = select.select([self._listener], [], [], POLL_S)
            if not ready:
                continue
            try:
                sock, address = self._listener.accept()
            except OSError:  # gone again before we answered, or no more files for this process
                self._stop.wait(POLL_S)
                continue
            self._welcome(sock, f"{url_host(address[0])}:{address[1]}")

    def _welcome(self, sock: socket.socket, peer: str) -> None:
        self._connections = [known for known in self._connections if known.thread.is_alive()]
        if not self._has_room():
            _log.warning("%s: hung up on, there are %d clients already", peer, MAX_CLIENTS)
            sock.close()
            return
        _log.info("%s: connected", peer)
        self._connections.append(_Connection(self, sock, peer))

    def _has_room(self) -> bool:
        if len(self._connections) < MAX_CLIENTS:
            return True
        # Oldest first: `max` takes the first of those that have never sent anything whole.
        idlest = max(self._connections, key=lambda known: known.client.silent_s)
        if idlest.client.silent_s < IDLE_S or idlest.client.writes:
            return False
        _log.warning("%s: hung up on to make room", idlest.client.peer)
        idlest.hang_up()
        idlest.thread.join()
        self._connections.remove(idlest)
        return True

    def __enter__(self) -> TcpServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()
