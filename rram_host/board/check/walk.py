"""The walk over a program: every instruction in its order, on a board of numbers.

Nothing here decides what a program does next, so all of it is known before it runs. Codes are
intervals: of one code each where the table is known, or the range of the whole table where a
program is judged for every table within it (`Bounds`). Loops are walked until a turn leaves the
board as it found it; the turns behind that are counted and not walked, but for the last.

Compiled by numba where it is installed; plain Python otherwise, which is slower by far.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rram_host.board.check.electrics import (
    note,
    ranged,
)
from rram_host.board.check.instructions import (
    idle,
    shift,
    step,
)
from rram_host.board.check.layout import (
    BAD,
    CONV,
    DACT,
    DEPTH,
    DREAD,
    END,
    K_ENERGY_J,
    K_PULSES,
    LINES,
    LINES_MOST,
    LOOP,
    MARK,
    MAX_BITS,
    N_CHIPS,
    N_COLS,
    N_RESET,
    N_ROWS,
    N_STEPS,
    N_TOTAL,
    NEXT,
    ON_NOTHING,
    OVERRUN,
    P_BEHIND,
    P_GAIN,
    P_RESET,
    R_LONG,
    R_STEPS,
    SHIFT,
    SIZE_T,
    SIZE_V,
    STAMP,
    T_BOUNDED,
    T_CLOSED,
    T_ENABLE,
    T_FOUND,
    T_LATCHED,
    T_NOW,
    T_OE,
    T_OPENED,
    T_PC,
    T_POINTER,
    T_PULSES,
    T_RANGE,
    T_RESULTS,
    T_SHIFT,
    T_STAMP,
    T_STEPS,
    T_STOP,
    T_UPDATE,
    Codes,
    Floats,
    Ints,
    Words,
    entry,
    jit,
)


@jit
def broken(op: int, value: int) -> bool:
    """Whether the fields of a word are not what its operation has."""
    if op == END:
        return value != 0
    if op == DREAD:
        return value & 0xFFFF != 0
    if op == SHIFT:
        return value < 1 or value > MAX_BITS
    if op == LINES:
        return value > 0xF
    if op == CONV:
        return value > 0x1F
    if op == NEXT:
        return value > 0xFFFF
    return op > MARK or (op == LOOP and value < 1)


@jit
def scan(s: Any, words: Words, ends: Ints, tables: Ints) -> bool:
    """Look for words that are no instructions; fill NEXT of every LOOP, and DACTs inside."""
    pc, depth, opened = 0, 0, np.zeros(DEPTH + 1, np.int64)
    while pc < words.size:
        s.t[T_PC] = pc
        word: Any = np.int64(words[pc])
        op, value = word >> 28, word & 0xFFF_FFFF
        if broken(op, value) or (op == END and depth) or (op == LOOP and depth == DEPTH):
            break
        if op == END:
            return True
        if op == LOOP:
            opened[depth] = pc
            depth += 1
        elif op == NEXT:
            if depth == 0:
                break
            depth -= 1
            ends[opened[depth]] = pc
        elif op == DACT:
            for k in range(depth):
                tables[opened[k]] = 1
        pc += 1 + ((value + 31) // 32 if op == SHIFT else 0)
    note(s, OVERRUN if pc >= words.size else BAD, ON_NOTHING, 0, 0, 0.0, 0.0)
    return False


@jit
def age(b: Any, now: int, moment: int) -> Any:
    """Cycles since a moment, as far as any rule asks."""
    return min(now - moment, b.n[N_RESET])


@jit
def keep(s: Any, k: int, cells: Floats, kept_cells: Floats) -> None:
    """Keep what the board looks like at the end of a turn."""
    old = s.kept[k]
    for i in range(SIZE_T):
        old.t[i] = s.t[i]
    for i in range(SIZE_V):
        old.v[i] = s.v[i]
    for i in range(LINES_MOST):
        old.sl[i] = s.sl[i]
        for j in range(4):
            old.codes[j, i] = s.codes[j, i]
    for i in range(8):
        for j in range(3):
            old.chip[j, i] = s.chip[j, i]
    for r in range(cells.shape[1]):
        for c in range(cells.shape[2]):
            kept_cells[k, K_PULSES, r, c] = cells[K_PULSES, r, c]
            kept_cells[k, K_ENERGY_J, r, c] = cells[K_ENERGY_J, r, c]


@jit
def same(b: Any, s: Any, k: int) -> bool:
    """Whether a turn has left the board as it found it, so that the next will, too."""
    t, old = s.t, s.kept[k]
    for flag in (T_ENABLE, T_OE, T_RANGE, T_LATCHED, T_FOUND):
        if t[flag] != old.t[flag]:
            return False
    for moment in (T_UPDATE, T_SHIFT, T_CLOSED, T_OPENED):
        if age(b, t[T_NOW], t[moment]) != age(b, old.t[T_NOW], old.t[moment]):
            return False
    for chip in range(b.n[N_CHIPS]):
        then = age(b, old.t[T_NOW], old.chip[P_RESET, chip])
        if age(b, t[T_NOW], s.chip[P_RESET, chip]) != then:
            return False
        if s.chip[P_GAIN, chip] != old.chip[P_GAIN, chip]:
            return False
        if s.chip[P_BEHIND, chip] != old.chip[P_BEHIND, chip]:
            return False
    return same_lines(b, s, old)


@jit
def same_lines(b: Any, s: Any, old: Any) -> bool:
    """Whether switches and DACs hold the same."""
    for r in range(b.n[N_ROWS]):
        if s.sl[r] != old.sl[r]:
            return False
    for k in range(SIZE_V):
        if s.v[k] != old.v[k]:
            return False
    for k in range(4):
        for channel in range(8 * b.n[N_CHIPS]):
            if s.codes[k, channel] != old.codes[k, channel]:
                return False
    return True


@jit
def leap(b: Any, s: Any, cells: Floats, kept_cells: Floats, k: int, turns: int) -> None:
    """Count so many more turns like the last one."""
    t, old = s.t, s.kept[k].t
    cycles = t[T_NOW] - old[T_NOW]
    if float(cycles) * turns + t[T_NOW] > b.n[N_TOTAL]:
        total_s = 1e-8 * (float(cycles) * turns + t[T_NOW])
        note(s, R_LONG, ON_NOTHING, 0, 0, total_s, b.n[N_TOTAL] * 1e-8)
        t[T_STOP] = 1
        return
    for moment in (T_UPDATE, T_SHIFT, T_CLOSED, T_OPENED):
        if age(b, t[T_NOW], t[moment]) < b.n[N_RESET]:
            t[moment] += cycles * turns
    for chip in range(b.n[N_CHIPS]):
        if age(b, t[T_NOW], s.chip[P_RESET, chip]) < b.n[N_RESET]:
            s.chip[P_RESET, chip] += cycles * turns
    pulses = t[T_PULSES] - old[T_PULSES]
    for counter in (T_POINTER, T_RESULTS, T_PULSES):
        t[counter] += (t[counter] - old[counter]) * turns
    t[T_NOW] += cycles * turns
    if pulses:
        for r in range(b.n[N_ROWS]):
            for c in range(b.n[N_COLS]):
                for what in (K_PULSES, K_ENERGY_J):
                    cells[what, r, c] += (cells[what, r, c] - kept_cells[k, what, r, c]) * turns


def _walk_of(stamp: int) -> Callable[..., None]:
    """The walk, compiled anew for each stamp."""

    @entry
    def walk(b: Any, s: Any, cells: Floats, first: Ints, words: Words, table: Codes) -> None:
        """Walk the whole program, up to its END or to what leaves nothing to be walked."""
        t = s.t
        t[T_STAMP] = stamp
        for chip in range(b.n[N_CHIPS]):
            ranged(s, chip)
        ends, tables = np.zeros(words.size, np.int64), np.zeros(words.size, np.int64)
        begins, left = np.zeros(DEPTH, np.int64), np.zeros(DEPTH, np.int64)
        seen = np.zeros(DEPTH, np.int64)
        kept_cells = np.zeros((DEPTH, cells.shape[0], cells.shape[1], cells.shape[2]))
        if not scan(s, words, ends, tables):
            return
        pc = depth = 0
        while not t[T_STOP]:
            word: Any = np.int64(words[pc])
            op, value = word >> 28, word & 0xFFF_FFFF
            t[T_PC] = pc
            t[T_STEPS] += 1
            if t[T_STEPS] > b.n[N_STEPS]:
                note(s, R_STEPS, ON_NOTHING, 0, 0, float(t[T_STEPS]), float(b.n[N_STEPS]))
                return
            if first[pc] < 0:
                first[pc] = t[T_NOW]
            if op == LOOP:
                t[T_NOW] += 1
                begins[depth], left[depth], seen[depth] = pc, value, 0
                depth += 1
            elif op == NEXT:
                t[T_NOW] += 1
                t[T_POINTER] += value
                k = depth - 1
                left[k] -= 1
                if left[k] >= 2:
                    uses = tables[begins[k]] and not t[T_BOUNDED]
                    stays = seen[k] > 0 and t[T_POINTER] == s.kept[k].t[T_POINTER]
                    s.kept[k].t[T_POINTER] = t[T_POINTER]
                    if uses and not stays:
                        seen[k] = 1  # other codes each turn: nothing can repeat
                    elif seen[k] == 2 and same(b, s, k):
                        leap(b, s, cells, kept_cells, k, left[k] - 1)
                        left[k] = 1
                    else:
                        keep(s, k, cells, kept_cells)
                        seen[k] = 2
                if left[k]:
                    pc = begins[k]
                else:
                    depth -= 1
            elif op == END:
                t[T_NOW] += 1
                idle(b, s)
                return
            elif op == SHIFT:
                shift(b, s, words, pc, value)
                pc += (value + 31) // 32
            else:
                step(b, s, cells, table, op, value)
            if t[T_NOW] > b.n[N_TOTAL]:
                note(s, R_LONG, ON_NOTHING, 0, 0, t[T_NOW] * 1e-8, b.n[N_TOTAL] * 1e-8)
                return
            pc += 1

    return walk


walk = _walk_of(STAMP)
