"""1T1R cells: forming, gate-limited SET, gradual RESET, relaxation.

The state of a cell is the small-signal conductance of its 1T1R stack with the gate fully on (the
read gate voltage of the board): what a lab calls the conductance of a cell.

Moves go to an end point G_end with the law Delta = (G_end - G)(1 - exp(-t / tau)), spread by the
cycle-to-cycle noise of the preset:

* SET (BL above SL): G_end = slope (V_WL - offset), only upwards;
* RESET (SL above BL): G_end = top - slope_r (V - V_reset), only downwards.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sim.presets import CellPreset

Array = npt.NDArray[np.float64]


class Cells:
    """All cells of an array; arrays have shape (rows, cols).

    Args:
        rows, cols: geometry.
        preset: parameters.
        rng: device-to-device draws are taken from it at construction, cycle-to-cycle ones later.
    """

    def __init__(self, rows: int, cols: int, preset: CellPreset, rng: np.random.Generator) -> None:
        p, shape = preset, (rows, cols)
        self._p, self._rng = preset, rng
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

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """Everything that a state file must hold."""
        arrays = {k: v for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        return {**arrays, "aged_s": np.float64(self.aged_s)}  # type: ignore[dict-item]

    def restore(self, state: dict[str, npt.NDArray[np.generic]]) -> None:
        """Take over a saved state.

        Raises:
            ValueError: an array is missing, of another shape or kind, or not finite.
        """
        mine = self.state()
        for key, like in mine.items():
            value = state.get(key)
            if value is None or value.shape != like.shape or value.dtype != like.dtype:
                raise ValueError(f"{key} is missing, or not {like.dtype} of shape {like.shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"{key} is not finite")
        for key in mine:
            setattr(self, key, float(state[key]) if key == "aged_s" else np.array(state[key]))
        self.version += 1

    def age(self, now_s: float) -> None:
        """Relax up to `now_s`: independent Gaussian increments in log time since the last pulse.

        Var[G(t) - G(0)] = A log10(1 + t / onset), so increments over any partition of time have
        the right joint law.
        """
        p = self._p
        if not (p.relax_siemens2_per_decade or p.relax_mean_siemens_per_decade):
            self.aged_s = now_s
            return
        if now_s <= self.aged_s or not self.formed.any():
            return
        since = np.log10(1 + np.maximum(self.aged_s - self.born_s, 0.0) / p.relax_onset_s)
        until = np.log10(1 + (now_s - self.born_s) / p.relax_onset_s)
        decades = np.where(self.formed, until - since, 0.0)
        kick = np.sqrt(decades) * self.relax_siemens * self._rng.standard_normal(self.g.shape)
        moved = self.g + kick + decades * p.relax_mean_siemens_per_decade
        self.g = np.where(self.formed, np.maximum(moved, p.floor_siemens), self.g)
        self.aged_s = now_s
        self.version += 1

    def pulse(self, v: Array, wl_v: Array, width_s: float, now_s: float) -> None:
        """One pulse on every cell at once.

        Args:
            v: BL minus SL voltage across each cell, (rows, cols); 0 where a line floats.
            wl_v: gate voltage of each row, (rows,).
            width_s: how long.
            now_s: board time at its end.
        """
        p = self._p
        open_gate = (wl_v > p.gate_threshold_v)[:, None]
        hit = open_gate & (np.abs(v) >= p.count_v)
        if not hit.any():
            return
        row, col = np.nonzero(hit)
        self.pulses[row, col] += 1
        v, gate = v[row, col], wl_v[row]
        limit = np.maximum(self.set_slope[row, col] * (gate - self.set_offset_v[row, col]), 0.0)
        g = self.g[row, col]
        end, forms = self._end_point(row, col, v, g, limit, width_s)
        moves = end != g
        if not moves.any():
            return
        row, col, g, end, forms = row[moves], col[moves], g[moves], end[moves], forms[moves]
        fraction = np.where(forms, 1.0, -np.expm1(-width_s / p.switch_time_s))
        delta = (end - g) * fraction
        noise = np.hypot(p.cycle_spread * delta, p.cycle_floor_siemens)
        moved = g + delta + noise * self._rng.standard_normal(g.shape)
        self.g[row, col] = np.maximum(moved, p.floor_siemens)
        self.formed[row, col] = True
        self.born_s[row, col] = now_s
        self.version += 1

    def _end_point(
        self,
        row: npt.NDArray[np.int64],
        col: npt.NDArray[np.int64],
        v: Array,
        g: Array,
        limit: Array,
        width_s: float,
    ) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Where each hit cell would go if the pulse lasted for ever, and which of them form."""
        p = self._p
        formed = self.formed[row, col]
        forms = ~formed & (v >= self.form_v[row, col]) & (limit > g) & (width_s >= p.form_time_s)
        sets = formed & (v >= self.set_v[row, col]) & (limit > g)
        strength = -v - self.reset_v[row, col]
        low = p.reset_top_siemens - p.reset_slope_siemens_per_v * strength
        low = np.maximum(low, p.floor_siemens)
        resets = formed & (strength >= 0) & (low < g) & (limit > g)
        end = np.where(sets | forms, limit, np.where(resets, low, g))
        return end, forms

    def read_sigma(self) -> Array:
        """Rms of independent readings of each cell, in siemens."""
        relative = self._p.read_noise * np.sqrt(50e-6 / np.maximum(self.g, 1e-6))
        sigma: Array = relative * self.g * self.formed
        return sigma

    def gated(self, wl_v: Array, wl_read_v: float) -> Array:
        """Small-signal conductance of every cell at gate voltages `wl_v` (rows,), in siemens.

        1 / G' = 1 / G + r(V_WL) - r(V_read) with r(V) = 1 / (k (V - V_th)); 0 below threshold.
        """
        p = self._p
        overdrive = wl_v - p.gate_threshold_v
        on = overdrive > 0
        r_on = 1 / (p.gate_slope_siemens_per_v * np.where(on, overdrive, 1.0))
        extra = r_on - 1 / (p.gate_slope_siemens_per_v * (wl_read_v - p.gate_threshold_v))
        return np.where(on[:, None], self.g / (1 + self.g * extra[:, None]), 0.0)
