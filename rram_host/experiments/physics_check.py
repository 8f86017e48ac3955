"""Every sampler against exact values, references and the line L / xi = 4.

A run long enough for the error that a case wants is planned from a short one. What is beyond three
standard errors is measured again, with a fresh seed and four times the statistics, and fails only
if it is beyond three there, too: of n comparisons 0.0027 n are beyond three by luck alone, and
luck does not repeat (0.0027^2 = 7e-6 a comparison), while a wrong sampler is found out the better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from rram_host.experiments.physics_cases import Case, cases
from rram_host.lattice.actions import settings_of
from rram_host.lattice.autocorrelation import mean_and_error
from rram_host.lattice.derived import derived
from rram_host.lattice.observables import measure
from rram_host.lattice.samplers import run_sampler, tuned

__all__ = ["LIMIT_SIGMA", "Comparison", "Report", "check_case", "check_physics"]

Array = npt.NDArray[np.float64]
Measured = dict[str, Array]
Progress = Callable[[int, int, str], None]
LIMIT_SIGMA = 3.0
_BY_LUCK = math.erfc(LIMIT_SIGMA / math.sqrt(2.0))  # a Gaussian beyond it: 0.0027
_SITES_AT_ONCE = 2.5e7  # field values of one batch, 200 MB
_PILOT = 200  # configurations of each chain in the short run


@dataclass(frozen=True)
class Comparison:
    """One number against what is known.

    Attributes:
        source: where the expected value comes from (`Case.source`).
        action: settings of the action.
        shape: lattice (L0, L1).
        sampler: name.
        quantity: name.
        expected: value, and its own standard error (0 for exact; on the line the tolerance).
        measured: value and standard error.
        deviation: (measured - expected) over both errors; on the line over the tolerance.
        passed: within `LIMIT_SIGMA`; on the line no more than as many standard errors outside the
            tolerance.
        repeated: whether this is the second, longer run of a comparison that had failed.
    """

    source: str
    action: Mapping[str, object]
    shape: tuple[int, int]
    sampler: str
    quantity: str
    expected: tuple[float, float]
    measured: tuple[float, float]
    deviation: float
    passed: bool
    repeated: bool = False


@dataclass(frozen=True)
class Report:
    """All comparisons: the first runs, and those made again.

    Attributes:
        first: of every case and sampler.
        again: of those comparisons of `first` that did not pass, in the second run.
    """

    first: tuple[Comparison, ...]
    again: tuple[Comparison, ...]

    @property
    def expected_by_luck(self) -> float:
        """How many of the first comparisons right samplers leave beyond the limit on average."""
        return _BY_LUCK * sum(each.source != "line" for each in self.first)

    @property
    def failed(self) -> tuple[Comparison, ...]:
        """What failed twice."""
        return tuple(each for each in self.again if not each.passed)


def check_physics(quick: bool, seed: int, progress: Progress | None = None) -> Report:
    """Run all cases.

    Args:
        quick: a choice of cases that takes a minute.
        seed: of everything random.
        progress: called with (jobs done, jobs in all, what is running).
    """
    jobs = [(case, name) for case in cases(quick) for name in case.samplers]
    seeds = np.random.SeedSequence(seed).spawn(len(jobs))
    first: list[Comparison] = []
    again: list[Comparison] = []
    for index, (case, name) in enumerate(jobs):
        if progress is not None:
            progress(index, len(jobs), f"{case.action.name} {_size(case.shape)} {name}")
        found, repeated = check_case(case, name, seeds[index])
        first += found
        again += repeated
    return Report(tuple(first), tuple(again))


def check_case(
    case: Case, sampler: str, seeds: np.random.SeedSequence
) -> tuple[tuple[Comparison, ...], tuple[Comparison, ...]]:
    """One sampler on one case: the first comparisons, and the second ones of those that failed."""
    found = tuple(_compare(case, sampler, _sample(case, sampler, seeds, 1.0)))
    bad = {each.quantity for each in found if not each.passed}
    if not bad:
        return found, ()
    longer = _compare(case, sampler, _sample(case, sampler, seeds, 4.0))
    return found, tuple(replace(each, repeated=True) for each in longer if each.quantity in bad)


def _sample(case: Case, sampler: str, seeds: np.random.SeedSequence, longer: float) -> Measured:
    """Observables (chains, kept, ...) of a run with the error that the case wants."""
    volume = case.shape[0] * case.shape[1]
    settings = replace(tuned(sampler, case.action, case.shape), chains=256 if volume <= 36 else 64)
    short = replace(settings, kept=_PILOT)
    chi2 = mean_and_error(_batch(case, sampler, short, seeds)["chi2"])
    updates = _PILOT * settings.keep_every * (chi2.error / (case.relative_error * chi2.mean)) ** 2
    if case.max_site_updates is not None:
        updates = min(updates, case.max_site_updates / (settings.chains * volume))
    updates *= longer
    # closer configurations say little more, and cost the same to measure
    every = settings.keep_every * max(1, int(chi2.tau))
    kept = max(64, math.ceil(updates / every))
    at_once = max(64, int(_SITES_AT_ONCE / (settings.chains * volume)))
    batches = math.ceil(kept / at_once)
    planned = replace(settings, kept=math.ceil(kept / batches), keep_every=every)
    parts = [_batch(case, sampler, planned, seeds) for _ in range(batches)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _batch(case: Case, sampler: str, settings: object, seeds: np.random.SeedSequence) -> Measured:
    seed = int(seeds.spawn(1)[0].generate_state(1)[0])
    run = run_sampler(sampler, case.action, case.shape, settings, seed)  # type: ignore[arg-type]
    chains, kept = run.phi.shape[:2]
    found = measure(torch.from_numpy(run.phi.reshape(-1, *case.shape)))
    return {name: each.reshape(chains, kept, -1).squeeze(2).numpy() for name, each in found.items()}


def _compare(case: Case, sampler: str, measured: Measured) -> Iterator[Comparison]:
    flat = {
        name: torch.from_numpy(each.reshape(-1, *each.shape[2:])) for name, each in measured.items()
    }
    functions = derived(flat, case.action, case.shape)
    for quantity, expected in case.expected.items():
        found = _value(quantity, measured, functions, max(case.shape))
        off = found[0] - expected[0]
        if case.source == "line":
            deviation = off / expected[1]
            passed = abs(off) <= expected[1] + LIMIT_SIGMA * found[1]
        else:
            deviation = off / math.hypot(found[1], expected[1])
            passed = abs(deviation) <= LIMIT_SIGMA
        yield Comparison(
            case.source,
            settings_of(case.action),
            case.shape,
            sampler,
            quantity,
            expected,
            found,
            deviation,
            passed,
        )


def _value(
    quantity: str, measured: Measured, functions: Mapping[str, tuple[float, float]], length: int
) -> tuple[float, float]:
    if quantity.startswith("L / "):
        xi, error = functions[quantity.removeprefix("L / ")]
        return length / xi, length * error / xi**2
    if quantity in functions:
        return functions[quantity]
    if quantity.startswith("G("):
        series = measured["G"][..., int(quantity[2:-1])]
    else:
        series = measured[quantity]
    found = mean_and_error(series)
    return found.mean, found.error


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"
