"""What a board can tell about itself before it is trusted: links, converters, offsets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge import dac_check
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import opa4322
from rram_host.board.sequencer import SequencerDriver


@dataclass(frozen=True)
class SelfTest:
    """Result of a self-test.

    Attributes:
        faults: one line each, empty on a healthy board.
        tia_offset_v: offset of every row's amplifier, (rows,), gates closed.
    """

    faults: tuple[str, ...]
    tia_offset_v: npt.NDArray[np.float64]

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.faults


def dac_faults(driver: SequencerDriver, spec: BoardSpec) -> dict[int, list[str]]:
    """Read DEVICE ID and SYNC of every DAC80508 back, by address echo and value.

    Returns:
        What is wrong, by chip; chips that answer as they should are not in it.
    """
    return dac_check.faults_in(driver.run(dac_check.readback_program(spec)), spec)


def check_dacs(driver: SequencerDriver, spec: BoardSpec) -> list[str]:
    """The same, one line a fault."""
    found = sorted(dac_faults(driver, spec).items())
    return [f"DAC chip {chip}: {text}" for chip, texts in found for text in texts]


def check_offsets(offset_v: npt.NDArray[np.float64]) -> list[str]:
    """Amplifier offsets beyond what an OPA4322 may have."""
    return [
        f"row {row}: amplifier offset {offset * 1e3:.2f} mV is beyond "
        f"{opa4322.OFFSET_MAX_V * 1e3:.0f} mV"
        for row, offset in enumerate(offset_v.tolist())
        if abs(offset) > opa4322.OFFSET_MAX_V
    ]
