"""Exact values on narrow lattices, by the transfer matrix and quadrature on every site.

Z = tr T^t, where T acts on the fields of one slice of L sites (the shorter length):

T(phi, phi') = D(phi) prod_x exp(b phi_x phi'_x) D(phi'), S = sum_n v(phi) - b sum_bonds phi phi',
D(phi)^2 = prod_x exp(-v(phi_x) + b phi_x phi_{x+1}).

Integrals over a site become Gauss quadrature with p points for a weight close to the site's
distribution, so a slice has p^L states; the error falls exponentially with p. T is applied site by
site and never stored, and only to one state of each class under translations, the reflection and
phi -> -phi.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal

from rram_host.errors import InputError
from rram_host.lattice.actions import Action, GrapheneAction, Phi4Action
from rram_host.lattice.exact import ExactValues

__all__ = ["MAX_STATES", "exact_values"]

Array = NDArray[np.float64]
Waves = NDArray[np.complex128]
MAX_STATES = 70_000  # of a slice; 6 points on 6 sites, 16 on 4: minutes and a few GB
_BLOCK_VALUES = 1_000_000  # numbers of one power of T held together
_MOST_OFF = 1e-4  # of chi2, by these points, where it is known otherwise
_SURE = 96  # points that a single row is summed with
_POINTS = {1: 48, 2: 24, 3: 12, 4: 8, 5: 6}  # of a site, by the sites across


def exact_values(action: Action, shape: tuple[int, int], points: int | None = None) -> ExactValues:
    """Expectation values on a lattice of at most a few sites across.

    Args:
        action: phi^4 or graphene wire.
        shape: lattice (L0, L1); the shorter length is the slice.
        points: quadrature points of a site; without it what takes seconds: 48, 24, 12, 8, 6 for 1
            to 5 sites across. In phi^4 at lam = 5 to 6 their relative errors are below 1e-9 for 2
            and 3 sites and below 3e-7 for 4; a cosine in the action needs four more. Compare two
            settings for the error. The quadrature follows a site about as far as its neighbours
            hold it: short graphene wires with a small g, whose mean swings further, are refused,
            and so is phi^4 with wells further out (at m2 = -4 lam below 0.5 with 12 points,
            below 1.3 with 8).

    Raises:
        InputError: for another action, a slice with more than `MAX_STATES` states, or points that
            get chi2 wrong by more than 1e-4 of it: of the wire's free part (m = 0) on this
            lattice, of phi^4 on a single row of this length, which was never better off.
    """
    width, height = min(shape), max(shape)
    if len(shape) != 2 or width < 1:
        raise InputError(f"a lattice needs two lengths >= 1, asked {shape}")
    points = _POINTS.get(width, 6) if points is None else points
    if points < 2 or points**width > MAX_STATES:
        raise InputError(
            f"a slice of {width} sites with {points} points each has {points**width} states; from 2"
            f" points to {MAX_STATES} states can be summed"
        )
    if isinstance(action, GrapheneAction):
        _check_reach(action, width, height, points)
    else:
        _check_wells(action, height, points)
    return _Slice(_site_of(action), width, points).values(height)


def _check_reach(action: GrapheneAction, width: int, height: int, points: int) -> None:
    """Refuse a wire whose mean swings further than the points reach, by the free field's chi2."""
    free = GrapheneAction(action.g, 0.0)
    found = _Slice(_site_of(free), width, points).chi2(height)
    off = abs(found * free.g**2 / math.pi - 1.0)
    if not off <= _MOST_OFF:
        raise InputError(
            f"g = {action.g:g} is too small for exact values on {width} x {height} sites with"
            f" {points} points a site: the free field's chi2 comes out wrong by {off:.1g} of it;"
            " a longer lattice or a larger g is needed, and up to 3 sites more points may help"
        )


def _check_wells(action: Action, height: int, points: int) -> None:
    """Refuse a phi^4 whose wells these points do not reach, by chi2 of a single row."""
    site = _site_of(action)
    with np.errstate(all="ignore"):  # wells may be so far out that all is NaN
        found, sure = (_Slice(site, 1, n).chi2(height) for n in (points, max(points, _SURE)))
    off = abs(found / sure - 1.0)
    if not off <= _MOST_OFF:
        raise InputError(
            f"{action} has wells too far out for exact values with {points} points a site: chi2"
            f" of a single row of {height} sites comes out wrong by {off:.1g} of it; more points"
            " help, or fewer sites across"
        )


@dataclass(frozen=True)
class _Site:
    """S = sum_n v(phi) - bond sum_bonds phi phi'; width: how far |phi| can reach."""

    v: Callable[[Array], Array]
    bond: float
    reach: float


def _site_of(action: Action) -> _Site:
    if isinstance(action, Phi4Action):
        m2, lam = 4.0 + action.m2, action.lam
        # v(x) - 4 x^2 = (m2 - 4) x^2 + lam x^4 at full alignment; 40 e-folds above its minimum
        pull = max(4.0 - m2, 0.0)
        reach = math.sqrt((pull + math.sqrt(pull**2 + 160.0 * lam)) / (2.0 * lam))
        return _Site(lambda x: m2 * x**2 + lam * x**4, 2.0, reach)
    if isinstance(action, GrapheneAction):
        stiff, u = 2.0 + action.g**2 / (2.0 * math.pi), action.u
        period = 2.0 * math.sqrt(math.pi)
        reach = math.sqrt(40.0)
        return _Site(lambda x: stiff * x**2 - u * np.cos(period * x), 1.0, reach)
    raise InputError(f"no transfer matrix for the action {action.name!r}")


def _quadrature(site: _Site, points: int) -> tuple[Array, Array]:
    """Nodes x, and weights such that sum w f(x) = integral exp(-v) f.

    Gauss quadrature for exp(-v + bond x^2), half of what four aligned neighbours pull, by
    Lanczos on a fine grid (Golub, Welsch, Math. Comp. 23 (1969) 221).
    """
    grid = np.linspace(-site.reach, site.reach, 4001)
    exponent = -site.v(grid) + site.bond * grid**2
    offset = exponent.max()
    weight = np.exp(exponent - offset) * (grid[1] - grid[0])
    diagonal, beside = _lanczos(grid, weight, points)
    nodes, vectors = eigh_tridiagonal(diagonal, beside)
    nodes = 0.5 * (nodes - nodes[::-1])
    gauss = weight.sum() * vectors[0] ** 2
    return nodes, 0.5 * (gauss + gauss[::-1]) * np.exp(offset - site.bond * nodes**2)


def _lanczos(grid: Array, weight: Array, points: int) -> tuple[Array, Array]:
    """Recurrence coefficients of the orthonormal polynomials of an even weight."""
    basis = [np.sqrt(weight / weight.sum())]
    beside = np.zeros(points - 1)
    for k in range(points - 1):
        step = grid * basis[k]
        for earlier in basis:  # in full, for orthogonality to the last bits
            step = step - earlier * (earlier @ step)
        beside[k] = np.linalg.norm(step)
        basis.append(step / beside[k])
    return np.zeros(points), beside


class _Slice:
    """All states of a slice."""

    def __init__(self, site: _Site, width: int, points: int) -> None:
        nodes, weights = _quadrature(site, points)
        self.width, self.points, self.nodes = width, points, nodes
        index = np.indices((points,) * width).reshape(width, -1)
        self.field = nodes[index]  # (width, states)
        pairs = (self.field * np.roll(self.field, -1, 0)).sum(0)
        log_d = 0.5 * (np.log(weights)[index].sum(0) + site.bond * pairs)
        kernel = np.exp(site.bond * np.outer(nodes, nodes))
        self.log_scale = 2.0 * float(log_d.max()) + width * math.log(kernel.max())
        kernel /= kernel.max()
        # two sites at a time: fewer and larger products
        self._kernels = [np.kron(kernel, kernel)] * (width // 2) + [kernel] * (width % 2)
        self.d = np.exp(log_d - log_d.max())
        self.mean = self.field.mean(0)
        self.pairs = pairs / width
        self.states, self.sizes = _classes(index, points)

    def values(self, height: int) -> ExactValues:
        """Everything at `height` slices."""
        scale = math.exp(-math.log(self.lowest[0]))
        sums = self._sums(height, scale)
        z = sums["z"]
        mean = {name: float(total / z) for name, total in sums.items() if name != "g"}
        g = sums["g"] / z
        lags = [min(t, height - t) for t in range(height)]
        m2 = float(g[lags].mean())
        abs_m, m4 = self._magnetisation(height, scale, float(z), m2)
        return ExactValues(
            log_z=math.log(float(z)) + height * (self.log_scale + math.log(self.lowest[0])),
            abs_m=abs_m,
            chi2=self.width * height * m2,
            energy=0.5 * (mean["across"] + mean["along"]),
            phi2=mean["phi2"],
            g=tuple(float(value) for value in g),
            cos=mean["cos"],
            u4=1.0 - m4 / (3.0 * m2 * m2),
            gap=math.log(self.lowest[0] / self.lowest[1]),
        )

    def chi2(self, height: int) -> float:
        """V <M^2> alone, at `height` slices."""
        sums = self._sums(height, 1.0 / self.lowest[0])
        lags = [min(t, height - t) for t in range(height)]
        return self.width * height * float((sums["g"] / sums["z"])[lags].mean())

    @cached_property
    def lowest(self) -> tuple[float, float]:
        """Largest eigenvalues of T among even and odd states, by the power method.

        The gap of the zero-momentum correlator: s is odd and translation-invariant, like the
        fields the iteration starts from.
        """
        found = []
        for start in (np.ones_like(self.d), self.mean):
            vector, value = start / np.linalg.norm(start), 0.0
            for _ in range(10_000):
                vector = self.apply(vector[:, None])[:, 0]
                last, value = value, float(np.linalg.norm(vector))
                vector /= value
                if abs(value - last) < 1e-14 * value:
                    break
            found.append(value)
        return found[0], found[1]

    def apply(self, columns: Array) -> Array:
        """T times columns (states, k)."""
        return np.asarray(self._dressed(self.d, columns))

    def _dressed(self, d: NDArray[Any], columns: NDArray[Any]) -> NDArray[Any]:
        """diag(d) K diag(d) times columns, K the kernel on every site."""
        start = d[:, None] * columns
        out = start.view(np.float64)  # real and imaginary parts are columns of their own
        k = out.shape[1]
        for kernel in self._kernels:
            # the first sites go through the kernel and to the back, before the columns
            out = (kernel @ out.reshape(len(kernel), -1)).reshape(len(kernel), -1, k)
            out = out.transpose(1, 0, 2).reshape(-1, k)
        dressed: NDArray[Any] = d[:, None] * out.view(start.dtype)
        return dressed

    def _blocks(self) -> list[tuple[NDArray[np.int64], Array]]:
        size = max(1, _BLOCK_VALUES // self.d.size)
        return [
            (self.states[i : i + size], self.sizes[i : i + size])
            for i in range(0, len(self.states), size)
        ]

    def _powers(self, states: NDArray[np.int64], height: int, scale: float) -> list[Array]:
        """Columns of T^0 .. T^height for these states."""
        unit = np.zeros((self.d.size, len(states)))
        unit[states, np.arange(len(states))] = 1.0
        return list(
            itertools.accumulate(range(height), lambda x, _: scale * self.apply(x), initial=unit)
        )

    def _sums(self, height: int, scale: float) -> dict[str, Array]:
        """Traces of T^height with each operator."""
        half = height // 2
        total: dict[str, Array] = {}
        slices = {
            "z": np.ones_like(self.mean),
            "phi2": (self.field**2).mean(0),
            "cos": np.cos(2.0 * math.sqrt(math.pi) * self.field).mean(0),
            "across": self.pairs,
        }
        for states, sizes in self._blocks():
            powers = self._powers(states, height, scale)
            full = powers[height][states, np.arange(len(states))] * sizes
            found = {name: full @ values[states] for name, values in slices.items()}
            found["g"] = np.array(
                [self._between(powers, states, sizes, t, height) for t in range(half + 1)]
            )
            found["along"] = self._along(powers, states, sizes, height)
            total = {name: total.get(name, 0.0) + value for name, value in found.items()}
        return total

    def _between(
        self, powers: list[Array], states: NDArray[np.int64], sizes: Array, t: int, height: int
    ) -> float:
        """tr(s T^t s T^(height - t)), the share of these states."""
        column = np.einsum("i,ij,ij->j", self.mean, powers[t], powers[height - t])
        return float(column @ (sizes * self.mean[states]))

    def _along(
        self, powers: list[Array], states: NDArray[np.int64], sizes: Array, height: int
    ) -> Array:
        """Bonds between two slices, mean over sites."""
        weight = powers[1] * powers[height - 1]
        both = self.field @ weight  # (width, k)
        return np.asarray((both * self.field[:, states]).mean(0) @ sizes)

    def _magnetisation(self, height: int, scale: float, z: float, m2: float) -> tuple[float, float]:
        """<|M|> and <M^4> from the characteristic function of X = V M.

        On an interval R wider than the distribution, |x| and x^4 are Fourier series in
        cos(2 pi k x / R), and <cos(p X)> = tr T_p^height / Z, T_p = e^{ips/2} T e^{ips/2}.
        """
        spread = math.sqrt(m2)
        volume = self.width * height
        period = 2.0 * volume * min(float(self.nodes[-1]) * 1.05, 9.0 * spread)
        abs_m, m4 = period / 4.0, period**4 / 80.0
        # beyond `last`, cos(p phi) of one site turns faster than the quadrature can follow
        last = int(period * self.points / (2.0 * math.pi * float(self.nodes[-1])))
        for k in range(1, last + 1):
            c = self._characteristic(2.0 * math.pi * k / period, height, scale) / z
            w = math.pi * k
            if k % 2:
                abs_m -= 2.0 * period / w**2 * c
            m4 += (-1) ** k * period**4 * (1.0 / (2.0 * w**2) - 3.0 / w**4) * c
            if abs(c) < 1e-10:
                break
        return abs_m / volume, m4 / volume**4

    def _characteristic(self, p: float, height: int, scale: float) -> float:
        """The trace of T_p^height."""
        d: Waves = math.sqrt(scale) * self.d * np.exp(0.5j * p * self.width * self.mean)
        total = 0.0
        for states, sizes in self._blocks():
            short: Waves = np.zeros((self.d.size, len(states)), dtype=np.complex128)
            short[states, np.arange(len(states))] = 1.0
            for _ in range(height // 2):
                short = self._dressed(d, short)
            long = self._dressed(d, short) if height % 2 else short
            total += float((np.einsum("ij,ij->j", short, long) @ sizes).real)
        return total


def _classes(index: NDArray[np.int64], points: int) -> tuple[NDArray[np.int64], Array]:
    """One state of each class under shifts, reflection and sign, and the sizes of the classes."""
    width = len(index)
    weights = points ** np.arange(width - 1, -1, -1)
    lowest = np.full(index.shape[1], np.iinfo(np.int64).max)
    for each in (index, points - 1 - index):
        for turned in (each, each[::-1]):
            for shift in range(width):
                lowest = np.minimum(lowest, weights @ np.roll(turned, shift, 0))
    states, sizes = np.unique(lowest, return_counts=True)
    return states, sizes.astype(np.float64)
