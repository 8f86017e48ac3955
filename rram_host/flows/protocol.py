"""What every flow offers: fields with a known density, and products that an array can hold."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from rram_host.flows.product import AdaptedLinear
from rram_host.lattice.actions import Action

__all__ = ["Flow", "HasLoss"]


@runtime_checkable
class Flow(Protocol):
    """An `nn.Module` that draws fields phi of shape (L0, L1) from a density q that it knows.

    Attributes:
        kind: its name in `kinds.KINDS`.
        exact_density: whether log q is the density of what is drawn, and not an approximation.
        settings: the frozen dataclass that it is built from.
    """

    kind: ClassVar[str]
    exact_density: ClassVar[bool]
    settings: Any

    @property
    def shape(self) -> tuple[int, int]:
        """The lattice (L0, L1)."""
        ...

    def draw(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """Prior draws z for `push`, standard normals, (n, ...)."""
        ...

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map prior draws to fields; returns phi (n, L0, L1) and log q (n,), in nats."""
        ...

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw n fields; returns phi (n, L0, L1) and log q (n,), normalised, in nats."""
        ...

    def inverse(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        """Prior draws z of fields phi (n, L0, L1), and log q (n,), in nats."""
        ...

    def log_prob(self, phi: Tensor) -> Tensor:
        """Logarithm of the density of phi (n, L0, L1), shape (n,), normalised, in nats."""
        ...

    def products(self) -> dict[str, AdaptedLinear]:
        """Its dense and convolution layers by name."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As of `nn.Module`."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """As of `nn.Module`."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """As of `nn.Module`."""
        ...

    def to(self, dtype: torch.dtype) -> Any:
        """As of `nn.Module`."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """As of `nn.Module`."""
        ...


class HasLoss(Protocol):
    """A flow that brings what its training descends."""

    def loss(self, action: Action, z: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The scalar to differentiate, and log w (n,), detached."""
        ...
