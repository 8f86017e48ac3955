"""What the text dialect does with a board: programs, reads of cells, products; uncalibrated."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from firmware_bridge import limits, microcode, opening, readout, registers
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.errors import ReadOnlyError
from firmware_bridge.fault_text import fault_text
from firmware_bridge.frames import MAX_WORDS
from firmware_bridge.lines import LineProgram
from firmware_bridge.microcode import Assembler, Op
from firmware_bridge.readout import CELL_RANGE
from firmware_bridge.text.status import ScpiError

Words = npt.NDArray[np.uint32]
Codes = npt.NDArray[np.uint16]
Volts = npt.NDArray[np.float64]
Amperes = npt.NDArray[np.float64]

CELL_AVERAGE = 16
ARRAY_AVERAGE = 4
ZERO_READS = PROBE_READS = 16
FIRST_READS = ZERO_READS + PROBE_READS
READ_FULL_SCALE_V = 1.25
MAX_TABLE_CODES = 2 * registers.TABLE.words
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 1e-3, 0.05
# A client may be gone without anybody seeing it: its program is kept running for so long, and for
# as long again whenever it asks.
_KEPT_S = 60.0
_START_S = 1.0  # by then a started program shows up as busy, done or stopped


class Access(Protocol):
    """The register window as one client may use it."""

    @property
    def authorised(self) -> bool:
        """Whether the client has shown that it holds the key, where there is one."""
        ...

    @property
    def identity(self) -> str:
        """Maker, model, serial number and version, as *IDN? answers."""
        ...

    @property
    def spec(self) -> BoardSpec:
        """How the board is wired."""
        ...

    def read(self, address: int, count: int) -> Words:
        """Read `count` words from byte offset `address`."""
        ...

    def write(self, address: int, words: Words) -> None:
        """Write words.

        Raises:
            ReadOnlyError: another client writes.
        """
        ...

    def challenge(self) -> str:
        """A fresh nonce, in hex."""
        ...

    def authorise(self, digest_hex: str) -> bool:
        """Whether the digest answers the last challenge; the client is authorised then."""
        ...


@dataclass(frozen=True)
class State:
    """STATUS and what goes with it.

    Attributes:
        name: IDLE, RUNNING, DONE or FAULT.
        results: 16-bit results of the last program.
        fault: FAULT_CODE, FAULT_PC, FAULT_INFO.
    """

    name: str
    results: int
    fault: tuple[int, int, int]


class TextBoard:
    """The board behind a client's access.

    Args:
        access: the registers.
        stopped: whether waiting is to end now: the server stops, or nobody waits any more.
    """

    def __init__(self, access: Access, stopped: Callable[[], bool]) -> None:
        self._access, self._stopped = access, stopped

    @property
    def spec(self) -> BoardSpec:
        """How the board is wired."""
        return self._access.spec

    # ---- registers --------------------------------------------------------------------------

    def read(self, address: int, count: int) -> Words:
        """Words from byte offset `address` on, in as many accesses as it takes."""
        steps = range(0, count, MAX_WORDS)
        parts = [self._access.read(address + 4 * at, min(MAX_WORDS, count - at)) for at in steps]
        return np.concatenate([np.zeros(0, dtype=np.uint32), *parts])

    def write(self, address: int, words: Words) -> None:
        """Write words, in as many accesses as it takes."""
        for at in range(0, words.size, MAX_WORDS):
            self._access.write(address + 4 * at, words[at : at + MAX_WORDS])

    def set_register(self, name: str, value: int) -> None:
        """Write one register."""
        self._access.write(*opening.register(name, value))

    def register(self, name: str) -> int:
        """Read one register."""
        return int(self._access.read(registers.offset(name), 1)[0])

    def safe(self) -> None:
        """Run the safe program now, whoever else writes."""
        self.set_register("CTRL", registers.CTRL_SAFE)

    # ---- programs ---------------------------------------------------------------------------

    def set_up(self) -> None:
        """Limits, safe program, and every part at rest, as after opening by a host."""
        self._take()
        for address, words in opening.opening_writes(self.spec):
            self._access.write(address, words)
        self._run(opening.start_program(self.spec))

    def prepare(self) -> None:
        """Set the board up, unless somebody has: its limits are not those of power-up.

        Raises:
            ReadOnlyError: another client writes.
            ScpiError: a program is running, or a fault is latched; it is then cleared.
        """
        self._take()
        state = self.state()
        if state.name == "RUNNING":
            raise ScpiError(-221, "a program is running; *WAI waits for it, SAFE stops it")
        if state.name == "FAULT":
            raise ScpiError(-240, f"left from before, now cleared: {self.fault(state)}")
        if not self.read(registers.LIMITS_OFFSET, registers.N_LIMITS).any():
            self.set_up()

    def _take(self) -> None:
        """Become the writer.

        Whoever wrote before is told once that somebody else has written since: what begins here
        builds on nothing that was before, so it is tried again.
        """
        try:
            self.set_register("CTRL", 0)  # no command
        except ReadOnlyError:
            self.set_register("CTRL", 0)

    def start(self, words: Words, table: Codes) -> None:
        """Upload a program with its table, and start it."""
        self.write(registers.PROGRAM.offset, words)
        if table.size:
            codes = np.append(table, table[-1:]) if table.size % 2 else table
            self.write(registers.TABLE.offset, codes.astype("<u2").view("<u4"))
        self.set_register("TABLE_COUNT", table.size)
        self.set_register("ENTRY", 0)
        self.set_register("CTRL", registers.CTRL_START)

    def state(self) -> State:
        """What the sequencer does now."""
        names = ("STATUS", "FAULT_CODE", "FAULT_PC", "FAULT_INFO", "RESULT_COUNT")
        status, *fault, count = self._access.read(registers.offset("STATUS"), len(names)).tolist()
        flags = {
            "FAULT": registers.STATUS_FAULT,
            "RUNNING": registers.STATUS_BUSY,
            "DONE": registers.STATUS_DONE,
        }
        name = next((name for name, bit in flags.items() if status & bit), "IDLE")
        return State(name, count, (fault[0], fault[1], fault[2]))

    def wait(self, started: bool) -> State:
        """Look until the board is done, without holding it up for other clients.

        Args:
            started: this client has started the program: its watchdog is kept from running out.

        Raises:
            ScpiError: the waiting was broken off, or nothing begins.
        """
        pause_s, begun_s = _SHORTEST_PAUSE_S, time.monotonic()
        while True:
            state = self.state()
            early = started and time.monotonic() - begun_s < _START_S
            if state.name in ("DONE", "FAULT") or (state.name == "IDLE" and not early):
                return state
            if self._stopped():
                raise ScpiError(-365, "waiting for the program was broken off; it may still run")
            if time.monotonic() - begun_s > _KEPT_S:
                raise ScpiError(-365, f"it still runs after {_KEPT_S:g} s; PROGram:STATe? asks on")
            if started and state.name == "RUNNING":
                self.kick()
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, _LONGEST_PAUSE_S)

    def kick(self) -> None:
        """Restart the watchdog."""
        self.set_register("KICK", 0)

    def fault(self, state: State) -> str:
        """A latched fault in words; the rails are made safe, and the latch is cleared."""
        text = self.describe(state)
        self.safe()
        self.set_register("CTRL", registers.CTRL_CLEAR_FAULT)
        return text

    def describe(self, state: State) -> str:
        """A latched fault in words."""
        at = self.register("FAULT_TIME")
        code, pc, info = state.fault
        last = min(pc + 64, registers.PROGRAM.words)  # the longest instruction, and more
        words = self.read(registers.PROGRAM.offset, last)
        return fault_text(words, code, pc, info, at)

    def _run(self, program: Assembler, table: Codes | None = None) -> Codes:
        self.start(program.words(), np.zeros(0, dtype=np.uint16) if table is None else table)
        state = self.wait(started=True)
        if state.name == "FAULT":
            raise ScpiError(-240, self.fault(state))
        if state.name != "DONE":
            raise ScpiError(-240, f"the board did not start a program: it is {state.name}")
        return self.results(state)

    def results(self, state: State) -> Codes:
        """All 16-bit results of the last program."""
        words = self.read(registers.RESULTS.offset, -(-state.results // 2))
        return words.astype("<u4").view("<u2")[: state.results]

    def run(self, program: LineProgram, table: Codes, expected: int) -> Codes:
        """Run a program and fetch its results.

        Raises:
            ScpiError: a fault, or somebody stopped it.
        """
        self.prepare()
        found = self._run(program, table)
        if found.size != expected:
            raise ScpiError(-240, f"{found.size} results of {expected}: somebody stopped it")
        return found

    # ---- the array --------------------------------------------------------------------------

    def cell(self, row: int, col: int) -> float:
        """Conductance of a cell in siemens; inf beyond the least sensitive range.

        G = (I(+V) - I(-V)) / 2V, each averaged: the reading at zero input is in both, and cancels.
        All bit lines together, at a small voltage, tell how much the row loads its switch.
        """
        rows, read_v = np.array([row]), self.spec.read_voltage_v
        for tia_range in range(CELL_RANGE, -1, -1):
            volts = np.zeros((2, self.spec.cols))
            volts[0, col], volts[1] = read_v, self._probe_v(tia_range)
            both = np.concatenate([volts, -volts])
            amperes, ends = self._vectors(both, rows, tia_range, CELL_AVERAGE)
            if not ends:
                cell, loading = amperes.mean(0)[:, 0].reshape(2, 2).T
                siemens = (loading[0] - loading[1]) / (2 * volts[1, 0])
                return float((cell[0] - cell[1]) / (2 * read_v) * self._unloaded(siemens))
        return float("inf")

    def _probe_v(self, tia_range: int) -> float:
        """A voltage on all bit lines at which no row goes beyond the range."""
        spec = self.spec
        row_siemens = spec.cols * spec.conductance_max_siemens
        return min(spec.read_voltage_v, readout.FILL * spec.full_scale_a(tia_range) / row_siemens)

    def _unloaded(self, siemens: Any) -> Any:
        """Factor that undoes the switch of a source line, R, with its typical resistance.

        All bit lines are driven, so the other cells of a row hold its source line where their own
        bit lines are: of the row's conductance S, S' = S / (1 + R S) is seen, and of each cell's
        the same part. The factor is 1 + R S = 1 / (1 - R S').
        """
        return 1 / (1 - self.spec.mux_r_on_ohm * siemens)

    def array(self) -> npt.NDArray[np.float64]:
        """Conductances of all cells, (rows, cols), siemens, by one program.

        Freed of the switches' typical resistance; drops along lines are in them. Cells beyond the
        range for single cells are inf, and the rest of their rows is read low.
        """
        spec = self.spec
        step = np.eye(spec.cols) * spec.read_voltage_v
        rows = np.arange(spec.rows)
        amperes, _ = self._vectors(np.concatenate([step, -step]), rows, CELL_RANGE, ARRAY_AVERAGE)
        lsb_a = spec.current_lsb_a(CELL_RANGE)
        beyond = (np.abs(amperes) >= spec.full_scale_a(CELL_RANGE) - 2 * lsb_a).any(0)
        plus, minus = amperes.mean(0).reshape(2, spec.cols, spec.rows)
        g = ((plus - minus) / (2 * spec.read_voltage_v)).T
        g *= self._unloaded(g.sum(1, keepdims=True))
        g[beyond.reshape(2, spec.cols, spec.rows).any(0).T] = np.inf
        return np.asarray(g)

    def products(self, volts: Volts, tia_range: int | None) -> Amperes:
        """Currents of all source lines, I = V G^T, less those at zero input, by one program.

        Freed of the switches' typical resistance, which vectors of small voltages in front tell.

        Args:
            volts: across the cells, (n, cols).
            tia_range: 0 (least sensitive) to 3; None takes one that cells of the largest
                conductance of the board file cannot drive beyond its end.

        Returns:
            Amperes, (n, rows).

        Raises:
            ScpiError: too many vectors, a voltage beyond the read voltage, or a current beyond
                the range.
        """
        spec, rows = self.spec, np.arange(self.spec.rows)
        self._check_volts(volts)
        chosen = self._range(volts) if tia_range is None else tia_range
        while True:
            probe_v = self._probe_v(chosen)
            probes = np.full((PROBE_READS, spec.cols), probe_v)
            zeros = np.zeros((ZERO_READS, spec.cols))
            words = self._read(np.concatenate([zeros, probes, volts]), rows, chosen, 1)
            amperes, ends = readout.currents(words, spec, rows, chosen, zeros=ZERO_READS)
            if not ends:
                siemens = amperes[:PROBE_READS].mean(0) / probe_v
                return np.asarray(amperes[PROBE_READS:] * self._unloaded(siemens))
            if tia_range is not None or chosen == 0:
                top_a = spec.full_scale_a(chosen)
                raise ScpiError(-222, f"{ends} currents beyond range {chosen}, +-{top_a:.3g} A")
            chosen -= 1

    def most_vectors(self) -> int:
        """Vectors that one program can take, beside those of zero input."""
        results = readout.conversions(self.spec, np.arange(self.spec.rows))
        codes = MAX_TABLE_CODES // self.spec.cols
        return min(codes, 2 * registers.RESULTS.words // results) - FIRST_READS

    def _check_volts(self, volts: Volts) -> None:
        if len(volts) > self.most_vectors():
            raise ScpiError(-223, f"{len(volts)} vectors; one program: {self.most_vectors()}")
        limit_v = float(np.float32(self.spec.read_voltage_v))  # as the client can write it
        if not np.isfinite(volts).all():
            raise ScpiError(-222, f"{int((~np.isfinite(volts)).sum())} voltages are not finite")
        worst_v = float(volts.flat[np.abs(volts).argmax()])
        if abs(worst_v) > limit_v:
            read_v = self.spec.read_voltage_v
            raise ScpiError(-222, f"{worst_v:.4g} V is beyond +-{read_v:g} V (read voltage)")

    def _range(self, volts: Volts) -> int:
        top = self.spec.conductance_max_siemens
        largest_a = float(np.abs(volts).sum(1).max()) * top
        return readout.choose_range(self.spec, largest_a, self.spec.cols * top)

    def _vectors(
        self, volts: Volts, rows: npt.NDArray[np.int64], tia_range: int, average: int
    ) -> tuple[Amperes, int]:
        """Amperes (average, n, len(rows)), and how many conversions were at the range's end."""
        words = self._read(volts, rows, tia_range, average)
        amperes, ends = readout.currents(words, self.spec, rows, tia_range)
        return amperes.reshape(average, len(volts), len(rows)), ends

    def _read(
        self, volts: Volts, rows: npt.NDArray[np.int64], tia_range: int, average: int
    ) -> Codes:
        spec, program = self.spec, LineProgram(self.spec)
        codes = limits.codes_for(volts + spec.tia_bias_v, spec.bl_limit_v, READ_FULL_SCALE_V, "BL")
        program.open_for_reads(rows, tia_range)
        with program.loop(average):
            program.add(Op.PTR, value=0)
            program.read_vectors(len(volts), rows, tia_range)
        program.idle()
        expected = average * len(volts) * readout.conversions(spec, rows)
        return self.run(program, codes[:, program.bl.order].ravel(), expected)


def check_program(words: Words) -> None:
    """Refuse what is no program.

    Raises:
        InputError: names the word.
    """
    microcode.decode(words)
