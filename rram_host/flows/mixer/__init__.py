"""The published adaptive normalizing flow: a mixer over patches, shared by all coupling steps."""

from rram_host.flows.mixer.flow import MixerFlow
from rram_host.flows.mixer.settings import MixerSettings

__all__ = ["MixerFlow", "MixerSettings"]
