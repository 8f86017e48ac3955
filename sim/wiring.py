"""What the printed circuit board does to lines: DACs, shift registers, switches, and their errors.

Given the state of the parts, the voltage of every line, and what pulses do to the cells. What
conversions return is in sim/bench.py; when things happen is the business of sim/sequencer.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import TE_ON_BL, BoardSpec
from firmware_bridge.chips import dac80508
from sim.array.cell import Cells, Train
from sim.array.noise import SlowNoise
from sim.chips.cd4051b import Cd4051b
from sim.chips.dac80508 import Dac80508
from sim.chips.sn74hc595 import Sn74hc595Chain
from sim.presets import Preset
from sim.readout import LineLaw

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# Up to here from the virtual ground, cells are taken as linear: reads stay within 0.1 V, where the
# curvature of conduction is 0.7 % for V0 = 0.5 V.
LINEAR_V = 0.2
_KEPT = 64


@dataclass(frozen=True)
class LineVolts:
    """Voltages of bit lines (cols,) and word lines (rows,), for nobody to write to.

    `away_v` is the largest distance of a bit line from the virtual ground.
    """

    bl: Array
    wl: Array
    away_v: float


class Wiring:
    """State and errors of every part, and the voltages of all lines.

    Args:
        spec: how the board is wired.
        preset: errors of parts and cells.
        rng: all noise comes from it.

    Attributes:
        enable, tia_range, oe: the direct lines.
        latched: whether the 74HC595 chain has been latched since power-up.
        channel_of_line, position_of_bit: wiring as it is; a fault exchanges entries.
    """

    def __init__(self, spec: BoardSpec, preset: Preset, rng: np.random.Generator) -> None:
        self.spec, self.preset, self._rng, a = spec, preset, rng, preset.analog
        n = spec.dac_chips * dac80508.N_CHANNELS
        bl_sets = spec.polarity == TE_ON_BL
        self.cells = Cells(spec.rows, spec.cols, preset.cells, rng, bl_sets)
        self.noise = SlowNoise(spec.rows, spec.cols, preset.cells, rng)
        self.dac_offset_v = a.dac_offset_v * rng.standard_normal(n)
        self.dac_gain = 1 + a.dac_gain * rng.standard_normal(n)
        self.dac_inl_lsb = a.dac_inl_lsb * rng.standard_normal(n)
        self.switch = Cd4051b(spec.mux_supply_v, spec.mux_control_v)
        # by A and B: C is tied low; INH is common to all, and `enable` its opposite
        self._channels = np.array(
            [[self.switch.channel(a, b, 0, 0) for b in (0, 1)] for a in (0, 1)]
        )
        lot = max(0.2, 1 + a.mux_r_on_lot * float(rng.standard_normal()))
        spread = a.mux_r_on_spread_ohm * rng.standard_normal(spec.rows)
        # by switch input; the open one has no meaning
        self.switch_ohm = np.array(
            [
                np.maximum(self.switch.r_on_ohm(v) * lot + spread, 0.0)
                for _, v in sorted(self._source_levels_v().items())
            ]
        )
        self.tia_offset_v = a.tia_offset_v * rng.standard_normal(spec.rows)
        self.tia_gain = 1 + a.tia_gain * rng.standard_normal((4, spec.rows))
        self.adc_gain = 1 + a.adc_gain * rng.standard_normal(spec.adcs)
        self.adc_offset_lsb = a.adc_offset_lsb * rng.standard_normal(spec.adcs)
        self.adc_inl_lsb = a.adc_inl_lsb * rng.standard_normal(spec.adcs)
        self.seed = rng.integers(0, 2**64, 1, dtype=np.uint64)  # of white noise in batches
        # what faults change
        self.stuck_v = np.full(n, np.nan)
        self.channel_of_line = np.arange(n)
        self.position_of_bit = np.arange(2 * spec.rows)
        self.stuck_bits: dict[int, int] = {}
        self.dead_chips: set[int] = set()
        self.open_wl = np.zeros(spec.rows, dtype=bool)
        self.connected = np.ones((spec.rows, spec.cols), dtype=bool)
        self.tia_stuck_high = np.zeros(spec.rows, dtype=bool)
        self.dead_adcs = np.zeros(spec.adcs, dtype=bool)
        self.witness: list[Train] | None = None  # of pulses, for whoever repeats them
        self.rewired()
        self.power_up()

    def power_up(self) -> None:
        """All parts as after switching on; cells keep their state."""
        self.dacs = [Dac80508() for _ in range(self.spec.dac_chips)]
        self.chain = Sn74hc595Chain(-(-2 * self.spec.rows // 8), self._rng)
        self.latched = False
        self.enable, self.tia_range, self.oe = False, 0, False

    def rewired(self) -> None:
        """Take in what faults have changed."""
        self.bl_channels = self.channel_of_line[list(self.spec.bl_channel)]
        self.wl_channels = self.channel_of_line[list(self.spec.wl_channel)]
        self.is_bl = np.isin(np.arange(len(self.channel_of_line)), self.bl_channels)
        self._known_ranges: dict[object, tuple[Array, npt.NDArray[np.bool_]]] = {}
        self._laws: dict[object, LineLaw] = {}
        self._inputs: tuple[object, Rows, bool] = (None, np.zeros(0, dtype=np.int64), False)
        self._lines: dict[object, LineVolts] = {}
        self._levels_v = np.array([v for _, v in sorted(self._source_levels_v().items())])

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """Everything of the chip that a state file must hold."""
        return {**self.cells.state(), **self.noise.state()}

    def restore(self, state: dict[str, npt.NDArray[np.generic]]) -> None:
        """Take over a saved state.

        Raises:
            ValueError: an array is missing, of another shape or kind, or not finite.
        """
        for key, like in self.state().items():
            value = state.get(key)
            if value is None or value.shape != like.shape or value.dtype != like.dtype:
                raise ValueError(f"{key} is missing, or not {like.dtype} of shape {like.shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"{key} is not finite")
        self.cells.restore(state)
        self.noise.restore(state)

    def shift(self, outputs: npt.NDArray[np.uint8]) -> None:
        """Shift bits into the chain, the one for the far end first, and latch."""
        self.chain.shift_in(outputs[::-1])
        self.chain.latch()
        self.latched = True

    def frame(self, chip: int, word: int) -> int:
        """One SPI frame to a DAC; what it answers."""
        reply = self.dacs[chip].transfer(word)
        return 0 if chip in self.dead_chips else reply

    # ---- voltages ---------------------------------------------------------------------------

    def full_scales_v(self) -> Array:
        """Full scale of every DAC channel now, (channels,)."""
        return self._ranges()[0]

    def _ranges(self) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Full scale of every channel, and whether it follows its code; by GAIN and CONFIG."""
        key = tuple((dac.gain, dac.config) for dac in self.dacs)
        if key not in self._known_ranges:
            places = [(d, c) for d in self.dacs for c in range(dac80508.N_CHANNELS)]
            self._known_ranges[key] = (
                np.array([d.full_scale_v(c) for d, c in places]),
                np.array([d.drives(c) for d, c in places]),
            )
        return self._known_ranges[key]

    def active_codes(self) -> Rows:
        """Codes behind the LDAC latch, (channels,)."""
        return np.array([code for dac in self.dacs for code in dac.active])

    def line_law(self, channels: Rows, reference_v: float = 0.0) -> LineLaw:
        """Output voltage of DAC channels, by code, above a reference."""
        key = (channels.tobytes(), reference_v, *((dac.gain, dac.config) for dac in self.dacs))
        if key not in self._laws:
            if len(self._laws) >= _KEPT:
                self._laws.clear()
            self._laws[key] = self._law(channels, reference_v)
        return self._laws[key]

    def _law(self, channels: Rows, reference_v: float) -> LineLaw:
        full, drives = self._ranges()
        lsb = full[channels] / dac80508.FULL_SCALE
        free = drives[channels] & np.isnan(self.stuck_v[channels])
        held = np.where(drives[channels], self.stuck_v[channels], 0.0)
        offset = np.where(free, self.dac_offset_v[channels], np.nan_to_num(held))
        return LineLaw(
            slope_v=np.where(free, lsb * self.dac_gain[channels], 0.0),
            offset_v=offset - reference_v,
            # a parabola that is dac_inl_lsb high in the middle
            bow_v=np.where(free, 4 * self.dac_inl_lsb[channels] * lsb, 0.0)
            / dac80508.FULL_SCALE**2,
            floor_v=np.full(len(channels), -reference_v),
        )

    def bl_volts(self, codes: Rows | None = None) -> Array:
        """Bit-line voltages now, (cols,), or for codes (..., channels) behind the latch."""
        if codes is None:
            return self._volts_now().bl
        return self.line_law(self.bl_channels).volts(codes[..., self.bl_channels])

    def wl_volts(self, codes: Rows | None = None) -> Array:
        """Word-line voltages, as `bl_volts`, (rows,); 0 where the line is broken."""
        if codes is None:
            return self._volts_now().wl
        volts = self.line_law(self.wl_channels).volts(codes[..., self.wl_channels])
        return np.where(self.open_wl, 0.0, volts)

    def _volts_now(self) -> LineVolts:
        """Voltages of all lines, kept by what the DACs hold: a program begins as the last did."""
        held: list[int] = []
        for dac in self.dacs:
            held += dac.active
            held += (dac.gain, dac.config)
        key = tuple(held)
        if key not in self._lines:
            if len(self._lines) >= _KEPT:
                self._lines.clear()
            codes = self.active_codes()
            away = self.line_law(self.bl_channels, self.spec.tia_bias_v).volts(
                codes[self.bl_channels]
            )
            self._lines[key] = LineVolts(
                self.bl_volts(codes), self.wl_volts(codes), float(np.abs(away).max())
            )
        return self._lines[key]

    def sl_inputs(self) -> Rows:
        """Which input each SL switch selects, (rows,); open where outputs are off."""
        key = (self.chain.storage.tobytes(), self.oe, self.latched)
        if self._inputs[0] != key:
            inputs = self._selected()
            reads = (inputs == self.spec.sl_tia) | (inputs == self.spec.sl_float)
            self._inputs = key, inputs, bool(reads.all())
        return self._inputs[1]

    def _selected(self) -> Rows:
        spec = self.spec
        levels = self.chain.outputs(oe_low=self.oe)
        if levels is None or not self.latched:
            return np.full(spec.rows, spec.sl_float)
        outputs = levels.astype(np.int64)
        for position, level in self.stuck_bits.items():
            outputs[position] = level
        bits = outputs[self.position_of_bit]
        chosen: Rows = self._channels[bits[list(spec.sl_bit0)], bits[list(spec.sl_bit1)]]
        return chosen

    def _source_levels_v(self) -> dict[int, float]:
        """Nominal voltage at each switch input."""
        s = self.spec
        return {
            s.sl_ground: 0.0,
            s.sl_tia: s.tia_bias_v,
            s.sl_rail: s.sl_rail_v,
            s.sl_float: s.tia_bias_v,
        }

    def source_volts(self) -> Array:
        """What each source line is switched to, (rows,); nan where it is open."""
        inputs, s = self.sl_inputs(), self.spec
        if not self.enable:
            return np.full(s.rows, np.nan)
        volts: Array = self._levels_v[inputs] + np.where(inputs == s.sl_tia, self.tia_offset_v, 0.0)
        volts[inputs == s.sl_float] = np.nan
        return volts

    def rails_v(self) -> dict[str, float]:
        """Every line voltage by name: BLc, WLr, SLr (nan where it floats), and the fixed rails."""
        rails = {f"BL{c}": float(v) for c, v in enumerate(self.bl_volts())}
        rails |= {f"WL{r}": float(v) for r, v in enumerate(self.wl_volts())}
        rails |= {f"SL{r}": float(v) for r, v in enumerate(self.source_volts())}
        return rails | {"TIA_BIAS": self.spec.tia_bias_v, "SL_RAIL": self.spec.sl_rail_v}

    # ---- what the cells see -----------------------------------------------------------------

    def stress(self, width_s: float, now_cycles: int) -> None:
        """Put the present voltages on the cells for `width_s`, switches closed.

        Segments of the wires are left out here: a pulse moves lines by volts, they by millivolts.
        """
        self.stress_with(self.bl_volts()[None], self.wl_volts()[None], width_s, [now_cycles])

    def stress_with(
        self, bl_v: Array, wl_v: Array, width_s: float, end_cycles: npt.ArrayLike
    ) -> None:
        """The same, one pulse after another, for given lines (n, cols), (n, rows) and ends (n,)."""
        enabled, self.enable = self.enable, True
        source = self.source_volts()
        self.enable = enabled
        if np.isnan(source).all():
            return
        n, rows = len(bl_v), self.spec.rows
        lead = self.switch_ohm[self.sl_inputs(), np.arange(rows)]
        train = Train(
            bl_v=np.ascontiguousarray(bl_v),
            source_v=np.tile(source, (n, 1)),
            wl_v=np.ascontiguousarray(wl_v),
            lead_ohm=np.tile(lead, (n, 1)),
            width_s=np.full(n, width_s),
            end_cycles=np.array(end_cycles, dtype=np.int64),
        )
        if self.witness is not None:
            self.witness.append(train)
        self.cells.train(train, self.connected, self.spec.wl_read_v)

    def reads_gently(self, largest_v: float) -> bool:
        """Whether bit lines this far from the virtual ground leave cells far below switching."""
        return largest_v < min(self.cells.count_v / 2, LINEAR_V)

    def conducts(self, wl_v: Array) -> bool:
        """Whether any gate is open."""
        lowest = self.cells.gate_offset_v.min() + self.preset.cells.gate_threshold_v
        return bool(wl_v.max() > lowest)

    def only_reads(self) -> bool:
        """Whether every source line is at its amplifier or open."""
        self.sl_inputs()
        return self._inputs[2]

    def at_rest(self) -> bool:
        """Whether the present voltages leave every cell alone."""
        return self.only_reads() and self.reads_gently(self._volts_now().away_v)
