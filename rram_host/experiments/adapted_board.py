"""A flow on arrays, adapted to the weights that were read back from them and to an action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rram_host.analog.deploy import digital_twin
from rram_host.experiments import deploy_flow
from rram_host.experiments.deploy_flow import Deployed, DeployPlan
from rram_host.experiments.steps import Steps
from rram_host.flows.adapt import AdaptPlan, adapted
from rram_host.flows.checkpoint import LoadedFlow
from rram_host.flows.protocol import Flow
from rram_host.flows.ship import figures
from rram_host.flows.training import TrainLog
from rram_host.lattice.actions import Action
from rram_host.session import Board


@dataclass(frozen=True)
class AdaptedBoard:
    """What came of it.

    Attributes:
        deployed: the adapted flow on its arrays.
        flow: the same in software, with the weights as read back.
        figures: "as programmed" and "adapted", both in software with the weights as read back, and
            "on the array", as of `ship.figures`.
    """

    deployed: Deployed
    flow: Flow
    figures: dict[str, dict[str, float]]


def run(
    boards: Sequence[Board],
    loaded: LoadedFlow,
    action: Action,
    plan: AdaptPlan,
    deploy: DeployPlan,
    steps: Steps,
    samples: int = 32_768,
    callback: Callable[[TrainLog], None] | None = None,
) -> AdaptedBoard:
    """Program a flow, read its weights back, adapt what is digital to them, and measure it there.

    Args:
        boards: open boards, as many as the flow takes arrays.
        loaded: the flow.
        action: what it shall fit.
        plan: corrections and schedule.
        deploy: how to put it onto arrays; its own LoRA compensation is not used.
        steps: is told of every step.
        samples: N of the figures.
        callback: told each log entry.

    Raises:
        InputError: too few boards, or as of `flows.adapt.adapted`.
        UnsafeDensityError: log q is not the density of what the flow draws on the arrays.
    """
    deployments = deploy_flow.calibrate_and_program(boards, loaded, deploy, steps)
    twin: Any = digital_twin(loaded.flow, deployments)
    with steps("adapt to what was read back") as step:

        def tell(log: TrainLog) -> None:
            step.advance(log.step, plan.finetune.steps)
            if callback is not None:
                callback(log)

        flow = adapted(twin, action, plan, tell, trained_for=loaded.action)
    with steps("put the flow on the array") as step:
        deployed = deploy_flow.deploy(flow, deployments, deploy)
        step.note = f"log q checked to {deployed.density_error_nats:.1e} nats"
    with steps("draw configurations"):
        found = {
            "as programmed": figures(twin, action, samples),
            "adapted": figures(flow, action, samples),
            "on the array": figures(deployed.flow, action, samples),
        }
    return AdaptedBoard(deployed, flow, found)
