"""A checkerboard coupling flow whose steps share one two-layer conditioner."""

import math

import torch
from torch import Tensor, nn

from rram_host.errors import InputError
from rram_host.flows.checkerboard import Checkerboard
from rram_host.flows.pointwise import map_derivative, map_forward, map_inverse
from rram_host.flows.product import AdaptedLinear
from rram_host.flows.settings import FlowSettings

__all__ = ["CouplingFlow", "FlowSettings"]


class CouplingFlow(nn.Module):
    """Normalizing flow for an even, translation-covariant lattice action.

    A draw z of V standard normals, times a trained width, passes K coupling steps. Step k moves the
    sites of one colour (x, "active") by numbers read off the other colour (f, "frozen"):

        u = g_k * (W1 f),   t = Wt (a_k * tanh u),   s = s_k + Ws (b_k * tanh^2 u),
        y = (alpha_k x + beta_k tanh(gamma_k x)) e^s + t,
        log J = sum_active [s + log(alpha_k + beta_k gamma_k (1 - tanh^2(gamma_k x)))].

    W1, Wt, Ws are shared by all steps and both colours (colours are identified by a translation of
    one site); g_k, a_k, b_k (one number for each hidden unit) and s_k, alpha_k, beta_k, gamma_k
    are the step's own. t is odd and s even in f, so phi -> -phi is an exact, smooth symmetry of q.
    tanh bounds what enters Wt and Ws, hence |t| and |s|.

    log q = log N(z) - V log(width) - sum_k log J_k (eq. 8 of arXiv 2509.12812; the map differs from
    its eq. 7 by the bend tanh and the shared dense conditioner). Every step calls each product
    exactly once and reuses its result for log J: with a noisy product log q is still the exact
    density of what was drawn, given the noise.

    The field and log q are carried in the dtype of z (float64 from `sample`), the conditioner in
    that of the parameters (float32 unless converted).
    """

    def __init__(self, settings: FlowSettings) -> None:
        """Build an untrained flow: Wt = Ws = 0, the remaining weights drawn from settings.seed."""
        super().__init__()
        self.settings = settings
        half, hidden, steps = settings.half_volume, settings.hidden, settings.steps
        generator = torch.Generator().manual_seed(settings.seed)
        rank = settings.lora_rank
        self.w1 = AdaptedLinear(half, hidden, rank, generator)
        self.wt = AdaptedLinear(hidden, half, rank, generator)
        self.ws = AdaptedLinear(hidden, half, rank, generator)
        for last in (self.wt, self.ws):
            nn.init.zeros_(last.weight())
        # Rows of W1 start so that u is of order one for a field of the prior's width.
        self.gain_in = nn.Parameter(torch.full((steps, hidden), 1.0 / settings.prior_width))
        self.gain_t = nn.Parameter(torch.full((steps, hidden), 0.1))
        self.gain_s = nn.Parameter(torch.full((steps, hidden), 0.1))
        self.shift_s = nn.Parameter(torch.zeros(steps))
        self.log_alpha = nn.Parameter(torch.full((steps,), math.log(0.8)))
        self.log_beta = nn.Parameter(torch.full((steps,), math.log(0.2)))
        self.log_gamma = nn.Parameter(torch.zeros(steps))
        self.log_width = nn.Parameter(torch.tensor(math.log(settings.prior_width)))
        board = Checkerboard.of(settings.shape)
        for name in ("even", "odd", "shift", "merge"):
            self.register_buffer(name, getattr(board, name), persistent=False)

    even: Tensor
    odd: Tensor
    shift: Tensor
    merge: Tensor

    def products(self) -> dict[str, AdaptedLinear]:
        """The shared products: w1 (hidden, V/2), wt and ws (V/2, hidden)."""
        return {"w1": self.w1, "wt": self.wt, "ws": self.ws}

    def conditioner(self, step: int, frozen: Tensor) -> tuple[Tensor, Tensor]:
        """Shift t and log-scale s of one step; each product is called once.

        Args:
            step: 0..K-1.
            frozen: frozen sites as the active ones see them, (n, V/2).

        Returns:
            t and s, each (n, V/2), in the dtype of `frozen`.
        """
        hidden = torch.tanh(self.gain_in[step] * self.w1(frozen.to(self.gain_in.dtype)))
        t = self.wt(self.gain_t[step] * hidden)
        s = self.shift_s[step] + self.ws(self.gain_s[step] * (hidden * hidden))
        return t.to(frozen.dtype), s.to(frozen.dtype)

    def bend(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The pointwise map of one step: alpha, beta, gamma, each > 0, scalars."""
        return self.log_alpha[step].exp(), self.log_beta[step].exp(), self.log_gamma[step].exp()

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
        x = z * self.log_width.exp()
        log_q = self.log_prior(z)
        even, odd = x.index_select(1, self.even), x.index_select(1, self.odd)
        for step in range(self.settings.steps):
            frozen = self.frozen_of(step, even, odd)
            t, s = self.conditioner(step, frozen)
            constants = self.bend(step)
            value, bend = map_forward(even if step % 2 == 0 else odd, *constants)
            moved = value * s.exp() + t
            log_q = log_q - (s + map_derivative(bend, *constants).log()).sum(1)
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
            alpha, beta, gamma = (c.double() for c in self.bend(step))
            moved = (even if step % 2 == 0 else odd) - t
            active = map_inverse(moved * (-s).exp(), alpha, beta, gamma)
            slope = map_derivative(torch.tanh(gamma * active), alpha, beta, gamma)
            log_j = log_j + (s + slope.log()).sum(1)
            even, odd = (active, odd) if step % 2 == 0 else (even, active)
        z = self.field_of(even, odd).flatten(1) / self.log_width.double().exp()
        return z, self.log_prior(z) - log_j

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw n fields, as `push` of fresh float64 draws.

        Args:
            n: number of fields, >= 1.
            generator: source of the prior draws.

        Returns:
            phi (n, L0, L1) and log q (n,), float64.

        Raises:
            InputError: for n below 1.
        """
        return self.push(self.draw(n, generator))

    def draw(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """Prior draws z for `push`: standard normals, (n, V).

        Raises:
            InputError: for n below 1.
        """
        if n < 1:
            raise InputError(f"a flow draws at least 1 field, asked {n}")
        return torch.randn(n, self.settings.volume, generator=generator, dtype=dtype)

    def log_prob(self, phi: Tensor) -> Tensor:
        """Density log q (n,) of fields phi (n, L0, L1), float64, by `inverse`."""
        return self.inverse(phi)[1]

    @torch.no_grad()
    def balance(self) -> None:
        """Fix the gauge: every hidden unit's largest weight in each matrix becomes 1.

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
            largest = product.weight().abs().amax(dim)
            scale = torch.where(largest > 0.0, largest, torch.ones_like(largest))
            product.rescale_(1.0 / scale, outputs=dim == 1)
            gain.mul_(scale)

    def _flat(self, field: Tensor) -> Tensor:
        shape, volume = self.settings.shape, self.settings.volume
        if tuple(field.shape[1:]) not in ((volume,), shape):
            raise InputError(
                f"this flow takes (n, {shape[0]}, {shape[1]}) or (n, {volume}), "
                f"got {tuple(field.shape)}"
            )
        return field.flatten(1)

    def field_of(self, even: Tensor, odd: Tensor) -> Tensor:
        """The field (n, L0, L1) of its even and odd sites, each (n, V/2)."""
        flat = torch.cat([even, odd], 1).index_select(1, self.merge)
        return flat.reshape(-1, *self.settings.shape)

    def log_prior(self, z: Tensor) -> Tensor:
        """Log density (n,) of the prior field width * z, for z (n, V)."""
        constant = 0.5 * math.log(2.0 * math.pi) + self.log_width.to(z.dtype)
        return -0.5 * (z * z).sum(1) - self.settings.volume * constant
