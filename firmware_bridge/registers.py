"""The register map of the board: the one source of it.

The programmable logic shows the host one window of 32-bit words (2 MiB at 0x43C0_0000 on the
ZC706, out of the 19.2 Mb of block RAM of the XC7Z045). The window is larger than a bare register
file needs because the input table and the results are flat memories: 4096 input vectors of 32
DAC codes are one write and their products one read, with no page register to get out of step.
All addresses here are byte offsets into the window.

While a program runs, CTRL, WATCHDOG, KICK and SCRATCH take writes. A START, or a write to anything
else that can be written, is not taken then: it stops the program with Fault.BUSY, because a program
whose words, table or limits change under it does nothing that anyone has checked. While the safe
program runs every write is taken, and a START waits for its end. gateware/README.md has the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_BASE = 0x43C0_0000
WINDOW_BYTES = 0x20_0000
IDENTITY = 0x5252_414D  # "RRAM"
VERSION = 0x0001_0000


@dataclass(frozen=True)
class Field:
    """A named group of bits of a register, `high` and `low` inclusive."""

    name: str
    high: int
    low: int
    doc: str

    @property
    def mask(self) -> int:
        """Bit mask of the field inside its register."""
        return ((1 << (self.high - self.low + 1)) - 1) << self.low


@dataclass(frozen=True)
class Register:
    """One 32-bit register: byte offset, access (ro, rw, wo), reset value, meaning."""

    name: str
    offset: int
    access: str
    reset: int
    doc: str
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True)
class Memory:
    """A memory inside the window: byte offset and length in 32-bit words."""

    name: str
    offset: int
    words: int
    access: str
    doc: str

    @property
    def end(self) -> int:
        """First byte offset behind the memory."""
        return self.offset + 4 * self.words


CTRL_START, CTRL_SAFE, CTRL_CLEAR_FAULT, CTRL_RESET = 1, 2, 4, 8
STATUS_BUSY, STATUS_DONE, STATUS_FAULT, STATUS_LIVE = 1, 2, 4, 8

WATCHDOG_RESET_CYCLES = 200_000_000  # 2 s

N_LIMITS = 64
LIMITS_OFFSET = 0x100

REGISTERS: tuple[Register, ...] = (
    Register("IDENT", 0x000, "ro", IDENTITY, "identity word, ASCII RRAM"),
    Register("CONTRACT_HASH", 0x004, "ro", 0, "hash of register map and instruction set"),
    Register("VERSION", 0x008, "ro", VERSION, "gateware version, major << 16 | minor"),
    Register("GEOMETRY", 0x00C, "ro", 0, "rows << 16 | columns of the array"),
    Register("CONVERTERS", 0x010, "ro", 0, "DAC chips << 16 | ADCs"),
    Register(
        "CTRL",
        0x014,
        "wo",
        0,
        "commands, self-clearing",
        (
            Field("START", 0, 0, "run the program at ENTRY; nothing while a fault is latched"),
            Field("SAFE", 1, 1, "stop, then run the program at SAFE_ENTRY"),
            Field("CLEAR_FAULT", 2, 2, "clear the fault latch"),
            Field("RESET", 3, 3, "stop and clear registers; the rails go to power-up state"),
        ),
    ),
    Register(
        "STATUS",
        0x018,
        "ro",
        0,
        "state of the sequencer",
        (
            Field("BUSY", 0, 0, "a program is running"),
            Field("DONE", 1, 1, "the last program reached its END"),
            Field("FAULT", 2, 2, "the last program was stopped by a fault"),
            Field(
                "LIVE",
                3,
                3,
                "a program runs, a DAC output is above zero, or switches are on that the safe "
                "program has not left on",
            ),
        ),
    ),
    Register("FAULT_CODE", 0x01C, "ro", 0, "which rule was broken, see microcode.Fault"),
    Register("FAULT_PC", 0x020, "ro", 0, "word index of the instruction that broke it"),
    Register(
        "FAULT_INFO", 0x024, "ro", 0, "channel, line or address it was about; cycles, for timing"
    ),
    Register("RESULT_COUNT", 0x028, "ro", 0, "16-bit results written by the last program"),
    Register("ENTRY", 0x02C, "rw", 0, "word index in PROGRAM where START begins"),
    Register("SAFE_ENTRY", 0x030, "rw", 0, "word index of the safe program"),
    Register("TABLE_COUNT", 0x034, "rw", 0, "16-bit codes of TABLE that a program may use"),
    Register("CYCLES_LO", 0x038, "ro", 0, "board clock since power-up, low word"),
    Register("CYCLES_HI", 0x03C, "ro", 0, "board clock since power-up, high word"),
    Register("RUN_CYCLES_LO", 0x040, "ro", 0, "cycles of the last program, low word"),
    Register("RUN_CYCLES_HI", 0x044, "ro", 0, "cycles of the last program, high word"),
    Register("PULSE_COUNT", 0x048, "ro", 0, "PULSE instructions executed since power-up"),
    Register("LAST_MARK", 0x04C, "ro", 0, "argument of the last MARK executed"),
    Register("SCRATCH", 0x050, "rw", 0, "for link tests; no effect"),
    Register("FAULT_TIME", 0x054, "ro", 0, "cycles into the program at the fault"),
    Register(
        "WATCHDOG",
        0x058,
        "rw",
        WATCHDOG_RESET_CYCLES,
        "cycles of 10 ns without a write to the window, while LIVE, after which the program is "
        "stopped and the safe program runs; 0 = off",
    ),
    Register(
        "PULSE_LIMIT",
        0x05C,
        "rw",
        0,
        "longest PULSE, in cycles of its value; 0 after reset: locked",
    ),
    Register(
        "PULSES_LIMIT",
        0x060,
        "rw",
        0,
        "PULSE instructions that one program may execute; 0 after reset: locked",
    ),
    Register("KICK", 0x064, "wo", 0, "no effect but that of every write: restarts the watchdog"),
    Register("WATCHDOG_TRIPS", 0x068, "ro", 0, "how often the watchdog has tripped since power-up"),
) + tuple(
    Register(
        f"LIMIT{index:02d}",
        LIMITS_OFFSET + 4 * index,
        "rw",
        0,
        f"highest output of DAC channel {index}, in 5 V / 65536; 0 after reset: locked",
    )
    for index in range(N_LIMITS)
)

PROGRAM = Memory("PROGRAM", 0x01_0000, 0x4000, "rw", "micro-program words")
TABLE = Memory(
    "TABLE", 0x08_0000, 0x2_0000, "rw", "input codes, two 16-bit codes a word, low first"
)
RESULTS = Memory(
    "RESULTS", 0x10_0000, 0x2_0000, "ro", "results, two 16-bit words a word, low first"
)
MEMORIES: tuple[Memory, ...] = (PROGRAM, TABLE, RESULTS)

BY_NAME: dict[str, Register] = {register.name: register for register in REGISTERS}


def offset(name: str) -> int:
    """Byte offset of a register by name.

    >>> hex(offset("STATUS"))
    '0x18'
    """
    return BY_NAME[name].offset


def describe() -> list[tuple[str, ...]]:
    """The map as plain rows, in address order: what the contract hash is taken of."""
    rows: list[tuple[str, ...]] = [
        (r.name, hex(r.offset), r.access, hex(r.reset), r.doc) for r in REGISTERS
    ]
    rows += [(f"{r.name}.{f.name}", str(f.high), str(f.low)) for r in REGISTERS for f in r.fields]
    rows += [(m.name, hex(m.offset), str(m.words), m.access) for m in MEMORIES]
    return rows
