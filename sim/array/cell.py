"""1T1R cells: forming, gate-limited SET, gradual RESET, relaxation, wear.

The state of a cell is the small-signal conductance of its 1T1R stack with the gate fully on (the
read gate voltage of the board): what a lab calls the conductance of a cell. Voltages across a
cell are told so that a positive one SETs: BL minus SL, or SL minus BL where the top electrodes
hang on the source lines.

Moves go to an end point G_end with the law Delta = (G_end - G)(1 - exp(-t / tau)), spread by the
cycle-to-cycle noise of the preset:

* SET (V above V_set): G_end = slope (V_GS - offset), only upwards;
* RESET (-V above V_reset): G_end = top - slope_r (-V - V_reset), only downwards.

V_GS, which also opens the gate, is V_WL less the lower of the cell's two lines: 0 V where BL is
above SL to SET (SL at ground), min(V_BL, V_SL) where SL is. RESET counts V_WL from ground.

V_set and V_reset are those of the cell plus a shift of this cycle: every RESET draws the shift of
the SET that follows, every SET that of the RESET that follows. So a staircase meets one voltage,
and the voltages of many cycles have the spread of the preset.

A cell fails after a number of moves of its own, and then holds one conductance for good. Until
then its moves shrink, by `wear_closure` at the end of its life.

The laws themselves are compiled, in `sim.array.cell_kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.array import cell_kernels as kernels
from sim.presets import CellPreset

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

# Cells age in steps of this many decades, so that a program need not move all of them: what is
# pending is below 0.01 uS rms for taox_180nm, and independent increments lose nothing by waiting.
AGE_STEP_DECADES = 1e-3
_LEAST_GROWTH = 10**AGE_STEP_DECADES
_NEVER = np.iinfo(np.int64).max
_OF_A_TRAIN = ("bl_v", "source_v", "wl_v", "lead_ohm", "width_s", "end_cycles")


@dataclass(frozen=True)
class Train:
    """Pulses one after another, as the lines carry them.

    Attributes:
        bl_v: bit lines, (n, cols).
        source_v: sources of the source lines, nan where open, (n, rows).
        wl_v: gates, (n, rows).
        lead_ohm: between each source line and its source, (n, rows).
        width_s: durations, (n,).
        end_cycles: board clock at their ends, (n,).
    """

    bl_v: Array
    source_v: Array
    wl_v: Array
    lead_ohm: Array
    width_s: Array
    end_cycles: Counts

    @staticmethod
    def joined(trains: Sequence[Train]) -> Train:
        """Trains, one behind the other."""
        return Train(*(np.concatenate([getattr(t, n) for t in trains]) for n in _OF_A_TRAIN))


class Cells:
    """All cells of an array; arrays have shape (rows, cols).

    Args:
        rows, cols: geometry.
        preset: parameters.
        rng: device-to-device draws are taken from it at construction, cycle-to-cycle ones later.
        bl_sets: whether BL above SL SETs; False where the top electrodes hang on the source lines.
    """

    def __init__(
        self,
        rows: int,
        cols: int,
        preset: CellPreset,
        rng: np.random.Generator,
        bl_sets: bool = True,
    ) -> None:
        p, shape = preset, (rows, cols)
        self._p, self._rng, self._sign = preset, rng, 1.0 if bl_sets else -1.0
        self._law = tuple(getattr(p, name) for name in kernels.LAW)
        self.count_v = p.count_v
        self.g = np.full(shape, p.pristine_siemens)
        self.formed = np.zeros(shape, dtype=bool)
        self.pulses = np.zeros(shape, dtype=np.int64)
        self.born_s = np.zeros(shape)
        self.aged_s = 0.0
        self.version = 0
        self.form_v = p.form_v + p.form_spread_v * rng.standard_normal(shape)
        self.set_v = p.set_v + p.set_spread_v * rng.standard_normal(shape)
        self.reset_v = p.reset_v + p.reset_spread_v * rng.standard_normal(shape)
        spread = np.maximum(0.2, 1 + p.set_slope_spread * rng.standard_normal(shape))
        self.set_slope = p.set_slope_siemens_per_v * spread
        self.set_offset_v = p.set_offset_v + p.set_offset_spread_v * rng.standard_normal(shape)
        amplitude = np.exp(p.relax_spread * rng.standard_normal(shape) - p.relax_spread**2)
        self.relax_siemens = np.sqrt(p.relax_siemens2_per_decade) * amplitude
        self.gate_offset_v = p.gate_threshold_spread_v * rng.standard_normal(shape)
        self.stuck_siemens = np.full(shape, np.inf)  # finite where a cell does not switch
        self.moves = np.zeros(shape, dtype=np.int64)
        # a stream of its own: what a seed gives above is what it gave without wear
        own = rng.spawn(1)[0]
        self.set_shift_v = p.set_cycle_spread_v * own.standard_normal(shape)
        self.reset_shift_v = p.reset_cycle_spread_v * own.standard_normal(shape)
        self.lifetime = np.full(shape, _NEVER)
        lives = np.exp(p.wear_spread * own.standard_normal(shape))
        if p.wear_pulses:
            self.lifetime[:] = np.ceil(np.minimum(p.wear_pulses * lives, 1e18))
        self.fails_high = own.random(shape) < p.wear_high_share
        self._beneath_g: dict[tuple[int, int], float] = {}  # of stuck cells, before they were
        self._beneath_formed: dict[tuple[int, int], bool] = {}

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """Everything that a state file must hold."""
        arrays = {k: v for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        # a defect is the URL's; what lies beneath is the chip's, and which cells have worn out
        # follows from their moves
        del arrays["stuck_siemens"]
        for key, beneath in (("g", self._beneath_g), ("formed", self._beneath_formed)):
            arrays[key] = arrays[key].copy()
            for cell, value in beneath.items():
                arrays[key][cell] = value
        return {**arrays, "aged_s": np.float64(self.aged_s)}  # type: ignore[dict-item]

    def restore(self, state: dict[str, npt.NDArray[np.generic]]) -> None:
        """Take over a saved state, checked by the caller against `state()`."""
        for key in self.state():
            setattr(self, key, float(state[key]) if key == "aged_s" else np.array(state[key]))
        defects = {cell: self.stuck_siemens[cell] for cell in self._beneath_g}
        ends = np.where(self.fails_high, self._p.reset_top_siemens, self._p.floor_siemens)
        self.stuck_siemens = np.where(self.worn, ends, np.inf)
        for cell, siemens in defects.items():
            self.stuck_siemens[cell] = siemens
        for row, col in self._beneath_g:  # defects of this board stay on top
            self._beneath_g[row, col] = float(self.g[row, col])
            self._beneath_formed[row, col] = bool(self.formed[row, col])
            self.formed[row, col] = True
        self._changed()

    def age(self, now_s: float, exactly: bool = False) -> None:
        """Relax up to `now_s`: independent Gaussian increments in log time since the last pulse.

        Var[G(t) - G(0)] = A log10(1 + t / onset), so increments over any partition of time have
        the right joint law; steps below `AGE_STEP_DECADES` wait, unless asked for `exactly`.
        """
        p = self._p
        if not (p.relax_siemens2_per_decade or p.relax_mean_siemens_per_decade):
            self.aged_s = now_s
            return
        if now_s <= self.aged_s:
            return
        onset = p.relax_onset_s
        since = onset + max(self.aged_s - float(self.born_s.max()), 0.0)
        most = 1.0 + (now_s - self.aged_s) / since  # of the youngest cell, formed or not
        if most < _LEAST_GROWTH and not exactly:
            return
        grown = np.empty_like(self.g)
        step = kernels.growth(self.born_s, self.formed, onset, self.aged_s, now_s, grown)
        if not step or (step < _LEAST_GROWTH and not exactly):
            return
        decades = np.log10(grown, out=grown)
        spent = self._spent(decades)
        draws = self._rng.standard_normal(self.g.shape, dtype=np.float32)
        mean, floor = p.relax_mean_siemens_per_decade, p.floor_siemens
        kernels.relax(
            *(self.g, self.formed, self.stuck_siemens, decades, spent, self.relax_siemens),
            *(draws, mean, floor),
        )
        self.aged_s = now_s
        self.version += 1

    def _spent(self, decades: Array) -> Array:
        """Decades of variance in a step of so many decades: as many on average, (rows, cols).

        With `relax_jump_share` j and `relax_jump_decades` k it is (1 - j) d + j k Gamma(d / k):
        a part of the variance comes in rare jumps (variance-gamma process). Gamma variates of
        adjoining steps add up to one of both, so the law is that of any partition of time.
        """
        p = self._p
        if not p.relax_jump_share:
            return decades
        jumps = self._rng.standard_gamma(decades / p.relax_jump_decades) * p.relax_jump_decades
        return (1 - p.relax_jump_share) * decades + p.relax_jump_share * jumps

    @property
    def worn(self) -> Mask:
        """Cells that have failed, (rows, cols)."""
        result: Mask = self.moves >= self.lifetime
        return result

    def _changed(self) -> None:
        self.g = np.where(np.isinf(self.stuck_siemens), self.g, self.stuck_siemens)
        self.version += 1

    def stick(self, row: int, col: int, g_siemens: float) -> None:
        """Let a cell hold one conductance from now on, whatever happens to it."""
        self._beneath_g.setdefault((row, col), float(self.g[row, col]))
        self._beneath_formed.setdefault((row, col), bool(self.formed[row, col]))
        self.stuck_siemens[row, col] = g_siemens
        self.formed[row, col] = True
        self._changed()

    def pulse(self, v: Array, wl_v: Array, width_s: float, now_s: float) -> None:
        """One pulse on every cell at once.

        Args:
            v: voltage across each cell, positive where it SETs, (rows, cols); 0 where a line
                floats.
            wl_v: gate voltage of each row above the lower lines of its cells, (rows,).
            width_s: how long.
            now_s: board time at its end.
        """
        volts, gates = np.array(v, dtype=float), np.array(wl_v, dtype=float)
        self.version += kernels.pulse(self._rng, volts, gates, width_s, now_s, *self._cells())

    def train(
        self,
        train: Train,
        connected: Mask,
        wl_read_v: float,
        turns: int = 1,
        period_cycles: int = 0,
    ) -> None:
        """Pulses from the lines' voltages, without the wires between the cells.

        A source line is pulled from its source by the current of its row:
        V_SL = (V_src / R + sum_c g V_BL) / (1 / R + sum_c g).

        Args:
            train: the pulses.
            connected: cells that hang on their lines, (rows, cols).
            wl_read_v: gate voltage at which conductances are meant.
            turns: how often the whole train is given.
            period_cycles: from turn to turn.
        """
        lines = (train.bl_v, train.source_v, train.wl_v, train.lead_ohm)
        times = (train.width_s, train.end_cycles, turns, period_cycles)
        board = (connected, wl_read_v, self._sign)
        self.version += kernels.train(self._rng, lines, *times, *board, *self._cells())

    def _cells(self) -> tuple[Any, ...]:
        """What the kernels of pulses take of the cells."""
        return (
            self._law,
            (
                *(self.form_v, self.set_v, self.reset_v),
                *(self.set_slope, self.set_offset_v, self.gate_offset_v),
            ),
            (self.g, self.born_s, self.stuck_siemens, self.set_shift_v, self.reset_shift_v),
            (self.pulses, self.moves, self.lifetime),
            (self.formed, self.fails_high),
        )

    def read_sigma(self) -> Array:
        """Rms of independent readings of each cell, in siemens."""
        relative = self._p.read_noise * np.sqrt(50e-6 / np.maximum(self.g, 1e-6))
        sigma: Array = relative * self.g * self.formed
        return sigma

    def gated(self, wl_v: Array, wl_read_v: float) -> Array:
        """Small-signal conductance of every cell at gate voltages `wl_v` (rows,), in siemens.

        1 / G' = 1 / G + r(V_WL) - r(V_read) with r(V) = 1 / (k (V - V_th)); 0 below threshold.
        """
        result = np.empty_like(self.g)
        gates = np.asarray(wl_v, dtype=np.float64)
        kernels.gated(self.g, gates, self.gate_offset_v, self._law, wl_read_v, result)
        return result
