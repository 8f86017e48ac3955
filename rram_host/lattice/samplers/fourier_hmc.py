"""Hybrid Monte Carlo whose Gaussian part is integrated exactly, with every mode equally fast."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rram_host.errors import InputError
from rram_host.lattice.actions import Action
from rram_host.lattice.samplers.gaussian import gap_mass, khat_squared
from rram_host.lattice.samplers.local_form import PERIOD, LocalForm, bonds, local_form, sine
from rram_host.lattice.samplers.metropolis import Sweeper
from rram_host.lattice.samplers.run import (
    Lengths,
    Progress,
    SamplerRun,
    check_shape,
    collect,
    require,
    require_count,
)
from rram_host.lattice.samplers.zero_mode import move_mean

__all__ = ["FourierHmcSettings", "kernel_mass", "run"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FourierHmcSettings(Lengths):
    """Settings of Fourier-accelerated hybrid Monte Carlo.

    Attributes:
        mass: mu^2 > 0 of the Gaussian part, K(k) = z khat^2 + mu^2, in lattice units; None takes
            `kernel_mass`. A small one in phi^4 makes kicks of strong fields so large that chains
            stick there.
        angle: mean length of a trajectory, the angle by which every mode of the Gaussian part
            turns; pi / 2 makes free fields independent of what they were.
        kicks: kicks of the anharmonic force in a trajectory.
        jitter: the angle of each trajectory is drawn from angle (1 +- jitter), the same for all
            chains; in [0, 1).
        mean_moves: proposals for the mean field after each trajectory (`zero_mode.move_mean`),
            for an action that has a cosine and square > 0; 0 for none.
        sweeps: Metropolis hits on every site after each trajectory, for sites that change the
            well of a deep cosine by themselves; 0 for none.
        width: largest proposed step of a hit.

    Raises:
        InputError: for a value out of range.
    """

    mass: float | None = None
    angle: float = 0.5 * math.pi
    kicks: int = 5
    jitter: float = 0.0
    mean_moves: int = 0
    sweeps: int = 0
    width: float = 1.4

    def __post_init__(self) -> None:
        super().__post_init__()
        fine = self.mass is None or 0.0 < self.mass < math.inf
        require(self, "mass", fine, "None, or > 0 and finite")
        require(self, "angle", 0.0 < self.angle < math.inf, "> 0 and finite")
        require_count(self, "kicks", 1)
        require(self, "jitter", 0.0 <= self.jitter < 1.0, "in [0, 1)")
        require_count(self, "mean_moves", 0)
        require_count(self, "sweeps", 0)
        require(self, "width", 0.0 < self.width < math.inf, "> 0 and finite")


class Kernel:
    """K = z khat^2 + mu^2 on fields (L0, L1, chains), by orthogonal real Fourier transforms.

    Hartley's matrices (cos + sin of 2 pi j k / L, over sqrt L) are symmetric and orthogonal, and
    make every kernel diagonal that is even in each direction. As products of matrices they cost
    less than fast transforms up to L of about 64, and little more at 128.
    """

    def __init__(self, form: LocalForm, mass: float, shape: tuple[int, int]) -> None:
        self.mass = mass
        self._bases = [_hartley(length) for length in shape]
        self.values = (form.stiffness * khat_squared(shape) + mass)[:, :, None]

    def transform(self, x: Array) -> Array:
        """To modes and back: its own inverse."""
        rows, columns, chains = x.shape
        along = (self._bases[0] @ x.reshape(rows, columns * chains)).reshape(x.shape)
        found: Array = np.matmul(self._bases[1], along)
        return found

    def solve(self, x: Array) -> Array:
        """K^-1 x."""
        return self.transform(self.transform(x) / self.values)

    def draw(self, rng: np.random.Generator, chains: int) -> tuple[Array, Array]:
        """Fields of covariance K^-1, and their v K v / 2 (chains,)."""
        modes = rng.standard_normal((*self.values.shape[:2], chains))
        energy = 0.5 * (modes * modes).sum((0, 1))
        return self.transform(modes / np.sqrt(self.values)), energy


def run(
    action: Action,
    shape: tuple[int, int],
    settings: FourierHmcSettings,
    seed: int,
    progress: Progress | None = None,
) -> SamplerRun:
    """Sample exp(-S) by exactly Fourier-accelerated hybrid Monte Carlo.

    S = phi K phi / 2 + V with K = z khat^2 + mu^2, and K is the mass matrix, too: velocities v are
    drawn with covariance K^-1, in Fourier space, and without V every mode turns with frequency 1,
    phi + i v -> (phi + i v) e^(-i t), in closed form. V enters by kicks v -= h K^-1 dV/dphi
    between turns (position first), and an accept-reject step with H = v K v / 2 + S.
    Duane, Kennedy, Pendleton, Roweth, Phys. Lett. B 176 (1986) 143, for the acceleration. Where V
    is zero (graphene wire, m = 0) a turn by pi / 2 makes independent samples, all accepted.

    Args:
        action: the action S.
        shape: lattice (L0, L1), any lengths >= 1.
        settings: lengths, kernel, angle and kicks. One update is one trajectory, with the moves
            of the mean and the Metropolis sweeps that they ask for.
        seed: of one numpy generator for all chains.
        progress: called with (trajectories done, trajectories in all) after each one.

    Returns:
        The run; its acceptance is that of the trajectories.

    Raises:
        InputError: for an action or a lattice that cannot be sampled, or moves of the mean for
            one without a cosine.
    """
    check_shape(shape)
    form = local_form(action)
    if settings.mean_moves and not (form.cosine and form.square > 0.0):
        raise InputError("mean_moves are for a graphene wire of m > 0: no cosine has wells here")
    mass = kernel_mass(action, shape) if settings.mass is None else settings.mass
    kernel = Kernel(form, mass, shape)
    sweeper = Sweeper(form, shape, settings.chains, settings.width)
    work = np.empty((*shape, settings.chains))

    def update(phi: Array, rng: np.random.Generator) -> float:
        velocity, kinetic = kernel.draw(rng, settings.chains)
        angle = settings.angle * (1.0 + settings.jitter * (2.0 * rng.random() - 1.0))
        before = kinetic + form.action(phi, work)
        moved = phi.copy()
        # a trajectory that ran away is infinite or NaN, and refused
        with np.errstate(over="ignore", invalid="ignore"):
            integrate(form, kernel, (moved, velocity), angle, settings.kicks)
            change = form.action(moved, work) + _kinetic(form, mass, velocity, work) - before
        taken = change < rng.standard_exponential(settings.chains)
        np.copyto(phi, moved, where=taken)
        if settings.mean_moves:
            move_mean(form, phi, settings.mean_moves, rng, work)
        for _ in range(settings.sweeps):
            sweeper.sweep(phi, rng)
        return float(taken.mean())

    return collect(update, shape, settings, seed, progress)


def integrate(
    form: LocalForm, kernel: Kernel, state: tuple[Array, Array], angle: float, kicks: int
) -> None:
    """Turn by `angle` with kicks of the anharmonic force between, in place.

    Args:
        form: the action.
        kernel: K.
        state: fields and velocities, (L0, L1, chains) each.
        angle: of the whole trajectory.
        kicks: how many.
    """
    phi, velocity = state
    residual = 2.0 * form.square - kernel.mass
    if not (residual or form.quartic or form.cosine):
        _turn(phi, velocity, angle)
        return
    each = angle / kicks
    _turn(phi, velocity, 0.5 * each)
    for index in range(kicks):
        velocity -= each * kernel.solve(_anharmonic(form, residual, phi))
        _turn(phi, velocity, each if index < kicks - 1 else 0.5 * each)


def kernel_mass(action: Action, shape: tuple[int, int]) -> float:
    """The mass to take: `gap_mass`; four times as much, and |m2| at least, in phi^4 at m2 < 0.

    There the fields sit where the potential curves more than the Gaussian knows (by 4 |m2| at its
    minima), and the cubic force must not drive the light modes faster than the kicks follow.
    """
    mass, square = gap_mass(action, shape), local_form(action).square
    return mass if square >= 0.0 else max(4.0 * mass, -square)


def _turn(phi: Array, velocity: Array, angle: float) -> None:
    cosine, sine = math.cos(angle), math.sin(angle)
    held = phi * -sine
    phi *= cosine
    phi += sine * velocity
    velocity *= cosine
    velocity += held


def _anharmonic(form: LocalForm, residual: float, phi: Array) -> Array:
    """dV/dphi = U'(phi) - mu^2 phi; `residual` is 2 a - mu^2."""
    force = residual * phi
    if form.quartic:
        force += 4.0 * form.quartic * (phi * phi * phi)
    if form.cosine:
        force += form.cosine * PERIOD * sine(phi * PERIOD)
    return force


def _kinetic(form: LocalForm, mass: float, velocity: Array, work: Array) -> Array:
    found = bonds(velocity, form.stiffness, work)
    found += 0.5 * mass * np.multiply(velocity, velocity, out=work).sum((0, 1))
    return found


def _hartley(length: int) -> Array:
    angles = 2.0 * np.pi * np.outer(np.arange(length), np.arange(length)) / length
    found: Array = (np.cos(angles) + np.sin(angles)) / math.sqrt(length)
    return found
