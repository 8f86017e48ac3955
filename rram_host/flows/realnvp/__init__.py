"""The usual baseline: checkerboard affine couplings with small convolutional networks."""

from rram_host.flows.realnvp.flow import RealNvpFlow
from rram_host.flows.realnvp.settings import RealNvpSettings

__all__ = ["RealNvpFlow", "RealNvpSettings"]
