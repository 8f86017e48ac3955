"""What every link to a board can do."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from firmware_bridge.windows import check_span
from rram_host.errors import InputError

Words = npt.NDArray[np.uint32]


@runtime_checkable
class Transport(Protocol):
    """The register window of one board, whatever lies between: byte addresses, 32-bit words.

    `address` is a byte offset into the window (firmware_bridge.registers), a multiple of 4.
    Every method raises `LinkError` when the board cannot be reached, and `InputError` for an
    address outside the window.
    """

    def read(self, address: int, count: int) -> Words:
        """Read `count` words from consecutive addresses."""
        ...

    def write(self, address: int, words: Words) -> None:
        """Write words to consecutive addresses; returns when the board has taken them."""
        ...

    def close(self) -> None:
        """Give the link back. The board keeps its state."""
        ...


@runtime_checkable
class Snapshots(Protocol):
    """What a link can do beside `Transport` where the board behind it is computed."""

    def snapshot(self) -> bytes:
        """All that decides the future of the board."""
        ...

    def restore(self, blob: bytes) -> None:
        """Take over a snapshot; raises `InputError` for one of another board."""
        ...


Writes = Sequence[tuple[int, Words]]


@runtime_checkable
class Chains(Protocol):
    """What a link can do beside `Transport` where a round trip costs more than what travels."""

    def write_then_read(self, writes: Writes, address: int, count: int) -> Words:
        """Write, and write, and read, in this order; nothing follows what was not done."""
        ...


def write_then_read(link: Transport, writes: Writes, address: int, count: int) -> Words:
    """Write, and write, and read, in this order, on any link; the words that were read."""
    if isinstance(link, Chains):
        return link.write_then_read(writes, address, count)
    for at, words in writes:
        link.write(at, words)
    return link.read(address, count)


def checked_span(address: int, count: int) -> tuple[int, int]:
    """Address and count as plain integers, known to lie in the window.

    Raises:
        InputError: not whole numbers, not a multiple of 4, or outside the window.
    """
    try:
        address, count = operator.index(address), operator.index(count)
    except TypeError:
        raise InputError(
            f"address {address!r} and count {count!r} must both be whole numbers"
        ) from None
    check_span(address, count)
    return address, count


def checked_words(words: Words | Sequence[int]) -> Words:
    """Words as a contiguous array of 32-bit numbers; nothing is wrapped or rounded.

    Raises:
        InputError: not one-dimensional, not whole numbers, or one outside 0..2^32-1.
    """
    array = np.asarray(words)
    if array.ndim != 1:
        raise InputError(f"words of shape {array.shape}: a write takes one row of words")
    if not array.size:
        return np.empty(0, dtype=np.uint32)
    if array.dtype.kind not in "iu":
        raise InputError(f"words of type {array.dtype}: a write takes whole numbers")
    if array.dtype != np.uint32 and (int(array.min()) < 0 or int(array.max()) > 0xFFFF_FFFF):
        raise InputError(f"words in {array.min()}..{array.max()}: the limits are 0..{0xFFFF_FFFF}")
    return np.ascontiguousarray(array, dtype=np.uint32)


def positive(url: str, key: str, text: str | float) -> float:
    """A number of a URL's query, above zero and finite; `baud` is a whole one.

    Raises:
        InputError: it is not.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf or (key == "baud" and value != int(value)):
        raise InputError(f"{url}: {key}={text} must be a positive number")
    return value
