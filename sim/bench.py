"""The printed circuit board: DACs, switches, amplifiers and converters around the array.

Only what is electrical is here: given the state of the parts, the voltage of every line, the
current of every source line, and what a conversion returns. When things happen is the business
of sim/sequencer.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import ads8324, dac80508, opa4322
from sim.array.cell import Cells
from sim.chips.dac80508 import Dac80508
from sim.presets import Preset

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

# Sums of products come out of BLAS in an order that depends on the batch; rounding the ADC's
# input to 2^-20 LSB before it is quantised makes one vector and a batch agree bit for bit.
_GUARD = float(1 << 20)


class Bench:
    """State and errors of every part.

    Args:
        spec: how the board is really wired.
        preset: errors of parts and cells.
        rng: all noise comes from it.

    Attributes:
        enable, tia_range, oe: the direct lines. chain: outputs of the 74HC595 chain, None before
            the first latch.
    """

    def __init__(self, spec: BoardSpec, preset: Preset, rng: np.random.Generator) -> None:
        self.spec, self._rng, a = spec, rng, preset.analog
        n_channels = spec.dac_chips * dac80508.N_CHANNELS
        self.cells = Cells(spec.rows, spec.cols, preset.cells, rng)
        self.dac_offset_v = a.dac_offset_v * rng.standard_normal(n_channels)
        self.dac_gain = 1 + a.dac_gain * rng.standard_normal(n_channels)
        spread = a.mux_r_on_spread_ohm * rng.standard_normal(spec.rows)
        self.r_on_ohm = np.maximum(spec.mux_r_on_ohm + spread, 0.0)
        self.tia_offset_v = a.tia_offset_v * rng.standard_normal(spec.rows)
        self.tia_gain = 1 + a.tia_gain * rng.standard_normal(spec.rows)
        self.adc_gain = 1 + a.adc_gain * rng.standard_normal(spec.adcs)
        self._adc_noise_lsb = a.adc_noise_lsb
        self._read_noise = preset.cells.read_noise > 0
        self._bl = np.array(spec.bl_channel)
        self._wl = np.array(spec.wl_channel)
        self._rows_of_select = [self._converted_rows(s) for s in range(spec.selects)]
        self.power_up()

    def power_up(self) -> None:
        """All parts as after switching on; cells keep their state."""
        self.dacs = [Dac80508() for _ in range(self.spec.dac_chips)]
        self.chain: npt.NDArray[np.uint8] | None = None
        self.enable, self.tia_range, self.oe = False, 0, False

    def shift(self, outputs: npt.NDArray[np.uint8]) -> None:
        """Shift bits into the chain and latch it: what it held before moves on by as many places.

        What a chain holds at power-up is undefined; here it is all zero.
        """
        length = 2 * self.spec.rows
        before = np.zeros(length, dtype=np.uint8) if self.chain is None else self.chain
        self.chain = np.concatenate([outputs, before])[:length]

    def _converted_rows(self, select: int) -> npt.NDArray[np.int64]:
        """Row that each ADC sees at a multiplexer input, -1 for none; (adcs,)."""
        rows = np.full(self.spec.adcs, -1)
        for row, (adc, sel) in enumerate(
            zip(self.spec.adc_of_row, self.spec.select_of_row, strict=True)
        ):
            if sel == select:
                rows[adc] = row
        return rows

    # ---- voltages ---------------------------------------------------------------------------

    def full_scales_v(self) -> Array:
        """Full scale of every DAC channel now, (channels,)."""
        return np.array([d.full_scale_v(c) for d in self.dacs for c in range(dac80508.N_CHANNELS)])

    def active_codes(self) -> npt.NDArray[np.int64]:
        """Codes behind the LDAC latch, (channels,)."""
        return np.array([code for dac in self.dacs for code in dac.active])

    def bl_volts(self, codes: Codes, full_scales_v: Array) -> Array:
        """Bit-line voltages (n, cols) of active codes (n, channels)."""
        return self._volts(codes[..., self._bl], full_scales_v[self._bl], self._bl)

    def _volts(self, codes: Codes, full: Array, line: npt.NDArray[np.int64]) -> Array:
        ideal = codes * (full / dac80508.FULL_SCALE)
        volts: Array = np.maximum(ideal * self.dac_gain[line] + self.dac_offset_v[line], 0.0)
        return volts

    def wl_volts(self, codes: Codes, full_scales_v: Array) -> Array:
        """Word-line voltages (rows,)."""
        return self._volts(codes[self._wl], full_scales_v[self._wl], self._wl)

    def sl_inputs(self) -> npt.NDArray[np.int64]:
        """Which input each SL switch selects, (rows,); open where outputs are off."""
        if self.chain is None or not self.oe:
            return np.full(self.spec.rows, self.spec.sl_float)
        low = self.chain[list(self.spec.sl_bit0)].astype(np.int64)
        return low + 2 * self.chain[list(self.spec.sl_bit1)].astype(np.int64)

    def rails_v(self) -> dict[str, float]:
        """Every line voltage by name: BLc, WLr, SLr (nan where it floats), and the fixed rails."""
        codes, full = self.active_codes(), self.full_scales_v()
        rails = {f"BL{c}": float(v) for c, v in enumerate(self.bl_volts(codes, full))}
        rails |= {f"WL{r}": float(v) for r, v in enumerate(self.wl_volts(codes, full))}
        source = (
            self._sl_sources_v(self.sl_inputs()) if self.enable else np.full(self.spec.rows, np.nan)
        )
        rails |= {f"SL{r}": float(v) for r, v in enumerate(source)}
        return rails | {"TIA_BIAS": self.spec.tia_bias_v, "SL_RAIL": self.spec.sl_rail_v}

    def _sl_sources_v(self, inputs: npt.NDArray[np.int64]) -> Array:
        s = self.spec
        volts = np.full(s.rows, np.nan)
        volts[inputs == s.sl_ground] = 0.0
        volts[inputs == s.sl_rail] = s.sl_rail_v
        tia = inputs == s.sl_tia
        volts[tia] = s.tia_bias_v + self.tia_offset_v[tia]
        return volts

    # ---- what the cells see -----------------------------------------------------------------

    def stress(self, width_s: float, now_s: float) -> None:
        """Put the present voltages on the cells for `width_s`, switches closed.

        A source line is pulled from its source by the current of its row:
        V_SL = (V_src / R_on + sum_c g V_BL) / (1 / R_on + sum_c g).
        """
        codes, full = self.active_codes(), self.full_scales_v()
        bl, wl = self.bl_volts(codes, full), self.wl_volts(codes, full)
        source = self._sl_sources_v(self.sl_inputs())
        driven = ~np.isnan(source)
        if not driven.any() or not (wl > 0).any():
            return
        g = self.cells.gated(wl, self.spec.wl_read_v)
        sl = (np.nan_to_num(source) + self.r_on_ohm * (g @ bl)) / (1 + self.r_on_ohm * g.sum(1))
        v = np.where(driven[:, None], bl[None, :] - sl[:, None], 0.0)
        self.cells.pulse(v, wl, width_s, now_s)

    def reads_gently(self, bl_v: Array) -> bool:
        """Whether these bit-line voltages leave every cell far below switching."""
        return bool(np.abs(bl_v - self.spec.tia_bias_v).max() < self.cells.count_v / 2)

    def only_reads(self) -> bool:
        """Whether every source line is at its amplifier or open."""
        inputs = self.sl_inputs()
        return bool(((inputs == self.spec.sl_tia) | (inputs == self.spec.sl_float)).all())

    # ---- readout ----------------------------------------------------------------------------

    def convert(self, bl_v: Array, wl_v: Array, select: int) -> npt.NDArray[np.int32]:
        """Codes of all ADCs for a batch of bit-line voltages.

        Args:
            bl_v: bit lines, (n, cols).
            wl_v: word lines, (rows,).
            select: ADC multiplexer input.

        Returns:
            Signed codes, (n, adcs). Positive codes are currents out of the source line's
            amplifier, i.e. V_BL below the virtual ground: V_out = V_bias - I R_f.
        """
        rows = self._rows_of_select[select]
        wired = np.maximum(rows, 0)
        connected = (self.sl_inputs()[wired] == self.spec.sl_tia) & self.enable & (rows >= 0)
        current = self._currents(bl_v, wl_v, wired) * connected
        feedback = self.spec.tia_feedback_ohm[self.tia_range]
        out = self.tia_offset_v[wired] - current * (feedback * self.tia_gain[wired])
        low = opa4322.HEADROOM_V - self.spec.tia_bias_v
        out = np.clip(out, low, self.spec.tia_supply_v - opa4322.HEADROOM_V - self.spec.tia_bias_v)
        lsb = out * (self.adc_gain / ads8324.lsb_v(self.spec.adc_reference_v)) * (rows >= 0)
        if self._adc_noise_lsb:
            lsb = lsb + self._adc_noise_lsb * self._rng.standard_normal(lsb.shape)
        codes = np.rint(np.rint(lsb * _GUARD) / _GUARD)
        clipped: npt.NDArray[np.int32] = np.clip(codes, ads8324.CODE_MIN, ads8324.CODE_MAX).astype(
            np.int32
        )
        return clipped

    def _currents(self, bl_v: Array, wl_v: Array, rows: npt.NDArray[np.int64]) -> Array:
        """Current of each row's amplifier, (n, len(rows)).

        I = sum_c g (V_BL - V_vg) / (1 + R_on sum_c g).
        Independent read noise of every cell is one Gaussian per output with variance
        sum_c V_c^2 sigma_c^2.
        """
        g = self.cells.gated(wl_v, self.spec.wl_read_v)[rows]
        dv = bl_v - self.spec.tia_bias_v
        total = g.sum(1)
        current = dv @ g.T - self.tia_offset_v[rows] * total
        if self._read_noise:
            # dG'/dG = (G'/G)^2 for a channel in series: none with the gate closed
            sigma = self.cells.read_sigma()[rows] * (g / self.cells.g[rows]) ** 2
            variance = (dv * dv) @ (sigma**2).T
            current = current + np.sqrt(variance) * self._rng.standard_normal(current.shape)
        result: Array = current / (1 + self.r_on_ohm[rows] * total)
        return result
