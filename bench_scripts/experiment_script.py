"""What scripts around one experiment share: the board, the run file, findings and the picture."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rram_host import open_board
from rram_host.experiments.experiment import Experiment
from rram_host.experiments.recording import record


def options_for(text: str) -> argparse.ArgumentParser:
    """A parser with the options that every script has."""
    head, _, rest = text.partition("\n")
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=head, epilog=rest.strip(), formatter_class=form)
    parser.add_argument("--board", default="sim://?preset=taox_180nm&seed=7", help="board URL")
    parser.add_argument("--passport", help="passport of the chip on the board")
    parser.add_argument("--out", type=Path, help="run file to write, default runs/TIME-NAME.h5")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--force", action="store_true", help="resume a chip that was used since")
    return parser


def run(experiment: Experiment[Any], plan: object, options: argparse.Namespace) -> None:
    """Run, record, print what was found, and draw it beside the run file."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = options.out or Path("runs") / f"{stamp}-{experiment.name}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    resume, force = options.resume, options.force
    with open_board(options.board, passport=options.passport, check_map=not resume) as board:
        data = record(board, experiment, plan, path, resume=resume, force=force).data()
        print(f"{board.board_time_s:.3f} s of board time, {board.traffic.programs} programs")
    for found in experiment.findings(plan, data):
        error = "" if found.error is None else f" ± {found.error:.2g}"
        paper = f"   (paper: {found.paper})" if found.paper else ""
        print(f"{found.name:42s} {found.value:.5g}{error} {found.unit}{paper}")
    figure = Figure(figsize=(7, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    experiment.draw(figure, plan, data)
    figure.savefig(path.with_suffix(".png"), dpi=110)
    print(f"records: {path}, picture: {path.with_suffix('.png')}")
