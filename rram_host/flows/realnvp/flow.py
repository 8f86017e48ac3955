"""RealNVP with small convolutions."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from rram_host.flows.base import LatticeFlow
from rram_host.flows.checkerboard import Checkerboard
from rram_host.flows.product import AdaptedLinear
from rram_host.flows.realnvp.network import Network
from rram_host.flows.realnvp.settings import RealNvpSettings

__all__ = ["RealNvpFlow"]


class RealNvpFlow(LatticeFlow):
    """Checkerboard affine couplings, a small convolutional network for each.

    Independent standard normals z(x) pass K steps. A step moves the sites of one colour (active) by
    numbers that its network reads off the field with those sites set to zero:

        y = x e^s + t on active sites,   log J = sum_active s,

    (Albergo, Kanwar and Shanahan, arXiv 1904.12072; as in the notebook of arXiv 2101.08176). The
    network is a chain of circular convolutions with leaky ReLU between and tanh at the end of both
    outputs; its last layer starts at zero, so an untrained flow is the prior. Nothing makes
    phi -> -phi a symmetry; translations that keep the colours are one.

    The field and log q are carried in the dtype of z (float64 from `sample`), the networks in that
    of the parameters.
    """

    settings: RealNvpSettings
    kind: ClassVar[str] = "realnvp"
    exact_density: ClassVar[bool] = True
    symmetries: ClassVar[frozenset[str]] = frozenset({"even translations"})

    colour: Tensor

    def __init__(self, settings: RealNvpSettings) -> None:
        """Build an untrained flow, its weights drawn from settings.seed."""
        super().__init__()
        self.settings = settings
        generator = torch.Generator().manual_seed(settings.seed)
        self.networks = nn.ModuleList(Network(settings, generator) for _ in range(settings.steps))
        colour = torch.zeros(settings.volume)
        colour[Checkerboard.of(settings.shape).even] = 1.0
        self.register_buffer("colour", colour, persistent=False)

    def products(self) -> dict[str, AdaptedLinear]:
        """Every convolution's product, "step 0 layer 0" and so on."""
        return {
            f"step {i} layer {j}": product
            for i, network in enumerate(self.networks)
            if isinstance(network, Network)
            for j, product in enumerate(network.products())
        }

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map prior draws z, (n, V) or (n, L0, L1), to phi (n, L0, L1) and log q (n,).

        Raises:
            InputError: for another shape.
        """
        x = self._flat(z)
        log_q = self._log_prior(x)
        for step in range(self.settings.steps):
            s, t = self.scale_and_shift(step, x)
            x = x * s.exp() + t
            log_q = log_q - s.sum(1)
        return x.reshape(-1, *self.shape), log_q

    @torch.no_grad()
    def inverse(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        """Map fields back to the prior; needs products that repeat (no noise).

        Args:
            phi: fields, (n, L0, L1); taken to float64.

        Returns:
            z (n, V) and log q (n,), float64.

        Raises:
            InputError: for another shape.
        """
        x = self._flat(phi).double()
        log_j = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for step in reversed(range(self.settings.steps)):
            s, t = self.scale_and_shift(step, x)
            x = (x - t) * (-s).exp()
            log_j = log_j + s.sum(1)
        return x, self._log_prior(x) - log_j

    def scale_and_shift(self, step: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale s and shift t of one step, (n, V), read off frozen sites and zero there."""
        active = self.colour if step % 2 == 0 else 1.0 - self.colour
        frozen = x.to(self.colour.dtype) * (1.0 - active)
        both = torch.tanh(self.networks[step](frozen)) * active[:, None]
        s, t = both.to(x.dtype).unbind(2)
        return s, t

    def _log_prior(self, z: Tensor) -> Tensor:
        return -0.5 * (z * z).sum(1) - 0.5 * self.settings.volume * math.log(2.0 * math.pi)
