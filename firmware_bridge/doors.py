"""The listeners of a bridge, as its command line names them, around one agent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from firmware_bridge.addresses import checked_host, host_port, is_loopback, url_host
from firmware_bridge.agent import Agent
from firmware_bridge.errors import InputError
from firmware_bridge.hislip import HislipServer
from firmware_bridge.serial_line import SerialServer, device_baud
from firmware_bridge.server import PtyServer, TcpServer


@dataclass(frozen=True)
class Doors:
    """What to listen on.

    Attributes:
        pty: paths of links to pseudo-terminals.
        serial: serial ports, DEVICE[:BAUD].
        tcp: HOST:PORT.
        hislip: PORT or HOST:PORT.
        key: what clients must prove to hold; None where nothing is asked of them.
    """

    pty: Sequence[str] = ()
    serial: Sequence[str] = ()
    tcp: Sequence[str] = ()
    hislip: Sequence[str] = ()
    key: bytes | None = None

    def check(self) -> None:
        """Refuse what can be refused before the board is opened.

        Raises:
            InputError: nothing to serve on, no such address, or one beyond loopback without a key.
        """
        if not (self.pty or self.serial or self.tcp or self.hislip):
            raise InputError(
                "nothing to serve on: give --tcp HOST:PORT, --hislip PORT, --pty PATH or --serial "
                "DEVICE, each as often as you like"
            )
        for text in self.serial:
            device_baud(text)
        for host, _ in self._network():
            checked_host(host, self.key)

    @property
    def beyond_loopback(self) -> list[str]:
        """Addresses that other machines reach."""
        return [
            f"{url_host(host)}:{port}" for host, port in self._network() if not is_loopback(host)
        ]

    def _network(self) -> list[tuple[str, int]]:
        return [_tcp(text) for text in self.tcp] + [_hislip(text) for text in self.hislip]

    @contextmanager
    def opened(self, agent: Agent) -> Iterator[list[str]]:
        """Listen on all of it; yields what a host opens, one URL a listener.

        Raises:
            InputError: one of them is taken, missing or forbidden.
        """
        with ExitStack() as stack:
            yield [*self._open_lines(agent, stack), *self._open_ports(agent, stack)]

    def _open_lines(self, agent: Agent, stack: ExitStack) -> Iterator[str]:
        for path in self.pty:
            terminal = stack.enter_context(PtyServer(agent, path, self.key))
            yield f"{terminal.url} ({terminal.path})"
        for text in self.serial:
            port = stack.enter_context(SerialServer(agent, *device_baud(text), self.key))
            yield f"the far end of {port.device}, as serial://PORT?baud={port.baud}"

    def _open_ports(self, agent: Agent, stack: ExitStack) -> Iterator[str]:
        for text in self.tcp:
            tcp = stack.enter_context(TcpServer(agent, *_tcp(text), self.key))
            yield tcp.url
        for text in self.hislip:
            hislip = stack.enter_context(HislipServer(agent, *_hislip(text), self.key))
            yield f"visa://TCPIP::{hislip.host}::hislip0,{hislip.port}::INSTR"


def _tcp(text: str) -> tuple[str, int]:
    return host_port(text, "--tcp")


def _hislip(text: str) -> tuple[str, int]:
    return host_port(text, "--hislip", "127.0.0.1")
