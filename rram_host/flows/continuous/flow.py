"""An equivariant continuous flow."""

from typing import ClassVar

import torch
from torch import Tensor

from rram_host.flows.base import LatticeFlow
from rram_host.flows.continuous.integrate import State, rk4
from rram_host.flows.continuous.loss import path_loss
from rram_host.flows.continuous.settings import ContinuousSettings
from rram_host.flows.continuous.velocity import Velocity
from rram_host.flows.prior import SpectralPrior
from rram_host.flows.product import AdaptedLinear
from rram_host.lattice.actions import Action

__all__ = ["ContinuousFlow"]

# Fields at a time where nothing is kept for a gradient: what they need then stays in the cache.
_PART = 256


class ContinuousFlow(LatticeFlow):
    """Fields that flow along a velocity with every symmetry of the lattice, on any L0 x L1.

    A Gaussian field of trained spectrum (`SpectralPrior`) moves for t from 0 to 1 by

        d phi / dt = v(phi, t),   d log q / dt = -div v(phi, t),

    v being that of `Velocity`: odd in phi, and the same at every site and in every direction
    (Gerdes et al., arXiv 2207.00283). Translations, reflections, rotations (exchange of axes where
    L0 = L1) and phi -> -phi are therefore symmetries of q, up to rounding, and stay so with a
    low-rank correction or a wrong matrix in the product.

    log q is not the exact density of what is drawn: it is exact for the continuous flow, of which
    `settings.steps` Runge-Kutta steps are an approximation whose error falls as steps^-4
    (`discretisation_error` measures it). The same holds for `inverse`, which integrates backwards.

    The field and log q are carried in the dtype of z (float64 from `sample`), the velocity is
    computed in that of the parameters (float32 unless converted).
    """

    settings: ContinuousSettings
    kind: ClassVar[str] = "continuous"
    exact_density: ClassVar[bool] = False
    symmetries: ClassVar[frozenset[str]] = frozenset({"z2", "translations", "d4"})

    def __init__(self, settings: ContinuousSettings) -> None:
        """Build an untrained flow, which is its prior; nothing in it is random."""
        super().__init__()
        self.settings = settings
        self.prior = SpectralPrior(settings.shape, settings.stiffness, settings.mass2)
        self.velocity = Velocity(settings)

    def products(self) -> dict[str, AdaptedLinear]:
        """The one product: "kernel", (D, F (C - 1)), read for every site at every RK4 stage."""
        return {"kernel": self.velocity.product}

    def push(self, z: Tensor, steps: int | None = None) -> tuple[Tensor, Tensor]:
        """Map prior draws to fields; differentiable where the product is.

        Args:
            z: standard normals, (n, V) or (n, L0, L1), float32 or float64.
            steps: RK4 steps; those of the settings if None.

        Returns:
            phi (n, L0, L1) and log q (n,), in the dtype of z.

        Raises:
            InputError: for another shape.
        """
        z = self._flat(z)
        x, log_j = self._integrate(self.prior.field(z), steps)
        return x.reshape(-1, *self.shape), self.prior.log_density(z) - log_j

    @torch.no_grad()
    def inverse(self, phi: Tensor, steps: int | None = None) -> tuple[Tensor, Tensor]:
        """Integrate fields back to the prior; needs products that repeat (no noise).

        Args:
            phi: fields, (n, L0, L1); taken to float64.
            steps: RK4 steps; those of the settings if None.

        Returns:
            z (n, V) and log q (n,), float64.

        Raises:
            InputError: for another shape.
        """
        x, log_j = self._integrate(self._flat(phi).double(), steps, backward=True)
        z = self.prior.whitened(x)
        return z, self.prior.log_density(z) + log_j

    def loss(self, action: Action, z: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What training descends, and log w (n,), detached: `path_loss`."""
        return path_loss(self, action, z, generator)

    @torch.no_grad()
    def discretisation_error(self, z: Tensor, factor: int = 4) -> tuple[float, float]:
        """How far the settings' steps are from `factor` times as many, for prior draws z (n, V).

        Returns:
            The largest difference of log q in nats, and of phi.
        """
        phi, log_q = self.push(z)
        finer_phi, finer = self.push(z, factor * self.settings.steps)
        return float((log_q - finer).abs().max()), float((phi - finer_phi).abs().max())

    def _integrate(
        self, x: Tensor, steps: int | None, *, backward: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The field at the other end, and the integral of div v from t = 0 to 1 (or 1 to 0)."""
        count = self.settings.steps if steps is None else steps
        moments = self.velocity.moments(count)

        def rates(place: int, state: State) -> State:
            return moments[place].rates(state[0])

        whole = torch.is_grad_enabled() or not self.velocity.plain
        parts = [
            rk4(rates, (part, part.new_zeros(len(part))), count, backward=backward)
            for part in torch.split(x, max(1, len(x)) if whole else _PART)
        ]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
