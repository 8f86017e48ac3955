"""Write-verify: from target conductances to pulses, learning each cell's response on the way.

A round is one program: SET pulses for cells that are too low, RESET pulses for cells that are too
high, then a read of the whole array. What to try next follows from the linear laws

    SET:    G = slope (V_WL - offset)             RESET:  G = top - slope_r (V - V_0)

whose offsets are learnt cell by cell from every pulse that moved the cell (the secant on a line of
known slope), and pushed on where a pulse did nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec, PulseDefaults
from rram_host.errors import InputError

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class WriteVerifySettings:
    """How hard to try.

    Attributes:
        tolerance_siemens: a cell is done once it reads within this of its target.
        accept_siemens: a cell that was done is taken up again when it reads farther off than
            this, and counts as converged when its last reading is within it.
        max_pulses: pulses per cell, SET and RESET together, forming not counted.
        gain: share of an observed offset error that is learnt from one pulse.
        max_parallel_reset: cells of one row that are RESET by one pulse.
        verify_average: repetitions of each verify read.
    """

    tolerance_siemens: float = 0.6e-6
    accept_siemens: float = 1.2e-6
    max_pulses: int = 40
    gain: float = 0.8
    max_parallel_reset: int = 16
    verify_average: int = 1

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        if not self.tolerance_siemens > 0:
            raise InputError(f"tolerance {self.tolerance_siemens} S must be above 0 S")
        if not self.accept_siemens >= self.tolerance_siemens:
            raise InputError(
                f"accept {self.accept_siemens} S must be at least the tolerance of "
                f"{self.tolerance_siemens} S"
            )
        for name in ("max_pulses", "max_parallel_reset", "verify_average"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)} must be at least 1")
        if not 0 < self.gain <= 1:
            raise InputError(f"gain {self.gain} is outside 0..1")


@dataclass(frozen=True)
class ProgramReport:
    """What came of programming, cell by cell; arrays are (rows, cols), NaN where not asked for.

    Attributes:
        targets_siemens: what was asked.
        measured_siemens: last reading.
        pulses: SET and RESET pulses given, forming pulses apart.
        form_pulses: forming pulses given.
        converged: within `accept_siemens` at the last reading.
        unformed: cells asked for that never formed.
        accept_siemens: as set.
        rounds: write-verify rounds.
        transactions, words: link traffic of the whole call.
        board_time_s: board time of the whole call.
    """

    targets_siemens: Array
    measured_siemens: Array
    pulses: npt.NDArray[np.int64]
    form_pulses: npt.NDArray[np.int64]
    converged: Mask
    unformed: Mask
    accept_siemens: float
    rounds: int
    transactions: int
    words: int
    board_time_s: float

    @property
    def asked(self) -> Mask:
        """Cells that had a target."""
        return ~np.isnan(self.targets_siemens)

    @property
    def error_siemens(self) -> Array:
        """Measured minus target."""
        return self.measured_siemens - self.targets_siemens

    @property
    def failed(self) -> list[tuple[int, int]]:
        """Cells (row, col) that did not converge."""
        return [(int(r), int(c)) for r, c in np.argwhere(self.asked & ~self.converged)]

    def share_within(self, tolerance_siemens: float) -> float:
        """Share of the asked cells whose last reading is within a tolerance of the target."""
        error = np.abs(self.error_siemens[self.asked])
        return float((error <= tolerance_siemens).mean()) if error.size else 1.0

    @property
    def mean_pulses(self) -> float:
        """Mean SET and RESET pulses of the asked cells."""
        return float(self.pulses[self.asked].mean()) if self.asked.any() else 0.0


@dataclass(frozen=True)
class FormReport:
    """What came of forming; arrays (rows, cols).

    Attributes:
        measured_siemens: conductance after the last step.
        pulses: forming pulses given.
        unformed: cells that never formed.
        shorted: cells above `BoardSpec.shorted_siemens`.
    """

    measured_siemens: Array
    pulses: npt.NDArray[np.int64]
    unformed: Mask
    shorted: Mask


class ResponseModel:
    """What is known of each cell's response; arrays (rows, cols).

    Args:
        pulses: first guesses.
        shape: (rows, cols).
        gain: share of an observed error that is learnt.
    """

    def __init__(self, pulses: PulseDefaults, shape: tuple[int, int], gain: float) -> None:
        self._p, self._gain = pulses, gain
        self.set_offset_v = np.full(shape, pulses.set_wl_offset_v)
        self.reset_zero_v = np.full(shape, pulses.reset_start_v)

    def set_wl_v(self, target: Array) -> Array:
        """Gate voltage whose SET should end at the target."""
        volts: Array = self.set_offset_v + target / self._p.set_wl_slope_siemens_per_v
        return volts

    def reset_v(self, target: Array) -> Array:
        """RESET voltage that should end at the target."""
        p = self._p
        above_v = (p.reset_top_siemens - target) / p.reset_slope_siemens_per_v
        wanted: Array = self.reset_zero_v + above_v
        return np.minimum(np.maximum(wanted, p.reset_start_v), p.reset_stop_v)

    def learn(self, cells: Mask, used_v: Array, before: Array, after: Array, is_set: bool) -> None:
        """Take in what pulses of `used_v` did to `cells`: from `before` to `after`, siemens."""
        p = self._p
        if is_set:
            offset, seen = self.set_offset_v, used_v - after / p.set_wl_slope_siemens_per_v
            bound = used_v - before / p.set_wl_slope_siemens_per_v
        else:
            offset = self.reset_zero_v
            seen = used_v - (p.reset_top_siemens - after) / p.reset_slope_siemens_per_v
            bound = used_v - (p.reset_top_siemens - before) / p.reset_slope_siemens_per_v
        moved = np.abs(after - before) > 1e-6
        # A pulse that did nothing ends below (SET) or above (RESET) where the cell already is:
        # the offset is at least `bound`, and a little more makes the next one bite.
        pushed = np.maximum(offset, bound) + 0.01
        learnt = offset + self._gain * (seen - offset)
        offset[cells] = np.where(moved, learnt, pushed)[cells]


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
