"""Doubles for arrays with heavy read noise, and models that break the one rule on purpose."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from rram_host.analog.tape import Tape


class NoisyBase(nn.Module):
    """A product with read noise: 5 % of the output and 0.02 besides."""

    def __init__(self, weight: Tensor, generator: torch.Generator, tape: Tape, name: str) -> None:
        super().__init__()
        self._weight, self._generator, self._tape, self._name = weight, generator, tape, name

    def forward(self, x: Tensor) -> Tensor:
        def measure() -> Tensor:
            y = (x @ self._weight.T.to(x.dtype)).detach()
            noise = torch.randn(y.shape, generator=self._generator, dtype=y.dtype)
            return y + (0.05 * y.abs() + 0.02) * noise

        return self._tape.read(self._name, x, measure)


def noisy(flow: Any, seed: int = 0) -> tuple[Any, Tape]:
    """A copy of a flow whose base products are noisy, and the tape of its reads."""
    flow, tape = copy.deepcopy(flow), Tape()
    generator = torch.Generator().manual_seed(seed)
    for name, product in flow.products().items():
        product.base = NoisyBase(product.weight().detach().clone(), generator, tape, name)
    return flow, tape


class Wrapped:
    """A flow with another `push`."""

    def __init__(self, flow: Any, ideal: Any) -> None:
        self.flow, self.ideal = flow, ideal

    def products(self) -> Any:
        return self.flow.products()

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return self.flow.draw(n, generator)

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow.push(z)


class Breaking(Wrapped):
    """A model whose log q is not that of its reads; `honest` is the one that would have been."""

    honest: Tensor


class SecondRead(Breaking):
    """Breaks the rule: log J from a second pass, so from second reads."""

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        phi, self.honest = self.flow.push(z)
        return phi, self.flow.push(z)[1]


class IdealJacobian(Breaking):
    """Breaks the rule: log J from the ideal weights."""

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        phi, self.honest = self.flow.push(z)
        return phi, self.ideal.push(z)[1]


def randomised(flow: Any, scale: float, seed: int = 0) -> Any:
    """A flow with every parameter moved, so that nothing is switched off; the same flow."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return flow
