"""However a host ends, and whenever: the rails are safe within the watchdog's time.

A host in a process of its own records a programming run over TCP, against an emulated board whose
programs take time. The board's wall clock goes on by 0.1 s with every access, and in leaps where
the test lets time pass, so that nothing here depends on the speed of a machine. Between host and
bridge is a relay: a host that loses power or its cable closes no connection, and the relay can keep
silent just so.
"""

from __future__ import annotations

import collections
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge import registers
from firmware_bridge.frames import Frame, FrameDecoder, Kind, encode
from firmware_bridge.server import TcpServer
from rram_host.records.run_file import RunFile
from sim.board import EmulatedBoard
from tests.paths.safe_rails_host import EXITS, RAISES, SPEC, T_S, Nursery
from tests.sim.guarded import gates_first
from tests.sim.programs import put, register

ENDS = 100
SEED = 11
PACE = 0.01  # a program of 6 ms lasts 0.6 s: twice as long as the watchdog waits
STEP_S = 0.1  # a host that polls says with every other access that it is alive
UNITS = 30
MOST = 60  # accesses, from the opening on, of which one is the last: three units or so
# From the instruction at hand when it is over: one of a few microseconds, and the safe program.
GRACE_S = 100e-6 / PACE
PROBE = Frame(Kind.READ, session=0x7E57, sequence=0, address=0, count=0)
WAYS = {
    "exception": RAISES,
    "SIGINT": signal.SIGINT,
    "SIGTERM": signal.SIGTERM,
    "SIGKILL": signal.SIGKILL,
    "os._exit": EXITS,
    "cut link": None,
}
WATCHDOG, KICK = registers.offset("WATCHDOG"), registers.offset("KICK")


class SteppingBoard:
    """The emulated board on a wall clock that goes on with every access, and a trap to spring."""

    def __init__(self) -> None:
        self.now_s, self.unguarded = 0.0, False
        self.set_trap(-1, lambda: None)
        self.board = EmulatedBoard("ideal", seed=3, spec=SPEC, pace=PACE, wall=lambda: self.now_s)
        cells = self.board.bench.cells
        cells.formed[:], cells.g[:] = True, 30e-6

    def set_trap(self, at: int, spring, kicks_only: bool = False) -> None:
        """Call something at the access number `at` from now on, or at such a KICK."""
        self.accesses, self._spring_at, self._spring = 0, at, spring
        self._kicks_only = kicks_only

    def _access(self, address: int) -> None:
        self.now_s += STEP_S
        if self._kicks_only and address != KICK:
            return
        self.accesses += 1
        if self.accesses == self._spring_at:
            self._spring()

    def read(self, address: int, count: int) -> np.ndarray:
        self._access(address)
        return self.board.read(address, count)

    def write(self, address: int, words: np.ndarray) -> None:
        self._access(address)
        self.board.write(address, words)
        if self.unguarded and address == WATCHDOG:
            put(self.board, "WATCHDOG", 0)

    def close(self) -> None:
        self.board.close()


class Relay:
    """Carries bytes between one host and the bridge, and may keep a dead host's line open."""

    def __init__(self, port: int) -> None:
        self._port, self.cut = port, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(30)
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}?timeout=5"
        self._threads: list[threading.Thread] = []
        self._ends: list[socket.socket] = []

    def connect(self, keeps_open: bool) -> None:
        """Wait for a host, and carry its bytes until it ends."""
        self.cut.clear()
        self._host, _ = self._listener.accept()
        self._host.setblocking(True)
        self._bridge = socket.create_connection(("127.0.0.1", self._port))
        self._ends = [self._host, self._bridge]
        self._probed, self._ended = threading.Event(), False
        for end in self._ends:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._threads = [
            threading.Thread(target=self._carry, args=(self._host, self._bridge, keeps_open)),
            threading.Thread(target=self._carry, args=(self._bridge, self._host, True)),
        ]
        for thread in self._threads:
            thread.start()

    def _carry(self, source: socket.socket, sink: socket.socket, keeps_open: bool) -> None:
        decoder = FrameDecoder()
        with suppress(OSError):  # hung up
            while data := source.recv(1 << 16):
                if any(frame.session == PROBE.session for frame in decoder.feed(data)):
                    self._probed.set()
                with suppress(OSError):  # replies to a dead host
                    if not self.cut.is_set():
                        sink.sendall(data)
        if not keeps_open and not self.cut.is_set():
            self._ended |= sink is self._bridge
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

    def all_is_answered(self) -> None:
        """Wait until the bridge has done all that was carried to it: it does one after another.

        Where the host's end was passed on, the bridge hangs up behind it; else it is asked for
        something that disturbs nothing, again after pauses in which it gives up half a frame.
        """
        if self._ended:
            self._threads[1].join(30)
            return
        for _ in range(12):
            self._bridge.sendall(encode(PROBE))
            if self._probed.wait(2.5):
                return
        raise AssertionError("the bridge does not answer")

    def host_is_gone(self) -> None:
        """Every byte that it has sent has been carried on."""
        self._threads[0].join(30)

    def hang_up(self) -> None:
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
        for end in self._ends:
            end.close()

    def close(self) -> None:
        self.hang_up()
        self._listener.close()


class Bench:
    """Board, bridge, relay, and hosts."""

    def __init__(self, nursery: Nursery) -> None:
        self.window, self._nursery = SteppingBoard(), nursery
        self.board = self.window.board
        self.server = TcpServer(self.window).start()
        self.relay = Relay(self.server.port)

    def run(self, path: Path, n_units: int = UNITS) -> int:
        """A host that nobody ends; its exit code."""
        self._nursery.host(self.relay.url, path, n_units)
        self.relay.connect(keeps_open=False)
        code = self._nursery.ended()
        self.hang_up()
        return code

    def ended(
        self, path: Path, way: str, access: int, keeps_open: bool, kicks_only: bool = False
    ) -> bool:
        """A host that is ended at an access; False where its run was over before."""
        sprung = threading.Event()
        self.pid = pid = self._nursery.host(self.relay.url, path, UNITS)

        def spring() -> None:
            if WAYS[way] is None:
                self.relay.cut.set()
            else:
                os.kill(pid, WAYS[way])
            sprung.set()

        self.window.set_trap(access, spring, kicks_only)
        self.relay.connect(keeps_open)
        if way == "cut link" and self._cut_or_over(sprung):
            return True
        code = self._nursery.ended()
        self.relay.host_is_gone()
        assert sprung.is_set() or code == 0, path.with_suffix(".txt").read_text("utf-8")
        return sprung.is_set()

    def _cut_or_over(self, sprung: threading.Event) -> bool:
        while not sprung.wait(0.01):
            if not self.relay._threads[0].is_alive():
                return False
        return True

    def time_passes(self, hung_up: bool) -> None:
        """Longer than the watchdog waits, once everything that the host has sent is done.

        A bridge that sees its writer hang up makes the rails safe by itself.
        """
        if hung_up:
            self._until_nobody_is_served()
        self.relay.all_is_answered()
        self.window.now_s += 2 * T_S

    def _until_nobody_is_served(self) -> None:
        until = time.monotonic() + 30
        while any(one.thread.is_alive() for one in self.server._connections):
            assert time.monotonic() < until, "the bridge serves a host that is gone"
            time.sleep(0.001)

    def hang_up(self, host_lives: bool = False) -> None:
        """End what is left of the link, and wait until the bridge has done with it."""
        if host_lives:
            os.kill(self.pid, signal.SIGKILL)
            self._nursery.ended()
        self.relay.hang_up()
        self._until_nobody_is_served()

    def close(self) -> None:
        self.relay.close()
        self.server.close()


@pytest.fixture(scope="module")
def nursery():
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def bench(nursery):
    made = Bench(nursery)
    yield made
    made.close()


def assert_safe(board: EmulatedBoard) -> None:
    truth = board.truth
    assert not truth.live
    assert truth.safe_since_s - truth.written_s <= T_S + GRACE_S
    for name, volts in truth.rails_v.items():
        if name[:2] in ("BL", "WL"):
            assert volts == 0.0, name
        elif name[:2] == "SL" and name[2:].isdigit():
            assert volts == 0.0 or np.isnan(volts), name
    assert gates_first(board)


def test_the_rails_are_safe_in_time_however_and_whenever_a_host_ends(bench, tmp_path):
    rng = np.random.default_rng(SEED)
    seen: collections.Counter[str] = collections.Counter()
    way_of = rng.permutation(np.arange(ENDS) % len(WAYS))
    while seen["ends"] < ENDS:
        path = tmp_path / f"{seen['runs']}.h5"
        way = list(WAYS)[way_of[seen["ends"]]]
        trips, keeps_open = register(bench.board, "WATCHDOG_TRIPS"), rng.random() < 0.75
        if not bench.ended(path, way, int(rng.integers(1, MOST)), keeps_open):
            seen["runs"] += 1
            bench.hang_up()
            assert RunFile(path).state.status == "done"
            continue
        bench.time_passes(hung_up=not keeps_open and way != "cut link")
        assert_safe(bench.board)
        seen["ends"] += 1
        seen[way] += 1
        seen["trips"] += register(bench.board, "WATCHDOG_TRIPS") - trips
        bench.hang_up(host_lives=way == "cut link")
    print(seen)
    assert all(seen[way] >= ENDS // len(WAYS) for way in WAYS)
    assert seen["trips"] > 5  # most others: the program, the host or the bridge was first
    assert bench.run(path) == 0
    state = RunFile(path).state
    assert (state.status, state.units) == ("done", UNITS)


def test_without_the_watchdog_a_killed_host_leaves_the_rails_live(bench, tmp_path):
    """What the test above would find if the device did not watch."""
    bench.window.unguarded = True
    assert bench.ended(tmp_path / "x.h5", "SIGKILL", 1, keeps_open=True, kicks_only=True)
    bench.relay.all_is_answered()
    bench.window.now_s += 1.1 * T_S
    truth = bench.board.truth
    assert register(bench.board, "WATCHDOG") == 0
    assert truth.live and bench.window.now_s - truth.written_s > T_S
    assert max(volts for name, volts in truth.rails_v.items() if name.startswith("WL")) > 3
    bench.hang_up()
