"""Pulses on masks of cells, in either polarity, each followed by a read of the array."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.calibration import Calibration
from rram_host.array.compensation import reset_bl_volts, reset_groups
from rram_host.array.forming import FormSettings
from rram_host.array.log import ArrayLog
from rram_host.array.pulses import (
    ArrayProgram,
    check_amplitude,
    reset_source,
    reset_train,
    set_train,
)
from rram_host.array.stepping import Pulses
from rram_host.array.write_verify import Rules
from rram_host.board.core import BoardCore

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Readable(Protocol):
    """What reads all cells: the crossbar."""

    calibration: Calibration

    def look(self, average: int = 1) -> Array:
        """Conductances, (rows, cols), siemens."""
        ...

    def run_and_read(self, program: ArrayProgram, average: int = 1) -> Array:
        """Run a program with a read of all cells at its end."""
        ...


class Operations:
    """Form, SET and RESET.

    Args:
        core: the board.
        array: reads the cells.
        log: is told of pulses, and may refuse them.
    """

    def __init__(self, core: BoardCore, array: Readable, log: ArrayLog) -> None:
        self._core, self._array, self._log = core, array, log

    @property
    def spec(self) -> BoardSpec:
        """The board."""
        return self._core.spec

    def look(self, average: int) -> Array:
        """Conductances of all cells, siemens."""
        return self._array.look(average)

    def worn(self) -> Mask:
        """Cells that may get no more pulses."""
        return self._log.worn()

    def wait(self, duration_s: float) -> None:
        """Let board time pass, with the rails safe."""
        self._core.wait(duration_s)

    # ---- into a program ---------------------------------------------------------------------

    def add_set(
        self,
        program: ArrayProgram,
        cells: Mask,
        wl_v: Array,
        volts: float | None = None,
        width_s: float | None = None,
    ) -> None:
        """SET pulses, each with its own gate voltage; voltage and width by default the board's."""
        p = self.spec.pulses
        if cells.any():
            set_v = p.set_bl_v if volts is None else volts
            program.pulse(set_train(self.spec, cells, wl_v, set_v, width_s or p.set_width_s))

    def add_reset(
        self,
        program: ArrayProgram,
        cells: Mask,
        volts: Array,
        g: Array,
        parallel: int,
        width_s: float | None = None,
    ) -> None:
        """RESET pulses, at most `parallel` cells of a row at once, with little sag.

        Args:
            program: where to.
            cells: which, (rows, cols).
            volts: RESET voltage of each.
            g: what the cells hold, siemens.
            parallel: most cells of a row at once.
            width_s: pulse width; default of the board file.

        Raises:
            InputError: a voltage beyond what the lines give, sag included.
        """
        if not cells.any():
            return
        spec, p = self.spec, self.spec.pulses
        source_v, held = reset_source(spec)[1], np.maximum(g, 0.0)
        for worst in (volts[cells].min(), volts[cells].max()):
            check_amplitude(spec, float(worst), source_v, "RESET")
        row_ohm = self._array.calibration.switch_ohm(spec, source_v)
        rows, selected = _together(cells, row_ohm[:, None] * held * volts, parallel)
        bl_v = reset_bl_volts(volts[rows], selected, held[rows], source_v, row_ohm[rows])
        train = reset_train(spec, rows, selected, bl_v, p.reset_wl_v, width_s or p.reset_width_s)
        program.pulse(train)

    # ---- and run ----------------------------------------------------------------------------

    def pulse_and_look(self, pulses: Pulses, g: Array, rules: Rules) -> Array:
        """One round of write-verify: pulses on cells that read g, then a read of all."""
        program, width_s = ArrayProgram(self.spec), rules.pulse_width_s
        self.add_set(program, pulses.up, pulses.wl_v, width_s=width_s)
        most = rules.max_parallel_reset
        self.add_reset(program, pulses.down, pulses.reset_v, g, most, width_s)
        with self._log.pulsing(pulses.given):
            return self._array.run_and_read(program, rules.verify_reads)

    def form_step(self, cells: Mask, volts: float, settings: FormSettings) -> Array:
        """One forming pulse on each of some cells, then a read of all."""
        program = ArrayProgram(self.spec)
        gates = np.full(cells.shape, settings.wl_v)
        self.add_set(program, cells, gates, volts, settings.pulse_width_s)
        with self._log.pulsing(cells, forming=True):
            return self._array.run_and_read(program)

    def pulse_once(self, program: ArrayProgram, cells: Mask) -> Array:
        """A program with one pulse on each of some cells, then a read of all."""
        pulsing: AbstractContextManager[object] = self._log.pulsing(cells)
        with pulsing:
            g = self._array.run_and_read(program)
        self._log.pulsed(g)
        return g

    def cycle(self, cells: Mask, wl_v: Array, reset_v: Array, g: Array, cycles: int) -> None:
        """So many times a RESET and then a SET pulse on each of some cells, in one program."""
        program = ArrayProgram(self.spec)
        with program.asm.loop(cycles):
            self.add_reset(program, cells, reset_v, g, self.spec.cols)
            self.add_set(program, cells, wl_v)
        with self._log.pulsing(cells * (2 * cycles), many=True):
            self._core.driver.run(program.asm, program.table)


def _together(cells: Mask, sag_v: Array, parallel: int) -> tuple[npt.NDArray[np.int64], Mask]:
    """Rows of RESET pulses, (n,), and the cells of that row which each is for, (n, cols)."""
    rows, selected = [], []
    for row in np.flatnonzero(cells.any(1)).tolist():
        for columns in reset_groups(np.flatnonzero(cells[row]), sag_v[row], parallel):
            chosen = np.zeros(cells.shape[1], dtype=bool)
            chosen[columns] = True
            rows.append(row)
            selected.append(chosen)
    return np.array(rows, dtype=np.int64), np.array(selected)
