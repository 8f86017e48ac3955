"""Settings of a realNVP flow, checked when made."""

from dataclasses import dataclass

from rram_host.errors import InputError

__all__ = ["RealNvpSettings"]


@dataclass(frozen=True)
class RealNvpSettings:
    """Size of a `RealNvpFlow`; the defaults are those of arXiv 2101.08176, section "phi^4".

    Attributes:
        shape: lattice (L0, L1), both even and at least the kernel's reach.
        steps: affine couplings, even and odd sites in turn, each with a network of its own.
        hidden: channels of the hidden layers.
        kernel: side of the square kernels, odd.
        lora_rank: rank of the correction beside each convolution; 0 for none.
        seed: of the initial weights.

    Raises:
        InputError: for a value out of range.
    """

    shape: tuple[int, int] = (4, 4)
    steps: int = 16
    hidden: tuple[int, ...] = (8, 8)
    kernel: int = 3
    lora_rank: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))  # JSON gives lists
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if len(self.shape) != 2 or any(n < 2 or n % 2 for n in self.shape):
            raise InputError(f"shape must be two even lengths >= 2, got {self.shape}")
        if self.steps < 2:
            raise InputError(f"steps must be >= 2 (every site moves once), got {self.steps}")
        if not self.hidden or min(self.hidden) < 1:
            raise InputError(f"hidden must be one or more widths >= 1, got {self.hidden}")
        if self.kernel < 1 or self.kernel % 2 == 0 or self.kernel // 2 > min(self.shape):
            raise InputError(f"kernel must be odd and fit on {self.shape}, got {self.kernel}")
        if self.lora_rank < 0:
            raise InputError(f"lora_rank must be >= 0, got {self.lora_rank}")

    @property
    def volume(self) -> int:
        """Number of sites V = L0 L1."""
        return self.shape[0] * self.shape[1]
