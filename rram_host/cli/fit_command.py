"""rram fit: device parameters out of recorded runs, beside the data they are from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.table import Table

from rram_host.cli.common import emit, json_option, say
from rram_host.cli.experiment_command import number
from rram_host.errors import InputError

if TYPE_CHECKING:
    from rram_host.experiments.fitting.report import FitReport

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("files", type=_FILE, nargs=-1, required=True, metavar="RUN.h5...")
@click.option("--out", type=_FILE, metavar="PRESET.toml", help="Write what was fitted as a preset.")
@click.option(
    "--base",
    metavar="NAME",
    help="Preset that --out takes everything else from: a name or a path. Default: that of the "
    "runs' board, or taox_180nm.",
)
@click.option(
    "--picture", type=_FILE, metavar="FILE.png", help="Draw data and fitted laws; also .pdf, .svg."
)
@json_option
def fit(
    files: tuple[Path, ...], out: Path | None, base: str | None, picture: Path | None, as_json: bool
) -> None:
    """Recover device parameters from runs of iv, set-curve and retention.

    Each parameter comes with its standard error, over cells and cycles; what the runs do not tell
    is left out. I-V of at least five cells, by a compliance that SETs them above what the weakest
    RESET leaves, tells most.

    \b
    rram fit runs/iv-*.h5 runs/set.h5 runs/retention.h5 --picture fit.png
    rram fit runs/*.h5 --out mine.toml
    rram info --board 'sim://?preset=mine.toml&seed=7'
    """
    from rram_host.experiments.fitting import preset_file
    from rram_host.experiments.fitting.report import fit_files

    report = fit_files(files)
    written = []
    if out:
        preset_file.write(out, report.estimates, base or preset_file.base_of(report.boards))
        written.append(out)
    if picture:
        _draw(report, picture)
        written.append(picture)
    emit(as_json, _values(report) | {"preset": out, "picture": picture})
    if not as_json:
        _print(report)
    for path in written:
        say(as_json, f"written: {path}")


def _values(report: FitReport) -> dict[str, object]:
    return {
        "parameters": [
            {**vars(item), "unit": item.si_unit, "runs": list(item.runs)}
            for item in report.estimates
        ],
        "residuals": [{"runs": name, **vars(item)} for name, item in report.residuals],
        "notes": report.notes,
    }


def _print(report: FitReport) -> None:
    from rram_host.experiments.fitting.estimate import some

    console = Console(width=120, highlight=False, markup=False)
    table = Table(title="fitted parameters", box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("parameter", "value ± standard error", "from", "remark"):
        table.add_column(name, justify="right" if name.startswith("value") else "left")
    for item in report.estimates:
        text, size = item.unit
        value = number(item.value / size, item.error / size, text)
        table.add_row(item.name, value, some(item.runs), item.note)
    console.print(table)
    table = Table(title="data against the fitted law", box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("of", "chi2", "dof", "from"):
        table.add_column(name, justify="right" if name in ("chi2", "dof") else "left")
    for runs, residual in report.residuals:
        table.add_row(
            residual.what, f"{residual.chi2:.1f}", str(residual.dof), some(runs.split(", "))
        )
    console.print(table)
    for note in report.notes:
        click.echo(f"note: {note}")


def _draw(report: FitReport, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from rram_host.experiments.fitting.picture import draw

    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure, report)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot draw {path}: {error}") from None
