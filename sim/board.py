"""EmulatedBoard: the whole board behind the register window, opened by sim:// URLs."""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable, Sequence
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
from sim import faults, presets, snapshot
from sim.batched import BatchedSequencer
from sim.bench import Bench
from sim.clock import Clock
from sim.control import Control, RailEvent
from sim.sequencer import Sequencer
from sim.wall import Pace

Words = npt.NDArray[np.uint32]
# What the board tells by itself: status, faults, counters, clock.
_KEYS = ("preset", "seed", "state", "spec", "fault", "pace")
_TOLD = [r.offset // 4 for r in registers.REGISTERS if r.access == "ro"]


@dataclass(frozen=True)
class Truth:
    """What only an emulated board can tell; for tests and tools, never for drivers.

    Attributes:
        conductances_siemens: what the cells hold now, (rows, cols).
        pulses: pulses that each cell has seen, (rows, cols).
        worn: cells that have failed after many cycles, and hold one conductance, (rows, cols).
        rails_v: voltage of every line by name: BLc, WLr, SLr (nan = open), TIA_BIAS, SL_RAIL.
        live: whether a program runs, or the rails are not safe; the bit of STATUS.
        written_s: when the last write was over, in seconds of the board's wall clock.
        safe_since_s: when the board last ceased to be live, on the same clock; None while it is.
    """

    conductances_siemens: npt.NDArray[np.float64]
    pulses: npt.NDArray[np.int64]
    worn: npt.NDArray[np.bool_]
    rails_v: dict[str, float]
    live: bool
    written_s: float
    safe_since_s: float | None


class EmulatedBoard:
    """A board without hardware: a Transport whose registers have physics behind them.

    Args:
        preset: name of a parameter set (sim/presets), or a path to one.
        seed: same seed, same board and same noise.
        spec: how the board is wired; default boards/zc706.toml.
        defects: faults to put in, as in a URL; see sim/faults.py.
        state: file that keeps cells and noise between runs; read if it exists, written by `close`.
        batched: False runs the scalar reference interpreter.
        pace: board seconds per wall second (0.1: ten times slower than silicon). START then
            returns at once, and the program runs in the reference interpreter, as far as wall time
            has come, whenever somebody looks. None: a program takes no wall time at all. In both,
            board time stands still between programs.
        wall: the clock on the wall, in seconds; the watchdog goes by it, too.

    Several threads may use a board at the same time.

    Raises:
        InputError: unknown preset, bad seed or pace, or a state file that is not one of this
            preset.
    """

    def __init__(
        self,
        preset: str = "taox_180nm",
        seed: int = 0,
        spec: BoardSpec | None = None,
        state: str | Path | None = None,
        batched: bool = True,
        defects: str = "",
        pace: float | None = None,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 <= int(seed) < 2**63:
            raise InputError(f"seed {seed} is outside 0..2^63-1")
        self.preset, self.seed = presets.load(preset), int(seed)
        self.spec = spec or board_spec.load()
        self._rng = np.random.default_rng(self.seed)
        self.clock = Clock()
        self.bench = Bench(self.spec, self.preset, self._rng)
        self._lock, self._wall = threading.RLock(), wall
        whole = batched and pace is None
        self._sequencer = (BatchedSequencer if whole else Sequencer)(self.bench, self.clock)
        fixed = {
            "CONTRACT_HASH": contract_hash(),
            "GEOMETRY": self.spec.rows << 16 | self.spec.cols,
            "CONVERTERS": self.spec.dac_chips << 16 | self.spec.adcs,
        }
        self._control = Control(
            self.bench, self._sequencer, Pace(wall, pace), fixed, self._pulsed, log=not whole
        )
        self._words = self._control.words
        self._state = Path(state) if state else None
        if self._state and not self._state.parent.is_dir():
            raise InputError(f"{self._state}: there is no folder {self._state.parent}")
        if self._state and not os.access(self._state.parent, os.W_OK):
            raise InputError(f"{self._state}: folder {self._state.parent} cannot be written to")
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
        with self._lock:
            self._control.catch_up(self._wall())
            return self._words[start : start + count].copy()

    def write(self, address: int, words: Words) -> None:
        """Write words; a write to CTRL acts at once, and every write restarts the watchdog."""
        words = np.ascontiguousarray(words, dtype=np.uint32).ravel()
        start = self._check(address, words.size)
        with self._lock:
            now_s = self._wall()
            self._control.catch_up(now_s)
            self._control.write(start, words, now_s)
            self._control.wrote(self._wall())

    def close(self) -> None:
        """Switch off, and save the state, where the board has a file for it.

        The safe program comes to its end first, any other is broken off after the instruction at
        hand.
        """
        with self._lock:
            self._control.catch_up(self._wall())
            self._control.finish_safe()
            self._control.break_off()
            if self._state:
                self._save(self._state)

    def _pulsed(self) -> None:
        """A chip keeps what was done to it, whatever becomes of a host."""
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

    # ---- truth and state --------------------------------------------------------------------

    @property
    def truth(self) -> Truth:
        """What the board really holds now. Looking changes nothing, not even later noise."""
        with self._lock:
            control = self._control
            control.catch_up(self._wall())
            cells = copy.deepcopy(self.bench.cells)
            cells.age(self.clock.now_s, exactly=True)
            return Truth(
                conductances_siemens=cells.g,
                pulses=cells.pulses,
                worn=cells.worn,
                rails_v=self.bench.rails_v(),
                live=control.safe_since_s is None,
                written_s=control.written_s,
                safe_since_s=control.safe_since_s,
            )

    @property
    def rail_log(self) -> Sequence[RailEvent]:
        """The last 4096 movements of the rails, as the reference interpreter has seen them.

        Empty on a board whose programs run batched.
        """
        with self._lock:
            self._control.catch_up(self._wall())
            return tuple(self._control.rail_log)

    def snapshot(self) -> bytes:
        """All that decides the future: cells, noise, generators, clock, parts, counters.

        What the host writes before each program (program, table, limits, entries) is not in it.
        Exact port matrices are found anew afterwards, here as on a board that takes it over, so
        that both round alike. The safe program, where it runs, comes to its end first.

        Raises:
            InputError: another program is under way.
        """
        with self._lock:
            self._stand_still("a snapshot")
            self.bench.forget()
            parts = snapshot.parts(self.bench, self._sequencer)
            return self._packed({"parts": parts, "control": self._control.told()})

    def _stand_still(self, what: str) -> None:
        self._control.catch_up(self._wall())
        self._control.finish_safe()
        if self._control.under_way:
            raise InputError(f"{what} while a program runs: wait for its end, or stop it with SAFE")

    def restore(self, blob: bytes) -> None:
        """Take over a snapshot: what comes then is what would have come there, to the bit.

        Raises:
            InputError: damaged, or of a board of another preset, seed or geometry; or a program is
                under way.
        """
        with self._lock:
            self._stand_still("a snapshot to be taken over")
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
                    self._control.put_back(meta["control"]["left_safe"], self._wall())
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
            self._control.show_clock(0)

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
    """Open `sim://?preset=NAME&seed=N&state=FILE&spec=BOARD&fault=FAULTS&pace=P`, all optional.

    Raises:
        InputError: unknown key, or a value that is not what it should be.
    """
    parts = urlsplit(url)
    if parts.netloc or parts.path.strip("/"):
        raise InputError(f"{url}: a simulated board is sim://?key=value, e.g. sim://?seed=7")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = set(query) - set(_KEYS)
    if unknown:
        raise InputError(f"{url}: unknown key {sorted(unknown)[0]!r}; known: {', '.join(_KEYS)}")
    try:
        seed = int(query.get("seed", "0"))
    except ValueError:
        raise InputError(f"{url}: seed {query['seed']!r} is not a whole number") from None
    try:
        pace = float(query["pace"]) if "pace" in query else None
    except ValueError:
        raise InputError(f"{url}: pace {query['pace']!r} is not a number") from None
    return EmulatedBoard(
        preset=query.get("preset", "taox_180nm"),
        seed=seed,
        spec=board_spec.load(query["spec"]) if "spec" in query else None,
        state=query.get("state") or None,
        defects=query.get("fault", ""),
        pace=pace,
    )
