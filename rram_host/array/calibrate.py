"""Calibration of a board and its chip by reads alone: what is stored on the array stays.

1. Offsets. All gates closed, every amplifier shows its offset, in each range.
2. Gains of ranges. The same currents in two neighbouring ranges; the range that cells are read in
   is the standard, for the board has no other.
3. Wires of bit lines. A cell read with all rows open, and with its own row alone: what differs is
   the drop that the other rows' currents make on the bit line.
4. Switches and source lines. A lower gate voltage puts the same resistance in series with every
   cell of a row (its transistors are alike), so 1/g' - 1/g must not depend on g nor on the column:
   that holds for the right resistance of switch and wire only. Mismatch of the transistors limits
   this to a few ohm a row, so rows are drawn towards their mean as far as their spread is noise.
5. Offsets of bit-line converters, from the currents at zero input, as far as they show there.

Readings that are compared alternate in one program, so that drift and slow noise cancel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from firmware_bridge import readout
from firmware_bridge.chips import ads8324, cd4051b
from firmware_bridge.limits import codes_for
from firmware_bridge.readout import CELL_RANGE
from rram_host.array import line_fit
from rram_host.array.calibration import Calibration
from rram_host.array.compensation import LineResistances
from rram_host.array.line_fit import CONDUCTING
from rram_host.array.pulses import ArrayProgram
from rram_host.board.core import BoardCore
from rram_host.board.sequencer import MAX_RESULTS
from rram_host.errors import BoardFault, InputError

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]

# DAC80508: 0.75 mV typical, and 0.03 % of gain error at the 0.9 V that reads rest at.
DAC_OFFSET_PRIOR_V = 0.8e-3
# ADS8324: a few LSB. At the output it looks like an amplifier's offset, but lifts no line.
ADC_OFFSET_PRIOR_LSB = 2.0
# What is left of zero-input currents once amplifier offsets are taken off: 0.2 % of about 1 uA.
ZERO_INPUT_ERROR_A = 2e-9
LOWEST_LEVEL = 0.8
FEWEST_ROWS = 4  # rows that cannot be seen get the mean of the others
# Relative spread of a row's conductances. Cells that are alike hide the lines behind them: just
# formed ones spread by 12 %, and calibrate three times worse than random ones.
LEAST_SPREAD = 0.15
MOST_WIRE_OHM = 50.0  # lead, or segment


@dataclass(frozen=True)
class CalibrationPlan:
    """How long to measure.

    Attributes:
        turns: alternations of every comparison.
        levels: input levels of every reading in a turn.
        offset_reads: conversions behind an offset.
        low_gate_v: the lower gate voltage of step 4. High enough to be far above threshold, where
            transistors match best; low enough to move the cells' conductance by percents.
    """

    turns: int = 256
    levels: int = 8
    offset_reads: int = 256
    low_gate_v: float = 1.6

    def __post_init__(self) -> None:
        """Refuse plans that measure nothing."""
        for name in ("turns", "levels", "offset_reads"):
            if not 1 <= getattr(self, name) <= 10_000:
                raise InputError(f"{name} = {getattr(self, name)} is outside 1..10000")
        if not 1.0 <= self.low_gate_v <= 2.5:
            raise InputError(f"low gate voltage {self.low_gate_v} V is outside 1.0..2.5 V")


def measure(
    core: BoardCore, plan: CalibrationPlan | None = None, progress: Progress | None = None
) -> Calibration:
    """Calibrate.

    Args:
        core: the board, with a formed array.
        plan: how long.
        progress: called with (step, steps).

    Raises:
        BoardFault: too few cells conduct to see the lines.
    """
    plan = plan or CalibrationPlan()
    work = _Measurement(core, plan)
    steps = (work.offsets, work.gains, work.bit_lines, work.source_lines, work.converters)
    for number, step in enumerate(steps):
        if progress:
            progress(number, len(steps))
        step()
    if progress:
        progress(len(steps), len(steps))
    return work.result()


class _Measurement:
    """The steps, each using what the ones before it found."""

    def __init__(self, core: BoardCore, plan: CalibrationPlan) -> None:
        self._core, self._plan, self._spec = core, plan, core.spec
        self._all = np.arange(core.spec.rows)
        self._lines = LineResistances.typical(core.spec)
        self._gain = np.ones((4, core.spec.rows))

    # ---- readings ---------------------------------------------------------------------------

    def _codes(self, volts: Array) -> npt.NDArray[np.uint16]:
        spec = self._spec
        codes = codes_for(volts + spec.tia_bias_v, spec.bl_limit_v, 1.25, "BL")
        ordered: npt.NDArray[np.uint16] = codes[:, ArrayProgram(spec).asm.bl.order]
        return ordered

    def _one_hot(self) -> Array:
        """One bit line at a time, both signs, at several levels: (levels, 2, cols) vectors.

        Levels spread a current over many codes of the converter, so that its rounding and its
        bow average out.
        """
        step = np.eye(self._spec.cols)
        vectors = self._levels()[:, None, None, None] * np.stack([step, -step])
        flat: Array = vectors.reshape(-1, self._spec.cols)
        return flat

    def _levels(self) -> Array:
        levels: Array = np.linspace(LOWEST_LEVEL, 1.0, self._plan.levels)
        levels *= self._spec.read_voltage_v
        return levels

    def _alternate(
        self, volts: Array, settings: list[tuple[int, float]], turns: int
    ) -> list[Array]:
        """Mean currents of all rows in several settings (range, gate voltage), read in turn.

        Returns:
            One array (len(volts), rows) a setting, in amperes.
        """
        spec, codes = self._spec, self._codes(volts)
        per_turn = len(settings) * len(volts) * spec.selects * spec.adcs
        at_once = max(1, MAX_RESULTS // per_turn)
        sums = [np.zeros((len(volts), spec.rows)) for _ in settings]
        for start in range(0, turns, at_once):
            now = min(at_once, turns - start)
            program = ArrayProgram(spec)
            program.table_only(codes)
            for _ in range(now):
                for tia_range, gate_v in settings:
                    program.add_read(len(codes), 0, self._all, tia_range, 1, gate_v)
            words = self._core.driver.run(program.asm, program.table)
            for turn in np.split(words, now):
                for k, part in enumerate(np.split(turn, len(settings))):
                    tia_range = settings[k][0]
                    gain = self._gain[tia_range]
                    amperes, _ = readout.currents(part, spec, self._all, tia_range, gain)
                    sums[k] += amperes
        return [total / turns for total in sums]

    def _matrix(self, amperes: Array) -> Array:
        """T (rows, cols) from the currents of `_one_hot`: least squares over the levels."""
        levels = self._levels()
        by_level = amperes.reshape(levels.size, 2, self._spec.cols, -1)
        difference = by_level[:, 0] - by_level[:, 1]
        result: Array = np.einsum("l,lcr->rc", levels, difference) / (2 * levels @ levels)
        return result

    # ---- steps ------------------------------------------------------------------------------

    def offsets(self) -> None:
        """Step 1."""
        spec = self._spec
        lsb_v = ads8324.lsb_v(spec.adc_reference_v)
        found, errors = [], []
        for tia_range in range(4):
            program = self._core.program()
            program.switch_sl(spec.sl_tia)
            program.settle()
            program.close_sl(tia_range)
            program.wait(spec.mux_switch_s + spec.tia_settling_s(tia_range))
            with program.loop(self._plan.offset_reads):
                program.convert(readout.selects_for(spec, self._all))
            program.idle()
            words = self._core.driver.run(program)
            amperes, _ = readout.currents(words, spec, self._all, tia_range)
            read_v = -amperes / spec.current_lsb_a(tia_range) * lsb_v
            found.append(read_v.mean(0))
            errors.append(read_v.std(0) / np.sqrt(len(read_v)))
        self._offset_v, self._offset_error_v = np.array(found), np.array(errors)

    def gains(self) -> None:
        """Step 2: ratios of neighbouring ranges, chained to the range of cell reads."""
        spec = self._spec
        gate = spec.wl_read_v
        first = self._matrix(self._alternate(self._one_hot(), [(CELL_RANGE, gate)], 1)[0])
        # a shorted cell fills the range and falsifies its row; few cells show too little
        shorted = (first > spec.shorted_siemens).any(1)
        self._seen = (np.count_nonzero(first > CONDUCTING, axis=1) >= spec.cols // 2) & ~shorted
        if self._seen.sum() < FEWEST_ROWS:
            raise BoardFault(
                f"calibration needs {FEWEST_ROWS} rows with at least {spec.cols // 2} conducting "
                f"cells and none shorted; this array has {self._seen.sum()}: form and program it "
                "first (rram calibrate --prepare)"
            )
        spread = first[self._seen].std(1) / first[self._seen].mean(1)
        if np.median(spread) < LEAST_SPREAD:
            raise BoardFault(
                f"calibration tells lines from cells by cells that differ: the conductances of a "
                f"row spread by {100 * np.median(spread):.0f} % here, at least "
                f"{100 * LEAST_SPREAD:.0f} % are needed; program others first "
                "(rram calibrate --prepare)"
            )
        total = first[self._seen].sum(1)
        ratio = np.ones((4, spec.rows))
        for fine in (1, 2, 3):  # sensitive range of each pair
            level = min(spec.read_voltage_v, 0.6 * spec.full_scale_a(fine) / float(total.max()))
            levels = level * np.linspace(LOWEST_LEVEL, 1.0, 64)
            volts = np.concatenate([levels, -levels])[:, None] * np.ones(spec.cols)
            coarse_a, fine_a = self._alternate(
                volts, [(fine - 1, gate), (fine, gate)], -(-self._plan.turns // 16)
            )
            across = volts[:, :1]
            found = (coarse_a * across).sum(0) / (fine_a * across).sum(0)
            ratio[fine] = np.where(self._seen, found, 1.0)
        gain = np.ones((4, spec.rows))  # true over nominal, range 2 being true
        gain[1] = 1 / ratio[2]
        gain[0] = gain[1] / ratio[1]
        gain[3] = ratio[3]
        self._gain = gain

    def bit_lines(self) -> None:
        """Step 3."""
        settings = [(CELL_RANGE, self._spec.wl_read_v)]
        self._together = self._matrix(self._alternate(self._one_hot(), settings, 1)[0])
        alone, beside = self._each_row_alone()
        row_ohm = self._lines.row_ohm
        found = line_fit.bit_lines(self._together, alone, beside, row_ohm, self._seen)
        self._lines = LineResistances(row_ohm, *found)

    def _each_row_alone(self) -> tuple[Array, Array]:
        """T of rows open one at a time, and of all rows, read in turn."""
        spec, codes = self._spec, self._codes(self._one_hot())
        turns = -(-self._plan.turns // 32)
        alone, together = (np.zeros((spec.rows, spec.cols)) for _ in range(2))
        size = len(codes) * spec.adcs

        def matrix(words: npt.NDArray[np.uint16], rows: Rows) -> Array:
            amperes, _ = readout.currents(words, spec, rows, CELL_RANGE)
            return self._matrix(amperes)

        for _ in range(turns):
            program = ArrayProgram(spec)
            program.table_only(codes)
            for row in self._all.tolist():
                program.add_read(len(codes), 0, np.array([row]), CELL_RANGE)
            program.add_read(len(codes), 0, self._all, CELL_RANGE)
            words = self._core.driver.run(program.asm, program.table)
            for row in self._all.tolist():
                part = words[row * size : (row + 1) * size]
                alone[row] += matrix(part, np.array([row]))[0]
            together += matrix(words[spec.rows * size :], self._all)
        return alone / turns, together / turns

    def source_lines(self) -> None:
        """Step 4."""
        gates = [self._spec.wl_read_v, self._plan.low_gate_v]
        settings = [(CELL_RANGE, gate) for gate in gates]
        halves = [
            [self._matrix(t) for t in self._alternate(self._one_hot(), settings, turns)]
            for turns in (-(-self._plan.turns // 2),) * 2
        ]
        self._together = np.mean([half[0] for half in halves], axis=0)
        found = line_fit.source_lines(halves, self._lines, self._seen)
        self._row_error = found.error_ohm
        self._lines = replace(self._lines, row_ohm=found.row_ohm, sl_segment_ohm=found.segment_ohm)

    def converters(self) -> None:
        """Step 5: ridge regression of zero-input currents on T, prior the datasheet's spread."""
        spec = self._spec
        zero = np.zeros((16, spec.cols))
        rows = np.flatnonzero(self._seen)
        amperes = self._alternate(zero, [(1, spec.wl_read_v)], 2)[0][:, rows]
        t, offset_v = self._together[rows], self._offset_v[1][rows]
        # amplifier offsets lift the virtual ground, and show by themselves at the output
        lsb = spec.current_lsb_a(1) / ads8324.lsb_v(spec.adc_reference_v)
        lifted = -offset_v * (t.sum(1) + lsb)
        wanted = amperes.mean(0) - lifted
        noise = np.hypot(float(amperes.std(0).mean()) / 4, ZERO_INPUT_ERROR_A)
        noise = np.hypot(noise, self._offset_error_v[1][rows] * t.sum(1))
        # the converter's part of an offset was taken off as if it lifted the line: by `wrong`
        wrong = ADC_OFFSET_PRIOR_LSB * ads8324.lsb_v(spec.adc_reference_v) * t.sum(1)
        converters = np.array(spec.adc_of_row)[rows]
        shared = np.equal.outer(converters, converters)
        weight = np.linalg.inv(np.diag(noise**2) + np.outer(wrong, wrong) * shared)
        inverse = np.linalg.inv(t.T @ weight @ t + np.eye(spec.cols) / DAC_OFFSET_PRIOR_V**2)
        self._dac_offset = inverse @ t.T @ weight @ wanted
        self._dac_error = np.sqrt(np.diag(inverse))

    def result(self) -> Calibration:
        """All of it.

        Raises:
            BoardFault: a part of it is not a number that a board can have.
        """
        found = Calibration(
            tia_offset_v=self._offset_v,
            range_gain=self._gain,
            dac_offset_v=self._dac_offset,
            dac_offset_error_v=self._dac_error,
            lines=self._lines,
            row_error_ohm=self._row_error,
            measured=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        try:
            found.check()
            self._check_plausible(found.lines)
        except ValueError as error:
            raise BoardFault(f"calibration came to nothing: {error}; try rram selftest") from None
        return found

    def _check_plausible(self, lines: LineResistances) -> None:
        """Raise ValueError where no such board could be built."""
        most = 2 * cd4051b.maximum_r_on_ohm(self._spec.mux_supply_v)
        wires = max(lines.bl_lead_ohm, lines.bl_segment_ohm, lines.sl_segment_ohm)
        if lines.row_ohm.max() > most or wires > MOST_WIRE_OHM:
            raise ValueError(
                f"switches of up to {lines.row_ohm.max():.4g} ohm (at most {most:.4g}), wires of "
                f"up to {wires:.4g} ohm (at most {MOST_WIRE_OHM:.4g})"
            )
