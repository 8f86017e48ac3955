"""A small job on a board, and its recording: what a host does to a board must stay what it was.

`python -m tests.conformance.first_light` makes recordings/first_light.jsonl (traffic) and
first_light.json (what the host made of it) anew, on the emulated board. That is needed after a
change of the contract, of the programs that a job is made of, or of how readings become amperes;
look at what differs first. A real board's recording is made with --board URL, and a name.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from rram_host import open_board
from rram_host.session import Board

FOLDER = Path(__file__).parent / "recordings"
NAME = "first_light"
URL = "sim://?preset=taox_180nm&seed=7"


def job(board: Board) -> dict[str, Any]:
    """Self-test, a few cells formed, written and read, and products."""
    test = board.self_test()
    mask = np.zeros(board.array.shape, dtype=bool)
    mask[:3, :2] = True
    formed = board.array.form(mask)
    targets_siemens = np.full(board.array.shape, np.nan)
    targets_siemens[mask] = np.linspace(30e-6, 70e-6, 6)
    report = board.array.program(targets_siemens)
    inputs_v = np.random.default_rng(7).uniform(0, 0.05, (8, board.array.shape[1]))
    return {
        "faults": list(test.faults),
        "tia_offset_v": test.tia_offset_v.tolist(),
        "formed": int((formed.pulses > 0).sum()),
        "pulses": int(report.pulses.sum()),
        "siemens": board.array.read()[mask].tolist(),
        "amperes": board.array.vmm(inputs_v).tolist(),
    }


def make(url: str, name: str) -> None:
    """Record the job on a board, in the place of an earlier recording."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.jsonl"
    path.unlink(missing_ok=True)
    with open_board(url, trace=path) as board:
        found = job(board)
    path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--board", default=URL)
    parser.add_argument("--name", default=NAME)
    options = parser.parse_args()
    make(options.board, options.name)
