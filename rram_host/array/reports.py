"""What came of forming and of programming, cell by cell; arrays are (rows, cols)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.lines import LineProgram
from firmware_bridge.microcode import CLOCK_HZ, Op

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


def carried_s(spec: BoardSpec, width_s: float) -> float:
    """How long cells carry the voltage of a pulse: from the DAC update to the end of PULSE.

    Gates are open and bit lines driven while outputs settle, and the other cells of a row hold its
    source line, so the pulse begins before its switch closes: t = settling + width, counted from
    the instructions that a pulse is made of; 6.03 us for a width of 1 us on zc706.

    Args:
        spec: the board.
        width_s: how long the source-line switch is closed.
    """
    program = LineProgram(spec)
    program.settle()
    program.add(Op.PULSE, value=round(width_s * CLOCK_HZ))
    return sum(item.cycles for item in program.instructions()[:-1]) / CLOCK_HZ  # less END


def pulse_energy_j(volts: Array | float, before: Array, after: Array, carried_s: float) -> Array:
    """Energy that pulses put into cells, E = V^2 (G_before + G_after) / 2 * t.

    An estimate: V is the voltage asked for between the lines, the conductance is taken to go from
    one reading to the next in a straight line, and nothing flows after the pulse. A cell that moves
    early in the pulse, as most do, takes nearer to V^2 G_after t.

    Args:
        volts: of the pulses.
        before: conductances as read, siemens; below zero counts as zero.
        after: the same, after the pulses.
        carried_s: how long cells carry the voltage, longer than the pulse width; see `carried_s`.
    """
    mean = (np.maximum(before, 0.0) + np.maximum(after, 0.0)) / 2
    energy: Array = np.square(volts) * mean * carried_s
    return energy


@dataclass(frozen=True)
class FormReport:
    """What came of forming.

    Attributes:
        measured_siemens: conductance after the last step.
        pulses: forming pulses given.
        unformed: cells that never reached the target conductance.
        shorted: cells above `BoardSpec.shorted_siemens`.
        formed_v: voltage of each cell's last forming pulse; NaN where it got none.
        stop_v: where the ramp ends.
        energy_j: of the pulses; see `pulse_energy_j`.
        steps_siemens: all readings, one a step that was given, (steps, rows, cols).
    """

    measured_siemens: Array
    pulses: Counts
    unformed: Mask
    shorted: Mask
    formed_v: Array
    stop_v: float
    energy_j: Array
    steps_siemens: Array


@dataclass(frozen=True)
class ProgramReport:
    """What came of programming, NaN where not asked for.

    Attributes:
        targets_siemens: what was asked.
        measured_siemens: last reading.
        pulses: SET and RESET pulses given, forming pulses apart.
        form_pulses: forming pulses given.
        energy_j: of the SET and RESET pulses; see `pulse_energy_j`.
        converged: within `accept_siemens` at the last reading.
        unformed: cells asked for that never formed.
        accept_siemens: as the policy has it.
        policy: its name.
        rounds: write-verify rounds.
        transactions, words: link traffic of the whole call.
        board_time_s: board time of the whole call, waiting included.
    """

    targets_siemens: Array
    measured_siemens: Array
    pulses: Counts
    form_pulses: Counts
    energy_j: Array
    converged: Mask
    unformed: Mask
    accept_siemens: float
    policy: str
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
