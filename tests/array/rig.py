"""Boards for the tests of the array: ideal and programmed at once, or programmed by the host."""

from __future__ import annotations

import numpy as np

from rram_host import open_board
from sim.board import EmulatedBoard

GRID_V = 1.25 / 65536  # DAC step of the read range
BIAS_V = 0.9


def emulated_with(g: np.ndarray | None, preset: str = "ideal", seed: int = 0) -> EmulatedBoard:
    """An emulated board whose cells hold `g` (0 = pristine)."""
    emulated = EmulatedBoard(preset, seed=seed)
    if g is not None:
        cells = emulated.bench.cells
        cells.formed = g > 0
        cells.g = np.where(cells.formed, g, cells.g)
    return emulated


def conducted(emulated: EmulatedBoard) -> np.ndarray:
    """What the cells conduct at this moment: their state, and the slow noise that now is on it."""
    return emulated.truth.conductances_siemens * emulated.bench.noise.factor


def random_g(seed: int, low: float = 20e-6, high: float = 100e-6) -> np.ndarray:
    """Conductances of a whole array."""
    return np.random.default_rng(seed).uniform(low, high, (32, 32))


def on_grid(volts: np.ndarray) -> np.ndarray:
    """Nearest voltages that the DAC can put across a cell, within +-0.1 V."""
    steps = np.rint((volts + BIAS_V) / GRID_V)
    low, high = np.ceil((BIAS_V - 0.1) / GRID_V), np.floor((BIAS_V + 0.1) / GRID_V)
    return np.clip(steps, low, high) * GRID_V - BIAS_V


class CountingTransport:
    """Counts what crosses the link, apart from the host's own book-keeping."""

    def __init__(self, board) -> None:
        self._board = board
        self.transactions = self.words = 0
        self.log: list[tuple] = []

    def read(self, address, count):
        self.transactions += 1
        self.words += count
        self.log.append(("read", address, count))
        return self._board.read(address, count)

    def write(self, address, words):
        self.transactions += 1
        self.words += len(words)
        self.log.append(("write", address, np.asarray(words).tobytes()))
        self._board.write(address, words)

    def close(self):
        self._board.close()


def sparse(cells: dict[tuple[int, int], float]) -> np.ndarray:
    """Targets for some cells, NaN elsewhere."""
    targets = np.full((32, 32), np.nan)
    for place, value in cells.items():
        targets[place] = value
    return targets


def opened(emulated, spec=None):
    """A host on an emulated board."""
    return open_board(emulated, spec=spec)
