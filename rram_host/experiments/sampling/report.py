"""What a sample is worth: figures, observables beside references and a tuned sampler, rates."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from rram_host.errors import InputError
from rram_host.experiments.sampling.baseline import Baseline
from rram_host.experiments.sampling.sample import Sample
from rram_host.lattice.actions import Action, GrapheneAction
from rram_host.lattice.exact import EXACT_M2, ExactValues, exact_4x4, free_field
from rram_host.lattice.reference import reference

Estimate = dict[str, float]

_KEYS = {"|M|": "absM", "chi2": "chi2", "E": "E", "phi^2": "phi2", "cos": "cos"}


def exact_values(action: Action, shape: tuple[int, int]) -> dict[str, float] | None:
    """Exact values by the names of the table, where they are known, else None.

    Known: phi^4 at L = 4, m2 = -4, lam = 5, 5.5, 6, and the graphene wire without mass.
    """
    known = _exact(action, shape)
    if known is None:
        return None
    values = {
        "M": 0.0,
        "|M|": known.abs_m,
        "chi2": known.chi2,
        "E": known.energy,
        "phi^2": known.phi2,
        "cos": known.cos,
        "log Z": known.log_z,
    }
    return values | {f"G({t})": value for t, value in enumerate(known.g)}


def _exact(action: Action, shape: tuple[int, int]) -> ExactValues | None:
    if isinstance(action, GrapheneAction):
        # on a rectangle the correlator is taken along the longer side, as `measure` does
        return free_field(action, shape) if action.u == 0.0 else None
    lam, m2 = getattr(action, "lam", None), getattr(action, "m2", None)
    if tuple(shape) != (4, 4) or lam is None or m2 != EXACT_M2:
        return None
    try:
        return exact_4x4(lam)
    except InputError:
        return None


def reference_values(action: Action, shape: tuple[int, int]) -> dict[str, tuple[float, float]]:
    """(value, error) of long runs of HMC, by the names of the table; empty where there is none."""
    known = reference(action, shape)
    if known is None:
        return {}
    found = {name: known.values[key] for name, key in _KEYS.items() if key in known.values}
    return found | {f"G({t})": pair for t, pair in enumerate(known.g)}


def results(sample: Sample, baseline: Baseline | None = None) -> dict[str, Any]:
    """Everything that is printed and kept, as plain values.

    Returns:
        The figures of `quality`; "observables": of each its mean, error, tau, tau_error, the
        reference with its error and source ("exact", or the sampler's name), the deviation in
        standard errors, effective samples a second, and the same of the baseline; "log_z_sigma";
        "exact"; "seconds" of every part, "draws_per_s", "ns_per_proposal" of Metropolis-Hastings;
        "baseline".
    """
    known = exact_values(sample.action, sample.shape)
    figures = sample.figures()
    given = _References(known or {}, reference_values(sample.action, sample.shape), baseline)
    rows = {name: _row(name, found, sample, given) for name, found in sample.estimates().items()}
    seconds = sample.seconds
    drawn = max(sample.drawn, 1)
    return {
        **figures,
        "log_z_sigma": _log_z_sigma(figures, known),
        "observables": rows,
        "exact": known,
        "seconds": {**asdict(seconds), "total": seconds.total},
        "drawn_now": sample.drawn,
        "draws_per_s": _rate(sample.drawn, seconds.draw),
        "ns_per_proposal": 1e9 * seconds.chain / drawn,
        "baseline": asdict(baseline) if baseline else None,
    }


@dataclass(frozen=True)
class _References:
    """What a value is compared with: the first that knows it."""

    exact: dict[str, float]
    stored: dict[str, tuple[float, float]]
    baseline: Baseline | None

    def of(self, name: str) -> tuple[float, float, str]:
        """Value, error, source of what is known without the baseline, or else of that."""
        known = self.known(name)
        if known[2] or self.baseline is None:
            return known
        found = self.baseline.estimates[name]
        return found["mean"], found["error"], self.baseline.name

    def known(self, name: str) -> tuple[float, float, str]:
        """Value, error, source; NaN where nothing is known."""
        if name in self.exact:
            return self.exact[name], 0.0, "exact"
        if name == "M":
            return 0.0, 0.0, "exact"  # all actions here are even in phi
        if name in self.stored:
            return *self.stored[name], "reference"
        return math.nan, math.nan, ""


def _row(name: str, found: Estimate, sample: Sample, given: _References) -> dict[str, Any]:
    value, error, source = given.of(name)
    # the recording is no part of it: the sampler beside it records nothing
    wall_s = sample.seconds.draw + sample.seconds.chain
    row: dict[str, Any] = {
        **found,
        "reference": value,
        "reference_error": error,
        "reference_source": source,
        "sigma": deviation(found, value, error),
        "effective_per_s": _rate(sample.drawn / (2.0 * found["tau"]), wall_s),
    }
    baseline = given.baseline
    if baseline:
        other = baseline.estimates[name]
        row["baseline"] = {
            **{key: other[key] for key in ("mean", "error", "tau", "tau_error")},
            "sigma": deviation(other, *given.known(name)[:2]),
            "effective_per_s": _rate(baseline.n / (2.0 * other["tau"]), baseline.wall_s),
        }
    return row


def deviation(found: Estimate, value: float, error: float) -> float:
    """Distance from a reference in standard errors of both; NaN where there is none."""
    both = math.hypot(found["error"], error)
    return (found["mean"] - value) / both if both > 0.0 else math.nan  # NaN: nothing is known


def _log_z_sigma(figures: dict[str, Any], known: dict[str, float] | None) -> float:
    if not known or not figures["log_z_error"] > 0.0:
        return math.nan
    distance: float = figures["log_z"] - known["log Z"]
    return distance / float(figures["log_z_error"])


def _rate(count: float, wall_s: float) -> float:
    """Per second; NaN where nothing was done now."""
    return count / wall_s if wall_s > 0.0 else math.nan
