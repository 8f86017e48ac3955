"""From drawn batches to records: the chain goes on through all of them, observables are taken."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from rram_host.errors import InputError
from rram_host.experiments.sampling.draws import Drawn
from rram_host.experiments.sampling.plan import MEASURED, DrawPlan
from rram_host.lattice.metropolis import accept
from rram_host.lattice.observables import measure
from rram_host.records.columns import Batch, Column

Array = npt.NDArray[np.float64]


@dataclass
class Seconds:
    """Where the wall time of a run went, in seconds.

    Attributes:
        draw: waiting for configurations with log q and the action.
        chain: Metropolis-Hastings.
        measure: observables.
        record: writing the run file.
    """

    draw: float = 0.0
    chain: float = 0.0
    measure: float = 0.0
    record: float = 0.0

    @property
    def total(self) -> float:
        """All parts."""
        return self.draw + self.chain + self.measure + self.record

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Add what the context takes to one part."""
        begin = time.perf_counter()
        yield
        setattr(self, part, getattr(self, part) + time.perf_counter() - begin)


@dataclass
class Chained:
    """Turns batches into records.

    Attributes:
        plan: of the draws.
        held: log w of what the chain holds; -infinity before its first proposal.
        clock_s: reads the board's clock; NaN without a board.
        seconds: is told what took how long.
    """

    plan: DrawPlan
    held: float = -math.inf
    clock_s: Callable[[], float] = lambda: math.nan
    seconds: Seconds = field(default_factory=Seconds)

    def units(self, batches: Iterator[Drawn], start: int = 0) -> Iterator[Batch]:
        """Records of every batch, `start` being the first.

        Raises:
            InputError: a batch has weights that no chain can use.
        """
        for index in range(start, self.plan.batches):
            clock_s = self.clock_s()
            with self.seconds.timing("draw"):
                drawn = next(batches)
            yield self._records(drawn, index, clock_s)

    def _records(self, drawn: Drawn, index: int, clock_s: float) -> Batch:
        n = len(drawn.log_q)
        try:
            with self.seconds.timing("chain"):
                uniforms = self.plan.uniforms(index)
                accepted, self.held = accept(drawn.log_w, uniforms, self.held)
        except InputError as error:
            raise InputError(f"batch {index} of the draws: {error}") from None
        with self.seconds.timing("measure"):
            values = observables(drawn.phi)
        return {
            "phi": drawn.phi,
            "log_q": drawn.log_q,
            "log_p": drawn.log_p,
            "accepted": accepted,
            **values,
            "batch": np.full(n, index),
            "prior_seed": np.full(n, self.plan.prior_seed(index)),
            "board_clock_s": np.full(n, clock_s),
        }


def observables(phi: Array) -> dict[str, Array]:
    """What is measured on every configuration (n, L0, L1), by column."""
    found = measure(torch.from_numpy(np.ascontiguousarray(phi)))
    values = {column: found[name].numpy() for column, name in MEASURED.items()}
    return values | {"correlator": found["G"].numpy()}


def columns(shape: tuple[int, int]) -> tuple[Column, ...]:
    """Columns of a run; fields are float64: log p can be computed from them to its last bits."""
    lags = max(shape) // 2 + 1
    return (
        Column("phi", "", "field, in lattice units", dims=("x0", "x1"), shape=shape),
        Column("log_q", "", "log density of the proposal (nats)"),
        Column("log_p", "", "log of the target's weight, -S (nats)"),
        Column("accepted", "", "taken by Metropolis-Hastings", dtype="bool"),
        Column("m", "", "mean of phi, M"),
        Column("energy", "", "Ising energy E"),
        Column("phi2", "", "mean of phi^2"),
        Column("cosine", "", "mean of cos(2 sqrt(pi) phi)"),
        Column("correlator", "", "zero-momentum correlator G(t)", dims=("t",), shape=(lags,)),
        Column("batch", "", "batch, counted from 0", dtype="i8"),
        Column("prior_seed", "", "seed of the batch's prior draws", dtype="i8"),
        Column("board_clock_s", "s", "board clock before the batch; NaN without a board"),
    )
