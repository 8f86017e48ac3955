"""Reading a run file of configurations back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError
from rram_host.experiments.sampling.plan import NAME
from rram_host.lattice.metropolis import Chain
from rram_host.records.run_file import RunFile

Array = npt.NDArray[np.float64]


class LoadedSamples(NamedTuple):
    """What a run file holds.

    Attributes:
        phi: proposals, (n, L0, L1), float64; `phi[chain.indices]` is the chain.
        log_q: log density of the flow, (n,), nats.
        log_p: -S, (n,), nats.
        chain: of Metropolis-Hastings over the proposals.
        metadata: {"plan": {...}, "board", "info", "calibration", "chip", "versions", "started",
            "status", "prior_seeds": seed of every batch}.
    """

    phi: Array
    log_q: Array
    log_p: Array
    chain: Chain
    metadata: dict[str, Any]


def load_samples(path: Path | str) -> LoadedSamples:
    """Read a run of `rram sample`, also one that still runs or was killed.

    Raises:
        InputError: no such file, not a run of samples, or one without a committed batch.
    """
    run = RunFile(path)
    check_samples(run)
    seeds = run.column("prior_seed")[:: int(run.header.plan["batch"])]
    head = run.header
    metadata = {
        **{"plan": dict(head.plan), "board": head.board, "info": dict(head.info)},
        **{"calibration": dict(head.calibration), "chip": head.chip, "started": head.started},
        **{"versions": dict(head.versions), "status": run.state.text},
        "prior_seeds": [int(seed) for seed in seeds],
    }
    phi, log_q, log_p = (
        np.asarray(run.column(name), dtype=np.float64) for name in ("phi", "log_q", "log_p")
    )
    return LoadedSamples(phi, log_q, log_p, Chain.of(flags(run)), metadata)


def check_kind(run: RunFile) -> None:
    """Refuse a file of something else.

    Raises:
        InputError: it is one.
    """
    if run.header.experiment != NAME:
        raise InputError(f"{run.path} holds a run of {run.header.experiment}, not of {NAME}")


def check_samples(run: RunFile) -> None:
    """Refuse a file of something else, or without records.

    Raises:
        InputError: it is one.
    """
    check_kind(run)
    if not run.state.rows:
        raise InputError(f"{run.path} has no records yet")


def flags(run: RunFile) -> npt.NDArray[np.bool_]:
    """Which proposals were taken."""
    return np.asarray(run.column("accepted"), dtype=np.bool_)
