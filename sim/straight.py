"""Stretches of a program that always do the same: remembered by what they start from.

A program is mostly moves of lines with the switches open: registers, codes, latches, waits, the
shift register. Nothing analog depends on when they happen, so what such a stretch leaves behind
follows from the digital state before it, the limits, and how long ago the last events were. It is
run by the reference once, and its outcome is put in place from then on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from firmware_bridge.chips import dac80508
from firmware_bridge.microcode import Instruction, Op

if TYPE_CHECKING:
    from sim.bench import Bench
    from sim.run import Run
    from sim.sequencer import Sequencer

_STRAIGHT = frozenset({Op.DAC, Op.WAIT, Op.SHIFT, Op.MARK, Op.PTR})
_SHORTEST = 4  # below this, remembering costs more than running
MOST_OUTCOMES = 64


@dataclass
class Stretch:
    """Instructions `start` to `end` of a program, with what they have been seen to do."""

    start: int
    end: int
    pointer: int | None  # where the table pointer and the mark are left, if it moves them
    mark: int | None
    overwritten: dict[int, frozenset[int]]  # channels by chip whose codes leave no trace
    outcomes: dict[object, tuple[Any, ...]] = field(default_factory=dict)


def stretches(program: list[Instruction | None]) -> dict[int, Stretch]:
    """Stretches of a program by where they start; each begins by opening the switches."""
    found: dict[int, Stretch] = {}
    start = -1
    for index, item in enumerate(program):
        # power-down, CRC mode and the like are left to the reference
        configures = item is not None and item.op is Op.DAC and item.addr == dac80508.CONFIG
        opens = item is not None and item.op is Op.LINES and not item.value & 1
        if start >= 0 and not (
            opens or (item is not None and item.op in _STRAIGHT and not configures)
        ):
            if index - start >= _SHORTEST:
                inside = [i for i in program[start:index] if i is not None]
                pointer, mark = _last(inside, Op.PTR), _last(inside, Op.MARK)
                found[start] = Stretch(start, index, pointer, mark, _overwritten(inside))
            start = -1
        elif opens and start < 0:
            start = index
    return found


def _last(items: list[Instruction], op: Op) -> int | None:
    values = [item.value for item in items if item.op is op]
    return values[-1] if values else None


def _overwritten(items: list[Instruction]) -> dict[int, frozenset[int]]:
    """Channels, by chip, that get a new code, in a stretch that only writes codes and latches."""
    writes = [item for item in items if item.op is Op.DAC]
    latch = (dac80508.TRIGGER, dac80508.TRIGGER_LDAC)
    if any(item.addr < dac80508.DAC0 and (item.addr, item.value) != latch for item in writes):
        return {}
    coded = [item for item in writes if item.addr >= dac80508.DAC0]
    return {
        chip: frozenset(item.addr - dac80508.DAC0 for item in coded if item.mask >> chip & 1)
        for chip in range(8)
    }


def starting_point(
    seq: Sequencer,
    run: Run,
    horizon: int,
    overwritten: dict[int, frozenset[int]] | None = None,
) -> object | None:
    """What the outcome of a stretch depends on; None where it is not to be remembered.

    Args:
        seq: the interpreter.
        run: the run; its limits are part of the starting point.
        horizon: cycles after which an event is forgotten.
        overwritten: of the stretch.
    """
    bench, now = seq.bench, seq.clock.cycles
    if any(dac.config for dac in bench.dacs):
        return None
    ages = tuple(
        min(now - moment, horizon) for moment in (seq.last_update, seq.last_shift, *seq.last_reset)
    )
    lost = overwritten if overwritten and _unmoved_within_limits(bench, run) else {}
    return _digital(bench, lost), ages, bench.oe, bench.tia_range, run.limits.tobytes()


def _unmoved_within_limits(bench: Bench, run: Run) -> bool:
    """No code waits for a latch, and none is above its limit: a latch then moves nothing."""
    if any(dac.buffer != dac.active for dac in bench.dacs):
        return False
    codes = bench.active_codes()
    return bool((codes * bench.full_scales_v() <= run.limits[: codes.size] * 5.0).all())


def _digital(bench: Bench, lost: dict[int, frozenset[int]] | None = None) -> tuple[Any, ...]:
    """The digital state, without codes of channels in `lost`."""
    dacs: list[int] = []  # flat: nested tuples take several times as long to build and to compare
    for chip, dac in enumerate(bench.dacs):
        if lost:
            dacs += [-1 if c in lost[chip] else code for c, code in enumerate(dac.active)]
        else:
            dacs += dac.buffer
            dacs += dac.active
        dacs += (dac.sync, dac.gain, dac.broadcast, dac.pending)
    chain = bench.chain
    return tuple(dacs), chain.shift.tobytes(), chain.storage.tobytes(), bench.latched


def outcome(seq: Sequencer, begun: int) -> tuple[Any, ...]:
    """What a stretch that began at cycle `begun` has left behind."""
    moments = (seq.last_update, seq.last_shift, *seq.last_reset)
    since = tuple(moment - begun if moment >= begun else None for moment in moments)
    lines = (seq.bench.oe, seq.bench.tia_range)
    return _digital(seq.bench), since, lines, seq.clock.cycles - begun


def put_in_place(seq: Sequencer, known: tuple[Any, ...]) -> None:
    """Leave behind what a stretch is known to leave."""
    (dacs, shift, storage, latched), since, (oe, tia_range), cycles = known
    bench, begun = seq.bench, seq.clock.cycles
    n = dac80508.N_CHANNELS
    for start, dac in zip(range(0, len(dacs), 2 * n + 4), bench.dacs, strict=True):
        dac.buffer[:] = dacs[start : start + n]
        dac.active[:] = dacs[start + n : start + 2 * n]
        rest = dacs[start + 2 * n : start + 2 * n + 4]
        dac.sync, dac.gain, dac.broadcast, dac.pending = rest
    bench.chain.shift = np.frombuffer(shift, dtype=np.uint8).copy()
    bench.chain.storage = np.frombuffer(storage, dtype=np.uint8).copy()
    bench.latched, bench.enable, bench.oe, bench.tia_range = latched, False, oe, tia_range
    moments = [seq.last_update, seq.last_shift, *seq.last_reset]
    after = [
        moment if passed is None else begun + passed
        for moment, passed in zip(moments, since, strict=True)
    ]
    seq.last_update, seq.last_shift, seq.last_reset = after[0], after[1], after[2:]
    seq.clock.advance(cycles)
