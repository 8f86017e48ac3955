"""Electroforming: which voltage forms which cell.

A unit is a row of cells: a ramp of forming pulses under a compliance gate voltage, with a read
after every step. Cells that are formed already, by their reading or by the chip's passport, are
left alone, and so are those that it calls dead, unless only because they did not form: another ramp
may do it. arXiv 2509.12812 gives no number.

A forming voltage lies between two steps, and is told as the middle of them; from its spread that of
a step, width^2 / 12, is taken off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.forming import FormSettings
from rram_host.array.reports import FormReport
from rram_host.experiments import estimates
from rram_host.experiments.common import finding, staircase, step_mean, step_std
from rram_host.experiments.experiment import Experiment, Finding, setting
from rram_host.records.columns import Batch, Column, Data
from rram_host.session import Board
from rram_host.units import MICRO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

_NAMED = 12  # cells that a picture names


@dataclass(frozen=True)
class FormingPlan:
    """The ramp; the fields' help texts say the rest."""

    start_v: float = setting(2.6, "first step, between bit line and source line")
    stop_v: float = setting(3.6, "last step")
    step_v: float = setting(0.05, "distance between steps")
    wl_v: float = setting(1.2, "compliance: gate voltage above the lower line", "compliance")
    width_s: float = setting(100e-6, "pulse width")

    def __post_init__(self) -> None:
        """Refuse a ramp that does not climb."""
        self.ramp()

    def ramp(self) -> FormSettings:
        """As the array takes it.

        Raises:
            InputError: a ramp that does not climb, or has too many steps.
        """
        staircase(self.start_v, self.stop_v, self.step_v, "forming ramp")
        return FormSettings(self.start_v, self.step_v, self.stop_v, self.wl_v, self.width_s)


def columns(plan: FormingPlan, spec: BoardSpec) -> tuple[Column, ...]:
    """One record is one row of cells."""
    per_cell = partial(Column, dims=("col",), shape=(spec.cols,))
    steps = len(plan.ramp().steps_v)
    return (
        Column("array_row", "", "row of cells", "i4"),
        Column("step_v", "V", "voltage of a step", "f8", ("step",), (steps,)),
        Column(
            "step_siemens",
            "S",
            "conductance after a step, NaN where the row needed it not",
            "f8",
            ("step", "col"),
            (steps, spec.cols),
        ),
        per_cell("conductance_siemens", "S", "conductance after the ramp"),
        per_cell("formed_v", "V", "step that formed the cell, NaN where none did"),
        per_cell("pulses", "", "forming pulses", "i4"),
        per_cell("unformed", "", "cells that the ramp did not form", "i1"),
        per_cell("shorted", "", "cells that are shorted", "i1"),
        per_cell("left_out", "", "cells that the chip's passport calls dead: left alone", "i1"),
    )


def units(plan: FormingPlan, spec: BoardSpec) -> int:
    """A unit is a row.

    Raises:
        InputError: a voltage or a pulse width that the board does not give.
    """
    plan.ramp().check(spec)
    return spec.rows


def run(board: Board, plan: FormingPlan, start: int, done: Data) -> Iterator[Batch]:
    """Form the array row by row; what does not form lands in the chip's passport as dead."""
    ramp = plan.ramp()
    for row in range(start, units(plan, board.spec)):
        cells = np.zeros(board.array.shape, dtype=bool)
        cells[row] = True
        left_out = np.zeros(board.spec.cols, dtype=np.int8)
        if board.passport:
            left_out |= board.passport.given_up[row]
        yield _record(row, ramp, board.array.form(cells, None, ramp), left_out)


def _record(
    row: int, ramp: FormSettings, report: FormReport, left_out: npt.NDArray[np.int8]
) -> Batch:
    """One row out of the report of forming it."""
    steps = np.full((len(ramp.steps_v), report.pulses.shape[1]), np.nan)
    steps[: len(report.steps_siemens)] = report.steps_siemens[:, row]
    pulses, unformed = report.pulses[row], report.unformed[row]
    formed_v = np.where((pulses > 0) & ~unformed, report.formed_v[row], np.nan)
    one = {
        "array_row": np.array(row),
        "step_v": np.array(ramp.steps_v),
        "step_siemens": steps,
        "conductance_siemens": report.measured_siemens[row],
        "formed_v": formed_v,
        "pulses": pulses,
        "unformed": unformed.astype(np.int8),
        "shorted": report.shorted[row].astype(np.int8),
        "left_out": left_out,
    }
    return {name: values[None] for name, values in one.items()}


def cells_where(data: Data, name: str) -> list[tuple[int, int]]:
    """Cells (row, col) of which a recorded flag is set."""
    rows = np.asarray(data["array_row"])
    places = np.argwhere(np.asarray(data[name], dtype=bool))
    return [(int(rows[k]), int(col)) for k, col in places]


def findings(plan: FormingPlan, data: Data) -> list[Finding]:
    """Forming voltages, what cells conduct afterwards, and how many did not come through."""
    if not len(data["array_row"]):
        return []
    formed = np.isfinite(data["formed_v"])
    middle_v = estimates.finite(data["formed_v"]) - plan.step_v / 2
    after = np.asarray(data["conductance_siemens"], dtype=np.float64)[formed]
    lost = np.any([np.asarray(data[n], bool) for n in ("unformed", "shorted", "left_out")], axis=0)
    before = ~formed & ~lost
    found = [
        Finding("cells formed", int(formed.sum())),
        Finding("cells formed before", int(before.sum())),
        Finding("cells that did not form", len(cells_where(data, "unformed"))),
        Finding("cells shorted", len(cells_where(data, "shorted"))),
        Finding("cells dead by the passport, left alone", len(cells_where(data, "left_out"))),
    ]
    if formed.any():
        found += [
            finding("forming voltage, mean", step_mean(middle_v, plan.step_v), "V"),
            finding("forming voltage, std", step_std(middle_v, plan.step_v), "V"),
            Finding("pulses a cell", float(np.asarray(data["pulses"])[formed].mean())),
            finding("conductance after forming, mean", estimates.mean(after), "µS", "", MICRO),
            finding("conductance after forming, std", estimates.std(after), "µS", "", MICRO),
        ]
    return found


def draw(figure: Figure, plan: FormingPlan, data: Data) -> None:
    """Distribution of forming voltages, conductances against steps, and lost cells by name."""
    if not len(data["array_row"]):
        return
    top, bottom = figure.subplots(2, 1, sharex=True)
    steps_v = np.array(plan.ramp().steps_v)
    edges = np.append(steps_v, steps_v[-1] + plan.step_v) - plan.step_v / 2
    seen = estimates.finite(data["formed_v"])
    lost = cells_where(data, "unformed")
    top.hist(seen, bins=edges.tolist(), color="tab:blue")
    top.set(ylabel="cells that form", title=f"{seen.size} cells formed, {len(lost)} did not")
    steps = np.asarray(data["step_siemens"], dtype=np.float64).transpose(1, 0, 2)
    bottom.plot(steps_v, steps.reshape(len(steps_v), -1) / MICRO, color="0.7", linewidth=0.4)
    bottom.set(xlabel="forming voltage (V)", ylabel="conductance after the step (µS)")
    names = [
        *_names("unformed", lost),
        *_names("shorted", cells_where(data, "shorted")),
        *_names("left out", cells_where(data, "left_out")),
    ]
    if names:
        top.text(0.02, 0.95, "\n".join(names), transform=top.transAxes, va="top", fontsize="small")


def _names(word: str, cells: list[tuple[int, int]]) -> list[str]:
    """A line that names cells, or none."""
    if not cells:
        return []
    more = f" and {len(cells) - _NAMED} more" if len(cells) > _NAMED else ""
    return [f"{word}: {', '.join(map(str, cells[:_NAMED]))}{more}"]


EXPERIMENT = Experiment(
    name="forming",
    title="electroforming",
    help="""Form the array row by row, with a read after every step of the ramp.

    Cells that are formed already are left alone, and so are those that the passport calls formed,
    or dead for any reason but "not formed". Forming cannot be undone.

    \b
    rram forming --board 'sim://?preset=taox_180nm&seed=7&state=chip.npz'
    rram forming --start 2.8 --stop 3.4 --step 0.02 --compliance 1.4
    """,
    plan=FormingPlan,
    columns=columns,
    units=units,
    run=run,
    findings=findings,
    draw=draw,
)
