"""Time the emulated board and the whole path beside a bare numpy product, in one run.

Example: taskset -c 0 python bench_scripts/bench_emulator.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from rram_host import open_board
from sim import EmulatedBoard


def median_s(work: Callable[[], object], repeats: int) -> float:
    """Median wall time of a piece of work, in seconds, after one warm-up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="runs behind each median")
    parser.add_argument("--preset", default="taox_180nm", help="preset of the emulated board")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    emulated = EmulatedBoard(preset=options.preset, seed=0)
    with threadpool_limits(1), open_board(emulated) as board:
        targets = rng.uniform(20e-6, 80e-6, board.array.shape)
        start = time.perf_counter()
        report = board.array.program(targets)
        programming_s = time.perf_counter() - start
        print("batch   numpy V @ G.T (us)   board.array.vmm (us)   ratio   per vector (us)")
        for n in (1, 64, 4096):
            volts = rng.uniform(-0.1, 0.1, (n, 32))
            bare = median_s(lambda v=volts: v @ targets.T, options.repeats)
            path = median_s(lambda v=volts: board.array.vmm(v), options.repeats)
            print(
                f"{n:5d}   {bare * 1e6:18.1f}   {path * 1e6:20.1f}   {path / bare:5.0f}   "
                f"{path / n * 1e6:15.2f}"
            )
        read_s = median_s(lambda: board.array.read(1), options.repeats)
    print(f"read of the whole array, both signs: {read_s * 1e3:.2f} ms")
    print(
        f"programming 1024 cells: {programming_s:.3f} s wall, {report.rounds} rounds, "
        f"{report.board_time_s:.3f} s of board time"
    )


if __name__ == "__main__":
    main()
