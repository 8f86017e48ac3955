"""The board as something that runs micro-programs: one upload, one start, one read of results."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge import microcode, registers
from firmware_bridge.contract import contract_hash
from firmware_bridge.microcode import Assembler, Fault
from rram_host.errors import BoardFault, ContractError, InputError, LinkError
from rram_host.transports.base import Transport

SAFE_ENTRY = registers.PROGRAM.words - 256
MAX_TABLE_CODES = 2 * registers.TABLE.words
MAX_RESULTS = 2 * registers.RESULTS.words
_GRACE_S = 5.0
_GRACE_OF_WHOLE = 1e-3  # crystals of board and host differ by tens of parts in a million
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 1e-3, 0.5
Progress = Callable[[float, float], None]
# What FAULT_INFO counts, for faults that are not of timing.
_SUBJECT = {
    Fault.LIMIT: "DAC channel",
    Fault.TABLE_OVERRUN: "element",
    Fault.RESULT_OVERRUN: "result",
    Fault.BAD_SELECT: "input",
}


@dataclass
class Traffic:
    """What has crossed the link since the board was opened, and what the board did with it."""

    transactions: int = 0
    words: int = 0
    programs: int = 0
    cycles: int = 0

    @property
    def board_time_s(self) -> float:
        """Time that programs have taken on the board, in seconds."""
        return self.cycles / microcode.CLOCK_HZ


@dataclass(frozen=True)
class Compiled:
    """A program as words, with its duration: for programs that run many times."""

    words: npt.NDArray[np.uint32]
    cycles: int

    @staticmethod
    def of(program: Assembler) -> Compiled:
        """Assemble and cost a program."""
        instructions = program.instructions()
        return Compiled(microcode.encode(instructions), microcode.total_cycles(instructions))


def pause_s(passed_s: float, takes_s: float) -> float:
    """How long to sleep before looking again, for a program that began `passed_s` ago.

    A tenth of what has passed, between 1 ms and 0.5 s, but not beyond its end.
    """
    pause = min(max(SHORTEST_PAUSE_S, 0.1 * passed_s), LONGEST_PAUSE_S)
    left_s = takes_s - passed_s
    return pause if left_s <= 0 else max(SHORTEST_PAUSE_S, min(pause, left_s))


class SequencerDriver:
    """Runs programs through a transport.

    Args:
        transport: the link.
        rows, cols, dac_chips, adcs: what the board should be.

    Raises:
        ContractError: the board is no RRAM board, or speaks another contract, or is built
            differently.
    """

    def __init__(
        self, transport: Transport, rows: int, cols: int, dac_chips: int, adcs: int
    ) -> None:
        self._link = transport
        self.closed = False
        self.traffic = Traffic()
        self._check_identity(rows, cols, dac_chips, adcs)

    def _check_open(self) -> None:
        if self.closed:
            raise LinkError("the board has been closed; open it again")

    def _read(self, address: int, count: int) -> npt.NDArray[np.uint32]:
        self._check_open()
        self.traffic.transactions += 1
        self.traffic.words += count
        return self._link.read(address, count)

    def _write(self, address: int, words: npt.NDArray[np.uint32]) -> None:
        self._check_open()
        self.traffic.transactions += 1
        self.traffic.words += words.size
        self._link.write(address, words)

    def write_register(self, name: str, *values: int) -> None:
        """Write a register, and with more values the ones behind it."""
        self._write(registers.offset(name), np.array(values, dtype=np.uint32))

    def read_register(self, name: str) -> int:
        """Read one register."""
        return int(self._read(registers.offset(name), 1)[0])

    def _check_identity(self, rows: int, cols: int, dac_chips: int, adcs: int) -> None:
        ident, found, _, geometry, converters = self._read(registers.offset("IDENT"), 5).tolist()
        if ident != registers.IDENTITY:
            raise ContractError(
                f"identity word is {ident:#010x}, not {registers.IDENTITY:#010x}: no RRAM board"
            )
        if found != contract_hash():
            raise ContractError(
                f"board speaks contract {found:#010x}, this host {contract_hash():#010x}: "
                "gateware and host software are of different versions"
            )
        wanted = (rows << 16 | cols, dac_chips << 16 | adcs)
        if (geometry, converters) != wanted:
            raise ContractError(
                f"board has {geometry >> 16} x {geometry & 0xFFFF} cells, {converters >> 16} DAC "
                f"chips, {converters & 0xFFFF} ADCs; the board file says {rows} x {cols}, "
                f"{dac_chips}, {adcs}"
            )

    def load_safe_program(self, program: Assembler) -> None:
        """Put the program that makes the rails safe where the board finds it by itself."""
        self._write(registers.PROGRAM.offset + 4 * SAFE_ENTRY, program.words())
        self.write_register("SAFE_ENTRY", SAFE_ENTRY)

    def set_limits(self, limits: npt.NDArray[np.uint32]) -> None:
        """Write the limit of every DAC channel, in 5 V / 65536."""
        self._write(registers.LIMITS_OFFSET, limits)

    def safe(self) -> None:
        """Run the safe program now, whatever state the board is in."""
        self.write_register("CTRL", registers.CTRL_SAFE)

    def clear_fault(self) -> None:
        """Forget a latched fault, so that programs start again."""
        self.write_register("CTRL", registers.CTRL_CLEAR_FAULT)

    def run(
        self,
        program: Assembler | Compiled,
        table: npt.NDArray[np.uint16] | None = None,
        progress: Progress | None = None,
    ) -> npt.NDArray[np.uint16]:
        """Upload a program with its table, run it, and fetch its results.

        Args:
            program: what to run.
            table: input codes, flattened in the order that the program reads them.
            progress: called with the seconds that have passed and those that the program takes,
                whenever the board has been looked at and was not done.

        Returns:
            All 16-bit results, in program order.

        Raises:
            InputError: program or table do not fit the board's memories.
            BoardFault: the board stopped the program; its rails have been made safe.
            LinkError: it did not finish in its time.
        """
        ready = program if isinstance(program, Compiled) else Compiled.of(program)
        words, cycles = ready.words, ready.cycles
        self._upload(words, table)
        self.write_register("CTRL", registers.CTRL_START)
        count = self._wait(words, cycles, progress)
        self.traffic.programs += 1
        self.traffic.cycles += cycles
        packed = self._read(registers.RESULTS.offset, -(-count // 2)) if count else np.zeros(0)
        return packed.astype("<u4", copy=False).view("<u2")[:count]

    def _upload(self, words: npt.NDArray[np.uint32], table: npt.NDArray[np.uint16] | None) -> None:
        if words.size > SAFE_ENTRY:
            raise InputError(f"program of {words.size} words; the memory holds {SAFE_ENTRY}")
        n_codes = 0 if table is None else table.size
        if n_codes > MAX_TABLE_CODES:
            raise InputError(f"input table of {n_codes} codes; the memory holds {MAX_TABLE_CODES}")
        self._write(registers.PROGRAM.offset, words)
        if table is not None and n_codes:
            codes = np.ascontiguousarray(table, dtype="<u2").ravel()
            codes = np.append(codes, codes[-1:]) if n_codes % 2 else codes
            self._write(registers.TABLE.offset, codes.view("<u4"))
        self.write_register("TABLE_COUNT", n_codes)
        self.write_register("ENTRY", 0)

    def _wait(
        self, words: npt.NDArray[np.uint32], cycles: int, progress: Progress | None = None
    ) -> int:
        """Poll until done, ever more seldom; the number of results."""
        names = ("STATUS", "FAULT_CODE", "FAULT_PC", "FAULT_INFO", "RESULT_COUNT")
        takes_s, begun_s = cycles / microcode.CLOCK_HZ, time.monotonic()
        grace_s = _GRACE_S + _GRACE_OF_WHOLE * takes_s
        while True:
            state = self._read(registers.offset("STATUS"), len(names)).tolist()
            status, code, pc, info, count = state
            if status & registers.STATUS_FAULT:
                self._raise_fault(words, code, pc, info)
            if status & registers.STATUS_DONE:
                return int(count)
            passed_s = time.monotonic() - begun_s
            if passed_s > takes_s + grace_s:
                self.safe()
                raise LinkError(
                    f"program of {takes_s:.3g} s is not done after "
                    f"{grace_s:.0f} s more; the safe program was started"
                )
            if progress is not None:
                progress(min(passed_s, takes_s), takes_s)
            time.sleep(pause_s(passed_s, takes_s))

    def _raise_fault(self, words: npt.NDArray[np.uint32], code: int, pc: int, info: int) -> None:
        try:
            at = self.read_register("FAULT_TIME")
        finally:  # the rails come first, even if the link fails now
            self.safe()
        self.clear_fault()
        raise BoardFault(f"{_fault_text(words, code, pc, info, at)}; rails were made safe")


def _fault_text(words: npt.NDArray[np.uint32], code: int, pc: int, info: int, at: int) -> str:
    """Rule, what it was about, when, and the instruction, of a fault in a program.

    Args:
        words: the program, which began at word 0.
        code: FAULT_CODE.
        pc: FAULT_PC.
        info: FAULT_INFO; of faults of timing, the cycles that had passed.
        at: FAULT_TIME, in cycles.
    """
    if code not in list(Fault):
        rule = f"unknown fault {code} ({info})"
    elif Fault(code) in microcode.TIMING_FAULTS:
        rule = f"{Fault(code).name}: {microcode.FAULT_TEXT[code]} ({_in_us(info)})"
    else:
        rule = f"{Fault(code).name}: {microcode.FAULT_TEXT.get(code, 'no rule')}"
        rule += f" ({_SUBJECT[Fault(code)]} {info})" if code in _SUBJECT else ""
    try:
        where = str(microcode.decode_one(words, pc))
    except (InputError, IndexError):
        where = "no instruction of this program"
    return f"{rule}, {_in_us(at)} into the program, word {pc}: {where}"


def _in_us(cycles: int) -> str:
    return f"{cycles * 1e6 / microcode.CLOCK_HZ:.2f} us"
