"""A sample: the chain over the draws, its observables, and what the weights say of the flow."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rram_host.experiments.sampling.figures import named, quality
from rram_host.experiments.sampling.plan import DrawPlan
from rram_host.experiments.sampling.units import Seconds
from rram_host.lattice.actions import Action
from rram_host.lattice.autocorrelation import mean_and_error
from rram_host.lattice.metropolis import Chain
from rram_host.records.columns import Data

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """What was drawn, and the chain that makes it exact.

    Attributes:
        action: the target.
        shape: lattice (L0, L1).
        plan: what was asked for.
        columns: records by name, one row a proposal; see `units.columns`. With "phi" where the run
            was kept in memory; a run file's fields are read by `load_samples`.
        seconds: where the wall time went; of what this call drew.
        drawn: proposals that this call drew; fewer than `n` where it went on with a run.
        path: of the run file; None where there is none.
    """

    action: Action
    shape: tuple[int, int]
    plan: DrawPlan
    columns: Data
    seconds: Seconds
    drawn: int
    path: Path | None = None

    @property
    def n(self) -> int:
        """Proposals."""
        return len(self.columns["log_q"])

    @property
    def log_w(self) -> Array:
        """Log weights log p - log q, (n,), nats."""
        log_p: Array = np.asarray(self.columns["log_p"], dtype=np.float64)
        log_q: Array = np.asarray(self.columns["log_q"], dtype=np.float64)
        return log_p - log_q

    @property
    def chain(self) -> Chain:
        """The Markov chain over the proposals."""
        return Chain.of(np.asarray(self.columns["accepted"], dtype=np.bool_))

    @property
    def phi(self) -> Array:
        """Configurations of the chain, (n, L0, L1), where the run was kept in memory.

        Raises:
            KeyError: it was recorded; `load_samples` reads it.
        """
        return np.asarray(self.columns["phi"], dtype=np.float64)[self.chain.indices]

    def figures(self) -> dict[str, Any]:
        """ESS with its N, acceptance, std(log w), longest rejection, log Z."""
        return quality(self.log_w, self.chain)

    def estimates(self) -> dict[str, dict[str, float]]:
        """Mean, error and integrated autocorrelation time of every observable, on the chain."""
        series = named(self.columns, self.shape)
        indices = self.chain.indices
        return {name: asdict(mean_and_error(values[indices])) for name, values in series.items()}
