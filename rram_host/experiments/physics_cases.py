"""What the samplers are held against: actions, lattices, and what is known there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rram_host.errors import InputError
from rram_host.lattice.actions import Action, GrapheneAction, Phi4Action
from rram_host.lattice.derived import condensate, effective_masses, xi_eq27, xi_second_moment
from rram_host.lattice.exact import EXACT_M2, ExactValues, exact_4x4, free_field
from rram_host.lattice.reference import LENGTHS_OF_FOUR_XI, reference
from rram_host.lattice.samplers import SAMPLERS
from rram_host.lattice.transfer_matrix import exact_values

__all__ = ["Case", "cases"]

Pair = tuple[float, float]
FOUR = (4.0, 0.1)  # L / xi on the line, and how far it may be off
_QUOTED = ("absM", "chi2", "E", "phi2", "U4", "xi_eq27", "xi_2nd", "meff", "cos")


@dataclass(frozen=True)
class Case:
    """One action on one lattice.

    Attributes:
        source: where the expected values come from: "exact", "free field", "reference", "line".
        action: what is sampled.
        shape: lattice (L0, L1).
        expected: by quantity, (value, standard error), error 0 for exact ones. On the line the
            second number is not an error but how far L / xi may be from the first.
        relative_error: statistical error wanted of chi2, as a fraction of it.
        samplers: which ones.
        max_site_updates: no run is longer than this many updates of a site (slow samplers on
            large lattices); None for as long as it takes.
    """

    source: str
    action: Action
    shape: tuple[int, int]
    expected: Mapping[str, Pair]
    relative_error: float
    samplers: tuple[str, ...] = tuple(SAMPLERS)
    max_site_updates: float | None = 6e7


def cases(quick: bool) -> tuple[Case, ...]:
    """All cases; with `quick` a choice that takes a minute."""
    wire = GrapheneAction(1.0, 0.2)
    free = [_free(1.0, (6, 6), 0.01)]
    found = [_exact(5.5), *free, _transfer(wire, (3, 3), 0.01)]
    found += [_reference(Phi4Action(EXACT_M2, 5.0), 6, 0.01), _reference(wire, 6, 0.02)]
    error = 0.006 if quick else 0.004
    found += [_on_line(*point, error) for point in LENGTHS_OF_FOUR_XI[: 3 if quick else 5]]
    if quick:
        return tuple(found)
    found += [_exact(5.0), _exact(6.0), _free(0.5, (12, 12), 0.006), _free(1.0, (4, 8), 0.005)]
    found += [_transfer(Phi4Action(EXACT_M2, 5.0), (3, 8), 0.005)]
    found += [_reference(Phi4Action(EXACT_M2, lam), 12, 0.006) for lam in (5.0, 5.5)]
    found += [_reference(Phi4Action(EXACT_M2, 6.0), 6, 0.005)]
    found += [_reference(GrapheneAction(0.5, 0.2), 12, 0.02)]
    return tuple(found)


def _exact(lam: float) -> Case:
    """0.2 % is what is promised of the 4 x 4 lattice; no limit on the length of a run."""
    expected = _quantities(exact_4x4(lam), 4)
    action = Phi4Action(EXACT_M2, lam)
    return Case("exact", action, (4, 4), expected, 0.0018, max_site_updates=None)


def _transfer(action: Action, shape: tuple[int, int], relative_error: float) -> Case:
    # the cosine wants more points than phi^4
    values = exact_values(action, shape, 14 if isinstance(action, GrapheneAction) else 10)
    expected = _quantities(values, max(shape)) | _wave(action, values)
    return Case("exact", action, shape, expected, relative_error)


def _free(g: float, shape: tuple[int, int], relative_error: float) -> Case:
    action = GrapheneAction(g, 0.0)
    values = free_field(action, shape)
    expected = _quantities(values, max(shape)) | _wave(action, values)
    expected |= {"gap": (values.gap, 0.0)}
    return Case("free field", action, shape, expected, relative_error)


def _quantities(values: ExactValues, length: int) -> dict[str, Pair]:
    g = np.array(values.g)
    found = {
        "M": 0.0,
        "absM": values.abs_m,
        "chi2": values.chi2,
        "E": values.energy,
        "phi2": values.phi2,
        "U4": values.u4,
        "xi_2nd": xi_second_moment(g, length),
        "meff": float(effective_masses(g, length)[max(1, length // 6) - 1]),
        "xi_eq27": xi_eq27(g, length),
        **{f"G({t})": value for t, value in enumerate(values.g)},
    }
    return {name: (value, 0.0) for name, value in found.items()}


def _wave(action: Action, values: ExactValues) -> dict[str, Pair]:
    if not isinstance(action, GrapheneAction):
        return {}
    return {"cos": (values.cos, 0.0), "condensate": (condensate(values.cos), 0.0)}


def _reference(action: Action, length: int, relative_error: float) -> Case:
    found = reference(action, (length, length))
    if found is None:
        raise InputError(f"no reference values of {action} at L = {length}")
    expected = {name: found.values[name] for name in _QUOTED if name in found.values}
    expected |= {f"G({t})": pair for t, pair in enumerate(found.g[:3])}
    return Case("reference", action, (length, length), expected, relative_error)


def _on_line(length: int, lam: float, relative_error: float) -> Case:
    """Both definitions of xi give the line.

    They are equal to 2 % there: at L = 4 xi the correlator is one cosh nearly from its start.
    """
    action = Phi4Action(EXACT_M2, lam)
    expected = {"L / xi_eq27": FOUR, "L / xi_2nd": FOUR}
    return Case("line", action, (length, length), expected, relative_error, ("wolff",))
