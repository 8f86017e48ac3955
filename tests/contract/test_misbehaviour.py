"""Clients that misbehave: none of them stops the bridge, or another client."""

import contextlib
import select
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge import dac_check, registers
from firmware_bridge.fair_lock import FairLock
from firmware_bridge.frames import MAX_WORDS, Frame, FrameDecoder, Kind, encode
from firmware_bridge.server import MAX_CLIENTS, PtyServer, TcpServer
from firmware_bridge.text import scpi
from rram_host.errors import LinkError
from rram_host.transports import open_transport
from sim.board import EmulatedBoard
from tests.doubles import MemoryWindow
from tests.held_board import HeldBoard
from tests.sockets import ask_text, connected, eventually, line_of

SCRATCH = registers.offset("SCRATCH")


class Sound:
    """A host that must be answered, whatever others do."""

    def __init__(self, server):
        self.link, self.n = open_transport(server.url), 0

    def check(self, times=3):
        for _ in range(times):
            self.n += 1
            self.link.write(SCRATCH, np.array([self.n], dtype=np.uint32))
            assert self.link.read(SCRATCH, 1)[0] == self.n

    def close(self):
        self.link.close()


@pytest.fixture
def served():
    with TcpServer(MemoryWindow()) as server:
        sound = Sound(server)
        yield server, sound
        sound.check()
        assert sound.link.strays == 0
        sound.close()


HELLO = encode(Frame(Kind.READ, 9, 0, 0, 0))
BIG = Frame(Kind.READ, 9, 0, registers.TABLE.offset, MAX_WORDS)


def first_sequence(client):
    """Opens session 9; the sequence of its first request."""
    client.sendall(HELLO)
    decoder, found = FrameDecoder(), []
    while not found:
        found = decoder.feed(client.recv(4096))
    return int(found[0].words[0])


def send_for_a_while(client, data, pieces, sound):
    """Send without reading, as far as the other end takes it; the sound host asks meanwhile."""
    client.setblocking(False)
    for _ in range(pieces):
        left = memoryview(data)
        while left:
            _, ready, _ = select.select([], [client], [], 0.02)
            if not ready:
                break
            left = left[client.send(left) :]
        sound.check(1)


@pytest.mark.parametrize(
    ("piece", "times"),
    [(b"\x55", 160), (b"A", 160), (b"\0", 16), (b"A\n", 16), (b"#9", 16)],
    ids=["noise", "text", "zeros", "lines", "blocks"],
)
def test_megabytes_of_anything_stop_nobody(served, piece, times):
    """10 MiB without any border; less of what is slower to look at."""
    server, sound = served
    with connected(server.port) as flood:
        send_for_a_while(flood, (piece * 65536)[:65536], times, sound)
        sound.check()


def test_a_flood_of_requests_leaves_room_for_others(served):
    """Valid frames, as fast as they go, answered and read."""
    server, sound = served
    stop = threading.Event()
    counts = []

    def flood():
        with connected(server.port) as client:
            sequence = first_sequence(client)
            decoder, answered = FrameDecoder(), 0
            request = Frame(Kind.READ, 9, sequence, SCRATCH, 1)
            while not stop.is_set():
                client.sendall(encode(request) * 100)
                wanted = answered + 100
                while answered < wanted:
                    answered += len(decoder.feed(client.recv(65536)))
            counts.append(answered)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        sound.check(50)
    finally:
        stop.set()
        thread.join()
    assert counts[0] > 0


def test_one_that_never_reads_its_answers_is_hung_up_on(served, monkeypatch):
    monkeypatch.setattr("firmware_bridge.streams.STUCK_S", 0.2)
    server, sound = served
    threads = threading.active_count()
    with connected(server.port) as client:
        sequence = first_sequence(client)
        request = encode(Frame(Kind.READ, 9, sequence, registers.TABLE.offset, MAX_WORDS))
        with contextlib.suppress(OSError):  # hung up already
            send_for_a_while(client, request * 1000, 3, sound)
        eventually(lambda: threading.active_count() <= threads)
        sound.check()


def test_half_frames_and_ends_in_mid_frame_harm_nobody(served):
    server, sound = served
    wire = encode(Frame(Kind.WRITE, 9, 1, SCRATCH, 1, bytes(4)))
    for cut in range(1, len(wire), 3):
        with connected(server.port) as client:
            client.sendall(HELLO + wire[:cut])
        sound.check(1)


def test_a_hundred_connections_do_not_keep_the_next_one_out(served):
    server, sound = served
    threads = threading.active_count()
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connected(server.port))
        sound.check()
        assert ask_text(server.port, b"SYST:VERS?\n") == b"1999.0\n"
        assert threading.active_count() <= threads + MAX_CLIENTS
        sound.check()


def test_clients_that_have_spoken_are_not_pushed_out(served):
    server, sound = served
    sound.check()
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(server.port)) for _ in range(MAX_CLIENTS - 1)]
        for client in clients:
            client.sendall(b"SYST:VERS?\n")
            assert line_of(client) == b"1999.0\n"
        with connected(server.port) as late:
            assert late.recv(1) == b"", "hung up on"
        for client in clients:
            client.sendall(b"SYST:VERS?\n")
            assert line_of(client) == b"1999.0\n"
    eventually(lambda: ask_text(server.port, b"SYST:VERS?\n") == b"1999.0\n")


def test_readers_that_only_hold_a_place_make_room_after_a_while(served, monkeypatch):
    server, sound = served
    with ExitStack() as stack:
        for _ in range(MAX_CLIENTS - 1):
            client = stack.enter_context(connected(server.port))
            client.sendall(b"SYST:VERS?\n")
            assert line_of(client) == b"1999.0\n"
        monkeypatch.setattr("firmware_bridge.server.IDLE_S", 0.0)
        sound.check(1)
        for _ in range(2 * MAX_CLIENTS):
            assert ask_text(server.port, b"SYST:VERS?\n") == b"1999.0\n"
        sound.check(1)


def test_one_that_resets_its_connection_harms_nobody(served):
    server, sound = served
    for _ in range(5):
        with connected(server.port) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.sendall(HELLO * 50)
        sound.check(1)


def test_a_board_that_fails_is_answered_for_and_served_on():
    class Moody(MemoryWindow):
        def read(self, address, count):
            if address == SCRATCH + 4:
                raise RuntimeError("bus error")
            return super().read(address, count)

    with TcpServer(Moody()) as server:
        one, two = open_transport(server.url), open_transport(server.url)
        for _ in range(3):
            with pytest.raises(LinkError, match="bus error"):
                one.read(SCRATCH + 4, 1)
            assert two.read(SCRATCH, 1)[0] == 0
        one.close()
        two.close()


def test_too_many_wrong_keys_and_the_line_is_deaf_for_a_while(monkeypatch):
    monkeypatch.setattr("firmware_bridge.streams.LOCKED_S", 0.2)
    server = PtyServer(MemoryWindow(), key=b"k" * 32)
    with server, Path(server.path).open("r+b", buffering=0) as line:
        line.write(b"SYST:AUTH 'aa'\n" * 3)

        def answered():
            line.write(b"*IDN?\n")
            ready, _, _ = select.select([line], [], [], 0.05)
            return ready

        eventually(answered)
        assert line.read(4).startswith(b"RRAM")


def test_the_lock_is_given_in_the_order_of_coming():
    """Whoever comes back at once stands behind those who waited."""
    lock, order = FairLock(), []

    def wait(number):
        with lock:
            order.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(4)]
    with lock:
        for number, thread in enumerate(threads):
            thread.start()
            eventually(lambda number=number: len(lock._waiting) == number + 1)
    with lock:
        order.append("again")
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, "again"]


def test_one_that_hangs_up_while_it_waits_does_not_keep_its_program_going():
    held = HeldBoard(EmulatedBoard(preset="ideal", seed=7))
    program = dac_check.readback_program(held.spec)
    block = scpi.block(program.words().astype("<u4").tobytes())
    with TcpServer(held) as server:
        with connected(server.port) as client:
            client.sendall(b"*RST;*OPC?\n")
            assert line_of(client) == b"1\n"
            held.hold()
            client.sendall(b"PROG:LOAD " + block + b";RUN;*OPC?\n")
            eventually(lambda: held.kicks)
        eventually(lambda: not server.agent.writer)
        assert held.read(registers.offset("STATUS"), 1)[0] & registers.STATUS_BUSY == 0
