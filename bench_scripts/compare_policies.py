"""Compare write-verify policies: pulses, time, energy, and how far cells are off as they relax.

Every board is calibrated first, then each policy programs 1024 random targets (20 to 80 uS, or as
told) onto a fresh copy of it. Errors are read back right after programming and 1 s and 1 h later
(64 readings averaged); the emulated board's own conductances stand beside them.

Settings are picked on some boards and reported on others: --first-seed 100 leaves those behind.

Example: python bench_scripts/compare_policies.py --boards 10 --preset taox_180nm
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware_bridge import board_spec
from firmware_bridge.board_spec import BoardSpec
from rram_host import open_board
from rram_host.array.calibration import Calibration
from rram_host.array.policies import Policy, policy_named
from sim.board import EmulatedBoard

Array = npt.NDArray[np.float64]

AFTER_S = (0.0, 1.0, 3600.0)
WITHIN_SIEMENS = 1.5e-6
READS = 64


def policies() -> dict[str, Policy]:
    """What is compared. Two more settings of ISPP: as many pulses as multi-pass, and its best."""
    coarse = {"step_v": 0.1, "reset_step_v": 0.1, "tolerance_siemens": 3e-6, "accept_siemens": 3e-6}
    fine = {"step_v": 0.02, "reset_step_v": 0.02, "backoff_v": 0.04, "max_pulses": 100}
    return {
        "multi-pass": policy_named("multi-pass"),
        "ispp": policy_named("ispp"),
        "ispp, same budget": policy_named("ispp", **coarse),
        "ispp, fine steps": policy_named("ispp", **fine),
        "coarse-fine": policy_named("coarse-fine"),
    }


def calibrated(preset: str, spec: BoardSpec, seed: int, low: float, high: float) -> Calibration:
    """What a lab would measure on this board; the seed decides what its parts are worth."""
    with open_board(EmulatedBoard(preset, seed=seed, spec=spec), spec=spec) as board:
        targets = np.random.default_rng(seed + 1000).uniform(low, high, board.array.shape)
        board.array.program(targets)
        return board.calibrate()


def measure(
    preset: str,
    spec: BoardSpec,
    seed: int,
    policy: Policy,
    targets: Array,
    calibration: Calibration,
) -> dict[str, Any]:
    """One policy on one board: the report's figures, and errors (times, cells) in siemens."""
    emulated = EmulatedBoard(preset, seed=seed, spec=spec)
    with open_board(emulated, spec=spec) as board:
        board.array.use(calibration)
        board.array.form()
        report = board.array.program(targets, policy)
        ended_s, read, true = board.clock_s, [], []
        for after_s in AFTER_S:
            board.wait(max(0.0, ended_s + after_s - board.clock_s))
            read.append((board.array.read(READS) - targets).ravel())
            true.append((emulated.truth.conductances_siemens - targets).ravel())
    return {
        "mean_pulses": report.mean_pulses,
        "rounds": report.rounds,
        "board_time_s": report.board_time_s,
        "energy_j": float(report.energy_j.mean()),
        "failed": len(report.failed),
        "read": np.array(read),
        "true": np.array(true),
    }


def row(name: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """The table's row of a policy: means over boards, errors of all cells of all boards."""
    keys = ("mean_pulses", "rounds", "board_time_s", "energy_j", "failed")
    values: dict[str, Any] = {"policy": name}
    values |= {key: float(np.mean([r[key] for r in results])) for key in keys}
    for kind in ("read", "true"):
        error = np.concatenate([r[kind] for r in results], axis=1)
        values[f"std_{kind}_siemens"] = error.std(1).tolist()
        shares = np.array([(np.abs(r[kind]) <= WITHIN_SIEMENS).mean(1) for r in results])
        values[f"within_{kind}"] = shares.mean(0).tolist()
        values[f"least_within_{kind}"] = shares.min(0).tolist()
        error_of_mean = shares.std(0, ddof=1) / np.sqrt(len(results)) if len(results) > 1 else None
        values[f"within_{kind}_standard_error"] = (
            None if error_of_mean is None else error_of_mean.tolist()
        )
    values["most_pulses"] = float(np.max([r["mean_pulses"] for r in results]))
    values["most_std_read_siemens"] = np.max([r["read"].std(1) for r in results], axis=0).tolist()
    return values


def rows(
    preset: str, spec: BoardSpec, seeds: range, low: float, high: float
) -> Iterator[dict[str, Any]]:
    """One row a policy."""
    calibrations = [calibrated(preset, spec, seed, low, high) for seed in seeds]
    rng = np.random.default_rng(seeds.start)
    targets = [rng.uniform(low, high, calibration.shape) for calibration in calibrations]
    for name, policy in policies().items():
        results = [
            measure(preset, spec, seed, policy, wanted, calibration)
            for seed, wanted, calibration in zip(seeds, targets, calibrations, strict=True)
        ]
        yield row(name, results)


def show(values: dict[str, Any]) -> None:
    """A line of the table; microsiemens and percent, as read and, in brackets, in truth."""
    pairs = zip(values["std_read_siemens"], values["std_true_siemens"], strict=True)
    stds = " ".join(f"{r / 1e-6:5.2f} ({t / 1e-6:4.2f})" for r, t in pairs)
    pairs = zip(values["within_read"], values["within_true"], strict=True)
    shares = " ".join(f"{100 * r:6.2f} ({100 * t:5.2f})" for r, t in pairs)
    print(
        f"{values['policy']:<18} {values['mean_pulses']:7.2f} {values['board_time_s']:8.2f} "
        f"{values['energy_j'] / 1e-12:8.1f}   {stds}   {shares}",
        flush=True,
    )


def main() -> None:
    """Print the table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", type=int, default=10, help="how many boards")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first board")
    parser.add_argument("--preset", default="taox_180nm", help="emulated board")
    parser.add_argument("--spec", default="zc706", help="board file, with first guesses for pulses")
    parser.add_argument("--low", type=float, default=20.0, help="lowest target, microsiemens")
    parser.add_argument("--high", type=float, default=80.0, help="highest target, microsiemens")
    parser.add_argument("--json", action="store_true", help="one JSON object a policy")
    options = parser.parse_args()
    if not options.json:
        print(
            "error std (uS), and share within 1.5 uS (%), 0 s, 1 s and 1 h later: as read (truth)"
        )
        print("policy              pulses   board s  pJ/cell")
    spec, low, high = board_spec.load(options.spec), options.low * 1e-6, options.high * 1e-6
    seeds = range(options.first_seed, options.first_seed + options.boards)
    for values in rows(options.preset, spec, seeds, low, high):
        print(json.dumps(values), flush=True) if options.json else show(values)


if __name__ == "__main__":
    main()
