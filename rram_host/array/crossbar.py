"""Crossbar: the array as a user sees it. Row = WL and SL, column = BL; shapes (rows, cols)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rram_host.array.calibration import Calibration
from rram_host.array.compensation import Compensation, reset_bl_volts, reset_groups
from rram_host.array.log import ArrayLog, NoLog
from rram_host.array.products import (
    Products,
    check_rows,
    check_voltages,
    expected_range,
    multiply,
)
from rram_host.array.pulses import ArrayProgram, reset_train, set_train
from rram_host.array.write_verify import (
    FormReport,
    ProgramReport,
    ResponseModel,
    WriteVerifySettings,
    check_targets,
)
from rram_host.board import readout
from rram_host.board.core import BoardCore
from rram_host.board.limits import array_of
from rram_host.board.readout import CELL_RANGE
from rram_host.board.sequencer import MAX_RESULTS
from rram_host.errors import InputError

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Progress = Callable[[int, int], None]

PRISTINE_SIEMENS = 1e-6
MAX_AVERAGE = 10_000  # a minute and more of board time


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

    def read(self, average: int = 4) -> Array:
        """Conductance of every cell, in siemens, (rows, cols).

        Each cell is read with +0.1 V and -0.1 V on its bit line (offsets of DACs and amplifiers
        cancel), `average` times each, and freed of the series resistance of its lines.

        Raises:
            InputError: average below 1.
        """
        g = self.look(average)
        self._log.read(g)
        return g

    def look(self, average: int = 1) -> Array:
        """The same as `read`, without telling the log."""
        if not 1 <= average <= MAX_AVERAGE:
            raise InputError(f"average {average} is outside 1..{MAX_AVERAGE}")
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
            chosen = expected_range(self.spec, volts, known.measured[wanted])
        readout.check_range(chosen)
        while True:
            gain = self.calibration.range_gain[chosen]
            result = multiply(self._core, volts, wanted, chosen, factors, gain)
            if tia_range is not None or not result.saturated or chosen == 0:
                return result
            chosen -= 1  # some vector of a large batch was larger than those looked at

    # ---- form, set, reset -------------------------------------------------------------------

    def form(self, cells: Mask | None = None, progress: Progress | None = None) -> FormReport:
        """Electroform cells: a ramp of BL pulses with the gate as compliance, read after each step.

        Args:
            cells: which, (rows, cols); default all that are not known to be dead. Cells that are
                formed already are left alone.
            progress: called with (step, steps).

        Raises:
            InputError: mask of another shape.
        """
        p = self.spec.pulses
        todo = self._check_mask(cells)
        if cells is None:
            todo &= ~self._log.dead()
        pulses = np.zeros(self.shape, dtype=np.int64)
        g = self.look(1)
        todo &= g < PRISTINE_SIEMENS
        gates = np.full(self.shape, p.form_wl_v)
        steps = np.arange(p.form_bl_start_v, p.form_bl_stop_v + 1e-9, p.form_bl_step_v)
        for number, bl_v in enumerate(steps.tolist()):
            if not todo.any():
                break
            program = ArrayProgram(self.spec)
            program.pulse(set_train(self.spec, todo, gates, bl_v, p.form_width_s))
            pulses += todo
            with self._log.pulsing(todo, forming=True):
                g = self._run_and_read(program, 1)
            todo &= g < PRISTINE_SIEMENS
            if progress:
                progress(number + 1, len(steps))
        if progress:
            progress(len(steps), len(steps))
        report = FormReport(g, pulses, todo, g > self.spec.shorted_siemens)
        self._log.formed(report)
        return report

    def set_cells(self, cells: Mask, wl_v: Array, bl_v: float | None = None) -> Array:
        """One SET pulse on each cell of a mask, then a read, in siemens.

        Args:
            cells: which, (rows, cols).
            wl_v: gate voltage of each, (rows, cols): the compliance.
            bl_v: SET voltage; default of the board file.
        """
        p = self.spec.pulses
        program = ArrayProgram(self.spec)
        mask = self._check_mask(cells)
        gates = self._check_volts_of(wl_v, mask, "WL")
        if mask.any():
            volts = p.set_bl_v if bl_v is None else bl_v
            program.pulse(set_train(self.spec, mask, gates, volts, p.set_width_s))
        return self._pulse_and_read(program, mask)

    def reset_cells(self, cells: Mask, reset_v: Array) -> Array:
        """One RESET pulse on each cell of a mask, other bit lines inhibited, then a read.

        Args:
            cells: which, (rows, cols).
            reset_v: SL minus BL voltage of each, (rows, cols).
        """
        mask = self._check_mask(cells)
        volts = self._check_volts_of(reset_v, mask, "RESET")
        if volts.min() < 0:
            raise InputError(f"RESET voltage {volts.min():.4g} V is below 0 V: it would SET")
        program = ArrayProgram(self.spec)
        self._add_reset(program, mask, volts, self.look(1), self.spec.cols)
        return self._pulse_and_read(program, mask)

    def _check_mask(self, cells: Mask | None) -> Mask:
        mask = np.ones(self.shape, dtype=bool) if cells is None else np.array(cells, dtype=bool)
        if mask.shape != self.shape:
            raise InputError(f"cell mask has shape {mask.shape}, the array has {self.shape}")
        return mask

    def _check_volts_of(self, volts: Array, mask: Mask, what: str) -> Array:
        values = array_of(volts, f"{what} voltage")
        if values.shape != self.shape or not np.isfinite(values[mask]).all():
            raise InputError(f"{what} voltages need shape {self.shape} and a number for every cell")
        return np.where(mask, values, 0.0)

    def _pulse_and_read(self, program: ArrayProgram, cells: Mask) -> Array:
        with self._log.pulsing(cells):
            g = self._run_and_read(program, 1)
        self._log.pulsed(g)
        return g

    def _run_and_read(self, program: ArrayProgram, average: int) -> Array:
        self._add_read(program, average)
        return self._conductances(self._core.driver.run(program.asm, program.table), average)

    def _add_reset(
        self, program: ArrayProgram, cells: Mask, volts: Array, g: Array, parallel: int
    ) -> None:
        """RESET pulses for cells, at most `parallel` of a row at once, with little sag."""
        row_ohm = self.calibration.rail_ohm(self.spec)
        sag_v = row_ohm[:, None] * np.maximum(g, 0.0) * volts
        order, chosen = [], []
        for row in np.flatnonzero(cells.any(1)).tolist():
            for columns in reset_groups(np.flatnonzero(cells[row]), sag_v[row], parallel):
                selected = np.zeros(self.spec.cols, dtype=bool)
                selected[columns] = True
                order.append(row)
                chosen.append(selected)
        if not order:
            return
        rows, selected = np.array(order), np.array(chosen)
        spec, p = self.spec, self.spec.pulses
        bl_v = reset_bl_volts(
            volts[rows], selected, np.maximum(g[rows], 0.0), spec.sl_rail_v, row_ohm[rows]
        )
        program.pulse(reset_train(spec, rows, bl_v, p.reset_wl_v, p.reset_width_s))

    # ---- program ----------------------------------------------------------------------------

    def program(
        self,
        targets_siemens: npt.ArrayLike,
        settings: WriteVerifySettings | None = None,
        progress: Progress | None = None,
    ) -> ProgramReport:
        """Write-verify cells to target conductances. Cells that are not formed are formed first.

        Args:
            targets_siemens: (rows, cols), NaN = leave alone. Cells known to be dead are left out:
                their targets are NaN in the report.
            settings: tolerance, pulse limit and so on.
            progress: called with (cells done, cells asked).

        Returns:
            The report; cells that did not converge are in `failed`.

        Raises:
            InputError: shape, or a target outside the chip's window.
        """
        settings = settings or WriteVerifySettings()
        targets = self._log.allowed(check_targets(targets_siemens, self.spec))
        asked = ~np.isnan(targets)
        traffic = self._core.driver.traffic
        before = (traffic.transactions, traffic.words, traffic.board_time_s)
        formed = self.form(asked)
        live = asked & ~formed.unformed & ~formed.shorted
        pulses, measured, rounds = self._write(
            np.where(live, targets, 0.0), live, settings, progress
        )
        report = ProgramReport(
            targets_siemens=targets,
            measured_siemens=np.where(asked, measured, np.nan),
            pulses=pulses,
            form_pulses=formed.pulses,
            converged=live & (np.abs(measured - targets) <= settings.accept_siemens),
            unformed=formed.unformed & asked,
            accept_siemens=settings.accept_siemens,
            rounds=rounds,
            transactions=traffic.transactions - before[0],
            words=traffic.words - before[1],
            board_time_s=traffic.board_time_s - before[2],
        )
        self._log.programmed(report)
        return report

    def _write(
        self,
        targets: Array,
        live: Mask,
        settings: WriteVerifySettings,
        progress: Progress | None,
    ) -> tuple[npt.NDArray[np.int64], Array, int]:
        """Rounds until every live cell is done or out of pulses, by an averaged last reading.

        Returns:
            Pulses of every cell, the last reading, and how many rounds it took.
        """
        p = self.spec.pulses
        model = ResponseModel(p, self.shape, settings.gain)
        pulses = np.zeros(self.shape, dtype=np.int64)
        g = self.look(settings.verify_average)
        rounds, done, confirmed = 0, np.zeros(self.shape, dtype=bool), False
        while True:
            error = np.abs(g - targets)
            done = (error <= settings.tolerance_siemens) | (
                done & (error <= settings.accept_siemens)
            )
            todo = live & ~done & (pulses < settings.max_pulses) & ~self._log.worn()
            if progress:
                progress(int((live & done).sum()), int(live.sum()))
            if not todo.any():
                if confirmed:
                    return pulses, g, rounds
                g, confirmed = self.look(4), True
                continue
            confirmed = False
            up, down = todo & (g < targets), todo & (g > targets)
            wl_v = np.minimum(model.set_wl_v(targets), self.spec.wl_limit_v)
            reset_v = model.reset_v(targets)
            program = ArrayProgram(self.spec)
            if up.any():
                program.pulse(set_train(self.spec, up, wl_v, p.set_bl_v, p.set_width_s))
            self._add_reset(program, down, reset_v, g, settings.max_parallel_reset)
            with self._log.pulsing(todo):
                after = self._run_and_read(program, settings.verify_average)
            model.learn(up, wl_v, g, after, is_set=True)
            model.learn(down, reset_v, g, after, is_set=False)
            pulses += todo
            g, rounds = after, rounds + 1
