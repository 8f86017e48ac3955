"""Calibrate a board and its chip, and show what it is worth: product errors before and after."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rram_host.array.calibrate import CalibrationPlan
from rram_host.array.calibration import Calibration
from rram_host.array.compensation import conductances
from rram_host.errors import InputError
from rram_host.experiments.steps import Steps
from rram_host.session import Board

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CalibratePlan:
    """What to do.

    Attributes:
        measurement: how long to measure.
        prepare: program random conductances first, which destroys what is stored. Calibration
            needs cells that conduct; it leaves them as they are.
        vectors: random inputs behind each product error.
        read_average: reads behind the conductances that products are compared with.
        seed: of inputs and of prepared conductances.
    """

    measurement: CalibrationPlan = field(default_factory=CalibrationPlan)
    prepare: bool = False
    vectors: int = 2048
    read_average: int = 64
    seed: int = 7

    def __post_init__(self) -> None:
        """Refuse numbers that measure nothing."""
        for name in ("vectors", "read_average"):
            if not 1 <= getattr(self, name) <= 10_000:
                raise InputError(f"{name} = {getattr(self, name)} is outside 1..10000")


@dataclass(frozen=True)
class CalibrateResult:
    """A calibration and what it is worth.

    Attributes:
        calibration: now in use on the board, and in its passport.
        expected_a: products of random inputs with the conductances that calibrated reads give,
            (vectors, rows), amperes.
        measured_a: the same from the array: uncalibrated, board file, calibrated.
        floor_a: rms noise of one calibrated product, from pairs of equal ones: read noise and ADC.
    """

    calibration: Calibration
    expected_a: Array
    measured_a: dict[str, Array]
    floor_a: float

    @property
    def error_a(self) -> dict[str, float]:
        """Rms error of a product in each state."""
        return {
            name: float(np.sqrt(np.mean((y - self.expected_a) ** 2)))
            for name, y in self.measured_a.items()
        }

    @property
    def values(self) -> dict[str, Any]:
        """What was found, as plain values."""
        error, lines = self.error_a, self.calibration.lines
        return {
            "rms_product_a": float(self.expected_a.std()),
            "rms_error_a": error,
            "noise_floor_a": self.floor_a,
            "times_down": error["uncalibrated"] / error["calibrated"],
            "times_floor": error["calibrated"] / self.floor_a if self.floor_a else None,
            "row_ohm_mean": float(lines.row_ohm.mean()),
            "row_ohm_std": float(lines.row_ohm.std()),
            "row_ohm_standard_error": float(self.calibration.row_error_ohm.mean()),
            "bl_lead_ohm": lines.bl_lead_ohm,
            "bl_segment_ohm": lines.bl_segment_ohm,
            "sl_segment_ohm": lines.sl_segment_ohm,
            "tia_offset_v_std": float(self.calibration.tia_offset_v.std()),
            "range_gain_std": self.calibration.range_gain.std(1).tolist(),
            "calibration": self.calibration.to_dict(),
        }


def run(board: Board, plan: CalibratePlan, steps: Steps) -> CalibrateResult:
    """Calibrate, then compare products with what the calibrated conductances let expect.

    Raises:
        BoardFault: too few cells conduct.
    """
    array, rng = board.array, np.random.default_rng(plan.seed)
    read_v = board.spec.read_voltage_v
    volts = rng.uniform(-read_v, read_v, (plan.vectors, board.spec.cols))
    if plan.prepare:
        with steps("program random cells") as step:
            report = array.program(rng.uniform(20e-6, 80e-6, array.shape), progress=step.advance)
            step.note = f"{report.mean_pulses:.2f} pulses a cell, {len(report.failed)} failed"
    with steps("measure") as step:
        calibration = board.calibrate(plan.measurement, step.advance)
        lines = calibration.lines
        step.note = (
            f"switches {lines.row_ohm.mean():.1f} ohm, wires {lines.bl_segment_ohm:.2f} (BL) and "
            f"{lines.sl_segment_ohm:.2f} (SL) ohm a cell"
        )
    measured: dict[str, Array] = {}
    with steps("compare products") as step:
        step.advance(0, 4)
        try:
            array.use(Calibration.nominal(board.spec))
            array.look(plan.read_average)
            measured["uncalibrated"] = array.vmm(volts, calibrate=False)
            measured["board file"] = array.vmm(volts)
            step.advance(2, 4)
        finally:
            array.use(calibration)
        array.read(plan.read_average)
        g = conductances(array.effective, lines)
        measured["calibrated"] = array.vmm(volts)
        again = array.vmm(volts)
        step.advance(4, 4)
        floor = float((again - measured["calibrated"]).std() / np.sqrt(2))
        result = CalibrateResult(calibration, volts @ g.T, measured, floor)
        error = result.error_a
        step.note = (
            f"rms error {_na(error['uncalibrated'])} uncalibrated, {_na(error['board file'])} by "
            f"the board file, {_na(error['calibrated'])} calibrated; noise {_na(floor)}"
        )
    return result


def _na(ampere: float) -> str:
    return f"{ampere * 1e9:.4g} nA"
