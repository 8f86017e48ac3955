"""What every link to a board can do."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

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
