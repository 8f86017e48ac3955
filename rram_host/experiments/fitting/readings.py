"""What a run file says of its own readings: wiring, resistances, how well they are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.calibration import Calibration
from rram_host.records.layout import Header
from rram_host.records.rebuild import rebuilt

Array = npt.NDArray[np.float64]

# Of a board that was not calibrated: lots of CD4051B differ by some 8 %, and wires of tens of ohm
# are not known. Resistance makes a reading G - R G^2, and a slope lower by 2 R G.
_UNKNOWN_SWITCH = 0.1
_UNKNOWN_WIRE_OHM = 2 * 40.0
_CONDUCTS_SIEMENS = 1e-7


@dataclass(frozen=True)
class Bench:
    """The board that a run was recorded on.

    Attributes:
        spec: its wiring.
        calibration: in use.
        map_siemens: the array before the run, (rows, cols).
    """

    spec: BoardSpec
    calibration: Calibration
    map_siemens: Array

    @staticmethod
    def of(header: Header) -> Bench:
        """Out of a run file."""
        return Bench(
            rebuilt(BoardSpec, header.spec),
            Calibration.from_dict(header.calibration),
            header.map_siemens,
        )

    def across(self, volts: Array, g: Array, cell: tuple[int, int], source_v: float) -> Array:
        """Voltage across a cell between lines at `volts`: V (1 - R g / (1 + R S)).

        R is the switch of the cell's source line, S what its row conducts.

        Args:
            volts: between the lines, (..., n).
            g: what the cell holds, of the same shape.
            cell: (row, col).
            source_v: of the source lines' supply.
        """
        ohm = float(self.calibration.switch_ohm(self.spec, source_v)[cell[0]])
        row = np.where(self.map_siemens[cell[0]] > _CONDUCTS_SIEMENS, self.map_siemens[cell[0]], 0)
        others = float(row.sum() - row[cell[1]])
        held = np.maximum(g, 0.0)
        result: Array = volts * (1 - ohm * held / (1 + ohm * (others + held)))
        return result

    def reading_error(self, g_siemens: float, row_siemens: float) -> float:
        """Relative error that all readings share: 0 for a calibrated board.

        Args:
            g_siemens: typical of the cells.
            row_siemens: what a row conducts with all its cells.
        """
        if self.calibration.measured:
            return 0.0
        return (
            _UNKNOWN_SWITCH * self.spec.mux_r_on_ohm * row_siemens + _UNKNOWN_WIRE_OHM * g_siemens
        )
