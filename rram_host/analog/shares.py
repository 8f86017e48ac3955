"""How much of a model an array does: weights and multiply-accumulates, analog and digital.

Two counts stand side by side. As the paper counts them (arXiv 2509.12812, Fig. 3 and 4): base
matrices against the low-rank corrections beside them, and nothing else. And all that is digital:
further products, Fourier transforms of a prior, and every pointwise function, gain, bias, norm and
sum, each number that it makes being one operation. Counts are of one more configuration in a batch,
so what a batch does once (the exponential of a parameter) is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rram_host.analog.products import ProductCount
from rram_host.errors import InputError


class Adapted(Protocol):
    """A product with a base matrix and a low-rank correction; a module."""

    base: nn.Module
    in_features: int
    out_features: int
    rank: int


class Countable(Protocol):
    """A flow as far as counting needs it; a module."""

    def products(self) -> Mapping[str, Adapted]:
        """Its products by name."""
        ...

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws z of n configurations."""
        ...

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Fields and log q."""
        ...


@dataclass(frozen=True)
class Shares:
    """What a model does for one configuration, and where.

    Attributes:
        products: base matrices with their corrections.
        weights_other: trained numbers that are in no product: gains, biases, embeddings, norms,
            the prior.
        macs_other: multiply-accumulates of digital products that are no correction; a real Fourier
            transform of V numbers counts as 5/4 V log2 V.
        operations: numbers that pointwise functions and sums make.
    """

    products: tuple[ProductCount, ...]
    weights_other: int
    macs_other: float
    operations: float

    @property
    def weights_analog(self) -> int:
        """Base weights."""
        return sum(p.weights for p in self.products)

    @property
    def weights_lora(self) -> int:
        """Numbers of the corrections, r (in + out) each."""
        return sum(p.lora_weights for p in self.products)

    @property
    def macs_analog(self) -> int:
        """Multiply-accumulates of base matrices."""
        return sum(p.macs for p in self.products)

    @property
    def macs_lora(self) -> int:
        """Multiply-accumulates of the corrections."""
        return sum(p.lora_macs for p in self.products)

    @property
    def weight_share(self) -> float:
        """Analog share of weights, as the paper counts."""
        return self.weights_analog / (self.weights_analog + self.weights_lora)

    @property
    def mac_share(self) -> float:
        """Analog share of multiply-accumulates, as the paper counts."""
        return self.macs_analog / (self.macs_analog + self.macs_lora)

    @property
    def full_weight_share(self) -> float:
        """Analog share of all trained numbers."""
        return self.weights_analog / (self.weights_analog + self.weights_lora + self.weights_other)

    @property
    def full_operation_share(self) -> float:
        """Analog share of all work, one pointwise operation being worth one multiply-accumulate."""
        digital = self.macs_lora + self.macs_other + self.operations
        return self.macs_analog / (self.macs_analog + digital)

    def rows(self) -> list[dict[str, Any]]:
        """A table by layer, as plain values."""
        return [
            {
                "name": p.name,
                "outputs": p.outputs,
                "inputs": p.inputs,
                "vectors": p.calls,
                "weights": p.weights,
                "macs": p.macs,
                "rank": p.rank,
                "lora_weights": p.lora_weights,
                "lora_macs": p.lora_macs,
            }
            for p in self.products
        ]

    def values(self) -> dict[str, Any]:
        """Totals and shares, as plain values."""
        names = ("weights_analog", "weights_lora", "weights_other", "macs_analog", "macs_lora")
        more = ("macs_other", "operations", "weight_share", "mac_share")
        full = ("full_weight_share", "full_operation_share")
        return {name: getattr(self, name) for name in names + more + full}


def product_counts(
    flow: Countable, run: Callable[[int], object] | None = None
) -> tuple[ProductCount, ...]:
    """Vectors that every product of a flow is given for one configuration.

    Args:
        flow: the flow; products that are not used are left out.
        run: evaluates the flow for n configurations; default a draw.

    Raises:
        InputError: a product is given a fraction of a vector for a configuration.
    """
    counter = _counted(flow, run or _drawing(flow))
    return _products(flow, counter.vectors)


def shares(flow: Countable, run: Callable[[int], object] | None = None) -> Shares:
    """Count everything; arguments as of `product_counts`."""
    counter = _counted(flow, run or _drawing(flow))
    products = _products(flow, counter.vectors)
    inside = sum(p.rank * (p.in_features + p.out_features) for p in flow.products().values())
    base = {id(p) for product in flow.products().values() for p in product.base.parameters()}
    numbers = _parameters(flow)
    other = sum(p.numel() for p in numbers if id(p) not in base) - inside
    lora = sum(p.lora_macs for p in products)
    return Shares(products, other, counter.macs - lora, counter.operations)


def _parameters(flow: Any) -> list[nn.Parameter]:
    return list(flow.parameters())


def _drawing(flow: Countable) -> Callable[[int], object]:
    generator = torch.Generator().manual_seed(0)
    return lambda n: flow.push(flow.draw(n, generator))


def _products(flow: Countable, vectors: Mapping[str, float]) -> tuple[ProductCount, ...]:
    found = []
    for name, product in flow.products().items():
        calls = vectors.get(name, 0.0)
        if calls != round(calls):
            raise InputError(f"product {name} takes {calls} vectors a configuration: no whole ones")
        if calls:
            size = product.out_features, product.in_features
            found.append(ProductCount(name, *size, round(calls), product.rank))
    return tuple(found)


def _counted(flow: Countable, run: Callable[[int], object]) -> _Counter:
    """Counts of one more configuration: of four, less those of two, halved."""
    four, two = (_counts(flow, run, n) for n in (4, 2))
    found = _Counter()
    for name, value in four.vectors.items():
        found.vectors[name] = (value - two.vectors[name]) / 2
    found.macs = (four.macs - two.macs) / 2
    found.operations = (four.operations - two.operations) / 2
    return found


def _counts(flow: Countable, run: Callable[[int], object], n: int) -> _Counter:
    counter = _Counter()
    with ExitStack() as stack:
        for name, product in flow.products().items():
            stack.enter_context(_watched(name, product.base, counter))
        # with gradients a flow takes no short cut around its products
        stack.enter_context(torch.enable_grad())
        stack.enter_context(counter)
        run(n)
    return counter


@contextmanager
def _watched(name: str, base: nn.Module, counter: _Counter) -> Iterator[None]:
    """Count the vectors of a base product, and nothing that happens inside it."""

    def enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        counter.vectors[name] = counter.vectors.get(name, 0.0) + len(inputs[0])
        counter.inside += 1

    def leave(*_: object) -> None:
        counter.inside -= 1

    handles = base.register_forward_pre_hook(enter), base.register_forward_hook(leave)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


_PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}  # which argument the left factor is
_SUMS = {"sum", "mean", "var", "var_mean", "amax", "native_layer_norm", "native_batch_norm"}
_MOVES = {"clone", "copy_", "_to_copy", "detach", "fill_", "lift_fresh"}  # they compute nothing


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what torch computes while it is on, but for what is inside a base product."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.vectors: dict[str, float] = {}
        self.macs = 0.0
        self.operations = 0.0
        self.inside = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and count it."""
        out = func(*args, **(kwargs or {}))
        if not self.inside:
            self._count(func, args, out)
        return out

    def _count(self, func: Any, args: tuple[Any, ...], out: Any) -> None:
        name = func.overloadpacket.__name__
        if name in _PRODUCTS:
            left = args[_PRODUCTS[name]]
            self.macs += left.numel() * args[_PRODUCTS[name] + 1].shape[-1]
        elif name.startswith("_fft_"):
            real = out if name == "_fft_c2r" else args[0]
            points = math.prod(real.shape[dim] for dim in args[1])
            # a transform of complex numbers is two of real ones
            twice = 2.0 if name == "_fft_c2c" else 1.0
            self.macs += twice * 1.25 * real.numel() * math.log2(points)
        elif name in _SUMS:
            self.operations += args[0].numel()
        elif torch.Tag.pointwise in func.tags and name not in _MOVES:
            self.operations += out.numel()
