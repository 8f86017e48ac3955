"""Boards behind a VISA library, for labs whose instruments all speak VISA.

`visa://TCPIP::127.0.0.1::5025::SOCKET`, `visa://ASRL/dev/ttyUSB0::INSTR?baud=921600`: what follows
visa:// is a VISA resource string of a message-based resource, whose bytes carry the frames. Keys:
`baud` (ASRL only), `timeout` (seconds without an answer before a request is given up) and `library`
(as PyVISA writes it: `@py`, the default, needs no vendor library; `@ivi` takes the system's).
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl
from weakref import WeakKeyDictionary

from firmware_bridge.frames import Frame, Kind, encode
from rram_host.errors import InputError, LinkError
from rram_host.transports.base import positive
from rram_host.transports.framed import FramedTransport, LinkSettings
from rram_host.transports.serial import DEFAULT_BAUD

if TYPE_CHECKING:
    from pyvisa import ResourceManager
    from pyvisa.resources import MessageBasedResource, SerialInstrument

DEFAULT_LIBRARY = "@py"
_KEYS = ("baud", "library", "timeout")
_EXAMPLE = "visa://TCPIP::127.0.0.1::5025::SOCKET"
_BITS_A_BYTE = 10  # start, eight data bits, stop
_TAKEN_PER_S = 50_000  # bytes; pyvisa-py fetches those of a port one by one, whatever the line does
_WAIT_MS = 50
_DRAIN_MS = 1  # the shortest that VISA knows
_BULK = 1 << 16
_PAUSES_S = (1e-4, 5e-3)
_LONGEST_MS = 0xFFFF_FFFE  # one more means for ever

# Without a message end pyvisa-py's sockets return at once only when all that was asked for is
# there, and wait at least 1 ms for more otherwise. Of the usual replies the sizes are known: the
# shortest there is, to a write, and how much longer the reply with one word is.
_SHORTEST = len(encode(Frame(Kind.REPLY, 0, 0, 0, 0)))
_SIZES = (_SHORTEST, 4, _BULK)


# ---- streams --------------------------------------------------------------------------------


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

    def _piece(self, size: int) -> bytes:
        from pyvisa import VisaIOError  # only this module needs it
        from pyvisa.constants import StatusCode

        try:
            return self._resource.read_bytes(size, chunk_size=size, break_on_termchar=True)
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


@contextmanager
def _link_errors(what: str) -> Iterator[None]:
    from pyvisa import Error  # only this module needs it

    try:
        yield
    # pyvisa-py passes on what sockets and pyserial raise, and fails as it can if closed under way.
    except (Error, OSError, AttributeError, TypeError, ValueError) as error:
        raise LinkError(f"{what}: {error}") from error


# ---- opening --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Target:
    """What a URL names."""

    url: str
    resource: str
    library: str
    baud: int
    settings: LinkSettings

    @property
    def write_ms(self) -> int:
        line_s = 4 * self.settings.frame_words / self.settings.bytes_per_s
        return min(math.ceil(1000 * (self.settings.timeout_s + 2 * line_s)), _LONGEST_MS)


def open_visa(url: str) -> FramedTransport:
    """Open the bridge behind a VISA resource; see the module for URLs.

    Raises:
        InputError: not such a URL, or no message-based resource.
        LinkError: the library or the resource is missing, forbidden or busy, or nothing answers.
        ContractError: the bridge speaks another protocol.
    """
    target, held = _parse(url), ExitStack()
    try:
        transport = FramedTransport(_open_stream(target, held), url, target.settings)
        transport.connect()
    except BaseException:
        held.close()
        raise
    return transport


def _parse(url: str) -> _Target:
    scheme, _, rest = url.partition("://")
    resource, _, keys = rest.partition("?")
    if scheme != "visa" or not resource:
        raise InputError(f"{url}: names no VISA resource; expected e.g. {_EXAMPLE}")
    query, is_serial = dict(parse_qsl(keys, keep_blank_values=True)), _is_serial(resource)
    known = [key for key in _KEYS if is_serial or key != "baud"]
    for key in query:
        if key not in known:
            raise InputError(f"{url}: unknown key {key!r}; known here: {', '.join(known)}")
    baud = int(positive(url, "baud", query.get("baud", DEFAULT_BAUD)))
    timeout_s = positive(url, "timeout", query.get("timeout", LinkSettings.timeout_s))
    # Patience follows the slower of line and library, on a pseudo-terminal too: what is asked for
    # again while it still comes is answered twice, and clogs the line.
    rate = min(baud / _BITS_A_BYTE, _TAKEN_PER_S) if is_serial else math.inf
    settings = LinkSettings(timeout_s=timeout_s, bytes_per_s=rate)
    return _Target(url, resource, query.get("library") or DEFAULT_LIBRARY, baud, settings)


def _is_serial(resource: str) -> bool:
    return resource.upper().startswith("ASRL")


def _open_stream(target: _Target, held: ExitStack) -> MessageStream:
    _check_name(target)
    manager = _take_manager(target)
    held.callback(_give_back, manager)
    resource = _open_resource(manager, target)
    held.callback(resource.close)
    try:
        _make_transparent(resource, target)
    except Exception as error:  # pyvisa-py raises what pyserial and termios raise
        raise LinkError(f"{target.url}: cannot set up {target.resource}: {error}") from error
    stream = SerialStream if hasattr(resource, "bytes_in_buffer") else MessageStream
    return stream(resource, target.url, target.write_ms, held)


def _check_name(target: _Target) -> None:
    """Refuse what pyvisa-py fails to open, forgetting to close the socket that it made."""
    from pyvisa import rname  # only this module needs it

    if not target.library.endswith("@py"):
        return  # other libraries know aliases, and address families, of their own
    try:
        parsed = rname.parse_resource_name(target.resource)
    except rname.InvalidResourceName as error:
        raise InputError(f"{target.url}: {error}; expected e.g. {_EXAMPLE}") from error
    if isinstance(parsed, rname.TCPIPInstr | rname.TCPIPSocket):
        try:
            socket.getaddrinfo(parsed.host_address, None, socket.AF_INET)
        except OSError as error:
            raise LinkError(f"{target.url}: no host {parsed.host_address}: {error}") from error
    if isinstance(parsed, rname.TCPIPSocket):
        port = int(parsed.port) if parsed.port.isdecimal() else 0
        if not 0 < port < 1 << 16:
            raise InputError(f"{target.url}: port {parsed.port} is outside 1..65535")


def _open_resource(manager: ResourceManager, target: _Target) -> MessageBasedResource:
    from pyvisa import VisaIOError  # only this module needs it
    from pyvisa.constants import StatusCode
    from pyvisa.resources import MessageBasedResource

    connect_ms = math.ceil(1000 * target.settings.connect_s)
    try:
        resource = manager.open_resource(target.resource, open_timeout=connect_ms)
    except Exception as error:  # pyvisa-py raises bare Exceptions
        code = error.error_code if isinstance(error, VisaIOError) else None
        kind = InputError if code == StatusCode.error_invalid_resource_name else LinkError
        raise kind(f"{target.url}: cannot open {target.resource}: {error}") from error
    if not isinstance(resource, MessageBasedResource):
        resource.close()
        raise InputError(f"{target.url}: {target.resource} carries no messages")
    return resource


def _make_transparent(resource: MessageBasedResource, target: _Target) -> None:
    """Every byte passes as it is, and a read ends where nothing more is there."""
    from pyvisa.constants import ControlFlow, Parity, ResourceAttribute, SerialTermination, StopBits
    from pyvisa.resources import SerialInstrument, TCPIPSocket

    resource.read_termination, resource.write_termination = None, ""
    if isinstance(resource, TCPIPSocket):
        resource.set_visa_attribute(ResourceAttribute.suppress_end_enabled, False)
    if isinstance(resource, SerialInstrument):
        resource.baud_rate, resource.data_bits = target.baud, 8
        resource.parity, resource.stop_bits = Parity.none, StopBits.one
        resource.flow_control = ControlFlow.none
        resource.end_input = resource.end_output = SerialTermination.none


# ---- resource managers ----------------------------------------------------------------------

# PyVISA has one manager a library, for the whole program, and closing it closes all that it opened:
# only those that began here are closed here, and only with their last link.
_LINKS: WeakKeyDictionary[ResourceManager, int] = WeakKeyDictionary()
_LOCK = threading.Lock()


def _take_manager(target: _Target) -> ResourceManager:
    from pyvisa import ResourceManager  # only this module needs it
    from pyvisa.highlevel import open_visa_library

    with _LOCK:
        try:
            library = open_visa_library(target.library)
            began_here = library.resource_manager is None
            manager = ResourceManager(library)
        except Exception as error:  # a library fails to load in many ways
            raise LinkError(
                f"{target.url}: cannot load the VISA library {target.library}; "
                f"{DEFAULT_LIBRARY} needs none: {' '.join(str(error).split())}"
            ) from error
        if began_here or manager in _LINKS:
            _LINKS[manager] = _LINKS.get(manager, 0) + 1
        return manager


def _give_back(manager: ResourceManager) -> None:
    with _LOCK:
        if manager not in _LINKS:
            return
        _LINKS[manager] -= 1
        if not _LINKS[manager] and not manager.list_opened_resources():
            del _LINKS[manager]
            manager.close()
