"""Settings of a continuous flow, checked when made."""

import math
from dataclasses import dataclass

from rram_host.errors import InputError

__all__ = ["ContinuousSettings"]


@dataclass(frozen=True)
class ContinuousSettings:
    """Size, integration and starting point of a `ContinuousFlow`.

    Attributes:
        shape: lattice (L0, L1), any lengths >= 2.
        times: D, cosine features of flow time.
        frequencies: F, sine features of the field.
        highest: the frequencies start evenly spaced up to this one, in inverse units of phi.
        steps: RK4 steps of `push` and `inverse`.
        train_steps: fewest and most RK4 steps in training; every batch draws its own number.
        kinetic: weight of the kinetic energy in the training loss.
        lora_rank: rank of the correction beside the product; 0 for none.
        stiffness: of the prior at its start, whose spectrum is 1 / (stiffness khat^2 + mass2); the
            spectrum is trained. 2 for phi^4, 1 for a graphene wire, as in their kinetic terms.
        mass2: see `stiffness`.

    Raises:
        InputError: for a value out of range.
    """

    shape: tuple[int, int] = (4, 4)
    times: int = 4
    frequencies: int = 8
    highest: float = 6.0
    steps: int = 16
    train_steps: tuple[int, int] = (5, 8)
    kinetic: float = 1e-2
    lora_rank: int = 0
    stiffness: float = 2.0
    mass2: float = 0.9

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))  # JSON gives a list
        object.__setattr__(self, "train_steps", tuple(self.train_steps))
        if len(self.shape) != 2 or min(self.shape) < 2:
            raise InputError(f"shape must be two lengths >= 2, got {self.shape}")
        for name in ("times", "frequencies", "steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be >= 1, got {getattr(self, name)}")
        if len(self.train_steps) != 2 or not 1 <= self.train_steps[0] <= self.train_steps[1]:
            raise InputError(f"train_steps must be 1 <= fewest <= most, got {self.train_steps}")
        for name in ("highest", "stiffness", "mass2"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise InputError(f"{name} must be > 0, got {value}")
        if not (math.isfinite(self.kinetic) and self.kinetic >= 0.0):
            raise InputError(f"kinetic must be >= 0, got {self.kinetic}")
        if self.lora_rank < 0:
            raise InputError(f"lora_rank must be >= 0, got {self.lora_rank}")

    @property
    def volume(self) -> int:
        """Number of sites V = L0 L1."""
        return self.shape[0] * self.shape[1]
