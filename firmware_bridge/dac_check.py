"""Whether the DACs answer: DEVICE ID and SYNC of every DAC80508 read back, echo and value."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import dac80508
from firmware_bridge.lines import LineProgram

_WANTED = {
    dac80508.DEVICE_ID: (dac80508.DEVICE_ID_Z, dac80508.DEVICE_ID_MASK),
    dac80508.SYNC: (dac80508.SYNC_ALL, 0xFFFF),
}


def readback_program(spec: BoardSpec) -> LineProgram:
    """A program that reads them back; its results go to `faults_in`."""
    program = LineProgram(spec)
    for addr in _WANTED:
        program.read_dac_register(addr)
    return program


def n_results(spec: BoardSpec) -> int:
    """How many results the program has."""
    return 2 * len(_WANTED) * spec.dac_chips


def faults_in(words: npt.NDArray[np.uint16], spec: BoardSpec) -> dict[int, list[str]]:
    """What is wrong, by chip; chips that answer as they should are not in it."""
    faults: dict[int, list[str]] = {}
    answers = words.reshape(len(_WANTED), spec.dac_chips, 2)
    for (addr, (value, mask)), replies in zip(_WANTED.items(), answers.tolist(), strict=True):
        for chip, (echo, data) in enumerate(replies):
            if echo != 0x80 | addr:
                text = f"no answer (echo {echo:#04x} to address {addr})"
            elif data & mask != value & mask:
                text = f"register {addr} reads {data:#06x}, not {value & mask:#06x}"
            else:
                continue
            faults.setdefault(chip, []).append(text)
    return faults
