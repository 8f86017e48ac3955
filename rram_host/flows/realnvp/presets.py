"""Recipes of realNVP flows for phi^4 at m2 = -4, lam = 5.5."""

from rram_host.flows.realnvp.settings import RealNvpSettings
from rram_host.flows.recipe import Recipe
from rram_host.flows.train_settings import TrainSettings
from rram_host.lattice.actions import Phi4Action

__all__ = ["PRESETS"]


def _recipe(length: int) -> Recipe:
    schedule = TrainSettings(steps=10_000, batch=256, lr=2e-3, weight_noise=0.0, log_every=100)
    flow = RealNvpSettings(shape=(length, length))
    return Recipe("realnvp", flow, Phi4Action(m2=-4.0, lam=5.5), schedule)


PRESETS: dict[str, Recipe] = {
    "realnvp_phi4_L4": _recipe(4),
    "realnvp_phi4_L6": _recipe(6),
}
"""Every preset by name."""
