"""The numbers of a walk: where everything lies in its records, and how it is compiled."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from firmware_bridge import microcode
from firmware_bridge.chips import dac80508
from firmware_bridge.microcode import MAX_CHAIN_BITS, MAX_LOOP_DEPTH, Fault, Op
from rram_host.board.check import rules

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint16]
Words = npt.NDArray[np.uint32]
F = TypeVar("F", bound=Callable[..., Any])


class Decorator(Protocol):
    """Leaves the type of what it decorates."""

    def __call__(self, function: F, /) -> F:
        """The function, perhaps compiled."""
        ...


def _plainly(function: F, /) -> F:
    """Leave it to Python."""
    return function


jit: Decorator = _plainly
entry: Decorator = _plainly
compiled = False
try:
    import numba

    njit: Any = numba.njit
    config: Any = numba.config
    entry = njit(cache=True, error_model="numpy", nogil=True)
    # without the wrappers that only Python needs, which take a second in all to compile
    jit = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    compiled = not config.DISABLE_JIT
except ImportError:
    pass

# Records, because compiled code takes one as a pointer; as long as the largest board's lines.
LINES_MOST = 64

# What the walk knows of a board; `limits.board_of` makes it. n, f: counts and cycles, volts,
# siemens and joules, by N_... and F_...; limit_v: highest output of every DAC channel;
# line: what hangs on a channel, BL c as c, WL r as -2 - r, nothing as -1; bl, wl: channels of
# lines; bit0, bit1: positions of select bits; level_v: of the switch inputs, nan where open;
# read_cycles, closing_cycles: from an update, or from closing, to a conversion, by range.
BOARD = np.dtype(
    [
        ("n", np.int64, (21,)),
        ("f", np.float64, (9,)),
        ("limit_v", np.float64, (LINES_MOST,)),
        *((name, np.int64, (LINES_MOST,)) for name in ("line", "bl", "wl", "bit0", "bit1")),
        ("level_v", np.float64, (4,)),
        ("read_cycles", np.int64, (4,)),
        ("closing_cycles", np.int64, (4,)),
    ]
)

(N_ROWS, N_COLS, N_CHIPS, N_ADCS, N_SELECTS, N_TIA, N_GROUND, N_FLOAT, N_SIGN, N_SWITCH) = range(10)
(N_SETTLE, N_UPDATE, N_RESET, N_RESULTS, N_PULSE, N_PULSES, N_PULSES_CELL, N_TOTAL) = range(10, 18)
(N_WAITING, N_GATE_CHIPS, N_STEPS) = range(18, 21)
(F_READ, F_HALF, F_PROBE, F_WEAK, F_G_MAX, F_ENERGY, F_SLEW, F_TAU, F_ERROR) = range(9)


# The board of numbers while a program is walked. t: times in cycles, flags and counters, by T_...;
# v: volts, by V_...; codes: lowest and highest before and behind the latch, by C_...; chip: GAIN
# (-1 unknown), behind LDAC, time of the last reset, by P_...; sl: switch inputs.
_PARTS = [
    ("t", np.int64, (22,)),
    ("v", np.float64, (5,)),
    ("codes", np.int64, (4, LINES_MOST)),
    ("chip", np.int64, (3, 8)),
    ("sl", np.int64, (LINES_MOST,)),
]
PARTS = np.dtype(_PARTS)
# The same, and what is told at the end. found: rule, word, subject, two numbers, value, limit,
# cycle; peaks of lines; of cells, as many as there are: see `Cells`.
STATE = np.dtype(
    [
        *_PARTS,
        ("kept", PARTS, (4,)),
        ("found", np.float64, (64, 8)),
        *((n, np.float64, (LINES_MOST,)) for n in ("per_code_v", "bl_low_v", "bl_v", "wl_v")),
        *((n, np.float64, (LINES_MOST,)) for n in ("bl_peak_v", "wl_peak_v")),
    ]
)

(T_NOW, T_UPDATE, T_SHIFT, T_CLOSED, T_POINTER, T_RESULTS, T_PULSES, T_PC) = range(8)
(T_ENABLE, T_OE, T_RANGE, T_LATCHED, T_FOUND, T_MORE, T_STOP, T_STEPS) = range(8, 16)
(T_BOUNDED, T_LOW, T_HIGH, T_COUNT, T_STAMP, T_OPENED) = range(16, 22)
SIZE_T, SIZE_V = 22, 5
(V_BL_SWING, V_WL_SWING, V_BL_MIN, V_BL_MAX, V_WL_MAX) = range(5)
C_BUFFER_LOW, C_BUFFER_HIGH, C_LOW, C_HIGH = range(4)
K_PULSES, K_ENERGY_J, K_PEAK_V = range(3)  # what is told of cells, (3, rows, cols)
P_GAIN, P_BEHIND, P_RESET = range(3)

# The device's rules and operations, and the chips' registers, as plain numbers.
BAD, LIMIT, SOON = int(Fault.BAD_INSTRUCTION), int(Fault.LIMIT), int(Fault.DAC_UPDATE_TOO_SOON)
NOT_SETTLED, TABLE = int(Fault.NOT_SETTLED), int(Fault.TABLE_OVERRUN)
RESULT, SELECT = int(Fault.RESULT_OVERRUN), int(Fault.BAD_SELECT)
OVERRUN, NO_LATCH = int(Fault.PROGRAM_OVERRUN), int(Fault.ENABLE_WITHOUT_LATCH)
IN_RESET, MOVED = int(Fault.DAC_IN_RESET), int(Fault.SWITCH_ADDRESS_MOVED)
SWITCH, SHORT = int(Fault.SWITCH_TOO_SOON), int(Fault.PULSE_TOO_SHORT)
PULSE_LIMIT, PULSES_LIMIT = int(Fault.PULSE_LIMIT), int(Fault.PULSES_LIMIT)
SYNC, GAIN, TRIGGER, DAC0 = dac80508.SYNC, dac80508.GAIN, dac80508.TRIGGER, dac80508.DAC0
SYNC_ALL, LDAC, RESET = dac80508.SYNC_ALL, dac80508.TRIGGER_LDAC, dac80508.TRIGGER_SOFT_RESET
GAIN_5_V = dac80508.GAIN_0_TO_5_V
END, DAC, DACT, DREAD, SHIFT, LINES, WAIT, PULSE, CONV, LOOP, NEXT, PTR, MARK = map(int, Op)
DEPTH, MAX_BITS = MAX_LOOP_DEPTH, MAX_CHAIN_BITS
QUANTUM_V = 1e-4  # swings are rounded up to it, so that loops come to rest
R_REGISTER, R_UNLATCHED, R_MOVED = rules.REGISTER, rules.UNLATCHED, rules.RANGE_MOVED
R_UNKNOWN, R_CHAIN, R_READ = rules.RANGE_UNKNOWN, rules.CHAIN_LENGTH, rules.READ_VOLTAGE
R_FIGHT, R_HALF, R_GATES, R_SLEW = rules.FIGHT, rules.HALF_SELECT, rules.GATES_FIRST, rules.SLEW
R_IDLE, R_CELL_PULSES, R_ENERGY = rules.NOT_IDLE, rules.CELL_PULSES, rules.CELL_ENERGY
R_LONG, R_WAITING, R_STEPS = rules.TOO_LONG, rules.LINES_WAITING, rules.TOO_MANY_STEPS
ON_NOTHING, ON_BL, ON_WL, ON_SL, ON_CELL, ON_CHIP = range(6)
ON_CHANNEL, ON_ELEMENT, ON_INPUT, ON_RESULT, ON_ADDRESS = range(6, 11)


def unpacked(record: Any) -> Any:
    """What the walk takes for a record: itself, or, uncompiled, its arrays, ten times as fast."""
    if compiled:
        return record
    parts = {name: getattr(record, name) for name in record.dtype.names}
    if "kept" in parts:
        parts["kept"] = [unpacked(one) for one in parts["kept"]]
    return SimpleNamespace(**parts)


def _stamp() -> int:
    """Changes with everything that is compiled into the walk.

    Constants of other files are frozen into compiled code, and numba looks for changes in one file
    only before it takes a walk that is kept on disk.
    """
    here = Path(__file__).parent
    files = [here / name for name in ("layout.py", "electrics.py", "instructions.py", "rules.py")]
    files += [Path(str(module.__file__)) for module in (microcode, dac80508)]
    return zlib.crc32(b"".join(file.read_bytes() for file in files))


STAMP = _stamp()
