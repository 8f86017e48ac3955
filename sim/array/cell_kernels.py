"""The laws of `sim.array.cell`, cell by cell, compiled; nothing of them is written down twice.

Noise is drawn where a cell moves, in the order in which rows, and in them columns, come. A
generator gives the same numbers here as in numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from firmware_bridge.microcode import CLOCK_HZ

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Law = tuple[float, ...]
_F = TypeVar("_F", bound=Callable[..., object])

# Where a number of the preset stands in `law`.
LAW = (
    *("gate_threshold_v", "gate_slope_siemens_per_v", "count_v", "form_time_s", "switch_time_s"),
    *("reset_top_siemens", "reset_slope_siemens_per_v", "floor_siemens"),
    *("cycle_spread", "cycle_floor_siemens", "set_cycle_spread_v", "reset_cycle_spread_v"),
    "wear_closure",
)
_THRESHOLD, _GATE, _COUNT, _FORM_TIME, _TAU, _TOP, _SLOPE, _FLOOR = range(8)
_SPREAD, _LEAST, _SET_CYCLE, _RESET_CYCLE, _CLOSURE = range(8, 13)
_HZ = float(CLOCK_HZ)


def compiled(function: _F) -> _F:
    """As `numba.njit`, with its types kept."""
    return cast(_F, njit(cache=True, error_model="numpy")(function))


@compiled
def through_gate(g: float, wl_v: float, threshold_v: float, slope: float, read_v: float) -> float:
    """Conductance of a cell at a gate voltage; see `Cells.gated`."""
    over = wl_v - threshold_v
    if over <= 0.0:
        return 0.0
    extra = 1.0 / (slope * over) - 1.0 / (slope * (read_v - threshold_v))
    return g / (1.0 + g * extra)


@compiled
def gated(
    g: Array, wl_v: Array, gate_offset_v: Array, law: Law, read_v: float, result: Array
) -> None:
    """`through_gate` of all cells."""
    for r in range(g.shape[0]):
        for c in range(g.shape[1]):
            own_v = law[_THRESHOLD] + gate_offset_v[r, c]
            result[r, c] = through_gate(g[r, c], wl_v[r], own_v, law[_GATE], read_v)


# What a pulse needs of the cells, in tuples of arrays (rows, cols):
# device: voltages of forming, of SET and of RESET, slope and offset of SET, offset of the gate;
# values: conductance, time of the last move, conductance of cells that are stuck (else infinite),
#     shifts of the voltages of SET and of RESET in this cycle;
# counts: pulses, moves, moves after which a cell fails;
# flags: formed, fails at the top of its window.
Device = tuple[Array, Array, Array, Array, Array, Array]
Values = tuple[Array, Array, Array, Array, Array]
ThreeCounts = tuple[Counts, Counts, Counts]
Flags = tuple[Mask, Mask]


@compiled
def _end_point(
    g: float,
    v: float,
    wl_v: float,
    width_s: float,
    formed: bool,
    law: Law,
    form_v: float,
    set_v: float,
    reset_v: float,
    slope: float,
    offset_v: float,
) -> float:
    """Where a cell would go if the pulse lasted for ever; where it is, if it does not move."""
    limit = max(slope * (wl_v - offset_v), 0.0)
    if not limit > g:
        return g
    if not formed:
        return limit if v >= form_v and width_s >= law[_FORM_TIME] else g
    if v >= set_v:
        return limit
    strength = -v - reset_v
    if strength < 0.0:
        return g
    return min(max(law[_TOP] - law[_SLOPE] * strength, law[_FLOOR]), g)


@compiled
def _pulse_row(
    rng: np.random.Generator,
    r: int,
    v: Array,
    gate_v: Array,
    width_s: float,
    now_s: float,
    law: Law,
    device: Device,
    values: Values,
    counts: ThreeCounts,
    flags: Flags,
) -> bool:
    """One pulse on a row of cells: count it, and move them. Whether any moved.

    Voltages across them and gate voltages as each of them sees its own: `v`, `gate_v`, (cols,).
    """
    form_v, set_v, reset_v, slope, offset_v, gate_offset_v = device
    g, born_s, stuck, set_shift_v, reset_shift_v = values
    pulses, moves, lifetime = counts
    formed, fails_high = flags
    fraction = -math.expm1(-width_s / law[_TAU])
    some = False
    for c in range(v.size):
        is_open = gate_v[c] > law[_THRESHOLD] + gate_offset_v[r, c]
        if not (abs(v[c]) >= law[_COUNT] and is_open):
            continue
        pulses[r, c] += 1
        here, was_formed = g[r, c], formed[r, c]
        set_now_v, reset_now_v = (
            set_v[r, c] + set_shift_v[r, c],
            reset_v[r, c] + reset_shift_v[r, c],
        )
        own = (form_v[r, c], set_now_v, reset_now_v, slope[r, c], offset_v[r, c])
        delta = _end_point(here, v[c], gate_v[c], width_s, was_formed, law, *own) - here
        if delta == 0.0:
            continue
        upwards = delta > 0.0
        if was_formed:  # forming goes all of the way
            worn = min(moves[r, c] / lifetime[r, c], 1.0)
            delta *= fraction * (1.0 - law[_CLOSURE] * worn)
        noise = math.hypot(law[_SPREAD] * delta, law[_LEAST]) * rng.standard_normal()
        if upwards and law[_RESET_CYCLE] > 0.0:
            reset_shift_v[r, c] = law[_RESET_CYCLE] * rng.standard_normal()
        elif not upwards and law[_SET_CYCLE] > 0.0:
            set_shift_v[r, c] = law[_SET_CYCLE] * rng.standard_normal()
        moves[r, c] += 1
        if moves[r, c] >= lifetime[r, c] and not np.isfinite(stuck[r, c]):
            stuck[r, c] = law[_TOP] if fails_high[r, c] else law[_FLOOR]
        moved = max(here + delta + noise, law[_FLOOR])
        g[r, c] = stuck[r, c] if np.isfinite(stuck[r, c]) else moved
        formed[r, c], born_s[r, c], some = True, now_s, True
    return some


@compiled
def pulse(
    rng: np.random.Generator,
    v: Array,
    wl_v: Array,
    width_s: float,
    now_s: float,
    law: Law,
    device: Device,
    values: Values,
    counts: ThreeCounts,
    flags: Flags,
) -> bool:
    """One pulse of given voltages across the cells (rows, cols). Whether any cell moved."""
    some, gate_v = False, np.empty(v.shape[1])
    for r in range(v.shape[0]):
        gate_v[:] = wl_v[r]
        some |= _pulse_row(rng, r, v[r], gate_v, width_s, now_s, law, device, values, counts, flags)
    return some


@compiled
def _count_gates(wl_v: float, bl_v: Array, source_v: float, sign: float, gate_v: Array) -> None:
    """Gate voltage of a row as its cells see it, (cols,), into `gate_v`.

    The transistor is an n-channel one: it opens by what its gate is above the lower of its cell's
    two lines. Where SL above BL SETs, that is min(V_BL, V_SL), V_SL at its source (sag left out).
    Where BL above SL SETs, SL is at ground in a SET, and RESETs count from ground as well.
    """
    for c in range(gate_v.size):
        gate_v[c] = wl_v if sign > 0.0 else wl_v - min(bl_v[c], source_v)


@compiled
def _source_line(
    r: int,
    bl_v: Array,
    source_v: float,
    gate_v: Array,
    lead_ohm: float,
    connected: Mask,
    read_v: float,
    law: Law,
    g: Array,
    gate_offset_v: Array,
) -> float:
    """Voltage of a source line that the current of its row pulls; nan where no gate is open."""
    total, carried, is_open = 0.0, 0.0, False
    for c in range(g.shape[1]):
        own_v = law[_THRESHOLD] + gate_offset_v[r, c]
        if gate_v[c] > own_v and connected[r, c]:
            is_open = True
            y = through_gate(g[r, c], gate_v[c], own_v, law[_GATE], read_v)
            total += y
            carried += y * bl_v[c]
    if not is_open:
        return np.nan
    return (source_v + lead_ohm * carried) / (1.0 + lead_ohm * total)


@compiled
def train(
    rng: np.random.Generator,
    lines: tuple[Array, Array, Array, Array],
    width_s: Array,
    end_cycles: Counts,
    turns: int,
    period_cycles: int,
    connected: Mask,
    read_v: float,
    sign: float,
    law: Law,
    device: Device,
    values: Values,
    counts: ThreeCounts,
    flags: Flags,
) -> bool:
    """Pulses one after another, all of them `turns` times. Whether any cell moved.

    Rows do not see each other, so each is done before the next; `sign` is of the voltage that
    SETs, as BL minus SL. The other arguments are those of `Cells.train`.
    """
    bl_v, source_v, wl_v, lead_ohm = lines
    lowest, v, gate_v = np.empty(wl_v.shape[1]), np.empty(bl_v.shape[1]), np.empty(bl_v.shape[1])
    for r in range(lowest.size):
        lowest[r] = law[_THRESHOLD] + device[5][r].min()
    some = False
    for turn in range(turns):
        for k in range(width_s.size):
            now_s = (end_cycles[k] + turn * period_cycles) / _HZ
            for r in range(lowest.size):
                if not wl_v[k, r] > lowest[r] or np.isnan(source_v[k, r]):
                    continue
                _count_gates(wl_v[k, r], bl_v[k], source_v[k, r], sign, gate_v)
                line = (bl_v[k], source_v[k, r], gate_v, lead_ohm[k, r])
                sl_v = _source_line(r, *line, connected, read_v, law, values[0], device[5])
                if np.isnan(sl_v):
                    continue
                for c in range(v.size):
                    v[c] = sign * (bl_v[k, c] - sl_v) if connected[r, c] else 0.0
                some |= _pulse_row(
                    *(rng, r, v, gate_v, width_s[k], now_s),
                    *(law, device, values, counts, flags),
                )
    return some


@compiled
def growth(
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


@compiled
def relax(
    g: Array,
    formed: Mask,
    stuck: Array,
    decades: Array,
    spent: Array,
    amplitude: Array,
    draws: npt.NDArray[np.float32],
    mean: float,
    floor: float,
) -> None:
    """Kicks of variance amplitude^2 `spent`, and a drift of `mean` a decade."""
    for r in range(g.shape[0]):
        for c in range(g.shape[1]):
            kick = math.sqrt(spent[r, c]) * amplitude[r, c] * draws[r, c]
            moved = max(g[r, c] + kick + decades[r, c] * mean, floor)
            moved = stuck[r, c] if np.isfinite(stuck[r, c]) else moved
            g[r, c] = moved if formed[r, c] else g[r, c]
