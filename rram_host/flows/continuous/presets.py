"""Recipes of continuous flows for phi^4 at m2 = -4, lam = 5.5."""

from rram_host.flows.continuous.settings import ContinuousSettings
from rram_host.flows.recipe import Recipe
from rram_host.flows.train_settings import TrainSettings
from rram_host.lattice.actions import Phi4Action

__all__ = ["PRESETS"]


def _recipe(length: int, steps: int, batch: int) -> Recipe:
    flow = ContinuousSettings(shape=(length, length))
    schedule = TrainSettings(steps=steps, batch=batch, lr=5e-3, weight_noise=0.0, log_every=20)
    return Recipe("continuous", flow, Phi4Action(m2=-4.0, lam=5.5), schedule)


PRESETS: dict[str, Recipe] = {
    "continuous_phi4_L4": _recipe(4, 800, 256),
    "continuous_phi4_L6": _recipe(6, 800, 128),
    "continuous_phi4_L12": _recipe(12, 1000, 64),
}
"""Every preset by the name of its shipped file."""
