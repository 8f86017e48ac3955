"""Checkerboard affine couplings whose steps share one mixer: the published architecture."""

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from rram_host.errors import InputError
from rram_host.flows.base import LatticeFlow
from rram_host.flows.mixer.folded import FoldedMixer
from rram_host.flows.mixer.network import Mixer
from rram_host.flows.mixer.norms import live
from rram_host.flows.mixer.settings import MixerSettings
from rram_host.flows.product import AdaptedLinear
from rram_host.lattice.actions import Action

__all__ = ["MixerFlow"]

Conditioner = Callable[[int, Tensor], tuple[Tensor, Tensor]]

# Fields at a time where products are plain: fewer cost calls, more leave the core's cache.
_CHUNK = 512
# Weight of a training batch in the remembered statistics, as in torch's BatchNorm.
_PACE = 0.1


class MixerFlow(LatticeFlow):
    """Normalizing flow of arXiv 2509.12812 as published (github.com/hustmeng/ANF), made exact.

    A draw z of V standard normals, times a width (1 as published), passes K steps. Step k moves the
    sites x of one colour by numbers that the mixer reads off the others, f, and off k:

        y = x e^s + t,   (t, s) = mixer(k, f),   log J = sum_active s,

    which is eq. 7 the other way round; log q = log N(z) - V log(width) - sum_k log J_k (eq. 8).
    Published, the mixer normalises by the statistics of the batch, so phi and log q depend on what
    else is in it. Here the statistics of every step are constants, set by `freeze_statistics`.

    The field and log q are carried in the dtype of z, the mixer in that of the parameters. Where
    all products are plain matrices and no gradient is asked for, they are folded together
    (`FoldedMixer`): the same numbers but for rounding.
    """

    settings: MixerSettings
    kind: ClassVar[str] = "mixer"
    exact_density: ClassVar[bool] = True
    symmetries: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, settings: MixerSettings) -> None:
        """Build an untrained flow, the identity but for the prior's width."""
        super().__init__()
        self.settings = settings
        self.net = Mixer(settings, torch.Generator().manual_seed(settings.seed))
        nn.init.zeros_(self.net.regression.product(2).weight())
        self.log_width = nn.Parameter(torch.tensor(math.log(settings.prior_width)))

    def products(self) -> dict[str, AdaptedLinear]:
        """Every linear and convolution layer by name, in the order of the forward pass."""
        return self.net.products()

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map prior draws to fields; deterministic and differentiable where the products are.

        Args:
            z: standard normals, (n, V) or (n, L0, L1), float32 or float64.

        Returns:
            phi (n, L0, L1) and log q (n,), in the dtype of z.

        Raises:
            InputError: for another shape.
        """
        return self._in_parts(self._push, self._flat(z))

    @torch.no_grad()
    def inverse(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        """Map fields back to the prior; needs products that repeat (no noise).

        Args:
            phi: fields, (n, L0, L1); taken to float64.

        Returns:
            z (n, V) and log q (n,), float64.

        Raises:
            InputError: for another shape or a field that is not finite.
        """
        x = self._flat(phi)
        if not bool(torch.isfinite(x).all()):
            raise InputError("the inverse of a flow was asked for a field that is not finite")
        return self._in_parts(self._pull, x.double())

    @torch.no_grad()
    def freeze_statistics(self, n: int, generator: torch.Generator) -> None:
        """Set the statistics of every step to those of one batch of draws.

        Args:
            n: draws, all at once; about 0.1 MB of memory each at L = 12. With a few thousand the
                statistics have settled: log q moves by less than a tenth of a nat between them.
            generator: source of the draws.

        Raises:
            InputError: for n below 2.
        """
        self.push_with_batch_statistics(self.draw(n, generator), 1.0)

    def push_with_batch_statistics(self, z: Tensor, pace: float = 0.0) -> tuple[Tensor, Tensor]:
        """Push as the published code does: every site evaluated, norms with the batch's statistics.

        log q is NOT the density of what comes out, because each field depends on the whole batch.

        Args:
            z: as of `push`, n >= 2.
            pace: weight of this batch in the flow's own statistics; 0 leaves them alone.

        Returns:
            As of `push`.

        Raises:
            InputError: for another shape, or n below 2.
        """
        z = self._flat(z)
        if len(z) < 2:
            raise InputError(f"statistics need a batch of at least 2 draws, asked {len(z)}")
        with live(self.net.norms(), pace):
            return self._push(z, partial(self.net, all_sites=True))

    def loss(self, action: Action, z: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mean of log q + S with the batch's own statistics, as published, and log w, detached.

        The statistics of each step are remembered as a running mean. log w is that of the batch
        as a whole: a figure of training, not a weight. `freeze_statistics` ends a training.

        Args:
            action: the target's action S.
            z: prior draws, (n, V), n >= 2.
            generator: not used.
        """
        phi, log_q = self.push_with_batch_statistics(z, _PACE)
        free_energy = log_q + action(phi)
        return free_energy.mean(), -free_energy.detach()

    def _in_parts(
        self, move: Callable[[Tensor, Conditioner], tuple[Tensor, Tensor]], field: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Move a batch at once, or folded and in parts where that makes no difference."""
        plain = all(type(product.base) is nn.Linear for product in self.products().values())
        if torch.is_grad_enabled() or not plain:
            return move(field, self.net)
        folded = FoldedMixer(self.net)
        parts = [move(part, folded) for part in torch.split(field, _CHUNK)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _push(self, z: Tensor, conditioner: Conditioner) -> tuple[Tensor, Tensor]:
        halves = list(self._halves(z * self.log_width.exp()))
        log_q = self._log_prior(z)
        for step in range(self.settings.steps):
            active = step % 2
            t, s = conditioner(step, halves[1 - active])
            halves[active] = halves[active] * s.exp() + t
            log_q = log_q - s.sum(0)
        return self._merged(*halves).view(-1, *self.shape), log_q

    def _pull(self, phi: Tensor, conditioner: Conditioner) -> tuple[Tensor, Tensor]:
        halves = list(self._halves(phi))
        log_j = phi.new_zeros(len(phi))
        for step in reversed(range(self.settings.steps)):
            active = step % 2
            t, s = conditioner(step, halves[1 - active])
            halves[active] = (halves[active] - t) * (-s).exp()
            log_j = log_j + s.sum(0)
        z = self._merged(*halves) / self.log_width.to(phi.dtype).exp()
        return z, self._log_prior(z) - log_j

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Even and odd sites of x (n, V), each (V/2, n)."""
        columns = x.T
        return columns.index_select(0, self.net.sites[0]), columns.index_select(
            0, self.net.sites[1]
        )

    def _merged(self, even: Tensor, odd: Tensor) -> Tensor:
        """The field (n, V) of its halves."""
        order = torch.argsort(self.net.sites.flatten())
        return torch.cat([even, odd]).index_select(0, order).T.contiguous()

    def _log_prior(self, z: Tensor) -> Tensor:
        """Log density (n,) of the prior field width * z, for z (n, V)."""
        constant = 0.5 * math.log(2.0 * math.pi) + self.log_width.to(z.dtype)
        return -0.5 * (z * z).sum(1) - self.settings.volume * constant
