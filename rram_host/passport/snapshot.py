"""Which cells were formed, at the end of a board's snapshot.

A board that is put back has cells pristine again that its passport has seen formed since, and cells
that a passport calls formed are not formed again. So a snapshot carries that of its moment.
"""

from __future__ import annotations

import numpy as np

from rram_host.passport.fields import Mask
from rram_host.passport.passport import Passport

_MARK = b"rram:formed:1\n"


def with_formed(blob: bytes, passport: Passport | None) -> bytes:
    """A snapshot, and behind it which cells the passport calls formed; as it is without one."""
    if passport is None:
        return blob
    return blob + np.packbits(passport.contents.formed).tobytes() + _MARK


def without_formed(blob: bytes, shape: tuple[int, int]) -> tuple[bytes, Mask | None]:
    """The snapshot alone, and which cells were formed, (rows, cols); None where it says nothing."""
    cells = shape[0] * shape[1]
    start = len(blob) - len(_MARK) - (cells + 7) // 8
    if start < 0 or not blob.endswith(_MARK):
        return blob, None
    bits = np.frombuffer(blob[start : -len(_MARK)], dtype=np.uint8)
    return blob[:start], np.unpackbits(bits, count=cells).astype(bool).reshape(shape)
