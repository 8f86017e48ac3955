"""Links to a board: one protocol (`base.Transport`), chosen by the scheme of a URL."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

from rram_host.errors import InputError
from rram_host.transports.base import Transport

BOARDS_GROUP = "rram.boards"

_EXAMPLES = {
    "serial": "serial:///dev/ttyUSB0?baud=921600",
    "socket": "socket://127.0.0.1:5025",
    "rfc2217": "rfc2217://127.0.0.1:2217?baud=921600",
    "visa": "visa://TCPIP::127.0.0.1::5025::SOCKET",
    "mmio": "mmio://0x43C00000",
    "replay": "replay:///path/run.jsonl",
}
_INSTALLED_EXAMPLES = {"sim": "sim://?preset=taox_180nm&seed=7"}

__all__ = ["Transport", "open_transport"]


def open_transport(target: str | Transport) -> Transport:
    """Open the link that a URL names; a `Transport` is returned as it is.

    serial://, socket://, rfc2217://, visa://, mmio:// and replay:// are built in. Any other scheme
    is looked up among the boards that installed packages offer (entry points of group
    `rram.boards`).

    Raises:
        InputError: not a URL, or a scheme that nobody offers; names every known scheme.
        LinkError: the board cannot be reached.
    """
    if not isinstance(target, str):
        if isinstance(target, Transport):
            return target
        raise InputError(f"{target!r} is neither a URL nor a transport. {_known()}")
    scheme, found, _ = target.partition("://")
    if not found:
        raise InputError(f"{target!r} is not a URL. {_known()}")
    if scheme in ("serial", "socket", "rfc2217"):
        from rram_host.transports.serial import open_serial  # pyserial's room

        return open_serial(target)
    if scheme == "visa":
        from rram_host.transports.visa import open_visa  # pyvisa's room

        return open_visa(target)
    if scheme == "mmio":
        from rram_host.transports.mmio import open_mmio  # pynq's room

        return open_mmio(target)
    if scheme == "replay":
        from rram_host.transports.replay import open_replay

        return open_replay(target)
    return _installed(scheme, target)(target)


def _installed(scheme: str, target: str) -> Callable[[str], Transport]:
    for point in entry_points(group=BOARDS_GROUP):
        if point.name == scheme:
            opener: Callable[[str], Transport] = point.load()
            return opener
    raise InputError(f"{target}: nobody offers the scheme {scheme!r}. {_known()}")


def _known() -> str:
    names = [point.name for point in entry_points(group=BOARDS_GROUP)]
    examples = [_INSTALLED_EXAMPLES.get(name, f"{name}://") for name in sorted(names)]
    return "Known: " + ", ".join([*_EXAMPLES.values(), *examples])
