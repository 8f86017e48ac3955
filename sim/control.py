"""The sequencer behind its registers: commands, a program under way, faults, the watchdog.

Everything is worked out when somebody looks: `catch_up` brings the board to a wall time, and what
was due before it takes effect at the moment when it was due. A board that keeps a pace has a
program under way between two looks; any other runs it whole, in no wall time, when it is started.
The watchdog watches the host, so its cycles of 10 ns are wall time, whatever the pace.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge import registers
from firmware_bridge.microcode import CLOCK_HZ, Fault
from sim.bench import Bench
from sim.run import Run
from sim.sequencer import Course, Sequencer
from sim.wall import Pace

Words = npt.NDArray[np.uint32]

R = {name: r.offset // 4 for name, r in registers.BY_NAME.items()}
_BUSY, _DONE, _FAULT, _LIVE = (
    registers.STATUS_BUSY,
    registers.STATUS_DONE,
    registers.STATUS_FAULT,
    registers.STATUS_LIVE,
)
_MEMORIES = [(m.offset // 4, m.end // 4) for m in (registers.PROGRAM, registers.TABLE)]
_SETTINGS = {r.offset // 4 for r in registers.REGISTERS if r.access == "rw"}
_FREE = {R[name] for name in ("WATCHDOG", "SCRATCH")}  # beside CTRL and KICK
_HELD = sorted(_SETTINGS - _FREE)
_REGISTERS_END = max(R.values()) + 1
# An emulator that does not keep up is a slower board: it never keeps an access waiting longer.
_LONGEST_ACCESS_S = 0.05
_SLICE_CYCLES = CLOCK_HZ // 1000
_KEPT_EVENTS = 4096


@dataclass(frozen=True)
class RailEvent:
    """An update of the DAC outputs, or a change of the direct lines.

    Attributes:
        wall_s: when, on the wall clock.
        cycles: when, on the board clock.
        codes: of every DAC channel, behind the latch.
        closed: whether the switches of the source lines are on.
        safe: whether it was the safe program that did it.
    """

    wall_s: float
    cycles: int
    codes: tuple[int, ...]
    closed: bool
    safe: bool


class Control:
    """Registers and what they set going.

    Args:
        bench: the parts.
        sequencer: runs programs on them.
        pace: how they follow the wall clock.
        fixed: registers that tell what the board is, by name.
        pulsed: called when a program that has given pulses is over.
        log: note what rails do, in `rail_log`; a reference interpreter sees every update.

    Attributes:
        words: the whole window.
        written_s: wall time of the last write.
        safe_since_s: wall time since which nothing is LIVE; None while it is.
    """

    def __init__(
        self,
        bench: Bench,
        sequencer: Sequencer,
        pace: Pace,
        fixed: dict[str, int],
        pulsed: Callable[[], None],
        log: bool,
    ) -> None:
        self._bench, self._sequencer, self._clock = bench, sequencer, sequencer.clock
        self._pace, self._fixed, self._pulsed = pace, fixed, pulsed
        self._limits_kept = b"", np.zeros(0, dtype=np.int64)
        self.words = np.zeros(registers.WINDOW_BYTES // 4, dtype=np.uint32)
        self.rail_log: deque[RailEvent] = deque(maxlen=_KEPT_EVENTS)
        self.written_s, self._working = pace.wall(), False
        self._power_up(self.written_s)
        if log:
            sequencer.rails_moved = self._note_rails

    def _power_up(self, now_s: float) -> None:
        for register in registers.REGISTERS:
            self.words[register.offset // 4] = register.reset
        for name, value in self._fixed.items():
            self.words[R[name]] = value
        self._course: Course | None = None
        self._counted = 0  # pulses of it that PULSE_COUNT shows
        self._safe_runs = self._start_waits = self._left_safe = self._tripped = False
        self.safe_since_s: float | None = now_s
        self.show_clock(0)

    def show_clock(self, run_cycles: int | None) -> None:
        """The board clock, and the cycles of the last program; None leaves these as they are."""
        for name, value in (("CYCLES", self._clock.cycles), ("RUN_CYCLES", run_cycles)):
            if value is not None:
                self.words[R[f"{name}_LO"]] = value & 0xFFFF_FFFF
                self.words[R[f"{name}_HI"]] = value >> 32 & 0xFFFF_FFFF

    @property
    def status(self) -> int:
        """The word of STATUS."""
        return int(self.words[R["STATUS"]])

    def _show_status(self, status: int) -> None:
        self.words[R["STATUS"]] = status

    @property
    def under_way(self) -> bool:
        """Whether a program runs."""
        return self._course is not None

    # ---- wall time --------------------------------------------------------------------------

    def catch_up(self, now_s: float) -> None:
        """Bring the board to a wall time."""
        if self._working:  # somebody looks from within a program
            return
        while True:
            due_s = self._due_s()
            if self._course is not None and self._advance(self._course, min(now_s, due_s)):
                continue
            if due_s > now_s:
                break
            self._trip(due_s)
        if self._course is not None:
            self._show(self._course)

    def _due_s(self) -> float:
        """Wall time at which the watchdog trips if nothing is written before."""
        if self.safe_since_s is not None or self._tripped or self._safe_runs:
            return math.inf
        cycles = int(self.words[R["WATCHDOG"]])
        return self.written_s + cycles / CLOCK_HZ if cycles else math.inf

    def _trip(self, due_s: float) -> None:
        """Stop what runs, after the instruction at hand, and make the rails safe."""
        self._tripped = True  # until the next write
        self.words[R["WATCHDOG_TRIPS"]] += np.uint32(1)
        cycles, begin_s = int(self.words[R["WATCHDOG"]]), due_s
        if self._course is None:
            self._latch(Fault.WATCHDOG, 0, cycles, 0)
            self._show_status(self.status | _FAULT)
        else:
            begin_s = max(due_s, self._pace.wall_at(self._clock.cycles))
            self._stop(self._course, Fault.WATCHDOG, cycles)
        self._begin_safe(begin_s)

    def _advance(self, course: Course, wall_s: float) -> bool:
        """Go on with a program up to a wall time; whether it has ended."""
        self._working = True
        try:
            ended = self._compute(course, wall_s)
        finally:
            self._working = False
        if ended:
            self._finish(course)
        return ended

    def _compute(self, course: Course, wall_s: float) -> bool:
        target, begun_s = self._pace.cycles_at(wall_s), self._pace.wall()
        step = _SLICE_CYCLES if self._pace.kept else target
        while not self._sequencer.advance(course, min(target, self._clock.cycles + step)):
            if self._clock.cycles >= target:
                return False
            if self._pace.wall() - begun_s > _LONGEST_ACCESS_S:
                self._pace.meet(wall_s, self._clock.cycles)
                return False
            step *= 2
        return True

    def finish_safe(self) -> None:
        """Let the safe program, where it runs, come to its end now."""
        while self._course is not None and self._safe_runs:
            self._advance(self._course, self._pace.wall_at(self._clock.cycles + _SLICE_CYCLES))

    def break_off(self) -> None:
        """The power goes: whatever runs is over after the instruction at hand."""
        self._course, self._safe_runs, self._start_waits = None, False, False
        self._show_status(self.status & ~_BUSY)

    # ---- writes -----------------------------------------------------------------------------

    def write(self, start: int, words: Words, now_s: float) -> None:
        """Take words from word index `start` on."""
        end = start + words.size
        if self._course is not None and not self._safe_runs:
            held = self._first_held(start, end)
            if held is not None:
                self._stop(self._course, Fault.BUSY, 4 * held)
                return
        for first, last in _MEMORIES:
            low, high = max(start, first), min(end, last)
            if low < high:
                self.words[low:high] = words[low - start : high - start]
        for index in range(start, min(end, _REGISTERS_END)):
            word = int(words[index - start])
            if index in _SETTINGS:
                self.words[index] = word
            elif index == R["CTRL"]:
                self._command(word, now_s)

    def wrote(self, now_s: float) -> None:
        """A write is over: the watchdog begins anew."""
        self.written_s, self._tripped = now_s, False

    @staticmethod
    def _first_held(start: int, end: int) -> int | None:
        """First word of a write that a program under way does not allow."""
        places = [index for index in _HELD if start <= index < end]
        places += [max(start, low) for low, high in _MEMORIES if start < high and end > low]
        return min(places, default=None)

    def _command(self, word: int, now_s: float) -> None:
        if word & registers.CTRL_RESET:
            self.break_off()
            self._bench.power_up()
            self._sequencer.power_up()
            self._power_up(now_s)
            self._sequencer.rails_moved()
        if word & registers.CTRL_CLEAR_FAULT:
            for name in ("FAULT_CODE", "FAULT_PC", "FAULT_INFO", "FAULT_TIME"):
                self.words[R[name]] = 0
            self._show_status(self.status & (_BUSY | _LIVE))
        if word & registers.CTRL_SAFE:
            self._safe(now_s)
        elif word & registers.CTRL_START and not self.status & _FAULT:
            self._start(now_s)

    def _safe(self, now_s: float) -> None:
        """Stop what runs, then the safe program; where that runs already, no START waits for it."""
        self._start_waits = False
        if self._safe_runs:
            return
        begin_s = now_s
        if self._course is not None:
            begin_s = max(now_s, self._pace.wall_at(self._clock.cycles))
            self._stop(self._course, Fault.STOPPED, 0)
        self._begin_safe(begin_s)

    def _start(self, now_s: float) -> None:
        if self._safe_runs:
            self._start_waits = True
        elif self._course is not None:
            self._stop(self._course, Fault.BUSY, 4 * R["CTRL"])
        else:
            self._begin(int(self.words[R["ENTRY"]]), now_s)

    # ---- programs ---------------------------------------------------------------------------

    def _memory(self, memory: registers.Memory) -> Words:
        return self.words[memory.offset // 4 : memory.end // 4]

    def _limits(self) -> npt.NDArray[np.int64]:
        """The limit registers; the same array as long as they are the same."""
        first = registers.LIMITS_OFFSET // 4
        now = self.words[first : first + registers.N_LIMITS].tobytes()
        if now != self._limits_kept[0]:
            self._limits_kept = now, np.frombuffer(now, dtype=np.uint32).astype(np.int64)
        return self._limits_kept[1]

    def _begin_safe(self, wall_s: float) -> None:
        self._safe_runs = True
        self._begin(int(self.words[R["SAFE_ENTRY"]]), wall_s)

    def _begin(self, entry: int, wall_s: float) -> None:
        table = self._memory(registers.TABLE).view("<u2")
        run = Run(
            table=table[: int(self.words[R["TABLE_COUNT"]])],
            limits=self._limits(),
            results=self._memory(registers.RESULTS).view("<u2"),
            pulse_limit=int(self.words[R["PULSE_LIMIT"]]),
            pulses_limit=int(self.words[R["PULSES_LIMIT"]]),
            mark=int(self.words[R["LAST_MARK"]]) if self._safe_runs else 0,
        )
        self._pace.meet(wall_s, self._clock.cycles)
        self._course = course = self._sequencer.begin(self._memory(registers.PROGRAM), entry, run)
        self._counted, self.safe_since_s = 0, None
        self._show_status(_BUSY | _LIVE | self.status & _FAULT)
        if not self._pace.kept:
            self._advance(course, math.inf)

    def _stop(self, course: Course, code: Fault, info: int) -> None:
        course.stop(code, info, self._clock.cycles)
        self._finish(course)

    def _show(self, course: Course) -> None:
        """What a program has come to so far."""
        run = course.run
        self.words[R["PULSE_COUNT"]] += np.uint32(run.pulses - self._counted)
        self._counted = run.pulses
        self.words[R["LAST_MARK"]] = run.mark
        if self._safe_runs:  # who waits for the program before it still wants to know of that one
            self.show_clock(None)
            return
        self.show_clock(self._clock.cycles - course.begun)
        self.words[R["RESULT_COUNT"]] = run.n_results

    def _finish(self, course: Course) -> None:
        """A program has ended, by itself or not."""
        run, safe = course.run, self._safe_runs
        self._show(course)
        self._course, self._safe_runs = None, False
        status = _DONE | self.status & _FAULT
        if run.fault is not Fault.NONE:
            self._latch(run.fault, run.fault_pc, run.fault_info, run.fault_cycles)
            self._bench.enable, status = False, _FAULT
        self._left_safe = safe and run.fault is Fault.NONE
        live = self._lines_live()
        self._show_status(status | (_LIVE if live else 0))
        self.safe_since_s = None if live else self._pace.wall_at(self._clock.cycles)
        if run.pulses:
            self._pulsed()
        if self._start_waits:
            self._start_waits = False
            if not self.status & _FAULT:
                self._begin(int(self.words[R["ENTRY"]]), self._pace.wall_at(self._clock.cycles))

    def _latch(self, code: Fault, pc: int, info: int, cycles: int) -> None:
        self.words[R["FAULT_CODE"]], self.words[R["FAULT_PC"]] = int(code), pc
        self.words[R["FAULT_INFO"]] = info & 0xFFFF_FFFF
        self.words[R["FAULT_TIME"]] = min(cycles, 0xFFFF_FFFF)

    def _lines_live(self) -> bool:
        bench = self._bench
        above_zero = any(any(dac.active) for dac in bench.dacs)
        return above_zero or (bench.enable and not self._left_safe)

    def _note_rails(self) -> None:
        codes, cycles = tuple(self._bench.active_codes().tolist()), self._clock.cycles
        self.rail_log.append(
            RailEvent(
                self._pace.wall_at(cycles), cycles, codes, self._bench.enable, self._safe_runs
            )
        )

    # ---- snapshots --------------------------------------------------------------------------

    def told(self) -> dict[str, int | bool]:
        """What a snapshot holds of it beside the registers."""
        return {"left_safe": self._left_safe}

    def put_back(self, left_safe: bool, now_s: float) -> None:
        """Go on from a snapshot, whose registers are back already."""
        self._left_safe, self._tripped = left_safe, False
        self.written_s = now_s
        self.safe_since_s = None if self.status & _LIVE else now_s
