"""The board as an instrument: programs in, codes and amperes out, safe at every end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge import opening, readout
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.chips import ads8324
from firmware_bridge.lines import LineProgram
from rram_host.board import self_test
from rram_host.board.check.checker import Checker
from rram_host.board.sequencer import Compiled, Progress, SequencerDriver
from rram_host.board.waiting import wait_cycles, wait_program
from rram_host.errors import BoardFault
from rram_host.transports.base import Transport


class BoardCore:
    """Everything about the board that does not know what a cell is.

    Args:
        transport: the link.
        spec: how the board is wired.
        check: refuse a board whose DACs do not answer; False only to find out what is wrong.

    Raises:
        ContractError: not a board of this contract and geometry.
        BoardFault: a DAC does not answer as it should after reset.
    """

    def __init__(self, transport: Transport, spec: BoardSpec, check: bool = True) -> None:
        self.spec = spec
        self.compiled: dict[object, Compiled] = {}  # programs that run many times
        self.driver = SequencerDriver(transport, spec.rows, spec.cols, spec.dac_chips, spec.adcs)
        self.driver.checker = Checker(spec)
        self.driver.watchdog_s = spec.watchdog_s
        self.driver.take_over()
        for address, words in opening.opening_writes(spec):
            self.driver.write(address, words)
        self.driver.run(opening.start_program(spec))
        faults = self_test.check_dacs(self.driver, spec) if check else []
        if faults:
            self.driver.safe()
            raise BoardFault("; ".join(faults))

    def program(self) -> LineProgram:
        """An empty program for this board."""
        return LineProgram(self.spec)

    def wait(self, duration_s: float, progress: Progress | None = None) -> None:
        """Let board time pass, rails safe; what breaks it off makes them safe first.

        Args:
            duration_s: 0 to 1e7 s.
            progress: called with the seconds that have passed and `duration_s`.

        Raises:
            InputError: negative, not a number, or above 1e7 s.
            LinkError: the board did not come back when it should have.
        """
        cycles = wait_cycles(duration_s)
        if not cycles:
            return
        self.driver.run(wait_program(self.spec, cycles), progress=progress)

    def self_test(self) -> self_test.SelfTest:
        """Check DACs and amplifier offsets. Leaves the cells alone: all gates stay closed."""
        faults = self_test.check_dacs(self.driver, self.spec)
        offsets = self._tia_offsets()
        return self_test.SelfTest((*faults, *self_test.check_offsets(offsets)), offsets)

    def _tia_offsets(self, average: int = 16) -> npt.NDArray[np.float64]:
        """Output of every amplifier with all gates closed, in volts, (rows,)."""
        rows = np.arange(self.spec.rows)
        program = self.program()
        program.switch_sl(self.spec.sl_tia)
        program.settle()
        program.close_sl(3)
        program.wait(self.spec.mux_switch_s + self.spec.tia_settling_s(3))
        with program.loop(average):
            program.convert(readout.selects_for(self.spec, rows))
        program.idle()
        amperes, _ = readout.currents(self.driver.run(program), self.spec, rows, 3)
        lsb = self.spec.current_lsb_a(3)
        mean: npt.NDArray[np.float64] = -amperes.mean(0) / lsb
        return mean * ads8324.lsb_v(self.spec.adc_reference_v)
