"""Every product that was read from an array, in order: recorded, or played back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from rram_host.errors import UnsafeDensityError


class Tape:
    """Reads of one pass through a model.

    Attributes:
        reads: what the array answered, in order.
        played: reads already handed out in replay.
        sizes: outputs and inputs of every product that was read, by name.
    """

    def __init__(self) -> None:
        self.reads: list[tuple[str, Tensor]] = []
        self.sizes: dict[str, tuple[int, int]] = {}
        self.played = 0
        self._mode = "live"
        self._slopes: Mapping[str, Tensor] = {}

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
    def replaying(self, slopes: Mapping[str, Tensor] | None = None) -> Iterator[None]:
        """Answer with the recorded reads instead of reading again.

        Args:
            slopes: what to take for the derivative of a read by its input, (out, in) by name; the
                value stays the recorded one. Without it reads do not depend on their inputs.
        """
        self.played, self._mode, self._slopes = 0, "replay", slopes or {}
        try:
            yield
        finally:
            self._mode, self._slopes = "live", {}

    def read(self, name: str, inputs: Tensor, measure: Callable[[], Tensor]) -> Tensor:
        """One product of inputs (n, in): measured, or the next recorded one.

        Raises:
            UnsafeDensityError: in replay, another product is asked for than was recorded.
        """
        if self._mode == "replay":
            return self._replayed(name, inputs)
        value = measure()
        if self._mode == "record":
            self.reads.append((name, value))
            self.sizes[name] = (value.shape[1], inputs.shape[1])
        return value

    def _replayed(self, name: str, inputs: Tensor) -> Tensor:
        if self.played >= len(self.reads) or self.reads[self.played][0] != name:
            raise UnsafeDensityError(
                f"the model asks for product {name!r} as read {self.played}, which it did not "
                "do when it drew: its reads depend on more than its draws"
            )
        self.played += 1
        value = self.reads[self.played - 1][1]
        slope = self._slopes.get(name)
        if slope is None:
            return value
        return value + (inputs - inputs.detach()) @ slope.to(inputs.dtype).T
