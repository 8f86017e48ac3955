"""The same job over every link: the same register accesses, and the same numbers bit for bit.

Over RFC 2217 and VISA's serial ports, whose libraries take some 50 kB/s, it is the first half of
the job, compared with the same half in process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_bridge.agent import Agent
from firmware_bridge.hislip import HislipServer
from firmware_bridge.recording import Recorder
from firmware_bridge.registers import WINDOW_BASE, WINDOW_BYTES
from firmware_bridge.server import PtyServer, TcpServer
from firmware_bridge.windows import OverlayWindow, PynqWindow
from rram_host import Board, open_board
from rram_host.analog.deploy import Deployment
from rram_host.experiments import sample_lattice as lattice
from rram_host.experiments.deploy_flow import compensate, deploy, program_flow
from rram_host.flows import checkpoint
from rram_host.transports import Transport, open_transport
from rram_host.transports.mmio import MmioTransport
from rram_host.transports.overheard import Overheard
from sim import EmulatedBoard
from tests.doubles import Rfc2217Server
from tests.pynq_device import EmulatedDevice, ZynqDevice, overlay_files

FLOW = "phi4_L4"


class Tap:
    """A window that notes every word that passes, whatever the size of the accesses."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._digest = hashlib.sha256()
        self.words = self.calls = 0

    def _note(self, kind: bytes, address: int, words: Any) -> None:
        self.calls += 1
        for index, word in enumerate(np.asarray(words, dtype=np.uint32).tolist()):
            self._digest.update(kind + (address + 4 * index).to_bytes(4, "little"))
            self._digest.update(word.to_bytes(4, "little"))
            self.words += 1

    def read(self, address: int, count: int) -> Any:
        words = self._board.read(address, count)
        self._note(b"r", address, words)
        return words

    def write(self, address: int, words: Any) -> None:
        self._note(b"w", address, words)
        self._board.write(address, words)

    def close(self) -> None:
        self._board.close()

    @property
    def trace(self) -> str:
        return self._digest.hexdigest()


# ---- links ----------------------------------------------------------------------------------


@contextmanager
def serial_pty(tap: Tap, _: Path) -> Iterator[Transport]:
    with PtyServer(tap) as server:
        yield open_transport(f"serial://{server.path}")


@contextmanager
def tcp_socket(tap: Tap, _: Path) -> Iterator[Transport]:
    with TcpServer(tap) as server:
        yield open_transport(f"socket://127.0.0.1:{server.port}")


@contextmanager
def rfc2217(tap: Tap, _: Path) -> Iterator[Transport]:
    with PtyServer(tap) as pty, Rfc2217Server(pty.path) as remote:
        yield open_transport(f"rfc2217://127.0.0.1:{remote.port}?baud=4000000")


@contextmanager
def visa_socket(tap: Tap, _: Path) -> Iterator[Transport]:
    with TcpServer(tap) as server:
        yield open_transport(f"visa://TCPIP::127.0.0.1::{server.port}::SOCKET")


@contextmanager
def visa_serial(tap: Tap, _: Path) -> Iterator[Transport]:
    with PtyServer(tap) as server:
        yield open_transport(f"visa://ASRL{server.path}::INSTR?baud=4000000")


@contextmanager
def visa_hislip(tap: Tap, _: Path) -> Iterator[Transport]:
    with HislipServer(Agent(tap), port=0) as server:
        yield open_transport(f"visa://TCPIP::127.0.0.1::hislip0,{server.port}::INSTR")


@contextmanager
def pynq_mmio(tap: Tap, _: Path) -> Iterator[Transport]:
    yield MmioTransport(PynqWindow(WINDOW_BASE, WINDOW_BYTES, EmulatedDevice(tap)))


@contextmanager
def pynq_overlay(tap: Tap, folder: Path) -> Iterator[Transport]:
    yield MmioTransport(OverlayWindow(overlay_files(folder), device=ZynqDevice(tap)))


FAST = [serial_pty, tcp_socket, visa_socket, visa_hislip, pynq_mmio, pynq_overlay]
SLOW = [
    # pyserial's RFC 2217 client names its threads in an old way
    pytest.param(
        rfc2217, marks=pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")
    ),
    visa_serial,
]


# ---- the job --------------------------------------------------------------------------------


Found = dict[str, Any]


def program(board: Board, plan: lattice.SamplePlan) -> tuple[Found, Deployment]:
    """Self-test, form, program a flow, read, multiply: the first half of the main job."""
    offsets = board.self_test().tia_offset_v
    loaded = checkpoint.load(checkpoint.resolve(FLOW))
    (deployment,) = program_flow([board], loaded, plan)
    voltages = np.random.default_rng(3).uniform(-0.1, 0.1, (40, 32))
    found = {
        "offsets": offsets,
        "measured": deployment.measured_siemens,
        "pulses": deployment.report.pulses,
        "currents": board.array.vmm(voltages),
    }
    return found, deployment


def sample(board: Board, deployment: Deployment, plan: lattice.SamplePlan) -> Found:
    """Sample with the flow that was programmed: the second half."""
    loaded = checkpoint.load(checkpoint.resolve(FLOW))
    twin = compensate(loaded, [deployment], plan)
    deployed = deploy(twin, [deployment], plan)
    draws = lattice.collect(lattice.draw(deployed.flow, loaded.action, plan), plan)
    return {"phi": draws.phi, "log_w": draws.log_w}


def the_job(transport: Transport, whole: bool) -> Found:
    """The main job at small size, or the first half of it."""
    plan = lattice.SamplePlan(n=96, batch=64, lora_steps=3, read_average=2)
    with open_board(transport) as board:
        found, deployment = program(board, plan)
        if whole:
            found |= sample(board, deployment, plan)
        traffic = {"transactions": board.traffic.transactions, "board_time_s": board.board_time_s}
        return found | traffic


class Reference:
    """The job in process, recorded."""

    def __init__(self, folder: Path, whole: bool) -> None:
        self.whole = whole
        self.board = EmulatedBoard(preset="taox_180nm", seed=11)
        self.recording = folder / "job.jsonl"
        self.tap = Tap(Recorder(self.board, self.recording))
        self.found = the_job(self.tap, whole)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(tmp_path_factory.mktemp("whole"), True)


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(tmp_path_factory.mktemp("half"), False)


def check_same(found: dict[str, Any], tap: Tap, reference: Reference) -> None:
    for name, value in reference.found.items():
        assert np.array_equal(found[name], value), name
    assert tap.words == reference.tap.words > 100_000
    assert tap.trace == reference.tap.trace


def check_link(link: Any, reference: Reference, folder: Path) -> None:
    board = EmulatedBoard(preset="taox_180nm", seed=11)
    tap = Tap(board)
    with link(tap, folder) as transport:
        found = the_job(transport, reference.whole)
    check_same(found, tap, reference)
    truth, expected = board.truth, reference.board.truth
    assert np.array_equal(truth.conductances_siemens, expected.conductances_siemens)
    assert np.array_equal(truth.pulses, expected.pulses)


@pytest.mark.parametrize("link", FAST)
def test_every_link_gives_the_same_traffic_and_the_same_numbers(
    link: Any, reference: Reference, tmp_path: Path
) -> None:
    check_link(link, reference, tmp_path)


@pytest.mark.parametrize("link", SLOW)
def test_every_slow_link_does_for_half_of_the_job(
    link: Any, half: Reference, tmp_path: Path
) -> None:
    check_link(link, half, tmp_path)


def test_a_recording_gives_the_same_traffic_and_the_same_numbers(reference: Reference) -> None:
    replay = open_transport(f"replay://{reference.recording}")
    tap = Tap(replay)
    check_same(the_job(tap, True), tap, reference)
    assert replay.finished


def test_another_seed_gives_other_numbers(half: Reference) -> None:
    found = the_job(Tap(EmulatedBoard(preset="taox_180nm", seed=12)), False)
    assert not np.array_equal(found["measured"], half.found["measured"])


# ---- few transactions -----------------------------------------------------------------------


@contextmanager
def in_process(tap: Tap, _: Path) -> Iterator[Transport]:
    yield tap


PRODUCTS = 4096


@pytest.mark.parametrize("link", [in_process, *FAST, *SLOW])
def test_a_batch_of_4096_products_is_a_handful_of_transactions(
    link: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by the driver, on the line and at the board."""
    sent: list[bytes] = []
    write = Overheard.write

    def noted(stream: Overheard, data: bytes) -> None:
        sent.append(data)
        write(stream, data)

    monkeypatch.setattr(Overheard, "write", noted)
    tap = Tap(EmulatedBoard(preset="ideal", seed=11))
    voltages = np.random.default_rng(3).uniform(-0.1, 0.1, (PRODUCTS, 32))
    with link(tap, tmp_path) as transport, open_board(transport) as board:
        board.array.vmm(voltages[:1])  # measures offsets, too
        before, calls = board.traffic.transactions, tap.calls
        sent.clear()
        currents = board.array.vmm(voltages)
        assert board.traffic.transactions - before <= 8
        assert len(sent) - getattr(transport, "resent", 0) <= 20
        if link not in (pynq_mmio, pynq_overlay):  # whose emulated devices are read word by word
            # A frame holds 64 KiB, table and results have 256 KiB each.
            assert tap.calls - calls <= 20
    assert currents.shape == (PRODUCTS, 32)
