"""Program random conductances, then read them again and again while board time passes.

Example: python bench_scripts/program_random.py --board 'sim://?preset=taox_180nm&seed=7'
"""

from __future__ import annotations

import argparse

import numpy as np

from rram_host import open_board


def main() -> None:
    """Program once, read four times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--board", default="sim://?preset=taox_180nm&seed=7", help="board URL")
    parser.add_argument("--seed", type=int, default=0, help="seed of the targets")
    options = parser.parse_args()
    with open_board(options.board) as board:
        targets = np.random.default_rng(options.seed).uniform(20e-6, 80e-6, board.array.shape)
        report = board.array.program(targets)
        print(
            f"{report.mean_pulses:.2f} pulses a cell, {report.rounds} rounds, "
            f"{report.transactions} transactions, {report.words} words, "
            f"{report.board_time_s:.3f} s of board time, not converged: {report.failed}"
        )
        print("board time (s)   error std (uS)   within 1.5 uS (%)")
        for average in (4, 16, 64, 256):
            error = (board.array.read(average) - targets) / 1e-6
            within = 100 * (np.abs(error) <= 1.5).mean()
            print(f"{board.board_time_s:14.3f}   {error.std():14.3f}   {within:17.2f}")


if __name__ == "__main__":
    main()
