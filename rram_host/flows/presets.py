"""Recipes of the flows that are shipped; training with them makes the shipped files again."""

import math
from collections.abc import Iterator
from dataclasses import replace

from rram_host.flows.continuous.presets import PRESETS as CONTINUOUS
from rram_host.flows.realnvp.presets import PRESETS as REALNVP
from rram_host.flows.recipe import Recipe
from rram_host.flows.settings import FlowSettings
from rram_host.flows.train_settings import TrainSettings
from rram_host.lattice.actions import GrapheneAction, Phi4Action

__all__ = ["PRESETS"]

# phi^4 at m2 = -4. Base weights: 3 x 8 x 32 = 768 and 3 x 18 x 18 = 972, each on one 32 x 32 array;
# 3 x 72 x 288 = 62 208, tied, on 61 or more. Rank 1 beside W1 alone is 5 and 3.6 % of matrices and
# corrections of the small ones; beside all three it would be 13.5 and 10 %, of the large one 1.7 %.
_PHI4 = {
    4: (
        FlowSettings(shape=(4, 4), hidden=32, steps=8, lora_on=("w1",)),
        TrainSettings(steps=12_000, batch=256, weight_noise=0.04),
    ),
    6: (
        FlowSettings(shape=(6, 6), hidden=18, steps=12, lora_on=("w1",)),
        TrainSettings(steps=16_000, batch=256, weight_noise=0.02),
    ),
    12: (
        FlowSettings(shape=(12, 12), hidden=288, channels=4, tied=True, steps=8),
        TrainSettings(steps=24_000, batch=64, lr=1e-2, weight_noise=0.005),
    ),
}


def _phi4() -> Iterator[tuple[str, Recipe]]:
    for size, (flow, train) in _PHI4.items():
        for lam in (5.0, 5.5, 6.0):
            name = f"phi4_L{size}" + ("" if lam == 5.5 else f"_lam{lam:g}")
            yield name, Recipe("anf", flow, Phi4Action(m2=-4.0, lam=lam), train)


# A graphene wire: 972 base weights on one array; 3 x 72 x 72 = 15 552, tied, on 16 or more.
_WIRE = {
    6: (
        FlowSettings(
            shape=(6, 6), hidden=18, steps=12, lora_on=("w1",), activation="sin", bend="sin"
        ),
        TrainSettings(steps=6_000, batch=256, weight_noise=0.02),
    ),
    12: (
        FlowSettings(
            shape=(12, 12), hidden=72, channels=1, tied=True, steps=8, activation="sin", bend="sin"
        ),
        TrainSettings(steps=8_000, batch=64, weight_noise=0.01),
    ),
}


def _graphene() -> Iterator[tuple[str, Recipe]]:
    for size, (flow, train) in _WIRE.items():
        for g in (1.0, 0.5):
            for ratio in (0.0, 0.2):
                action = GrapheneAction(g=g, m_over_g=ratio)
                started = replace(flow, stiffness=1.0, mass2=_mass2(action))
                # without the cosine the prior is the theory: nothing is left to learn
                shorter = replace(train, steps=500) if ratio == 0.0 else train
                yield f"graphene_L{size}_g{g:g}_m{ratio:g}", Recipe("anf", started, action, shorter)


def _large() -> Iterator[tuple[str, Recipe]]:
    """L = 24, in software: 995 328 and 248 832 weights would take 972 and 243 arrays."""
    side = FlowSettings(shape=(24, 24), hidden=1152, channels=4, tied=True, steps=8)
    train = TrainSettings(steps=8_000, batch=64, lr=1e-2, weight_noise=0.0)
    yield "phi4_L24_lam5", Recipe("anf", side, Phi4Action(m2=-4.0, lam=5.0), train)
    wire = GrapheneAction(g=1.0, m_over_g=0.2)
    flow = replace(_WIRE[12][0], shape=(24, 24), hidden=288, stiffness=1.0, mass2=_mass2(wire))
    train = TrainSettings(steps=8_000, batch=64, weight_noise=0.0)
    yield "graphene_L24_g1_m0.2", Recipe("anf", flow, wire, train)


def _mass2(action: GrapheneAction) -> float:
    """g^2 / pi, and of the cosine's 4 pi u what its wells leave, about a third."""
    return action.g**2 / math.pi + 0.3 * action.u * 4.0 * math.pi


PRESETS: dict[str, Recipe] = {
    **dict(_phi4()),
    **dict(_graphene()),
    **dict(_large()),
    **CONTINUOUS,
    **REALNVP,
}
"""Every preset by the name of its shipped file."""
