"""How much to draw, and from which random numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rram_host.errors import InputError, require_whole

NAME = "sample"  # of the command and of its runs
MIN_DRAWS, MAX_DRAWS = 4, 100_000_000  # an autocorrelation time needs four updates
MAX_SEED = 2**62
MAX_BATCH = 1 << 20
# Odd, so that multiples of it differ modulo 2^32 for 2^32 batches.
_STRIDE = 0x9E3779B1

# Column and key of `measure`; |M| and chi2 = V M^2 follow from M.
MEASURED = {"m": "M", "energy": "E", "phi2": "phi2", "cosine": "cos"}
# All but the fields: what figures are made of, and small beside them.
SMALL = ("log_q", "log_p", "accepted", *MEASURED, "correlator")


@dataclass(frozen=True)
class DrawPlan:
    """How much to draw.

    Every batch has random numbers of its own, derived from the seed and its place alone, so any
    batch can be drawn alone, in any process, and again.

    Attributes:
        n: configurations to draw.
        batch: configurations drawn together: on an array, one upload per product and tile.
        seed: of prior draws and of accept-reject numbers.

    Raises:
        InputError: for a value out of range.
    """

    n: int = 32_768
    batch: int = 4096
    seed: int = 7

    def __post_init__(self) -> None:
        """Refuse a plan that cannot run."""
        require_whole(n=self.n, batch=self.batch, seed=self.seed)
        if not MIN_DRAWS <= self.n <= MAX_DRAWS:
            raise InputError(f"n = {self.n} configurations is outside {MIN_DRAWS}..{MAX_DRAWS}")
        if not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"seed {self.seed} is outside 0..{MAX_SEED}")
        if not 1 <= self.batch <= MAX_BATCH:
            raise InputError(f"batch = {self.batch} configurations is outside 1..{MAX_BATCH}")

    @property
    def batches(self) -> int:
        """Number of batches; the last one may be smaller."""
        return -(-self.n // self.batch)

    def size(self, index: int) -> int:
        """Configurations in batch `index`, counted from 0."""
        return min(self.batch, self.n - index * self.batch)

    def prior_seed(self, index: int) -> int:
        """Seed of the prior draws of a batch, below 2^32; no two batches share one.

        torch's generator on the CPU uses the lowest 32 bits of a seed and no more, so seeds are
        counted up from a hashed start: drawn at random, one run in fourteen of 25 000 batches
        would hold two batches that are the same.
        """
        start = int(np.random.SeedSequence(self.seed).generate_state(1)[0])
        return (start + index * _STRIDE) % 2**32

    def uniforms(self, index: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Accept-reject numbers of a batch, in [0, 1)."""
        sequence = np.random.SeedSequence(self.seed, spawn_key=(index,))
        return np.random.default_rng(sequence).random(self.size(index))
