"""What instructions do to the lines, and what lines and pulses do to the cells."""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np

from rram_host.board.check.layout import (
    C_BUFFER_HIGH,
    C_BUFFER_LOW,
    C_HIGH,
    C_LOW,
    DAC0,
    F_ENERGY,
    F_ERROR,
    F_G_MAX,
    F_HALF,
    F_PROBE,
    F_READ,
    F_SLEW,
    F_TAU,
    F_WEAK,
    GAIN,
    GAIN_5_V,
    IN_RESET,
    K_ENERGY_J,
    K_PEAK_V,
    K_PULSES,
    LDAC,
    LIMIT,
    N_COLS,
    N_FLOAT,
    N_GATE_CHIPS,
    N_PULSES_CELL,
    N_RESET,
    N_ROWS,
    N_SIGN,
    N_TIA,
    N_UPDATE,
    N_WAITING,
    ON_ADDRESS,
    ON_BL,
    ON_CELL,
    ON_CHANNEL,
    ON_CHIP,
    ON_NOTHING,
    ON_WL,
    P_BEHIND,
    P_GAIN,
    P_RESET,
    QUANTUM_V,
    R_CELL_PULSES,
    R_ENERGY,
    R_FIGHT,
    R_GATES,
    R_HALF,
    R_MOVED,
    R_READ,
    R_REGISTER,
    R_SLEW,
    R_UNKNOWN,
    R_UNLATCHED,
    R_WAITING,
    RESET,
    SOON,
    SYNC,
    SYNC_ALL,
    T_ENABLE,
    T_FOUND,
    T_MORE,
    T_NOW,
    T_OPENED,
    T_PC,
    T_UPDATE,
    TRIGGER,
    V_BL_MAX,
    V_BL_MIN,
    V_BL_SWING,
    V_WL_MAX,
    V_WL_SWING,
    Floats,
    jit,
)


@jit
def note(s: Any, rule: int, on: int, a: int, b: int, value: float, limit: float) -> None:
    """Keep a violation, once a rule and word."""
    t, found = s.t, s.found
    for k in range(t[T_FOUND]):
        if found[k, 0] == rule and found[k, 1] == t[T_PC]:
            return
    if t[T_FOUND] == found.shape[0]:
        t[T_MORE] += 1
        return
    row = found[t[T_FOUND]]
    row[0], row[1], row[2], row[3], row[4] = rule, t[T_PC], on, a, b
    row[5], row[6], row[7] = value, limit, t[T_NOW]
    t[T_FOUND] += 1


@jit
def past(s: Any, moment: int, cycles: int, rule: int) -> None:
    """At least so many cycles have passed since then."""
    passed = s.t[T_NOW] - moment
    if passed < cycles:
        note(s, rule, ON_NOTHING, 0, 0, passed * 1e-8, cycles * 1e-8)


@jit
def awake(b: Any, s: Any, chip: int) -> None:
    """A chip takes no frame so soon after a soft reset."""
    passed = s.t[T_NOW] - s.chip[P_RESET, chip]
    if passed < b.n[N_RESET]:
        note(s, IN_RESET, ON_CHIP, chip, 0, passed * 1e-8, b.n[N_RESET] * 1e-8)


@jit
def full_scale_v(gain: int, output: int) -> float:
    """Of an output under a GAIN word; the widest where it is unknown."""
    word = GAIN_5_V if gain < 0 else gain
    return (1.25 if word & 256 else 2.5) * (2.0 if word >> output & 1 else 1.0)


@jit
def ranged(s: Any, chip: int) -> None:
    """Volts a code of a chip's outputs, after its range has changed."""
    for output in range(8):
        full_v = full_scale_v(s.chip[P_GAIN, chip], output)
        s.per_code_v[8 * chip + output] = full_v / 65536.0


@jit
def volts(s: Any, channel: int, code: int) -> float:
    """Output of a channel for a code."""
    at_v: float = code * s.per_code_v[channel]
    return at_v


@jit
def check_code(b: Any, s: Any, channel: int, code: int) -> None:
    """A code must not put its output above its limit register."""
    at_v = code * s.per_code_v[channel]
    if at_v > b.limit_v[channel]:
        line = b.line[channel]
        on = ON_BL if line >= 0 else ON_WL if line < -1 else ON_CHANNEL
        which = line if line >= 0 else -2 - line if line < -1 else channel
        note(s, LIMIT, on, which, 0, at_v, b.limit_v[channel])


@jit
def rest_v(b: Any, swing_v: float, cycles: int) -> float:
    """What is left of a step after so many cycles: a ramp, then an exponential (dac80508)."""
    slew: float = b.f[F_SLEW]
    tau: float = b.f[F_TAU]
    passed = cycles * 1e-8
    ramp = max(swing_v / slew - tau, 0.0)
    if passed < ramp:
        return swing_v - slew * passed
    return (swing_v - slew * ramp) * exp(-(passed - ramp) / tau)


@jit
def settled(b: Any, s: Any) -> None:
    """Every output has come within the converter's own error of where it goes."""
    passed = s.t[T_NOW] - s.t[T_UPDATE]
    full = 65536.0 * s.per_code_v[b.bl[0]]
    for swing, top, on in ((V_BL_SWING, full, ON_BL), (V_WL_SWING, 5.0, ON_WL)):
        left = rest_v(b, s.v[swing], passed)
        if left > b.f[F_ERROR] * top:
            note(s, R_SLEW, on, 0, 0, left, b.f[F_ERROR] * top)


# ---- lines --------------------------------------------------------------------------------------


@jit
def write(b: Any, s: Any, addr: int, chip: int, low: int, high: int) -> None:
    """A DAC register of one chip."""
    channel = 8 * chip + addr - DAC0
    check_code(b, s, channel, high)
    s.codes[C_BUFFER_LOW, channel], s.codes[C_BUFFER_HIGH, channel] = low, high
    if not s.chip[P_BEHIND, chip]:
        note(s, R_UNLATCHED, ON_CHIP, chip, 0, 0.0, 0.0)


@jit
def register(b: Any, s: Any, addr: int, chip: int, data: int) -> bool:
    """Another register of one chip; whether outputs may have moved."""
    if addr == SYNC and data == SYNC_ALL:
        s.chip[P_BEHIND, chip] = 1
        return False
    if addr == GAIN and (
        data == 0x00FF
        or (not b.n[N_GATE_CHIPS] >> chip & 1 and data & ~0x01FF == 0 and data & 0xFF in (0, 0xFF))
    ):
        for channel in range(8 * chip, 8 * chip + 8):
            if s.codes[C_BUFFER_HIGH, channel] or s.codes[C_HIGH, channel]:
                note(s, R_MOVED, ON_CHIP, chip, 0, 0.0, 0.0)
        s.chip[P_GAIN, chip] = data
        ranged(s, chip)
        for channel in range(8 * chip, 8 * chip + 8):
            check_code(
                b, s, channel, max(s.codes[C_BUFFER_HIGH, channel], s.codes[C_HIGH, channel])
            )
        return True
    if addr == TRIGGER and data == RESET:
        for channel in range(8 * chip, 8 * chip + 8):
            swing(b, s, channel, 0, 0)
            for k in range(4):
                s.codes[k, channel] = 0
        s.chip[P_GAIN, chip], s.chip[P_BEHIND, chip] = 0, 0
        ranged(s, chip)
        return True
    if addr == TRIGGER and data == LDAC:
        latch(b, s, chip)
        return True
    note(s, R_REGISTER, ON_ADDRESS, addr, chip, float(data), 0.0)
    return False


@jit
def latch(b: Any, s: Any, chip: int) -> None:
    """Outputs of a chip take what was written to them."""
    for channel in range(8 * chip, 8 * chip + 8):
        low, high = s.codes[C_BUFFER_LOW, channel], s.codes[C_BUFFER_HIGH, channel]
        if high and s.chip[P_GAIN, chip] < 0:
            note(s, R_UNKNOWN, ON_CHIP, chip, 0, 0.0, 0.0)
        if high != s.codes[C_HIGH, channel] or low != s.codes[C_LOW, channel] or low != high:
            check_code(b, s, channel, high)
            swing(b, s, channel, low, high)
            s.codes[C_LOW, channel], s.codes[C_HIGH, channel] = low, high


@jit
def swing(b: Any, s: Any, channel: int, low: int, high: int) -> None:
    """Remember how far an output moves."""
    up = volts(s, channel, high - s.codes[C_LOW, channel])
    down = volts(s, channel, s.codes[C_HIGH, channel] - low)
    k = V_WL_SWING if b.line[channel] < -1 else V_BL_SWING
    s.v[k] = max(s.v[k], up, down)


@jit
def moved(b: Any, s: Any, bl_rest_v: float, wl_rest_v: float) -> None:
    """Outputs have been updated: times, extremes, and what follows from them."""
    t, v = s.t, s.v
    past(s, t[T_UPDATE], b.n[N_UPDATE], SOON)
    v[V_BL_SWING] = np.ceil((v[V_BL_SWING] + bl_rest_v) / QUANTUM_V) * QUANTUM_V
    v[V_WL_SWING] = np.ceil((v[V_WL_SWING] + wl_rest_v) / QUANTUM_V) * QUANTUM_V
    stood = t[T_NOW] - max(t[T_UPDATE], t[T_OPENED])
    # an open source line follows the other bit lines of its row
    carried = not t[T_ENABLE] and v[V_WL_MAX] > 0 and v[V_BL_MAX] - v[V_BL_MIN] > b.f[F_HALF]
    if carried and stood > b.n[N_WAITING]:
        note(s, R_WAITING, ON_NOTHING, 0, 0, stood * 1e-8, b.n[N_WAITING] * 1e-8)
    t[T_UPDATE] = t[T_NOW]
    gates, was_v = v[V_WL_MAX] > 0, v[V_BL_MAX]
    extremes(b, s)
    if gates and was_v > 0 and v[V_BL_MAX] == 0 and not t[T_ENABLE]:
        note(s, R_GATES, ON_NOTHING, 0, 0, was_v, 0.0)
    if t[T_ENABLE]:
        static(b, s)


@jit
def extremes(b: Any, s: Any) -> None:
    """Voltages of all lines, the lowest and highest, and the peaks of each."""
    low, high, gate = 5.0, 0.0, 0.0
    for c in range(b.n[N_COLS]):
        s.bl_low_v[c] = volts(s, b.bl[c], s.codes[C_LOW, b.bl[c]])
        s.bl_v[c] = volts(s, b.bl[c], s.codes[C_HIGH, b.bl[c]])
        low, high = min(low, s.bl_low_v[c]), max(high, s.bl_v[c])
        s.bl_peak_v[c] = max(s.bl_peak_v[c], s.bl_v[c])
    for r in range(b.n[N_ROWS]):
        s.wl_v[r] = volts(s, b.wl[r], s.codes[C_HIGH, b.wl[r]])
        gate = max(gate, s.wl_v[r])
        s.wl_peak_v[r] = max(s.wl_peak_v[r], s.wl_v[r])
    s.v[V_BL_MIN], s.v[V_BL_MAX], s.v[V_WL_MAX] = low, high, gate


@jit
def furthest(b: Any, s: Any, level_v: float) -> int:
    """The column whose bit line is furthest from a level."""
    worst, column = -1.0, 0
    for c in range(b.n[N_COLS]):
        away = max(level_v - s.bl_low_v[c], s.bl_v[c] - level_v)
        if away > worst:
            worst, column = away, c
    return column


@jit
def static(b: Any, s: Any) -> None:
    """With the switches closed outside a pulse, no open cell sees more than a read puts on it."""
    low, high = s.v[V_BL_MIN], s.v[V_BL_MAX]
    for r in range(b.n[N_ROWS]):
        gate = s.wl_v[r]
        if gate <= 0 or s.sl[r] == b.n[N_FLOAT]:
            continue
        level = b.level_v[s.sl[r]]
        away, reads = max(level - low, high - level), s.sl[r] == b.n[N_TIA]
        limit = b.f[F_READ] if reads else b.f[F_HALF]
        if gate - min(level, low) <= b.f[F_WEAK]:
            limit = b.f[F_PROBE]
        if away > limit:
            rule = R_READ if reads else R_FIGHT
            note(s, rule, ON_CELL, r, furthest(b, s, level), away, limit)


# ---- cells ---------------------------------------------------------------------------------------


@jit
def stressed(b: Any, s: Any, cells: Floats, carried_s: float) -> bool:
    """What every cell with an open gate sees in a pulse; whether it is for any."""
    one, column, set_row, reset_row = False, -1, -1, -1
    for r in range(b.n[N_ROWS]):
        if s.wl_v[r] <= 0:
            continue
        chosen = s.sl[r]
        if chosen == b.n[N_FLOAT]:
            spread = s.v[V_BL_MAX] - s.v[V_BL_MIN]
            if spread > b.f[F_HALF]:
                note(s, R_HALF, ON_CELL, r, furthest(b, s, s.v[V_BL_MIN]), spread, b.f[F_HALF])
            continue
        level = b.level_v[chosen]
        limit = b.f[F_READ] if chosen == b.n[N_TIA] else b.f[F_HALF]
        for c in range(b.n[N_COLS]):
            across = s.bl_v[c] - level
            seen = abs(across)
            cells[K_PEAK_V, r, c] = max(cells[K_PEAK_V, r, c], seen)
            if seen <= limit:
                continue
            if chosen == b.n[N_TIA]:
                note(s, R_READ, ON_CELL, r, c, seen, limit)
            one = True
            if across * b.n[N_SIGN] > 0:
                stray = (column >= 0 and column != c) or reset_row >= 0
                column, set_row = (c if column < 0 else column), r
            else:
                stray = (reset_row >= 0 and reset_row != r) or set_row >= 0
                reset_row = r if reset_row < 0 else reset_row
            if stray:
                note(s, R_HALF, ON_CELL, r, c, seen, b.f[F_HALF])
            dose(b, s, cells, r, c, seen * seen * b.f[F_G_MAX] * carried_s)
    return one


@jit
def dose(b: Any, s: Any, cells: Floats, r: int, c: int, energy_j: float) -> None:
    """Count one pulse on one cell."""
    cells[K_PULSES, r, c] += 1
    cells[K_ENERGY_J, r, c] += energy_j
    if cells[K_PULSES, r, c] > b.n[N_PULSES_CELL]:
        note(s, R_CELL_PULSES, ON_CELL, r, c, cells[K_PULSES, r, c], float(b.n[N_PULSES_CELL]))
    if cells[K_ENERGY_J, r, c] > b.f[F_ENERGY]:
        note(s, R_ENERGY, ON_CELL, r, c, cells[K_ENERGY_J, r, c], b.f[F_ENERGY])
