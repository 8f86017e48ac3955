"""A real serial port, such as a UART of the ZC706, with an agent behind it; stdlib alone."""

from __future__ import annotations

import errno
import fcntl
import os
import termios
import tty

from firmware_bridge.agent import Agent
from firmware_bridge.errors import InputError
from firmware_bridge.streams import LineService, agent_of
from firmware_bridge.windows import Window

DEFAULT_BAUD = 921600


def bauds() -> dict[int, int]:
    """The speeds that this system offers: bits a second -> termios constant."""
    names = (name for name in dir(termios) if name[0] == "B" and name[1:].isdecimal())
    return {int(name[1:]): getattr(termios, name) for name in names if name != "B0"}


def device_baud(text: str) -> tuple[str, int]:
    """Device and speed of DEVICE[:BAUD].

    Raises:
        InputError: no device, or a speed that this system does not offer.
    """
    device, colon, baud = text.rpartition(":")
    if not (colon and baud.isascii() and baud.isdecimal()):
        device, baud = text, str(DEFAULT_BAUD)
    if not device or int(baud) not in bauds():
        known = ", ".join(str(speed) for speed in sorted(bauds()) if speed >= 9600)
        raise InputError(f"--serial {text}: expected DEVICE[:BAUD], with a BAUD of {known}")
    return device, int(baud)


class SerialServer:
    """Serves a window on a serial port: 8 data bits, no parity, 1 stop bit, no flow control.

    Args:
        window: the board, or an `Agent` that several servers share.
        device: the port, e.g. /dev/ttyPS1.
        baud: bits a second.
        key: what clients must prove to hold; None where nothing is asked of them.

    Raises:
        InputError: no such port, in use, forbidden, or no serial port.
    """

    def __init__(
        self,
        window: Window | Agent,
        device: str,
        baud: int = DEFAULT_BAUD,
        key: bytes | None = None,
    ) -> None:
        self.device, self.baud = device, baud
        self._fd = _open(device)
        try:
            _set_up(self._fd, device, baud)
            self._service = LineService(agent_of(window), self._fd, device, key)
        except BaseException:
            os.close(self._fd)
            raise

    def start(self) -> SerialServer:
        """Serve from a thread of its own."""
        self._service.start()
        return self

    def close(self) -> None:
        """Finish the request at hand, stop the thread, give the port back."""
        self._service.close()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> SerialServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(device: str) -> int:
    try:
        fd = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        reasons = {
            errno.ENOENT: "there is no such port",
            errno.EACCES: "no permission: is this user in the group that owns it (dialout)?",
            errno.EBUSY: "in use by another program",
        }
        reason = reasons.get(error.errno or 0, error.strerror)
        raise InputError(f"--serial {device}: {reason}") from error
    return fd


def _set_up(fd: int, device: str, baud: int) -> None:
    if not os.isatty(fd):
        raise InputError(f"--serial {device}: this is no serial port")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # which pyserial asks for, too
        fcntl.ioctl(fd, termios.TIOCEXCL)
        tty.setraw(fd)
        settings = termios.tcgetattr(fd)
        settings[2] |= termios.CLOCAL | termios.CREAD
        settings[2] &= ~(termios.CSTOPB | termios.PARENB | getattr(termios, "CRTSCTS", 0))
        settings[4] = settings[5] = bauds()[baud]
        termios.tcsetattr(fd, termios.TCSANOW, settings)
        termios.tcflush(fd, termios.TCIOFLUSH)
    except BlockingIOError:
        raise InputError(f"--serial {device}: in use by another program") from None
    except (OSError, termios.error) as error:
        raise InputError(f"--serial {device}: cannot be set to {baud} baud: {error}") from error
