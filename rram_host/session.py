"""open_board: from a URL to a board that is checked, limited and safe."""

from __future__ import annotations

import atexit
from pathlib import Path
from types import TracebackType

from firmware_bridge import board_spec, registers
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.contract import contract_hash
from rram_host.array.crossbar import Crossbar
from rram_host.board.core import BoardCore
from rram_host.board.self_test import SelfTest
from rram_host.board.sequencer import Traffic
from rram_host.transports import open_transport
from rram_host.transports.base import Transport


class Board:
    """An open board. Use it as a context manager: leaving it makes the rails safe.

    Attributes:
        array: the crossbar, in siemens, volts and amperes.
        spec: how the board is wired.
    """

    def __init__(self, transport: Transport, spec: BoardSpec, name: str) -> None:
        self._transport = transport
        self.name, self.spec = name, spec
        self._core = BoardCore(transport, spec)
        self.array = Crossbar(self._core)
        self._closed = False
        atexit.register(self.close)  # a board that nobody closes is made safe all the same

    @property
    def traffic(self) -> Traffic:
        """Transactions, words, programs and board time since opening."""
        return self._core.driver.traffic

    @property
    def board_time_s(self) -> float:
        """Time that programs have taken on the board since opening, in seconds."""
        return self.traffic.board_time_s

    def info(self) -> dict[str, object]:
        """Identity, geometry, counters and limits, as plain values."""
        spec = self.spec
        return {
            "board": self.name,
            "board_file": spec.name,
            "identity": f"{registers.IDENTITY:#010x}",
            "contract_hash": f"{contract_hash():#010x}",
            "gateware_version": f"{self._core.driver.read_register('VERSION'):#010x}",
            "rows": spec.rows,
            "cols": spec.cols,
            "adcs": spec.adcs,
            "pulses_since_power_up": self._core.driver.read_register("PULSE_COUNT"),
            "read_voltage_v": spec.read_voltage_v,
            "bl_limit_v": spec.bl_limit_v,
            "wl_limit_v": spec.wl_limit_v,
            "conductance_window_siemens": [
                spec.conductance_min_siemens,
                spec.conductance_max_siemens,
            ],
        }

    def self_test(self) -> SelfTest:
        """Check converters and amplifiers; see `rram_host.board.self_test`."""
        return self._core.self_test()

    def safe(self) -> None:
        """Put the rails into the safe state now: gates closed, bit lines at zero, SLs grounded."""
        self._core.driver.safe()

    def close(self) -> None:
        """Make the rails safe and give the link back. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        try:
            self.safe()
        finally:
            self._core.driver.closed = True
            self._transport.close()

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_board(target: str | Transport, spec: BoardSpec | str | Path | None = None) -> Board:
    """Open a board, check who it is, set its limits, and reset its converters.

    Args:
        target: a URL (`sim://?preset=taox_180nm&seed=7`, `serial:///dev/ttyUSB0?baud=921600`,
            `mmio://0x43C00000`), or a Transport, such as a `sim.EmulatedBoard`.
        spec: how the board is wired: a BoardSpec, a name in boards/, or a path; default zc706.

    Raises:
        InputError: unknown URL or board file.
        LinkError: the board cannot be reached.
        ContractError: what answers is not a board of this contract and geometry.
        BoardFault: a converter does not answer.

    >>> with open_board("sim://?preset=ideal") as board:
    ...     board.array.shape
    (32, 32)
    """
    wiring = spec if isinstance(spec, BoardSpec) else board_spec.load(spec or "zc706")
    transport = open_transport(target)
    name = target if isinstance(target, str) else type(target).__name__
    try:
        return Board(transport, wiring, name)
    except BaseException:
        transport.close()
        raise
