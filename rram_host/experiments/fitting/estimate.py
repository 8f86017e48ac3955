"""What a fit tells: parameters with errors, and how far data and fitted law are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rram_host.units import MICRO

# by the end of a parameter's name: SI unit, unit as a person reads it, its size in SI
_UNITS = (
    ("_siemens2_per_decade", "S²/decade", "µS²/decade", MICRO**2),
    ("_siemens_per_decade", "S/decade", "µS/decade", MICRO),
    ("_siemens_per_v", "S/V", "µS/V", MICRO),
    ("_siemens", "S", "µS", MICRO),
    ("_v", "V", "V", 1.0),
    ("_s", "s", "s", 1.0),
)


@dataclass(frozen=True)
class Estimate:
    """A parameter as data tell it.

    Attributes:
        name: key of a preset's [cells].
        value: in SI units.
        error: standard error; NaN where the data do not tell it.
        runs: files that it is from.
        note: what is particular about it; empty where nothing is.
    """

    name: str
    value: float
    error: float
    runs: tuple[str, ...] = ()
    note: str = ""

    @property
    def unit(self) -> tuple[str, float]:
        """Unit as a person reads it, and its size in SI."""
        return self._units[1:]

    @property
    def si_unit(self) -> str:
        """Unit of value and error."""
        return self._units[0]

    @property
    def _units(self) -> tuple[str, str, float]:
        for end, si, text, size in _UNITS:
            if self.name.endswith(end):
                return si, text, size
        return "", "", 1.0


@dataclass(frozen=True)
class Residual:
    """How far data are from the fitted law: chi2 of so many degrees of freedom.

    Attributes:
        what: of which data.
        chi2, dof: near each other where law and stated scatter hold.
    """

    what: str
    chi2: float
    dof: int

    @property
    def sigmas(self) -> float:
        """(chi2 - dof) / sqrt(2 dof): beyond 3, the law does not hold."""
        return (self.chi2 - self.dof) / math.sqrt(2 * self.dof) if self.dof > 0 else math.nan


def some(runs: Sequence[str]) -> str:
    """Names of runs, of many only the first.

    >>> some(["iv0.h5", "iv1.h5", "iv2.h5", "iv3.h5"])
    'iv0.h5 and 3 more'
    """
    return ", ".join(runs) if len(runs) < 4 else f"{runs[0]} and {len(runs) - 1} more"


def combined(estimates: Sequence[Estimate], same_cells: bool = False) -> list[Estimate]:
    """Estimates of the same parameter become one, weighted by 1 / error^2; order is kept.

    Args:
        estimates: of one parameter or several.
        same_cells: they are of the same cells, so that what cells differ by does not average out:
            the error is the least of theirs.
    """
    by_name: dict[str, list[Estimate]] = {}
    for item in estimates:
        by_name.setdefault(item.name, []).append(item)
    return [_one(items, same_cells) for items in by_name.values()]


def _one(items: list[Estimate], same_cells: bool) -> Estimate:
    known = [item for item in items if math.isfinite(item.error) and item.error > 0]
    if len(items) == 1 or not known:
        return items[0]
    weight = [1 / item.error**2 for item in known]
    value = sum(w * item.value for w, item in zip(weight, known, strict=True)) / sum(weight)
    chi2 = sum(w * (item.value - value) ** 2 for w, item in zip(weight, known, strict=True))
    apart = math.sqrt(chi2 / (len(known) - 1)) if len(known) > 1 else 0.0
    notes = [item.note for item in known if item.note]
    error = min(item.error for item in known) if same_cells else sum(weight) ** -0.5
    if apart > 1:  # runs that disagree by more than their errors
        error *= apart
        notes.append(f"runs differ by {apart:.1f} of their errors, which widened this one")
    runs = tuple(run for item in known for run in item.runs)
    return replace(items[0], value=value, error=error, runs=runs, note="; ".join(notes))
