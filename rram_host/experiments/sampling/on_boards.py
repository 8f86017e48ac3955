"""A flow put onto boards and sampled there, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rram_host.experiments.deploy_flow import Deployed, DeployPlan, deploy_flow
from rram_host.experiments.sampling.plan import DrawPlan
from rram_host.experiments.sampling.recording import Origin, fingerprint
from rram_host.experiments.sampling.sample import Sample
from rram_host.experiments.sampling.service import sample_flow
from rram_host.experiments.steps import Steps
from rram_host.flows.checkpoint import LoadedFlow
from rram_host.lattice.actions import Action
from rram_host.session import Board


@dataclass(frozen=True)
class Job:
    """What to sample, and where to keep it.

    Attributes:
        loaded: the flow.
        model: its name or file.
        action: the target.
        plan: how much.
        out: run file; None to keep everything in memory.
        resume, force: as of `sample_flow`.
        processes: for a flow in software.
        should_stop: asked after every recorded batch.
    """

    loaded: LoadedFlow
    model: str
    action: Action
    plan: DrawPlan
    out: Path | None = None
    resume: bool = False
    force: bool = False
    processes: int = 1
    should_stop: Callable[[], bool] | None = None

    def draw(self, flow: Any, origin: Origin, steps: Steps) -> Sample:
        """Draw from a flow that is ready."""
        with steps("draw configurations") as step:
            sample = sample_flow(
                flow,
                self.action,
                self.plan.n,
                self.plan.seed,
                self.plan.batch,
                out=self.out,
                resume=self.resume,
                processes=self.processes,
                origin=origin,
                progress=step.advance,
                should_stop=self.should_stop,
                force=self.force,
            )
            step.note = f"{sample.drawn} drawn and made exact"
        return sample

    def in_software(self, steps: Steps) -> Sample:
        """Draw from the flow as it was loaded."""
        return self.draw(self.loaded.flow, self._origin((), {}), steps)

    def on_boards(
        self, boards: Sequence[Board], deploy: DeployPlan, steps: Steps
    ) -> tuple[Sample, Deployed]:
        """Put the flow onto boards, compensated towards the target, and draw from it there.

        Raises:
            InputError: as `deploy_flow` and `sample_flow`.
            UnsafeDensityError: log q is not the density of what the flow draws on the arrays.
        """
        aimed = replace(self.loaded, action=self.action)
        deployed = deploy_flow(boards, aimed, deploy, steps)
        used = tuple(boards[: deployed.values()["boards"]])
        origin = self._origin(used, asdict(deploy))
        return self.draw(deployed.flow, origin, steps), deployed

    def _origin(self, boards: tuple[Board, ...], deploy: dict[str, Any]) -> Origin:
        return Origin(self.model, fingerprint(self.loaded.flow), boards, deploy)
