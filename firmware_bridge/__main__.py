"""The bridge as a command: `python -m firmware_bridge --board URL --pty PATH --tcp HOST:PORT`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import entry_points
from typing import Protocol

from firmware_bridge.agent import Agent
from firmware_bridge.errors import InputError, RramError
from firmware_bridge.server import PtyServer, TcpServer
from firmware_bridge.windows import Window, open_mmio

BOARDS_GROUP = "rram.boards"


class Board(Window, Protocol):
    """A window that can be given back."""

    def close(self) -> None:
        """Give it back; an emulated board saves its state."""
        ...


def open_board(url: str) -> Board:
    """Open mmio:// on this machine, or any board that an installed package offers by URL scheme.

    Raises:
        InputError: unknown scheme, or the board refuses the URL.
        RramError: the board cannot be opened.
    """
    scheme = url.partition("://")[0]
    openers: dict[str, Callable[[], Callable[[str], Board]]] = {
        point.name: point.load for point in entry_points(group=BOARDS_GROUP)
    }
    openers["mmio"] = lambda: open_mmio
    if "://" not in url or scheme not in openers:
        known = ", ".join(f"{name}://" for name in sorted(openers))
        raise InputError(f"--board {url}: not a board of this bridge; known: {known}")
    return openers[scheme]()(url)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m firmware_bridge",
        description="Serve the register window of a board on a pseudo-terminal or a local port.",
        epilog="example: python -m firmware_bridge --board 'sim://?seed=7' --pty ./rram0",
    )
    parser.add_argument(
        "--board",
        required=True,
        metavar="URL",
        help="mmio://0x43C00000[?via=devmem] on a board, sim://?seed=7 for an emulated one",
    )
    parser.add_argument(
        "--pty", metavar="PATH", help="make a pseudo-terminal and a link to it at PATH"
    )
    parser.add_argument(
        "--tcp", metavar="HOST:PORT", help="listen on a loopback address, e.g. 127.0.0.1:5025"
    )
    return parser


def _host_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        raise InputError(f"--tcp {text}: expected HOST:PORT, e.g. 127.0.0.1:5025")
    return host.strip("[]"), int(port)


def serve(board: str, pty: str | None, tcp: str | None, stop: threading.Event) -> None:
    """Open a board and serve it until `stop` is set; then close it.

    Raises:
        InputError: nothing to serve on, or one of the arguments is wrong.
        RramError: the board cannot be opened.
    """
    if pty is None and tcp is None:
        raise InputError("nothing to serve on: give --pty PATH, --tcp HOST:PORT, or both")
    with ExitStack() as stack:
        window = open_board(board)
        stack.callback(window.close)
        agent = Agent(window)
        if pty is not None:
            server = stack.enter_context(PtyServer(agent, pty))
            print(f"ready: serial://{pty} ({server.path})", flush=True)
        if tcp is not None:
            listener = stack.enter_context(TcpServer(agent, *_host_port(tcp)))
            print(f"ready: socket://{listener.host}:{listener.port}", flush=True)
        stop.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bridge until Ctrl-C or SIGTERM; returns the exit code."""
    options = _parser().parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        serve(options.board, options.pty, options.tcp, stop)
    except RramError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
