"""Reference values of phi^4 and the graphene wire on lattices too large for exact ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from rram_host.lattice.actions import Action, action_of

__all__ = ["LENGTHS_OF_FOUR_XI", "Reference", "reference", "references"]

# (L, lam) with L / xi = 4.0, phi^4 at m2 = -4: the line along which the continuum is approached.
LENGTHS_OF_FOUR_XI: tuple[tuple[int, float], ...] = (
    (6, 6.975),
    (8, 6.008),
    (10, 5.550),
    (12, 5.276),
    (14, 5.113),
    (20, 4.807),
    (32, 4.572),
    (64, 4.398),
)

Pair = tuple[float, float]


@dataclass(frozen=True)
class Reference:
    """Values of one action on one lattice, each with its standard error.

    Attributes:
        action: what was sampled.
        shape: lattice (L0, L1).
        values: (value, error) of "M", "absM", "chi2", "E", "phi2", "U4", "xi_eq27", "xi_2nd",
            "meff" (effective mass at t = max(1, L // 6)), for graphene "cos".
        g: correlator G(t), t = 0 .. L // 2: (value, error).
        tau: integrated autocorrelation times of "M", "absM", "E" in trajectories of the sampler.
        source: sampler, settings and statistics that made them; the errors are a jackknife over
            independent chains.
    """

    action: Action
    shape: tuple[int, int]
    values: Mapping[str, Pair]
    g: tuple[Pair, ...]
    tau: Mapping[str, Pair]
    source: str


@cache
def references() -> tuple[Reference, ...]:
    """All of them: phi^4 at L = 4 to 24, graphene wires at L = 6 to 48.

    Long runs of hybrid Monte Carlo made for this project by a program that shares nothing with this
    package (`source` of each).
    """
    rows = json.loads(files("rram_host.lattice").joinpath("reference.json").read_text("utf-8"))
    return tuple(
        Reference(
            action_of(row["action"]),
            (row["shape"][0], row["shape"][1]),
            {name: (pair[0], pair[1]) for name, pair in row["values"].items()},
            tuple((pair[0], pair[1]) for pair in row["G"]),
            {name: (pair[0], pair[1]) for name, pair in row["tau"].items()},
            row["sampler"],
        )
        for row in rows
    )


def reference(action: Action, shape: tuple[int, int]) -> Reference | None:
    """The reference for this action and lattice, None where there is none."""
    found = (each for each in references() if (each.action, each.shape) == (action, tuple(shape)))
    return next(found, None)
