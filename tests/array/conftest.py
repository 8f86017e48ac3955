"""Calibrations of emulated boards, measured once a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from rram_host.array.calibration import Calibration
from tests.array.rig import emulated_with, opened, random_g


@pytest.fixture(scope="session")
def calibration_of() -> Callable[[int], Calibration]:
    """Calibration of the board `EmulatedBoard("taox_180nm", seed)`, as a lab would measure it.

    Its cells are formed and programmed once by the host, and then measured with the default plan.
    The seed decides what a board's parts are worth, so every board made of it is the same board.
    """

    @cache
    def of(seed: int) -> Calibration:
        with opened(emulated_with(None, "taox_180nm", seed)) as board:
            board.array.program(random_g(seed, 20e-6, 80e-6))
            return board.calibrate()

    return of
