"""SN74HC595 shift register chain: which bit ends up where.

SER shifts into QA of the first part, QH' feeds the next. The bit sent first travels farthest, so
chain position p (0 = QA of the first part) receives the bit that is sent at time N - 1 - p.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def words_from_outputs(outputs: npt.ArrayLike) -> tuple[int, ...]:
    """Words of a SHIFT that leave `outputs[p]` (0 or 1) on chain position p.

    Bits are sent from word 0, bit 31 downwards.

    >>> [hex(word) for word in words_from_outputs([1, 0, 0, 0])]
    ['0x10000000']
    """
    sent = np.asarray(outputs, dtype=np.uint8)[::-1]
    padded = np.pad(sent, (0, -len(sent) % 32))
    return tuple(int.from_bytes(row.tobytes(), "big") for row in np.packbits(padded).reshape(-1, 4))


def outputs_from_words(words: tuple[int, ...], n_bits: int) -> npt.NDArray[np.uint8]:
    """Chain outputs after a SHIFT of `n_bits`; the inverse of `words_from_outputs`."""
    raw = b"".join(int(word).to_bytes(4, "big") for word in words)
    sent = np.unpackbits(np.frombuffer(raw, dtype=np.uint8))[:n_bits]
    return np.ascontiguousarray(sent[::-1])
