"""Train a preset and write the shipped file: `python -m rram_host.flows.ship phi4_L4`."""

import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch

from rram_host.errors import InputError
from rram_host.flows import checkpoint
from rram_host.flows.kinds import meant
from rram_host.flows.presets import PRESETS
from rram_host.flows.protocol import Flow
from rram_host.flows.recipe import Recipe, changed
from rram_host.flows.training import TrainLog, train
from rram_host.lattice.actions import Action
from rram_host.lattice.metropolis import independence_chain
from rram_host.lattice.reweighting import effective_sample_size, log_z

__all__ = ["configure", "figures", "main", "read_log", "ship", "write_log"]

_FIGURE_SAMPLES = 32_768
_FIGURE_SEED = 1


def figures(
    flow: Flow, action: Action, samples: int = _FIGURE_SAMPLES, seed: int = _FIGURE_SEED
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
    name: str, steps: int | None = None, seed: int | None = None, **action: float | None
) -> Recipe:
    """A preset with some of its settings replaced; None leaves a setting as it is.

    Args:
        name: of the preset.
        steps: optimiser steps.
        seed: of the initial weights and of the training draws.
        action: parameters of its action.

    Raises:
        InputError: for an unknown preset or parameter, or a value out of range.
    """
    if name not in PRESETS:
        raise InputError(f"no preset {name!r}{meant(name, PRESETS)}; known: {', '.join(PRESETS)}")
    return changed(PRESETS[name], {"steps": steps, "seed": seed}, action)


def ship(
    name: str,
    folder: Path,
    recipe: Recipe,
    callback: Callable[[TrainLog], None] | None = None,
    state: Path | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, float]:
    """Train and write NAME.safetensors and NAME.log.csv; returns the figures.

    Args:
        name: what to call the files.
        folder: made if missing, before training begins.
        recipe: what to train.
        callback: told each log entry as it is made.
        state: as of `training.train`.
        should_stop: as of `training.train`.

    Raises:
        OSError: if the files cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flow = recipe.build()
    log = train(flow, recipe.action, recipe.train, callback, state, should_stop)
    measured = figures(flow, recipe.action)
    extra = {"figures": measured, "torch": torch.__version__, "seconds": log[-1].seconds}
    checkpoint.save(folder / f"{name}.safetensors", flow, recipe.action, recipe.train, extra)
    write_log(folder / f"{name}.log.csv", log)
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


def write_log(path: Path, log: Sequence[TrainLog]) -> None:
    """Write a log as CSV, a column a field of `TrainLog`."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(TrainLog)])
        for entry in log:
            writer.writerow([f"{value:.6g}" for value in asdict(entry).values()])


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a log that `write_log` wrote."""
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


if __name__ == "__main__":
    torch.set_num_threads(1)  # sums in one order, so that the same file comes out again
    sys.exit(main(sys.argv[1:]))
