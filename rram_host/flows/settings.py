"""Settings of a coupling flow, checked when made."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from rram_host.errors import InputError

__all__ = ["FlowSettings"]

Activation = Literal["tanh", "sin"]
_PRODUCTS = ("w1", "wt", "ws")


@dataclass(frozen=True)
class FlowSettings:
    """Size and starting point of a `CouplingFlow`.

    Attributes:
        shape: lattice (L0, L1), both even.
        hidden: width of the shared conditioner.
        channels: groups of hidden units that share their gains, all of one size; 0 for gains of
            each unit's own.
        tied: matrices that commute with the lattice's symmetries, for `hidden` = `channels` V/2:
            a channel is then a field of hidden units. Far fewer numbers to train, the same to
            multiply with.
        steps: coupling steps, even and odd sites in turn.
        lora_rank: rank of the low-rank corrections; 0 for none.
        lora_on: the products that have one beside them, of "w1", "wt" and "ws".
        stiffness: of the prior at its start, whose spectrum is 1 / (stiffness khat^2 + mass2); the
            spectrum is trained. 2 for phi^4, 1 for a graphene wire, as in their kinetic terms.
        mass2: see `stiffness`.
        activation: of the hidden units: "tanh", or "sin" where the action holds a cosine.
        bend: the pointwise map: "tanh", or "sin" where the action holds a cosine.
        seed: of the initial weights.

    Raises:
        InputError: for a value out of range.
    """

    shape: tuple[int, int] = (4, 4)
    hidden: int = 32
    channels: int = 0
    tied: bool = False
    steps: int = 12
    lora_rank: int = 1
    lora_on: tuple[str, ...] = _PRODUCTS
    stiffness: float = 2.0
    mass2: float = 0.9
    activation: Activation = "tanh"
    bend: Activation = "tanh"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.lora_on, str):
            raise InputError(f"lora_on must be a list of products, got {self.lora_on!r}")
        for name in ("shape", "lora_on"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON gives a list
        if len(self.shape) != 2 or any(n < 2 or n % 2 for n in self.shape):
            raise InputError(f"shape must be two even lengths >= 2, got {self.shape}")
        if self.hidden < 1:
            raise InputError(f"hidden must be >= 1, got {self.hidden}")
        if self.channels < 0 or (self.channels and self.hidden % self.channels):
            raise InputError(
                f"channels must divide the {self.hidden} hidden units or be 0, got {self.channels}"
            )
        if self.tied and self.hidden != self.channels * self.half_volume:
            raise InputError(
                f"hidden of a tied flow must be channels x V/2 = {self.channels} x "
                f"{self.half_volume}, got {self.hidden}"
            )
        if self.steps < 2:
            raise InputError(f"steps must be >= 2 (every site moves once), got {self.steps}")
        if not 0 <= self.lora_rank <= min(self.hidden, self.half_volume):
            raise InputError(
                f"lora_rank must be 0..{min(self.hidden, self.half_volume)}, got {self.lora_rank}"
            )
        strange = [name for name in self.lora_on if name not in _PRODUCTS]
        if strange:
            raise InputError(f"lora_on names products, {', '.join(_PRODUCTS)}; got {strange[0]!r}")
        for name in ("stiffness", "mass2"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise InputError(f"{name} of the prior must be > 0, got {value}")
        for name in ("activation", "bend"):
            if getattr(self, name) not in get_args(Activation):
                raise InputError(
                    f"{name} must be one of {', '.join(get_args(Activation))}, "
                    f"got {getattr(self, name)!r}"
                )

    def rank_of(self, product: str) -> int:
        """Rank of the correction beside a product."""
        return self.lora_rank if product in self.lora_on else 0

    @property
    def volume(self) -> int:
        """Number of sites V = L0 L1."""
        return self.shape[0] * self.shape[1]

    @property
    def gains(self) -> int:
        """Gains of one step: one for every group of hidden units."""
        return self.channels or self.hidden

    @property
    def half_volume(self) -> int:
        """Number of sites of one colour, V / 2: the length of a frozen vector."""
        return self.volume // 2
