"""The register window on this very machine: host code that runs on the board itself."""

from __future__ import annotations

from firmware_bridge import windows
from firmware_bridge.windows import Window
from rram_host.errors import InputError, LinkError, RramError
from rram_host.transports.base import Words, checked_span, checked_words


class MmioTransport:
    """A `Transport` over a register window in reach of this process.

    Args:
        window: `PynqWindow`, `DevMemWindow`, or anything that reads and writes words.
    """

    def __init__(self, window: Window) -> None:
        self._window: Window | None = window

    def read(self, address: int, count: int) -> Words:
        """Read `count` words from consecutive addresses.

        Raises:
            InputError: outside the window.
            LinkError: closed.
        """
        address, count = checked_span(address, count)
        return self._open_window().read(address, count)

    def write(self, address: int, words: Words) -> None:
        """Write words to consecutive addresses.

        Raises:
            InputError: outside the window, or no 32-bit words.
            LinkError: closed.
        """
        words = checked_words(words)
        address, _ = checked_span(address, words.size)
        self._open_window().write(address, words)

    def close(self) -> None:
        """Give the window back."""
        window, self._window = self._window, None
        close = getattr(window, "close", None)
        if close is not None:
            close()

    def _open_window(self) -> Window:
        if self._window is None:
            raise LinkError("the register window has been closed")
        return self._window


def open_mmio(url: str) -> MmioTransport:
    """Open the window on this machine; `firmware_bridge.windows.open_mmio` says by which URLs.

    Raises:
        InputError: not such a URL, or an overlay without the block that it names.
        LinkError: the window cannot be mapped.
    """
    try:
        return MmioTransport(windows.open_mmio(url))
    except InputError:
        raise
    except RramError as error:
        raise LinkError(f"{url}: {error}") from error
