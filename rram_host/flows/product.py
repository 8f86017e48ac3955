"""A matrix product with a low-rank correction in parallel (LoRA)."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rram_host.errors import InputError
from rram_host.flows.tied import TiedMatrix

__all__ = ["AdaptedLinear"]


class AdaptedLinear(nn.Module):
    """The product y = base(x) + (x A^T) B^T, with a dense base W and a low-rank B A beside it.

    Low-rank adaptation (Hu et al., arXiv 2106.09685): W (out, in) stays where it is, while A (rank,
    in) and B (out, rank) can be retrained cheaply to make up for errors of W. B starts at zero, so
    a fresh correction changes nothing.

    `base` may be replaced by any module with the same call signature, noisy or not differentiable:
    a forward pass calls it exactly once and never looks at its weight.

    Attributes:
        base: the dense product, (n, in) -> (n, out).
        lora_a: A, shape (rank, in); None at rank 0.
        lora_b: B, shape (out, rank); None at rank 0.
    """

    base: nn.Module
    lora_a: nn.Parameter | None
    lora_b: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        generator: torch.Generator | None = None,
    ) -> None:
        """Draw W and A uniformly with standard deviation 1 / sqrt(in); B is zero.

        Args:
            in_features: length of an input vector.
            out_features: length of an output vector.
            rank: rank of the correction; 0 for none (no parameters).
            generator: source of the initial weights; None for a fixed one.

        Raises:
            InputError: for a size below 1 or a rank outside 0..min(in, out).
        """
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise InputError(f"a product needs sizes >= 1, asked {out_features} x {in_features}")
        if not 0 <= rank <= min(in_features, out_features):
            raise InputError(
                f"rank {rank} of a {out_features} x {in_features} product is outside "
                f"0..{min(in_features, out_features)}"
            )
        generator = generator or torch.Generator().manual_seed(0)
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        # skip_init: nn.Linear would draw from torch's global generator.
        make: Callable[..., nn.Linear] = nn.utils.skip_init
        base = make(nn.Linear, in_features, out_features, bias=False)
        bound = math.sqrt(3.0 / in_features)
        with torch.no_grad():
            base.weight.uniform_(-bound, bound, generator=generator)
        self.base = base
        if rank == 0:
            self.register_parameter("lora_a", None)
            self.register_parameter("lora_b", None)
            return
        a = torch.empty(rank, in_features).uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(a)
        self.lora_b = nn.Parameter(torch.zeros(out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply the vectors x (n, in); returns (n, out). Calls `base` once."""
        y: Tensor = self.base(x)
        if self.lora_a is None or self.lora_b is None:
            return y
        return y + nn.functional.linear(nn.functional.linear(x, self.lora_a), self.lora_b)

    def weight(self) -> Tensor:
        """The dense matrix W itself, shape (out, in): for training and for whoever places it.

        Raises:
            InputError: where `base` has been replaced by a module without a weight.
        """
        weight = getattr(self.base, "weight", None)
        if not isinstance(weight, Tensor):
            raise InputError(
                f"the matrix of a product was asked, but its base is a "
                f"{type(self.base).__name__} without a weight"
            )
        return weight

    def matrix(self) -> Tensor:
        """The effective matrix W + B A, shape (out, in), for training only.

        Raises:
            InputError: where `base` has been replaced by a module without a weight.
        """
        if self.lora_a is None or self.lora_b is None:
            return self.weight()
        return self.weight() + self.lora_b @ self.lora_a

    @torch.no_grad()
    def set_weight_(self, weight: Tensor) -> None:
        """Put another dense matrix (out, in) in place of W.

        Raises:
            InputError: for another shape, a matrix that symmetries tie, or no matrix.
        """
        mine = self.weight()
        if isinstance(self.base, TiedMatrix):
            raise InputError("the weights of a tied matrix cannot be set one by one: untie it")
        if weight.shape != mine.shape:
            raise InputError(
                f"the matrix of a product is {tuple(mine.shape)}, got {tuple(weight.shape)}"
            )
        mine.copy_(weight)

    @contextmanager
    def perturbed(self, change: Tensor) -> Iterator[None]:
        """Inside, W + change stands for W, forward and backward; afterwards W is exactly back.

        Args:
            change: (out, in).
        """
        if isinstance(self.base, TiedMatrix):
            self.base.offset = change
            try:
                yield
            finally:
                self.base.offset = None
            return
        weight = self.weight()
        with torch.no_grad():
            clean = weight.clone()
            weight += change
        try:
            yield
        finally:
            with torch.no_grad():
                weight.copy_(clean)

    @torch.no_grad()
    def rescale_(self, scale: Tensor, *, outputs: bool) -> None:
        """Scale each output (or each input) of the whole product, correction included.

        Args:
            scale: (out,) where `outputs`, else (in,).
            outputs: scale rows of W + B A; otherwise columns.

        Raises:
            InputError: where `base` has been replaced by a module without a weight.
        """
        if isinstance(self.base, TiedMatrix):
            # equal within a channel, as every unit's weights are
            self.base.kernel.mul_(scale.reshape(len(self.base.kernel), -1)[:, :1])
        else:
            self.weight().mul_(scale[:, None] if outputs else scale)
        if outputs and self.lora_b is not None:
            self.lora_b.mul_(scale[:, None])
        elif self.lora_a is not None and not outputs:
            self.lora_a.mul_(scale)
