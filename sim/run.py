"""A run of a program: what goes in, what comes out, and the rules that may stop it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge import microcode
from firmware_bridge.chips import dac80508
from firmware_bridge.errors import RramError
from firmware_bridge.microcode import Fault, Instruction, Op

SETTLE_CYCLES = round(dac80508.SETTLING_S * microcode.CLOCK_HZ)
UPDATE_CYCLES = round(dac80508.UPDATE_INTERVAL_S * microcode.CLOCK_HZ)
RESET_CYCLES = round(dac80508.SOFT_RESET_S * microcode.CLOCK_HZ)
_LONGEST_STRESS_CYCLES = 10 * microcode.CLOCK_HZ


def stressed_s(cycles: int) -> float:
    """How long a pulse lasts that ends so many cycles after the DAC update before it."""
    return min(cycles, _LONGEST_STRESS_CYCLES) / microcode.CLOCK_HZ


def is_latch(item: Instruction) -> bool:
    """Whether an instruction writes TRIGGER, given that it does so to move the outputs."""
    return item.op is Op.DAC and item.addr == dac80508.TRIGGER


class ProgramFault(RramError):
    """A program broke a rule; the sequencer stops and latches it."""

    def __init__(self, code: Fault, info: int = 0) -> None:
        super().__init__(code, info)
        self.code, self.info = code, info
        self.place: int | None = None  # index of the instruction, where it is not the one at hand


@dataclass
class Run:
    """One run of a program: its inputs, and what has come of it so far.

    Attributes:
        table: input codes.
        limits: highest output of every DAC channel, in 5 V / 65536.
        results: the memory that results are written to.
        pulse_limit: longest PULSE, in cycles of its value.
        pulses_limit: PULSE instructions that it may execute.
    """

    table: npt.NDArray[np.uint16]
    limits: npt.NDArray[np.int64]
    results: npt.NDArray[np.uint16]
    pulse_limit: int
    pulses_limit: int
    n_results: int = 0
    pointer: int = 0
    mark: int = 0
    pulses: int = 0
    fault: Fault = Fault.NONE
    fault_pc: int = 0
    fault_info: int = 0
    fault_cycles: int = 0

    def push(self, words: npt.NDArray[np.uint16]) -> None:
        """Append results, as long as they fit the memory."""
        self.room(words.size)[:] = words.ravel()

    def room(self, size: int) -> npt.NDArray[np.uint16]:
        """Memory for the next `size` results, for who writes them there himself."""
        if self.n_results + size > self.results.size:
            raise ProgramFault(Fault.RESULT_OVERRUN, self.n_results)
        self.n_results += size
        return self.results[self.n_results - size : self.n_results]

    def element(self, index: int) -> int:
        """A code of the input table."""
        if index >= self.table.size:
            raise ProgramFault(Fault.TABLE_OVERRUN, index)
        return int(self.table[index])

    def pulse_allowed(self, cycles: int) -> None:
        """Count a pulse, before its switches close.

        Raises:
            ProgramFault: it is longer than a pulse may be, or one too many.
        """
        if cycles > self.pulse_limit:
            raise ProgramFault(Fault.PULSE_LIMIT, cycles)
        if self.pulses >= self.pulses_limit:
            raise ProgramFault(Fault.PULSES_LIMIT, self.pulses)
        self.pulses += 1

    def pulses_left(self) -> int:
        """How many more pulses it may give."""
        return self.pulses_limit - self.pulses
