"""Train a preset and write the shipped file: `python -m rram_host.flows.ship phi4_L4`."""

import csv
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rram_host.errors import InputError
from rram_host.flows import checkpoint
from rram_host.flows.coupling import CouplingFlow
from rram_host.flows.presets import PRESETS
from rram_host.flows.settings import FlowSettings
from rram_host.flows.training import TrainLog, TrainSettings, train
from rram_host.lattice.actions import Action
from rram_host.lattice.metropolis import independence_chain
from rram_host.lattice.reweighting import effective_sample_size, log_z

__all__ = ["configure", "figures", "main", "ship"]

_FIGURE_SAMPLES = 32_768
_FIGURE_SEED = 1


def figures(
    flow: CouplingFlow, action: Action, samples: int = _FIGURE_SAMPLES, seed: int = _FIGURE_SEED
) -> dict[str, float]:
    """Quality of a flow, measured on fresh draws.

    Returns:
        "samples", "seed", "ess" (fraction), "std_log_w" (nats), "acceptance" and
        "longest_rejection" of the independence chain, "log_z" and "log_z_error".
    """
    phi, log_q = flow.sample(samples, torch.Generator().manual_seed(seed))
    log_w = (-action(phi) - log_q).numpy()
    chain = independence_chain(log_w, np.random.default_rng(seed))
    value, error = log_z(log_w)
    return {
        "samples": samples,
        "seed": seed,
        "ess": effective_sample_size(log_w),
        "std_log_w": float(log_w.std()),
        "acceptance": chain.acceptance,
        "longest_rejection": chain.longest_rejection,
        "log_z": value,
        "log_z_error": error,
    }


def configure(
    name: str, steps: int | None = None, seed: int | None = None, lam: float | None = None
) -> tuple[FlowSettings, TrainSettings]:
    """A preset with some of its settings replaced; None leaves a setting as it is.

    Args:
        name: of the preset.
        steps: optimiser steps.
        seed: of the initial weights and of the training draws.
        lam: quartic coupling.

    Raises:
        InputError: for an unknown preset, or a value out of range.
    """
    if name not in PRESETS:
        raise InputError(f"no preset {name!r}; known: {', '.join(PRESETS)}")
    flow_settings, train_settings = PRESETS[name]
    changes: dict[str, Any] = {"steps": steps, "seed": seed, "lam": lam}
    if steps is not None:
        changes["warmup"] = min(train_settings.warmup, steps)
    train_settings = replace(
        train_settings, **{key: value for key, value in changes.items() if value is not None}
    )
    return replace(flow_settings, seed=train_settings.seed), train_settings


def ship(
    name: str,
    folder: Path,
    chosen: tuple[FlowSettings, TrainSettings],
    callback: Callable[[TrainLog], None],
) -> dict[str, float]:
    """Train and write NAME.safetensors and NAME.log.csv; returns the figures.

    Args:
        name: what to call the files.
        folder: made if missing, before training begins.
        chosen: what to train, as from `configure`.
        callback: told each log entry as it is made.

    Raises:
        OSError: if the files cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flow_settings, train_settings = chosen
    flow, action = CouplingFlow(flow_settings), train_settings.action
    log = train(flow, action, train_settings, callback)
    measured = figures(flow, action)
    extra = {"figures": measured, "torch": torch.__version__, "seconds": log[-1].seconds}
    checkpoint.save(folder / f"{name}.safetensors", flow, action, train_settings, extra)
    _write_log(folder / f"{name}.log.csv", log)
    return measured


def main(arguments: list[str]) -> int:
    """Command line: NAME [FOLDER]; the folder is the package's own by default."""
    if not 1 <= len(arguments) <= 2:
        print(f"usage: python -m rram_host.flows.ship NAME [FOLDER]; names: {', '.join(PRESETS)}")
        return 2
    folder = Path(arguments[1]) if len(arguments) == 2 else Path(__file__).parent / "weights"
    for key, value in ship(arguments[0], folder, configure(arguments[0]), _print_entry).items():
        print(f"{key:18s} {value:.6g}")
    return 0


def _print_entry(entry: TrainLog) -> None:
    print(
        f"step {entry.step:6d}  loss {entry.loss:9.5f}  ESS {entry.ess:.4f}  "
        f"std(log w) {entry.std_log_w:.4f}  {entry.seconds:6.1f} s"
    )


def _write_log(path: Path, log: list[TrainLog]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(TrainLog)])
        for entry in log:
            writer.writerow([f"{value:.6g}" for value in asdict(entry).values()])


if __name__ == "__main__":
    torch.set_num_threads(1)  # sums in one order, so that the same file comes out again
    sys.exit(main(sys.argv[1:]))
