"""Where a bridge may listen: on this machine, and beyond it with a key only."""

from __future__ import annotations

import ipaddress
import socket

from firmware_bridge.errors import InputError


def is_loopback(host: str) -> bool:
    """True for addresses that only this machine reaches.

    Raises:
        InputError: not an IP address.
    """
    return _address(host).is_loopback


def checked_host(host: str, key: bytes | None) -> str:
    """The address to listen on.

    Args:
        host: an IP address, or `localhost`.
        key: what clients must prove to hold; None where nothing is asked of them.

    Raises:
        InputError: not an IP address, or one that others reach while there is no key.
    """
    address = _address(host)
    if not address.is_loopback and key is None:
        raise InputError(
            f"{host} is reachable from outside, and without a key the bridge serves loopback only, "
            "e.g. 127.0.0.1. Give --key-file FILE (see --make-key), or forward the port through ssh"
        )
    return str(address)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise InputError(f"{host!r} is not an IP address; the bridge serves 127.0.0.1") from None


def host_port(text: str, option: str, default_host: str | None = None) -> tuple[str, int]:
    """Host and port of an option's HOST:PORT, or of PORT alone where there is a default host.

    Raises:
        InputError: neither.
    """
    host, colon, port = text.rpartition(":")
    if not colon and default_host is not None:
        host = default_host
    if not host or not (port.isascii() and port.isdecimal()) or int(port) >= 1 << 16:
        example = "HOST:PORT, e.g. 127.0.0.1:5025"
        raise InputError(f"{option} {text}: expected {example}, with a port up to 65535")
    return host.strip("[]"), int(port)


def url_host(host: str) -> str:
    """A host as it stands in a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        InputError: the port is taken, or not for this user.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(f"cannot listen on {host} port {port}: {error}") from error
    return listener
