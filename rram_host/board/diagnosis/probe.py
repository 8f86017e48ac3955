"""Measurements for a diagnosis: any switch setting, gate and bit-line voltages, codes back.

Nothing here assumes that a line does what it is told; what is returned is what converters saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge import readout
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import ads8324, dac80508, opa4322, sn74hc595
from firmware_bridge.limits import codes_for
from firmware_bridge.lines import OE, LineProgram
from firmware_bridge.microcode import Op
from rram_host.board.sequencer import SequencerDriver

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint16]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

COARSE, FINE = 0, 3  # least and most sensitive amplifier range
# Of the clamp's voltage: closer than that an output is at its rail.
AT_RAIL = 0.98


@dataclass(frozen=True)
class Setting:
    """Switches and gates, and the bit-line vectors that are measured with them.

    Attributes:
        inputs: input of every source-line switch, (rows,).
        gate_v: gate voltages, (rows,).
        bl_v: bit-line voltages, (n, cols).
    """

    inputs: Rows
    gate_v: Array
    bl_v: Array


class Probe:
    """Measures with settings, and keeps what earlier checks have found out.

    Args:
        driver: runs programs.
        spec: how the board is meant to be wired.

    Attributes:
        offset_v: offset of every amplifier, (rows,); 0 until measured.
        usable: rows whose amplifier and converter show something, (rows,).
        moved: converters that have ever given two different codes, (adcs,).
    """

    def __init__(self, driver: SequencerDriver, spec: BoardSpec) -> None:
        self.driver, self.spec = driver, spec
        self.offset_v = np.zeros(spec.rows)
        self.usable = np.ones(spec.rows, dtype=bool)
        self._first: Rows | None = None
        self.moved = np.zeros(spec.adcs, dtype=bool)

    @property
    def clamp_v(self) -> float:
        """Largest output of an amplifier above or below its bias, whichever is smaller."""
        spec = self.spec
        return opa4322.full_scale_a(1.0, spec.tia_bias_v, spec.tia_supply_v)

    def all_at(self, code: int) -> Rows:
        """Every source-line switch at one input."""
        return np.full(self.spec.rows, code)

    def gates(self, volts: float) -> Array:
        """Every gate at one voltage."""
        return np.full(self.spec.rows, volts)

    def around_bias(self, dv: npt.ArrayLike) -> Array:
        """Bit-line vectors (n, cols) so many volts above the virtual ground."""
        steps = np.atleast_2d(np.asarray(dv, dtype=np.float64))
        if steps.shape[1] == 1:
            steps = np.tile(steps, (1, self.spec.cols))
        return self.spec.tia_bias_v + steps

    def outputs_v(
        self, settings: Sequence[Setting], tia_range: int, average: int = 1
    ) -> list[Array]:
        """Outputs of all amplifiers above their bias, as converted, for each setting.

        Returns:
            Volts, (average, n, rows) for each setting.
        """
        spec = self.spec
        program, table = self._program(settings, tia_range, average)
        words = self.driver.run(program, table)
        per_vector = spec.selects * spec.adcs
        sizes = [average * len(setting.bl_v) * per_vector for setting in settings]
        parts = np.split(words, np.cumsum(sizes)[:-1])
        return [self._volts(part, average) for part in parts]

    def currents_a(
        self, settings: Sequence[Setting], tia_range: int, average: int = 1
    ) -> list[Array]:
        """Mean currents into all amplifiers, freed of their offsets, (n, rows) a setting."""
        feedback = self.spec.tia_feedback_ohm[tia_range]
        volts = self.outputs_v(settings, tia_range, average)
        return [-(part.mean(0) - self.offset_v) / feedback for part in volts]

    def _volts(self, words: Codes, average: int) -> Array:
        spec = self.spec
        codes = ads8324.to_signed(words).reshape(-1, spec.selects, spec.adcs)
        self._watch(codes)
        mine = codes[:, list(spec.select_of_row), list(spec.adc_of_row)]
        volts = mine * ads8324.lsb_v(spec.adc_reference_v)
        return volts.reshape(average, -1, spec.rows)

    def _watch(self, codes: npt.NDArray[np.int32]) -> None:
        """Which converters give more than one code."""
        wired = [
            codes[:, [s for s, a in zip(*self._places(), strict=True) if a == adc], adc].ravel()
            for adc in range(self.spec.adcs)
        ]
        if self._first is None:
            self._first = np.array([seen[0] if seen.size else 0 for seen in wired])
        same = [bool((seen == at).all()) for seen, at in zip(wired, self._first, strict=True)]
        self.moved |= ~np.array(same)

    def _places(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.spec.select_of_row, self.spec.adc_of_row

    def _program(
        self, settings: Sequence[Setting], tia_range: int, average: int
    ) -> tuple[LineProgram, Codes]:
        spec, asm = self.spec, LineProgram(self.spec)
        selects = readout.selects_for(spec, np.arange(spec.rows))
        table: list[Codes] = []
        start = 0
        asm.add(Op.LINES, value=OE)
        asm.wait(dac80508.UPDATE_INTERVAL_S)  # the program before ended with an update
        asm.bl_range(dac80508.GAIN_0_TO_1V25)
        for setting in settings:
            bl = codes_for(setting.bl_v, spec.bl_limit_v, 1.25, "BL")
            self._switch(asm, setting.inputs)
            asm.bl.immediate(asm, bl[0])
            asm.wl.immediate(asm, codes_for(setting.gate_v, spec.wl_limit_v, 5.0, "WL"))
            asm.latch()
            asm.settle()
            asm.close_sl(tia_range)
            asm.wait(spec.mux_switch_s + spec.tia_settling_s(tia_range))
            with asm.loop(average):
                asm.add(Op.PTR, value=start)
                with asm.loop(len(bl), stride=spec.cols):
                    asm.bl.from_table(asm, 0)
                    asm.latch()
                    asm.wait(spec.settling_s(tia_range))
                    asm.convert(selects)
            table.append(bl[:, asm.bl.order].ravel())
            start += bl.size
        asm.idle()
        return asm, np.concatenate(table)

    def _switch(self, asm: LineProgram, inputs: Rows) -> None:
        """Open the switches and give every row an input of its own."""
        asm.add(Op.LINES, value=OE)
        levels = chain_levels(self.spec, inputs[None])[0]
        data = sn74hc595.words_from_outputs(levels)
        asm.add(Op.SHIFT, value=levels.size, data=data)
        asm.wait(self.spec.mux_switch_s)


def chain_levels(spec: BoardSpec, inputs: Rows) -> npt.NDArray[np.uint8]:
    """Levels of the 74HC595 outputs, (n, positions), that select inputs (n, rows)."""
    levels = np.zeros((len(inputs), 2 * spec.rows), dtype=np.uint8)
    levels[:, list(spec.sl_bit0)] = inputs & 1
    levels[:, list(spec.sl_bit1)] = inputs >> 1 & 1
    return levels


def binary_patterns(count: int) -> Mask:
    """Subsets that tell any two of `count` things apart, (2 bits, count).

    Bit k of every number, then its complement: each two numbers differ in one, and each is once
    in a subset and once outside.

    >>> binary_patterns(2).astype(int).tolist()
    [[0, 1], [1, 0]]
    """
    bits = max(1, (count - 1).bit_length())
    patterns = (np.arange(count)[None, :] >> np.arange(bits)[:, None] & 1).astype(bool)
    return np.concatenate([patterns, ~patterns])
