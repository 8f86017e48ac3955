"""Serial ports of this machine: found by USB numbers, and why one does not open."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from rram_host.errors import InputError, LinkError

ZC706_VID, ZC706_PID = 0x10C4, 0xEA60  # its CP2103, as Silicon Labs ships it


def usb_port(url: str, keys: dict[str, str]) -> str:
    """The one port whose USB numbers fit.

    Args:
        url: what to call the request in messages.
        keys: `vid` and `pid`, hexadecimal; both missing, those of the ZC706. `serial`: the serial
            number of the chip, where several of one kind are plugged in.

    Raises:
        InputError: not such numbers.
        LinkError: no port fits, or several do; says which ports there are.
    """
    from serial.tools.list_ports import comports  # only this module needs it

    vid, pid, number = _usb_numbers(url, keys)
    wanted = f"{vid:04X}:{pid:04X}" + (f" with serial number {number}" if number else "")
    there = sorted(comports(), key=lambda port: str(port.device))
    fits = [
        port
        for port in there
        if (port.vid, port.pid) == (vid, pid) and number in (None, port.serial_number)
    ]
    if len(fits) == 1:
        return str(fits[0].device)
    if fits:
        raise LinkError(
            f"{url}: {len(fits)} ports have USB numbers {wanted}: {_listed(fits)}. Name one, e.g. "
            f"serial://{fits[0].device}, or add serial=NUMBER"
        )
    raise LinkError(f"{url}: no port has USB numbers {wanted}; ports here: {_listed(there)}")


def _usb_numbers(url: str, keys: dict[str, str]) -> tuple[int, int, str | None]:
    if ("vid" in keys) != ("pid" in keys):
        raise InputError(f"{url}: vid and pid go together, e.g. vid=10C4&pid=EA60")
    numbers = []
    for key, default in (("vid", ZC706_VID), ("pid", ZC706_PID)):
        try:
            number = int(keys[key], 16) if key in keys else default
        except ValueError:
            number = -1
        if not 0 <= number <= 0xFFFF:
            raise InputError(f"{url}: {key}={keys[key]} must be hexadecimal, 0 to FFFF")
        numbers.append(number)
    return numbers[0], numbers[1], keys.get("serial")


def _listed(ports: list[Any]) -> str:
    return "; ".join(_described(port) for port in ports) or "none"


def _described(port: Any) -> str:
    """As `/dev/ttyUSB0 (10C4:EA60, CP2103 USB to UART, serial number 0001)`."""
    if port.vid is None or port.pid is None:
        return f"{port.device} (no USB)"
    facts = [f"{port.vid:04X}:{port.pid:04X}"]
    facts += [port.product] if port.product else []
    facts += [f"serial number {port.serial_number}"] if port.serial_number else []
    return f"{port.device} ({', '.join(facts)})"


def why_not_open(port: str, error: Exception) -> str:
    """Why a port does not open, and what to do about it."""
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        from serial.tools.list_ports import comports  # only this module needs it

        found = _listed(sorted(comports(), key=lambda item: str(item.device)))
        return f"there is no port {port}; serial ports of this machine: {found}"
    if number in (errno.EACCES, errno.EPERM):
        return (
            f"no permission to open {port}: it is for the group {_group_of(port)}; is your user "
            "in it? (sudo usermod -aG GROUP USER, then log in again)"
        )
    if number in (errno.EBUSY, errno.EAGAIN):
        return f"{port} is in use by another program"
    return f"cannot open {port}: {error}"


def _group_of(port: str) -> str:
    try:
        return Path(port).group()
    except (OSError, KeyError, NotImplementedError):
        return "dialout"  # what most systems give their serial ports to
