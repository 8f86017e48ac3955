"""Steps of a job, each with its wall time and its board time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

Advance = Callable[[int, int], None]


class Observer(Protocol):
    """Who is told how a job goes on: a progress bar, or nobody."""

    def begin(self, name: str) -> Advance:
        """A step begins; the answer is called with (done, total)."""
        ...

    def tell(self, text: str) -> None:
        """Something to know before the step at hand has ended."""
        ...

    def end(self, name: str, wall_s: float, board_s: float, note: str) -> None:
        """A step has ended."""
        ...


class Silent:
    """An observer that says nothing."""

    def begin(self, name: str) -> Advance:
        """Nothing."""
        return lambda done, total: None

    def tell(self, text: str) -> None:
        """Nothing."""

    def end(self, name: str, wall_s: float, board_s: float, note: str) -> None:
        """Nothing."""


@dataclass
class Step:
    """One step: what it found is said in `note`."""

    name: str
    advance: Advance
    wall_s: float = 0.0
    board_s: float = 0.0
    note: str = ""


@dataclass
class Steps:
    """Runs steps and keeps their times.

    Attributes:
        observer: who is told.
        board_time_s: reads the board's clock; None until a board is open.
        done: steps so far.
    """

    observer: Observer
    board_time_s: Callable[[], float] | None = None
    done: list[Step] = field(default_factory=list)

    @contextmanager
    def __call__(self, name: str) -> Iterator[Step]:
        """Time a step; an exception leaves it out of `done`."""
        step = Step(name, self.observer.begin(name))
        start, board = time.perf_counter(), self._board()
        yield step
        step.wall_s, step.board_s = time.perf_counter() - start, self._board() - board
        self.done.append(step)
        self.observer.end(name, step.wall_s, step.board_s, step.note)

    def tell(self, text: str) -> None:
        """Tell the observer something."""
        self.observer.tell(text)

    def _board(self) -> float:
        return self.board_time_s() if self.board_time_s else 0.0

    def rows(self) -> list[dict[str, object]]:
        """Steps as plain values."""
        return [
            {"step": s.name, "wall_s": s.wall_s, "board_s": s.board_s, "note": s.note}
            for s in self.done
        ]
