"""What instructions do, and the rules that each of them has to keep."""

from __future__ import annotations

from typing import Any

import numpy as np

from firmware_bridge.microcode import (
    CYCLES_CHAIN_BIT,
    CYCLES_CHAIN_LATCH,
    CYCLES_CONVERT,
    CYCLES_SPI_READ,
    CYCLES_SPI_WRITE,
)
from rram_host.board.check.electrics import (
    awake,
    moved,
    note,
    past,
    register,
    rest_v,
    settled,
    static,
    stressed,
    write,
)
from rram_host.board.check.layout import (
    C_BUFFER_HIGH,
    C_HIGH,
    CONV,
    DAC,
    DAC0,
    DACT,
    DREAD,
    GAIN_5_V,
    LINES,
    MOVED,
    N_ADCS,
    N_CHIPS,
    N_FLOAT,
    N_GATE_CHIPS,
    N_GROUND,
    N_PULSE,
    N_PULSES,
    N_RESET,
    N_RESULTS,
    N_ROWS,
    N_SELECTS,
    N_SETTLE,
    N_SWITCH,
    N_WAITING,
    NO_LATCH,
    NOT_SETTLED,
    ON_ADDRESS,
    ON_BL,
    ON_CHANNEL,
    ON_CHIP,
    ON_ELEMENT,
    ON_INPUT,
    ON_NOTHING,
    ON_RESULT,
    ON_SL,
    ON_WL,
    P_BEHIND,
    P_GAIN,
    P_RESET,
    PTR,
    PULSE,
    PULSE_LIMIT,
    PULSES_LIMIT,
    R_CHAIN,
    R_IDLE,
    R_REGISTER,
    R_WAITING,
    RESET,
    RESULT,
    SELECT,
    SHORT,
    SWITCH,
    T_BOUNDED,
    T_CLOSED,
    T_COUNT,
    T_ENABLE,
    T_HIGH,
    T_LATCHED,
    T_LOW,
    T_NOW,
    T_OE,
    T_OPENED,
    T_POINTER,
    T_PULSES,
    T_RANGE,
    T_RESULTS,
    T_SHIFT,
    T_STOP,
    T_UPDATE,
    TABLE,
    TRIGGER,
    V_BL_SWING,
    V_WL_SWING,
    WAIT,
    Codes,
    Floats,
    Words,
    jit,
)


@jit
def dac(b: Any, s: Any, table: Codes, op: int, addr: int, mask: int, value: int) -> None:
    """DAC and DACT."""
    t, place, updated = s.t, s.t[T_POINTER] + value, False
    bl_swing, wl_swing = s.v[V_BL_SWING], s.v[V_WL_SWING]
    s.v[V_BL_SWING] = s.v[V_WL_SWING] = 0.0
    for chip in range(b.n[N_CHIPS]):
        if not mask >> chip & 1:
            continue
        awake(b, s, chip)
        low: Any = value
        high: Any = value
        if op == DACT:
            if place >= t[T_COUNT]:
                note(s, TABLE, ON_ELEMENT, place, 0, float(place), float(t[T_COUNT]))
                t[T_STOP] = 1
                return
            low, high = t[T_LOW], t[T_HIGH]
            if not t[T_BOUNDED]:
                low = high = np.int64(table[place])
            place += 1
        if addr >= DAC0:
            write(b, s, addr, chip, low, high)
        elif op == DACT:
            note(s, R_REGISTER, ON_ADDRESS, addr, chip, 0.0, 0.0)
        elif register(b, s, addr, chip, value):
            updated = True
    t[T_NOW] += CYCLES_SPI_WRITE
    if addr == TRIGGER and value == RESET:
        for chip in range(b.n[N_CHIPS]):
            if mask >> chip & 1:
                s.chip[P_RESET, chip] = t[T_NOW]
    if updated:
        passed = t[T_NOW] - t[T_UPDATE]
        moved(b, s, rest_v(b, bl_swing, passed), rest_v(b, wl_swing, passed))
    else:
        s.v[V_BL_SWING], s.v[V_WL_SWING] = bl_swing, wl_swing


@jit
def shift(b: Any, s: Any, words: Words, pc: int, bits: int) -> None:
    """SHIFT: the bit sent first ends at the far end of the chain."""
    t = s.t
    if t[T_ENABLE]:
        note(s, MOVED, ON_NOTHING, 0, 0, 0.0, 0.0)
    if bits != 2 * b.n[N_ROWS]:
        note(s, R_CHAIN, ON_NOTHING, 0, 0, float(bits), float(2 * b.n[N_ROWS]))
    else:
        for r in range(b.n[N_ROWS]):
            chosen = 0
            for k in range(2):
                sent = bits - 1 - (b.bit1[r] if k else b.bit0[r])
                chosen |= (np.int64(words[pc + 1 + sent // 32]) >> (31 - sent % 32) & 1) << k
            s.sl[r] = chosen
    t[T_LATCHED] = 1
    t[T_NOW] += CYCLES_CHAIN_BIT * bits + CYCLES_CHAIN_LATCH
    t[T_SHIFT] = t[T_NOW]


@jit
def lines(b: Any, s: Any, value: int) -> None:
    """LINES: switches, range, outputs of the chain."""
    t = s.t
    enable, tia_range, oe = value & 1, value >> 1 & 3, value >> 3 & 1
    if enable and not (t[T_LATCHED] and oe):
        note(s, NO_LATCH, ON_NOTHING, 0, 0, 0.0, 0.0)
    if enable:
        past(s, t[T_SHIFT], b.n[N_SWITCH], SWITCH)
    if oe and not t[T_OE]:
        t[T_SHIFT] = t[T_NOW]
    closes = enable and (not t[T_ENABLE] or tia_range != t[T_RANGE])
    if t[T_ENABLE] and not enable:
        t[T_OPENED] = t[T_NOW]
    t[T_ENABLE], t[T_OE], t[T_RANGE] = enable, oe, tia_range
    t[T_NOW] += 1
    if closes:
        t[T_CLOSED] = t[T_NOW]
    if enable:
        static(b, s)


@jit
def pulse(b: Any, s: Any, cells: Floats, cycles: int) -> None:
    """PULSE: what the device asks, then which cells see what."""
    t = s.t
    if not (t[T_LATCHED] and t[T_OE]):
        note(s, NO_LATCH, ON_NOTHING, 0, 0, 0.0, 0.0)
    past(s, t[T_UPDATE], b.n[N_SETTLE], NOT_SETTLED)
    past(s, t[T_SHIFT], b.n[N_SWITCH], SWITCH)
    if cycles < b.n[N_SWITCH]:
        note(s, SHORT, ON_NOTHING, 0, 0, cycles * 1e-8, b.n[N_SWITCH] * 1e-8)
    if cycles > b.n[N_PULSE]:
        note(s, PULSE_LIMIT, ON_NOTHING, 0, 0, cycles * 1e-8, b.n[N_PULSE] * 1e-8)
    settled(b, s)
    waited = t[T_NOW] - t[T_UPDATE]
    t[T_PULSES] += 1
    if t[T_PULSES] > b.n[N_PULSES]:
        note(s, PULSES_LIMIT, ON_NOTHING, 0, 0, float(t[T_PULSES]), float(b.n[N_PULSES]))
        t[T_STOP] = 1
    t[T_NOW] += 1 + cycles
    if stressed(b, s, cells, (t[T_NOW] - t[T_UPDATE]) * 1e-8) and waited > b.n[N_WAITING]:
        note(s, R_WAITING, ON_NOTHING, 0, 0, waited * 1e-8, b.n[N_WAITING] * 1e-8)
    t[T_ENABLE], t[T_OPENED] = 0, t[T_NOW]


@jit
def convert(b: Any, s: Any, select: int) -> None:
    """CONV."""
    t = s.t
    if select >= b.n[N_SELECTS]:
        note(s, SELECT, ON_INPUT, select, 0, float(select), float(b.n[N_SELECTS] - 1))
    past(s, t[T_UPDATE], b.read_cycles[t[T_RANGE]], NOT_SETTLED)
    if t[T_ENABLE]:
        past(s, t[T_CLOSED], b.closing_cycles[t[T_RANGE]], SWITCH)
    settled(b, s)
    results(b, s, b.n[N_ADCS])
    t[T_NOW] += CYCLES_CONVERT


@jit
def results(b: Any, s: Any, count: int) -> None:
    """Results must fit their memory."""
    s.t[T_RESULTS] += count
    if s.t[T_RESULTS] > b.n[N_RESULTS]:
        note(s, RESULT, ON_RESULT, s.t[T_RESULTS], 0, float(s.t[T_RESULTS]), float(b.n[N_RESULTS]))
        s.t[T_STOP] = 1


@jit
def read_back(b: Any, s: Any, mask: int) -> None:
    """DREAD."""
    for chip in range(b.n[N_CHIPS]):
        if mask >> chip & 1:
            awake(b, s, chip)
            results(b, s, 2)
    s.t[T_NOW] += CYCLES_SPI_READ


@jit
def idle(b: Any, s: Any) -> None:
    """What the next program may rely on."""
    t = s.t
    for r in range(b.n[N_ROWS] if t[T_ENABLE] else 0):
        if s.sl[r] != b.n[N_GROUND] and s.sl[r] != b.n[N_FLOAT]:
            note(s, R_IDLE, ON_SL, r, 0, 0.0, 0.0)
    if not (t[T_OE] and t[T_LATCHED]):
        note(s, R_IDLE, ON_NOTHING, 0, 0, 0.0, 0.0)
    if t[T_NOW] - t[T_SHIFT] < b.n[N_SWITCH]:
        note(s, R_IDLE, ON_NOTHING, 0, 0, 0.0, 0.0)
    for channel in range(8 * b.n[N_CHIPS]):
        held = max(s.codes[C_BUFFER_HIGH, channel], s.codes[C_HIGH, channel])
        if held:
            line = b.line[channel]
            on = ON_BL if line >= 0 else ON_WL if line < -1 else ON_CHANNEL
            which = line if line >= 0 else -2 - line if line < -1 else channel
            note(s, R_IDLE, on, which, 0, 0.0, 0.0)
    for chip in range(b.n[N_CHIPS]):
        gates = b.n[N_GATE_CHIPS] >> chip & 1
        if not s.chip[P_BEHIND, chip] or (gates and s.chip[P_GAIN, chip] != GAIN_5_V):
            note(s, R_IDLE, ON_CHIP, chip, 0, 0.0, 0.0)
        if t[T_NOW] - s.chip[P_RESET, chip] < b.n[N_RESET]:
            note(s, R_IDLE, ON_CHIP, chip, 0, 0.0, 0.0)


@jit
def step(b: Any, s: Any, cells: Floats, table: Codes, op: int, value: int) -> None:
    """One instruction that does not move the program counter."""
    if op in (DAC, DACT):
        dac(b, s, table, op, value >> 24, value >> 16 & 0xFF, value & 0xFFFF)
    elif op == DREAD:
        read_back(b, s, value >> 16 & 0xFF)
    elif op == LINES:
        lines(b, s, value)
    elif op == PULSE:
        pulse(b, s, cells, value)
    elif op == CONV:
        convert(b, s, value)
    else:
        if op == PTR:
            s.t[T_POINTER] = value
        s.t[T_NOW] += 1 + (value if op == WAIT else 0)
