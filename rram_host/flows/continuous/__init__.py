"""An equivariant continuous flow: a velocity field with every symmetry of the lattice."""

from rram_host.flows.continuous.flow import ContinuousFlow
from rram_host.flows.continuous.settings import ContinuousSettings

__all__ = ["ContinuousFlow", "ContinuousSettings"]
