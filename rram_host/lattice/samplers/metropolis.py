"""Local Metropolis: one site after the other, many chains at once."""

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from rram_host.lattice.actions import Action
from rram_host.lattice.samplers import compiled
from rram_host.lattice.samplers.local_form import (
    PERIOD,
    LocalForm,
    Sites,
    classes,
    local_form,
    neighbours,
    sine,
)
from rram_host.lattice.samplers.run import (
    Lengths,
    Progress,
    SamplerRun,
    check_shape,
    collect,
    require,
    require_count,
)

__all__ = ["MetropolisSettings", "Sweeper", "run"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MetropolisSettings(Lengths):
    """Settings of local Metropolis; the default suits phi^4 at lam = 5 to 6.

    Attributes:
        width: largest proposed step; steps are uniform in -width .. width.
        sweeps: hits on every site in one update.

    Raises:
        InputError: for a value out of range.
    """

    width: float = 0.8
    sweeps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "width", 0.0 < self.width < np.inf, "> 0 and finite")
        require_count(self, "sweeps", 1)


class Sweeper:
    """Metropolis sweeps over fields (L0, L1, chains), the same with numba and without.

    Sites are hit class by class: a checkerboard where both lengths are even; odd lengths need a
    third or fourth class, because no two neighbours may stand in one.

    Args:
        form: the action.
        shape: lattice (L0, L1).
        chains: how many.
        width: largest proposed step.
    """

    def __init__(self, form: LocalForm, shape: tuple[int, int], chains: int, width: float) -> None:
        self._form, self._width = form, width
        self.near = neighbours(shape)
        self._classes = classes(self.near)
        self._order = np.concatenate(self._classes)
        self._move, self._bar = np.empty((2, len(self.near), chains))

    def sweep(self, phi: Array, rng: np.random.Generator) -> float:
        """One hit on every site, in place; the fraction of moves taken."""
        flat = phi.reshape(len(self.near), -1)
        rng.random(out=self._move)
        self._move *= 2.0 * self._width
        self._move -= self._width
        rng.standard_exponential(out=self._bar)
        # numba's sine is a scalar call: torch's, over a class of sites, is faster
        if compiled.has_numba() and not self._form.cosine:
            from rram_host.lattice.samplers import kernels_local as kernels

            constants = astuple(self._form)
            taken = kernels.sweep(flat, self._order, self.near, constants, self._move, self._bar)
        else:
            taken = sum(self._hit(flat, sites) for sites in self._classes)
        return float(taken) / flat.size

    def _hit(self, flat: Array, sites: Sites) -> int:
        """One hit on all sites of a class: none is another's neighbour."""
        form, near = self._form, self.near[sites]
        old, step = flat[sites], self._move[sites]
        new = old + step
        field = np.zeros_like(old)
        for others in near.T:
            field += flat[others]
        linear = form.square + 0.5 * form.stiffness * near.shape[1]
        sums = new + old
        smooth = linear + form.quartic * (new * new + old * old)
        change = step * (sums * smooth - form.stiffness * field)
        if form.cosine:
            # cos x - cos y = 2 sin((x + y) / 2) sin((y - x) / 2)
            change += 2.0 * form.cosine * sine(0.5 * PERIOD * sums) * sine(0.5 * PERIOD * step)
        fine = change < self._bar[sites]
        flat[sites] = np.where(fine, new, old)
        return int(fine.sum())


def run(
    action: Action,
    shape: tuple[int, int],
    settings: MetropolisSettings,
    seed: int,
    progress: Progress | None = None,
) -> SamplerRun:
    """Sample exp(-S) by single-site Metropolis (Metropolis et al., J. Chem. Phys. 21 (1953) 1087).

    Args:
        action: the action S.
        shape: lattice (L0, L1), any lengths >= 1, even or odd.
        settings: lengths, width, sweeps in an update.
        seed: of one numpy generator for all chains.
        progress: called with (updates done, updates in all) after each one.

    Raises:
        InputError: for an action or a lattice that cannot be sampled.
    """
    check_shape(shape)
    sweeper = Sweeper(local_form(action), shape, settings.chains, settings.width)

    def update(phi: Array, rng: np.random.Generator) -> float:
        return sum(sweeper.sweep(phi, rng) for _ in range(settings.sweeps)) / settings.sweeps

    return collect(update, shape, settings, seed, progress)
