"""Low-rank corrections of a flow: which rank sits where, and what share of its numbers they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from rram_host.errors import InputError
from rram_host.flows.product import AdaptedLinear
from rram_host.flows.protocol import Flow

__all__ = ["Shares", "attach", "digital_parameters", "ranks_of", "set_rank", "set_ranks", "shares"]


@dataclass(frozen=True)
class Shares:
    """How many numbers of a flow are on the array, and how many beside it.

    Attributes:
        base: weights of the dense matrices: what an array holds.
        lora: numbers of the low-rank corrections.
        digital: all numbers but the base: the corrections, and gains, shifts, pointwise maps and
            prior, which the flow has with or without corrections.
    """

    base: int
    lora: int
    digital: int

    @property
    def lora_share(self) -> float:
        """Corrections over matrices with their corrections: how the paper counts its 4 to 8 %."""
        return self.lora / (self.base + self.lora)

    @property
    def digital_share(self) -> float:
        """All digital numbers over all numbers of the flow."""
        return self.digital / (self.base + self.digital)


def shares(flow: Flow) -> Shares:
    """Count the numbers of a flow; its products must have matrices."""
    products = flow.products().values()
    base = sum(product.weight().numel() for product in products)
    lora = sum(p.rank * (p.in_features + p.out_features) for p in products)
    return Shares(base, lora, sum(p.numel() for p in digital_parameters(flow).values()))


def digital_parameters(flow: Flow) -> dict[str, nn.Parameter]:
    """All parameters but those of the dense matrices, by name."""
    dense = {id(p) for product in flow.products().values() for p in product.base.parameters()}
    return {name: p for name, p in flow.named_parameters() if id(p) not in dense}


def ranks_of(flow: Flow) -> dict[str, int]:
    """The rank of every product's correction."""
    return {name: product.rank for name, product in flow.products().items()}


def attach(flow: Flow, rank: int, names: Sequence[str] | None = None) -> None:
    """Give the named products a correction of this rank, and the others none.

    Args:
        flow: changed in place.
        rank: of each correction, >= 1.
        names: of products; None for all.

    Raises:
        InputError: no such product, or a rank that one of them cannot have.
    """
    if rank < 1:
        raise InputError(f"a correction needs a rank >= 1, asked {rank}")
    chosen = list(flow.products()) if names is None else list(names)
    unknown = [name for name in chosen if name not in flow.products()]
    if unknown or not chosen:
        raise InputError(
            f"no product {', '.join(unknown) or '(none named)'} to attach a correction to; "
            f"this flow has {_listed(flow)}"
        )
    set_ranks(flow, {name: rank if name in chosen else 0 for name in flow.products()})


def set_ranks(flow: Flow, ranks: Mapping[str, int]) -> None:
    """Change the rank of corrections, by product; products not named keep theirs.

    Raises:
        InputError: no such product, or a rank that one of them cannot have.
    """
    products = flow.products()
    for name, rank in ranks.items():
        if name not in products:
            raise InputError(f"no product {name!r}; this flow has {_listed(flow)}")
        limit = min(products[name].in_features, products[name].out_features)
        if not 0 <= rank <= limit:
            raise InputError(f"rank {rank} of product {name!r} is outside 0..{limit}")
    for name, rank in ranks.items():
        set_rank(products[name], rank)


def set_rank(product: AdaptedLinear, rank: int) -> None:
    """Change the rank of a product's correction in place, keeping of B A what the rank can hold.

    A larger rank adds rows to A, drawn as at the start, and zero columns to B: the product does not
    change. A smaller one keeps the nearest matrix of that rank (Eckart and Young), so a correction
    that was never trained (B = 0) stays without effect.
    """
    if rank == product.rank:
        return
    weight = product.weight()
    fresh = AdaptedLinear(product.in_features, product.out_features, rank).to(weight)
    if fresh.lora_a is not None and fresh.lora_b is not None and product.lora_a is not None:
        a, b = _nearest(product, rank)
        with torch.no_grad():
            fresh.lora_a[: len(a)] = a
            fresh.lora_b[:, : len(a)] = b
    product.rank = rank
    for name in ("lora_a", "lora_b"):
        delattr(product, name)
        product.register_parameter(name, getattr(fresh, name))


def _nearest(product: AdaptedLinear, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of the correction, cut to at most `rank`."""
    a, b = _both(product)
    if rank >= product.rank:
        return a.detach(), b.detach()
    left, values, right = torch.linalg.svd((b @ a).detach(), full_matrices=False)
    if float(values[0]) == 0.0:
        return a.detach()[:rank], b.detach()[:, :rank]
    root = values[:rank].sqrt()
    return root[:, None] * right[:rank], left[:, :rank] * root


def _both(product: AdaptedLinear) -> tuple[nn.Parameter, nn.Parameter]:
    if product.lora_a is None or product.lora_b is None:
        raise InputError("a product of rank 0 has no correction")
    return product.lora_a, product.lora_b


def _listed(flow: Flow) -> str:
    return ", ".join(flow.products())
