"""Time the emulated board on one core, beside the targets it was built to.

Every figure is the median of `--repeats` runs on one pinned core with one BLAS thread, in one run
of this script. Compilation and caches are warmed up before.

Examples:
    python bench_scripts/bench_emulator.py
    python bench_scripts/bench_emulator.py --part product --part path --json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from firmware_bridge import board_spec
from firmware_bridge.microcode import CLOCK_HZ
from rram_host import open_board
from rram_host.array.policies import CoarseFine
from sim import EmulatedBoard, presets
from sim.array.cell import Cells
from sim.array.network import EffectiveMatrix, Wires
from sim.array.nonlinear import Stacks, element_siemens, solve
from sim.bench import NONLINEAR_TOLERANCE, Bench
from sim.readout import ReadPlan

Array = npt.NDArray[np.float64]

PRESET = "taox_180nm"
GATE_READ_CODE, GAIN_5_V, GAIN_1V25 = 43_254, 0x00FF, 0x0100


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: `value` should be at most `target`, where there is one."""

    part: str
    what: str
    value: float
    unit: str
    target: float | None = None

    @property
    def met(self) -> str:
        """In words; empty without a target."""
        if self.target is None:
            return ""
        return "yes" if self.value <= self.target else "no"


def timings_s(work: Callable[[], object], repeats: int) -> list[float]:
    """Wall times of a piece of work, in seconds, after one warm-up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def median_us(work: Callable[[], object], repeats: int) -> float:
    """Median wall time, in microseconds."""
    return 1e6 * float(np.median(timings_s(work, repeats)))


# ---- the board's own parts ----------------------------------------------------------------------


def reading_bench(wires: bool = True) -> Bench:
    """Parts with cells of 20 to 80 uS, all rows open and at their amplifiers, range 0."""
    preset = presets.load(PRESET)
    if not wires:
        none = {"bl_lead_ohm": 0.0, "bl_segment_ohm": 0.0, "sl_segment_ohm": 0.0}
        preset = dataclasses.replace(preset, analog=dataclasses.replace(preset.analog, **none))
    bench = Bench(board_spec.load(), preset, np.random.default_rng(0))
    bench.cells.g[:] = np.random.default_rng(1).uniform(20e-6, 80e-6, bench.cells.g.shape)
    bench.cells.formed[:] = True
    levels = np.zeros(2 * bench.spec.rows, dtype=np.uint8)
    levels[list(bench.spec.sl_bit0)] = bench.spec.sl_tia & 1
    levels[list(bench.spec.sl_bit1)] = bench.spec.sl_tia >> 1
    bench.shift(levels)
    bench.oe = bench.enable = True
    for channel in bench.bl_channels.tolist():
        bench.dacs[channel // 8].gain = GAIN_1V25
    for channel in bench.wl_channels.tolist():
        bench.dacs[channel // 8].gain = GAIN_5_V
        bench.dacs[channel // 8].active[channel % 8] = GATE_READ_CODE
    return bench


def plan_of(bench: Bench) -> ReadPlan:
    """From codes of all bit lines to words of all rows."""
    selects = list(range(bench.spec.selects))
    return bench.read_plan(bench.bl_channels.tolist(), selects, bench.spec.read_voltage_v)


def random_codes(n: int) -> npt.NDArray[np.uint16]:
    """Codes of +-0.1 V around the virtual ground."""
    return np.random.default_rng(2).integers(41_944, 52_428, (n, 32), dtype=np.uint16)


def product(repeats: int) -> Iterator[Row]:
    """DAC codes in, ADC codes out, with read noise."""
    plan = plan_of(reading_bench())
    for n, target in ((4096, 600.0), (64, 25.0), (1, 10.0)):
        codes = random_codes(n)
        took = median_us(lambda codes=codes: plan.words(codes), repeats)
        yield Row("product", f"codes to codes, 32 x 32, batch {n}", took, "us", target)


def path(repeats: int) -> Iterator[Row]:
    """`board.array.vmm` and what the board does of it, turn by turn; cells an hour old."""
    plan, codes = plan_of(reading_bench()), random_codes(4096)
    emulated = EmulatedBoard(PRESET, seed=0)
    with open_board(emulated) as board:
        rng = np.random.default_rng(0)
        board.array.program(rng.uniform(20e-6, 80e-6, board.array.shape))
        emulated.clock.advance(3600 * CLOCK_HZ)  # fresh cells age, and are solved anew, each time
        board.array.read()
        batches = cycle(rng.uniform(-0.1, 0.1, (16, 4096, 32)))  # another one each time
        own, whole = both_us(
            lambda: plan.words(codes), lambda: board.array.vmm(next(batches)), repeats
        )
    yield Row("path", "board.array.vmm, batch 4096", whole, "us", 1200.0)
    yield Row("path", "the same over codes to codes", whole / own, "x", 2.0)


def both_us(one: Callable[[], object], other: Callable[[], object], repeats: int) -> Array:
    """Medians of two works done in turn, so that both see the same machine, in microseconds."""
    times = [(timings_s(one, 1)[0], timings_s(other, 1)[0]) for _ in range(repeats)]
    return 1e6 * np.median(np.array(times), axis=0)


def matrix(repeats: int) -> Iterator[Row]:
    """The exact effective matrix of all wires and switches."""
    bench = reading_bench()
    a, g = bench.preset.analog, bench.cells.g.copy()
    wires = Wires(a.bl_lead_ohm, a.bl_segment_ohm, bench.switch_ohm[1], a.sl_segment_ohm)
    exact = EffectiveMatrix(32, 32, wires)
    took = median_us(lambda: exact.factor(g), repeats)
    yield Row("matrix", "exact effective matrix, 32 x 32", took / 1e3, "ms", 2.0)
    times = []
    for k in range(repeats):
        exact.factor(g)
        start = time.perf_counter()
        exact.change(k % 32, 7, 60e-6)
        times.append(time.perf_counter() - start)
    once = 1e3 * float(np.median(times))
    yield Row("matrix", "the same after one cell has changed", once, "ms", 0.3)
    real, ideal, codes = plan_of(bench), plan_of(reading_bench(wires=False)), random_codes(4096)
    took_real, took_ideal = both_us(lambda: real.words(codes), lambda: ideal.words(codes), repeats)
    yield Row("matrix", "products with it over without wires", took_real / took_ideal, "x", 1.05)


def nonlinear(repeats: int) -> Iterator[Row]:
    """Cells that bend, behind their transistors, in the network: bit lines +-0.5 V."""
    bench = reading_bench()
    p, a, spec = bench.preset.cells, bench.preset.analog, bench.spec
    over_v = spec.wl_read_v - p.gate_threshold_v - spec.tia_bias_v
    element = element_siemens(bench.cells.g, p.gate_slope_siemens_per_v, over_v)
    stacks = Stacks(element, p.sinh_v, p.gate_slope_siemens_per_v, p.gate_threshold_v)
    wires = Wires(a.bl_lead_ohm, a.bl_segment_ohm, bench.switch_ohm[1], a.sl_segment_ohm)
    bl_v = spec.tia_bias_v + np.random.default_rng(3).uniform(-0.5, 0.5, (64, 32))
    sl_v, wl_v = np.full(32, spec.tia_bias_v), np.full(32, spec.wl_read_v)
    options = {"tolerance": NONLINEAR_TOLERANCE}
    took = median_us(lambda: solve(stacks, wires, bl_v, sl_v, wl_v, **options), repeats)
    yield Row("nonlinear", "1T1R cells in the network, per vector of 64", took / 64, "us", 50.0)


def ageing(repeats: int) -> Iterator[Row]:
    """Retention of 1024 cells, to later and later times."""
    cells = Cells(32, 32, presets.load(PRESET).cells, np.random.default_rng(0))
    cells.g[:], cells.formed[:] = 50e-6, True
    times = iter(np.geomspace(1e-2, 1e8, repeats + 1).tolist())
    took = median_us(lambda: cells.age(next(times)), repeats)
    yield Row("ageing", "retention of 1024 cells to any time", took, "us", 25.0)
    noise = Bench(board_spec.load(), presets.load(PRESET), np.random.default_rng(0)).noise
    later = iter(np.geomspace(1.0, 1e8, repeats + 1).tolist())
    took = median_us(lambda: noise.advance(next(later)), repeats)
    yield Row("ageing", "slow read noise of 1024 cells to any time", took, "us", 60.0)


def writing(repeats: int) -> Iterator[Row]:
    """Write-verify through the driver: one round of all cells, and all of it."""
    rng, rounds_ms, programs_s, last = np.random.default_rng(0), [], [], None
    for seed in range(max(2, min(repeats, 5))):  # the first is the warm-up
        with open_board(EmulatedBoard(PRESET, seed=seed)) as board:
            board.array.form()
            start = time.perf_counter()
            last = board.array.program(rng.uniform(20e-6, 80e-6, board.array.shape))
            programs_s.append(time.perf_counter() - start)
            moments: list[float] = []
            board.array.program(
                rng.uniform(20e-6, 80e-6, board.array.shape),
                CoarseFine(max_pulses=1),
                progress=lambda done, asked, kept=moments: kept.append(time.perf_counter()),
            )
            rounds_ms.append(1e3 * (moments[2] - moments[1]))  # forming calls once
    took = float(np.median(rounds_ms[1:]))
    yield Row("writing", "write-verify round, all cells pulsed, and read", took, "ms", 20.0)
    took, rounds = float(np.median(programs_s[1:])), 0 if last is None else last.rounds
    yield Row("writing", f"1024 cells to 20..80 uS, {rounds} rounds, formed", took, "s", 1.0)


# ---- other simulators ---------------------------------------------------------------------------


def others(repeats: int) -> Iterator[Row]:
    """Products of 32 x 32 with their stock settings: not the same models, so no targets."""
    weights = np.random.default_rng(1).uniform(-1, 1, (32, 32)).astype(np.float32)
    for name, make in (("aihwkit", _aihwkit), ("CrossSim", _crosssim)):
        try:
            multiply = make(weights)
        except ImportError as error:
            print(f"{name}: not timed, it cannot be imported here ({error})", file=sys.stderr)
            continue
        for n in (4096, 64, 1):
            inputs = np.random.default_rng(2).uniform(-1, 1, (n, 32)).astype(np.float32)
            took = median_us(lambda x=inputs, f=multiply: f(x), repeats)
            yield Row("others", f"{name}, stock noisy product, batch {n}", took, "us")


def _aihwkit(weights: npt.NDArray[np.float32]) -> Callable[[npt.NDArray[np.float32]], object]:
    import torch
    from aihwkit.nn import AnalogLinear
    from aihwkit.simulator.configs import InferenceRPUConfig

    torch.set_num_threads(1)
    layer = AnalogLinear(32, 32, bias=False, rpu_config=InferenceRPUConfig())
    layer.set_weights(torch.from_numpy(weights))
    layer.eval()

    def multiply(inputs: npt.NDArray[np.float32]) -> object:
        with torch.no_grad():
            return layer(torch.from_numpy(inputs))

    return multiply


def _crosssim(weights: npt.NDArray[np.float32]) -> Callable[[npt.NDArray[np.float32]], object]:
    from simulator import AnalogCore, CrossSimParameters

    core = AnalogCore(weights, params=CrossSimParameters())
    return lambda inputs: core @ inputs.T


# ---- table --------------------------------------------------------------------------------------

PARTS = {
    work.__name__: work for work in (product, path, matrix, nonlinear, ageing, writing, others)
}


def machine() -> dict[str, object]:
    """Where the figures come from."""
    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):  # noqa: PTH110
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            model = next((x.split(":")[1].strip() for x in lines if "model name" in x), model)
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {"processor": model, "cores": os.cpu_count(), "load": load, "numpy": np.__version__}


def pin() -> int | None:
    """Stay on one core, where the system lets us; which."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))  # the first one serves most interrupts
    os.sched_setaffinity(0, {core})
    return core


def main(arguments: list[str] | None = None) -> None:
    """Print one table, or the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=101, help="runs behind each median")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="default: all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    before, core = machine(), pin()
    with threadpool_limits(1):
        parts = options.part or list(PARTS)
        rows = [row for part in parts for row in PARTS[part](max(1, options.repeats))]
    facts = {**before, "core": core, "load_after": machine()["load"], "repeats": options.repeats}
    if options.json:
        table = [{**dataclasses.asdict(row), "met": row.met} for row in rows]
        print(json.dumps({"machine": facts, "rows": table}, indent=2))
        return
    print(f"{'what':<48} {'target':>10} {'measured':>12} {'met':>5}")
    for row in rows:
        target = "" if row.target is None else f"{row.target:g} {row.unit}"
        print(f"{row.what:<48} {target:>10} {row.value:>9.4g} {row.unit:<2} {row.met:>5}")
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print("Medians; another program on the machine makes them larger: see the load.")


if __name__ == "__main__":
    main()
