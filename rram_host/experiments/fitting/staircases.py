"""What staircases of pulsed I-V runs hold, cycle by cycle and step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from rram_host.array.pulses import reset_source, set_source
from rram_host.errors import InputError
from rram_host.experiments.fitting.readings import Bench
from rram_host.experiments.iv import IvPlan
from rram_host.records.columns import Data
from rram_host.units import MICRO

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

_SET_ABOVE = 0.6  # of the SET state, from which on a cell counts as switched
_GAVE_WAY = 0.03  # of the SET state, by which a RESET step must have lowered it
_LEAST_RATIO = 3.0
_LEFT, _LEFT_SIEMENS = 0.4, 1e-6  # of a usual step, by which a cell has moved on
_LEAST_STEPS = 3
_CLEAR_SIEMENS = 5e-6


@dataclass(frozen=True)
class IvRun:
    """Records of one run of `rram iv`, their plan and board, and the names of run and chip."""

    name: str
    chip: str
    plan: IvPlan
    data: Data
    bench: Bench


@dataclass(frozen=True)
class Staircases:
    """Cycles of all runs. Voltages are those across the cell, conductances in siemens.

    Attributes:
        set_cell, set_low_v, set_high_v: cell of a SET and the step it switched within, (sets,).
        first_cell, first, first_move: cell of a SET, its first reading after it switched, and the
            move, (firsts,).
        cycle_cell: cell of a RESET cycle, (cycles,).
        start: conductance that it begins with, (cycles,).
        held_v, fell_v: last step that the cell held, and first at which it fell, (cycles,).
        fall: by how much it fell at that step, (cycles,).
        step_v, g, before: RESET steps on the line, V and G after and before, (steps,).
        cycle: the cycle of each, (steps,).
        reads: conversions of each sign in every reading behind these steps, (steps,).
        start_reads: conversions of each sign in a reading, (cycles,).
        held_cycle, held_step_v: RESET steps before the first fall: cycle and V, (helds,).
        held_change: what the cell read after each, less what it read before, (helds,).
    """

    set_cell: Numbers
    set_low_v: Array
    set_high_v: Array
    first_cell: Numbers
    first: Array
    first_move: Array
    first_reads: Numbers
    cycle_cell: Numbers
    start: Array
    held_v: Array
    fell_v: Array
    fall: Array
    step_v: Array
    g: Array
    before: Array
    cycle: Numbers
    reads: Numbers
    start_reads: Numbers
    held_cycle: Numbers
    held_step_v: Array
    held_change: Array


def staircases(runs: Sequence[IvRun]) -> Staircases:
    """All runs as one.

    Raises:
        InputError: a run whose cell did not switch.
    """
    keys = [(run.chip, tuple(run.plan.cell)) for run in runs]
    names = sorted(set(keys))
    parts, cycles = [], 0
    for run, key in zip(runs, keys, strict=True):
        parts.append(_of_run(run, names.index(key), cycles))
        cycles += parts[-1].cycle_cell.size
    joined = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Staircases)
    }
    return Staircases(**joined)


def _of_run(run: IvRun, cell: int, cycles_before: int) -> Staircases:
    plan = run.plan
    steps = plan.set_v.size + plan.reset_v.size
    g = np.asarray(run.data["conductance_siemens"], dtype=np.float64).reshape(-1, steps)
    up, down = g[:, : plan.set_v.size], g[:, plan.set_v.size :]
    on, off = float(np.median(up[:, -1])), float(np.median(down[:, -1]))
    if not on > _LEAST_RATIO * max(off, 0.0) or on < _CLEAR_SIEMENS:
        raise InputError(
            f"{run.name}: cell {tuple(plan.cell)} hardly switched, from {off / MICRO:.3g} to "
            f"{on / MICRO:.3g} µS; a fit needs a ratio of {_LEAST_RATIO:g}"
        )
    sets = _sets(run, cell, up, down, _SET_ABOVE * on)
    return Staircases(**sets, **_resets(run, cell, up[:, -1], down, off, on, cycles_before))


def _sets(run: IvRun, cell: int, up: Array, down: Array, above: float) -> dict[str, Any]:
    """Steps at which the cell switched, and what it read there."""
    held = np.concatenate([up[:, :1], up[:, :-1]], axis=1)
    volts = run.bench.across(
        run.plan.set_v, np.minimum(held, above), run.plan.cell, set_source(run.bench.spec)[1]
    )
    edges = np.concatenate(
        [np.full((len(up), 1), -np.inf), volts, np.full((len(up), 1), np.inf)], axis=1
    )
    is_on = up > above
    step = np.where(is_on.any(1), is_on.argmax(1), up.shape[1])
    # on from the first step on tells something only where the cell is known to have been off
    off_before = np.concatenate([[False], down[:-1, -1] < above])
    known = (step > 0) | off_before
    cycle = np.arange(len(up))
    seen = known & (step > 0) & (step < up.shape[1])
    first = up[cycle, np.minimum(step, up.shape[1] - 1)]
    return {
        "set_cell": np.full(int(known.sum()), cell),
        "set_low_v": edges[cycle, step][known],
        "set_high_v": edges[cycle, step + 1][known],
        "first_cell": np.full(int(seen.sum()), cell),
        "first": first[seen],
        "first_move": (first - held[cycle, np.minimum(step, up.shape[1] - 1)])[seen],
        "first_reads": np.full(int(seen.sum()), run.plan.average),
    }


def _resets(
    run: IvRun, cell: int, start: Array, down: Array, off: float, on: float, cycles_before: int
) -> dict[str, Any]:
    """Cycles in which the cell gave way, and their steps on the line."""
    before = np.concatenate([start[:, None], down[:, :-1]], axis=1)
    volts = run.bench.across(
        run.plan.reset_v, before, run.plan.cell, reset_source(run.bench.spec)[1]
    )
    gone = start[:, None] - down > _GAVE_WAY * start[:, None]
    onset = np.where(gone.any(1), gone.argmax(1), down.shape[1])
    number = np.arange(down.shape[1])
    drops = (before - down)[(number > onset[:, None]) & (before > 0.3 * on)]
    drop = float(np.median(drops)) if drops.size else 0.0
    clear = max(off, 0.0) + 2 * drop + _CLEAR_SIEMENS
    line = _moving(down, onset, drop) & (before > clear)
    kept = np.flatnonzero((line.sum(1) >= _LEAST_STEPS) & (start > _SET_ABOVE * on))
    line, onset = line[kept], onset[kept]
    start, down, before, volts = (x[kept] for x in (start, down, before, volts))
    held_v = np.where(onset > 0, volts[np.arange(kept.size), np.maximum(onset - 1, 0)], -np.inf)
    held = number < onset[:, None]
    still = np.concatenate([start[:, None], np.where(held, down, np.nan)], 1)
    cycle = np.broadcast_to(np.arange(kept.size)[:, None], line.shape)[line]
    mean = np.nanmean(still, axis=1)
    return {
        "cycle_cell": np.full(kept.size, cell),
        "start": mean,
        "held_v": held_v,
        "fell_v": volts[np.arange(kept.size), onset],
        "fall": mean - down[np.arange(kept.size), onset],
        "step_v": volts[line],
        "g": down[line],
        "before": before[line],
        "cycle": cycle + cycles_before,
        "reads": np.full(int(line.sum()), run.plan.average),
        "start_reads": np.full(kept.size, run.plan.average),
        "held_cycle": np.nonzero(held)[0] + cycles_before,
        "held_step_v": volts[held],
        "held_change": (down - before)[held],
    }


def _moving(down: Array, onset: Numbers, drop: float) -> npt.NDArray[np.bool_]:
    """Steps behind one at which the cell moved on from where it first fell to.

    A first fall is large, and scatters in proportion: it may end below the line, where the cell
    then waits for the line to come down. What a step left does not decide whether it counts.
    """
    steps = np.arange(down.shape[1])
    fallen = down[np.arange(len(down)), np.minimum(onset, down.shape[1] - 1)]
    left = (steps > onset[:, None]) & (fallen[:, None] - down > max(_LEFT * drop, _LEFT_SIEMENS))
    behind: npt.NDArray[np.bool_] = np.cumsum(left, axis=1) - left > 0
    return behind
