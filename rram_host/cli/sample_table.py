"""What `rram sample` prints."""

from __future__ import annotations

import math
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table


def print_sample(values: dict[str, Any]) -> None:
    """Figures, table and rates."""
    click.echo(_figures(values))
    if not values["exact_density"]:
        click.echo("log q of this flow is approximate: so are the weights, and all that they make")
    _table(values)
    click.echo(_rates(values))


def _figures(q: dict[str, Any]) -> str:
    sigma = q["log_z_sigma"]
    exact = f" ({sigma:+.1f} σ from exact)" if math.isfinite(sigma) else ""
    return (
        f"N {q['n']}: ESS {q['ess']:.4f}, acceptance {q['acceptance']:.4f}, "
        f"std(log w) {q['std_log_w']:.3f}, longest rejection {q['longest_rejection']}, "
        f"log Z {q['log_z']:.5f} ± {q['log_z_error']:.5f}{exact}"
    )


def _table(values: dict[str, Any]) -> None:
    baseline = values["baseline"]
    name = baseline["name"] if baseline else ""
    table = Table(
        title="observables of the chain; tau in proposals, errors account for it",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    heads = ["", "flow", "tau", "eff./s", "reference", "dev."]
    heads += [name, "dev.", "tau", "eff./s"] if baseline else []
    for head in heads:
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    for observable, row in values["observables"].items():
        cells = [observable, _pm(row["mean"], row["error"]), *_worth(row), *_against(row)]
        if baseline:
            other = row["baseline"]
            cells += [_pm(other["mean"], other["error"]), _sigma(other["sigma"]), *_worth(other)]
        table.add_row(*cells)
    Console(width=150, highlight=False, markup=False).print(table)


def _worth(row: dict[str, Any]) -> tuple[str, str]:
    """Autocorrelation time, and effective samples a second."""
    return f"{row['tau']:.2f} ± {row['tau_error']:.2f}", _count(row["effective_per_s"])


def _against(row: dict[str, Any]) -> tuple[str, str]:
    if not math.isfinite(row["reference"]):
        return "", ""
    value, error = row["reference"], row["reference_error"]
    text = _pm(value, error) if error else f"{value:.7g}"
    source = {"reference": ""}.get(row["reference_source"], row["reference_source"])
    return f"{text} {source}".rstrip(), _sigma(row["sigma"])


def _rates(values: dict[str, Any]) -> str:
    seconds, now = values["seconds"], values["drawn_now"]
    if not now:
        return "nothing was left to draw"
    parts = ", ".join(
        f"{name} {seconds[name]:.3g} s" for name in ("draw", "chain", "measure", "record")
    )
    text = (
        f"{now} drawn: {parts}; {_count(values['draws_per_s'])} configurations a second, "
        f"Metropolis-Hastings {values['ns_per_proposal']:.0f} ns a proposal"
    )
    board_s = values["draw_board_s"]
    if board_s:
        worth = now / (2.0 * values["observables"]["|M|"]["tau"] * board_s)
        text += (
            f"\nboard time of these draws {board_s:.3g} s: {_count(worth)} effective |M| samples"
        )
        text += " a second of it (eff./s above is wall time of this computer, emulation included)"
    other = values["baseline"]
    if other:
        text += f"\n{other['name']}: {other['n']} configurations in {other['wall_s']:.3g} s, "
        text += f"acceptance {other['acceptance']:.3f}, tau in kept configurations; one process, "
        text += "thermalisation (and the flow's training) not counted"
    return text


def _count(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _sigma(value: float) -> str:
    return f"{value:+.1f} σ" if math.isfinite(value) else ""


def _pm(value: float, error: float) -> str:
    """Two digits of the error."""
    if not error > 0.0:
        return f"{value:.6g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"
