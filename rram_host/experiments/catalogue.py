"""Every experiment by its name; commands and `rram runs` are made from this."""

from __future__ import annotations

from typing import Any

from rram_host.errors import InputError
from rram_host.experiments import (
    cycle,
    distribution,
    endurance,
    forming,
    iv,
    linearity,
    pattern,
    retention,
    set_curve,
    vmm_example,
)
from rram_host.experiments.experiment import Experiment

_MODULES = (
    iv,
    set_curve,
    cycle,
    distribution,
    pattern,
    retention,
    linearity,
    vmm_example,
    endurance,
    forming,
)
EXPERIMENTS: dict[str, Experiment[Any]] = {
    module.EXPERIMENT.name: module.EXPERIMENT for module in _MODULES
}


def experiment_named(name: str) -> Experiment[Any]:
    """An experiment of the catalogue.

    Raises:
        InputError: there is none of that name.
    """
    if name not in EXPERIMENTS:
        raise InputError(f"no experiment {name!r}; there are {', '.join(sorted(EXPERIMENTS))}")
    return EXPERIMENTS[name]
