"""How much sooner a trained flow adapts than a fresh one learns: both curves, measured."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rram_host.errors import InputError
from rram_host.flows import kinds
from rram_host.flows.adapt import AdaptPlan, adapted
from rram_host.flows.lora import Shares, shares
from rram_host.flows.protocol import Flow
from rram_host.flows.ship import figures
from rram_host.flows.training import TrainLog, TrainSettings, moving, train
from rram_host.lattice.actions import Action

__all__ = [
    "Case",
    "Comparison",
    "Curve",
    "Lengths",
    "Point",
    "compare",
    "lengths_to",
    "settings_from",
    "write_csv",
]

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Case:
    """One adaptation, done in one way or several.

    Attributes:
        title: what is shown of it, e.g. "phi^4, 6 x 6, lambda 5 to 6".
        base: the trained flow, with whatever is wrong with its weights.
        action: what it shall fit.
        plans: corrections and schedules, by label; their numbers of steps are replaced.
        scratch: schedule of a training from scratch; its number of steps is replaced.
        trained_for: what the base was trained for.
    """

    title: str
    base: Flow
    action: Action
    plans: Mapping[str, AdaptPlan]
    scratch: TrainSettings
    trained_for: Action


@dataclass(frozen=True)
class Lengths:
    """Of how many optimiser steps runs are made; every run has a schedule of its own length.

    Attributes:
        adapt: of adaptations, rising.
        scratch: of trainings from scratch, rising; they end with the first that is as good as the
            best adaptation.
        samples: N of every ESS.
        seed: of the draws behind it.

    Raises:
        InputError: no lengths, or lengths that do not rise from 1 or more.
    """

    adapt: tuple[int, ...] = (25, 50, 100, 200)
    scratch: tuple[int, ...] = (125, 250, 500, 1000, 2000, 4000, 8000)
    samples: int = 32_768
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("adapt", "scratch"):
            values = getattr(self, name)
            if not values or values[0] < 1 or list(values) != sorted(set(values)):
                raise InputError(f"{name}: lengths must rise from 1 or more, got {values}")
        if self.samples < 2:
            raise InputError(f"samples must be >= 2, got {self.samples}")


@dataclass(frozen=True)
class Point:
    """What one run of its own length reached.

    Attributes:
        steps: optimiser steps.
        ess: at `Lengths.samples`, a fraction.
        std_log_w: nats.
        seconds: wall time of training.
    """

    steps: int
    ess: float
    std_log_w: float
    seconds: float


@dataclass(frozen=True)
class Curve:
    """Adaptations of rising lengths by one plan.

    Attributes:
        label: of the plan.
        points: by length.
        trained: how many numbers moved.
        numbers: of the adapted flow, on the array and beside it.
    """

    label: str
    points: tuple[Point, ...]
    trained: int
    numbers: Shares

    @property
    def trained_share(self) -> float:
        """Numbers that moved, over them and the dense weights."""
        return self.trained / (self.numbers.base + self.trained)


@dataclass(frozen=True)
class Comparison:
    """All curves of a case.

    Attributes:
        title: of the case.
        before: the flow before it was adapted.
        curves: of adaptations.
        scratch: trainings from scratch, by length.
        samples: N of every ESS.
    """

    title: str
    before: Point
    curves: tuple[Curve, ...]
    scratch: tuple[Point, ...]
    samples: int

    def scratch_steps(self, ess: float) -> float:
        """Steps from scratch to an ESS, interpolated in the logarithm of the steps.

        NaN, not known, where the shortest run is better already; infinite where no run reached it.
        """
        last: Point | None = None
        for point in self.scratch:
            if point.ess >= ess:
                if last is None:
                    return float(point.steps) if point.ess == ess else math.nan
                part = (ess - last.ess) / (point.ess - last.ess)
                return float(last.steps * (point.steps / last.steps) ** part)
            if last is None or point.ess > last.ess:
                last = point
        return math.inf

    def ratio(self, point: Point) -> float:
        """Steps of an adaptation over those from scratch to its ESS; 0 where none got there.

        NaN where the shortest run from scratch is better already.
        """
        return point.steps / self.scratch_steps(point.ess)

    def rows(self) -> list[dict[str, Any]]:
        """One row a run, adaptations with the steps from scratch to the same ESS."""
        rows: list[dict[str, Any]] = [{"run": "as it was", **asdict(self.before)}]
        for curve in self.curves:
            for point in curve.points:
                steps = self.scratch_steps(point.ess)
                more = {"scratch_steps": _known(steps), "ratio": _known(self.ratio(point))}
                rows.append({"run": curve.label, **asdict(point), **more})
        return rows + [{"run": "from scratch", **asdict(point)} for point in self.scratch]

    def summary(self) -> dict[str, Any]:
        """As JSON tells of it."""
        return {
            "title": self.title,
            "samples": self.samples,
            "ess_before": self.before.ess,
            "adaptations": [self._curve(curve) for curve in self.curves],
            "scratch": [asdict(point) for point in self.scratch],
        }

    def _curve(self, curve: Curve) -> dict[str, Any]:
        best = max(curve.points, key=lambda point: point.ess)
        return {
            "label": curve.label,
            "best": {"steps": best.steps, "ess": best.ess, "ratio": _known(self.ratio(best))},
            "trained_numbers": curve.trained,
            "trained_share": curve.trained_share,
            "numbers": asdict(curve.numbers),
            "lora_share": curve.numbers.lora_share,
            "digital_share": curve.numbers.digital_share,
            "points": [{**asdict(p), "ratio": _known(self.ratio(p))} for p in curve.points],
        }


def compare(case: Case, lengths: Lengths, progress: Progress | None = None) -> Comparison:
    """Adapt, and train from scratch, each for several lengths.

    A training from scratch trains all weights of a flow of the same settings, with no noise on its
    weights: noise costs steps.

    Args:
        case: what is adapted to what.
        lengths: of the runs.
        progress: called with (steps done, steps at most, what runs).

    Raises:
        InputError: as of `flows.adapt.adapted` and `flows.training.train`.
    """
    told = _Told(progress, len(case.plans) * sum(lengths.adapt) + sum(lengths.scratch))
    before = _point(case.base, case.action, lengths, 0, 0.0)
    curves = tuple(_curve(case, label, lengths, told) for label in case.plans)
    wanted = max(point.ess for curve in curves for point in curve.points)
    scratch = tuple(_from_scratch(case, lengths, wanted, told))
    return Comparison(case.title, before, curves, scratch, lengths.samples)


def settings_from(metadata: Mapping[str, Any]) -> TrainSettings:
    """Schedule of a training from scratch beside a loaded flow: its batch and learning rate."""
    names = ("batch", "lr", "beta2")
    found = {name: metadata["train"][name] for name in names if name in metadata["train"]}
    return TrainSettings(**found, weight_noise=0.0)


def lengths_to(plan: AdaptPlan) -> Lengths:
    """Runs up to the length of a plan, and up to forty times as long from scratch."""
    most = plan.finetune.steps
    adapt = sorted({max(1, most // part) for part in (8, 4, 2, 1)})
    scratch = [max(1, 2 * most // 5)]
    while scratch[-1] < 40 * most:
        scratch.append(2 * scratch[-1])
    return Lengths(tuple(adapt), tuple(scratch))


def write_csv(path: Path, found: Sequence[Comparison]) -> None:
    """All runs of comparisons, a row each.

    Raises:
        InputError: the file cannot be written.
    """
    names = ("case", "run", "steps", "ess", "std_log_w", "seconds", "scratch_steps", "ratio")
    try:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            for comparison in found:
                for row in comparison.rows():
                    writer.writerow({"case": comparison.title, **row})
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass
class _Told:
    """Tells of steps over several runs."""

    progress: Progress | None
    total: int
    done: int = 0

    def of(self, note: str) -> Callable[[TrainLog], None]:
        """What a run of that name calls back."""

        def tell(entry: TrainLog) -> None:
            if self.progress is not None:
                self.progress(self.done + entry.step, self.total, note)

        return tell


def _curve(case: Case, label: str, lengths: Lengths, told: _Told) -> Curve:
    plan = case.plans[label]
    points, flow = [], case.base
    for steps in lengths.adapt:
        schedule = replace(plan.finetune, steps=steps, warmup=min(plan.finetune.warmup, steps // 5))
        begin = time.perf_counter()
        flow = adapted(
            case.base,
            case.action,
            replace(plan, finetune=schedule),
            told.of(f"{label}, {steps}"),
            trained_for=case.trained_for,
        )
        told.done += steps
        points.append(_point(flow, case.action, lengths, steps, time.perf_counter() - begin))
    trained = sum(p.numel() for p in moving(flow, plan.finetune).values())
    return Curve(label, tuple(points), trained, shares(flow))


def _from_scratch(case: Case, lengths: Lengths, wanted: float, told: _Told) -> Iterator[Point]:
    for steps in lengths.scratch:
        flow = kinds.KINDS[case.base.kind][1](case.base.settings)
        schedule = replace(case.scratch, steps=steps, warmup=min(case.scratch.warmup, steps // 5))
        begin = time.perf_counter()
        train(flow, case.action, schedule, told.of(f"from scratch, {steps}"))
        told.done += steps
        point = _point(flow, case.action, lengths, steps, time.perf_counter() - begin)
        yield point
        if point.ess >= wanted:
            return


def _point(flow: Flow, action: Action, lengths: Lengths, steps: int, seconds: float) -> Point:
    found = figures(flow, action, lengths.samples, lengths.seed)
    return Point(steps, found["ess"], found["std_log_w"], seconds)
