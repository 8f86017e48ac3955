"""Serial ports, and everything else that pyserial opens by URL.

`serial:///dev/ttyUSB0?baud=921600`, `serial:///dev/pts/3`, `serial://./rram0` (a relative path),
`serial://COM3`; `serial://usb` (the ZC706's own USB port, wherever it is plugged in) or
`serial://?vid=10C4&pid=EA60`, with `serial=NUMBER` where several fit; `socket://host:port`;
`rfc2217://host:port?baud=921600`. `timeout` (seconds without an answer before a request is given
up) goes with serial:// and socket://, `key` (a file) with all of them, for a bridge that asks for
one; other keys of the last two are pyserial's.
"""

from __future__ import annotations

import math
import os
import select
import time
from dataclasses import dataclass
from socket import IPPROTO_TCP as TCP
from socket import TCP_NODELAY as NO_DELAY
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from firmware_bridge.auth import load_key
from rram_host.errors import InputError, LinkError
from rram_host.transports.base import positive
from rram_host.transports.framed import FramedTransport, LinkSettings
from rram_host.transports.overheard import connected
from rram_host.transports.ports import usb_port, why_not_open

DEFAULT_BAUD = 921600
_POLL_S = 0.05
_CHUNK = 1 << 16
_BITS_A_BYTE = 10  # start, eight data bits, stop
_USB_KEYS = {"pid", "serial", "vid"}
_OWN_KEYS = {
    "serial": {"baud", "key", "timeout"} | _USB_KEYS,
    "socket": {"key", "timeout"},
    "rfc2217": {"baud", "key"},
}
_PYSERIAL_KEYS = {
    "serial": set[str](),
    "socket": {"logging"},
    "rfc2217": {"ign_set_control", "logging", "poll_modem", "timeout"},
}


class PortStream:
    """A pyserial port as a `Stream`.

    The port's timeout is set once: changing it sets the whole port up again.
    """

    def __init__(self, port: Any, name: str) -> None:
        self._port, self._name = port, name

    def write(self, data: bytes) -> None:
        """Send all bytes.

        Raises:
            LinkError: the port is gone, or takes nothing.
        """
        try:
            self._port.write(data)
        except OSError as error:  # pyserial's SerialException is one
            raise LinkError(f"{self._name}: cannot send: {error}") from error

    def read(self, timeout_s: float) -> bytes:
        """Return bytes as soon as some are there; b"" after `timeout_s` without any.

        Raises:
            LinkError: the port is gone.
        """
        until = time.monotonic() + timeout_s
        try:
            while True:
                first = self._port.read(1)
                if first:
                    return bytes(first) + self._rest()
                if time.monotonic() >= until:
                    return b""
        except (OSError, TypeError) as error:  # TypeError: pyserial, port closed under way
            raise LinkError(f"{self._name}: the line is gone: {error}") from error

    def _rest(self) -> bytes:
        return bytes(self._port.read(self._port.in_waiting))

    def close(self) -> None:
        """Give the port back."""
        # Where the far end of socket:// or rfc2217:// hung up first, pyserial's close fails at
        # `shutdown` and, ignoring that, drops the socket without closing it.
        socket = getattr(self._port, "_socket", None)
        self._port.close()
        if socket is not None:
            socket.close()


class DescriptorStream(PortStream):
    """The same for ports with a descriptor and a timeout of zero: a wait is one system call."""

    def read(self, timeout_s: float) -> bytes:
        """Return bytes as soon as some are there; b"" after `timeout_s` without any.

        Raises:
            LinkError: the port is gone.
        """
        try:
            if not select.select([self._port.fileno()], [], [], timeout_s)[0]:
                return b""
            data = piece = bytes(self._port.read(_CHUNK))
            while piece and len(data) < _CHUNK:  # a terminal gives 4 kB at a time
                piece = self._port.read(_CHUNK)
                data += piece
        except (OSError, TypeError, ValueError) as error:  # the last two: closed under way
            raise LinkError(f"{self._name}: the line is gone: {error}") from error
        return data


class SocketStream(PortStream):
    """The same for socket://, read without pyserial.

    Its `read` drops what came before the far end hung up, and takes two system calls more.
    """

    def __init__(self, port: Any, name: str) -> None:
        super().__init__(port, name)
        # Otherwise the end of what is sent waits for the far end to say that it has the beginning.
        port._socket.setsockopt(TCP, NO_DELAY, 1)

    def read(self, timeout_s: float) -> bytes:
        """Return bytes as soon as some are there; b"" after `timeout_s` without any.

        Raises:
            LinkError: the far end has hung up.
        """
        try:
            if not select.select([self._port.fileno()], [], [], timeout_s)[0]:
                return b""
            data = bytes(self._port._socket.recv(_CHUNK))
        except (OSError, AttributeError, ValueError) as error:  # the last two: closed under way
            raise LinkError(f"{self._name}: the line is gone: {error}") from error
        if not data:
            raise LinkError(f"{self._name}: the line is gone: the far end has hung up")
        return data


# ---- opening --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Target:
    """What a URL names: the port as pyserial takes it, and how to use it."""

    url: str
    scheme: str
    port: str
    baud: int
    settings: LinkSettings
    key: bytes | None


def open_serial(url: str) -> FramedTransport:
    """Open the bridge at the other end of a port; see the module for URLs.

    Raises:
        InputError: not such a URL.
        LinkError: the port is missing, forbidden or busy, nothing answers there, or something
            that is no bridge.
        ContractError: the bridge speaks another protocol.
    """
    target = _parse(url)
    port = _open_port(target)
    return connected(_stream(target, port), url, target.settings, target.key)


def _stream(target: _Target, port: Any) -> PortStream:
    if target.scheme == "socket":
        return SocketStream(port, target.url)
    return (DescriptorStream if _has_descriptor(target) else PortStream)(port, target.url)


def _has_descriptor(target: _Target) -> bool:
    return target.scheme == "socket" or (target.scheme == "serial" and os.name == "posix")


def _parse(url: str) -> _Target:
    parts, query = urlsplit(url), dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    if parts.scheme not in _OWN_KEYS:
        raise InputError(f"{url}: expected serial://, socket:// or rfc2217://")
    if parts.scheme == "socket":
        _check_socket(url, parts)
    known = _OWN_KEYS[parts.scheme]
    own = {key: query.pop(key) for key in sorted(known & set(query))}
    unknown = set(query) - _PYSERIAL_KEYS[parts.scheme]
    if unknown:
        raise InputError(f"{url}: unknown key {min(unknown)!r}; known: {', '.join(sorted(known))}")
    baud = positive(url, "baud", own.get("baud", DEFAULT_BAUD))
    timeout_s = positive(url, "timeout", own.get("timeout", LinkSettings.timeout_s))
    key = load_key(own["key"]) if "key" in own else None
    port = _port_name(url, parts, query, own)
    # A pseudo-terminal has no speed, and loses nothing.
    is_pty = parts.scheme == "serial" and os.path.realpath(port).startswith("/dev/pts/")
    on_wire = parts.scheme == "serial" and not is_pty
    rate = baud / _BITS_A_BYTE if on_wire or parts.scheme == "rfc2217" else math.inf
    settings = LinkSettings(timeout_s=timeout_s, bytes_per_s=rate)
    if parts.scheme == "socket" or is_pty:
        settings = settings.lossless()
    return _Target(url, parts.scheme, port, int(baud), settings, key)


def _check_socket(url: str, parts: SplitResult) -> None:
    """Say plainly what pyserial would not."""
    try:
        port = parts.port
    except ValueError as error:
        raise InputError(f"{url}: {error}") from None
    if not parts.hostname or not port:
        raise InputError(f"{url}: needs a host and a port, e.g. socket://127.0.0.1:5025")


def _port_name(url: str, parts: SplitResult, query: dict[str, str], own: dict[str, str]) -> str:
    if parts.scheme != "serial":
        return parts._replace(query=urlencode(query)).geturl()
    named, numbers = parts.netloc + parts.path, _USB_KEYS & set(own)
    if named == "usb" or (not named.strip("/") and numbers):
        return usb_port(url, own)
    if not named.strip("/"):
        raise InputError(f"{url}: names no port; expected e.g. serial:///dev/ttyUSB0?baud=921600")
    if numbers:
        raise InputError(f"{url}: names the port {named}, so {min(numbers)} has nothing to find")
    return named


def _open_port(target: _Target) -> Any:
    import serial  # only this module needs it

    timeout_s = 0 if _has_descriptor(target) else _POLL_S
    options: dict[str, Any] = {"baudrate": target.baud, "timeout": timeout_s}
    if target.scheme == "serial":
        options["exclusive"] = True
    if target.scheme != "rfc2217":  # which refuses to open with one
        line_s = 4 * target.settings.frame_words / target.settings.bytes_per_s
        options["write_timeout"] = target.settings.timeout_s + 2 * line_s
    try:
        return serial.serial_for_url(target.port, **options)
    except (OSError, ValueError) as error:
        raise LinkError(f"{target.url}: {why_not_open(target.port, error)}") from error
