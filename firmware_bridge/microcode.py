"""The sequencer's instruction set: encode, decode, disassemble, and the cycle cost of everything.

A program is a list of 32-bit words, operation in bits [31:28]. It is straight-line code with
counted loops and no data-dependent branch, so its duration is known before it runs. The sequencer
knows chips and lines, not rows and columns: what hangs on which channel is the host's `BoardSpec`.

Words of DAC80508 registers travel literally: `DAC` sends the 24-bit frame `0 000 addr data` to
every chip of `mask` at once (one SPI master a chip, common clock).

=====  ==========================================  ====================================
op     fields                                      effect
=====  ==========================================  ====================================
END    -                                           stop, done
DAC    addr[27:24] mask[23:16] data[15:0]          write a DAC80508 register
DACT   addr[27:24] mask[23:16] offset[15:0]        same, k-th chip of mask takes table
                                                   element pointer + offset + k
DREAD  addr[27:24] mask[23:16]                     two-frame readback; two results a chip:
                                                   echo byte, data
SHIFT  bits[15:0], then ceil(bits / 32) words      shift the 74HC595 chain, then latch it
LINES  enable[0] range[2:1] oe[3]                  direct lines: switches on, TIA range,
                                                   595 outputs on
WAIT   cycles[27:0]                                do nothing
PULSE  cycles[27:0]                                switches on for so long, then off
CONV   select[4:0]                                 every ADC converts input `select`;
                                                   one result an ADC
LOOP   count[27:0]                                 repeat up to the matching NEXT
NEXT   stride[15:0]                                table pointer += stride; close the loop
PTR    element[27:0]                               set the table pointer
MARK   id[27:0]                                    remember id (faults show it)
=====  ==========================================  ====================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from firmware_bridge.errors import InputError

WordsLike: TypeAlias = "Sequence[int] | npt.NDArray[np.uint32]"

CLOCK_HZ = 100_000_000
MAX_LOOP_DEPTH = 4
MAX_CHAIN_BITS = 1024

# Cycle costs, in cycles of 10 ns. SPI write: 24 bits at 50 MHz (DAC80508 maximum) and CS high
# for 20 ns (minimum 15). Read: two frames at 16.7 MHz (maximum 18 at 3.3 V). 595 chain: 20 MHz
# (maximum 25 at 4.5 V) and a latch pulse. ADC: input multiplexer settles 1 us, then 24 clocks at
# 1.19 MHz (ADS8324: 24 clocks a sample, maximum 1.2 MHz) and CS high.
CYCLES_SPI_WRITE = 50
CYCLES_SPI_READ = 2 * (24 * 6 + 4)
CYCLES_CHAIN_BIT = 5
CYCLES_CHAIN_LATCH = 4
CYCLES_ADC_MUX = 100
CYCLES_CONVERT = CYCLES_ADC_MUX + 24 * 84 + 4
CYCLES_STEP = 1


class Op(IntEnum):
    """Operations, by their code in bits [31:28]."""

    END = 0
    DAC = 1
    DACT = 2
    DREAD = 3
    SHIFT = 4
    LINES = 5
    WAIT = 6
    PULSE = 7
    CONV = 8
    LOOP = 9
    NEXT = 10
    PTR = 11
    MARK = 12


class Fault(IntEnum):
    """Why the sequencer stopped a program (FAULT_CODE)."""

    NONE = 0
    BAD_INSTRUCTION = 1
    LIMIT = 2
    DAC_UPDATE_TOO_SOON = 3
    NOT_SETTLED = 4
    TABLE_OVERRUN = 5
    RESULT_OVERRUN = 6
    BAD_SELECT = 7
    PROGRAM_OVERRUN = 8
    ENABLE_WITHOUT_LATCH = 9
    DAC_IN_RESET = 10
    SWITCH_ADDRESS_MOVED = 11
    SWITCH_TOO_SOON = 12
    PULSE_TOO_SHORT = 13
    WATCHDOG = 14
    PULSE_LIMIT = 15
    PULSES_LIMIT = 16
    BUSY = 17
    STOPPED = 18


# Faults of timing: FAULT_INFO then holds the cycles that were left, waited or asked for, against
# the rule.
TIMING_FAULTS = frozenset(
    {
        Fault.DAC_UPDATE_TOO_SOON,
        Fault.NOT_SETTLED,
        Fault.DAC_IN_RESET,
        Fault.SWITCH_TOO_SOON,
        Fault.PULSE_TOO_SHORT,
        Fault.WATCHDOG,
        Fault.PULSE_LIMIT,
    }
)

FAULT_TEXT: dict[int, str] = {
    Fault.BAD_INSTRUCTION: "word is not an instruction, or a loop does not match",
    Fault.LIMIT: "a DAC output would exceed its limit register",
    Fault.DAC_UPDATE_TOO_SOON: "DAC80508: outputs updated less than 1 us after the last update",
    Fault.NOT_SETTLED: "DAC80508 and OPA4322: pulse less than 5 us after an output update, or "
    "conversion before output (5 us) and amplifier (by its range) have settled",
    Fault.TABLE_OVERRUN: "table element beyond TABLE_COUNT",
    Fault.RESULT_OVERRUN: "more results than the memory holds",
    Fault.BAD_SELECT: "ADC multiplexer input that does not exist",
    Fault.PROGRAM_OVERRUN: "ran past the end of program memory",
    Fault.ENABLE_WITHOUT_LATCH: "SN74HC595: switches enabled before the chain was latched, or "
    "with its outputs off",
    Fault.DAC_IN_RESET: "DAC80508: frame less than 250 us after a soft reset",
    Fault.SWITCH_ADDRESS_MOVED: "CD4051B: select lines moved while the switches were on "
    "(inhibit first: two inputs may meet)",
    Fault.SWITCH_TOO_SOON: "CD4051B: enabled before its address had settled, or conversion before "
    "switch and amplifier had settled",
    Fault.PULSE_TOO_SHORT: "CD4051B: pulse shorter than the switch needs to turn on",
    Fault.WATCHDOG: "no write for as long as WATCHDOG allows: the rails were made safe",
    Fault.PULSE_LIMIT: "pulse longer than PULSE_LIMIT",
    Fault.PULSES_LIMIT: "more pulses in one program than PULSES_LIMIT",
    Fault.BUSY: "START, or a write to program, table or settings, while a program was running",
    Fault.STOPPED: "stopped by SAFE before its end",
}


@dataclass(frozen=True)
class Instruction:
    """One decoded instruction. `data` holds the literal words behind a SHIFT."""

    op: Op
    addr: int = 0
    mask: int = 0
    value: int = 0
    data: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse fields that do not fit their bits."""
        wide = self.op not in (Op.DAC, Op.DACT, Op.DREAD, Op.SHIFT, Op.NEXT)
        top = {Op.END: 0, Op.DREAD: 0, Op.LINES: 0xF, Op.CONV: 0x1F}.get(
            self.op, 0xFFF_FFFF if wide else 0xFFFF
        )
        if not 0 <= self.value <= top:
            raise InputError(f"{self.op.name}: value {self.value} is outside 0..{top}")
        addressed = self.op in (Op.DAC, Op.DACT, Op.DREAD)
        if not 0 <= self.addr <= (0xF if addressed else 0):
            raise InputError(f"{self.op.name}: address {self.addr} is outside 0..15")
        if not 0 <= self.mask <= (0xFF if addressed else 0):
            raise InputError(f"{self.op.name}: chip mask {self.mask} is outside 0..255")
        if self.op is Op.LOOP and self.value < 1:
            raise InputError("LOOP: a loop runs at least once")
        if self.op is Op.SHIFT:
            self._check_shift()

    def _check_shift(self) -> None:
        if not 1 <= self.value <= MAX_CHAIN_BITS:
            raise InputError(f"SHIFT: {self.value} bits is outside 1..{MAX_CHAIN_BITS}")
        if len(self.data) != -(-self.value // 32):
            raise InputError(f"SHIFT: {self.value} bits need {-(-self.value // 32)} data words")

    def encode(self) -> list[int]:
        """The words of this instruction."""
        word = int(self.op) << 28 | self.value
        if self.op in (Op.DAC, Op.DACT, Op.DREAD):
            word |= self.addr << 24 | self.mask << 16
        return [word, *self.data]

    @cached_property
    def cycles(self) -> int:
        """Cycles that one execution takes; a LOOP counts only its own step."""
        if self.op in (Op.DAC, Op.DACT):
            return CYCLES_SPI_WRITE
        if self.op is Op.SHIFT:
            return CYCLES_CHAIN_BIT * self.value + CYCLES_CHAIN_LATCH
        if self.op in (Op.WAIT, Op.PULSE):
            return CYCLES_STEP + self.value
        return {Op.DREAD: CYCLES_SPI_READ, Op.CONV: CYCLES_CONVERT}.get(self.op, CYCLES_STEP)

    def __str__(self) -> str:
        """Assembler text."""
        name = f"{self.op.name:<5}"
        if self.op in (Op.DAC, Op.DACT):
            what = "data" if self.op is Op.DAC else "table"
            return f"{name} addr=0x{self.addr:X} chips=0x{self.mask:02X} {what}=0x{self.value:04X}"
        if self.op is Op.DREAD:
            return f"{name} addr=0x{self.addr:X} chips=0x{self.mask:02X}"
        if self.op is Op.SHIFT:
            return f"{name} bits={self.value} " + " ".join(f"0x{word:08X}" for word in self.data)
        if self.op is Op.LINES:
            on, gain, out = self.value & 1, self.value >> 1 & 3, self.value >> 3 & 1
            return f"{name} enable={on} range={gain} oe={out}"
        return name.strip() if self.op is Op.END else f"{name} {self.value}"


def decode_one(words: WordsLike, pc: int) -> Instruction:
    """Decode the instruction at word index `pc`.

    Raises:
        InputError: not an instruction, or unused bits are set (they are reserved).
    """
    word = int(words[pc])
    code = word >> 28
    if code > max(Op):
        raise InputError(f"word {pc} (0x{word:08X}): no operation has code {code}")
    op = Op(code)
    if op in (Op.DAC, Op.DACT, Op.DREAD):
        return Instruction(op, word >> 24 & 0xF, word >> 16 & 0xFF, word & 0xFFFF)
    value = word & 0xFFF_FFFF
    data: tuple[int, ...] = ()
    if op is Op.SHIFT:
        if not 1 <= value <= MAX_CHAIN_BITS:
            raise InputError(f"word {pc}: SHIFT of {value} bits is outside 1..{MAX_CHAIN_BITS}")
        data = tuple(int(w) for w in words[pc + 1 : pc + 1 + -(-value // 32)])
    return Instruction(op, value=value, data=data)


def decode(words: WordsLike) -> list[Instruction]:
    """Decode a whole program, up to its last END, and check that loops match.

    Raises:
        InputError: a word is no instruction, loops do not match or nest deeper than 4, END is
            missing or inside a loop.
    """
    program: list[Instruction] = []
    pc = depth = 0
    while pc < len(words):
        instruction = decode_one(words, pc)
        depth += (instruction.op is Op.LOOP) - (instruction.op is Op.NEXT)
        if not 0 <= depth <= MAX_LOOP_DEPTH:
            raise InputError(f"word {pc}: loops must match and nest at most {MAX_LOOP_DEPTH} deep")
        if instruction.op is Op.END and depth:
            raise InputError(f"word {pc}: END inside a loop")
        program.append(instruction)
        pc += 1 + len(instruction.data)
    if not program or program[-1].op is not Op.END:
        raise InputError("a program ends with END")
    return program


def encode(program: Sequence[Instruction]) -> npt.NDArray[np.uint32]:
    """Words of a program; the inverse of `decode`."""
    return np.array([word for item in program for word in item.encode()], dtype=np.uint32)


def disassemble(words: WordsLike) -> str:
    """Assembler text of a program, a line an instruction, loops indented, with word indices."""
    lines, pc, depth = [], 0, 0
    for item in decode(words):
        depth -= item.op is Op.NEXT
        lines.append(f"{pc:5d}  {'  ' * depth}{item}")
        depth += item.op is Op.LOOP
        pc += 1 + len(item.data)
    return "\n".join(lines)


def total_cycles(program: Sequence[Instruction]) -> int:
    """Duration of a program up to its first END, in cycles, without running it.

    The cost of a loop is the cost of its body and NEXT times the count, plus one step for LOOP.
    """
    stack: list[tuple[int, int]] = []
    total = 0
    for item in program:
        if item.op is Op.LOOP:
            stack.append((total + item.cycles, item.value))
            total = 0
        elif item.op is Op.NEXT:
            before, count = stack.pop()
            total = before + count * (total + item.cycles)
        else:
            total += item.cycles
        if item.op is Op.END:
            break
    return total


class Assembler:
    """Builds a program.

    >>> asm = Assembler()
    >>> with asm.loop(3, stride=2):
    ...     asm.add(Op.DACT, addr=8, mask=0b11)
    >>> print(disassemble(asm.words()))
        0  LOOP  3
        1    DACT  addr=0x8 chips=0x03 table=0x0000
        2  NEXT  2
        3  END
    """

    def __init__(self) -> None:
        self._items: list[Instruction] = []

    def add(
        self, op: Op, *, addr: int = 0, mask: int = 0, value: int = 0, data: tuple[int, ...] = ()
    ) -> None:
        """Append one instruction."""
        self._items.append(Instruction(op, addr, mask, value, data))

    @contextmanager
    def loop(self, count: int, stride: int = 0) -> Iterator[None]:
        """Repeat what is added inside `count` times; the table pointer moves by `stride`."""
        self.add(Op.LOOP, value=count)
        yield
        self.add(Op.NEXT, value=stride)

    def instructions(self) -> list[Instruction]:
        """The program so far, closed by END."""
        return [*self._items, Instruction(Op.END)]

    def words(self) -> npt.NDArray[np.uint32]:
        """The program so far as words, closed by END."""
        return encode(self.instructions())


def describe() -> list[tuple[str, ...]]:
    """Operations, faults and costs as plain rows: what the contract hash is taken of."""
    costs = {name: value for name, value in globals().items() if name.startswith("CYCLES_")}
    rows: list[tuple[str, ...]] = [("op", op.name, str(int(op))) for op in Op]
    rows += [("fault", fault.name, str(int(fault))) for fault in Fault]
    return rows + [("cost", name, str(value)) for name, value in sorted(costs.items())]
