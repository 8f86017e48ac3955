"""Write-verify: rounds of pulses and a read, each one program, until cells are at their targets.

A `Job` is what a policy works with: it keeps readings, pulses and energy of every cell, and no cell
gets more pulses than the policy and the chip's log allow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.reports import carried_s, pulse_energy_j
from rram_host.array.stepping import Pulses, Stepper
from rram_host.errors import InputError

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Progress = Callable[[int, int], None]


class Rules(Protocol):
    """What a pass goes by; see `rram_host.array.policies.SinglePass`."""

    @property
    def tolerance_siemens(self) -> float: ...  # noqa: D102
    @property
    def accept_siemens(self) -> float: ...  # noqa: D102
    @property
    def max_pulses(self) -> int: ...  # noqa: D102
    @property
    def verify_reads(self) -> int: ...  # noqa: D102
    @property
    def confirm_reads(self) -> int: ...  # noqa: D102
    @property
    def max_confirms(self) -> int: ...  # noqa: D102
    @property
    def max_parallel_reset(self) -> int: ...  # noqa: D102
    @property
    def pulse_width_s(self) -> float | None: ...  # noqa: D102


class Cells(Protocol):
    """Cells that can be pulsed and read: `rram_host.array.operations.Operations`, or a stand-in."""

    @property
    def spec(self) -> BoardSpec:
        """The board."""
        ...

    def look(self, average: int) -> Array:
        """Conductances of all cells, (rows, cols), siemens."""
        ...

    def pulse_and_look(self, pulses: Pulses, g: Array, rules: Rules) -> Array:
        """One round: pulses on cells that read g, then a read of all."""
        ...

    def worn(self) -> Mask:
        """Cells that may get no more pulses."""
        ...

    def wait(self, duration_s: float) -> None:
        """Let board time pass, lines at rest."""
        ...


class Job:
    """Cells on their way to their targets; arrays (rows, cols).

    Args:
        cells: what is pulsed and read.
        targets: siemens; a number for every cell.
        live: cells that are to be written.
        progress: called with (cells done, cells asked).

    Attributes:
        g: last reading, siemens.
        pulses: pulses given so far.
        energy_j: of these pulses; see `pulse_energy_j`.
        rounds: how many rounds so far.
    """

    def __init__(
        self, cells: Cells, targets: Array, live: Mask, progress: Progress | None = None
    ) -> None:
        self._cells, self._progress = cells, progress
        self.spec, self.targets, self.live = cells.spec, targets, live
        self.g = np.full(targets.shape, np.nan)
        self.pulses = np.zeros(targets.shape, dtype=np.int64)
        self.energy_j = np.zeros(targets.shape)
        self.rounds = 0

    @property
    def error(self) -> Array:
        """Last reading minus target, siemens."""
        return self.g - self.targets

    def look(self, average: int) -> None:
        """Read all cells."""
        self.g = self._cells.look(average)

    def wait(self, duration_s: float) -> None:
        """Let board time pass."""
        self._cells.wait(duration_s)

    def converge(self, stepper: Stepper, rules: Rules, cells: Mask | None = None) -> None:
        """Rounds until every cell is done or out of pulses.

        A cell is done once it reads within the tolerance, and stays so until all are: the averaged
        reading that confirms them takes up again those that are off by more than `accept_siemens`,
        `max_confirms` times at most. Those that left since have relaxed, and would again.

        Args:
            stepper: chooses pulses.
            rules: tolerance, limits, reads.
            cells: which; default all live ones.
        """
        live = self.live if cells is None else self.live & cells
        if cells is None or np.isnan(self.g).any():
            self.look(rules.verify_reads)
        done, confirms = np.zeros(live.shape, dtype=bool), 0
        while True:
            done |= np.abs(self.error) <= rules.tolerance_siemens
            self._tell(done | ~live)
            todo = live & ~done & (self.pulses < rules.max_pulses) & ~self._cells.worn()
            if self._round(stepper, rules, todo):
                continue
            self.look(rules.confirm_reads)
            done &= np.abs(self.error) <= rules.accept_siemens
            todo = live & ~done & (self.pulses < rules.max_pulses) & ~self._cells.worn()
            confirms += 1
            if confirms > rules.max_confirms or not self._round(stepper, rules, todo):
                self._tell(done | ~live)
                return

    def _tell(self, done: Mask) -> None:
        if self._progress:
            self._progress(int((self.live & done).sum()), int(self.live.sum()))

    def _round(self, stepper: Stepper, rules: Rules, todo: Mask) -> bool:
        """One round; whether any cell got a pulse."""
        if not todo.any():
            return False
        pulses = stepper.next(self.g, todo)
        given = pulses.given
        if not given.any():
            return False
        before = self.g
        self.g = self._cells.pulse_and_look(pulses, before, rules)
        stepper.learn(pulses, before, self.g)
        self.pulses += given
        self.energy_j += self._energy_j(pulses, before, rules)
        self.rounds += 1
        return True

    def _energy_j(self, pulses: Pulses, before: Array, rules: Rules) -> Array:
        p, width_s = self.spec.pulses, rules.pulse_width_s
        set_s = carried_s(self.spec, width_s or p.set_width_s)
        reset_s = carried_s(self.spec, width_s or p.reset_width_s)
        set_j = pulse_energy_j(p.set_bl_v, before, self.g, set_s)
        reset_j = pulse_energy_j(pulses.reset_v, before, self.g, reset_s)
        energy: Array = np.where(pulses.up, set_j, 0.0) + np.where(pulses.down, reset_j, 0.0)
        return energy


def check_targets(targets: npt.ArrayLike, spec: BoardSpec) -> Array:
    """Targets as an array, checked.

    Raises:
        InputError: not numbers, wrong shape, infinite, or outside the chip's window.
    """
    try:
        values = np.array(targets, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("targets: expected numbers in siemens") from None
    if values.shape != (spec.rows, spec.cols):
        raise InputError(
            f"targets have shape {values.shape}, the array has ({spec.rows}, {spec.cols})"
        )
    low, high = spec.conductance_min_siemens, spec.conductance_max_siemens
    outside = ~np.isnan(values) & ~((values >= low) & (values <= high))
    if outside.any():
        row, col = np.argwhere(outside)[0]
        raise InputError(
            f"target {values[row, col] / 1e-6:.4g} µS at ({row}, {col}) is outside the chip's "
            f"window {low / 1e-6:.4g}..{high / 1e-6:.4g} µS ({outside.sum()} such targets)"
        )
    return values
