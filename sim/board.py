"""EmulatedBoard: the whole board behind the register window, opened by sim:// URLs."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import numpy.typing as npt

from firmware_bridge import board_spec, registers
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.contract import contract_hash
from firmware_bridge.errors import InputError
from firmware_bridge.microcode import Fault
from sim import faults, presets, snapshot
from sim.batched import BatchedSequencer
from sim.bench import Bench
from sim.clock import Clock
from sim.sequencer import Run, Sequencer

Words = npt.NDArray[np.uint32]
_R = {name: r.offset // 4 for name, r in registers.BY_NAME.items()}
_REGISTERS_END = max(_R.values()) + 1
_MEMORIES = [(m.offset // 4, m.end // 4) for m in (registers.PROGRAM, registers.TABLE)]
_WRITABLE = {r.offset // 4 for r in registers.REGISTERS if r.access == "rw"}
# What the board tells by itself: status, faults, counters, clock.
_TOLD = [r.offset // 4 for r in registers.REGISTERS if r.access == "ro"]


@dataclass(frozen=True)
class Truth:
    """What only an emulated board can tell; for tests and tools, never for drivers.

    Attributes:
        conductances_siemens: what the cells hold now, (rows, cols).
        pulses: pulses that each cell has seen, (rows, cols).
        worn: cells that have failed after many cycles, and hold one conductance, (rows, cols).
        rails_v: voltage of every line by name: BLc, WLr, SLr (nan = open), TIA_BIAS, SL_RAIL.
    """

    conductances_siemens: npt.NDArray[np.float64]
    pulses: npt.NDArray[np.int64]
    worn: npt.NDArray[np.bool_]
    rails_v: dict[str, float]


class EmulatedBoard:
    """A board without hardware: a Transport whose registers have physics behind them.

    Args:
        preset: name of a parameter set (sim/presets), or a path to one.
        seed: same seed, same board and same noise.
        spec: how the board is wired; default boards/zc706.toml.
        defects: faults to put in, as in a URL; see sim/faults.py.
        state: file that keeps cells and noise between runs; read if it exists, written by `close`.
        batched: False runs the scalar reference interpreter.

    Raises:
        InputError: unknown preset, bad seed, or a state file that is not one of this preset.
    """

    def __init__(
        self,
        preset: str = "taox_180nm",
        seed: int = 0,
        spec: BoardSpec | None = None,
        state: str | Path | None = None,
        batched: bool = True,
        defects: str = "",
    ) -> None:
        if not 0 <= int(seed) < 2**63:
            raise InputError(f"seed {seed} is outside 0..2^63-1")
        self.preset, self.seed = presets.load(preset), int(seed)
        self.spec = spec or board_spec.load()
        self._rng = np.random.default_rng(self.seed)
        self.clock = Clock()
        self.bench = Bench(self.spec, self.preset, self._rng)
        self._sequencer = (BatchedSequencer if batched else Sequencer)(self.bench, self.clock)
        self._limits_kept = b"", np.zeros(0, dtype=np.int64)
        self._words = np.zeros(registers.WINDOW_BYTES // 4, dtype=np.uint32)
        self._state = Path(state) if state else None
        if self._state and not self._state.parent.is_dir():
            raise InputError(f"{self._state}: there is no folder {self._state.parent}")
        if self._state and not os.access(self._state.parent, os.W_OK):
            raise InputError(f"{self._state}: folder {self._state.parent} cannot be written to")
        self._power_up_registers()
        if self._state and self._state.exists():
            self._load(self._state)
        self.inject(defects)

    def inject(self, text: str) -> None:
        """Put defects in, now and for good: `open_wl:7,adc_gain:2:0.9`.

        Raises:
            InputError: unknown fault, or a place that the board has not.
        """
        for fault in faults.parse(text):
            faults.install(self.bench, fault)

    # ---- Transport --------------------------------------------------------------------------

    def read(self, address: int, count: int) -> Words:
        """Read `count` words from byte offset `address`."""
        start = self._check(address, count)
        return self._words[start : start + count].copy()

    def write(self, address: int, words: Words) -> None:
        """Write words; a write to CTRL acts at once."""
        words = np.ascontiguousarray(words, dtype=np.uint32).ravel()
        start = self._check(address, words.size)
        end = start + words.size
        for first, last in _MEMORIES:
            low, high = max(start, first), min(end, last)
            if low < high:
                self._words[low:high] = words[low - start : high - start]
        for index in range(start, min(end, _REGISTERS_END)):
            word = int(words[index - start])
            if index in _WRITABLE:
                self._words[index] = word
            elif index == _R["CTRL"]:
                self._control(word)

    def close(self) -> None:
        """Save the state, where the board has a file for it."""
        if self._state:
            self._save(self._state)

    def _check(self, address: int, count: int) -> int:
        if address % 4 or address < 0 or count < 0:
            raise InputError(f"address {address:#x} is not a multiple of 4 inside the window")
        if address + 4 * count > registers.WINDOW_BYTES:
            raise InputError(
                f"{count} words at {address:#x} end beyond the window of "
                f"{registers.WINDOW_BYTES:#x} bytes"
            )
        return address // 4

    # ---- registers --------------------------------------------------------------------------

    def _power_up_registers(self) -> None:
        for register in registers.REGISTERS:
            self._words[register.offset // 4] = register.reset
        self._words[_R["CONTRACT_HASH"]] = contract_hash()
        self._words[_R["GEOMETRY"]] = self.spec.rows << 16 | self.spec.cols
        self._words[_R["CONVERTERS"]] = self.spec.dac_chips << 16 | self.spec.adcs
        self._show_clock(0)

    def _show_clock(self, run_cycles: int) -> None:
        for name, value in (("CYCLES", self.clock.cycles), ("RUN_CYCLES", run_cycles)):
            self._words[_R[f"{name}_LO"]] = value & 0xFFFF_FFFF
            self._words[_R[f"{name}_HI"]] = value >> 32 & 0xFFFF_FFFF

    def _control(self, word: int) -> None:
        if word & registers.CTRL_RESET:
            self.bench.power_up()
            self._sequencer.power_up()
            self._power_up_registers()
        if word & registers.CTRL_CLEAR_FAULT:
            for name in ("STATUS", "FAULT_CODE", "FAULT_PC", "FAULT_INFO", "FAULT_TIME"):
                self._words[_R[name]] = 0
        if word & registers.CTRL_SAFE:
            kept = self._words[_R["STATUS"]] & registers.STATUS_FAULT
            self._start(int(self._words[_R["SAFE_ENTRY"]]))
            self._words[_R["STATUS"]] |= kept
        elif word & registers.CTRL_START and not self._faulted():
            self._start(int(self._words[_R["ENTRY"]]))

    def _faulted(self) -> bool:
        """A latched fault must be cleared before anything but SAFE runs."""
        return bool(self._words[_R["STATUS"]] & registers.STATUS_FAULT)

    def _memory(self, memory: registers.Memory) -> Words:
        return self._words[memory.offset // 4 : memory.end // 4]

    def _limits(self) -> npt.NDArray[np.int64]:
        """The limit registers; the same array as long as they are the same."""
        first = registers.LIMITS_OFFSET // 4
        now = self._words[first : first + registers.N_LIMITS].tobytes()
        if now != self._limits_kept[0]:
            self._limits_kept = now, np.frombuffer(now, dtype=np.uint32).astype(np.int64)
        return self._limits_kept[1]

    def _start(self, entry: int) -> None:
        table = self._memory(registers.TABLE).view("<u2")
        run = Run(
            table=table[: int(self._words[_R["TABLE_COUNT"]])],
            limits=self._limits(),
            results=self._memory(registers.RESULTS).view("<u2"),
        )
        before = self.clock.cycles
        self._sequencer.run(self._memory(registers.PROGRAM), entry, run)
        self._show_clock(self.clock.cycles - before)
        self._words[_R["RESULT_COUNT"]] = run.n_results
        self._words[_R["LAST_MARK"]] = run.mark
        self._words[_R["PULSE_COUNT"]] += np.uint32(run.pulses)
        self._finish(run)
        if self._state and run.pulses:
            self._save(self._state)  # a chip keeps what was done to it, whatever becomes of a host

    def _finish(self, run: Run) -> None:
        status = registers.STATUS_DONE if run.fault is Fault.NONE else registers.STATUS_FAULT
        if run.fault is not Fault.NONE:
            self._words[_R["FAULT_CODE"]] = int(run.fault)
            self._words[_R["FAULT_PC"]] = run.fault_pc
            self._words[_R["FAULT_INFO"]] = run.fault_info & 0xFFFF_FFFF
            self._words[_R["FAULT_TIME"]] = min(run.fault_cycles, 0xFFFF_FFFF)
            self.bench.enable = False
        self._words[_R["STATUS"]] = status

    # ---- truth and state --------------------------------------------------------------------

    @property
    def truth(self) -> Truth:
        """What the board really holds now. Looking changes nothing, not even later noise."""
        cells = copy.deepcopy(self.bench.cells)
        cells.age(self.clock.now_s, exactly=True)
        return Truth(cells.g, cells.pulses, cells.worn, self.bench.rails_v())

    def snapshot(self) -> bytes:
        """All that decides the future: cells, noise, generators, clock, parts, counters.

        What the host writes before each program (program, table, limits, entries) is not in it.
        Exact port matrices are found anew afterwards, here as on a board that takes it over, so
        that both round alike.
        """
        self.bench.forget()
        return self._packed({"parts": snapshot.parts(self.bench, self._sequencer)})

    def restore(self, blob: bytes) -> None:
        """Take over a snapshot: what comes then is what would have come there, to the bit.

        Raises:
            InputError: damaged, or of a board of another preset, seed or geometry.
        """
        self._put_back(blob, "this snapshot", with_parts=True)

    def _packed(self, more: dict[str, Any]) -> bytes:
        told = [int(self._words[index]) for index in _TOLD]
        meta = {
            **{"preset": self.preset.name, "seed": self.seed, "cycles": self.clock.cycles},
            **{"rng": self._rng.bit_generator.state, "seed_of_noise": int(self.bench.seed[0])},
            "registers": told,
        }
        return snapshot.pack({**meta, **more}, self.bench.state())

    def _put_back(self, blob: bytes, what: str, with_parts: bool) -> None:
        try:
            meta, cells = snapshot.unpack(blob)
            preset, seed = meta["preset"], meta["seed"]
            if (preset, seed) == (self.preset.name, self.seed):
                self.bench.restore(cells)
                self.bench.seed[0] = meta["seed_of_noise"]
                self._rng.bit_generator.state = meta["rng"]
                self.clock.cycles = int(meta["cycles"])
                if with_parts:
                    snapshot.put_parts(self.bench, self._sequencer, meta["parts"])
                    self._words[_TOLD] = meta["registers"]
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise InputError(
                f"{what} is not the state of an emulated board of this geometry: {error}"
            ) from None
        if (preset, seed) != (self.preset.name, self.seed):
            raise InputError(
                f"{what} holds a board of preset {preset}, seed {seed}; asked for "
                f"preset {self.preset.name}, seed {self.seed}"
            )
        self.bench.forget()
        if not with_parts:
            self._show_clock(0)

    def _save(self, path: Path) -> None:
        temporary = path.with_name(path.name + ".tmp")
        try:
            temporary.write_bytes(self._packed({}))
            temporary.replace(path)
        except OSError as error:
            raise InputError(f"{path}: the state of the board cannot be kept: {error}") from None

    def _load(self, path: Path) -> None:
        try:
            blob = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} is not the state of an emulated board: {error}") from None
        self._put_back(blob, str(path), with_parts=False)


def open_url(url: str) -> EmulatedBoard:
    """Open `sim://?preset=NAME&seed=N&state=FILE&spec=BOARD&fault=FAULTS`; all keys are optional.

    Raises:
        InputError: unknown key, or a value that is not what it should be.
    """
    parts = urlsplit(url)
    if parts.netloc or parts.path.strip("/"):
        raise InputError(f"{url}: a simulated board is sim://?key=value, e.g. sim://?seed=7")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = set(query) - {"preset", "seed", "state", "spec", "fault"}
    if unknown:
        raise InputError(
            f"{url}: unknown key {sorted(unknown)[0]!r}; known: preset, seed, state, spec, fault"
        )
    try:
        seed = int(query.get("seed", "0"))
    except ValueError:
        raise InputError(f"{url}: seed {query['seed']!r} is not a whole number") from None
    return EmulatedBoard(
        preset=query.get("preset", "taox_180nm"),
        seed=seed,
        spec=board_spec.load(query["spec"]) if "spec" in query else None,
        state=query.get("state") or None,
        defects=query.get("fault", ""),
    )
