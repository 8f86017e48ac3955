"""The printed circuit board: DACs, switches, wires, amplifiers and converters around the array.

Given the state of the parts: the current of every source line, and what a conversion returns.
`convert` goes through every part, one conversion at a time, and is the
reference; `read_plan` folds the same into one matrix for a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import ads8324, opa4322
from sim import kernels
from sim.array.network import EffectiveMatrix, Wires
from sim.array.nonlinear import Stacks, element_siemens, solve
from sim.chips.ads8324 import BOW_PEAK, Ads8324
from sim.chips.opa4322 import Tia
from sim.presets import Preset
from sim.readout import LineLaw, OutputLaw, PlanScale, PlanShape, ReadPlan, Scratch
from sim.wiring import LINEAR_V, Wiring

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# Where the nonlinear array is solved, relative to the largest current. What is left is far less,
# 2e-7 for bit lines +-0.5 V: a thousandth of an ADC code.
NONLINEAR_TOLERANCE = 1e-5
_KEPT_NETWORKS = 8


@dataclass(frozen=True, eq=False)
class LinearRead:
    """The array as its amplifiers see it now: I = t_bl dv + t_sl source.

    dv and source are voltages above the virtual ground (TIA_BIAS).

    Attributes:
        t_bl: (rows, cols), with the slow noise of the cells in it.
        t_sl: (rows, rows).
        source_v: what each source line is held at, (rows,); 0 where it is open.
        amplified: rows whose source line is at its amplifier, (rows,).
        sigma: white read noise of every cell as its row's current has it, siemens, (rows, cols).
    """

    t_bl: Array
    t_sl: Array
    source_v: Array
    amplified: npt.NDArray[np.bool_]
    sigma: Array


class Bench(Wiring):
    """The board's parts with its amplifiers and converters.

    Args:
        spec: how the board is wired.
        preset: errors of parts and cells.
        rng: all noise comes from it.
    """

    def __init__(self, spec: BoardSpec, preset: Preset, rng: np.random.Generator) -> None:
        super().__init__(spec, preset, rng)
        self._rows_of_select = [self._converted_rows(s) for s in range(spec.selects)]
        self._scratch = Scratch()

    def rewired(self) -> None:
        """Take in what faults have changed."""
        super().rewired()
        self._networks: dict[bytes, EffectiveMatrix] = {}
        self._still: tuple[object, LinearRead] | None = None  # as is, without slow noise
        self._seen: tuple[int, LinearRead] | None = None  # with it
        self._shapes: dict[object, PlanShape] = {}
        self._clamps: tuple[Array, Array] | None = None
        self._scaled: tuple[object, tuple[PlanScale, ReadPlan]] | None = None

    def forget(self) -> None:
        """Find everything about the array anew, as a board would that has just been opened.

        Matrices that have followed cell after cell are rounded otherwise than fresh ones.
        """
        self._networks.clear()
        self.cells.version += 1  # all else that is remembered goes by it

    def _converted_rows(self, select: int) -> Rows:
        """Row that each ADC sees at a multiplexer input, -1 for none; (adcs,)."""
        rows = np.full(self.spec.adcs, -1)
        for row, (adc, sel) in enumerate(
            zip(self.spec.adc_of_row, self.spec.select_of_row, strict=True)
        ):
            if sel == select:
                rows[adc] = row
        return rows

    # ---- the array as the amplifiers see it ----------------------------------------------------

    def linear_read(self, wl_v: Array) -> LinearRead:
        """Effective matrices for the present gates and switches."""
        inputs = self.sl_inputs()
        key = (self.cells.version, self.enable, wl_v.tobytes(), inputs.tobytes())
        if self._still is None or self._still[0] != key:
            self._still = key, self._without_noise(wl_v, inputs)
            self._seen = None
        if self._seen is None or self._seen[0] != self.noise.version:
            still = self._still[1]
            noisy = still.t_bl * self.noise.factor
            read = LinearRead(noisy, still.t_sl, still.source_v, still.amplified, still.sigma)
            self._seen = self.noise.version, read
        return self._seen[1]

    def _without_noise(self, wl_v: Array, inputs: Rows) -> LinearRead:
        spec, cells = self.spec, self.cells
        source = self.source_volts()
        held = ~np.isnan(source)
        gated = cells.gated(wl_v, spec.wl_read_v) * self.connected
        network = self._network(gated, held)
        t_bl = network.t_bl
        # dG'/dG = (G'/G)^2 for a channel in series, and T/G' on the way to the amplifier
        sigma = cells.read_sigma() * gated * np.abs(t_bl) / cells.g**2
        return LinearRead(
            t_bl=t_bl,
            t_sl=network.t_sl,
            source_v=np.where(held, source - spec.tia_bias_v, 0.0),
            amplified=held & (inputs == spec.sl_tia),
            sigma=sigma,
        )

    def _network(self, gated: Array, held: npt.NDArray[np.bool_]) -> EffectiveMatrix:
        """Exact port matrices, factored only where cells, gates or switches have moved."""
        key = self.sl_inputs().tobytes() + held.tobytes()
        network = self._networks.get(key)
        if network is None:
            if len(self._networks) >= _KEPT_NETWORKS:
                self._networks.clear()
            a = self.preset.analog
            lead = self.switch_ohm[self.sl_inputs(), np.arange(self.spec.rows)]
            wires = Wires(a.bl_lead_ohm, a.bl_segment_ohm, lead, a.sl_segment_ohm)
            network = EffectiveMatrix(self.spec.rows, self.spec.cols, wires)
            self._networks[key] = network.factor(gated, ~held)
            return network
        moved = np.flatnonzero(network.g != gated)
        if moved.size > 1:
            network.factor(gated, ~held)
        elif moved.size:
            row, col = divmod(int(moved[0]), self.spec.cols)
            network.change(row, col, float(gated[row, col]))
        return network

    def _clamps_v(self) -> tuple[Array, Array]:
        """Output of every amplifier above the bias at its clamps, (rows,)."""
        if self._clamps is None:
            self._clamps = self._new_clamps_v()
        return self._clamps

    def _new_clamps_v(self) -> tuple[Array, Array]:
        s = self.spec
        high = np.full(s.rows, s.tia_supply_v - opa4322.HEADROOM_V - s.tia_bias_v)
        low = np.full(s.rows, opa4322.HEADROOM_V - s.tia_bias_v)
        return np.where(self.tia_stuck_high, high, low), high

    def _feedback_ohm(self) -> Array:
        ohm: Array = self.spec.tia_feedback_ohm[self.tia_range] * self.tia_gain[self.tia_range]
        return ohm

    def _lost_grounds(self, read: LinearRead, currents: Array) -> Array:
        """Currents (n, rows) once more, with amplifiers at their clamps not holding their lines.

        The line of such an amplifier sits at V_clamp + I R_f. Lines couple through the bit lines'
        wires, weakly, so a few rounds of Gauss and Seidel settle all of them.
        """
        feedback = self._feedback_ohm()
        low, high = self._clamps_v()
        own = np.diag(read.t_sl)
        lifted = np.zeros_like(currents)
        for _ in range(6):
            now = currents + lifted @ read.t_sl.T
            held = now - lifted * own  # what would flow with this line held and the others as is
            wanted = self.tia_offset_v - held * feedback
            out = np.clip(wanted, low, high)
            lost = (out != wanted) & read.amplified & ~self.tia_stuck_high
            step = (out - self.tia_offset_v + held * feedback) / (1 - feedback * own)
            lifted = np.where(lost, step, 0.0)
        result: Array = currents + lifted @ read.t_sl.T
        return result

    # ---- readout: the reference -----------------------------------------------------------------

    def convert(self, select: int) -> npt.NDArray[np.uint16]:
        """What the sequencer captures from all ADCs at a multiplexer input, (adcs,).

        Every part by itself: line voltages, network, amplifier, converter, 24 clocks of DOUT.
        """
        rows = self._rows_of_select[select]
        bl_v, wl_v = self.bl_volts(), self.wl_volts()
        dv = bl_v - self.spec.tia_bias_v
        read = self.linear_read(wl_v)
        if np.abs(dv).max() < LINEAR_V or not self.conducts(wl_v):
            currents = dv @ read.t_bl.T + read.t_sl @ read.source_v
        else:
            currents = self._nonlinear_currents(bl_v, wl_v)
        currents = self._lost_grounds(read, currents[None])[0]
        if read.sigma.any():
            spread = np.sqrt((dv**2) @ (read.sigma**2).T)
            currents = currents + spread * self._rng.standard_normal(currents.size)
        words = np.zeros(len(rows), dtype=np.uint16)
        for adc, row in enumerate(rows.tolist()):
            out_v = self._output_v(row, float(currents[row]), bool(read.amplified[row]))
            words[adc] = self._capture(adc, out_v)
        return words

    def _output_v(self, row: int, current_a: float, amplified: bool) -> float:
        """Output of a row's amplifier above its bias; 0 where the input is not wired."""
        if row < 0:
            return 0.0
        s = self.spec
        if self.tia_stuck_high[row]:
            return float(self._clamps_v()[1][row])
        part = Tia(
            s.tia_feedback_ohm[self.tia_range],
            s.tia_bias_v,
            s.tia_supply_v,
            float(self.tia_offset_v[row]),
            float(self.tia_gain[self.tia_range, row]),
        )
        return float(part.output_v(current_a if amplified else 0.0)) - s.tia_bias_v

    def _capture(self, adc: int, differential_v: float) -> int:
        if self.dead_adcs[adc]:
            return 0
        part = Ads8324(
            self.spec.adc_reference_v,
            gain=float(self.adc_gain[adc]),
            offset_lsb=float(self.adc_offset_lsb[adc]),
            inl_lsb=float(self.adc_inl_lsb[adc]),
            noise_lsb=self.preset.analog.adc_noise_lsb,
        )
        noise = float(self._rng.standard_normal()) if self.preset.analog.adc_noise_lsb else 0.0
        part.select(differential_v, noise)
        return ads8324.word_from_capture(part.clock(ads8324.CLOCKS_PER_SAMPLE))

    def _nonlinear_currents(self, bl_v: Array, wl_v: Array) -> Array:
        """Currents (rows,) where cells do not conduct linearly, without gate mismatch."""
        source, p, a = self.source_volts(), self.preset.cells, self.preset.analog
        lead = self.switch_ohm[self.sl_inputs(), np.arange(self.spec.rows)]
        over_v = self.spec.wl_read_v - p.gate_threshold_v - self.spec.tia_bias_v
        g = self.cells.g * self.noise.factor * self.connected
        g = np.minimum(g, 0.9 * p.gate_slope_siemens_per_v * over_v)  # a shorted cell
        stacks = Stacks(
            element_siemens(g, p.gate_slope_siemens_per_v, over_v),
            p.sinh_v,
            p.gate_slope_siemens_per_v,
            p.gate_threshold_v,
        )
        wires = Wires(a.bl_lead_ohm, a.bl_segment_ohm, lead, a.sl_segment_ohm)
        open_sl = np.isnan(source)
        sl_v = np.nan_to_num(source)
        amperes: Array = solve(
            stacks, wires, bl_v[None], sl_v, wl_v, open_sl=open_sl, tolerance=NONLINEAR_TOLERANCE
        ).sl_a[0]
        return amperes

    # ---- readout: a batch -----------------------------------------------------------------------

    def read_plan(
        self, channels: Sequence[int], selects: Sequence[int], largest_v: float = LINEAR_V
    ) -> ReadPlan:
        """Everything from codes of `channels` to the words of conversions, for the state now.

        Args:
            channels: DAC channels whose codes will be given; other lines stay as they are.
            selects: ADC multiplexer inputs, in the order of conversion.
            largest_v: largest distance of a bit line from the virtual ground.
        """
        read, at = self.linear_read(self.wl_volts()), self._shape(tuple(channels), tuple(selects))
        law = self.line_law(at.channels, self.spec.tia_bias_v)
        scale, plan = self._scale(read, at, law)
        rest_v = np.zeros(self.spec.cols)
        if not at.moving.all():
            rest_v = np.where(at.moving, 0.0, self.bl_volts() - self.spec.tia_bias_v)
            plan = self._plan(read, at, law, scale, rest_v)

        def saturate(volts: Array) -> Array:
            dv = np.tile(rest_v, (len(volts), 1))
            dv[:, at.columns[at.driven]] = volts[:, at.driven]
            currents = self._lost_grounds(read, dv @ read.t_bl.T + read.t_sl @ read.source_v)
            lsb = currents[:, at.rows] * scale.per_a + scale.offset
            sums: Array = np.where(at.real, lsb, 0.0)
            return sums

        weights = kernels.fold(read.t_bl, at.rows, at.columns, at.driven, scale.per_a)
        return plan.of(weights, saturate if self._may_clamp(read, scale, largest_v) else None)

    def _plan(
        self, read: LinearRead, at: PlanShape, law: LineLaw, scale: PlanScale, rest_v: Array
    ) -> ReadPlan:
        """The plan without weights, other lines at `rest_v`, (cols,), from the virtual ground."""
        at_rest = scale.held_a + read.t_bl @ rest_v
        sigma = np.where(at.alive, read.sigma[at.rows].T * scale.per_a, 0.0)  # (cols, outputs)
        return ReadPlan(
            lines=law,
            weights=np.zeros_like(scale.spread),
            base=np.where(at.real, at_rest[at.rows] * scale.per_a + scale.offset, 0.0),
            spread=scale.spread,
            base_spread=rest_v**2 @ sigma**2,
            law=at.law,
            seed=self.seed,
            scratch=self._scratch,
            covers_all=bool(at.covered[read.amplified].all()),
        )

    def _shape(self, channels: tuple[int, ...], selects: tuple[int, ...]) -> PlanShape:
        """What a plan for these inputs and outputs does not share with the state of the board."""
        key = (channels, selects)
        if key not in self._shapes:
            if len(self._shapes) >= _KEPT_NETWORKS:
                self._shapes.clear()
            self._shapes[key] = self._new_shape(channels, selects)
        return self._shapes[key]

    def _new_shape(self, channels: tuple[int, ...], selects: tuple[int, ...]) -> PlanShape:
        rows = np.concatenate([self._rows_of_select[s] for s in selects])
        adcs = np.tile(np.arange(self.spec.adcs), len(selects))
        column = {int(channel): c for c, channel in enumerate(self.bl_channels)}
        columns = np.array([column.get(channel, -1) for channel in channels], dtype=np.int64)
        every_row, every_column = np.arange(self.spec.rows), np.arange(self.spec.cols)
        return PlanShape(
            channels=np.array(channels, dtype=np.int64),
            columns=np.maximum(columns, 0),
            driven=columns >= 0,
            moving=np.isin(every_column, columns),
            rows=np.maximum(rows, 0),
            real=rows >= 0,
            alive=~self.dead_adcs[adcs],
            covered=np.isin(every_row, rows),
            law=self._output_law(rows, adcs),
        )

    def _scale(self, read: LinearRead, at: PlanShape, law: LineLaw) -> tuple[PlanScale, ReadPlan]:
        """What does not change with the slow noise of the cells, kept until something else does.

        The plan is without weights, and with lines that do not move at the virtual ground.
        """
        key = (at, law, self.tia_range, self._still and self._still[1])
        if self._scaled is None or self._scaled[0] != key:
            scale = self._new_scale(read, at)
            plan = self._plan(read, at, law, scale, np.zeros(self.spec.cols))
            self._scaled = key, (scale, plan)
        return self._scaled[1]

    def _new_scale(self, read: LinearRead, at: PlanShape) -> PlanScale:
        lsb_v, feedback = ads8324.lsb_v(self.spec.adc_reference_v), self._feedback_ohm()
        carried = at.real & read.amplified[at.rows]
        per_a = np.where(carried, -feedback[at.rows] / lsb_v, 0.0)
        noise = kernels.fold(read.sigma, at.rows, at.columns, at.driven, per_a * at.alive)
        held_a = read.t_sl @ read.source_v
        low, high = self._clamps_v()
        room_a = (np.minimum(-low, high) - np.abs(self.tia_offset_v)) / feedback - np.abs(held_a)
        return PlanScale(
            per_a=per_a,
            offset=(self.tia_offset_v / lsb_v)[at.rows],
            spread=np.square(noise),
            held_a=held_a,
            room_a=np.where(read.amplified, room_a, np.inf),
        )

    def _may_clamp(self, read: LinearRead, scale: PlanScale, largest_v: float) -> bool:
        return bool((largest_v * kernels.row_sums(read.t_bl) >= scale.room_a).any())

    def _output_law(self, rows: Rows, adcs: Rows) -> OutputLaw:
        lsb = ads8324.lsb_v(self.spec.adc_reference_v)
        low, high = self._clamps_v()
        alive = ~self.dead_adcs[adcs]
        return OutputLaw(
            low=np.where(rows >= 0, low[rows], low.min()) / lsb,
            high=np.where(rows >= 0, high[rows], high.max()) / lsb,
            gain=np.where(alive, self.adc_gain[adcs], 0.0),
            offset=np.where(alive, self.adc_offset_lsb[adcs], 0.0),
            bow=np.where(alive, self.adc_inl_lsb[adcs] * BOW_PEAK, 0.0),
            noise=np.where(alive, self.preset.analog.adc_noise_lsb, 0.0),
        )
