"""The board as something that runs micro-programs: one upload, one start, one read of results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge import microcode, registers
from firmware_bridge.contract import contract_hash
from firmware_bridge.fault_text import fault_text
from firmware_bridge.microcode import Assembler
from firmware_bridge.opening import SAFE_ENTRY, register
from rram_host.board.check.checker import Checker
from rram_host.errors import BoardFault, ContractError, InputError, LinkError, RramError
from rram_host.transports.base import Transport, Writes, write_then_read

MAX_TABLE_CODES = 2 * registers.TABLE.words
MAX_RESULTS = 2 * registers.RESULTS.words
_GRACE_S = 5.0
_GRACE_OF_WHOLE = 1e-3  # crystals of board and host differ by tens of parts in a million
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 1e-3, 0.5
Progress = Callable[[float, float], None]


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

    Attributes:
        checker: checks every program before it is uploaded; None: nothing is checked.
        watchdog_s: silence after which the board makes its rails safe; a host that waits for a
            program says four times as often that it is alive.

    Raises:
        ContractError: the board is no RRAM board, or speaks another contract, or is built
            differently.
    """

    def __init__(
        self, transport: Transport, rows: int, cols: int, dac_chips: int, adcs: int
    ) -> None:
        self._link = transport
        self.closed = False
        self._unsure = False  # whether a program may still run that nobody waits for
        self.checker: Checker | None = None
        self.watchdog_s = registers.WATCHDOG_RESET_CYCLES / microcode.CLOCK_HZ
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

    def _write_then_read(self, writes: Writes, address: int, count: int) -> npt.NDArray[np.uint32]:
        self._check_open()
        self.traffic.transactions += len(writes) + 1
        self.traffic.words += count + sum(words.size for _, words in writes)
        return write_then_read(self._link, writes, address, count)

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

    def write(self, address: int, words: npt.NDArray[np.uint32]) -> None:
        """Write words from a byte offset on."""
        self._write(address, words)

    def safe(self) -> None:
        """Run the safe program now, whatever state the board is in."""
        self.write_register("CTRL", registers.CTRL_SAFE)

    def clear_fault(self) -> None:
        """Forget a latched fault, so that programs start again."""
        self.write_register("CTRL", registers.CTRL_CLEAR_FAULT)

    def stop(self) -> None:
        """Stop this host's own program, make the rails safe, and forget that it was stopped."""
        self.safe()
        self.clear_fault()

    def take_over(self) -> None:
        """Stop a program that somebody has left running, and wait until the rails are safe.

        Raises:
            ReadOnlyLinkError: another host is alive.
            LinkError: the board stays busy.
        """
        if not self._busy():
            return
        self.write_register("KICK", 0)  # refused where another host is alive, whose program it is
        self.safe()
        end_s = time.monotonic() + _GRACE_S
        while self._busy():
            if time.monotonic() > end_s:
                raise LinkError(f"the board is still busy {_GRACE_S:g} s after it was told to stop")
            time.sleep(SHORTEST_PAUSE_S)

    def _busy(self) -> bool:
        return bool(self.read_register("STATUS") & registers.STATUS_BUSY)

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
            InputError: program or table do not fit the board's memories, or break a rule.
            BoardFault: the board stopped the program; its rails have been made safe.
            LinkError: it did not finish in its time.
        """
        ready = program if isinstance(program, Compiled) else Compiled.of(program)
        words, cycles = ready.words, ready.cycles
        if self.checker is not None:
            self.checker.check(words, table)
        if self._unsure:
            self.stop()
            self._unsure = False
        begin = [*self._uploads(words, table), register("CTRL", registers.CTRL_START)]
        try:
            count = self._wait(words, cycles, progress, begin)
        except LinkError:
            self._unsure = True
            raise
        except RramError:  # the board has been dealt with
            raise
        except BaseException:  # Ctrl-C, or what `progress` raises: nobody waits for it any more
            self._unsure = True
            with contextlib.suppress(RramError):
                self.stop()
                self._unsure = False
            raise
        self.traffic.programs += 1
        self.traffic.cycles += cycles
        packed = self._read(registers.RESULTS.offset, -(-count // 2)) if count else np.zeros(0)
        return packed.astype("<u4", copy=False).view("<u2")[:count]

    @staticmethod
    def _uploads(
        words: npt.NDArray[np.uint32], table: npt.NDArray[np.uint16] | None
    ) -> Iterator[tuple[int, npt.NDArray[np.uint32]]]:
        if words.size > SAFE_ENTRY:
            raise InputError(f"program of {words.size} words; the memory holds {SAFE_ENTRY}")
        n_codes = 0 if table is None else table.size
        if n_codes > MAX_TABLE_CODES:
            raise InputError(f"input table of {n_codes} codes; the memory holds {MAX_TABLE_CODES}")
        yield registers.PROGRAM.offset, words
        if table is not None and n_codes:
            codes = np.ascontiguousarray(table, dtype="<u2").ravel()
            codes = np.append(codes, codes[-1:]) if n_codes % 2 else codes
            yield registers.TABLE.offset, codes.view("<u4")
        yield register("TABLE_COUNT", n_codes)
        yield register("ENTRY", 0)

    def _wait(
        self,
        words: npt.NDArray[np.uint32],
        cycles: int,
        progress: Progress | None,
        writes: Writes,
    ) -> int:
        """Write what starts the program, poll until done, ever more seldom; number of results.

        While the board is busy it hears between two looks that this host is alive.
        """
        names = ("STATUS", "FAULT_CODE", "FAULT_PC", "FAULT_INFO", "RESULT_COUNT")
        takes_s, begun_s = cycles / microcode.CLOCK_HZ, time.monotonic()
        grace_s = _GRACE_S + _GRACE_OF_WHOLE * takes_s
        while True:
            state = self._write_then_read(writes, registers.offset("STATUS"), len(names)).tolist()
            status, code, pc, info, count = state
            if status & registers.STATUS_FAULT:
                self._raise_fault(words, code, pc, info)
            if status & registers.STATUS_DONE:
                return int(count)
            passed_s = time.monotonic() - begun_s
            if passed_s > takes_s + grace_s:
                self.stop()
                raise LinkError(
                    f"program of {takes_s:.3g} s is not done after "
                    f"{grace_s:.0f} s more; the safe program was started"
                )
            if progress is not None:
                progress(min(passed_s, takes_s), takes_s)
            writes = [register("KICK", 0)]
            time.sleep(min(pause_s(passed_s, takes_s), self.watchdog_s / 4))

    def _raise_fault(self, words: npt.NDArray[np.uint32], code: int, pc: int, info: int) -> None:
        try:
            at = self.read_register("FAULT_TIME")
        finally:  # the rails come first, even if the link fails now
            self.safe()
        self.clear_fault()
        raise BoardFault(f"{fault_text(words, code, pc, info, at)}; rails were made safe")
