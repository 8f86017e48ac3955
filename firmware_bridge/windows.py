"""The register window on silicon: `pynq.MMIO`, or /dev/mem where there is no PYNQ image.

Addresses are byte offsets into the window, data 32-bit words. On the bus a single word is one
32-bit access. Blocks of words are copied as the C library likes; the AXI interconnect splits wider
accesses, and the memories of the map do not care about the width, but a block must not cover a
register that acts when it is written. None of the classes has run on a board yet.
"""

from __future__ import annotations

import mmap
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import numpy.typing as npt

from firmware_bridge import registers
from firmware_bridge.errors import InputError, RramError
from firmware_bridge.overlay.handoff import IP_NAME

Words = npt.NDArray[np.uint32]


class Window(Protocol):
    """What an agent serves: the register window of one board."""

    def read(self, address: int, count: int) -> Words:
        """Read `count` words from byte offset `address`."""
        ...

    def write(self, address: int, words: Words) -> None:
        """Write words from byte offset `address` on."""
        ...


def check_span(address: int, count: int, window_bytes: int = registers.WINDOW_BYTES) -> None:
    """Refuse a span of words that does not lie in the window.

    Raises:
        InputError: not a multiple of 4, negative, or past the end of the window.
    """
    if address % 4:
        raise InputError(f"address {address:#x} is not a multiple of 4: the window holds words")
    if address < 0 or count < 0 or address + 4 * count > window_bytes:
        raise InputError(
            f"{count} words at address {address:#x} do not lie in the window of "
            f"{window_bytes:#x} bytes"
        )


class PynqWindow:
    """The window through `pynq.MMIO`.

    Args:
        base: physical address of the window.
        length: its length in bytes.
        device: a `pynq` Device; None takes the active one.

    Raises:
        RramError: pynq is not installed, or finds no device, or may not map it.
    """

    def __init__(self, base: int, length: int, device: Any = None) -> None:
        try:
            with warnings.catch_warnings():  # pynq warns before it fails; the error says it all
                warnings.simplefilter("ignore")
                from pynq.mmio import MMIO  # only boards with PYNQ have it

                self._mmio = MMIO(base, length, device=device)
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            raise RramError(f"pynq cannot map {length:#x} bytes at {base:#x}: {error}") from error
        self._length = length
        # A device without memory mapping shows registers through calls, a few bytes at a time;
        # its `array` is a pure-Python imitation that numpy's slices do not work on.
        self._mapped = isinstance(self._mmio.array, np.ndarray)

    def read(self, address: int, count: int) -> Words:
        """Read `count` words.

        Raises:
            InputError: outside the window.
        """
        check_span(address, count, self._length)
        if self._mapped:
            return _copy_out(self._mmio.array, address // 4, count)
        offsets = range(address, address + 4 * count, 4)
        return np.fromiter((self._mmio.read(at) for at in offsets), np.uint32, count)

    def write(self, address: int, words: Words) -> None:
        """Write words.

        Raises:
            InputError: outside the window.
        """
        check_span(address, words.size, self._length)
        if self._mapped:
            _copy_in(self._mmio.array, address // 4, words)
        elif words.size:
            self._mmio.write(address, words.astype("<u4").tobytes())

    def close(self) -> None:
        """Nothing to give back: pynq keeps its mapping as long as the process."""


class OverlayWindow(PynqWindow):
    """The window of a block of an overlay, found through `pynq.Overlay`.

    Base and length come from the handoff file (.hwh) beside the bitstream.

    Args:
        bitfile: the bitstream.
        ip: name of the block in the handoff file.
        download: load the bitstream, and set the clocks, which puts the board into its power-up
            state; False takes what is loaded as it is.
        device: a `pynq` Device; None takes the active one.

    Raises:
        InputError: the handoff file holds no such block, or one that is too small.
        RramError: pynq is not installed, finds no device, or takes the files not.
    """

    def __init__(
        self, bitfile: str | Path, ip: str = IP_NAME, download: bool = True, device: Any = None
    ) -> None:
        overlay = _read_overlay(bitfile, device)
        base = _base_of(overlay.ip_dict, ip, bitfile)
        if download:
            with _overlay_errors(bitfile):
                overlay.download()
        super().__init__(base, registers.WINDOW_BYTES, overlay.device)


def _read_overlay(bitfile: str | Path, device: Any) -> Any:
    """A `pynq.Overlay`, not yet loaded."""
    with _overlay_errors(bitfile):
        from pynq import Overlay  # only boards with PYNQ have it

        return Overlay(str(bitfile), download=False, device=device)


@contextmanager
def _overlay_errors(bitfile: str | Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():  # as above
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # pynq, its XML and its file handling raise nearly everything
        raise RramError(f"pynq cannot open the overlay {bitfile}: {error!r}") from error


def _base_of(blocks: Any, ip: str, bitfile: str | Path) -> int:
    """Physical address of a block of a handoff file, large enough for the register map."""
    addressed = {name: block for name, block in blocks.items() if "phys_addr" in block}
    if ip not in addressed:
        found = ", ".join(sorted(addressed)) or "none"
        raise InputError(f"{bitfile}: its handoff file has no block {ip}; it has: {found}")
    base, size = int(addressed[ip]["phys_addr"]), int(addressed[ip]["addr_range"])
    if size < registers.WINDOW_BYTES:
        raise InputError(
            f"{bitfile}: its block {ip} spans {size:#x} bytes at {base:#x}, the register map "
            f"needs {registers.WINDOW_BYTES:#x}"
        )
    return base


class DevMemWindow:
    """The window through /dev/mem (needs root), or /dev/uioN, for boards without PYNQ.

    Tested on an ordinary file that stands in for the device, never on a board: what is proven is
    the arithmetic of pages and words, not the behaviour of the bus.

    Args:
        base: physical address of the window; need not lie on a page border.
        length: its length in bytes.
        path: what is mapped.

    Raises:
        InputError: base or length is not a multiple of 4, or negative.
        RramError: `path` cannot be opened, or mapped that far.
    """

    def __init__(self, base: int, length: int, path: str | Path = "/dev/mem") -> None:
        if base % 4 or base < 0 or length % 4 or length <= 0:
            raise InputError(f"window of {length:#x} bytes at {base:#x}: both in whole words")
        self._length = length
        page = base - base % mmap.ALLOCATIONGRANULARITY
        try:
            # O_SYNC makes the kernel map device memory uncached.
            fd = os.open(path, os.O_RDWR | os.O_SYNC)
            try:
                self._map = mmap.mmap(fd, base - page + length, offset=page)
            finally:
                os.close(fd)
        except (OSError, ValueError) as error:
            raise RramError(
                f"cannot map {length:#x} bytes at {base:#x} of {path}: {error}"
            ) from error
        self._words: Words = np.frombuffer(self._map, np.uint32, length // 4, base - page)

    def read(self, address: int, count: int) -> Words:
        """Read `count` words.

        Raises:
            InputError: outside the window.
        """
        check_span(address, count, self._length)
        return _copy_out(self._words, address // 4, count)

    def write(self, address: int, words: Words) -> None:
        """Write words.

        Raises:
            InputError: outside the window.
        """
        check_span(address, words.size, self._length)
        _copy_in(self._words, address // 4, words)

    def close(self) -> None:
        """Unmap. Later accesses are refused as outside the window."""
        self._length = 0
        self._words = np.empty(0, np.uint32)  # the mapping closes only once no array looks at it
        self._map.close()


def _copy_out(array: Words, start: int, count: int) -> Words:
    if count == 1:  # an element, not a slice: one 32-bit load
        return np.array([array[start]], dtype=np.uint32)
    return np.array(array[start : start + count], dtype=np.uint32)


def _copy_in(array: Words, start: int, words: Words) -> None:
    if words.size == 1:  # an element, not a slice: one 32-bit store
        array[start] = words[0]
    else:
        array[start : start + words.size] = words


_MMIO_EXAMPLES = (
    "mmio://0x43C00000[?via=pynq|devmem], mmio:///dev/uio0, or "
    "mmio://?overlay=/path/rram.bit[&ip=NAME][&download=0]"
)


def open_mmio(url: str) -> PynqWindow | DevMemWindow:
    """Open the window of the machine that this runs on.

    `mmio://0x43C00000` maps that address through pynq, with `?via=devmem` through /dev/mem.
    `mmio://?overlay=/path/rram.bit` loads an overlay and takes the address from its handoff file;
    with `&download=0` it takes what is loaded as it is, `&ip=NAME` names the block (rram_0).
    `mmio:///dev/uio0` maps the first region of a device of Linux' userspace I/O, without root
    where its file may be opened.

    Raises:
        InputError: not such a URL, or no such block.
        RramError: the window cannot be mapped.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme == "mmio" and not parts.netloc and query.get("overlay"):
        return _open_overlay(url, query)
    if parts.scheme == "mmio" and not parts.netloc and len(parts.path) > 1 and not query:
        return DevMemWindow(0, registers.WINDOW_BYTES, parts.path)
    via = query.pop("via", "pynq")
    try:
        base = int(parts.netloc, 0)
    except ValueError:
        base = -1
    if parts.scheme != "mmio" or base < 0 or parts.path.strip("/") or query:
        raise InputError(f"{url}: expected {_MMIO_EXAMPLES}")
    if via not in ("pynq", "devmem"):
        raise InputError(f"{url}: via={via} is unknown; known: pynq, devmem")
    opener = PynqWindow if via == "pynq" else DevMemWindow
    return opener(base, registers.WINDOW_BYTES)


def _open_overlay(url: str, query: dict[str, str]) -> OverlayWindow:
    bitfile, ip = query.pop("overlay"), query.pop("ip", IP_NAME)
    download = query.pop("download", "1")
    if query or urlsplit(url).path.strip("/"):
        raise InputError(f"{url}: expected {_MMIO_EXAMPLES}")
    if download not in ("0", "1"):
        raise InputError(f"{url}: download={download} must be 1 (load the bitstream) or 0")
    return OverlayWindow(bitfile, ip, download == "1")
