"""Electroforming: a ramp of pulses with the gate as compliance, read after each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.readout import PRISTINE_SIEMENS
from rram_host.array.pulses import check_amplitude, set_source
from rram_host.array.reports import FormReport, carried_s, pulse_energy_j
from rram_host.errors import InputError

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Progress = Callable[[int, int], None]

FORMED_SIEMENS = 1e-6
_MAX_STEPS = 10_000


@dataclass(frozen=True)
class FormSettings:
    """The ramp.

    Attributes:
        start_v, step_v, stop_v: voltages between bit line and source line.
        wl_v: compliance: gate voltage above the lower of the cell's two lines, which limits what
            a forming cell conducts.
        pulse_width_s: of every pulse.
        target_siemens: the ramp of a cell ends once it reads this. Cells that read more than a
            pristine one before the first step are formed already.
    """

    start_v: float
    step_v: float
    stop_v: float
    wl_v: float
    pulse_width_s: float
    target_siemens: float = FORMED_SIEMENS

    @staticmethod
    def of(spec: BoardSpec) -> FormSettings:
        """What the board file has."""
        p = spec.pulses
        return FormSettings(
            p.form_bl_start_v, p.form_bl_step_v, p.form_bl_stop_v, p.form_wl_v, p.form_width_s
        )

    def __post_init__(self) -> None:
        """Refuse a ramp that does not climb.

        Raises:
            InputError: says what is wrong with it.
        """
        if not 0 < self.start_v <= self.stop_v or not self.step_v > 0:
            raise InputError(
                f"forming ramp from {self.start_v:g} V by {self.step_v:g} V to {self.stop_v:g} V "
                "does not climb"
            )
        if (self.stop_v - self.start_v) / self.step_v > _MAX_STEPS:
            raise InputError(f"forming ramp by {self.step_v:g} V has more than {_MAX_STEPS} steps")
        if not self.wl_v > 0 or not self.pulse_width_s > 0:
            raise InputError(
                f"forming with a gate of {self.wl_v:g} V for {self.pulse_width_s:g} s: both must "
                "be above 0"
            )
        if not self.target_siemens >= PRISTINE_SIEMENS:
            raise InputError(
                f"forming to {self.target_siemens / 1e-6:.4g} µS: at least "
                f"{PRISTINE_SIEMENS / 1e-6:g} µS, or it is not formed"
            )

    @property
    def steps_v(self) -> tuple[float, ...]:
        """Voltages of the ramp, in order."""
        count = int(np.floor((self.stop_v - self.start_v) / self.step_v + 1e-9)) + 1
        return tuple(self.start_v + self.step_v * n for n in range(count))

    def check(self, spec: BoardSpec) -> None:
        """Refuse, before the first pulse, a ramp that the board cannot give to its end.

        Raises:
            InputError: says which voltage or width, and what the board gives.
        """
        check_amplitude(spec, self.stop_v, set_source(spec)[1], "forming")
        most_v = spec.compliance_limit_v(self.start_v)  # the lower line is highest at the start
        if self.wl_v > most_v:
            raise InputError(
                f"forming gate {self.wl_v:g} V is above {most_v:.4g} V: limits.wl less the lower "
                f"line ({spec.polarity})"
            )
        if not spec.mux_switch_s <= self.pulse_width_s <= spec.pulse_limit_s:
            raise InputError(
                f"forming pulses of {self.pulse_width_s:g} s are outside {spec.mux_switch_s:g} s "
                f"(CD4051B turning on) to {spec.pulse_limit_s:g} s (limits.pulse)"
            )


class Formable(Protocol):
    """Cells that can be formed: `rram_host.array.operations.Operations`, or a stand-in."""

    @property
    def spec(self) -> BoardSpec:
        """The board."""
        ...

    def look(self, average: int) -> Array:
        """Conductances of all cells, siemens."""
        ...

    def form_step(self, cells: Mask, volts: float, settings: FormSettings) -> Array:
        """One forming pulse on each of some cells, then a read of all."""
        ...


def form(
    array: Formable, cells: Mask, settings: FormSettings, progress: Progress | None = None
) -> FormReport:
    """Form cells; those that are formed already are left alone.

    Args:
        array: the cells.
        cells: which, (rows, cols).
        settings: the ramp.
        progress: called with (step, steps).

    Raises:
        InputError: the board cannot give the ramp.
    """
    settings.check(array.spec)
    steps, trace = settings.steps_v, []
    g = array.look(1)
    todo = cells & (g < PRISTINE_SIEMENS)
    pulses, last_v, energy_j = np.zeros(g.shape, np.int64), np.full(g.shape, np.nan), 0.0 * g
    for number, volts in enumerate(steps):
        if not todo.any():
            break
        before, g = g, array.form_step(todo, volts, settings)
        trace.append(g)
        pulses += todo
        last_v[todo] = volts
        held_s = carried_s(array.spec, settings.pulse_width_s)
        energy_j += todo * pulse_energy_j(volts, before, g, held_s)
        todo &= g < settings.target_siemens
        if progress:
            progress(number + 1, len(steps))
    if progress:
        progress(len(steps), len(steps))
    shorted = g > array.spec.shorted_siemens
    read = np.array(trace).reshape(-1, *g.shape)
    return FormReport(g, pulses, todo, shorted, last_v, steps[-1], energy_j, read)
