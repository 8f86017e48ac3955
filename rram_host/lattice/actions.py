"""Euclidean lattice actions; the weight of a field is exp(-S)."""

import math
import numbers
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from rram_host.errors import InputError

__all__ = [
    "COSINE_PER_MASS",
    "Action",
    "GrapheneAction",
    "Phi4Action",
    "action_of",
    "range_notes",
    "settings_of",
]


class Action(Protocol):
    """A real scalar action on periodic two-dimensional lattices."""

    @property
    def name(self) -> str:
        """Short name, as written into files."""
        ...

    def __call__(self, phi: Tensor) -> Tensor:
        """Action S (n,) of the fields phi (n, L0, L1)."""
        ...

    def force(self, phi: Tensor) -> Tensor:
        """Gradient dS/dphi, of phi's shape."""
        ...


@dataclass(frozen=True)
class Phi4Action:
    """Action of phi^4 theory on a periodic lattice of any two lengths, lattice spacing 1.

    S = sum_n phi(n) [4 phi(n) - sum_{4 neighbours} phi] + m2 phi(n)^2 + lam phi(n)^4

    (eq. 22 of arXiv 2509.12812; there is no factor 1/2 before the kinetic term). S is invariant
    under translations, the lattice's reflections and (L0 = L1) rotations, and phi -> -phi.

    Attributes:
        m2: bare mass squared, any finite number (-4 in the paper).
        lam: quartic coupling, > 0 (5 to 6 in the paper).

    Raises:
        InputError: for values that do not give a normalisable weight.
    """

    m2: float
    lam: float
    name: ClassVar[str] = "phi4"

    def __post_init__(self) -> None:
        if not math.isfinite(self.m2):
            raise InputError(f"m2 must be finite, got {self.m2}")
        if not (math.isfinite(self.lam) and self.lam > 0.0):
            raise InputError(f"lam must be > 0 for a normalisable weight, got {self.lam}")

    def __call__(self, phi: Tensor) -> Tensor:
        """Action S of each field.

        Args:
            phi: fields, shape (n, L0, L1).

        Returns:
            S, shape (n,).

        Raises:
            InputError: for anything but a three-dimensional tensor.
        """
        _check(phi)
        square = phi * phi
        # Every bond once: phi(n) [phi(n+0) + phi(n+1)] is half of the sum over four neighbours.
        ahead = torch.roll(phi, -1, 1) + torch.roll(phi, -1, 2)
        density = square * (4.0 + self.m2 + self.lam * square) - 2.0 * phi * ahead
        return density.sum((1, 2))

    def force(self, phi: Tensor) -> Tensor:
        """Gradient dS/dphi(n) = 2 (4 + m2) phi - 2 sum_{4 neighbours} phi + 4 lam phi^3.

        Args:
            phi: fields, shape (n, L0, L1).

        Returns:
            The gradient, of phi's shape.

        Raises:
            InputError: for anything but a three-dimensional tensor.
        """
        _check(phi)
        around = torch.roll(phi, 1, 1) + torch.roll(phi, -1, 1)
        around = around + torch.roll(phi, 1, 2) + torch.roll(phi, -1, 2)
        return phi * (2.0 * (4.0 + self.m2) + 4.0 * self.lam * phi * phi) - 2.0 * around


@dataclass(frozen=True)
class GrapheneAction:
    """Action of the bosonised Schwinger model, the effective theory of a graphene wire.

    S = sum_n 1/2 sum_mu (phi(n+mu) - phi(n))^2 + g^2 / (2 pi) phi(n)^2 - u cos(2 sqrt(pi) phi(n))

    with u = e^gamma / (2 pi^1.5) sqrt(32 pi) m = 1.6035 m (eqs. 36 and 37 of arXiv 2509.12812, with
    O(1/g) = sqrt(32 pi) / g), for a periodic lattice of any two lengths.

    The sign of the mass term is not the printed one. Eqs. 36 and 37 have -(g phi)^2 / (2 pi): with
    it S of a constant field phi is -V g^2 / (2 pi) phi^2 plus a bounded cosine, so exp(-S) grows
    without bound with |phi|, Z is infinite and there is nothing to sample. It is the sign of a
    Lagrangian density in real time, kinetic minus potential; the weight of a path integral
    in Euclidean time has the sum of the two. `action_of` refuses the printed sign.

    At u = 0 the field is free with mass g / sqrt(pi), and everything is exact (`exact.FreeField`).

    Attributes:
        g: coupling, > 0; 0.25 to 1 is sensible, with L g >= 6 (`range_notes`).
        m_over_g: fermion mass in units of g, >= 0; 0 to 0.5 is sensible.

    Raises:
        InputError: for values out of range.
    """

    g: float
    m_over_g: float
    name: ClassVar[str] = "graphene"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.g) and self.g > 0.0):
            raise InputError(f"g must be > 0, got {self.g}")
        if not (math.isfinite(self.m_over_g) and self.m_over_g >= 0.0):
            raise InputError(f"m_over_g must be >= 0, got {self.m_over_g}")

    @property
    def u(self) -> float:
        """Height u of the cosine."""
        return COSINE_PER_MASS * self.m_over_g * self.g

    def __call__(self, phi: Tensor) -> Tensor:
        """Action S (n,) of the fields phi (n, L0, L1)."""
        _check(phi)
        square = (torch.roll(phi, -1, 1) - phi) ** 2 + (torch.roll(phi, -1, 2) - phi) ** 2
        density = 0.5 * square + self.g**2 / (2.0 * math.pi) * phi * phi
        return (density - self.u * torch.cos(_PERIOD * phi)).sum((1, 2))

    def force(self, phi: Tensor) -> Tensor:
        """Gradient dS/dphi, of phi's shape."""
        _check(phi)
        around = torch.roll(phi, 1, 1) + torch.roll(phi, -1, 1)
        around = around + torch.roll(phi, 1, 2) + torch.roll(phi, -1, 2)
        smooth = (4.0 + self.g**2 / math.pi) * phi - around
        return smooth + self.u * _PERIOD * torch.sin(_PERIOD * phi)


_PERIOD = 2.0 * math.sqrt(math.pi)
# u / m = e^gamma / (2 pi^1.5) sqrt(32 pi), gamma Euler's constant
COSINE_PER_MASS: float = (
    math.exp(0.5772156649015329) / (2.0 * math.pi**1.5) * math.sqrt(32.0 * math.pi)
)

_ACTIONS: dict[str, Any] = {action.name: action for action in (Phi4Action, GrapheneAction)}


def settings_of(action: Action) -> dict[str, Any]:
    """An action as plain values, {"name": ..., its fields}; `action_of` takes them."""
    values: dict[str, Any] = asdict(action)  # type: ignore[call-overload]
    # numpy's numbers, taken from an array of couplings, are none that JSON knows
    return {"name": action.name, **{name: float(value) for name, value in values.items()}}


def action_of(settings: Mapping[str, Any]) -> Action:
    """The action that plain values describe.

    Args:
        settings: {"name": ..., its fields}; for "graphene" also "mass_term", "euclidean" (what is
            meant without it) or "printed", which is refused with the reason.

    Raises:
        InputError: for an unknown name, missing or unknown fields, or a value out of range.
    """
    values = dict(settings)
    kind = _ACTIONS.get(str(values.pop("name", None)))
    if kind is None:
        raise InputError(f"no action {settings.get('name')!r}; known: {', '.join(_ACTIONS)}")
    if kind is GrapheneAction:
        _check_mass_term(values.pop("mass_term", "euclidean"))
    _check_numbers(kind, values)
    action: Action = kind(**values)
    return action


def _check_numbers(kind: Any, values: Mapping[str, Any]) -> None:
    """Every field, none besides, each a number."""
    known = [field.name for field in fields(kind)]
    listed = f"action {kind.name} takes {', '.join(known)}"
    for name, value in values.items():
        if name not in known:
            raise InputError(f"{listed}, not {name!r}")
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise InputError(f"action {kind.name}: {name} = {value!r} is not a number")
    missing = [name for name in known if name not in values]
    if missing:
        raise InputError(f"{listed}; missing: {', '.join(missing)}")


def range_notes(action: Action, shape: tuple[int, int]) -> tuple[str, ...]:
    """What to know about an action on a lattice that can be sampled but is out of the usual range.

    Args:
        action: the action.
        shape: lattice (L0, L1).

    Returns:
        One sentence for each concern; none for the range that the references cover.
    """
    if isinstance(action, GrapheneAction):
        return _graphene_notes(action, min(shape))
    if isinstance(action, Phi4Action) and action.m2 == -4.0 and not 4.0 <= action.lam <= 8.0:
        return (f"lam = {action.lam:g}: references cover 4 to 8 (m2 = -4, symmetric phase)",)
    return ()


def _graphene_notes(action: GrapheneAction, length: int) -> tuple[str, ...]:
    notes = []
    if not 0.25 <= action.g <= 1.0:
        notes.append(f"g = {action.g:g} is outside 0.25 to 1: lattice or finite size effects")
    if action.m_over_g > 0.5:
        notes.append(f"m/g = {action.m_over_g:g} is above 0.5, the usual range")
    if length * action.g < 6.0:
        found = f"L g = {length * action.g:g} is below 6"
        notes.append(f"{found}: the lattice is short beside the correlation length sqrt(pi) / g")
    return tuple(notes)


def _check_mass_term(sign: object) -> None:
    if sign == "printed":
        raise InputError(
            "graphene with the printed mass term -(g phi)^2 / (2 pi) (eqs. 36, 37 of arXiv"
            " 2509.12812) has no normalisable weight: exp(-S) grows without bound with |phi|;"
            " the Euclidean action has +(g phi)^2 / (2 pi)"
        )
    if sign != "euclidean":
        raise InputError(
            f"graphene: mass_term is 'euclidean', or 'printed' (refused), not {sign!r}"
        )


def _check(phi: Tensor) -> None:
    if not isinstance(phi, Tensor):
        raise InputError(f"an action takes a torch tensor of fields, got {type(phi).__name__}")
    if phi.dim() != 3:
        raise InputError(f"an action takes fields (n, L0, L1), got shape {tuple(phi.shape)}")
