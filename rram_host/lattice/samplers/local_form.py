"""Both actions as one: stiffness of the bonds, and a potential of every site."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rram_host.errors import InputError
from rram_host.lattice.actions import Action, GrapheneAction, Phi4Action

__all__ = ["PERIOD", "LocalForm", "bonds", "classes", "local_form", "neighbours", "sine"]

Array = NDArray[np.float64]
Sites = NDArray[np.int64]

PERIOD = 2.0 * math.sqrt(math.pi)


@dataclass(frozen=True)
class LocalForm:
    """S = z/2 sum_bonds (phi(n) - phi(n'))^2 + sum_n U(phi(n)), U = a x^2 + b x^4 - u cos(c x).

    c = 2 sqrt(pi). U is even, which the embedded cluster updates rely on.

    Attributes:
        stiffness: z, 2 for phi^4 and 1 for the graphene wire.
        square: a.
        quartic: b.
        cosine: u.
    """

    stiffness: float
    square: float
    quartic: float
    cosine: float

    def force(self, phi: Array, out: Array, work: Array) -> Array:
        """dS/dphi of fields (L0, L1, chains), into `out`; `work` is overwritten."""
        around(phi, out)
        out *= -self.stiffness
        np.multiply(phi, phi, out=work)
        work *= 4.0 * self.quartic
        work += 4.0 * self.stiffness + 2.0 * self.square
        work *= phi
        out += work
        if self.cosine:
            np.multiply(phi, PERIOD, out=work)
            out += self.cosine * PERIOD * sine(work)
        return out

    def action(self, phi: Array, work: Array) -> Array:
        """S (chains,) of fields (L0, L1, chains); `work` is overwritten."""
        found = bonds(phi, self.stiffness, work)
        np.multiply(phi, phi, out=work)
        np.multiply(work, self.square + self.quartic * work, out=work)
        found += work.sum((0, 1))
        if self.cosine:
            np.multiply(phi, PERIOD, out=work)
            found -= self.cosine * torch.from_numpy(work).cos_().sum((0, 1)).numpy()
        return found


def local_form(action: Action) -> LocalForm:
    """The local form of an action.

    Raises:
        InputError: for an action that these samplers do not know.
    """
    if isinstance(action, Phi4Action):
        return LocalForm(2.0, action.m2, action.lam, 0.0)
    if isinstance(action, GrapheneAction):
        return LocalForm(1.0, action.g**2 / (2.0 * math.pi), 0.0, action.u)
    name = getattr(action, "name", type(action).__name__)
    raise InputError(f"samplers know the actions phi4 and graphene, asked for {name!r}")


def around(phi: Array, out: Array) -> Array:
    """Sum over the four neighbours of every site, periodic, of fields (L0, L1, chains)."""
    out[:-1], out[-1] = phi[1:], phi[0]
    out[1:] += phi[:-1]
    out[0] += phi[-1]
    out[:, :-1] += phi[:, 1:]
    out[:, -1] += phi[:, 0]
    out[:, 1:] += phi[:, :-1]
    out[:, 0] += phi[:, -1]
    return out


def bonds(phi: Array, stiffness: float, work: Array) -> Array:
    """z/2 sum over bonds of (phi(n) - phi(n'))^2, (chains,), of fields (L0, L1, chains)."""
    around(phi, work)
    work *= -0.5 * stiffness
    work += 2.0 * stiffness * phi
    work *= phi
    found: Array = work.sum((0, 1))
    return found


def sine(x: Array) -> Array:
    """Sine, in place; torch's is several times as fast as numpy's."""
    torch.from_numpy(x).sin_()
    return x


def neighbours(shape: tuple[int, int]) -> Sites:
    """Neighbours of every site, (V, 2 D): both ways in each of the D directions longer than 1.

    A direction of length 1 has no bond that costs anything; in one of length 2 the same site is a
    neighbour twice. Sites are numbered row by row.
    """
    site = np.arange(shape[0] * shape[1]).reshape(shape)
    ways = [np.roll(site, way, axis) for axis in (0, 1) if shape[axis] > 1 for way in (-1, 1)]
    table = np.stack(ways, -1) if ways else np.empty((*shape, 0), dtype=np.int64)
    return np.ascontiguousarray(table.reshape(site.size, len(ways)), dtype=np.int64)


def classes(near: Sites) -> list[Sites]:
    """Sites in classes without neighbours in one class: two, a checkerboard, for even lengths.

    Odd lengths take three or four. Greedy, in the order of sites.
    """
    found = np.full(len(near), -1)
    for n, others in enumerate(near):
        found[n] = min(set(range(len(others) + 1)) - set(found[others].tolist()))
    return [np.flatnonzero(found == k) for k in range(int(found.max()) + 1)]
