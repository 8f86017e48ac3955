"""Products of a flow by size and by how often they are used: what counts and costs begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rram_host.errors import InputError

__all__ = ["MixerSizes", "ProductCount", "mixer_products"]


@dataclass(frozen=True)
class ProductCount:
    """One matrix of a flow.

    Attributes:
        name: of the product.
        outputs, inputs: its size.
        calls: vectors it is given for one configuration.
        rank: of the low-rank correction beside it, 0 for none.
    """

    name: str
    outputs: int
    inputs: int
    calls: int
    rank: int = 0

    def __post_init__(self) -> None:
        if min(self.outputs, self.inputs, self.calls) < 1 or self.rank < 0:
            raise InputError(f"a product needs sizes and calls >= 1 and a rank >= 0, got {self}")

    @property
    def weights(self) -> int:
        """Of the matrix: analog."""
        return self.outputs * self.inputs

    @property
    def lora_weights(self) -> int:
        """Of the correction, r (in + out): digital."""
        return self.rank * (self.outputs + self.inputs)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the matrix for one configuration."""
        return self.weights * self.calls

    @property
    def lora_macs(self) -> int:
        """Multiply-accumulates of the correction for one configuration."""
        return self.lora_weights * self.calls


class MixerSizes(Protocol):
    """Sizes of a mixer flow, as `flows.mixer.MixerSettings` has them."""

    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def hidden(self) -> int: ...  # noqa: D102
    @property
    def patch(self) -> int: ...  # noqa: D102
    @property
    def tokens(self) -> int: ...  # noqa: D102
    @property
    def volume(self) -> int: ...  # noqa: D102
    @property
    def blocks(self) -> int: ...  # noqa: D102
    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def lora_rank(self) -> int: ...  # noqa: D102


def mixer_products(sizes: MixerSizes, *, all_sites: bool = True) -> tuple[ProductCount, ...]:
    """Every product of a mixer flow, in the order of the forward pass.

    Args:
        sizes: of the flow.
        all_sites: the regression runs at every site, as in the published code; False for active
            sites only, which is what `MixerFlow.push` does.
    """
    dim, hidden, tokens = sizes.dim, sizes.hidden, sizes.tokens
    volume, square, rank = sizes.volume, sizes.patch**2, sizes.lora_rank
    sites = volume if all_sites else volume // 2
    layers = [("pixel", dim, 9, volume, 0), ("patch", dim, dim * square, tokens, 0)]
    for index in range(sizes.blocks):
        layers += [
            (f"block{index}.token_in", hidden, tokens, dim, rank),
            (f"block{index}.token_out", tokens, hidden, dim, rank),
            (f"block{index}.channel_in", hidden, dim, tokens, rank),
            (f"block{index}.channel_out", dim, hidden, tokens, rank),
        ]
    layers += [
        ("unpatch", 2 * dim * square, dim, tokens, 0),
        ("regression0", dim, 2 * dim, sites, 0),
        ("regression1", dim, dim, sites, 0),
        ("regression2", 2, dim, sites, 0),
    ]
    return tuple(
        ProductCount(name, outputs, inputs, sizes.steps * calls, rank)
        for name, outputs, inputs, calls, rank in layers
    )
