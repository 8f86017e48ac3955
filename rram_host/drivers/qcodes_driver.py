"""The board as a QCoDeS instrument, over any link that `open_board` knows.

    from rram_host.drivers.qcodes_driver import RramBoard
    board = RramBoard("rram", "sim://?seed=7", passport="chip.json")

In a station file: `type: rram_host.drivers.qcodes_driver.RramBoard`, `address:` the URL. Readings
are calibrated where the passport holds a calibration. Needs `pip install rram-bench[qcodes]`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from qcodes.instrument import Instrument
from qcodes.parameters import Parameter, ParameterWithSetpoints
from qcodes.validators import Arrays, Ints, Numbers

from rram_host.array.crossbar import MAX_AVERAGE
from rram_host.array.reports import FormReport, ProgramReport
from rram_host.session import open_board
from rram_host.transports.base import Transport

Array = npt.NDArray[np.float64]


class RramBoard(Instrument):
    """Reads, pulses, programs and multiplies; closing it makes the rails safe.

    `row` and `col` choose the cell that `conductance`, `set_cell` and `reset_cell` are about, so
    that they can be swept. Arrays of cells are (rows, cols); row = word line, column = bit line.
    A snapshot of the station reads no cells.

    Args:
        name: in the station.
        address: URL of the board, or a transport, as in `rram_host.open_board`.
        spec: board file, its name or path; default zc706.
        passport: file of the chip on the board, with its calibration, limits and dead cells.
        kwargs: for `qcodes.instrument.Instrument`.

    Raises:
        RramError: as `rram_host.open_board`.
    """

    def __init__(
        self,
        name: str,
        address: str | Transport,
        spec: str | Path | None = None,
        passport: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self.board = open_board(address, spec=spec, passport=passport)
        self.array = self.board.array
        self._add_axes()
        self._add_readings()
        self._add_products()
        self._add_pulses()
        self.add_function("safe", call_cmd=self.board.safe, docstring="gates closed, lines at 0 V")
        self.connect_message()

    def get_idn(self) -> dict[str, str | None]:
        """Board file, chip of the passport, and version of the gateware."""
        info = self.board.info()
        chip = str(info["chip"]) if "chip" in info else None
        version, model = str(info["gateware_version"]), str(info["board_file"])
        return {"vendor": "rram-bench", "model": model, "serial": chip, "firmware": version}

    def _add_axes(self) -> None:
        n_rows, n_cols = self.array.shape
        self.row, self.rows = self._axis("row", "word line", n_rows)
        self.col, self.cols = self._axis("col", "bit line", n_cols)

    def _axis(self, name: str, label: str, size: int) -> tuple[Parameter, Parameter]:
        """The chosen line, and all of them as setpoints of arrays."""
        lines = np.arange(size)
        chosen: Parameter = self.add_parameter(
            name, label=label, vals=Ints(0, size - 1), set_cmd=None, initial_value=0
        )
        everyone: Parameter = self.add_parameter(
            f"{name}s", label=label, vals=Arrays(shape=(size,)), get_cmd=lambda: lines
        )
        return chosen, everyone

    def _add_readings(self) -> None:
        self.average: Parameter = self.add_parameter(
            "average",
            label="readings of each cell",
            vals=Ints(1, MAX_AVERAGE),
            set_cmd=None,
            initial_value=4,
        )
        self.conductances: Parameter = self.add_parameter(
            "conductances",
            ParameterWithSetpoints,
            label="conductance",
            unit="S",
            vals=Arrays(shape=self.array.shape, valid_types=(np.floating,)),
            setpoints=(self.rows, self.cols),
            get_cmd=lambda: self.array.read(self.average()),
            snapshot_get=False,
        )
        self.conductance: Parameter = self.add_parameter(
            "conductance",
            label="conductance of the cell",
            unit="S",
            get_cmd=self._read_cell,
            snapshot_get=False,
        )

    def _add_products(self) -> None:
        read_v = self.board.spec.read_voltage_v
        n_rows, n_cols = self.array.shape
        self.inputs: Parameter = self.add_parameter(
            "inputs",
            ParameterWithSetpoints,
            label="voltage across cells",
            unit="V",
            vals=Arrays(-read_v, read_v, shape=(n_cols,)),
            setpoints=(self.cols,),
            set_cmd=None,
            get_cmd=None,
        )
        self.inputs(np.zeros(n_cols))
        self.products: Parameter = self.add_parameter(
            "products",
            ParameterWithSetpoints,
            label="source line current",
            unit="A",
            vals=Arrays(shape=(n_rows,), valid_types=(np.floating,)),
            setpoints=(self.rows,),
            get_cmd=lambda: self.vmm(self.inputs()[np.newaxis])[0],
            snapshot_get=False,
        )

    def _add_pulses(self) -> None:
        pulses, gate_v = self.board.spec.pulses, self.board.spec.compliance_limit_v()
        self.add_function("set_cell", call_cmd=self._set_cell, args=[Numbers(0, gate_v)])
        reset = Numbers(0, pulses.reset_stop_v)
        self.add_function("reset_cell", call_cmd=self._reset_cell, args=[reset])
        self.pulses: Parameter = self.add_parameter(
            "pulses",
            label="pulses since power-up",
            get_cmd=lambda: self.board.pulses_since_power_up,
        )

    # ---- what it does -----------------------------------------------------------------------

    def vmm(self, voltages: npt.ArrayLike) -> Array:
        """Currents of the source lines, (n, rows) amperes, for voltages (n, cols) volts."""
        return self.array.vmm(voltages)

    def form(self) -> FormReport:
        """Electroform the cells that need it."""
        return self.array.form()

    def program(self, targets_siemens: npt.ArrayLike) -> ProgramReport:
        """Write-verify conductances, (rows, cols) siemens; NaN leaves a cell alone."""
        return self.array.program(targets_siemens)

    def _cell(self) -> npt.NDArray[np.bool_]:
        mask = np.zeros(self.array.shape, dtype=bool)
        mask[self.row(), self.col()] = True
        return mask

    def _read_cell(self) -> float:
        cell = self._cell()
        return float(self.array.read(self.average(), cell)[cell][0])

    def _set_cell(self, gate_v: float) -> float:
        """A SET pulse on the cell with this compliance, then its conductance in siemens."""
        cell = self._cell()
        return float(self.array.set_cells(cell, np.full(cell.shape, gate_v))[cell][0])

    def _reset_cell(self, reset_v: float) -> float:
        """A RESET pulse of this voltage on the cell, then its conductance in siemens."""
        cell = self._cell()
        return float(self.array.reset_cells(cell, np.full(cell.shape, reset_v))[cell][0])

    def close(self) -> None:
        """Make the rails safe, give the link back, and leave the station."""
        try:
            if hasattr(self, "board"):  # QCoDeS closes twice, and what could not be opened
                self.board.close()
        finally:
            super().close()
