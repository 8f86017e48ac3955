"""Low-variance gradient of the reverse Kullback-Leibler divergence of a coupling flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rram_host.lattice.actions import Action

if TYPE_CHECKING:
    from rram_host.flows.coupling import CouplingFlow

__all__ = ["path_gradient_loss", "push_with_score"]


def path_gradient_loss(flow: CouplingFlow, action: Action, z: Tensor) -> tuple[Tensor, Tensor]:
    """A scalar whose gradient is the path gradient of KL(q || p), and the log weights.

    KL = E[log q(phi) + S(phi)] + log Z. Of its gradient through phi(z) and through q's own
    parameters the second has mean zero, but not variance zero: leaving it out makes the estimator
    exact, sample by sample, where q = p (Roeder et al., arXiv 1703.09194; the recursion for
    coupling flows is that of Vaitl et al., arXiv 2403.15881). The scalar is
    mean_n phi . stop_gradient(d/dphi [S + log q]).

    Args:
        flow: the flow; its products must have matrices.
        action: the target's action S.
        z: prior draws, (n, V).

    Returns:
        The scalar to differentiate, and log w = -S - log q (n,), detached.
    """
    phi, score, log_q = push_with_score(flow, z)
    with torch.no_grad():
        pull = action.force(phi.detach()) + score
        log_w = -action(phi.detach()) - log_q
    return (phi * pull).sum((1, 2)).mean(), log_w


def push_with_score(flow: CouplingFlow, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Push z, and carry the score d log q / d phi along with the field.

    The prior begins with G = -A^-1 z, A its filter. Step y = h(x) e^s + t with log Jacobian
    log J(x, f) turns the score (G_x, G_f) into

        G_y  = (G_x - d log J/dx) / (dy/dx),
        G_f' = G_f - d/df sum_active [(1 + h e^s G_y) s + G_y t]   (G_y held fixed),

    where the last derivative runs back through the conditioner.

    Args:
        flow: the flow; its products must have matrices.
        z: prior draws, (n, V).

    Returns:
        phi (n, L0, L1), differentiable in the flow's parameters; the score, of the same shape, and
        log q (n,), both detached.
    """
    matrices = tuple(product.matrix() for product in (flow.w1, flow.wt, flow.ws))
    detached = tuple(m.detach() for m in matrices)
    x = flow.prior.field(z)
    even, odd = x.index_select(1, flow.even), x.index_select(1, flow.odd)
    with torch.no_grad():
        score, log_q = -flow.prior.whitened(z), flow.prior.log_density(z)
    g_even, g_odd = score.index_select(1, flow.even), score.index_select(1, flow.odd)
    unshift = torch.argsort(flow.shift)
    for step in range(flow.settings.steps):
        is_even = step % 2 == 0
        active, g_active = (even, g_even) if is_even else (odd, g_odd)
        gains = flow.gains(step)
        u = gains[0] * (flow.frozen_of(step, even, odd) @ matrices[0].T)
        by_odd, by_even = flow.activation.values(u)
        t = (gains[1] * by_odd) @ matrices[1].T
        s = flow.shift_s[step] + (gains[2] * by_even) @ matrices[2].T
        constants = flow.constants(step, z.dtype)
        value, slope = flow.bend.forward(active, constants)
        stretched = value * s.exp()
        moved = stretched + t
        with torch.no_grad():
            # d log h'/dx = h'' / h', dy/dx = h' e^s
            curvature = flow.bend.curvature(active, constants)
            g_moved = (g_active - curvature / slope) / (slope * s.exp())
            log_q = log_q - (s + slope.log()).sum(1)
            back = _back_through_conditioner(
                flow.activation.slopes(u), detached, gains, g_moved, 1.0 + stretched * g_moved
            )
            if is_even:
                g_even, g_odd = g_moved, g_odd - back
            else:
                g_even, g_odd = g_even - back.index_select(1, unshift), g_moved
        even, odd = (moved, odd) if is_even else (even, moved)
    return flow.field_of(even, odd), flow.field_of(g_even, g_odd), log_q


def _back_through_conditioner(
    slopes: tuple[Tensor, Tensor],
    matrices: tuple[Tensor, ...],
    gains: tuple[Tensor, Tensor, Tensor],
    pull_t: Tensor,
    pull_s: Tensor,
) -> Tensor:
    """Gradient by the frozen sites of sum (pull_t t + pull_s s), (n, V/2)."""
    w1, wt, ws = matrices
    by_odd, by_even = gains[1] * (pull_t @ wt), gains[2] * (pull_s @ ws)
    by_product: Tensor = gains[0] * (by_odd * slopes[0] + by_even * slopes[1])
    return by_product @ w1
