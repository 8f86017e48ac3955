"""The same job over every link: the same register accesses, and the same numbers bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from firmware_bridge.registers import WINDOW_BASE, WINDOW_BYTES
from firmware_bridge.server import PtyServer, TcpServer
from firmware_bridge.windows import PynqWindow
from rram_host import open_board
from rram_host.experiments import sample_lattice as lattice
from rram_host.flows import checkpoint
from rram_host.transports import Transport, open_transport
from rram_host.transports.mmio import MmioTransport
from sim import EmulatedBoard
from tests.pynq_device import EmulatedDevice


class Tap:
    """A window that notes every word that passes, whatever the size of the accesses."""

    def __init__(self, board: EmulatedBoard) -> None:
        self._board = board
        self._digest = hashlib.sha256()
        self.words = 0

    def _note(self, kind: bytes, address: int, words: Any) -> None:
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


@contextmanager
def in_process(tap: Tap) -> Iterator[Transport]:
    yield tap


@contextmanager
def serial_pty(tap: Tap) -> Iterator[Transport]:
    with PtyServer(tap) as server:
        yield open_transport(f"serial://{server.path}")


@contextmanager
def tcp_socket(tap: Tap) -> Iterator[Transport]:
    with TcpServer(tap) as server:
        yield open_transport(f"socket://127.0.0.1:{server.port}")


@contextmanager
def visa_socket(tap: Tap) -> Iterator[Transport]:
    with TcpServer(tap) as server:
        yield open_transport(f"visa://TCPIP::127.0.0.1::{server.port}::SOCKET")


@contextmanager
def pynq_mmio(tap: Tap) -> Iterator[Transport]:
    yield MmioTransport(PynqWindow(WINDOW_BASE, WINDOW_BYTES, EmulatedDevice(tap)))


def the_job(transport: Transport) -> dict[str, Any]:
    """Self-test, form, program a flow, read, multiply, sample: the main job at small size."""
    loaded = checkpoint.load(checkpoint.resolve("phi4_L4"))
    plan = lattice.SamplePlan(n=96, batch=64, lora_steps=3, read_average=2)
    with open_board(transport) as board:
        offsets = board.self_test().tia_offset_v
        deployment = lattice.program_flow(board, loaded, plan)
        twin = lattice.compensate(loaded, deployment, plan)
        deployed = lattice.deploy(twin, deployment, plan)
        draws = lattice.collect(lattice.draw(deployed.flow, loaded.action, plan), plan)
        voltages = np.random.default_rng(3).uniform(-0.1, 0.1, (40, 32))
        return {
            "offsets": offsets,
            "measured": deployment.measured_siemens,
            "pulses": deployment.report.pulses,
            "phi": draws.phi,
            "log_w": draws.log_w,
            "currents": board.array.vmm(voltages),
            "transactions": board.traffic.transactions,
            "board_time_s": board.board_time_s,
        }


@pytest.fixture(scope="module")
def reference() -> tuple[dict[str, Any], Tap, EmulatedBoard]:
    board = EmulatedBoard(preset="taox_180nm", seed=11)
    tap = Tap(board)
    with in_process(tap) as transport:
        return the_job(transport), tap, board


@pytest.mark.parametrize("link", [serial_pty, tcp_socket, visa_socket, pynq_mmio])
def test_every_link_gives_the_same_traffic_and_the_same_numbers(link: Any, reference: Any) -> None:
    expected, tap, board = reference
    other = EmulatedBoard(preset="taox_180nm", seed=11)
    other_tap = Tap(other)
    with link(other_tap) as transport:
        found = the_job(transport)
    for name, value in expected.items():
        assert np.array_equal(found[name], value), name
    assert other_tap.words == tap.words > 100_000
    assert other_tap.trace == tap.trace
    assert np.array_equal(other.truth.conductances_siemens, board.truth.conductances_siemens)
    assert np.array_equal(other.truth.pulses, board.truth.pulses)


def test_another_seed_gives_other_numbers(reference: Any) -> None:
    expected, _, _ = reference
    with in_process(Tap(EmulatedBoard(preset="taox_180nm", seed=12))) as transport:
        found = the_job(transport)
    assert not np.array_equal(found["measured"], expected["measured"])
