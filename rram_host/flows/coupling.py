"""A checkerboard coupling flow whose steps share one two-layer conditioner."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from rram_host.flows.activations import ACTIVATIONS
from rram_host.flows.base import LatticeFlow
from rram_host.flows.checkerboard import Checkerboard
from rram_host.flows.path_gradient import path_gradient_loss
from rram_host.flows.pointwise import BENDS, invert
from rram_host.flows.prior import SpectralPrior
from rram_host.flows.product import AdaptedLinear
from rram_host.flows.settings import FlowSettings
from rram_host.flows.tied import TiedMatrix, distance_classes
from rram_host.lattice.actions import Action

__all__ = ["CouplingFlow", "FlowSettings"]


class CouplingFlow(LatticeFlow):
    """Adaptive normalizing flow for an even lattice action, made for an array.

    V standard normals z become a Gaussian field of trained spectrum (`SpectralPrior`), which passes
    K coupling steps. Step k moves the sites of one colour (x, "active") by numbers read off the
    other colour (f, "frozen"):

        u = g_k * (W1 f),   t = Wt (a_k * odd(u)),   s = s_k + Ws (b_k * even(u)),
        y = h_k(x) e^s + t,
        log J = sum_active [s + log h_k'(x)],

    with odd, even = tanh, tanh^2 or sin, 1 - cos, and h_k the pointwise map of `pointwise.py`.
    W1, Wt, Ws are shared by all steps and both colours (colours are identified by a translation of
    one site); g_k, a_k, b_k (one number for each hidden unit, or channel of them), s_k and h_k are
    the step's own: the time embedding. Where `settings.tied`, the matrices commute with
    translations, reflections and rotations that keep the colours (`TiedMatrix`), and q has these
    symmetries. t is odd and s even in f, so phi -> -phi is an exact, smooth symmetry of q. odd
    and even are bounded, hence |t| and |s|.

    log q = log q_prior(x_0) - sum_k log J_k (eq. 8 of arXiv 2509.12812; the map differs from
    its eq. 7 by the bend h, the prior and the shared dense conditioner). Every step calls each
    product exactly once and reuses its result for log J: with a noisy product log q is still the
    exact density of what was drawn, given the noise.

    The field and log q are carried in the dtype of z (float64 from `sample`), the conditioner in
    that of the parameters (float32 unless converted).
    """

    settings: FlowSettings
    kind: ClassVar[str] = "anf"
    exact_density: ClassVar[bool] = True

    even: Tensor
    odd: Tensor
    shift: Tensor
    merge: Tensor

    def __init__(self, settings: FlowSettings) -> None:
        """Build an untrained flow: Wt = Ws = 0, the remaining weights drawn from settings.seed."""
        super().__init__()
        self.settings = settings
        half, hidden, steps = settings.half_volume, settings.hidden, settings.steps
        generator = torch.Generator().manual_seed(settings.seed)
        gains, rank = settings.gains, settings.rank_of
        self.w1 = AdaptedLinear(half, hidden, rank("w1"), generator)
        self.wt = AdaptedLinear(hidden, half, rank("wt"), generator)
        self.ws = AdaptedLinear(hidden, half, rank("ws"), generator)
        board = Checkerboard.of(settings.shape)
        if settings.tied:
            self._tie(board, generator)
        else:
            for last in (self.wt, self.ws):
                nn.init.zeros_(last.weight())
        self.prior = SpectralPrior(settings.shape, settings.stiffness, settings.mass2)
        # Rows of W1 start so that u is of order one for a field of the prior's width.
        self.gain_in = nn.Parameter(torch.full((steps, gains), 1.0 / self.prior.width))
        self.gain_t = nn.Parameter(torch.full((steps, gains), 0.1))
        self.gain_s = nn.Parameter(torch.full((steps, gains), 0.1))
        self.shift_s = nn.Parameter(torch.zeros(steps))
        self.bend = BENDS[settings.bend]
        self.bends = nn.Parameter(torch.tensor([self.bend.start] * steps))
        self.activation = ACTIVATIONS[settings.activation]
        for name in ("even", "odd", "shift", "merge"):
            self.register_buffer(name, getattr(board, name), persistent=False)

    def _tie(self, board: Checkerboard, generator: torch.Generator) -> None:
        """Tied matrices: W1 looks at the four neighbours, more or less, Wt and Ws are zero."""
        channels = self.settings.channels
        across, along = distance_classes(board, across=True), distance_classes(board, across=False)
        self.w1.base = TiedMatrix(across, channels, to_hidden=True)
        for last in (self.wt, self.ws):
            last.base = TiedMatrix(along, channels, to_hidden=False)
        counts = torch.bincount(across[0])
        with torch.no_grad():
            kernel = self.w1.base.kernel
            kernel.normal_(generator=generator).mul_(0.05 / counts.sqrt())
            # site 0 of the odd list is a neighbour of site 0 of the even one
            kernel[:, across[0, 0]] += 0.25 * torch.linspace(0.5, 1.5, channels)

    @property
    def symmetries(self) -> frozenset[str]:
        """Symmetries that q has exactly, as far as the low-rank corrections are still zero."""
        return frozenset({"z2", "even translations", "d4"} if self.settings.tied else {"z2"})

    def untied(self) -> "CouplingFlow":
        """The same flow with free matrices: for weights that come back from an array."""
        free = CouplingFlow(replace(self.settings, tied=False))
        free.to(self.gain_in.dtype)
        state = {k: v for k, v in self.state_dict().items() if not k.endswith(".kernel")}
        free.load_state_dict(state, strict=False)
        for name, product in free.products().items():
            product.set_weight_(self.products()[name].weight())
        return free

    def products(self) -> dict[str, AdaptedLinear]:
        """The shared products: w1 (hidden, V/2), wt and ws (V/2, hidden)."""
        return {"w1": self.w1, "wt": self.wt, "ws": self.ws}

    def noise_axes(self) -> dict[str, int]:
        """The axis along which the weights of one hidden unit lie, for noise in training."""
        return {"w1": 1, "wt": 0, "ws": 0}

    def conditioner(self, step: int, frozen: Tensor) -> tuple[Tensor, Tensor]:
        """Shift t and log-scale s of one step; each product is called once.

        Args:
            step: 0..K-1.
            frozen: frozen sites as the active ones see them, (n, V/2).

        Returns:
            t and s, each (n, V/2), in the dtype of `frozen`.
        """
        gain_in, gain_t, gain_s = self.gains(step)
        odd, even = self.activation.values(gain_in * self.w1(frozen.to(gain_in.dtype)))
        t = self.wt(gain_t * odd)
        s = self.shift_s[step] + self.ws(gain_s * even)
        return t.to(frozen.dtype), s.to(frozen.dtype)

    def gains(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The gains g, a, b of one step, spread over hidden units, each (hidden,)."""
        per = self.settings.hidden // self.settings.gains
        g, a, b = (
            gain[step].repeat_interleave(per) if per > 1 else gain[step]
            for gain in (self.gain_in, self.gain_t, self.gain_s)
        )
        return g, a, b

    def constants(self, step: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Constants of the pointwise map of one step."""
        return self.bend.constants(self.bends[step].to(dtype))

    def frozen_of(self, step: int, even: Tensor, odd: Tensor) -> Tensor:
        """The frozen sites of a step in the order its active sites see them, (n, V/2)."""
        return odd if step % 2 == 0 else even.index_select(1, self.shift)

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map prior draws to fields; deterministic and differentiable where the products are.

        Args:
            z: standard normals, (n, V) or (n, L0, L1), float32 or float64.

        Returns:
            phi (n, L0, L1) and log q (n,), in the dtype of z.

        Raises:
            InputError: for another shape.
        """
        z = self._flat(z)
        x, log_q = self.prior.field(z), self.prior.log_density(z)
        even, odd = x.index_select(1, self.even), x.index_select(1, self.odd)
        for step in range(self.settings.steps):
            t, s = self.conditioner(step, self.frozen_of(step, even, odd))
            active = even if step % 2 == 0 else odd
            value, slope = self.bend.forward(active, self.constants(step, z.dtype))
            moved = value * s.exp() + t
            log_q = log_q - (s + slope.log()).sum(1)
            even, odd = (moved, odd) if step % 2 == 0 else (even, moved)
        return self.field_of(even, odd), log_q

    @torch.no_grad()
    def inverse(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        """Map fields back to the prior; needs products that repeat (no noise).

        Args:
            phi: fields, (n, L0, L1); taken to float64.

        Returns:
            z (n, V) and log q (n,), float64; no gradients: use `push` where they are wanted.

        Raises:
            InputError: for another shape or a field that is not finite.
        """
        x = self._flat(phi).double()
        even, odd = x.index_select(1, self.even), x.index_select(1, self.odd)
        log_j = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for step in reversed(range(self.settings.steps)):
            t, s = self.conditioner(step, self.frozen_of(step, even, odd))
            constants = self.constants(step, x.dtype)
            moved = (even if step % 2 == 0 else odd) - t
            active = invert(self.bend, moved * (-s).exp(), constants)
            _, slope = self.bend.forward(active, constants)
            log_j = log_j + (s + slope.log()).sum(1)
            even, odd = (active, odd) if step % 2 == 0 else (even, active)
        z = self.prior.whitened(self.field_of(even, odd).flatten(1))
        return z, self.prior.log_density(z) - log_j

    def loss(self, action: Action, z: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What training descends: the path gradient of KL(q || p); and log w (n,), detached.

        Args:
            action: the target's action.
            z: prior draws, (n, V).
            generator: not used: nothing else here is random.
        """
        return path_gradient_loss(self, action, z)

    @torch.no_grad()
    def balance(self) -> None:
        """Fix the gauge: every hidden unit's (or channel's) largest weight becomes 1.

        A row of W1 may be scaled against g_k, a column of Wt against a_k and of Ws against b_k,
        without changing the flow. Balanced, max |W| = 1 and no unit hides far below it, so an
        error of a given fraction of max |W| does least harm.

        Raises:
            InputError: where a product has no matrix.
        """
        for product, gain, dim in (
            (self.w1, self.gain_in, 1),
            (self.wt, self.gain_t, 0),
            (self.ws, self.gain_s, 0),
        ):
            groups = product.weight().abs().amax(dim).reshape(self.settings.gains, -1)
            largest = groups.amax(1)
            scale = torch.where(largest > 0.0, largest, torch.ones_like(largest))
            spread = scale.repeat_interleave(groups.shape[1])
            product.rescale_(1.0 / spread, outputs=dim == 1)
            gain.mul_(scale)

    def field_of(self, even: Tensor, odd: Tensor) -> Tensor:
        """The field (n, L0, L1) of its even and odd sites, each (n, V/2)."""
        flat = torch.cat([even, odd], 1).index_select(1, self.merge)
        return flat.reshape(-1, *self.settings.shape)
