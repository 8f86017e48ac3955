"""Settings of a mixer flow, checked when made."""

from dataclasses import dataclass

from rram_host.errors import InputError

__all__ = ["MixerSettings"]


@dataclass(frozen=True)
class MixerSettings:
    """Size and starting point of a `MixerFlow`; the defaults are those of the published script.

    Attributes:
        shape: lattice (L0, L1), both even and multiples of `patch`.
        patch: side of a square patch; every patch is one token.
        dim: channels of a token, and of the pixels before and after.
        hidden: hidden units of both halves of a mixer block.
        blocks: mixer blocks, each with a time embedding before it.
        steps: coupling steps, even and odd sites in turn, sharing all weights but the embedding.
        lora_rank: rank of the corrections beside the products in mixer blocks, which is what the
            paper counts; 0 for none. `flows.lora` puts them elsewhere, too.
        prior_width: starting standard deviation of the prior, in units of phi; trained.
        seed: of the initial weights.

    Raises:
        InputError: for a value out of range.
    """

    shape: tuple[int, int] = (12, 12)
    patch: int = 3
    dim: int = 32
    hidden: int = 32
    blocks: int = 4
    steps: int = 20
    lora_rank: int = 2
    prior_width: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))  # JSON gives a list
        for name, least in (("patch", 1), ("dim", 1), ("hidden", 1), ("blocks", 1), ("steps", 2)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be >= {least}, got {getattr(self, name)}")
        if len(self.shape) != 2 or any(n < 2 or n % 2 for n in self.shape):
            raise InputError(f"shape must be two even lengths >= 2, got {self.shape}")
        if any(n % self.patch for n in self.shape):
            raise InputError(
                f"a lattice of {self.shape[0]} x {self.shape[1]} sites cannot be cut into patches "
                f"of {self.patch} x {self.patch}: both lengths must be multiples of {self.patch}"
            )
        largest = min(self.dim, self.hidden, self.tokens)
        if not 0 <= self.lora_rank <= largest:
            raise InputError(f"lora_rank must be 0..{largest} here, got {self.lora_rank}")
        if not self.prior_width > 0.0:
            raise InputError(f"prior_width must be > 0, got {self.prior_width}")

    @property
    def volume(self) -> int:
        """Number of sites V = L0 L1."""
        return self.shape[0] * self.shape[1]

    @property
    def tokens(self) -> int:
        """Number of patches, V / patch^2."""
        return self.volume // self.patch**2
