"""The one rule of sampling on a noisy array: one read per product, reused for log J.

A coupling step moves active sites by numbers s, t that it reads for the frozen sites. If the
numbers that moved the field are the ones that enter log J, log q is the exact density of what was
drawn, given the noise, however wrong the array is (Metropolis-Hastings on field and noise). If log
J comes from a second read, or from ideal weights, it is the density of something else.

The check needs no knowledge of the model. With the values of all reads of a draw held fixed, the
map z -> phi is deterministic, and

    log q = log N(z) - log |det d phi / d z|     (eq. 8)

is computed by automatic differentiation alone and compared with what the model claims. How a read
would change with its input is not known on an array, and must not matter: a coupling step is
block-triangular whatever that slope is. So the check gives every read a random slope. A model whose
log det depends on slopes (one that moves a site by what it read of that site, or integrates a
differential equation) differs from its claim and is refused.
"""

from __future__ import annotations

import math
import warnings
from typing import Protocol

import torch
from torch import Tensor

from rram_host.analog.tape import Tape
from rram_host.errors import UnsafeDensityError

TOLERANCE = 1e-4  # nats; float32 conditioners leave 1e-6, a second read leaves 1e-3 and more
# Random slopes are this much smaller than 1 / sqrt(inputs): a model that depends on them shows all
# the same, and Jacobians of many steps stay well conditioned.
_SLOPE = 0.3
# Rows of the Jacobian that are made together: memory of a backward pass grows with it.
_ROWS = 16


class Pushes(Protocol):
    """A flow that maps standard normal draws z to fields and log q (n,)."""

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws z (n, ...), float64."""
        ...

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Fields (n, ...) and log q (n,)."""
        ...


def refuse_inexact(flow: object) -> None:
    """Refuse a kind of flow whose log q is an approximation.

    Raises:
        UnsafeDensityError: it is one.
    """
    if not getattr(flow, "exact_density", True):
        raise UnsafeDensityError(
            f"a flow of kind {getattr(flow, 'kind', type(flow).__name__)!r} does not go onto "
            "arrays: its log q integrates the divergence of its velocity. In software that is an "
            "approximation; on an array the divergence would need the slope of every product, "
            "which no read tells, or a second read, whose noise is another: log q would not be "
            "the density of what was drawn"
        )


def check_density(flow: Pushes, tape: Tape, seed: int, n: int = 2) -> float:
    """Refuse a model whose log q is not the density of what it drew.

    Args:
        flow: the deployed model.
        tape: the tape of its analog products.
        seed: seed of the probe draws and of the slopes.
        n: probe draws.

    Returns:
        Largest difference found, in nats.

    Raises:
        UnsafeDensityError: a kind without exact density; reads are repeated or skipped, or log q
            differs from the Jacobian.
    """
    refuse_inexact(flow)
    generator = torch.Generator().manual_seed(seed)
    z = flow.draw(n, generator)
    with tape.recording(), torch.no_grad():
        phi, claimed = flow.push(z)
    if not tape.reads:
        raise UnsafeDensityError("the model drew without reading a single product from the array")
    slopes: dict[str, Tensor] = {}

    def replay(flat: Tensor) -> Tensor:
        with tape.replaying(slopes):
            fields, _ = flow.push(flat.reshape(z.shape))
        return fields.reshape(n, -1)

    flat = z.reshape(n, -1)
    with torch.no_grad():
        again = replay(flat)
    if tape.played != len(tape.reads) or not torch.equal(again, phi.reshape(n, -1)):
        raise UnsafeDensityError(
            f"the model drew with {len(tape.reads)} reads, but the same reads do not give the same "
            "field again: something other than its draws and reads moves the field"
        )
    slopes.update(_slopes(tape, generator))
    # Rows of a batch are independent, so the sum over the batch has one Jacobian a row.
    with warnings.catch_warnings():
        # a patch's backward pass has no batched form in torch: done one by one, as right
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        rows = torch.func.jacrev(lambda x: replay(x).sum(0), chunk_size=_ROWS)(flat)
    log_det = torch.linalg.slogdet(rows.detach().permute(1, 0, 2)).logabsdet
    log_prior = -0.5 * (flat * flat).sum(1) - 0.5 * flat.shape[1] * math.log(2 * math.pi)
    worst = float((log_prior - log_det - claimed).detach().abs().max())
    if not worst <= TOLERANCE:
        raise UnsafeDensityError(
            f"log q differs from the density of what was drawn by {worst:.2g} nats (limit "
            f"{TOLERANCE}): log J must use the one read that moved the field, not a second read "
            "and not the ideal weights, and no site may be moved by what was read of itself"
        )
    return worst


def _slopes(tape: Tape, generator: torch.Generator) -> dict[str, Tensor]:
    """A random slope (out, in) for every product that was read."""
    return {
        name: _SLOPE
        / math.sqrt(inputs)
        * torch.randn((outputs, inputs), generator=generator, dtype=torch.float64)
        for name, (outputs, inputs) in sorted(tape.sizes.items())
    }
