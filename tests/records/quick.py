"""A quick experiment for tests of records: every unit SETs a few cells and reads the array."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from rram_host.errors import InputError
from rram_host.experiments.experiment import Experiment, Finding, setting, unit_rng
from rram_host.records.columns import Column


@dataclass(frozen=True)
class QuickPlan:
    n_units: int = setting(6, "units of work", flag="units")
    rows_a_unit: int = setting(3, "records of a unit", flag="records")
    set_wl_v: float = setting(1.6, "gate voltage of the SET pulses")
    target_siemens: float = setting(50e-6, "conductance that the finding is compared with")
    cells: tuple[tuple[int, int], ...] = setting(((3, 4), (5, 6)), "cells to pulse", "cell")
    levels_siemens: tuple[float, ...] = setting((20e-6, 40e-6), "levels")
    noisy: bool = setting(True, "draw the gate voltages at random")
    slow_s: float = setting(0.0, "wall time of a unit, as on silicon")
    seed: int = setting(7, "seed of the gate voltages")

    def __post_init__(self) -> None:
        if self.n_units < 1:
            raise InputError(f"n_units = {self.n_units} must be at least 1")


def columns(plan, spec):
    return (
        Column("unit", "", "unit of work", dtype="i8"),
        Column("wl_v", "V", "gate voltage"),
        Column("clock_s", "s", "board clock"),
        Column("conductance_siemens", "S", "conductance", "f8", ("row", "col"), (32, 32)),
        Column("current_a", "A", "of one input", "f8", ("row",), (32,)),
        Column("above", "", "above the target", dtype="bool"),
    )


def run(board, plan, start, done):
    assert len(done["unit"]) == start * plan.rows_a_unit
    mask = np.zeros((32, 32), dtype=bool)
    mask[tuple(np.transpose(plan.cells))] = True
    if start == 0 and (board.array.look() < 1e-6)[mask].any():
        board.array.form(mask)
    for unit in range(start, plan.n_units):
        rng = unit_rng(plan.seed, unit)
        time.sleep(plan.slow_s)
        rows = []
        for _ in range(plan.rows_a_unit):
            # a product first: it leans on the last read of the array, which a resumed run lacks
            current = board.array.vmm(np.full((1, 32), 0.05))[0]
            wl_v = plan.set_wl_v + (rng.uniform(-0.1, 0.1) if plan.noisy else 0.0)
            board.array.set_cells(mask, np.full((32, 32), wl_v))
            g = board.array.read(1)
            above = bool(g[mask].mean() > plan.target_siemens)
            rows.append((unit, wl_v, board.clock_s, g, current, above))
        names = [column.name for column in columns(plan, board.spec)]
        yield {n: np.array(v) for n, v in zip(names, zip(*rows, strict=True), strict=True)}


def findings(plan, data):
    if not len(data["unit"]):
        return []
    mean = data["conductance_siemens"].mean(axis=(1, 2)) * 1e6
    error = float(mean.std(ddof=1) / np.sqrt(mean.size)) if mean.size > 1 else None
    return [
        Finding("conductance of the array", float(mean.mean()), "µS", error, "no number"),
        Finding("records", len(mean)),
    ]


def draw(figure, plan, data):
    axes = figure.subplots()
    axes.plot(data["wl_v"], ".")
    axes.set(xlabel="record", ylabel="gate voltage (V)")


QUICK = Experiment(
    name="quick",
    title="A few SET pulses",
    help="Nothing of use.\n\n\b\nrram quick --units 2",
    plan=QuickPlan,
    columns=columns,
    units=lambda plan, spec: plan.n_units,
    run=run,
    findings=findings,
    draw=draw,
)
