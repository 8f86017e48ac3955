"""Panels that both figures have: autocorrelation, ESS, an observable, shares, time, energy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rram_host.analog.ledger import Workload, corrected
from rram_host.analog.paper_model import CLAIMS, Claim
from rram_host.experiments.estimate import workload_of
from rram_host.experiments.lattice_figures import analysis
from rram_host.experiments.lattice_figures.analysis import Pair
from rram_host.experiments.lattice_figures.drawing import Box, Line, Panel, Point
from rram_host.experiments.lattice_figures.plan import REPEATS, FigurePlan, System
from rram_host.experiments.lattice_figures.samples import ARRAY, HMC, HMC_1, SOFTWARE, WOLFF
from rram_host.experiments.lattice_figures.store import Arrays
from rram_host.lattice.actions import Action
from rram_host.lattice.autocorrelation import IntegratedTime
from rram_host.lattice.exact import EXACT_M2, exact_4x4, free_field
from rram_host.lattice.reference import reference

METHODS = (HMC_1, HMC, WOLFF, SOFTWARE, ARRAY)


@dataclass(frozen=True)
class Context:
    """A plan with its samples.

    Attributes:
        plan: what was asked.
        samples: by method and system; what could not be made is not there.
    """

    plan: FigurePlan
    samples: Mapping[tuple[str, System], Arrays]
    _quantities: dict[tuple[str, System], dict[str, Pair]] = field(default_factory=dict, repr=False)

    def of(self, system: System) -> Iterator[tuple[str, Arrays]]:
        """Samples of one system, in the order of methods."""
        for method in METHODS:
            found = self.samples.get((method, system))
            if found is not None:
                yield method, found

    def derived(self, method: str, system: System) -> dict[str, Pair]:
        """Derived quantities of a sample; fits take a second, so they are made once."""
        key = method, system
        if key not in self._quantities:
            sample = self.samples[key]
            self._quantities[key] = analysis.quantities(sample, system.action, system.shape)
        return self._quantities[key]

    @property
    def lengths(self) -> list[int]:
        """Lattices of the figure."""
        return sorted({system.length for system in self.plan.systems})

    @property
    def plain(self) -> list[System]:
        """One system a lattice."""
        compared = {system.length: system for system in self.plan.compared}
        rest = {s.length: s for s in reversed(self.plan.systems) if s.length not in compared}
        return [({**rest, **compared})[length] for length in self.lengths]

    @property
    def categories(self) -> list[str]:
        """Names of `plain`."""
        return [f"L = {length}" for length in self.lengths]

    @property
    def largest(self) -> System:
        """The largest compared lattice that a flow sampled; without one, the largest."""
        with_flow = [s for s in self.plan.compared if (SOFTWARE, s) in self.samples]
        return (with_flow or list(self.plan.compared))[-1]

    def without_flow(self, systems: Sequence[System]) -> list[str]:
        """A sentence on the models that are not shipped."""
        names = dict.fromkeys(s.model for s in systems if (SOFTWARE, s) not in self.samples)
        return [f"not shipped: {', '.join(names)}"] if names else []


def describe(action: Action) -> str:
    """An action as a person writes it."""
    lam = getattr(action, "lam", None)
    if lam is not None:
        return f"λ = {lam:g}"
    return f"g = {getattr(action, 'g', 0):g}, m/g = {getattr(action, 'm_over_g', 0):g}"


def known(system: System, name: str) -> tuple[float, float, str] | None:
    """Value, error and source of an observable where it is exact or a reference holds it."""
    action, fields = system.action, {"absM": "abs_m", "chi2": "chi2", "E": "energy", "cos": "cos"}
    if name in fields:
        if getattr(action, "u", None) == 0.0:
            return float(getattr(free_field(action, system.shape), fields[name])), 0.0, "exact"
        lam = getattr(action, "lam", None)
        if system.length == 4 and getattr(action, "m2", None) == EXACT_M2 and lam in (5, 5.5, 6):
            return float(getattr(exact_4x4(lam), fields[name])), 0.0, "exact"
    found = reference(action, system.shape)
    if found is None or name not in found.values:
        return None
    return (*found.values[name], "long HMC runs")


def autocorrelation_panel(place: str, context: Context, lags: int = 40) -> Panel:
    """Autocorrelation of M by every method."""
    system, points = context.largest, []
    for method, sample in context.of(system):
        if method == WOLFF:
            continue  # its updates are of another kind
        rho, error = analysis.autocorrelation(sample, "M", lags)
        points += [
            Point(method, t, float(r), float(e))
            for t, (r, e) in enumerate(zip(rho, error, strict=True))
        ]
    return Panel(
        place,
        f"autocorrelation of M, L = {system.length}, {describe(system.action)}",
        "t (trajectories or proposals)",
        "ρ(t) (1)",
        points,
        [Line("independent", [0, lags], [0, 0])],
        joined=True,
    )


def iact_panel(
    place: str, context: Context, printed: Mapping[int, tuple[float, float]], name: str = "M"
) -> Panel:
    """Integrated autocorrelation times against the lattice, beside those printed (HMC, flow)."""
    points = []
    for x, system in enumerate(context.plain):
        for method, sample in context.of(system):
            if method == WOLFF:
                continue
            found = analysis.tau(sample, name)
            points.append(
                Point(method, x, found.tau, found.tau_error, note=f"window {found.window}")
            )
        for series, value in zip(
            ("paper, HMC", "paper, flow"), printed.get(system.length, ()), strict=False
        ):
            points.append(Point(series, x, value, 0.0, note="printed"))
    half = Line("independent", [-0.6, len(context.plain) - 0.4], [0.5, 0.5])
    return Panel(
        place,
        f"integrated autocorrelation time of {name}",
        f"lattice, {_what(context)}",
        f"τ({name}) (trajectories or proposals)",
        points,
        [half],
        categories=context.categories,
        log_y=True,
        missing=context.without_flow(context.plain),
    )


def _what(context: Context) -> str:
    return describe(context.plan.compared[0].action)


def ess_panel(place: str, context: Context) -> Panel:
    """ESS of the repeats, in software and on the array."""
    boxes, n = [], set()
    for x, system in enumerate(context.plan.compared):
        for method, sample in context.of(system):
            if "log_w" in sample:
                boxes.append(Box(method, x, analysis.ess(sample).tolist()))
                n.add(sample["log_w"].shape[1])
    sizes = " or ".join(str(size) for size in sorted(n))
    return Panel(
        place,
        f"ESS, {REPEATS} repeats of N = {sizes}" if sizes else "ESS",
        f"lattice, {_what(context)}",
        "ESS (share of N)",
        boxes=boxes,
        categories=[f"L = {s.length}" for s in context.plan.compared],
        missing=context.without_flow(context.plan.compared),
        y_limits=(min([0.8, *(min(b.values) - 0.05 for b in boxes)]), 1.0),
    )


def observable_panel(place: str, context: Context, name: str, label: str) -> Panel:
    """An observable over its exact or reference value, repeat by repeat."""
    boxes, missing = [], []
    for x, system in enumerate(context.plan.compared):
        found = known(system, name)
        if found is None and (HMC, system) in context.samples:
            found = (*analysis.mean(context.samples[HMC, system], name), "tuned HMC")
            missing.append(f"reference at L = {system.length}: tuned HMC of this run")
        if found is None:
            continue
        for method, sample in context.of(system):
            values = analysis.by_repeat(sample, name, REPEATS) / found[0]
            boxes.append(Box(method, x, values.tolist()))
    one = Line("reference", [-0.6, len(context.plan.compared) - 0.4], [1.0, 1.0])
    return Panel(
        place,
        f"{label}, {REPEATS} repeats",
        f"lattice, {_what(context)}",
        f"{label} / reference (1)",
        boxes=boxes,
        lines=[one],
        categories=[f"L = {s.length}" for s in context.plan.compared],
        missing=[*missing, *context.without_flow(context.plan.compared)],
    )


def error_panel(place: str, context: Context) -> Panel:
    """Relative error of the susceptibility from one chain of N entries."""
    system, points = context.largest, []
    for method, sample in context.of(system):
        points += [
            Point(method, n, error, doubt)
            for n, error, doubt in analysis.error_against_n(sample, "chi2")
        ]
    lines = []
    if points:
        ends = np.array([min(p.x for p in points), max(p.x for p in points)])
        # the relative spread of chi2 = V M^2 is sqrt 2 for a Gaussian M
        lines = [Line("√(2 / N)", ends.tolist(), np.sqrt(2.0 / ends).tolist())]
    return Panel(
        place,
        f"error of χ₂, L = {system.length}, {describe(system.action)}",
        "N (trajectories, updates or proposals)",
        "standard error / χ₂ (1)",
        points,
        lines,
        log_x=True,
        log_y=True,
        joined=True,
    )


def workloads(context: Context) -> dict[System, Workload]:
    """What the shipped flows of the compared systems multiply."""
    return {s: workload_of(s.model) for s in context.plan.compared if s.weights}


def _claims(context: Context) -> list[Claim]:
    theory = context.plan.compared[0].action.name
    return [claim for claim in CLAIMS if claim.theory == theory]


def shares_panel(place: str, context: Context) -> Panel:
    """Shares of weights and MACs on arrays: these flows by counting, and the printed ones."""
    points: list[Point] = []
    claims = _claims(context)
    lengths = sorted({*(c.length for c in claims), *(s.length for s in context.plan.compared)})
    for system, work in workloads(context).items():
        x = lengths.index(system.length)
        note = f"{work.weights_analog} weights, {work.macs_analog} MACs on {work.arrays} arrays"
        points.append(Point("weights, these", x, 100 * work.weight_share, 0.0, note=note))
        points.append(Point("MACs, these", x, 100 * work.mac_share, 0.0, note=note))
    for claim in claims:
        x = lengths.index(claim.length)
        points.append(Point("weights, paper", x, 100 * claim.weight_share, 0.0, note="printed"))
        points.append(Point("MACs, paper", x, 100 * claim.mac_share, 0.0, note="printed"))
    return Panel(
        place,
        "weights and MACs on arrays (counted: no error)",
        "lattice",
        "share on arrays (%)",
        points,
        categories=[f"L = {length}" for length in lengths],
        missing=context.without_flow(context.plan.compared),
    )


def time_panel(place: str, context: Context, name: str = "absM") -> Panel:
    """Time of an effective sample: this machine's for software, the board's own for the array."""
    points = []
    costs = workloads(context)
    for x, system in enumerate(context.plan.compared):
        for method, sample in context.of(system):
            found, n = analysis.tau(sample, name), sample["M"].size
            spent = float(sample["board_s"] if method == ARRAY else sample["wall_s"])
            note = "board time" if method == ARRAY else "wall time of one core, thermalised"
            points.append(_per_effective(method, x, spent / n, found, note))
            if method == SOFTWARE and system in costs:
                each_s = corrected(costs[system]).macro_s
                note = "macro of the paper, 17.89 ns a product; digital parts not counted"
                points.append(_per_effective("macro", x, each_s, found, note))
    return Panel(
        place,
        "time of an effective sample of |M|",
        f"lattice, {_what(context)}",
        "2 τ t (s)",
        points,
        categories=[f"L = {s.length}" for s in context.plan.compared],
        log_y=True,
        missing=context.without_flow(context.plan.compared),
    )


def energy_panel(place: str, context: Context, name: str = "absM") -> Panel:
    """Energy of an effective sample of the flow: GPU, macro with converters, macro's cells."""
    points = []
    costs = workloads(context)
    for x, system in enumerate(context.plan.compared):
        sample = context.samples.get((SOFTWARE, system))
        if sample is None or system not in costs:
            continue
        found, cost = analysis.tau(sample, name), corrected(costs[system])
        bound_j = cost.array_j + cost.digital_j + cost.rest_j
        for series, energy_j, note in (
            ("GPU", cost.gpu_j, "549 fJ a MAC or pointwise operation"),
            (
                "macro",
                cost.total_j,
                "converters by use, cells by G V^2 t, LoRA and rest on the GPU",
            ),
            ("macro, cells alone", bound_j, "a bound: converters for nothing"),
        ):
            points.append(_per_effective(series, x, energy_j, found, note))
    return Panel(
        place,
        "energy of an effective sample of |M|, estimated",
        f"lattice, {_what(context)}",
        "2 τ E (J)",
        points,
        categories=[f"L = {s.length}" for s in context.plan.compared],
        log_y=True,
        missing=context.without_flow(context.plan.compared),
    )


def _per_effective(series: str, x: float, each: float, found: IntegratedTime, note: str) -> Point:
    return Point(series, x, 2 * found.tau * each, 2 * found.tau_error * each, note=note)
