"""LoRA adaptation beside training from scratch: ESS over optimiser steps, PNG, CSV and JSON.

Every case takes a shipped flow (or trains its preset, into --out), adapts it by several plans, and
trains from scratch for rising lengths until that is as good as the best adaptation; every run has a
schedule of its own length. Three plans: a rank-1 correction on one product and the few numbers of
prior and maps, about as many as 8 % of the dense weights; rank-1 corrections alone, on every
product; and all that is digital.

Example: python bench_scripts/lora_curves.py --case phi4-L6-lam --out runs/lora
         python bench_scripts/lora_curves.py --out runs/lora            all cases
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rram_host.experiments import adaptation
from rram_host.experiments.adaptation import Case, Comparison, Lengths
from rram_host.flows import checkpoint
from rram_host.flows.adapt import AdaptPlan, with_errors
from rram_host.flows.checkpoint import LoadedFlow
from rram_host.flows.presets import PRESETS
from rram_host.flows.ship import ship
from rram_host.flows.train_settings import FinetuneSettings
from rram_host.lattice.actions import Action, GrapheneAction, Phi4Action
from rram_host.records.train_plots import adaptations

PROGRAMMING = 1.5 / 60.0  # write-verify accepts 1.5 uS; weights span 60 uS


@dataclass(frozen=True)
class Setup:
    """A case: which preset is the base, and what it is adapted to."""

    title: str
    base: str
    action: Action
    places: tuple[str, ...]
    also: tuple[str, ...]
    errors: float = 0.0


_LAM6 = Phi4Action(-4.0, 6.0)
_MAPS = ("prior", "bends")
_WIRE, _WIDE = "graphene_L6_g1_m0.2", "graphene_L12_g1_m0.2"
SETUPS: Mapping[str, Setup] = {
    "phi4-L4-lam": Setup(
        "phi^4, 4 x 4, lambda 5 to 6", "phi4_L4_lam5", _LAM6, ("w1",), ("prior", "shift_s")
    ),
    "phi4-L6-lam": Setup("phi^4, 6 x 6, lambda 5 to 6", "phi4_L6_lam5", _LAM6, ("w1",), _MAPS),
    "phi4-L6-errors": Setup(
        "phi^4, 6 x 6, weights off by 1.5 of 60 µS",
        "phi4_L6_lam5",
        Phi4Action(-4.0, 5.0),
        ("w1", "wt"),
        (),
        PROGRAMMING,
    ),
    "graphene-L6-g": Setup(
        "graphene wire, 6 x 6, g 1 to 0.8", _WIRE, GrapheneAction(0.8, 0.2), ("w1",), _MAPS
    ),
    "graphene-L6-half-g": Setup(
        "graphene wire, 6 x 6, g 1 to 0.5 (L g = 3)",
        _WIRE,
        GrapheneAction(0.5, 0.2),
        ("w1",),
        _MAPS,
    ),
    "graphene-L6-m": Setup(
        "graphene wire, 6 x 6, m/g 0.2 to 0.4", _WIRE, GrapheneAction(1.0, 0.4), ("w1",), _MAPS
    ),
    "phi4-L12-lam": Setup("phi^4, 12 x 12, lambda 5 to 6", "phi4_L12_lam5", _LAM6, ("w1",), _MAPS),
    "graphene-L12-half-g": Setup(
        "graphene wire, 12 x 12, g 1 to 0.5", _WIDE, GrapheneAction(0.5, 0.2), ("w1",), _MAPS
    ),
    "graphene-L12-m": Setup(
        "graphene wire, 12 x 12, m/g 0.2 to 0.4", _WIDE, GrapheneAction(1.0, 0.4), ("w1",), _MAPS
    ),
}


def plans(setup: Setup) -> dict[str, AdaptPlan]:
    """The three ways to adapt."""
    batch = PRESETS[setup.base].train.batch
    quick = FinetuneSettings("lora", batch=batch, lr=3e-2, warmup=10, log_every=1000)
    label = f"rank 1 on {', '.join(setup.places)}"
    few = " and ".join((label, ", ".join(setup.also))) if setup.also else label
    found = {few: AdaptPlan(1, setup.places, replace(quick, also=setup.also))}
    found["rank 1 everywhere"] = AdaptPlan(1, None, quick)
    everything = replace(quick, parameters="digital", lr=1e-2)
    found[f"digital, {label}"] = AdaptPlan(1, setup.places, everything)
    return found


def base_of(setup: Setup, folder: Path) -> LoadedFlow:
    """The trained base: the shipped one, or one from the folder, or else trained into it."""
    path = checkpoint.shipped().get(setup.base, folder / f"{setup.base}.safetensors")
    if not path.exists():
        ship(setup.base, folder, PRESETS[setup.base])
    return checkpoint.load(path)


def measure(setup: Setup, folder: Path, lengths: Lengths) -> Comparison:
    """All curves of a case."""
    loaded = base_of(setup, folder)
    base = with_errors(loaded.flow, setup.errors, 1) if setup.errors else loaded.flow
    schedule = PRESETS[setup.base].train
    scratch = replace(schedule, weight_noise=0.0, log_every=100_000)
    case = Case(setup.title, base, setup.action, plans(setup), scratch, loaded.action)
    return adaptation.compare(case, lengths)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--case", choices=SETUPS, action="append", help="default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/lora"), help="folder")
    parser.add_argument("--longest", type=int, default=4000, help="most steps from scratch")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    scratch = tuple(n for n in (64, 125, 250, 500, 1000, 2000, 4000, 8000) if n <= asked.longest)
    for name in asked.case or SETUPS:
        found = measure(SETUPS[name], asked.out, Lengths(scratch=scratch))
        adaptation.write_csv(asked.out / f"{name}.csv", [found])
        (asked.out / f"{name}.json").write_text(json.dumps(found.summary(), indent=1))
        for row in found.rows():
            print(name, row, flush=True)
    files = [asked.out / f"{name}.json" for name in SETUPS]
    done = [json.loads(file.read_text()) for file in files if file.exists()]
    adaptations(asked.out / "lora_curves.png", done)


class _Raw(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the examples."""


if __name__ == "__main__":
    main()
