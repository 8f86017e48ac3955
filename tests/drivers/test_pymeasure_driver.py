"""The PyMeasure driver with the real PyMeasure over PyVISA, against the bridge's text dialect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pymeasure.adapters import VISAAdapter
from pymeasure.experiment import IntegerParameter, Procedure, Results, Worker

from firmware_bridge import auth, board_spec
from firmware_bridge.agent import Agent
from firmware_bridge.hislip import HislipServer
from firmware_bridge.readout import CELL_RANGE
from firmware_bridge.server import PtyServer, TcpServer
from rram_host.drivers.pymeasure_driver import RramBoard
from rram_host.errors import InputError, LinkError
from sim.board import EmulatedBoard
from tests.array.rig import emulated_with, on_grid, random_g

HELD = random_g(5)
SPEC = board_spec.load()
LSB_A = SPEC.current_lsb_a(0)  # of the least sensitive range
LSB_SIEMENS = SPEC.current_lsb_a(CELL_RANGE) / SPEC.read_voltage_v


@pytest.fixture
def emulated() -> EmulatedBoard:
    return emulated_with(HELD)


@pytest.fixture
def server(emulated: EmulatedBoard) -> Iterator[TcpServer]:
    with TcpServer(Agent(emulated)) as server:
        yield server


def resource(server: TcpServer) -> str:
    return f"TCPIP::127.0.0.1::{server.port}::SOCKET"


def opened(name: str, **settings: object) -> RramBoard:
    return RramBoard(name, visa_library="@py", **{"timeout": 30_000, **settings})


@pytest.fixture
def board(server: TcpServer) -> Iterator[RramBoard]:
    with opened(resource(server)) as board:
        yield board


def rails(emulated: EmulatedBoard) -> set[float]:
    told = emulated.truth.rails_v
    return {told[f"{line}{n}"] for line in ("BL", "WL") for n in range(32)}


def test_identity_geometry_and_registers(board: RramBoard):
    assert len(board.id.split(",")) == 4
    assert board.shape == (32, 32)
    assert board.register("SCRATCH") == 0
    assert board.complete == "1"
    assert board.program_state[0] in ("IDLE", "DONE")
    assert board.check_errors() == []


def test_it_reads_what_the_cells_conduct(board: RramBoard):
    g = board.conductances
    for cell in ((0, 0), (3, 17), (31, 31)):
        assert board.conductance(*cell) == pytest.approx(g[cell], abs=2 * LSB_SIEMENS)
    np.testing.assert_allclose(g, HELD, atol=2 * LSB_SIEMENS)


def test_products_are_the_sum_of_what_each_bit_line_alone_gives(board: RramBoard):
    volts = on_grid(np.random.default_rng(3).uniform(-0.09, 0.09, (300, 32)))
    amperes = board.vmm(volts)
    assert amperes.shape == (300, 32)
    np.testing.assert_allclose(amperes, volts @ board.conductances.T, atol=2 * LSB_A)
    np.testing.assert_allclose(board.vmm(volts[:7], 0), amperes[:7], atol=2 * LSB_A)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> int:
    """A timeout in ms for answers that do not come; why they do not is waited for long enough."""
    asked = RramBoard.check_errors

    def patient(board: RramBoard) -> list:
        board.adapter.connection.timeout = 30_000
        return asked(board)

    monkeypatch.setattr(RramBoard, "check_errors", patient)
    return 200


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda board: board.conductance(32, 0), "outside 0..31"),
        (lambda board: board.vmm(np.full((1, 32), 0.2)), "read voltage"),
        (lambda board: board.register("NO_SUCH"), "NO_SUCH"),
    ],
)
def test_a_refusal_is_an_error_that_says_why_and_the_next_answer_is_right(
    board, impatient, call, told
):
    board.adapter.connection.timeout = impatient
    with pytest.raises(LinkError, match=told):
        call(board)
    assert board.register("GEOMETRY") == 32 << 16 | 32


def test_voltages_of_another_shape_are_not_sent(board: RramBoard):
    with pytest.raises(InputError, match=r"\(2, 31\): expected \(n, 32\)"):
        board.vmm(np.zeros((2, 31)))


def test_leaving_it_makes_the_rails_safe(server: TcpServer, emulated: EmulatedBoard):
    with pytest.raises(RuntimeError, match="mine"), opened(resource(server)) as board:
        board.conductance(3, 4)
        raise RuntimeError("mine")
    assert rails(emulated) == {0.0}
    board.shutdown()  # twice does nothing


def test_over_hislip_refusals_and_late_answers_do_not_mix(emulated: EmulatedBoard, impatient: int):
    with (
        HislipServer(Agent(emulated), port=0) as server,
        opened(f"TCPIP::127.0.0.1::hislip0,{server.port}::INSTR") as board,
    ):
        volts = np.full((5, 32), 0.01)
        np.testing.assert_allclose(board.vmm(volts), volts @ board.conductances.T, atol=2 * LSB_A)
        board.adapter.connection.timeout = impatient
        with pytest.raises(LinkError, match="row 40"):
            board.conductance(40, 0)
        assert board.register("GEOMETRY") == 32 << 16 | 32


def test_over_a_serial_line(emulated: EmulatedBoard, tmp_path: Path):
    with (
        PtyServer(Agent(emulated), tmp_path / "rram0") as server,
        opened(f"ASRL{server.path}::INSTR") as board,
    ):
        assert board.conductances.shape == board.shape == (32, 32)


def test_a_key_is_proved_and_without_it_nothing_is_told(
    emulated: EmulatedBoard, tmp_path: Path, impatient: int
):
    path = tmp_path / "key"
    auth.make_key(path)
    with TcpServer(Agent(emulated), key=auth.load_key(path)) as server:
        with opened(resource(server), key_file=path) as board:
            assert board.register("GEOMETRY") == 32 << 16 | 32
        with pytest.raises(LinkError, match="-203"):
            opened(resource(server), timeout=impatient)
        other = tmp_path / "other"
        auth.make_key(other)
        with pytest.raises(LinkError, match="-203"):
            opened(resource(server), key_file=other)


class ReadRow(Procedure):
    """Conductances of one row, cell by cell."""

    row = IntegerParameter("Row", minimum=0, maximum=31, default=0)
    resource = None
    DATA_COLUMNS = ("Column", "Conductance (S)")

    def startup(self) -> None:
        self.board = RramBoard(VISAAdapter(self.resource, "@py", read_termination="\n"))

    def execute(self) -> None:
        for col in range(4):
            g = self.board.conductance(self.row, col)
            self.emit("results", {"Column": col, "Conductance (S)": g})

    def shutdown(self) -> None:
        self.board.shutdown()


def test_a_procedure_runs_in_a_worker_and_leaves_a_table(server: TcpServer, tmp_path: Path):
    procedure = ReadRow(row=3)
    procedure.resource = resource(server)
    results = Results(procedure, str(tmp_path / "row.csv"))
    worker = Worker(results)
    worker.start()
    worker.join(timeout=30)
    assert not worker.is_alive() and procedure.status == Procedure.FINISHED
    kept = results.data
    assert kept["Column"].tolist() == [0, 1, 2, 3]
    assert (kept["Conductance (S)"] > 0.5 * HELD[3, :4]).all()
