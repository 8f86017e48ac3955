"""A minimal bridge: an agent behind a pseudo-terminal or a TCP port of this machine.

Nothing here listens beyond loopback: there is no authentication. For another machine, forward the
port through ssh.
"""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path

from firmware_bridge.agent import Agent
from firmware_bridge.errors import InputError
from firmware_bridge.frames import REQUESTS, FrameDecoder, encode
from firmware_bridge.windows import Window

MAX_CLIENTS = 8
_POLL_S = 0.05  # how soon a server notices that it shall stop
_STUCK_S = 5.0  # a host that takes no byte of a reply for so long has lost interest
_CHUNK = 1 << 16


def serve_stream(
    agent: Agent,
    read: Callable[[], bytes | None],
    write: Callable[[bytes], None],
    stop: threading.Event,
) -> None:
    """Answer the requests of one byte stream until it ends or `stop` is set.

    Args:
        agent: who answers.
        read: returns the next bytes, b"" where none came for a while, None at the end.
        write: sends bytes.
        stop: ends the service.
    """
    decoder = FrameDecoder()
    while not stop.is_set():
        data = read()
        if data is None:
            return
        for frame in decoder.feed(data):
            # Answering an answer could go on for ever between two agents, or on an echoing line.
            if frame.kind in REQUESTS:
                write(encode(agent.handle(frame)))


class _Descriptor:
    """Bytes in and out of a non-blocking file descriptor, watching for `stop`."""

    def __init__(self, fd: int, stop: threading.Event) -> None:
        os.set_blocking(fd, False)
        self._fd, self._stop = fd, stop

    def read(self) -> bytes | None:
        ready, _, _ = select.select([self._fd], [], [], _POLL_S)
        if not ready:
            return b""
        try:
            return os.read(self._fd, _CHUNK) or None
        except BlockingIOError:
            return b""
        except OSError:  # the other end is gone
            return None

    def write(self, data: bytes) -> None:
        """Send, or drop the rest when nobody takes it: the host will ask again."""
        left = memoryview(data)
        until = time.monotonic() + _STUCK_S
        while left and not self._stop.is_set() and time.monotonic() < until:
            _, ready, _ = select.select([], [self._fd], [], _POLL_S)
            if not ready:
                continue
            try:
                left = left[os.write(self._fd, left) :]
                until = time.monotonic() + _STUCK_S
            except BlockingIOError:
                continue
            except OSError:
                return


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

    Attributes:
        path: the terminal to open.

    Raises:
        InputError: `link_path` is taken, or its folder does not exist.
    """

    def __init__(self, window: Window | Agent, link_path: str | Path | None = None) -> None:
        self._agent = _agent(window)
        self._link = Path(link_path) if link_path is not None else None
        self._master, self._slave = os.openpty()
        self.path = os.ttyname(self._slave)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        try:
            # Kept open here, the slave side survives hosts that come and go, and stays raw.
            tty.setraw(self._slave)
            if self._link is not None:
                _make_link(self._link, self.path)
        except BaseException:
            self._close_terminal()
            raise

    def start(self) -> PtyServer:
        """Serve from a thread of its own."""
        port = _Descriptor(self._master, self._stop)
        self._thread = threading.Thread(
            target=serve_stream,
            args=(self._agent, port.read, port.write, self._stop),
            name=f"bridge {self.path}",
            daemon=True,
        )
        self._thread.start()
        return self

    def close(self) -> None:
        """Finish the request at hand, stop the thread, remove terminal and link."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
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


class TcpServer:
    """Serves a window on a TCP port of this machine, for `socket://127.0.0.1:PORT`.

    Args:
        window: the board, or an `Agent` that several servers share.
        host: a loopback address; anything else is refused.
        port: port number; 0 takes a free one.

    Attributes:
        port: the port number in use.

    Raises:
        InputError: `host` is not loopback, or the port is taken.
    """

    def __init__(self, window: Window | Agent, host: str = "127.0.0.1", port: int = 0) -> None:
        self._agent, self.host = _agent(window), _loopback(host)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((self.host, port))
            self._listener.listen()
        except (OSError, OverflowError) as error:
            self._listener.close()
            raise InputError(f"cannot listen on {self.host} port {port}: {error}") from error
        self.port: int = self._listener.getsockname()[1]

    def start(self) -> TcpServer:
        """Serve from threads of its own, one a client."""
        self._spawn(self._accept, f"bridge port {self.port}")
        return self

    def close(self) -> None:
        """Finish the requests at hand, hang up and stop every thread."""
        self._stop.set()
        while self._threads:
            self._threads.pop().join()
        self._listener.close()

    def _spawn(self, work: Callable[..., None], name: str, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stop.is_set():
            ready, _, _ = select.select([self._listener], [], [], _POLL_S)
            if not ready:
                continue
            try:
                client, peer = self._listener.accept()
            except OSError:  # gone again before we answered
                continue
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if len(self._threads) > MAX_CLIENTS:
                client.close()
            else:
                self._spawn(self._serve, f"bridge client {peer[1]}", client)

    def _serve(self, client: socket.socket) -> None:
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            port = _Descriptor(client.fileno(), self._stop)
            serve_stream(self._agent, port.read, port.write, self._stop)

    def __enter__(self) -> TcpServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


def _agent(window: Window | Agent) -> Agent:
    return window if isinstance(window, Agent) else Agent(window)


def _loopback(host: str) -> str:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise InputError(f"{host!r} is not an IP address; the bridge serves 127.0.0.1") from None
    if not address.is_loopback:
        raise InputError(
            f"{host} is reachable from outside; the bridge has no authentication and serves "
            "loopback only, e.g. 127.0.0.1. Forward the port through ssh"
        )
    return str(address)


def _points_to(link: Path, target: str) -> bool:
    return link.is_symlink() and str(link.readlink()) == target


def _make_link(link: Path, target: str) -> None:
    """Replace a link that a killed bridge left behind, and nothing else."""
    if link.is_symlink() and (not link.exists() or str(link.readlink()).startswith("/dev/pts/")):
        link.unlink()
    try:
        link.symlink_to(target)
    except OSError as error:
        raise InputError(f"cannot make the link {link} to {target}: {error.strerror}") from error
