"""Phases of array programs: pulse trains and reads, as parts of one micro-program.

SET and form, one column at a time: the voltage stands between that column's BL and the source
lines, and every row's gate limits its own cell, so 32 cells are SET at once, each with its own
compliance. RESET, one row at a time: its gate is fully open, every BL makes its own cell's voltage,
and the BLs of other cells are inhibited, held where the source line is. Which line is the higher
one follows from where the cells have their top electrodes:

    polarity    SET, form                                   RESET
    te_on_bl    SL ground, BL V, other BLs ground           SL rail, BL rail - V, other BLs rail
    te_on_sl    SL rail, BL rail - V, other BLs rail        SL ground, BL V, other BLs ground

Source lines of rows that a phase does not use float.

The compliance of a SET is what its gate is above the lower of the cell's two lines, where the
transistor has its source: the gate itself where source lines are at ground, and the compliance
plus the bit line's voltage, rail - V, where they are at the rail. All users give the compliance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import TE_ON_BL, BoardSpec
from firmware_bridge.chips import dac80508
from firmware_bridge.limits import codes_for
from firmware_bridge.lines import LineProgram
from firmware_bridge.microcode import CLOCK_HZ, Op
from rram_host.errors import InputError

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class PulseTrain:
    """Pulses to be given one after another.

    Attributes:
        bl_v: bit-line voltages of each pulse, (n, cols).
        wl_v: gate voltages of each pulse, (n, rows).
        selected: cells that each pulse is for, (n, rows, cols); others in open rows are to be
            inhibited.
        width_s: duration of every pulse.
        sl_input: what the source lines of the pulsed rows are switched to; the others float.
    """

    bl_v: Array
    wl_v: Array
    selected: Mask
    width_s: float
    sl_input: int


def set_source(spec: BoardSpec) -> tuple[int, float]:
    """Switch input of source lines while SETting and forming, and its voltage."""
    if spec.polarity == TE_ON_BL:
        return spec.sl_ground, 0.0
    return spec.sl_rail, spec.sl_rail_v


def reset_source(spec: BoardSpec) -> tuple[int, float]:
    """Switch input of source lines while RESETting, and its voltage."""
    if spec.polarity == TE_ON_BL:
        return spec.sl_rail, spec.sl_rail_v
    return spec.sl_ground, 0.0


def set_train(
    spec: BoardSpec, cells: Mask, wl_v: Array, volts: float, width_s: float
) -> PulseTrain:
    """SET (or form) pulses for `cells`, column by column.

    Args:
        spec: the board.
        cells: which cells, (rows, cols).
        wl_v: compliance of each of them, (rows, cols): gate voltage above the lower line.
        volts: SET voltage, between bit line and source line.
        width_s: pulse width.

    Raises:
        InputError: the lines cannot give the voltage, or the gates the compliance above it.
    """
    sl_input, source_v = set_source(spec)
    check_amplitude(spec, volts, source_v, "SET")
    lower_v = spec.set_lower_v(volts)
    _check_compliance(spec, wl_v[cells], lower_v)
    columns = np.flatnonzero(cells.any(0))
    pulses = np.arange(columns.size)
    bl = np.full((columns.size, spec.cols), source_v)
    bl[pulses, columns] = abs(source_v - volts)
    wl = np.where(cells, wl_v + lower_v, 0.0).T[columns]
    selected = np.zeros((columns.size, *cells.shape), dtype=bool)
    selected[pulses, :, columns] = cells.T[columns]
    return PulseTrain(bl, wl, selected, width_s, sl_input)


def _check_compliance(spec: BoardSpec, wl_v: Array, lower_v: float) -> None:
    """Refuse gates that cannot be so far above a lower line; one at 0 V is left to `codes_for`."""
    wrong = ~((wl_v >= 0) & (wl_v + lower_v <= spec.wl_limit_v))
    if lower_v and wrong.any():
        first_v = wl_v[wrong][0]
        raise InputError(
            f"compliance {first_v:.4g} V above the bit line at {lower_v:.4g} V is a gate at "
            f"{first_v + lower_v:.4g} V: outside {lower_v:.4g}..{spec.wl_limit_v:g} V (limits.wl) "
            f"on board {spec.name} ({spec.polarity})"
        )


def reset_train(
    spec: BoardSpec,
    order: npt.NDArray[np.int64],
    selected: Mask,
    bl_v: Array,
    wl_v: float,
    width_s: float,
) -> PulseTrain:
    """RESET pulses, one row of the array per pulse.

    Args:
        spec: the board.
        order: row of each pulse, (n,).
        selected: cells of that row, (n, cols).
        bl_v: bit-line voltages of each pulse, unselected ones inhibited, (n, cols).
        wl_v: gate voltage of the pulsed row.
        width_s: pulse width.
    """
    wl = np.zeros((order.size, spec.rows))
    pulses = np.arange(order.size)
    wl[pulses, order] = wl_v
    cells = np.zeros((*wl.shape, spec.cols), dtype=bool)
    cells[pulses, order] = selected
    return PulseTrain(bl_v, wl, cells, width_s, reset_source(spec)[0])


def check_amplitude(spec: BoardSpec, volts: float, source_v: float, what: str) -> None:
    """Refuse a voltage between lines that they cannot give: nothing is clipped.

    Args:
        spec: the board.
        volts: wanted, between bit line and source line.
        source_v: where the source lines are; 0 where bit lines are the higher ones.
        what: "SET" or "RESET".

    Raises:
        InputError: not a number, below 0 V (it would do the opposite), or beyond what the rail, or
            the bit lines, reach.
    """
    most, line = (source_v, "the rail gives") if source_v else (spec.bl_limit_v, "bit lines give")
    if not 0 <= volts <= most:
        raise InputError(
            f"{what} voltage {volts:.6g} V is outside 0..{most:.4g} V, which {line} on board "
            f"{spec.name} ({spec.polarity})"
        )


def check_inhibited(spec: BoardSpec, train: PulseTrain) -> None:
    """Refuse pulses that cells would see which they are not for.

    In every open row, the bit line of each cell that the pulse is not for must be within
    `half_select_limit_v` of the source line; lines that no gate connects carry what they like.

    Raises:
        InputError: names the first such cell and its voltage.
    """
    sources = {spec.sl_ground: 0.0, spec.sl_rail: spec.sl_rail_v, spec.sl_tia: spec.tia_bias_v}
    if train.sl_input not in sources:
        return  # the source line floats
    across_v = np.abs(train.bl_v - sources[train.sl_input])
    pulses, rows = np.nonzero(train.wl_v > 0)
    wrong = (across_v > spec.half_select_limit_v)[pulses] & ~train.selected[pulses, rows]
    if not wrong.any():
        return
    first, col = np.argwhere(wrong)[0].tolist()
    pulse, row = int(pulses[first]), int(rows[first])
    raise InputError(
        f"pulse {pulse} would put {across_v[pulse, col]:.4g} V across the unselected cell "
        f"({row}, {col}): its bit line is not inhibited; at most {spec.half_select_limit_v:g} V "
        f"(limits.half_select) on board {spec.name}"
    )


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
            InputError: a voltage is out of limits, or a cell that the pulses are not for would see
                one.
        """
        spec, asm = self._spec, self.asm
        check_inhibited(spec, train)
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
        asm = self.asm
        asm.open_for_reads(rows, tia_range, wl_v)
        with asm.loop(average):
            asm.add(Op.PTR, value=start)
            asm.read_vectors(n, rows, tia_range)
        asm.idle()
