"""Boards behind a VISA library, for labs whose instruments all speak VISA.

`visa://TCPIP::127.0.0.1::5025::SOCKET`, `visa://TCPIP::127.0.0.1::hislip0::INSTR` (with a port of
its own: `hislip0,4881`), `visa://ASRL/dev/ttyUSB0::INSTR?baud=921600`: what follows visa:// is a
VISA resource string of a message-based resource, whose bytes carry the frames. Keys: `baud` (ASRL
only), `key` (a file, for a bridge that asks for one), `timeout` (seconds without an answer before a
request is given up) and `library` (as PyVISA writes it: `@py`, the default, needs no vendor
library; `@ivi` takes the system's).
"""

from __future__ import annotations

import math
import socket
import struct
import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl
from weakref import WeakKeyDictionary

from firmware_bridge.auth import load_key
from rram_host.errors import InputError, LinkError
from rram_host.transports.base import positive
from rram_host.transports.framed import FramedTransport, LinkSettings
from rram_host.transports.overheard import connected
from rram_host.transports.serial import DEFAULT_BAUD
from rram_host.transports.visa_streams import (
    LONGEST_MS,
    HislipStream,
    MessageStream,
    SerialStream,
)

if TYPE_CHECKING:
    from pyvisa import ResourceManager
    from pyvisa.resources import MessageBasedResource

DEFAULT_LIBRARY = "@py"
_KEYS = ("baud", "key", "library", "timeout")
_EXAMPLE = "visa://TCPIP::127.0.0.1::5025::SOCKET"
HISLIP_PORT = 4880  # where HiSLIP servers listen
_INITIALIZE, _INITIALIZE_RESPONSE, _FATAL_ERROR = 0, 1, 2  # of its messages
_VERSION_1 = 0x0100_7878  # what pyvisa-py says of itself
_HISLIP_RESEND_S = 2.0
_BITS_A_BYTE = 10  # start, eight data bits, stop
_TAKEN_PER_S = 50_000  # bytes; pyvisa-py fetches those of a port one by one, whatever the line does


# ---- opening --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Target:
    """What a URL names."""

    url: str
    resource: str
    library: str
    baud: int
    settings: LinkSettings
    key: bytes | None

    @property
    def write_ms(self) -> int:
        line_s = 4 * self.settings.frame_words / self.settings.bytes_per_s
        return min(math.ceil(1000 * (self.settings.timeout_s + 2 * line_s)), LONGEST_MS)


def open_visa(url: str) -> FramedTransport:
    """Open the bridge behind a VISA resource; see the module for URLs.

    Raises:
        InputError: not such a URL, or no message-based resource.
        LinkError: the library or the resource is missing, forbidden or busy, nothing answers
            there, or something that is no bridge.
        ContractError: the bridge speaks another protocol.
    """
    target, held = _parse(url), ExitStack()
    try:
        stream = _open_stream(target, held)
        return connected(stream, url, target.settings, target.key)
    except BaseException:
        held.close()
        raise


def _parse(url: str) -> _Target:
    scheme, _, rest = url.partition("://")
    resource, _, keys = rest.partition("?")
    if scheme != "visa" or not resource:
        raise InputError(f"{url}: names no VISA resource; expected e.g. {_EXAMPLE}")
    query, is_serial = dict(parse_qsl(keys, keep_blank_values=True)), _is_serial(resource)
    known = [name for name in _KEYS if is_serial or name != "baud"]
    unknown = [name for name in query if name not in known]
    if unknown:
        raise InputError(f"{url}: unknown key {unknown[0]!r}; known here: {', '.join(known)}")
    baud = int(positive(url, "baud", query.get("baud", DEFAULT_BAUD)))
    timeout_s = positive(url, "timeout", query.get("timeout", LinkSettings.timeout_s))
    # Patience follows the slower of line and library, on a pseudo-terminal too: what is asked for
    # again while it still comes is answered twice, and clogs the line.
    rate = min(baud / _BITS_A_BYTE, _TAKEN_PER_S) if is_serial else math.inf
    settings = LinkSettings(timeout_s=timeout_s, bytes_per_s=rate, bulk=_is_tcp(resource))
    if _is_hislip(resource):  # one message on its way at a time; and nothing is ever lost
        settings = replace(settings.lossless(), in_flight=1, resend_s=_HISLIP_RESEND_S)
    library = query.get("library") or DEFAULT_LIBRARY
    key = load_key(query["key"]) if "key" in query else None
    return _Target(url, resource, library, baud, settings, key)


def _is_serial(resource: str) -> bool:
    return resource.upper().startswith("ASRL")


def _is_tcp(resource: str) -> bool:
    return resource.upper().startswith("TCPIP")


def _is_hislip(resource: str) -> bool:
    return "::HISLIP" in resource.upper()


def _open_stream(target: _Target, held: ExitStack) -> MessageStream:
    _check_name(target)
    manager = _take_manager(target)
    held.callback(_give_back, manager)

    def ready() -> MessageBasedResource:
        resource = _open_resource(manager, target)
        held.callback(resource.close)
        try:
            _make_transparent(resource, target)
        except Exception as error:  # pyvisa-py raises what pyserial and termios raise
            raise LinkError(f"{target.url}: cannot set up {target.resource}: {error}") from error
        return resource

    def ready_again() -> MessageBasedResource:
        _check_name(target)
        return ready()

    resource = ready()
    if _is_hislip(target.resource):
        return HislipStream(resource, target.url, target.write_ms, held, ready_again)
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
        _port_number(target, parsed.port)
    elif isinstance(parsed, rname.TCPIPInstr) and _is_hislip(target.resource):
        device, comma, port = parsed.lan_device_name.partition(",")
        number = _port_number(target, port) if comma else HISLIP_PORT
        _knock(target, parsed.host_address, number, device)


def _port_number(target: _Target, text: str) -> int:
    port = int(text) if text.isdecimal() else 0
    if not 0 < port < 1 << 16:
        raise InputError(f"{target.url}: port {text} is outside 1..65535")
    return port


def _knock(target: _Target, host: str, port: int, device: str) -> None:
    """Say plainly who is not there, or is no HiSLIP server; pyvisa-py finds no resource then."""
    where, name = f"{target.url}: at {host} port {port}", device.encode()
    hello = struct.pack("!2sBBIQ", b"HS", _INITIALIZE, 0, _VERSION_1, len(name)) + name
    try:
        with socket.create_connection((host, port), target.settings.connect_s) as line:
            line.sendall(hello)
            answer = line.recv(256)
    except TimeoutError as error:
        raise LinkError(f"{where} nobody answers: {error}") from error
    except OSError as error:
        raise LinkError(f"{where} is nobody: {error}") from error
    if answer[:3] == bytes([*b"HS", _FATAL_ERROR]):
        raise LinkError(
            f"{where} the HiSLIP server refuses: {answer[16:].decode(errors='replace')}"
        )
    if answer[:3] != bytes([*b"HS", _INITIALIZE_RESPONSE]):
        what = f"answers {answer[:40]!r}" if answer else "hangs up"
        raise LinkError(f"{where} is no HiSLIP server: it {what}")


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


def _send_at_once(resource: MessageBasedResource) -> None:
    """Otherwise the end of what is sent waits for the far end to say that it has the beginning.

    Other libraries than pyvisa-py do so by themselves; pyvisa-py does not, and fails to be told.
    """
    session = getattr(resource.visalib, "sessions", {}).get(resource.session)
    interface = getattr(session, "interface", None)
    if isinstance(interface, socket.socket):
        interface.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _make_transparent(resource: MessageBasedResource, target: _Target) -> None:
    """Every byte passes as it is, and a read ends where nothing more is there."""
    from pyvisa.constants import ControlFlow, Parity, ResourceAttribute, SerialTermination, StopBits
    from pyvisa.resources import SerialInstrument, TCPIPSocket

    resource.read_termination, resource.write_termination = None, ""
    if isinstance(resource, TCPIPSocket):
        resource.set_visa_attribute(ResourceAttribute.suppress_end_enabled, False)
        _send_at_once(resource)
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
