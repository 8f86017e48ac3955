"""Serial ports, and everything else that pyserial opens by URL.

`serial:///dev/ttyUSB0?baud=921600`, `serial:///dev/pts/3`, `serial://./rram0` (a relative path),
`serial://COM3`; `socket://host:port`; `rfc2217://host:port?baud=921600`. `timeout` (seconds without
an answer before a request is given up) goes with serial:// and socket://; other keys of the last
two are pyserial's.
"""

from __future__ import annotations

import errno
import math
import time
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from rram_host.errors import InputError, LinkError
from rram_host.transports.base import positive
from rram_host.transports.framed import FramedTransport, LinkSettings

DEFAULT_BAUD = 921600
_POLL_S = 0.05
_BITS_A_BYTE = 10  # start, eight data bits, stop
_OWN_KEYS = {"serial": {"baud", "timeout"}, "socket": {"timeout"}, "rfc2217": {"baud"}}


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
        self._port.close()


class SocketStream(PortStream):
    """The same for socket://, whose `in_waiting` knows only "none" and "some"."""

    def _rest(self) -> bytes:
        self._port.timeout = 0  # on a socket only a number, nothing is set up
        try:
            return bytes(self._port.read(1 << 16))
        finally:
            self._port.timeout = _POLL_S

    def close(self) -> None:
        """Give the socket back."""
        # Where the far end hung up first, pyserial's close fails at `shutdown` and, ignoring
        # that, drops the socket without closing it.
        socket = getattr(self._port, "_socket", None)
        super().close()
        if socket is not None:
            socket.close()


def open_serial(url: str) -> FramedTransport:
    """Open the bridge at the other end of a port; see the module for URLs.

    Raises:
        InputError: not such a URL.
        LinkError: the port is missing, forbidden or busy, or nothing answers there.
        ContractError: the bridge speaks another protocol.
    """
    parts, query = urlsplit(url), dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    if parts.scheme not in _OWN_KEYS:
        raise InputError(f"{url}: expected serial://, socket:// or rfc2217://")
    if parts.scheme == "socket":
        _check_socket(url, parts)
    own = {key: query.pop(key) for key in sorted(_OWN_KEYS[parts.scheme] & set(query))}
    if parts.scheme == "serial" and query:
        raise InputError(f"{url}: unknown key {min(query)!r}; known: baud, timeout")
    baud = positive(url, "baud", own.get("baud", DEFAULT_BAUD))
    on_wire = parts.scheme == "serial" and not parts.path.startswith("/dev/pts/")
    rate = baud / _BITS_A_BYTE if on_wire or parts.scheme == "rfc2217" else math.inf
    timeout_s = positive(url, "timeout", own.get("timeout", LinkSettings.timeout_s))
    settings = LinkSettings(timeout_s=timeout_s, bytes_per_s=rate)
    port = _open_port(url, parts, query, int(baud), settings)
    stream = SocketStream(port, url) if parts.scheme == "socket" else PortStream(port, url)
    transport = FramedTransport(stream, url, settings)
    try:
        transport.connect()
    except BaseException:
        transport.close()
        raise
    return transport


def _check_socket(url: str, parts: SplitResult) -> None:
    """Say plainly what pyserial would not."""
    try:
        port = parts.port
    except ValueError as error:
        raise InputError(f"{url}: {error}") from None
    if not parts.hostname or not port:
        raise InputError(f"{url}: needs a host and a port, e.g. socket://127.0.0.1:5025")


def _open_port(
    url: str, parts: SplitResult, query: dict[str, str], baud: int, settings: LinkSettings
) -> Any:
    import serial  # only this module needs it

    target = parts.netloc + parts.path
    if not target.strip("/"):
        raise InputError(f"{url}: names no port; expected e.g. serial:///dev/ttyUSB0?baud=921600")
    options: dict[str, Any] = {"baudrate": baud, "timeout": _POLL_S}
    if parts.scheme == "serial":
        options["exclusive"] = True
    else:
        target = parts._replace(query=urlencode(query)).geturl()
    if parts.scheme != "rfc2217":  # which refuses to open with one
        line_s = 4 * settings.frame_words / settings.bytes_per_s
        options["write_timeout"] = settings.timeout_s + 2 * line_s
    try:
        return serial.serial_for_url(target, **options)
    except (OSError, ValueError) as error:
        raise LinkError(f"{url}: {_explain(target, error)}") from error


def _explain(port: str, error: Exception) -> str:
    """Why a port does not open, and what to do about it."""
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        from serial.tools.list_ports import comports  # only this module needs it

        found = ", ".join(sorted(item.device for item in comports())) or "none"
        return f"there is no port {port}; serial ports of this machine: {found}"
    if number in (errno.EACCES, errno.EPERM):
        return f"no permission to open {port}: is your user in the group that owns it (dialout)?"
    if number in (errno.EBUSY, errno.EAGAIN):
        return f"{port} is in use by another program"
    return f"cannot open {port}: {error}"
