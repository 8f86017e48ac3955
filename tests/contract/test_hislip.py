"""HiSLIP: the real PyVISA, and raw sockets by the numbers of IVI-6.1."""

import contextlib
import hmac
import socket
import struct
import threading
import time

import numpy as np
import pytest
import pyvisa

from firmware_bridge import dac_check, registers
from firmware_bridge.agent import Agent
from firmware_bridge.errors import InputError
from firmware_bridge.frames import Frame, FrameDecoder, Kind, encode
from firmware_bridge.hislip import MAX_CLIENTS, HislipServer
from firmware_bridge.hislip.locks import ERROR, FAILURE, SUCCESS, SUCCESS_SHARED, Locks
from firmware_bridge.text import scpi
from sim.board import EmulatedBoard
from tests.doubles import MemoryWindow
from tests.held_board import HeldBoard

# Numbers of the standard, literally.
INITIALIZE, INITIALIZE_RESPONSE, FATAL, ERROR_MESSAGE, LOCK, LOCK_RESPONSE = 0, 1, 2, 3, 4, 5
DATA, DATA_END, CLEAR_COMPLETE, CLEAR_ACKNOWLEDGE, REMOTE, REMOTE_RESPONSE = 6, 7, 8, 9, 10, 11
TRIGGER, INTERRUPTED, ASYNC_INTERRUPTED, MAX_SIZE, MAX_SIZE_RESPONSE = 12, 13, 14, 15, 16
ASYNC_INITIALIZE, ASYNC_INITIALIZE_RESPONSE, ASYNC_CLEAR = 17, 18, 19
STATUS, STATUS_RESPONSE, ASYNC_CLEAR_ACKNOWLEDGE, LOCK_INFO, LOCK_INFO_RESPONSE = 21, 22, 23, 24, 25


class Raw:
    """One connection, message by message."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(30)

    def send(self, kind, control=0, parameter=0, payload=b""):
        header = struct.pack("!2sBBIQ", b"HS", kind, control, parameter, len(payload))
        self.socket.sendall(header + payload)

    def receive(self):
        """(type, control, parameter, payload), or None where the server has hung up."""
        header = self._exactly(16)
        if header is None:
            return None
        prologue, kind, control, parameter, size = struct.unpack("!2sBBIQ", header)
        assert prologue == b"HS"
        return kind, control, parameter, self._exactly(size)

    def ask(self, *message):
        self.send(*message)
        return self.receive()

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            with contextlib.suppress(ConnectionResetError):
                piece = self.socket.recv(size - len(data))
                if piece:
                    data += piece
                    continue
            return None
        return data

    def close(self):
        self.socket.close()


class RawClient:
    """Both connections of a client."""

    def __init__(self, port, vendor=b"ZZ"):
        self.data, self.news = Raw(port), Raw(port)
        version_vendor = 0x0100 << 16 | int.from_bytes(vendor, "big")
        found = self.data.ask(INITIALIZE, 0, version_vendor, b"hislip0")
        assert found[:2] == (INITIALIZE_RESPONSE, 0) and found[2] >> 16 == 0x0100
        self.number = found[2] & 0xFFFF
        assert self.news.ask(ASYNC_INITIALIZE, 0, self.number)[0] == ASYNC_INITIALIZE_RESPONSE
        self.id, self.has_answer = 0xFFFF_FF00, False

    def write(self, text, delivered=None):
        sent, said = self.id, self.has_answer if delivered is None else delivered
        self.data.send(DATA_END, int(said), sent, text)
        self.has_answer = False
        self.id = (self.id + 2) & 0xFFFF_FFFF
        return sent

    def query(self, text):
        sent = self.write(text)
        kind, _, number, payload = self.data.receive()
        assert (kind, number) == (DATA_END, sent)
        self.has_answer = True
        return payload

    def stb(self, delivered=False):
        kind, stb, _, _ = self.news.ask(STATUS, int(delivered), self.id)
        assert kind == STATUS_RESPONSE
        return stb

    def close(self):
        self.data.close()
        self.news.close()


@contextlib.contextmanager
def serving(board, key=None):
    before = threading.enumerate()
    with HislipServer(Agent(board), port=0, key=key) as server:
        yield server
    assert [thread for thread in threading.enumerate() if thread not in before] == []


@contextlib.contextmanager
def raw(server, *args):
    client = RawClient(server.port, *args)
    try:
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def visa(server, timeout_ms=30_000):
    manager = pyvisa.ResourceManager("@py")
    resource = manager.open_resource(f"TCPIP::127.0.0.1::hislip0,{server.port}::INSTR")
    resource.timeout = timeout_ms
    try:
        yield resource
    finally:
        resource.close()
        manager.close()


@pytest.fixture(scope="module")
def ideal():
    with serving(EmulatedBoard(preset="ideal", seed=7)) as server:
        yield server


# ---- PyVISA -------------------------------------------------------------------------------------


def test_a_plain_visa_program(ideal):
    with visa(ideal) as board:
        assert board.query("*IDN?").count(",") == 3
        assert float(board.query("READ? 3,4")) == pytest.approx(0, abs=1e-7)
        g = board.query_binary_values("READ:ARR?", container=np.array)
        assert g.shape == (1024,)
        volts = np.full((4096, 32), 0.05, "<f4")  # in messages of VISA's default size
        board.write_binary_values("VMM? ", volts.ravel(), datatype="f")
        assert len(board.read_binary_values()) == 4096 * 32
        assert board.read_stb() == 0
        assert board.query("SYST:ERR?").startswith('0,"No error"')


def test_a_late_answer_is_never_taken_for_the_next():
    held = HeldBoard(EmulatedBoard(preset="ideal", seed=7))
    program = dac_check.readback_program(held.spec).words().astype("<u4").tobytes()
    with serving(held) as server, visa(server) as board:
        board.write("*RST;*CLS")
        board.write_raw(b"PROG:LOAD " + scpi.block(program))
        assert board.query("*OPC?") == "1\n"
        held.hold()
        board.write("PROG:RUN")
        board.timeout = 200
        with pytest.raises(pyvisa.VisaIOError, match="Timeout"):
            board.query("*OPC?")
        held.release()
        board.timeout = 30_000
        assert board.query("REG? IDENT") == f"{registers.IDENTITY}\n"
        assert board.query("PROG:STAT?").startswith("DONE,32")
        assert board.read_stb() & 4
        assert board.query("SYST:ERR?").startswith("-410")


def test_device_clear_breaks_off_the_waiting():
    held = HeldBoard(EmulatedBoard(preset="ideal", seed=7))
    program = dac_check.readback_program(held.spec).words().astype("<u4").tobytes()
    with serving(held) as server, visa(server) as board:
        board.write_raw(b"*RST;:PROG:LOAD " + scpi.block(program))
        assert board.query("*OPC?") == "1\n"
        held.hold()
        board.write("PROG:RUN")
        board.write("*OPC?")
        kicks = held.kicks
        held.until(lambda: held.kicks > kicks)
        board.clear()
        assert board.query("REG? IDENT") == f"{registers.IDENTITY}\n"
        assert "RUNNING" in board.query("PROG:STAT?")
        held.release()
        assert "DONE" in board.query("*WAI;:PROG:STAT?")
        board.clear()
        assert board.query("SYST:ERR?").startswith("-365")


# ---- by the numbers -----------------------------------------------------------------------------


def test_text_needs_no_newline_and_blocks_may_end_with_one(ideal):
    with raw(ideal) as client:
        assert client.query(b"REG? IDENT") == client.query(b"REG? IDENT\n")
        client.write(b"REG SCRATCH," + scpi.block(b"\x01\x02\x03\n"))
        assert client.query(b"REG? SCRATCH\r\n") == b"%d\n" % 0x0A030201
        client.write(b"REG SCRATCH,#18abc")  # the block never ends, but the message does
        assert client.query(b"*IDN?").count(b",") == 3
        assert client.query(b"SYST:ERR?").startswith(b"-161")
        client.write(b"SAFE")


def test_frames_go_through_as_they_are(ideal):
    with raw(ideal) as client:
        decoder = FrameDecoder()
        (hello,) = decoder.feed(client.query(encode(Frame(Kind.READ, 5, 0, 0, 0))))
        first = int(hello.words[0])
        reads = [encode(Frame(Kind.READ, 5, first + at, 0, 1)) for at in range(2)]
        replies = decoder.feed(client.query(b"".join(reads)))
        assert [reply.kind for reply in replies] == [Kind.REPLY, Kind.REPLY]
        assert replies[1].words[0] == registers.IDENTITY


def test_messages_in_pieces_both_ways(ideal):
    with raw(ideal) as client:
        size = struct.pack("!Q", 1000)
        kind, _, _, ours = client.news.ask(MAX_SIZE, 0, 0, size)
        assert (kind, struct.unpack("!Q", ours)[0]) == (MAX_SIZE_RESPONSE, 1 << 20)
        for at, piece in enumerate([b"REG? TA", b"BLE,", b"1000"]):
            client.data.send(DATA_END if at == 2 else DATA, 1, 100 + at, piece)
        kinds, data = [], b""
        while not kinds or kinds[-1] != DATA_END:
            kind, _, number, payload = client.data.receive()
            assert number == 102 and len(payload) <= 1000 - 16
            kinds.append(kind)
            data += payload
        assert data[:6] == b"#44000" and len(data) == 4007
        assert kinds == [DATA] * 4 + [DATA_END]


def test_an_unread_answer_is_interrupted_on_both_connections(ideal):
    with raw(ideal) as client:
        first = client.write(b"REG? IDENT", delivered=True)
        client.data.receive()
        second = client.write(b"*IDN?", delivered=False)
        assert client.data.receive()[:3] == (INTERRUPTED, 0, second)
        assert client.news.receive()[:3] == (ASYNC_INTERRUPTED, 0, second)
        kind, _, number, _ = client.data.receive()
        assert (kind, number) == (DATA_END, second) and second != first
        client.has_answer = True
        assert client.query(b"SYST:ERR?").startswith(b"-410")
        assert client.query(b"SYST:ERR?").startswith(b"0,")


def test_status_queries(ideal):
    with raw(ideal) as client:
        assert client.stb() == 0
        client.write(b"REG? IDENT", delivered=True)
        client.data.receive()
        assert client.stb() == 16  # the client has not said that it has the answer
        assert client.stb(delivered=True) == 0
        client.write(b"NONSENSE;:REG? IDENT")
        client.query(b"*ESE 32;*STB?")
        assert client.stb(delivered=True) == 4 | 32


def test_device_clear_by_the_numbers(ideal):
    with raw(ideal) as client:
        client.data.send(DATA, 0, 2, b"REG SCRATCH,")
        assert client.news.ask(ASYNC_CLEAR)[:2] == (ASYNC_CLEAR_ACKNOWLEDGE, 0)
        client.data.send(DATA_END, 0, 4, b"77")  # on its way meanwhile: dropped
        assert client.data.ask(CLEAR_COMPLETE, 0)[:2] == (CLEAR_ACKNOWLEDGE, 0)
        assert client.query(b"*IDN?").count(b",") == 3


def test_trigger_and_remote_control(ideal):
    with raw(ideal) as client:
        client.data.send(TRIGGER, 0, client.id)
        assert client.query(b"SYST:ERR?").startswith(b"-211")
        assert client.news.ask(REMOTE, 1, 0)[0] == REMOTE_RESPONSE


def test_unknown_messages_are_refused_and_passed_over(ideal):
    with raw(ideal) as client:
        assert client.data.ask(26)[:2] == (ERROR_MESSAGE, 1)
        assert client.data.ask(200, 0, 0, b"abc")[:2] == (ERROR_MESSAGE, 3)
        assert client.news.ask(99)[:2] == (ERROR_MESSAGE, 1)
        assert client.data.ask(DATA_END, 0, 0, bytes((1 << 20) + 1))[:2] == (ERROR_MESSAGE, 4)
        assert client.query(b"SYST:ERR?").startswith(b"-363")


def test_a_request_in_too_many_pieces_is_dropped(ideal):
    with raw(ideal) as client:
        for _ in range(3):
            client.data.send(DATA, 0, 0, b"x" * (1 << 20))
        client.write(b"*IDN?")
        assert client.query(b"SYST:ERR?").startswith(b"-363")


# ---- locks --------------------------------------------------------------------------------------


def test_an_exclusive_lock_holds_others_up_but_not_safe(ideal):
    with raw(ideal) as one, raw(ideal) as two:
        assert one.news.ask(LOCK, 1, 0, b"")[:2] == (LOCK_RESPONSE, 1)
        assert two.news.ask(LOCK_INFO)[1:3] == (1, 1)
        assert two.news.ask(LOCK, 1, 50, b"")[:2] == (LOCK_RESPONSE, 0)
        assert one.news.ask(LOCK, 1, 0, b"")[:2] == (LOCK_RESPONSE, 3)
        two.write(b"safe\n")
        two.write(b"REG? IDENT")
        assert one.query(b"*IDN?").count(b",") == 3
        assert one.news.ask(LOCK, 0, 0)[:2] == (LOCK_RESPONSE, 1)
        assert two.data.receive()[0] == DATA_END
        assert one.news.ask(LOCK, 0, 0)[:2] == (LOCK_RESPONSE, 3)


def test_a_lock_ends_with_its_holder(ideal):
    with raw(ideal) as two:
        with raw(ideal) as one:
            assert one.news.ask(LOCK, 1, 0, b"")[1] == 1
            two.write(b"REG? IDENT")
        assert two.data.receive()[0] == DATA_END


def test_rules_of_locks():
    locks, never = Locks(), lambda: False
    assert locks.acquire(1, b"k", 0, never) == SUCCESS
    assert locks.acquire(2, b"k", 0, never) == SUCCESS
    assert locks.acquire(3, b"other", 0, never) == FAILURE
    assert locks.acquire(3, b"", 0, never) == FAILURE
    assert (locks.may_act(2), locks.may_act(3)) == (True, False)
    assert locks.acquire(2, b"", 0, never) == SUCCESS  # alone, within the shared lock
    assert (locks.may_act(1), locks.holders) == (False, (True, 2))
    assert [locks.release(2), locks.release(2), locks.release(2)] == [
        SUCCESS,
        SUCCESS_SHARED,
        ERROR,
    ]
    locks.forget(1)
    assert locks.may_act(3) and locks.holders == (False, 0)


# ---- who does not behave ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([b"GET / HTTP/1.1\r\n\r\n"], 1),
        ([struct.pack("!2sBBIQ", b"HS", DATA_END, 0, 0, 0)], 3),
        ([struct.pack("!2sBBIQ", b"HS", ASYNC_INITIALIZE, 0, 54321, 0)], 3),
        (
            [
                struct.pack("!2sBBIQ", b"HS", INITIALIZE, 0, 0x01000000, 7) + b"hislip0",
                struct.pack("!2sBBIQ", b"HS", DATA_END, 0, 0, 5) + b"*IDN?",
            ],
            2,
        ),
    ],
)
def test_what_is_no_hislip_is_hung_up_on(ideal, messages, code):
    with raw(ideal) as good:
        bad = Raw(ideal.port)
        for message in messages:
            bad.socket.sendall(message)
        found = bad.receive()
        if found[0] == INITIALIZE_RESPONSE:
            found = bad.receive()
        assert found[:2] == (FATAL, code)
        assert bad.receive() is None
        bad.close()
        assert good.query(b"*IDN?").count(b",") == 3


def test_a_header_that_promises_much_costs_nothing(ideal):
    with raw(ideal) as good, raw(ideal) as bad:
        bad.data.socket.sendall(struct.pack("!2sBBIQ", b"HS", DATA, 0, 0, 1 << 60) + b"x" * 1000)
        assert bad.data.receive()[:2] == (ERROR_MESSAGE, 4)
        assert good.query(b"*IDN?").count(b",") == 3


def test_garbage_harms_nobody_else():
    rng = np.random.default_rng(5)
    with serving(MemoryWindow()) as server, raw(server) as good:
        for _ in range(40):
            bad = Raw(server.port)
            size = int(rng.integers(0, 200))
            other, control, parameter = (int(value) for value in rng.integers(0, 40, 3))
            for kind in (INITIALIZE, other):  # a good beginning, more often than not
                if rng.random() < 0.7:
                    with contextlib.suppress(OSError):
                        bad.send(kind, control, parameter << 16, rng.bytes(size))
            with contextlib.suppress(OSError):
                bad.socket.sendall(rng.bytes(size))
            bad.close()
            assert good.query(b"REG? IDENT") == b"0\n"


def test_a_hundred_connections_harm_nobody_else():
    with serving(MemoryWindow()) as server, raw(server) as good:
        idle = [Raw(server.port) for _ in range(100)]
        assert good.query(b"REG? IDENT") == b"0\n"
        for one in idle:
            one.close()


def test_the_key_comes_first():
    key = bytes(range(32))
    with serving(MemoryWindow(), key) as server, raw(server) as client:
        client.write(b"REG? IDENT")
        assert client.query(b"SYST:ERR?").startswith(b"-203")
        nonce = bytes.fromhex(client.query(b"SYST:AUTH?").decode())
        digest = hmac.digest(key, b"text" + nonce, "sha256").hex().encode()
        client.write(b"SYST:AUTH " + digest)
        assert client.query(b"REG? IDENT") == b"0\n"
        with raw(server) as other:
            for _ in range(3):
                other.write(b"SYST:AUTH " + b"0" * 64)
            assert other.data.receive() is None
        assert client.query(b"REG? IDENT") == b"0\n"


def sign_on(client, key):
    nonce = bytes.fromhex(client.query(b"SYST:AUTH?").decode())
    client.write(b"SYST:AUTH " + hmac.digest(key, b"text" + nonce, "sha256").hex().encode())


def test_without_the_key_nobody_locks_others_out():
    key = bytes(range(32))
    with serving(MemoryWindow(), key) as server, raw(server) as good, raw(server) as bad:
        assert bad.news.ask(LOCK, 1, 0)[:2] == (LOCK_RESPONSE, FAILURE)
        assert bad.news.ask(LOCK, 1, 0, b"shared")[:2] == (LOCK_RESPONSE, FAILURE)
        assert good.query(b"*IDN?").count(b",") == 3
        sign_on(good, key)
        assert good.query(b"SYST:ERR?").startswith(b"0,")
        assert good.news.ask(LOCK, 1, 0)[:2] == (LOCK_RESPONSE, SUCCESS)


def test_clients_without_the_key_make_room_for_others():
    key = bytes(range(32))
    with serving(MemoryWindow(), key) as server, raw(server) as good:
        sign_on(good, key)
        strangers = [RawClient(server.port) for _ in range(MAX_CLIENTS + 3)]
        assert good.query(b"REG? IDENT") == b"0\n"
        assert strangers[0].data.receive() is None
        assert strangers[-1].query(b"*IDN?").count(b",") == 3
        for client in strangers:
            client.close()


def test_too_many_clients_are_told():
    with serving(MemoryWindow()) as server:
        clients = [RawClient(server.port) for _ in range(MAX_CLIENTS)]
        late = Raw(server.port)
        late.send(INITIALIZE, 0, 0x01000000, b"hislip0")
        assert late.receive()[:2] == (FATAL, 4)
        assert clients[0].query(b"*IDN?").count(b",") == 3
        for client in (late, *clients):
            client.close()
        end_s = time.monotonic() + 30
        while True:  # their places are free as soon as the server has noticed
            again = Raw(server.port)
            again.send(INITIALIZE, 0, 0x01000000, b"hislip0")
            found = again.receive()
            again.close()
            if found and found[0] == INITIALIZE_RESPONSE:
                break
            assert time.monotonic() < end_s


def test_a_client_that_never_reads_holds_nobody_up():
    with serving(MemoryWindow()) as server, raw(server) as good, raw(server) as bad:
        for _ in range(8):  # half a megabyte each: more than the buffers of the connection hold
            bad.write(b"REG? RESULTS,131072")
        assert good.query(b"REG? IDENT") == b"0\n"


def test_closing_hangs_up_on_everybody():
    server = HislipServer(Agent(MemoryWindow()), port=0).start()
    silent, client = Raw(server.port), RawClient(server.port)
    client.query(b"*IDN?")
    server.close()
    assert silent.receive() is None
    assert client.data.receive() is None
    assert client.news.receive() is None
    silent.close()
    client.close()


def test_where_it_may_listen():
    with pytest.raises(InputError, match="key"):
        HislipServer(Agent(MemoryWindow()), host="0.0.0.0", port=0)
    with (
        serving(MemoryWindow()) as server,
        pytest.raises(InputError, match="cannot listen"),
    ):
        HislipServer(Agent(MemoryWindow()), port=server.port)
