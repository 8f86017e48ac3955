"""What a board can tell about itself before it is trusted: links, converters, offsets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import dac80508, opa4322
from rram_host.board.lines import LineProgram
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


def check_dacs(driver: SequencerDriver, spec: BoardSpec) -> list[str]:
    """Read DEVICE ID, SYNC and GAIN of every DAC80508 back, by address echo and value."""
    program = LineProgram(spec)
    wanted = {
        dac80508.DEVICE_ID: [dac80508.DEVICE_ID_Z & dac80508.DEVICE_ID_MASK] * spec.dac_chips,
        dac80508.SYNC: [dac80508.SYNC_ALL] * spec.dac_chips,
    }
    for addr in wanted:
        program.read_dac_register(addr)
    words = driver.run(program).reshape(len(wanted), spec.dac_chips, 2)
    faults = []
    for (addr, values), replies in zip(wanted.items(), words.tolist(), strict=True):
        mask = dac80508.DEVICE_ID_MASK if addr == dac80508.DEVICE_ID else 0xFFFF
        for chip, (value, (echo, data)) in enumerate(zip(values, replies, strict=True)):
            if echo != 0x80 | addr:
                faults.append(f"DAC chip {chip}: no answer (echo {echo:#04x} to address {addr})")
            elif data & mask != value:
                faults.append(
                    f"DAC chip {chip}: register {addr} reads {data:#06x}, not {value:#06x}"
                )
    return faults


def check_offsets(offset_v: npt.NDArray[np.float64]) -> list[str]:
    """Amplifier offsets beyond what an OPA4322 may have."""
    return [
        f"row {row}: amplifier offset {offset * 1e3:.2f} mV is beyond "
        f"{opa4322.OFFSET_MAX_V * 1e3:.0f} mV"
        for row, offset in enumerate(offset_v.tolist())
        if abs(offset) > opa4322.OFFSET_MAX_V
    ]
