"""What is sampled for a figure, and how much."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from rram_host.experiments.deploy_flow import DeployPlan
from rram_host.flows import checkpoint
from rram_host.lattice.actions import Action, GrapheneAction, Phi4Action

REPEATS = 10  # as the paper's box plots


@dataclass(frozen=True)
class System:
    """One action on one square lattice.

    Attributes:
        action: the action.
        length: sites in a direction.
        model: name of the shipped flow that samples it.
    """

    action: Action
    length: int
    model: str

    @property
    def shape(self) -> tuple[int, int]:
        """The lattice."""
        return self.length, self.length

    @property
    def weights(self) -> Path | None:
        """The flow's file; None where it is not shipped."""
        return checkpoint.shipped().get(self.model)


def phi4(length: int, lam: float) -> System:
    """phi^4 at m2 = -4."""
    name = f"phi4_L{length}" + ("" if lam == 5.5 else f"_lam{lam:g}")
    return System(Phi4Action(-4.0, lam), length, name)


def graphene(length: int, g: float, m_over_g: float) -> System:
    """A graphene wire."""
    return System(GrapheneAction(g, m_over_g), length, f"graphene_L{length}_g{g:g}_m{m_over_g:g}")


@dataclass(frozen=True)
class FigurePlan:
    """How much is done for a figure.

    Attributes:
        name: "fig3" or "fig4".
        compared: one system a lattice, on which all samplers and the array are compared.
        scanned: further systems, sampled by tuned HMC and, where shipped, by a flow in software.
        array_lengths: lattices whose flow also goes onto emulated arrays.
        tuned: name of the sampler taken for tuned HMC.
        others: samplers beside it, on `compared` alone.
        proposals: of a flow, in each of the repeats.
        array_proposals: the same on the array.
        chains: of HMC, in each of the repeats.
        kept: trajectories of every chain after thermalisation.
        seed: of everything.
        board: URL of the emulated board; further arrays are boards of the next seeds.
        deploy: how a flow is put onto one array.
    """

    name: str
    compared: tuple[System, ...]
    scanned: tuple[System, ...]
    array_lengths: tuple[int, ...]
    tuned: str
    others: tuple[str, ...] = ()
    proposals: int = 8192
    array_proposals: int = 4096
    chains: int = 6
    kept: int = 3000
    seed: int = 7
    board: str = "sim://?preset=taox_180nm&seed=7"
    deploy: DeployPlan = field(default_factory=DeployPlan)

    @property
    def systems(self) -> tuple[System, ...]:
        """All of them."""
        return (*self.compared, *self.scanned)

    def deploy_at(self, length: int) -> DeployPlan:
        """How the flow of a lattice is put onto arrays.

        From L = 12 it takes several: its wide matrices have many small weights, which two cells
        each hold with less noise than one.
        """
        return self.deploy if length < 12 else replace(self.deploy, scheme="differential")


FIG3 = FigurePlan(
    "fig3",
    compared=tuple(phi4(length, 5.0) for length in (4, 6, 12)),
    scanned=(*(phi4(length, lam) for length in (4, 6, 12) for lam in (5.5, 6.0)), phi4(24, 5.0)),
    array_lengths=(4, 6, 12),
    tuned="hmc",
    others=("wolff",),
)
FIG4 = FigurePlan(
    "fig4",
    compared=tuple(graphene(length, 1.0, 0.2) for length in (6, 12)),
    scanned=(
        *(graphene(length, 1.0, 0.0) for length in (6, 12)),
        *(graphene(12, 1.0, m_over_g) for m_over_g in (0.1, 0.3, 0.4, 0.5)),
        *(graphene(12, 0.5, m_over_g) for m_over_g in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)),
        graphene(24, 1.0, 0.2),
    ),
    array_lengths=(6, 12),
    tuned="fourier-hmc",
)
PLANS = {"fig3": FIG3, "fig4": FIG4}


def quick(plan: FigurePlan) -> FigurePlan:
    """A short look: small lattices on the array, a tenth of the statistics."""
    return replace(
        plan,
        scanned=tuple(s for s in plan.scanned if s.length <= 12),
        array_lengths=plan.array_lengths[:1],
        proposals=1024,
        array_proposals=1024,
        kept=400,
        deploy=DeployPlan(lora_steps=100, calibration_turns=16),
    )
