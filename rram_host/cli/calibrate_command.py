"""`rram calibrate`: measure what can be measured of a board and its chip, and keep it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click
import numpy as np

from rram_host.array.calibrate import CalibrationPlan
from rram_host.cli.common import (
    BarObserver,
    emit,
    on_a_board,
    open_board,
    out_option,
    run_folder,
    say,
    seed_option,
)
from rram_host.experiments import calibrate as job
from rram_host.experiments.steps import Steps
from rram_host.records import plots


@click.command()
@on_a_board
@out_option
@seed_option
@click.option(
    "--prepare",
    is_flag=True,
    help="Program random conductances first. What the array holds is LOST.",
)
@click.option("--turns", default=256, show_default=True, help="Alternations of every comparison.")
def calibrate(
    board: str,
    spec: str,
    passport: Path | None,
    as_json: bool,
    out: Path | None,
    seed: int,
    prepare: bool,
    turns: int,
) -> None:
    """Measure offsets, gains of ranges and line resistances, and show what that is worth.

    Only reads, so that stored conductances stay; but cells must conduct and differ (programmed;
    or --prepare, which programs random ones). With --passport the calibration is written there,
    and every later command with that passport uses it.

    \b
    rram calibrate --prepare --passport chip7.json --board 'sim://?seed=7&state=chip7.npz'
    rram vmm W.npy X.npy --passport chip7.json --board 'sim://?seed=7&state=chip7.npz'
    """
    plan = job.CalibratePlan(CalibrationPlan(turns=turns), prepare, seed=seed)
    folder = run_folder(
        "calibrate",
        out,
        {
            "board": board,
            "spec": spec,
            "passport": passport,
            "prepare": prepare,
            "turns": turns,
            "seed": seed,
        },
    )
    with open_board(board, spec, passport=passport) as opened, closing(BarObserver(as_json)) as bar:
        result = job.run(opened, plan, Steps(bar, lambda: opened.board_time_s))
        kept = str(opened.passport.file.path) if opened.passport else None
    values = result.values | {"passport": kept}
    if folder:
        folder.save(
            "products",
            expected_a=result.expected_a,
            **{name.replace(" ", "_") + "_a": y for name, y in result.measured_a.items()},
        )
        plots.calibration(folder.file("calibration.png"), result.calibration, result)
        folder.note(results=values)
    emit(as_json, values)
    _say(as_json, result, kept)


def _say(as_json: bool, result: job.CalibrateResult, kept: str | None) -> None:
    lines, rms = result.calibration.lines, float(result.expected_a.std())
    say(as_json, "")
    for name, error in result.error_a.items():
        say(
            as_json,
            f"rms error of a product, {name:<13} {error * 1e9:9.1f} nA  "
            f"{100 * error / rms:7.3f} % of its rms",
        )
    say(
        as_json,
        f"noise of one product (read noise, ADC)  {result.floor_a * 1e9:9.1f} nA  "
        f"{100 * result.floor_a / rms:7.3f} %",
    )
    times = result.error_a["uncalibrated"] / result.error_a["calibrated"]
    say(as_json, f"{times:.1f} times down by calibration")
    say(
        as_json,
        f"switches {lines.row_ohm.mean():.1f} ohm (rows {lines.row_ohm.min():.1f} to "
        f"{lines.row_ohm.max():.1f}, standard error {result.calibration.row_error_ohm.mean():.1f}"
        f"); BL lead {lines.bl_lead_ohm:.2f}, BL {lines.bl_segment_ohm:.2f} and SL "
        f"{lines.sl_segment_ohm:.2f} ohm a cell",
    )
    offset = result.calibration.tia_offset_v
    say(
        as_json,
        f"amplifier offsets {1e3 * offset.std():.2f} mV rms, largest "
        f"{1e3 * np.abs(offset).max():.2f} mV; bit-line offsets to "
        f"{1e3 * result.calibration.dac_offset_error_v.mean():.2f} mV",
    )
    say(as_json, f"written to {kept}" if kept else "not kept: give --passport FILE")
