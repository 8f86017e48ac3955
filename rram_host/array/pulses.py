"""Phases of array programs: pulse trains and reads, as parts of one micro-program.

SET and form: source lines at ground; one column at a time carries the SET voltage on its BL, and
every row's gate limits its own cell, so 32 cells are SET at once, each with its own compliance.

RESET: source lines at the rail; one row at a time has its gate open, and every BL pulls its own
cell down, while the unselected BLs are inhibited at the rail, so no other cell of the row sees a
voltage. Source lines of rows that a phase does not use float.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import dac80508
from firmware_bridge.microcode import CLOCK_HZ, Op
from rram_host.board import readout
from rram_host.board.limits import codes_for
from rram_host.board.lines import LineProgram

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class PulseTrain:
    """Pulses to be given one after another.

    Attributes:
        bl_v: bit-line voltages of each pulse, (n, cols).
        wl_v: gate voltages of each pulse, (n, rows).
        width_s: duration of every pulse.
        sl_input: what the source lines of the pulsed rows are switched to; the others float.
    """

    bl_v: Array
    wl_v: Array
    width_s: float
    sl_input: int


def set_train(
    spec: BoardSpec, cells: npt.NDArray[np.bool_], wl_v: Array, bl_v: float, width_s: float
) -> PulseTrain:
    """SET (or form) pulses for `cells`, column by column.

    Args:
        spec: the board.
        cells: which cells, (rows, cols).
        wl_v: gate voltage for each of them, (rows, cols).
        bl_v: SET voltage.
        width_s: pulse width.
    """
    columns = np.flatnonzero(cells.any(0))
    bl = np.zeros((columns.size, spec.cols))
    bl[np.arange(columns.size), columns] = bl_v
    wl = np.where(cells, wl_v, 0.0).T[columns]
    return PulseTrain(bl, wl, width_s, spec.sl_ground)


def reset_train(
    spec: BoardSpec, order: npt.NDArray[np.int64], bl_v: Array, wl_v: float, width_s: float
) -> PulseTrain:
    """RESET pulses, one row of the array per pulse.

    Args:
        spec: the board.
        order: row of each pulse, (n,).
        bl_v: bit-line voltages of each pulse, unselected ones at the rail, (n, cols).
        wl_v: gate voltage of the pulsed row.
        width_s: pulse width.
    """
    wl = np.zeros((order.size, spec.rows))
    wl[np.arange(order.size), order] = wl_v
    return PulseTrain(bl_v, wl, width_s, spec.sl_rail)


class ArrayProgram:
    """A micro-program over array phases, with its input table.

    Args:
        spec: the board.
    """

    def __init__(self, spec: BoardSpec) -> None:
        self._spec = spec
        self.asm = LineProgram(spec)
        self._table: list[Codes] = []
        self._size = 0

    @property
    def table(self) -> Codes:
        """The input table of all phases."""
        return np.concatenate(self._table) if self._table else np.zeros(0, dtype=np.uint16)

    def _append(self, codes: Codes) -> None:
        self.asm.add(Op.PTR, value=self._size)
        self._table.append(codes.ravel())
        self._size += codes.size

    def pulse(self, train: PulseTrain) -> None:
        """Add a pulse train.

        Raises:
            InputError: a voltage is out of limits.
        """
        spec, asm = self._spec, self.asm
        bl = codes_for(train.bl_v, spec.bl_limit_v, 5.0, "BL")
        wl = codes_for(train.wl_v, spec.wl_limit_v, 5.0, "WL")
        asm.switch_sl(train.sl_input, np.flatnonzero(train.wl_v.any(0)))
        asm.bl_range(dac80508.GAIN_0_TO_5_V)
        self._append(np.concatenate([bl[:, asm.bl.order], wl[:, asm.wl.order]], axis=1))
        with asm.loop(len(bl), stride=spec.cols + spec.rows):
            asm.bl.from_table(asm, 0)
            asm.wl.from_table(asm, spec.cols)
            asm.latch()
            asm.settle()
            asm.add(Op.PULSE, value=round(train.width_s * CLOCK_HZ))
        asm.idle()

    def read(
        self, volts: Array, rows: npt.NDArray[np.int64], tia_range: int, average: int = 1
    ) -> None:
        """Add a batch of reads: `average` times through all vectors.

        Args:
            volts: voltage across the cells (BL minus virtual ground), (n, cols).
            rows: rows whose gates open and whose currents are converted.
            tia_range: 0..3.
            average: repetitions; the results of a repetition follow those of the one before.
        """
        spec = self._spec
        bl = codes_for(volts + spec.tia_bias_v, spec.bl_limit_v, 1.25, "BL")
        self.read_codes(bl[:, self.asm.bl.order], rows, tia_range, average)

    def read_codes(
        self,
        codes: Codes,
        rows: npt.NDArray[np.int64],
        tia_range: int,
        average: int = 1,
        wl_v: float | None = None,
    ) -> None:
        """The same for codes in the order of the table, (n, cols), at another gate voltage."""
        start = self.table_only(codes)
        self.add_read(len(codes), start, rows, tia_range, average, wl_v)

    def table_only(self, codes: Codes) -> int:
        """Put codes into the table, for reads that come later; the element where they begin."""
        start = self._size
        self._table.append(codes.ravel())
        self._size += codes.size
        return start

    def add_read(
        self,
        n: int,
        start: int,
        rows: npt.NDArray[np.int64],
        tia_range: int,
        average: int = 1,
        wl_v: float | None = None,
    ) -> None:
        """The instructions of reads whose n rows of codes lie in the table from `start` on."""
        spec, asm = self._spec, self.asm
        wl = np.zeros(spec.rows, dtype=np.uint16)
        gate_v = spec.wl_read_v if wl_v is None else wl_v
        wl[rows] = codes_for(np.array(gate_v), spec.wl_limit_v, 5.0, "WL")
        rest = codes_for(np.full(spec.cols, spec.tia_bias_v), spec.bl_limit_v, 1.25, "BL")
        asm.switch_sl(spec.sl_tia, rows)
        asm.bl_range(dac80508.GAIN_0_TO_1V25)
        asm.bl.immediate(asm, rest)
        asm.wl.immediate(asm, wl)
        asm.latch()
        asm.settle()
        asm.close_sl(tia_range)
        with asm.loop(average):
            asm.add(Op.PTR, value=start)
            with asm.loop(n, stride=spec.cols):
                asm.bl.from_table(asm, 0)
                asm.latch()
                asm.wait(spec.settling_s(tia_range))
                asm.convert(readout.selects_for(spec, rows))
        asm.idle()
