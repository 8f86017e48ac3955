"""Crossbar: the array as a user sees it. Row = WL and SL, column = BL; shapes (rows, cols)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from firmware_bridge import readout
from firmware_bridge.limits import array_of
from firmware_bridge.readout import CELL_RANGE
from rram_host.array import masks
from rram_host.array.calibration import Calibration
from rram_host.array.compensation import Compensation
from rram_host.array.forming import FormSettings
from rram_host.array.forming import form as form_cells
from rram_host.array.log import ArrayLog, NoLog
from rram_host.array.operations import Operations
from rram_host.array.partial_read import read_cells
from rram_host.array.policies import CoarseFine, Policy
from rram_host.array.products import (
    Products,
    check_rows,
    check_voltages,
    expected_range,
    multiply,
)
from rram_host.array.pulses import ArrayProgram
from rram_host.array.reports import FormReport, ProgramReport
from rram_host.array.sweep import check_steps, effective_conductances
from rram_host.array.write_verify import Job, check_targets
from rram_host.board.core import BoardCore
from rram_host.board.sequencer import MAX_RESULTS
from rram_host.errors import InputError

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Progress = Callable[[int, int], None]

MAX_AVERAGE = 10_000  # a minute and more of board time
MAX_CYCLES = 1_000_000  # minutes of board time, and what the clock of one program can hold


class Crossbar:
    """Operations on the array.

    Args:
        core: the board that it sits on.
        log: who is told of pulses and reads; default nobody.
    """

    def __init__(self, core: BoardCore, log: ArrayLog | None = None) -> None:
        self._core, self._log = core, log or NoLog()
        self.spec = core.spec
        self.calibration = Calibration.nominal(core.spec)
        self._compensation: Compensation | None = None  # by the last whole read
        self._operations = Operations(core, self, self._log)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.spec.rows, self.spec.cols

    def use(self, calibration: Calibration) -> None:
        """Take over a calibration of this chip on this board.

        Raises:
            InputError: it is of an array of another size.
        """
        if calibration.shape != self.shape:
            raise InputError(
                f"calibration of {calibration.shape} cells for an array of {self.shape}"
            )
        self.calibration, self._compensation = calibration, None

    # ---- read -------------------------------------------------------------------------------

    def read(self, average: int = 4, cells: Mask | None = None) -> Array:
        """Conductance of every cell, in siemens, (rows, cols).

        Each cell is read with +0.1 V and -0.1 V on its bit line (offsets of DACs and amplifiers
        cancel), `average` times each, and freed of the series resistance of its lines.

        Args:
            average: readings of each cell.
            cells: which; the others are NaN. Their rows alone are converted, their columns alone
                are driven, in the range that the currents expected of them need. Default all.

        Raises:
            InputError: average below 1, or a mask of another shape.
        """
        if cells is not None:
            return self._read_some(masks.checked(cells, self.shape), average)
        g = self.look(average)
        self._log.read(g)
        return g

    def _read_some(self, cells: Mask, average: int) -> Array:
        _check_average(average)
        g = np.full(self.shape, np.nan)
        if cells.any():
            g = read_cells(self._core, cells, self._known(), self.calibration, average)
            self._log.read(g)
        return g

    def look(self, average: int = 1) -> Array:
        """The same as `read`, without telling the log."""
        _check_average(average)
        # What one program's results hold; a longer average is several programs.
        most = MAX_RESULTS // (2 * self.spec.cols * self.spec.selects * self.spec.adcs)
        parts = [most] * (average // most) + [average % most] * (average % most > 0)
        words = []
        for part in parts:
            program = ArrayProgram(self.spec)
            self._add_read(program, part)
            words.append(self._core.driver.run(program.asm, program.table))
        return self._conductances(np.concatenate(words), average)

    def _read_vectors(self) -> Array:
        step = np.eye(self.spec.cols) * self.spec.read_voltage_v
        return np.concatenate([step, -step])

    def _add_read(self, program: ArrayProgram, average: int) -> None:
        program.read(self._read_vectors(), np.arange(self.spec.rows), CELL_RANGE, average)

    def _conductances(self, words: npt.NDArray[np.uint16], average: int) -> Array:
        rows = np.arange(self.spec.rows)
        gain = self.calibration.range_gain[CELL_RANGE]
        amperes, _ = readout.currents(words, self.spec, rows, CELL_RANGE, gain)
        plus, minus = amperes.reshape(average, 2, self.spec.cols, -1).mean(0)
        measured = ((plus - minus) / (2 * self.spec.read_voltage_v)).T
        self._compensation = Compensation(measured, self.calibration.lines)
        return self._compensation.conductances

    def _known(self) -> Compensation:
        """What the last whole read says of drops along lines; read now where there is none."""
        if self._compensation is None:
            self.look(4)
        if self._compensation is None:
            raise InputError("the array has not been read")
        return self._compensation

    @property
    def effective(self) -> Array:
        """What the last whole read measured, drops along lines included, (rows, cols), siemens."""
        return self._known().measured

    # ---- multiply ---------------------------------------------------------------------------

    def vmm(self, voltages: npt.ArrayLike, calibrate: bool = True) -> Array:
        """Currents of all source lines for a batch of bit-line voltages, I = V G^T.

        Args:
            voltages: volts across the cells, (n, cols), each within +-0.1 V.
            calibrate: subtract the currents at zero input and undo the series resistance of the
                lines.

        Returns:
            Amperes, (n, rows).

        Raises:
            InputError: shape, NaN, or a voltage beyond the read voltage.
        """
        return self.products(voltages, calibrate=calibrate).currents_a

    def products(
        self,
        voltages: npt.ArrayLike,
        rows: npt.ArrayLike | None = None,
        tia_range: int | None = None,
        calibrate: bool = True,
    ) -> Products:
        """The same as `vmm`, for some rows, in a given range, with what judges it.

        Args:
            voltages: (n, cols), within +-0.1 V.
            rows: rows to open and convert; default all.
            tia_range: 0 (least sensitive) to 3; default from the expected current.
            calibrate: as in `vmm`.
        """
        volts, wanted = check_voltages(voltages, self.spec), check_rows(rows, self.spec)
        known = self._known()
        factors = known.of_rows(wanted) if calibrate else None
        chosen = tia_range
        if chosen is None:
            chosen = expected_range(self.spec, volts, known.expected(wanted))
        readout.check_range(chosen)
        while True:
            gain = self.calibration.range_gain[chosen]
            result = multiply(self._core, volts, wanted, chosen, factors, gain)
            if tia_range is not None or not result.saturated or chosen == 0:
                return result
            chosen -= 1  # some vector of a large batch was larger than those looked at

    # ---- form, set, reset -------------------------------------------------------------------

    def form(
        self,
        cells: Mask | None = None,
        progress: Progress | None = None,
        settings: FormSettings | None = None,
    ) -> FormReport:
        """Electroform cells: a ramp of pulses with the gate as compliance, read after each step.

        Args:
            cells: which, (rows, cols); default all that are not known to be dead. Cells that are
                formed already, by their reading or by the chip's passport, are left alone, and so
                are dead ones, but for those that did not form before: another ramp may do it.
            progress: called with (step, steps).
            settings: the ramp; default of the board file.

        Returns:
            The report; cells that did not form, and shorted ones, are named there.

        Raises:
            InputError: mask of another shape, or a ramp that the board cannot give.
        """
        todo = masks.checked(cells, self.shape) & self._log.formable()
        if cells is None:
            todo &= ~self._log.dead()
        ramp = settings or FormSettings.of(self.spec)
        report = form_cells(self._operations, todo, ramp, progress)
        self._log.formed(report)
        return report

    def set_cells(
        self, cells: Mask, wl_v: Array, bl_v: float | None = None, width_s: float | None = None
    ) -> Array:
        """One SET pulse on each cell of a mask, then a read, in siemens.

        Args:
            cells: which, (rows, cols).
            wl_v: compliance of each, (rows, cols): gate voltage above the lower of its two lines.
            bl_v: SET voltage, between bit line and source line; default of the board file.
            width_s: pulse width; default of the board file.
        """
        program, mask = ArrayProgram(self.spec), masks.checked(cells, self.shape)
        gates = self._check_volts_of(wl_v, mask, "WL")
        self._operations.add_set(program, mask, gates, bl_v, width_s)
        return self._operations.pulse_once(program, mask)

    def reset_cells(self, cells: Mask, reset_v: Array, width_s: float | None = None) -> Array:
        """One RESET pulse on each cell of a mask, other bit lines inhibited, then a read.

        Args:
            cells: which, (rows, cols).
            reset_v: RESET voltage of each, between source line and bit line, (rows, cols).
            width_s: pulse width; default of the board file.
        """
        mask = masks.checked(cells, self.shape)
        volts = self._check_volts_of(reset_v, mask, "RESET")
        if volts.min() < 0:
            raise InputError(f"RESET voltage {volts.min():.4g} V is below 0 V: it would SET")
        program = ArrayProgram(self.spec)
        g = self.look(1)
        self._operations.add_reset(program, mask, volts, g, self.spec.cols, width_s)
        return self._operations.pulse_once(program, mask)

    def cycle_cells(
        self, cells: Mask, wl_v: Array, reset_v: Array, cycles: int, set_siemens: Array
    ) -> None:
        """RESET and SET cells over and over, in one program without reads.

        Args:
            cells: which, (rows, cols).
            wl_v: compliance of each SET, (rows, cols), as in `set_cells`.
            reset_v: RESET voltage of each, (rows, cols).
            cycles: how often; each is a RESET and then a SET pulse.
            set_siemens: what cells hold when SET, (rows, cols): the sag of their source lines while
                they are RESET follows from it.

        Raises:
            InputError: no cycles or too many for one program, shapes, or voltages out of limits.
        """
        if not 1 <= cycles <= MAX_CYCLES:
            raise InputError(f"{cycles} cycles in one program: outside 1..{MAX_CYCLES}")
        mask = masks.checked(cells, self.shape)
        gates = self._check_volts_of(wl_v, mask, "WL")
        volts = self._check_volts_of(reset_v, mask, "RESET")
        if mask.any():
            self._operations.cycle(mask, gates, volts, set_siemens, cycles)

    def idle(self) -> None:
        """Gates closed, bit lines at zero, source lines at ground, now."""
        self._core.driver.safe()

    def sweep(self, cell: tuple[int, int], steps_v: Array, wl_v: float, average: int = 2) -> Array:
        """Pulse one cell with one voltage after another and read it after each, in one program.

        Args:
            cell: (row, col).
            steps_v: voltages of the pulses, (n,): above 0 V SET, below 0 V RESET.
            wl_v: compliance of SET pulses, as in `set_cells`.
            average: reads of each sign after every step.

        Returns:
            Conductance after every step, (n,), siemens.

        Raises:
            InputError: a cell outside the array, or steps that the lines cannot give.
        """
        row, col = cell
        if not (0 <= row < self.spec.rows and 0 <= col < self.spec.cols):
            raise InputError(f"cell {cell} is outside the array of {self.shape} cells")
        steps = check_steps(self.spec, steps_v, average)
        before = self.look(1)[row, col]
        mask = np.zeros(self.shape, dtype=bool)
        mask[row, col] = True
        gain = float(self.calibration.range_gain[CELL_RANGE][row])
        with self._log.pulsing(mask * steps.size, many=True):
            seen = effective_conductances(self._core, row, col, steps, wl_v, average, gain)
        factors = self._known().of_rows(np.array([row]))
        # T = k q g with 1 / k = 1 + R (g + g of the rest of the row), which is known for `before`
        row_ohm, seen = self.calibration.lines.row_ohm[row], seen / factors.columns[col]
        rest = 1 / factors.rows[row] - row_ohm * before
        g: Array = seen * rest / (1 - row_ohm * seen)
        self._log.read(np.where(mask, g[-1], np.nan))
        return g

    def give_up(self, cells: Mask, reason: str) -> None:
        """Have the chip's passport, if there is one, call cells dead: nothing programs them again.

        Args:
            cells: which, (rows, cols).
            reason: why, for a person.

        Raises:
            InputError: mask of another shape, or no reason.
        """
        if not reason.strip():
            raise InputError("cells are given up for a reason: none was told")
        places = np.argwhere(masks.checked(cells, self.shape)).tolist()
        self._log.given_up({(row, col): reason for row, col in places})

    def _check_volts_of(self, volts: Array, mask: Mask, what: str) -> Array:
        values = array_of(volts, f"{what} voltage")
        if values.shape != self.shape or not np.isfinite(values[mask]).all():
            raise InputError(f"{what} voltages need shape {self.shape} and a number for every cell")
        return np.where(mask, values, 0.0)

    def run_and_read(self, program: ArrayProgram, average: int = 1) -> Array:
        """Run a program with a read of all cells at its end: conductances, (rows, cols)."""
        self._add_read(program, average)
        return self._conductances(self._core.driver.run(program.asm, program.table), average)

    # ---- program ----------------------------------------------------------------------------

    def program(
        self,
        targets_siemens: npt.ArrayLike,
        policy: Policy | None = None,
        progress: Progress | None = None,
    ) -> ProgramReport:
        """Write-verify cells to target conductances. Cells that are not formed are formed first.

        Args:
            targets_siemens: (rows, cols), NaN = leave alone. Cells known to be dead are left out:
                their targets are NaN in the report.
            policy: how; default `CoarseFine()`.
            progress: called with (cells done, cells asked).

        Returns:
            The report; cells that did not converge are in `failed`.

        Raises:
            InputError: shape, or a target outside the chip's window.
        """
        chosen = policy or CoarseFine()
        targets = self._log.allowed(check_targets(targets_siemens, self.spec))
        asked = ~np.isnan(targets)
        traffic = self._core.driver.traffic
        before = (traffic.transactions, traffic.words, traffic.board_time_s)
        formed = self.form(asked)
        live = asked & ~formed.unformed & ~formed.shorted
        job = Job(self._operations, np.where(live, targets, 0.0), live, progress)
        chosen.write(job)
        report = ProgramReport(
            targets_siemens=targets,
            measured_siemens=np.where(asked, job.g, np.nan),
            pulses=job.pulses,
            form_pulses=formed.pulses,
            energy_j=job.energy_j,
            converged=live & (np.abs(job.g - targets) <= chosen.accept_siemens),
            unformed=formed.unformed & asked,
            accept_siemens=chosen.accept_siemens,
            policy=chosen.name,
            rounds=job.rounds,
            transactions=traffic.transactions - before[0],
            words=traffic.words - before[1],
            board_time_s=traffic.board_time_s - before[2],
        )
        self._log.programmed(report)
        return report


def _check_average(average: int) -> None:
    if not 1 <= average <= MAX_AVERAGE:
        raise InputError(f"average {average} is outside 1..{MAX_AVERAGE}")
