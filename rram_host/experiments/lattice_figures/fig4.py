"""Panels of Fig. 4: a graphene wire."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from rram_host.experiments.lattice_figures import analysis
from rram_host.experiments.lattice_figures import common_panels as common
from rram_host.experiments.lattice_figures.common_panels import Context, describe
from rram_host.experiments.lattice_figures.drawing import Line, Panel, Point
from rram_host.experiments.lattice_figures.plan import System
from rram_host.experiments.lattice_figures.samples import ARRAY, EDGES, HMC, HMC_1
from rram_host.lattice.actions import GrapheneAction
from rram_host.lattice.derived import condensate
from rram_host.lattice.exact import free_field

TITLE = "graphene wire: HMC, a flow in software, the same flow on emulated arrays"


def panels(context: Context) -> list[Panel]:
    """All of them."""
    return [
        _fields("4a", context),
        _two_point("4b", context),
        _scan("4c", context, "mass gap, cosh fit", "gap / g (1)", "gap", _exact_gap),
        _scan(
            "4d",
            context,
            "chiral condensate",
            "⟨ψ̄ψ⟩ / g (1)",
            "condensate",
            _exact_condensate,
        ),
        common.autocorrelation_panel("4e", context, 20),
        common.iact_panel("4f", context, {}),
        common.ess_panel("4g", context),
        common.observable_panel("4h", context, "chi2", "χ₂"),
        common.error_panel("4i", context),
        common.shares_panel("4j", context),
        common.time_panel("4k", context),
        common.energy_panel("4l", context),
    ]


def _fields(place: str, context: Context) -> Panel:
    """Distribution of the field at a site, beside that at m = 0."""
    system, points, lines = context.largest, [], []
    middle = 0.5 * (EDGES[1:] + EDGES[:-1])
    for method, sample in context.of(system):
        if method == HMC_1:
            continue
        values, errors = analysis.density(sample, EDGES)
        points += [
            Point(method, float(x), float(y), float(e))
            for x, y, e in zip(middle, values, errors, strict=True)
        ]
    free = free_field(GrapheneAction(_g(system), 0.0), system.shape)
    normal = np.exp(-0.5 * middle**2 / free.phi2) / math.sqrt(2 * math.pi * free.phi2)
    lines.append(Line("m = 0, exact", middle.tolist(), normal.tolist()))
    return Panel(
        place,
        f"field at a site, L = {system.length}, {describe(system.action)}",
        "φ (1)",
        "density (1)",
        points,
        lines,
        missing=context.without_flow([system]),
    )


def _two_point(place: str, context: Context) -> Panel:
    """Zero-momentum correlator."""
    system, points = context.largest, []
    for method, sample in context.of(system):
        if method == HMC_1:
            continue
        values, errors = analysis.correlator(sample)
        points += [
            Point(method, t, float(y), float(e), shift=_shift(method, 0.09))
            for t, (y, e) in enumerate(zip(values, errors, strict=True))
        ]
    free = free_field(GrapheneAction(_g(system), 0.0), system.shape)
    exact = Line("m = 0, exact", list(range(len(free.g))), list(free.g))
    return Panel(
        place,
        f"two-point function, L = {system.length}, {describe(system.action)}",
        "t (sites)",
        "G(t) (1)",
        points,
        [exact],
        log_y=True,
        missing=context.without_flow([system]),
    )


def _scan(
    place: str,
    context: Context,
    title: str,
    label: str,
    name: str,
    exact: Callable[[System], float],
) -> Panel:
    """A quantity over g against m / g, at the largest scanned lattice; g as groups."""
    length = max(s.length for s in context.plan.systems if s.length <= 12)
    scanned = [s for s in context.plan.systems if s.length == length]
    points, lines = [], []
    for system in scanned:
        g, m_over_g = _g(system), _mass(system)
        for method, _ in context.of(system):
            if method == HMC_1:
                continue
            found, error = context.derived(method, system)[name]
            note = f"L = {length}"
            beside = _shift(method, 0.011) + (0.004 if g < 1.0 else -0.004)
            group = f"g = {g:g}"
            points.append(Point(method, m_over_g, found / g, error / g, group, note, beside))
        if m_over_g == 0.0:
            y = exact(system) / g
            lines.append(Line("exact at m = 0", [-0.03, 0.03], [y, y], f"g = {g:g}"))
    with_flow = [s for s in scanned if _mass(s) in (0.0, 0.2)]
    return Panel(
        place,
        f"{title}, L = {length}",
        "m / g",
        label,
        sorted(points, key=lambda p: (p.group, p.x)),
        lines,
        missing=context.without_flow(with_flow),
    )


def _exact_gap(system: System) -> float:
    return free_field(system.action, system.shape).gap


def _exact_condensate(system: System) -> float:
    return condensate(free_field(system.action, system.shape).cos)


def _shift(method: str, step: float) -> float:
    """Samplers beside each other on a number axis."""
    return step * {HMC: -1.0, ARRAY: 1.0}.get(method, 0.0)


def _g(system: System) -> float:
    return float(getattr(system.action, "g", math.nan))


def _mass(system: System) -> float:
    return float(getattr(system.action, "m_over_g", math.nan))
