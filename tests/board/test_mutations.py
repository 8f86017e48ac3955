"""Checked programs, spoilt in every field: the host refuses them, the device stops them, or they do
no harm, as a witness on the emulated board sees who knows nothing of either check.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from firmware_bridge import registers
from firmware_bridge.board_spec import TE_ON_BL, TE_ON_SL, BoardSpec
from firmware_bridge.dac_check import readback_program
from firmware_bridge.lines import LineProgram
from firmware_bridge.microcode import Op
from firmware_bridge.opening import opening_writes, start_program
from rram_host.board.check import check_program
from sim.board import EmulatedBoard
from tests.board.host_programs import host_program
from tests.sim.programs import CTRL_RESET, CTRL_START, DONE, put, register, small_spec

KINDS = ("set", "form", "reset", "read", "sweep", "round", "selftest", "safe", "wait")
POLARITIES = (TE_ON_BL, TE_ON_SL)
EACH = 10  # mutants of every field of every operation, a program
MOST_STEPS = 5_000
MV = 1e-3
FIELDS = {
    Op.DAC: {"op": (28, 4), "addr": (24, 4), "mask": (16, 8), "value": (0, 16)},
    Op.DACT: {"op": (28, 4), "addr": (24, 4), "mask": (16, 8), "value": (0, 16)},
    Op.DREAD: {"op": (28, 4), "addr": (24, 4), "mask": (16, 8), "value": (0, 16)},
    Op.NEXT: {"op": (28, 4), "value": (0, 28)},
    Op.LINES: {"op": (28, 4), "value": (0, 4)},
    Op.CONV: {"op": (28, 4), "value": (0, 5)},
}
WIDE = {"op": (28, 4), "value": (0, 28)}


def small(polarity: str) -> BoardSpec:
    rail_v = 3.7 if polarity == TE_ON_SL else 3.0
    return dataclasses.replace(small_spec(), polarity=polarity, sl_rail_v=rail_v)


def _program(kind: str, spec: BoardSpec) -> tuple[np.ndarray, np.ndarray]:
    if kind == "selftest":
        return readback_program(spec).words(), np.zeros(0, dtype=np.uint16)
    return host_program(kind, spec, few=True)


# ---- the witness ----------------------------------------------------------------------------


class Witness:
    """Sees every update of the lines and every pulse on a board without errors of its own.

    Attributes:
        harm: limits that were exceeded.
        device: those among them that the device's own limits are for.
    """

    def __init__(self, spec: BoardSpec, told: BoardSpec | None = None) -> None:
        self._told = told or spec  # whose limits the device is given
        self.spec, self.board = spec, EmulatedBoard("ideal", spec=spec, batched=False)
        self.bench, sequencer = self.board.bench, self.board._sequencer
        self.bench.stress = lambda *a: None  # cells do not matter here, and take time
        self.bench.convert = lambda select: np.zeros(spec.adcs, dtype=np.uint16)
        self.harm: set[str] = set()
        self.device: set[str] = set()
        self._before = (0.0, 0.0)
        sequencer.rails_moved = self._moved
        self._sequencer, self._plain_pulse = sequencer, sequencer._pulse
        sequencer._pulse = self._pulse

    def run(self, words: np.ndarray, table: np.ndarray) -> int:
        """Run a program right behind one that has just ended; STATUS behind it."""
        put(self.board, "CTRL", CTRL_RESET)
        self.harm, self.device, self._before = set(), set(), (0.0, 0.0)
        for address, told in opening_writes(self._told):
            self.board.write(address, told)
        idle = LineProgram(self.spec)
        idle.idle()
        for program in (start_program(self.spec).words(), idle.words()):
            self._start(program, np.zeros(0, dtype=np.uint16))
        assert not self.harm
        status = self._start(words, table)
        if status & DONE:
            self._ended()
        return status

    def _start(self, words, table) -> int:
        board = self.board
        memory = np.zeros(registers.PROGRAM.words - 256, dtype=np.uint32)
        memory[: words.size] = words
        board.write(registers.PROGRAM.offset, memory[: words.size + 64])
        codes = np.append(table, np.zeros(table.size % 2, dtype="<u2")).astype("<u2")
        if codes.size:
            board.write(registers.TABLE.offset, codes.view("<u4"))
        put(board, "TABLE_COUNT", table.size)
        put(board, "CTRL", CTRL_START)
        return register(board, "STATUS")

    def _lines(self):
        """Bit lines, word lines, and source lines as they are when closed (nan open)."""
        bench = self.bench
        enabled, bench.enable = bench.enable, True
        source = bench.source_volts()
        bench.enable = enabled
        return bench.bl_volts(), bench.wl_volts(), source

    def _moved(self) -> None:
        spec, (bl, wl, source) = self.spec, self._lines()
        if bl.max() > spec.bl_limit_v + MV or wl.max() > spec.wl_limit_v + MV:
            self.harm.add("line above its limit")
            self.device.add("line above its limit")
        if not self.bench.enable:
            was_bl, was_wl = self._before
            if bl.max() == 0 and was_bl > 0 and was_wl > 0:
                self.harm.add("bit lines fell before gates")
        for row in np.flatnonzero((wl > 0) & ~np.isnan(source)) if self.bench.enable else ():
            self._held(bl, wl[row], source[row])
        self._before = bl.max(), wl.max()

    def _held(self, bl, gate: float, source: float) -> None:
        """One row whose switch is closed and whose gate is open, outside a pulse."""
        spec, p = self.spec, self.spec.pulses
        across = np.abs(bl - source).max()
        most = 1.1 * spec.read_voltage_v if source == spec.tia_bias_v else spec.half_select_limit_v
        overdrive = gate - min(source, bl.min()) - p.set_wl_offset_v
        if overdrive * p.set_wl_slope_siemens_per_v <= spec.conductance_max_siemens + 1e-7:
            most = spec.tia_bias_v + spec.read_voltage_v
        if across > most + MV:
            self.harm.add("cell held at a voltage")

    def _pulse(self, item, run) -> None:
        waited = self.board.clock.cycles - self._sequencer.last_update
        bl, wl, source = self._lines()
        self._plain_pulse(item, run)  # raises where the device refuses
        spec = self.spec
        if item.value * 1e-8 > spec.pulse_limit_s:
            self.harm.add("pulse too long")
            self.device.add("pulse too long")
        across = np.where((wl > 0)[:, None], bl - source[:, None], 0.0)
        floating = (wl > 0) & np.isnan(source)
        if floating.any() and np.ptp(bl) > spec.half_select_limit_v + MV:
            self.harm.add("floating row between bit lines")
        across = np.nan_to_num(across)
        amplified = np.abs(across[source == spec.tia_bias_v])
        if amplified.size and amplified.max() > 1.1 * spec.read_voltage_v + MV:
            self.harm.add("amplifier pulsed")
        hit = np.abs(across) > spec.half_select_limit_v + MV
        sets = hit & ((across > 0) == (spec.polarity == TE_ON_BL))
        resets = hit & ~sets
        wrong = sets.any(0).sum() > 1 or resets.any(1).sum() > 1 or (sets.any() and resets.any())
        if wrong:
            self.harm.add("cells pulsed together")
        if hit.any() and waited * 1e-8 > 51e-6:
            self.harm.add("lines waited for their pulse")

    def _ended(self) -> None:
        bl, wl, source = self._lines()
        dacs = self.bench.dacs
        held = self.bench.enable and np.nan_to_num(source).any()
        if held or bl.any() or wl.any() or any(any(dac.buffer) for dac in dacs):
            self.harm.add("not idle at the end")
        if any(dac.sync != 0x00FF or dac.config for dac in dacs):
            self.harm.add("registers changed")


# ---- mutants --------------------------------------------------------------------------------


def _spoilt(word: int, low: int, width: int, rng: np.random.Generator) -> int:
    """One field of a word with a bit flipped, or, one time in three, another value."""
    mask = (1 << width) - 1
    old = word >> low & mask
    new = (
        int(rng.integers(mask + 1)) if rng.random() < 1 / 3 else old ^ 1 << int(rng.integers(width))
    )
    return word & ~(mask << low) | new << low


def _places(words: np.ndarray) -> dict[tuple[str, str], list[tuple[int, int, int]]]:
    """Word, lowest bit and width of every field, by operation and field."""
    found: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
    pc = 0
    while pc < words.size:
        op = Op(int(words[pc]) >> 28)
        for name, (low, width) in FIELDS.get(op, WIDE).items():
            found.setdefault((op.name, name), []).append((pc, low, width))
        n_data = -(-(int(words[pc]) & 0xFFF_FFFF) // 32) if op is Op.SHIFT else 0
        for k in range(n_data):
            found.setdefault(("SHIFT", "data"), []).append((pc + 1 + k, 24, 8))
        pc += 1 + n_data
    return found


def mutants(words: np.ndarray, table: np.ndarray, rng: np.random.Generator):
    """(operation, field), words, table."""
    for which, places in _places(words).items():
        for _ in range(EACH):
            place, low, width = places[rng.integers(len(places))]
            other = words.copy()
            other[place] = _spoilt(int(words[place]), low, width, rng)
            yield which, other, table
    for _ in range(EACH * 3 if table.size else 0):
        codes = table.copy()
        place = rng.integers(table.size)
        codes[place] = _spoilt(int(table[place]), 0, 16, rng)
        yield ("TABLE", "code"), words, codes
    for _ in range(EACH if table.size else 0):
        yield ("TABLE", "length"), words, table[: rng.integers(table.size)]


def _steps(words: np.ndarray) -> int:
    """Instructions that a program executes, at most: every loop with its turns."""
    steps, turns, pc = 0, [1], 0
    while pc < words.size:
        op, value = int(words[pc]) >> 28, int(words[pc]) & 0xFFF_FFFF
        if op == Op.LOOP:
            turns.append(turns[-1] * value)
        elif op == Op.NEXT and turns[1:]:
            turns.pop()
        steps += turns[-1]
        pc += 1 + (-(-value // 32) if op == Op.SHIFT and value <= 1024 else 0)
    return steps


@dataclasses.dataclass
class Tally:
    """How mutants were met."""

    refused: Counter = dataclasses.field(default_factory=Counter)  # by the host, by rule
    faulted: Counter = dataclasses.field(default_factory=Counter)  # by the device as well, by code
    needed: Counter = dataclasses.field(default_factory=Counter)  # refused, and harmful if run
    fields: Counter = dataclasses.field(default_factory=Counter)
    harmless: int = 0
    strict: int = 0  # refused, though they do no harm
    same: int = 0
    long: int = 0  # loops of so many turns that they are not run
    left: list = dataclasses.field(default_factory=list)


def _meet(witness: Witness, kind: str, seed: int, tally: Tally) -> None:
    spec = witness.spec
    words, table = _program(kind, spec)
    whole = check_program(words, table, spec)
    assert whole.passed
    for which, other, codes in mutants(words, table, np.random.default_rng(seed)):
        if np.array_equal(other, words) and np.array_equal(codes, table):
            tally.same += 1
            continue
        tally.fields[which] += 1
        found = check_program(other, codes, spec)
        if _steps(other) > MOST_STEPS:
            tally.long += 1
            if found.passed and found.pulse_count > whole.pulse_count:
                tally.left.append((kind, which, "long"))
            continue
        status = witness.run(other, codes)
        stopped = bool(status) and not status & DONE
        if stopped:
            tally.faulted[register(witness.board, "FAULT_CODE")] += 1
            # before the rail moved: nothing that the device has a limit for was exceeded
            if witness.device:
                tally.left.append((kind, which, "device", witness.device))
        if not found.passed:
            tally.refused[found.violations[0].rule] += 1
            if not stopped:
                tally.strict += not witness.harm
                tally.needed.update(witness.harm)
        elif stopped or witness.harm:
            tally.left.append((kind, which, status, witness.harm))
        else:
            tally.harmless += 1


@pytest.mark.parametrize("polarity", POLARITIES)
def test_no_mutant_gets_past_host_and_device_and_does_harm(polarity):
    spec, tally = small(polarity), Tally()
    witness = Witness(spec)
    for seed, kind in enumerate(KINDS):
        _meet(witness, kind, seed, tally)
    assert tally.left == []
    # every field of every operation, and enough of each kind of end that this says something
    assert {op for op, _ in tally.fields} == {*Op.__members__, "TABLE"} - {"MARK"}
    assert min(tally.fields.values()) >= EACH - 3
    assert sum(tally.refused.values()) > 1200
    assert len(tally.refused) >= 20
    assert sum(tally.faulted.values()) > 800  # by the device too, with nothing beyond its limits
    assert tally.harmless > 400
    # what the device would have done, and the host alone keeps from happening
    assert sum(tally.needed.values()) > 250
    assert set(tally.needed) >= {
        "not idle at the end",
        "floating row between bit lines",
        "bit lines fell before gates",
        "cell held at a voltage",
        "cells pulsed together",
        "amplifier pulsed",
        "lines waited for their pulse",
    }


def test_the_witness_sees_harm():
    """A pulse on two columns and one that is too long, on a device whose limits are open."""
    spec = small(TE_ON_BL)
    wide = dataclasses.replace(spec, pulse_limit_s=1.0, bl_limit_v=4.9)
    witness = Witness(spec, wide)
    words, table = _program("set", spec)
    assert np.count_nonzero(table[: spec.cols]) == 1
    together = table.copy()
    together[: spec.cols] = 64_000  # 4.88 V on every bit line
    assert witness.run(words, together) & DONE
    assert witness.harm == {"line above its limit", "cells pulsed together"}
    longer = words.copy()
    place = int(np.flatnonzero(words >> 28 == Op.PULSE)[0])
    longer[place] = int(Op.PULSE) << 28 | 200_000
    assert witness.run(longer, table) & DONE
    assert witness.harm == witness.device == {"pulse too long"}
