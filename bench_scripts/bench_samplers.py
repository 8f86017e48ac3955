"""Time the samplers of `rram_host.lattice.samplers` on one core, beside their targets.

For each sampler with its tuned settings: microseconds a kept configuration, acceptance, integrated
autocorrelation times of M and |M| in kept configurations, and what one effective sample costs:
2 tau of them.
Compilation is warmed up before; keeping configurations is timed, too. Times are CPU times of this
one thread, which another program on the machine disturbs less than it does wall times.

Examples:
    python bench_scripts/bench_samplers.py
    python bench_scripts/bench_samplers.py --part phi4 --size 12 --seconds 10 --json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from unittest import mock

import numpy as np
import torch
from bench_emulator import machine, pin
from threadpoolctl import threadpool_limits

from rram_host.lattice.actions import Action, GrapheneAction, Phi4Action
from rram_host.lattice.autocorrelation import integrated_time
from rram_host.lattice.samplers import (
    SAMPLERS,
    Lengths,
    SamplerRun,
    compiled,
    run_sampler,
    tuned,
)

SIZES = (4, 12, 24)
CHAINS = 64
# What a user would pick instead, measured with other programs: (sampler, L) -> us per effective M
# and |M|, phi^4 at lam = 5.
ELSEWHERE = {
    ("hmc", 12): (70.0, 23.0),
    ("hmc", 24): (290.0, 130.0),
    ("hmc, no numba", 12): (550.0, 186.0),
    ("hmc, no numba", 24): (1850.0, 840.0),
    ("wolff", 12): (10.0, 56.0),
    ("wolff", 24): (61.0, 89.0),
}
# Effective samples a second: (sampler, L) -> of which observable, how many at least.
TARGETS = {
    ("hmc", 12): ("|M|", 20_000.0),
    ("hmc, no numba", 12): ("|M|", 4_000.0),
    ("wolff", 12): ("M", 50_000.0),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table; `ratio` is effective samples a second over the target."""

    action: str
    sampler: str
    size: int
    kept_us: float
    acceptance: float
    tau_m: tuple[float, float]
    tau_abs_m: tuple[float, float]
    m_us: float
    abs_m_us: float
    elsewhere_us: tuple[float, float] | None = None
    ratio: float | None = None


def timed(
    name: str, action: Action, shape: tuple[int, int], settings: Lengths, seed: int
) -> tuple[SamplerRun, float]:
    """A run, and its CPU time in seconds."""
    start = time.process_time()
    run = run_sampler(name, action, shape, settings, seed)
    return run, time.process_time() - start


def measured(action: Action, name: str, size: int, seconds: float, numba: bool = True) -> Row:
    """One sampler on one lattice, run for about so many seconds."""
    shape, label = (size, size), name if numba else f"{name}, no numba"
    settings = dataclasses.replace(tuned(name, action, shape), chains=CHAINS)
    plain = mock.patch.object(compiled, "has_numba", lambda: False)
    with nullcontext() if numba else plain:
        probe = dataclasses.replace(settings, kept=20, thermalisation=0)
        run_sampler(name, action, shape, probe)
        per_kept_s = timed(name, action, shape, probe, 0)[1] / 20
        kept = int(np.clip(seconds / per_kept_s, 100, 200_000_000 // (CHAINS * 8 * size**2)))
        long = dataclasses.replace(settings, kept=kept)
        run, cpu_s = timed(name, action, shape, long, 1)
    kept_us = 1e6 * cpu_s / (CHAINS * (kept + long.thermalisation / long.keep_every))
    magnetisation = run.phi.mean((2, 3))
    m, abs_m = integrated_time(magnetisation), integrated_time(np.abs(magnetisation))
    costs = 2.0 * m.tau * kept_us, 2.0 * abs_m.tau * kept_us
    target = TARGETS.get((label, size)) if isinstance(action, Phi4Action) else None
    cost = costs[0] if target and target[0] == "M" else costs[1]
    return Row(
        action=action.name,
        sampler=label,
        size=size,
        kept_us=kept_us,
        acceptance=run.acceptance,
        tau_m=(m.tau, m.tau_error),
        tau_abs_m=(abs_m.tau, abs_m.tau_error),
        m_us=costs[0],
        abs_m_us=costs[1],
        elsewhere_us=ELSEWHERE.get((label, size)) if isinstance(action, Phi4Action) else None,
        ratio=1e6 / cost / target[1] if target else None,
    )


def phi4(sizes: list[int], seconds: float) -> Iterator[Row]:
    """phi^4 at lam = 5, with numba and, for hybrid Monte Carlo, without."""
    action = Phi4Action(-4.0, 5.0)
    for size in sizes:
        for name in SAMPLERS:
            yield measured(action, name, size, seconds)
        yield measured(action, "hmc", size, seconds, numba=False)


def graphene(sizes: list[int], seconds: float) -> Iterator[Row]:
    """Graphene wire at g = 6 / L, m / g = 0.2."""
    for size in sizes:
        for name in SAMPLERS:
            yield measured(GrapheneAction(6.0 / size, 0.2), name, size, seconds)


PARTS = {"phi4": phi4, "graphene": graphene}


def print_table(rows: list[Row]) -> None:
    """Rows as text."""
    print(
        f"{'action':<9}{'sampler':<15}{'L':>3}{'us/kept':>11}{'acc':>6}{'tau M':>14}"
        f"{'tau |M|':>14}{'us/eff M':>10}{'us/eff |M|':>11}{'elsewhere':>12}{'x target':>10}"
    )
    for row in rows:
        taus = "".join(f"{f'{t:.2f}({e:.2f})':>14}" for t, e in (row.tau_m, row.tau_abs_m))
        there = "{:g}/{:g}".format(*row.elsewhere_us) if row.elsewhere_us else ""
        ratio = f"{row.ratio:.2f}" if row.ratio else ""
        print(
            f"{row.action:<9}{row.sampler:<15}{row.size:>3}{row.kept_us:>11.2f}"
            f"{row.acceptance:>6.2f}{taus}{row.m_us:>10.1f}{row.abs_m_us:>11.1f}{there:>12}"
            f"{ratio:>10}"
        )


def main(arguments: list[str] | None = None) -> None:
    """Print one table, or the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="CPU time of each run")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="default: all")
    parser.add_argument("--size", action="append", type=int, help="default: 4, 12 and 24")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    before, core = machine(), pin()
    torch.set_num_threads(1)
    rows: list[Row] = []
    with threadpool_limits(1):
        for part in options.part or list(PARTS):
            rows += PARTS[part](options.size or list(SIZES), options.seconds)
            print(f"{part} done", file=sys.stderr)
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    facts = {**before, "core": core, "load_after": load, "chains": CHAINS}
    if options.json:
        table = [dataclasses.asdict(row) for row in rows]
        print(json.dumps({"machine": facts, "rows": table}, indent=2))
        return
    print_table(rows)
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print("Another program on the machine makes times longer: see the load.")


if __name__ == "__main__":
    main()
