"""1T1R cells: forming, gate-limited SET, gradual RESET, relaxation.

The state of a cell is the small-signal conductance of its 1T1R stack with the gate fully on (the
read gate voltage of the board): what a lab calls the conductance of a cell.

Moves go to an end point G_end with the law Delta = (G_end - G)(1 - exp(-t / tau)), spread by the
cycle-to-cycle noise of the preset:

* SET (BL above SL): G_end = slope (V_WL - offset), only upwards;
* RESET (SL above BL): G_end = top - slope_r (V - V_reset), only downwards.

Compiled loops over cells are at the end of the file; nothing of the law is written down twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from sim.presets import CellPreset

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
_F = TypeVar("_F", bound=Callable[..., object])

# Cells age in steps of this many decades, so that a program need not move all of them: what is
# pending is below 0.01 uS rms for taox_180nm, and independent increments lose nothing by waiting.
AGE_STEP_DECADES = 1e-3


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
        self.gate_offset_v = p.gate_threshold_spread_v * rng.standard_normal(shape)
        self.stuck_siemens = np.full(shape, np.inf)  # finite where a cell does not switch
        self._beneath_g: dict[tuple[int, int], float] = {}  # of stuck cells, before they were
        self._beneath_formed: dict[tuple[int, int], bool] = {}

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """Everything that a state file must hold."""
        arrays = {k: v for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        del arrays["stuck_siemens"]  # a defect is the URL's; what lies beneath is the chip's
        for key, beneath in (("g", self._beneath_g), ("formed", self._beneath_formed)):
            arrays[key] = arrays[key].copy()
            for cell, value in beneath.items():
                arrays[key][cell] = value
        return {**arrays, "aged_s": np.float64(self.aged_s)}  # type: ignore[dict-item]

    def restore(self, state: dict[str, npt.NDArray[np.generic]]) -> None:
        """Take over a saved state, checked by the caller against `state()`."""
        mine = self.state()
        for key in mine:
            setattr(self, key, float(state[key]) if key == "aged_s" else np.array(state[key]))
        self.version += 1

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
        grown = np.empty_like(self.g)
        onset = p.relax_onset_s
        step = _growth(self.born_s, self.formed, onset, self.aged_s, now_s, grown)
        if not step or (step < 10**AGE_STEP_DECADES and not exactly):
            return
        decades = np.log10(grown, out=grown)
        draws = self._rng.standard_normal(self.g.shape, dtype=np.float32)
        mean, floor = p.relax_mean_siemens_per_decade, p.floor_siemens
        _relax(
            self.g, self.formed, self.stuck_siemens, decades, self.relax_siemens, draws, mean, floor
        )
        self.aged_s = now_s
        self.version += 1

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
            v: BL minus SL voltage across each cell, (rows, cols); 0 where a line floats.
            wl_v: gate voltage of each row, (rows,).
            width_s: how long.
            now_s: board time at its end.
        """
        self._pulse(np.array(v, dtype=float), np.array(wl_v, dtype=float), width_s, now_s)

    def pulse_lines(
        self,
        bl_v: Array,
        source_v: Array,
        wl_v: Array,
        lead_ohm: Array,
        connected: Mask,
        wl_read_v: float,
        width_s: float,
        now_s: float,
    ) -> None:
        """One pulse from the lines' voltages, without the wires between the cells.

        A source line is pulled from its source by the current of its row:
        V_SL = (V_src / R + sum_c g V_BL) / (1 / R + sum_c g).

        Args:
            bl_v: bit lines, (cols,).
            source_v: sources of the source lines, (rows,); nan where open.
            wl_v: gates, (rows,).
            lead_ohm: R, between each source line and its source, (rows,).
            connected: cells that hang on their lines, (rows, cols).
            wl_read_v: gate voltage at which conductances are meant.
            width_s: how long.
            now_s: board time at its end.
        """
        p, v = self._p, np.empty_like(self.g)
        gate = (self.gate_offset_v, p.gate_threshold_v, p.gate_slope_siemens_per_v, wl_read_v)
        if _across(self.g, bl_v, source_v, wl_v, lead_ohm, connected, *gate, v):
            self._pulse(v, wl_v, width_s, now_s)

    def _pulse(self, v: Array, wl_v: Array, width_s: float, now_s: float) -> None:
        p = self._p
        end, forms = np.empty(self.g.size), np.empty(self.g.size, dtype=np.bool_)
        at = np.empty(self.g.size, dtype=np.int64)
        moves = _end_points(
            *(v, wl_v, width_s, self.g, self.formed, self.pulses),
            *(self.form_v, self.set_v, self.reset_v, self.set_slope, self.set_offset_v),
            *(self.gate_offset_v, p.gate_threshold_v, p.count_v, p.form_time_s),
            *(p.reset_top_siemens, p.reset_slope_siemens_per_v, p.floor_siemens),
            *(at, end, forms),
        )
        if not moves:
            return
        draws = self._rng.standard_normal(moves)
        fraction = -math.expm1(-width_s / p.switch_time_s)
        _land(
            *(at[:moves], end, forms, draws, fraction, now_s),
            *(p.cycle_spread, p.cycle_floor_siemens, p.floor_siemens),
            *(self.g, self.formed, self.born_s, self.stuck_siemens),
        )
        self.version += 1

    def read_sigma(self) -> Array:
        """Rms of independent readings of each cell, in siemens."""
        relative = self._p.read_noise * np.sqrt(50e-6 / np.maximum(self.g, 1e-6))
        sigma: Array = relative * self.g * self.formed
        return sigma

    def gated(self, wl_v: Array, wl_read_v: float) -> Array:
        """Small-signal conductance of every cell at gate voltages `wl_v` (rows,), in siemens.

        1 / G' = 1 / G + r(V_WL) - r(V_read) with r(V) = 1 / (k (V - V_th)); 0 below threshold.
        """
        p, result = self._p, np.empty_like(self.g)
        gates = np.asarray(wl_v, dtype=np.float64)
        slope = p.gate_slope_siemens_per_v
        _gated(self.g, gates, self.gate_offset_v, p.gate_threshold_v, slope, wl_read_v, result)
        return result


# ---- compiled: the laws themselves, cell by cell -------------------------------------------------


def _compiled(function: _F) -> _F:
    return cast(_F, njit(cache=True, error_model="numpy")(function))


@_compiled
def _through_gate(g: float, wl_v: float, threshold_v: float, slope: float, read_v: float) -> float:
    """Conductance of a cell at a gate voltage; see `Cells.gated`."""
    over = wl_v - threshold_v
    if over <= 0.0:
        return 0.0
    extra = 1.0 / (slope * over) - 1.0 / (slope * (read_v - threshold_v))
    return g / (1.0 + g * extra)


@_compiled
def _gated(
    g: Array,
    wl_v: Array,
    gate_offset_v: Array,
    threshold_v: float,
    slope: float,
    read_v: float,
    result: Array,
) -> None:
    for r in range(g.shape[0]):
        for c in range(g.shape[1]):
            own_v = threshold_v + gate_offset_v[r, c]
            result[r, c] = _through_gate(g[r, c], wl_v[r], own_v, slope, read_v)


@_compiled
def _across(
    g: Array,
    bl_v: Array,
    source_v: Array,
    wl_v: Array,
    lead_ohm: Array,
    connected: Mask,
    gate_offset_v: Array,
    threshold_v: float,
    slope: float,
    read_v: float,
    v: Array,
) -> bool:
    """Voltage across every cell, 0 on rows that no gate opens or no source holds; whether any."""
    some = False
    for r in range(g.shape[0]):
        v[r] = 0.0
        if np.isnan(source_v[r]):
            continue
        total, carried, is_open = 0.0, 0.0, False
        for c in range(g.shape[1]):
            own_v = threshold_v + gate_offset_v[r, c]
            if wl_v[r] > own_v and connected[r, c]:
                is_open = True
                y = _through_gate(g[r, c], wl_v[r], own_v, slope, read_v)
                total += y
                carried += y * bl_v[c]
        if not is_open:
            continue
        some = True
        sl_v = (source_v[r] + lead_ohm[r] * carried) / (1.0 + lead_ohm[r] * total)
        for c in range(g.shape[1]):
            if connected[r, c]:
                v[r, c] = bl_v[c] - sl_v
    return some


@_compiled
def _end_points(
    v: Array,
    wl_v: Array,
    width_s: float,
    g: Array,
    formed: Mask,
    pulses: Counts,
    form_v: Array,
    set_v: Array,
    reset_v: Array,
    set_slope: Array,
    set_offset_v: Array,
    gate_offset_v: Array,
    threshold_v: float,
    count_v: float,
    form_time_s: float,
    reset_top: float,
    reset_slope: float,
    floor: float,
    at: Counts,
    end: Array,
    forms: Mask,
) -> int:
    """Count a pulse, and find where cells would go if it lasted for ever.

    Fills `at`, `end` and `forms`: which cells move (counted along rows), where to, and whether
    they form. Returns how many.
    """
    cols, n = g.shape[1], 0
    for r in range(g.shape[0]):
        for c in range(cols):
            if not (wl_v[r] > threshold_v + gate_offset_v[r, c] and abs(v[r, c]) >= count_v):
                continue
            pulses[r, c] += 1
            here, volts = g[r, c], v[r, c]
            limit = max(set_slope[r, c] * (wl_v[r] - set_offset_v[r, c]), 0.0)
            strength = -volts - reset_v[r, c]
            low = max(reset_top - reset_slope * strength, floor)
            if not limit > here:
                continue
            sets = formed[r, c] and volts >= set_v[r, c]
            if sets or (not formed[r, c] and volts >= form_v[r, c] and width_s >= form_time_s):
                to = limit
            elif formed[r, c] and strength >= 0.0 and low < here:
                to = low
            else:
                continue
            at[n], end[n], forms[n] = r * cols + c, to, not formed[r, c]
            n += 1
    return n


@_compiled
def _land(
    at: Counts,
    end: Array,
    forms: Mask,
    draws: Array,
    fraction: float,
    now_s: float,
    cycle_spread: float,
    cycle_floor: float,
    floor: float,
    g: Array,
    formed: Mask,
    born_s: Array,
    stuck: Array,
) -> None:
    """Move cells by `fraction` of the way to their end points, forming ones all of it."""
    cols = g.shape[1]
    for k in range(at.size):
        r, c = at[k] // cols, at[k] % cols
        delta = (end[k] - g[r, c]) * (1.0 if forms[k] else fraction)
        noise = math.hypot(cycle_spread * delta, cycle_floor)
        moved = max(g[r, c] + delta + noise * draws[k], floor)
        g[r, c] = stuck[r, c] if np.isfinite(stuck[r, c]) else moved
        formed[r, c] = True
        born_s[r, c] = now_s


@_compiled
def _growth(
    born_s: Array, formed: Mask, onset_s: float, aged_s: float, now_s: float, grown: Array
) -> float:
    """By what factor the time since its last pulse has grown for each cell, onset included.

    1 for cells that are not formed. Returns the largest factor of all, 0 where no cell is formed.
    """
    most = 0.0
    for r in range(born_s.shape[0]):
        for c in range(born_s.shape[1]):
            until = onset_s + now_s - born_s[r, c]
            since = max(onset_s + aged_s - born_s[r, c], onset_s)
            grown[r, c] = until / since if formed[r, c] else 1.0
            most = max(most, grown[r, c] if formed[r, c] else 0.0)
    return most


@_compiled
def _relax(
    g: Array,
    formed: Mask,
    stuck: Array,
    decades: Array,
    amplitude: Array,
    draws: npt.NDArray[np.float32],
    mean: float,
    floor: float,
) -> None:
    for r in range(g.shape[0]):
        for c in range(g.shape[1]):
            kick = math.sqrt(decades[r, c]) * amplitude[r, c] * draws[r, c]
            moved = max(g[r, c] + kick + decades[r, c] * mean, floor)
            moved = stuck[r, c] if np.isfinite(stuck[r, c]) else moved
            g[r, c] = moved if formed[r, c] else g[r, c]
