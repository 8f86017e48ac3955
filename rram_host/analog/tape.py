"""Every product that was read from an array, in order: recorded, or played back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from rram_host.errors import UnsafeDensityError


class Tape:
    """Reads of one pass through a model.

    Attributes:
        reads: what the array answered, in order.
        played: reads already handed out in replay.
    """

    def __init__(self) -> None:
        self.reads: list[tuple[str, Tensor]] = []
        self.played = 0
        self._mode = "live"

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep every read."""
        self.reads.clear()
        self._mode = "record"
        try:
            yield
        finally:
            self._mode = "live"

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Answer with the recorded reads instead of reading again."""
        self.played, self._mode = 0, "replay"
        try:
            yield
        finally:
            self._mode = "live"

    def read(self, name: str, measure: Callable[[], Tensor]) -> Tensor:
        """One product: measured, or the next recorded one.

        Raises:
            UnsafeDensityError: in replay, another product is asked for than was recorded.
        """
        if self._mode == "replay":
            if self.played >= len(self.reads) or self.reads[self.played][0] != name:
                raise UnsafeDensityError(
                    f"the model asks for product {name!r} as read {self.played}, which it did not "
                    "do when it drew: its reads depend on more than its draws"
                )
            self.played += 1
            return self.reads[self.played - 1][1]
        value = measure()
        if self._mode == "record":
            self.reads.append((name, value))
        return value
