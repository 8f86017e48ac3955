"""Records of characterisation runs straight from the laws of cells, without a board in between.

The emulated board's cells take the pulses of a plan and are read with their own noise. Nothing of
the circuit is in it, so a fit has to find the preset, and many chips take seconds.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from firmware_bridge import board_spec
from rram_host.array.calibration import Calibration
from rram_host.array.compensation import LineResistances
from rram_host.experiments.fitting.readings import Bench
from rram_host.experiments.fitting.staircases import IvRun
from rram_host.experiments.iv import IvPlan
from rram_host.experiments.retention import RetentionPlan
from rram_host.experiments.set_curve import SetCurvePlan
from sim import presets
from sim.array.cell import Cells
from sim.array.noise import SlowNoise

PULSE_S = 6e-6
LATER_S = 2e-4
SHAPE = (32, 32)

# taox_180nm with what a fit recovers changed by 10 to 40 %
HIDDEN = {
    "set_v": 1.12,
    "set_spread_v": 0.07,
    "set_cycle_spread_v": 0.04,
    "set_slope_siemens_per_v": 118e-6,
    "set_slope_spread": 0.08,
    "set_offset_v": 0.78,
    "set_offset_spread_v": 0.04,
    "reset_v": 0.86,
    "reset_spread_v": 0.05,
    "reset_cycle_spread_v": 0.04,
    "reset_top_siemens": 105e-6,
    "reset_slope_siemens_per_v": 68e-6,
    "cycle_spread": 0.09,
    "cycle_floor_siemens": 5e-7,
    "read_noise": 0.005,
    "relax_siemens2_per_decade": 9.5e-14,
    "relax_mean_siemens_per_decade": -4e-8,
    "relax_spread": 0.5,
}


def exact_bench(spec=None) -> Bench:
    """A board without resistances, calibrated."""
    spec = spec or board_spec.load("zc706")
    nominal = Calibration.nominal(spec)
    lines = LineResistances(np.zeros(spec.rows))
    calibration = dataclasses.replace(nominal, lines=lines, measured="2026-01-01")
    return Bench(spec, calibration, np.zeros(SHAPE))


class Chip:
    """Cells of a preset with some values changed, all formed, and what a lab does with them."""

    def __init__(self, seed: int, **values: float) -> None:
        preset = presets.load("taox_180nm").cells
        self.preset = dataclasses.replace(preset, **values)
        self.rng = np.random.default_rng(seed)
        self.cells = Cells(*SHAPE, self.preset, np.random.default_rng([seed, 1]))
        self.noise = SlowNoise(*SHAPE, self.preset, np.random.default_rng([seed, 2]))
        self.cells.formed[:] = True
        self.cells.g[:] = 45e-6
        self.now_s = 1.0

    def pulse(self, chosen: np.ndarray, volts: float, wl_v: float) -> None:
        """One pulse on chosen cells."""
        self.now_s += LATER_S
        self.cells.age(self.now_s)
        v = np.where(chosen, volts, 0.0)
        self.cells.pulse(v, np.full(SHAPE[0], wl_v), PULSE_S, self.now_s)

    def read(self, average: int) -> np.ndarray:
        """All cells, each averaged over so many readings of either sign."""
        g = self.cells.g * self.noise.factor
        sigma = self.cells.read_sigma() / np.sqrt(2 * average)
        return g + sigma * self.rng.standard_normal(SHAPE)

    def iv_runs(self, cells: int, plan: IvPlan) -> list[IvRun]:
        """A run of each of some cells, all swept at once."""
        chosen = np.zeros(SHAPE, dtype=bool)
        places = self.rng.choice(chosen.size, cells, replace=False)
        chosen.flat[places] = True
        for volts in plan.reset_v:
            self.pulse(chosen, -volts, 4.0)
        seen = []
        for volts in np.tile(plan.steps_v, plan.cycles):
            self.pulse(chosen, volts, plan.compliance_v if volts > 0 else 4.0)
            seen.append(self.read(plan.average).flat[places])
        g, bench = np.array(seen), exact_bench()
        return [
            IvRun(
                f"iv{k}.h5",
                "chip",
                dataclasses.replace(plan, cell=(int(place) // 32, int(place) % 32)),
                {"conductance_siemens": g[:, k]},
                bench,
            )
            for k, place in enumerate(places)
        ]

    def set_curve(self, plan: SetCurvePlan) -> dict[str, np.ndarray]:
        """Records of `rram set-curve` on the first cells of every row."""
        chosen = np.zeros(SHAPE, dtype=bool)
        chosen[:, : plan.per_row] = True
        rows = {"wl_v": [], "reset_siemens": [], "set_siemens": []}
        for _ in range(plan.repetitions):
            for wl_v in self.rng.permutation(plan.wl_v):
                for _ in range(plan.resets):
                    self.pulse(chosen, -plan.reset_v, 4.0)
                rows["reset_siemens"].append(np.where(chosen, self.read(1), np.nan))
                self.pulse(chosen, plan.set_v, wl_v)
                rows["set_siemens"].append(np.where(chosen, self.read(1), np.nan))
                rows["wl_v"].append(wl_v)
        return {name: np.array(values) for name, values in rows.items()}

    def retention(self, plan: RetentionPlan) -> dict[str, np.ndarray]:
        """Records of `rram retention`; cells hold their targets from the last pulse on."""
        places = self.rng.choice(self.cells.g.size, plan.cells, replace=False)
        self.cells.g.flat[places] = np.linspace(plan.low_siemens, plan.high_siemens, plan.cells)
        self.cells.born_s[:] = self.cells.aged_s = began_s = self.now_s
        g, times_s = [], np.concatenate([[0.05], plan.times_s])
        for time_s in times_s:
            self.now_s = began_s + time_s
            self.cells.age(self.now_s, exactly=True)
            self.noise.advance(self.now_s)
            g.append(self.read(plan.read_average).flat[places])
        programmed = np.full(times_s.size, 1e-5)
        return {
            "time_s": times_s,
            "conductance_siemens": np.array(g),
            "programmed_clock_s": programmed,
        }
