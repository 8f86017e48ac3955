"""What programs take on this board, by phase, and the least that its parts would need for it.

The cost of a program is counted from its own instructions, loops and all, and its phases add up to
`microcode.total_cycles` to the cycle. The bound knows no program: it is what datasheets leave for
the same vectors and pulses. It is no estimate of an integrated macro (that is a clock of its own).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import ads8324, dac80508
from firmware_bridge.microcode import CLOCK_HZ, CYCLES_STEP, Assembler, Instruction, Op, decode
from rram_host.board.sequencer import Compiled, Progress, SequencerDriver, Traffic

_PHASE_OF = {
    Op.DAC: "dac_words",
    Op.DACT: "dac_words",
    Op.DREAD: "dac_words",
    Op.WAIT: "settling",
    Op.SHIFT: "switching",
    Op.LINES: "switching",
    Op.CONV: "conversions",
    Op.PULSE: "pulses",
}


@dataclass(frozen=True)
class Cost:
    """Cycles of 10 ns that a program spends in each phase.

    Attributes:
        dac_words: SPI words to and from the DAC80508.
        settling: waiting for outputs, amplifiers and switches to settle.
        switching: shifting the 74HC595 chain, direct lines.
        conversions: ADS8324, its input multiplexer settling included.
        pulses: switches closed for a pulse.
        overhead: the sequencer's own steps: loops, pointers, one a WAIT or PULSE, END.
    """

    dac_words: int = 0
    settling: int = 0
    switching: int = 0
    conversions: int = 0
    pulses: int = 0
    overhead: int = 0

    @property
    def cycles(self) -> int:
        """All phases together."""
        return int(sum(dataclasses.astuple(self)))

    @property
    def total_s(self) -> float:
        """All phases together, in seconds."""
        return self.cycles / CLOCK_HZ

    def phases_s(self) -> dict[str, float]:
        """Every phase in seconds, by name."""
        return {name: cycles / CLOCK_HZ for name, cycles in dataclasses.asdict(self).items()}

    def __add__(self, other: Cost) -> Cost:
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Cost(*(a + b for a, b in zip(mine, theirs, strict=True)))

    def __sub__(self, other: Cost) -> Cost:
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Cost(*(a - b for a, b in zip(mine, theirs, strict=True)))


def executions(program: Sequence[Instruction]) -> list[int]:
    """How often each instruction runs, up to the first END; 0 behind it.

    A loop's body and its NEXT run `count` times, its LOOP once for each time it is entered.
    """
    counts, times, stack = [0] * len(program), 1, []
    for index, item in enumerate(program):
        counts[index] = times
        if item.op is Op.LOOP:
            stack.append(times)
            times *= item.value
        elif item.op is Op.NEXT:
            times = stack.pop()
        elif item.op is Op.END:
            break
    return counts


def cost_of(program: Sequence[Instruction]) -> Cost:
    """The cycles of a program by phase; they add up to `microcode.total_cycles`.

    Args:
        program: instructions whose loops match.
    """
    cycles = dict.fromkeys((field.name for field in dataclasses.fields(Cost)), 0)
    for item, times in zip(program, executions(program), strict=True):
        step = CYCLES_STEP if item.op in (Op.WAIT, Op.PULSE) else 0
        cycles[_PHASE_OF.get(item.op, "overhead")] += times * (item.cycles - step)
        cycles["overhead"] += times * step
    return Cost(**cycles)


@dataclass(frozen=True)
class Bound:
    """The least time that the parts need for some work, in seconds.

    Attributes:
        dac_words_s: new codes for the lines.
        settling_s: outputs and amplifiers settling.
        conversions_s: conversions.
        pulses_s: pulse widths.
    """

    dac_words_s: float = 0.0
    settling_s: float = 0.0
    conversions_s: float = 0.0
    pulses_s: float = 0.0

    @property
    def total_s(self) -> float:
        """All of it, one behind the other."""
        return float(sum(dataclasses.astuple(self)))

    def phases_s(self) -> dict[str, float]:
        """Every part in seconds, by the name of its phase."""
        return {name.removesuffix("_s"): part for name, part in dataclasses.asdict(self).items()}

    def __add__(self, other: Bound) -> Bound:
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Bound(*(a + b for a, b in zip(mine, theirs, strict=True)))

    def __mul__(self, times: int) -> Bound:
        return Bound(*(times * part for part in dataclasses.astuple(self)))


def words_bound_s(channels: Sequence[int]) -> float:
    """Least time for new codes on DAC channels: every chip on an SPI of its own, all at once.

    t = (n + 1) t_word, n the most channels of one chip, + 1 the word that triggers LDAC;
    t_word = 24 / 50 MHz + 15 ns = 495 ns (DAC80508, SLASEL1D: fastest SCLK, shortest CS high).
    """
    chips = [channel // dac80508.N_CHANNELS for channel in channels]
    most = max(chips.count(chip) for chip in chips)
    return (most + 1) * dac80508.frame_s(dac80508.WRITE_CLOCK_MAX_HZ)


def vector_bound(spec: BoardSpec, tia_range: int) -> Bound:
    """Least time of one input vector: bit lines rewritten, settled, every row converted.

    Settling is sqrt((5 us)^2 + t_TIA^2) (DAC80508 output, then OPA4322 to 14 bit in its range). A
    conversion takes 24 clocks at 1.2 MHz, 20 us (ADS8324, SBAS172A: 50 kSPS), and a board with n
    ADCs for R rows needs ceil(R / n) of them one after another.
    """
    return Bound(
        dac_words_s=words_bound_s(spec.bl_channel),
        settling_s=spec.settling_s(tia_range),
        conversions_s=spec.selects * ads8324.CLOCKS_PER_SAMPLE / ads8324.CLOCK_MAX_HZ,
    )


def pulse_bound(spec: BoardSpec, width_s: float) -> Bound:
    """Least time of one pulse: bit and word lines rewritten together, 5 us settled, the width."""
    return Bound(
        dac_words_s=words_bound_s(spec.bl_channel + spec.wl_channel),
        settling_s=spec.dac_settling_s,
        pulses_s=width_s,
    )


class DryDriver(SequencerDriver):
    """Takes programs like a board, notes them, and runs nothing: every result is 0.

    Attributes:
        programs: instructions of every program it was given.
    """

    def __init__(self, spec: BoardSpec) -> None:
        self.closed, self.traffic = False, Traffic()
        self.programs: list[list[Instruction]] = []
        self._adcs = spec.adcs

    def run(
        self,
        program: Assembler | Compiled,
        table: npt.NDArray[np.uint16] | None = None,
        progress: Progress | None = None,
    ) -> npt.NDArray[np.uint16]:
        """Note a program; as many zeros as it has results."""
        if isinstance(program, Compiled):
            instructions = decode(program.words)
        else:
            instructions = program.instructions()
        self.programs.append(instructions)
        pairs = zip(instructions, executions(instructions), strict=True)
        count = sum(times * self._n_results(item) for item, times in pairs)
        return np.zeros(count, dtype=np.uint16)

    def _n_results(self, item: Instruction) -> int:
        """Results of one execution: one an ADC, or echo and data a chip."""
        if item.op is Op.CONV:
            return self._adcs
        return 2 * item.mask.bit_count() if item.op is Op.DREAD else 0

    def take_cost(self) -> Cost:
        """Cost of the programs noted since the last call."""
        cost = sum((cost_of(program) for program in self.programs), Cost())
        self.programs.clear()
        return cost
