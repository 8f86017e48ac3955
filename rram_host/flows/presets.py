"""Settings of the flows that are shipped; training with them makes the shipped files again."""

from rram_host.flows.settings import FlowSettings
from rram_host.flows.train_settings import TrainSettings

__all__ = ["PHI4_L4", "PRESETS"]

PHI4_L4: tuple[FlowSettings, TrainSettings] = (
    FlowSettings(shape=(4, 4), hidden=32, steps=8, lora_rank=1),
    TrainSettings(m2=-4.0, lam=5.5),
)
"""phi^4 on 4 x 4 sites at lam = 5.5: 768 dense weights, in three matrices."""

PRESETS: dict[str, tuple[FlowSettings, TrainSettings]] = {"phi4_L4": PHI4_L4}
"""Every preset by the name of its shipped file."""
