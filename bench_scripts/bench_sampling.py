"""Time the sampling service on one core: drawing, Metropolis-Hastings, observables, recording.

Times are CPU times of this process, which another program on the machine disturbs less than it does
wall times; the median of `--repeats` runs. Drawing is the flow in software with its action.
Recording is told as a ratio: CPU time of a recorded run over that of the same run in memory.

Examples:
    python bench_scripts/bench_sampling.py
    python bench_scripts/bench_sampling.py --model phi4_L12 -n 16384 --json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bench_emulator import machine, pin
from threadpoolctl import threadpool_limits

from rram_host.experiments.sampling.draws import draw
from rram_host.experiments.sampling.plan import DrawPlan
from rram_host.experiments.sampling.service import sample_flow
from rram_host.experiments.sampling.units import observables
from rram_host.flows import checkpoint
from rram_host.flows.checkpoint import LoadedFlow
from rram_host.lattice.metropolis import accept

MOST_NS = 1000.0  # of Metropolis-Hastings, a proposal
_PROPOSALS = 1_000_000


def cpu_s(job: Callable[[], object], repeats: int) -> float:
    """Median CPU time of a job, in seconds; it has run once before."""
    job()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        job()
        times.append(time.process_time() - start)
    return float(np.median(times))


def chain_ns(repeats: int) -> dict[str, float]:
    """Metropolis-Hastings with its random numbers, in ns a proposal, by the spread of log w."""
    rng = np.random.default_rng(0)
    normal, plan = rng.standard_normal(_PROPOSALS), DrawPlan(_PROPOSALS, _PROPOSALS)
    found = {}
    for spread in (0.1, 1.0, 3.0):
        log_w = spread * normal
        seconds = cpu_s(partial(chain, log_w, plan), repeats)
        found[f"{spread:g}"] = 1e9 * seconds / _PROPOSALS
    return found


def chain(log_w: npt.NDArray[np.float64], plan: DrawPlan) -> None:
    """One batch of everything."""
    accept(log_w, plan.uniforms(0))


def of_model(name: str, n: int, repeats: int) -> dict[str, Any]:
    """The parts of a run with one model."""
    loaded = checkpoint.load(checkpoint.resolve(name))
    flow, action = loaded.flow, loaded.action
    plan = DrawPlan(n)
    draw_s = cpu_s(lambda: list(draw(flow, action, plan)), repeats)
    phi = np.concatenate([drawn.phi for drawn in draw(flow, action, plan)])
    measure_s = cpu_s(lambda: observables(phi), repeats)
    memory_s = cpu_s(lambda: sample_flow(flow, action, n), repeats)
    recorded_s = cpu_s(lambda: recorded(loaded, n), repeats)
    return {
        "model": name,
        "n": n,
        "draws_per_s": n / draw_s,
        "measured_per_s": n / measure_s,
        "bytes_a_record": phi[0].nbytes,
        "whole_per_s": n / recorded_s,
        "recording_ratio": recorded_s / memory_s,
    }


def recorded(loaded: LoadedFlow, n: int) -> None:
    """A run into a file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        sample_flow(loaded.flow, loaded.action, n, out=Path(folder) / "s.h5")


def show(found: dict[str, Any]) -> None:
    """For a person."""
    for spread, ns in found["chain_ns"].items():
        met = "yes" if ns <= MOST_NS else "NO"
        print(f"Metropolis-Hastings, std(log w) {spread:>3}: {ns:7.0f} ns a proposal"
              f"   (at most {MOST_NS:.0f}: {met})")  # fmt: skip
    for row in found["models"]:
        print(
            f"{row['model']}, N {row['n']}: {row['draws_per_s']:.0f} draws/s, "
            f"{row['measured_per_s']:.0f} measured/s, recorded over in memory "
            f"{row['recording_ratio']:.2f}, {row['whole_per_s']:.0f} configurations/s in all"
        )


def main() -> int:
    """Entry point: exit code 1 where Metropolis-Hastings misses its limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="shipped flow or file; may be repeated")
    parser.add_argument("-n", type=int, default=32_768, help="configurations (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="runs (%(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args()
    before, core = machine(), pin()
    with threadpool_limits(1):
        models = given.model or ["phi4_L4"]
        found: dict[str, Any] = {
            "machine": {**before, "core": core},
            "chain_ns": chain_ns(given.repeats),
            "models": [of_model(name, given.n, given.repeats) for name in models],
        }
    if given.json:
        print(json.dumps(found))
    else:
        show(found)
    return int(max(found["chain_ns"].values()) > MOST_NS)


if __name__ == "__main__":
    sys.exit(main())
