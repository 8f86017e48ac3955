"""Sample a lattice field theory with a flow whose base products run on the array.

The only place that sees the array, the flow and the lattice together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError
from rram_host.experiments.deploy_flow import DeployPlan
from rram_host.experiments.sampling import figures
from rram_host.experiments.sampling.draws import Drawn
from rram_host.experiments.sampling.draws import draw as draw_batches
from rram_host.experiments.sampling.load import LoadedSamples, load_samples
from rram_host.experiments.sampling.plan import DrawPlan
from rram_host.experiments.sampling.report import deviation, exact_values
from rram_host.experiments.sampling.sample import Sample
from rram_host.experiments.sampling.service import sample_flow
from rram_host.experiments.sampling.units import observables
from rram_host.flows.protocol import Flow
from rram_host.lattice.actions import Action
from rram_host.lattice.autocorrelation import mean_and_error
from rram_host.lattice.metropolis import Chain, accept
from rram_host.lattice.samplers import HmcSettings, run_sampler

__all__ = [
    "OBSERVABLES",
    "LoadedSamples",
    "Sample",
    "SamplePlan",
    "collect",
    "draw",
    "estimate",
    "exact_values",
    "hmc_reference",
    "load_samples",
    "metropolis",
    "quality",
    "sample_flow",
    "series",
    "table",
]

Array = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]

# Names of observables as a person reads them, in the order of the table.
OBSERVABLES = ("|M|", "chi2", "E", "phi^2", "G(0)", "G(1)", "G(2)")


@dataclass(frozen=True)
class SamplePlan(DeployPlan):
    """How to sample, and how to put the flow onto arrays first.

    Attributes:
        n: configurations to draw.
        batch: configurations drawn together: one upload per product and tile.
    """

    n: int = 32_768
    batch: int = 4096

    def __post_init__(self) -> None:
        """Refuse a plan that cannot run."""
        super().__post_init__()
        DrawPlan(self.n, self.batch, self.seed)

    @property
    def draws(self) -> DrawPlan:
        """How much to draw, without how to deploy."""
        return DrawPlan(self.n, self.batch, self.seed)


def draw(flow: Flow, action: Action, plan: SamplePlan) -> Iterator[Drawn]:
    """Draw `plan.n` configurations, batch by batch."""
    return draw_batches(flow, action, plan.draws)


def collect(batches: Iterator[Drawn], plan: SamplePlan, progress: Progress | None = None) -> Drawn:
    """All batches as one.

    Raises:
        InputError: there is none, for instance because they were collected before.
    """
    parts, done = [], 0
    for batch in batches:
        parts.append(batch)
        done += len(batch.log_q)
        if progress:
            progress(done, plan.n)
    if not parts:
        raise InputError("no batch to collect: draw again, batches can be taken once")
    phi, log_q, log_p = zip(*((p.phi, p.log_q, p.log_p) for p in parts), strict=True)
    return Drawn(np.concatenate(phi), np.concatenate(log_q), np.concatenate(log_p))


def metropolis(draws: Drawn, plan: SamplePlan) -> Chain:
    """Metropolis-Hastings over the draws: exact whatever the array's errors are.

    Raises:
        InputError: draws of another plan than this one, or weights that no chain can use.
    """
    uniforms = [plan.draws.uniforms(index) for index in range(plan.draws.batches)]
    return Chain.of(accept(draws.log_w, np.concatenate(uniforms))[0])


def quality(draws: Drawn, chain: Chain) -> dict[str, Any]:
    """Figures of a sample: ESS with its N, acceptance, std(log w), longest rejection, log Z."""
    return figures.quality(draws.log_w, chain)


def series(phi: Array) -> dict[str, Array]:
    """Observables of configurations (n, L0, L1), by the names of the table."""
    found = figures.named(observables(phi), (phi.shape[1], phi.shape[2]))
    return {name: values for name, values in found.items() if name not in ("M", "cos")}


def estimate(chains: dict[str, Array]) -> dict[str, dict[str, float]]:
    """Mean, error and integrated autocorrelation time of every observable.

    Args:
        chains: observable -> (n,) of one chain or (chains, n).
    """
    return {name: asdict(mean_and_error(values)) for name, values in chains.items()}


def hmc_reference(
    action: Action,
    shape: tuple[int, int],
    settings: HmcSettings | None,
    seed: int,
    progress: Progress | None = None,
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """The same observables by HMC, tuned without settings: estimates, and figures of the run."""
    result = run_sampler("hmc", action, shape, settings, seed, progress)
    chains, length = result.phi.shape[:2]
    values = series(result.phi.reshape(-1, *shape))
    estimates = estimate({name: v.reshape(chains, length) for name, v in values.items()})
    figures = {
        "n": float(chains * length),
        "chains": float(chains),
        "acceptance": result.acceptance,
        "wall_s": result.wall_s,
    }
    return estimates, figures


def table(
    array: dict[str, dict[str, float]],
    hmc: dict[str, dict[str, float]],
    exact: dict[str, float] | None,
) -> list[dict[str, Any]]:
    """Rows of the result table: exact, array and HMC with errors, deviation, tau of both.

    Deviations are in standard errors, from the exact value where it is known, otherwise of the
    two samplers from each other; NaN where no error is known, as of a chain that never moved.
    """
    rows = []
    for name, found in array.items():
        other = hmc[name]
        known = exact[name] if exact else None
        rows.append(
            {
                "name": name,
                "exact": known,
                "array": (found["mean"], found["error"]),
                "hmc": (other["mean"], other["error"]),
                "array_sigma": _deviation(found, known, other),
                "hmc_sigma": _deviation(other, known, found),
                "array_tau": (found["tau"], found["tau_error"]),
                "hmc_tau": (other["tau"], other["tau_error"]),
            }
        )
    return rows


def _deviation(found: dict[str, float], exact: float | None, other: dict[str, float]) -> float:
    if exact is not None:
        return deviation(found, exact, 0.0)
    return deviation(found, other["mean"], other["error"])
