"""The one rule of sampling on a noisy array: one read per product, reused for log J.

A coupling step moves active sites by numbers s, t that it reads for the frozen sites. If the
numbers that moved the field are the ones that enter log J, log q is the exact density of what was
drawn, given the noise, however wrong the array is (Metropolis-Hastings on field and noise). If log
J comes from a second read, or from ideal weights, it is the density of something else.

The check needs no knowledge of the model. With all reads of a draw held fixed, the map z -> phi is
deterministic and its Jacobian is block-triangular step by step, so

    log q = log N(z) - log |det d phi / d z|     (eq. 8)

can be computed by automatic differentiation alone and compared with what the model claims.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from rram_host.analog.tape import Tape
from rram_host.errors import UnsafeDensityError

TOLERANCE = 1e-4  # nats; float32 conditioners leave 1e-6, a second read leaves 1e-3 and more


class Pushes(Protocol):
    """A flow that maps given standard normal draws z (n, ...) to fields and log q (n,)."""

    def push(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Fields (n, ...) and log q (n,)."""
        ...


def check_density(flow: Pushes, tape: Tape, shape: tuple[int, ...], seed: int, n: int = 4) -> float:
    """Refuse a model whose log q is not the density of what it drew.

    Args:
        flow: the deployed model.
        tape: the tape of its analog products.
        shape: shape of a field.
        seed: seed of the probe draws.
        n: probe draws.

    Returns:
        Largest difference found, in nats.

    Raises:
        UnsafeDensityError: reads are repeated or skipped, or log q differs from the Jacobian.
    """
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn((n, *shape), generator=generator, dtype=torch.float64)
    with tape.recording(), torch.no_grad():
        phi, claimed = flow.push(z)
    if not tape.reads:
        raise UnsafeDensityError("the model drew without reading a single product from the array")

    def replay(flat: Tensor) -> Tensor:
        with tape.replaying():
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
    # Rows of a batch are independent, so the sum over the batch has one Jacobian a row.
    jacobian = torch.func.jacrev(lambda x: replay(x).sum(0))(flat).permute(1, 0, 2)
    log_det = torch.linalg.slogdet(jacobian).logabsdet
    volume = flat.shape[1]
    log_prior = -0.5 * (flat * flat).sum(1) - 0.5 * volume * math.log(2 * math.pi)
    worst = float((log_prior - log_det - claimed).detach().abs().max())
    if not worst <= TOLERANCE:
        raise UnsafeDensityError(
            f"log q differs from the density of what was drawn by {worst:.2g} nats (limit "
            f"{TOLERANCE}): log J must use the one read that moved the field, not a second read "
            "and not the ideal weights"
        )
    return worst
