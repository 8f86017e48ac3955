"""Panels of Fig. 3: phi^4."""

from __future__ import annotations

from collections.abc import Callable

from rram_host.experiments.lattice_figures import analysis
from rram_host.experiments.lattice_figures import common_panels as common
from rram_host.experiments.lattice_figures.analysis import Pair
from rram_host.experiments.lattice_figures.common_panels import Context, known
from rram_host.experiments.lattice_figures.drawing import Line, Panel, Point
from rram_host.experiments.lattice_figures.plan import System
from rram_host.experiments.lattice_figures.samples import HMC_1, WOLFF
from rram_host.lattice.actions import Phi4Action

TITLE = "φ⁴, m² = -4: HMC, a flow in software, the same flow on emulated arrays"
PRINTED_TAU = {4: (9.9, 2.1), 24: (23.34, 2.8)}  # HMC and flow, text on Fig. 3


def panels(context: Context) -> list[Panel]:
    """All of them."""
    return [
        common.autocorrelation_panel("3a", context),
        common.iact_panel("3b", context, PRINTED_TAU),
        _scan("3c", context, "E", "Ising energy", "E (1)", _energy),
        _scan("3d", context, "xi_2nd", "correlation length, second moment", "ξ (sites)", _length),
        common.error_panel("3e", context),
        common.ess_panel("3f", context),
        common.observable_panel("3g", context, "chi2", "χ₂"),
        common.shares_panel("3h", context),
        common.time_panel("3i", context),
        common.energy_panel("3j", context),
    ]


def _energy(context: Context, method: str, system: System) -> Pair:
    return analysis.mean(context.samples[method, system], "E")


def _length(context: Context, method: str, system: System) -> Pair:
    return context.derived(method, system)["xi_2nd"]


def _scan(
    place: str,
    context: Context,
    name: str,
    title: str,
    label: str,
    value: Callable[[Context, str, System], Pair],
) -> Panel:
    """A quantity against lambda, a line of references for each lattice."""
    points, lines = [], []
    lams = sorted({_lam(system) for system in context.plan.systems})
    for length in context.lengths:
        scanned = [s for s in context.plan.systems if s.length == length]
        if len(scanned) == 1 and length > 12:
            continue  # sampled for its autocorrelation alone
        for system in scanned:
            for method, _ in context.of(system):
                if method in (HMC_1, WOLFF):
                    continue
                found, error = value(context, method, system)
                x = lams.index(_lam(system))
                points.append(Point(method, x, found, error, note=f"L = {length}"))
        where = {_lam(s): k[0] for s in scanned if (k := known(s, name)) is not None}
        if where:
            x_y = sorted((lams.index(lam), y) for lam, y in where.items())
            lines.append(
                Line("reference", [x for x, _ in x_y], [y for _, y in x_y], f"L = {length}")
            )
    return Panel(
        place,
        title,
        "λ",
        label,
        points,
        lines,
        categories=[f"{lam:g}" for lam in lams],
        missing=context.without_flow([s for s in context.plan.systems if s.length <= 12]),
    )


def _lam(system: System) -> float:
    if isinstance(system.action, Phi4Action):
        return system.action.lam
    raise TypeError(f"Fig. 3 is of phi^4, not of {system.action.name}")
