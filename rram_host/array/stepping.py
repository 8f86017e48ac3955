"""What to try next on every cell: a staircase, or what the cell's own response predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.response import Landing, ResponseModel
from rram_host.errors import InputError

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pulses:
    """One pulse on each cell of a round; arrays (rows, cols).

    Attributes:
        up, down: cells to SET and to RESET; no cell is in both.
        wl_v: gate voltage of each SET.
        reset_v: RESET voltage of each RESET.
    """

    up: Mask
    down: Mask
    wl_v: Array
    reset_v: Array

    @property
    def given(self) -> Mask:
        """Cells that get a pulse."""
        return self.up | self.down


class Stepper(Protocol):
    """Chooses pulses for cells on their way to their targets, and sees what became of them."""

    def next(self, g: Array, todo: Mask) -> Pulses:
        """Pulses for cells of `todo`, which read g; cells that it has given up get none."""
        ...

    def learn(self, pulses: Pulses, before: Array, after: Array) -> None:
        """What pulses did: readings before and after, siemens."""
        ...


class Predicting:
    """Predicts the pulse that ends at the target from the cell's response so far.

    Args:
        spec: the board.
        targets: siemens, (rows, cols).
        know: how good first guesses are.
        stop_v: highest gate voltage of a SET.
    """

    def __init__(self, spec: BoardSpec, targets: Array, know: Landing, stop_v: float) -> None:
        self._targets, self._stop_v = targets, stop_v
        self.model = ResponseModel(spec.pulses, targets.shape, know)

    def next(self, g: Array, todo: Mask) -> Pulses:
        """See `Stepper`."""
        wl_v = np.minimum(self.model.set_wl_v(self._targets), self._stop_v)
        reset_v = self.model.reset_v(self._targets)
        return Pulses(todo & (g < self._targets), todo & (g > self._targets), wl_v, reset_v)

    def learn(self, pulses: Pulses, before: Array, after: Array) -> None:
        """See `Stepper`."""
        self.model.learn_set(pulses.up, pulses.wl_v, before, after)
        self.model.learn_reset(pulses.down, pulses.reset_v, before, after)


@dataclass(frozen=True)
class Stairs:
    """A staircase of voltages, from `start_v` by `step_v` to `stop_v`, where it stays."""

    start_v: float
    step_v: float
    stop_v: float

    def check(self, what: str, limit_v: float) -> None:
        """Refuse one that does not climb, or climbs too high.

        Raises:
            InputError: says which staircase and why.
        """
        if not 0 < self.start_v <= self.stop_v or not self.step_v > 0:
            raise InputError(
                f"{what} staircase from {self.start_v:g} V by {self.step_v:g} V to "
                f"{self.stop_v:g} V does not climb"
            )
        if self.stop_v > limit_v:
            raise InputError(f"{what} staircase to {self.stop_v:g} V: the limit is {limit_v:g} V")


class Staircase:
    """Pulses of rising voltage until a cell passes its target, then the same the other way.

    Args:
        targets: siemens, (rows, cols).
        up: gate voltages of SET.
        down: RESET voltages.
        max_reversals: changes of direction after which a cell is given up.
        backoff_v: a staircase taken up again begins this far below where it stood; None: at its
            start.
    """

    def __init__(
        self,
        targets: Array,
        up: Stairs,
        down: Stairs,
        max_reversals: int,
        backoff_v: float | None,
    ) -> None:
        self._targets, self._most, self._backoff_v = targets, max_reversals, backoff_v
        self._stairs = {1: up, -1: down}
        self._at_v = {sign: np.full(targets.shape, np.nan) for sign in (1, -1)}
        self._last = np.zeros(targets.shape, dtype=np.int64)
        self.reversals = np.zeros(targets.shape, dtype=np.int64)

    def next(self, g: Array, todo: Mask) -> Pulses:
        """See `Stepper`."""
        sign = np.where(g < self._targets, 1, -1)
        turned = todo & (self._last == -sign)
        self.reversals += turned
        going = todo & (self.reversals <= self._most)
        for way in (1, -1):
            cells = going & (sign == way)
            self._at_v[way][cells] = self._climbed(way, turned)[cells]
        self._last[going] = sign[going]
        up_v, down_v = (np.nan_to_num(self._at_v[way]) for way in (1, -1))
        return Pulses(going & (sign > 0), going & (sign < 0), up_v, down_v)

    def _climbed(self, way: int, turned: Mask) -> Array:
        """Next voltage of one staircase, if it were every cell's turn."""
        stairs, at_v = self._stairs[way], self._at_v[way]
        again = at_v - self._backoff_v if self._backoff_v is not None else stairs.start_v
        climbed = np.where(turned, again, at_v + stairs.step_v)
        fresh = np.where(np.isnan(at_v), stairs.start_v, climbed)
        return np.minimum(np.maximum(fresh, stairs.start_v), stairs.stop_v)

    def learn(self, pulses: Pulses, before: Array, after: Array) -> None:
        """A staircase learns nothing."""
