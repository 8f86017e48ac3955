"""The board as a PyMeasure instrument: the bridge's text dialect over VISA, or any adapter.

    from rram_host.drivers.pymeasure_driver import RramBoard
    with RramBoard("TCPIP::127.0.0.1::5025::SOCKET", visa_library="@py") as board:
        board.conductances

Readings are as the bridge makes them, without a chip's calibration; forming and write-verify are
the host's own (`rram_host.open_board`). Needs `pip install rram-bench[pymeasure]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from pymeasure.instruments import Instrument, SCPIMixin
from pyvisa.errors import VisaIOError

from firmware_bridge import auth
from rram_host.errors import InputError, LinkError

Array = npt.NDArray[np.float64]

_ERRORS_KEPT = 3  # of a queue, in a message


class RramBoard(SCPIMixin, Instrument):  # type: ignore[misc]
    """Reads cells, multiplies, and makes the rails safe, also when it is left.

    Rows are word lines and source lines, columns bit lines; arrays are (rows, cols).

    Args:
        adapter: VISA resource string of the bridge, or a PyMeasure adapter.
        name: for logs.
        key_file: of the bridge, where it asks for one.
        kwargs: for PyMeasure's `VISAAdapter`, such as `visa_library="@py"`, `timeout` (ms).

    Raises:
        InputError: the key file cannot be used.
        LinkError: what answers is no board, or does not take the key.
    """

    def __init__(
        self,
        adapter: Any,
        name: str = "RRAM board",
        key_file: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs = {"read_termination": "\n", "write_termination": "\n", "timeout": 10_000, **kwargs}
        super().__init__(adapter, name, asrl={"baud_rate": 921_600}, **kwargs)
        try:
            if key_file is not None:
                self._authorise(auth.load_key(key_file))
            self.shape = divmod(self.register("GEOMETRY"), 1 << 16)
        except BaseException:
            self.adapter.close()
            raise

    program_state = Instrument.measurement(
        "PROG:STAT?",
        """Get what the sequencer does (IDLE, RUNNING, DONE or FAULT), results, and the fault.""",
        cast=str,
        maxsplit=2,
    )

    def _authorise(self, key: bytes) -> None:
        nonce = bytes.fromhex(self.ask("SYST:AUTH?").strip())
        self.write(f'SYST:AUTH "{auth.text_digest(key, nonce).hex()}"')
        self.check_set_errors()

    def register(self, name: str) -> int:
        """A register of the board by its name, such as PULSE_COUNT."""
        answer = self._told(f"REG? {name}")
        if not answer.isdecimal():
            raise LinkError(f"{self.name}: REG? {name} was answered by {answer!r}, not a number")
        return int(answer)

    def conductance(self, row: int, col: int) -> float:
        """Conductance of one cell, in siemens; infinity where it is beyond the range.

        Raises:
            LinkError: the bridge refuses, as for a cell outside the array.
        """
        value = float(self._told(f"READ? {row},{col}"))
        return value if value < 9.9e37 else np.inf  # how SCPI writes infinity

    @property
    def conductances(self) -> Array:
        """Measure the conductances of all cells, (rows, cols), siemens."""
        self.write("READ:ARR?")
        return self._block("READ:ARR?").reshape(self.shape)

    def vmm(self, voltages: npt.ArrayLike, tia_range: int | None = None) -> Array:
        """Currents of all source lines, (n, rows), amperes.

        Args:
            voltages: volts across the cells, (n, cols), within the read voltage.
            tia_range: 0 (least sensitive) to 3; None: as the currents need.

        Raises:
            InputError: voltages of another shape.
            LinkError: the bridge refuses, as for a voltage beyond the read voltage.
        """
        volts = np.asarray(voltages, dtype=np.float64)
        if volts.ndim != 2 or volts.shape[1] != self.shape[1]:
            raise InputError(f"voltages of shape {volts.shape}: expected (n, {self.shape[1]})")
        ending = "\n" if tia_range is None else f",{tia_range}\n"
        self.write_binary_values("VMM? ", volts.ravel().tolist(), termination=ending)
        return self._block("VMM?").reshape(len(volts), self.shape[0])

    def safe(self) -> None:
        """Gates closed, then all lines at zero, now; also while somebody else writes."""
        self.write("SAFE")
        self.check_set_errors()

    def shutdown(self) -> None:
        """Make the rails safe and give the link back."""
        if self.isShutdown:
            return
        try:
            self.safe()
        finally:
            super().shutdown()
            self.adapter.close()

    # ---- answers ----------------------------------------------------------------------------

    def check_errors(self) -> list[Any]:
        """Empty the error queue of the bridge.

        Raises:
            LinkError: it held errors; tells them.
        """
        errors = super().check_errors()
        if errors:
            told = "; ".join(",".join(map(str, error)) for error in errors[:_ERRORS_KEPT])
            raise LinkError(f"{self.name}: {told}")
        return cast(list[Any], errors)

    def _told(self, command: str) -> str:
        self.write(command)
        with self._refusals():
            return str(self.read()).strip()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """A query that the bridge refuses has no answer: its error queue says why."""
        try:
            yield
        except VisaIOError:
            self.check_errors()
            raise

    def _block(self, command: str) -> Array:
        """The floats of a definite-length block, #<n><n digits><bytes>, and its newline."""
        with self._refusals():
            head = self.read_bytes(2)
        if not (head[:1] == b"#" and head[1:].isdigit()):
            raise LinkError(f"{self.name}: {command} was answered by {head!r}..., not a block")
        size = int(self.read_bytes(int(head[1:])))
        data = self.read_bytes(size + 1)
        return np.frombuffer(data[:size], "<f4").astype(np.float64)
