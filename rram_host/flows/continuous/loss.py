"""What the training of a continuous flow descends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rram_host.flows.continuous.integrate import State, rk4
from rram_host.lattice.actions import Action

if TYPE_CHECKING:
    from rram_host.flows.continuous.flow import ContinuousFlow

__all__ = ["path_loss", "push_with_score"]


def path_loss(
    flow: ContinuousFlow, action: Action, z: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The path gradient of KL(q || p) plus a kinetic penalty, on a grid of a random step count.

    Both the field and its score G = d log q / d phi are carried along,

        d phi / dt = v,   d log q / dt = -div v,   dG / dt = -(dv/dphi)^T G - grad div v,

    and the scalar is mean_n phi . stop_gradient(dS/dphi + G) + kinetic * integral |v|^2 dt: its
    variance vanishes where q = p (arXiv 1703.09194, 2207.08219).

    With one fixed grid the loss can fall below -log Z, by a flow whose log q is wrong where the
    grid is coarse. Three things take that away: no gradient passes through the computed log q, the
    number of steps is drawn anew for each batch, and the penalty keeps paths smooth.

    Args:
        flow: the flow; its product must have a matrix.
        action: the target's action S.
        z: prior draws, (n, V).
        generator: source of the number of steps.

    Returns:
        The scalar to differentiate, and log w = -S - log q (n,) as the training grid sees it,
        detached.

    Raises:
        InputError: where the product has no matrix.
    """
    fewest, most = flow.settings.train_steps
    steps = int(torch.randint(fewest, most + 1, (), generator=generator))
    x, log_q, score, energy = push_with_score(flow, z, steps)
    phi = x.reshape(-1, *flow.shape)
    with torch.no_grad():
        pull = action.force(phi) + score.reshape(phi.shape)
        log_w = -action(phi) - log_q
    return (phi * pull).sum((1, 2)).mean() + flow.settings.kinetic * energy.mean(), log_w


def push_with_score(
    flow: ContinuousFlow, z: Tensor, steps: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Push z, and carry the score along with the field.

    Args:
        flow: the flow; its product must have a matrix.
        z: prior draws, (n, V).
        steps: RK4 steps.

    Returns:
        phi (n, V), differentiable in the flow's parameters; log q (n,) and the score (n, V),
        detached; the kinetic energy, integral of |v|^2 dt (n,), differentiable.

    Raises:
        InputError: where the product has no matrix.
    """
    moments = flow.velocity.moments(steps)

    def rates(place: int, state: State) -> State:
        v, divergence, turned = moments[place].rates_with_score(state[0], state[2])
        return v, divergence, turned, (v * v).sum(1)

    with torch.no_grad():
        score, log_q, zero = -flow.prior.whitened(z), flow.prior.log_density(z), z.new_zeros(len(z))
    start = (flow.prior.field(z), zero, score, zero)
    x, log_j, score, energy = rk4(rates, start, steps)
    return x, log_q - log_j, score, energy
