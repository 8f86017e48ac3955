"""Figures of weights and chains, and observables by name. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rram_host.lattice.metropolis import Chain
from rram_host.lattice.reweighting import effective_sample_size, log_z

Array = npt.NDArray[np.float64]


def quality(log_w: Array, chain: Chain) -> dict[str, Any]:
    """Figures of a sample: ESS with its N, acceptance, std(log w), longest rejection, log Z."""
    value, error = log_z(log_w)
    return {
        "n": len(log_w),
        "ess": effective_sample_size(log_w),
        "acceptance": chain.acceptance,
        "std_log_w": float(log_w.std()),
        "longest_rejection": chain.longest_rejection,
        "log_z": value,
        "log_z_error": error,
    }


def named(columns: Mapping[str, Any], shape: tuple[int, int]) -> dict[str, Array]:
    """Series of observables by the names that a person reads, each of the rows' shape.

    Args:
        columns: "m", "energy", "phi2", "cosine" of any shape, "correlator" with an axis more.
        shape: lattice.
    """
    m = columns["m"]
    found = {
        "M": m,
        "|M|": np.abs(m),
        "chi2": shape[0] * shape[1] * m * m,
        "E": columns["energy"],
        "phi^2": columns["phi2"],
        "cos": columns["cosine"],
    }
    lags = columns["correlator"].shape[-1]
    return found | {f"G({t})": columns["correlator"][..., t] for t in range(lags)}
