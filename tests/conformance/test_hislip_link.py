"""HiSLIP on the host's side: late answers, connections that stop or end, servers that are none."""

import select
import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from firmware_bridge import registers
from firmware_bridge.agent import Agent
from firmware_bridge.auth import load_key, make_key
from firmware_bridge.hislip import HislipServer
from rram_host.errors import InputError, LinkError
from rram_host.transports import open_transport, visa
from rram_host.transports.visa_streams import HislipStream
from tests.doubles import MemoryWindow

TABLE, SCRATCH = registers.TABLE.offset, registers.offset("SCRATCH")
SLOW, OTHER = TABLE, TABLE + 0x1000
PATIENT_S = 30.0


class SlowWindow(MemoryWindow):
    """Takes a write to SLOW only when it is let go."""

    def __init__(self):
        super().__init__()
        self.busy, self.go = threading.Event(), threading.Event()

    def write(self, address, words):
        if address == SLOW:
            self.busy.set()
            self.go.wait(PATIENT_S)
        super().write(address, words)


def url(port, keys=""):
    return f"visa://TCPIP::127.0.0.1::hislip0,{port}::INSTR{keys}"


def words(*values):
    return np.array(values, np.uint32)


@pytest.fixture
def hasty(monkeypatch):
    """Ask again after a tenth of a second, not after two."""
    monkeypatch.setattr(visa, "_HISLIP_RESEND_S", 0.1)


# ---- late answers ---------------------------------------------------------------------------


def test_a_request_that_takes_long_is_asked_for_again_and_done_once(hasty):
    window = SlowWindow()
    with HislipServer(Agent(window), port=0) as server:
        link = open_transport(url(server.port))
        writing = threading.Thread(target=link.write, args=(SLOW, words(1, 2, 3)))
        writing.start()
        assert window.busy.wait(PATIENT_S)
        while link.resent < 2:
            writing.join(0.01)
            assert writing.is_alive()
        window.go.set()
        writing.join()
        link.write(OTHER, words(4, 5))
        assert link.read(SLOW, 3).tolist() == [1, 2, 3]
        assert link.read(OTHER, 2).tolist() == [4, 5]
        assert window.writes == [(SLOW, [1, 2, 3]), (OTHER, [4, 5])]
        assert link.strays == 0  # the library has dropped the late ones
        link.close()


def test_a_late_answer_is_never_taken_for_the_next_one(hasty):
    window = SlowWindow()
    window.words[OTHER // 4] = 77
    with HislipServer(Agent(window), port=0) as server:
        link = open_transport(url(server.port, "?timeout=0.3"))
        with pytest.raises(LinkError, match="whether the board has executed it is unknown"):
            link.write(SLOW, words(1))
        threading.Timer(0.2, window.go.set).start()
        assert link.read(OTHER, 1)[0] == 77
        assert window.writes == [(SLOW, [1])]
        link.close()


def test_nothing_is_read_that_was_not_asked_for():
    """pyvisa-py returns at once, with nothing, once it has seen the end of an answer."""
    with HislipServer(Agent(MemoryWindow()), port=0) as server:
        link = open_transport(url(server.port))
        stream = link._stream._stream
        assert isinstance(stream, HislipStream)
        calls = []
        piece = stream._piece
        stream._piece = lambda *sizes: calls.append(sizes) or piece(*sizes)
        assert stream.read(0.2) == b""
        assert calls == []
        link.close()


# ---- connections that stop or end -----------------------------------------------------------


class Proxy:
    """Between client and server; holds the answers back from some byte on, if it is told to."""

    def __init__(self, port):
        self._port, self.hold_after = port, None
        self._stop, self.held = threading.Event(), threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]

    def _accept(self):
        while not self._stop.is_set():
            if not select.select([self._listener], [], [], 0.02)[0]:
                continue
            near, _ = self._listener.accept()
            pump = threading.Thread(target=self._pump, args=(near,))
            self._threads.append(pump)
            pump.start()

    def _pump(self, near):
        with near, socket.create_connection(("127.0.0.1", self._port)) as far:
            while not self._stop.is_set():
                for source in select.select([near, far], [], [], 0.02)[0]:
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    if source is far:
                        data = self._kept(data)
                    (far if source is near else near).sendall(data)

    def _kept(self, data):
        """All of it, or what is before the place to stop at; the rest is swallowed."""
        if self.hold_after is None or self.held.is_set():
            return data
        take, self.hold_after = data[: self.hold_after], self.hold_after - len(data)
        if self.hold_after < 0:
            self.held.set()
        else:
            take = data
        return take

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()


@pytest.mark.parametrize("hold_after", [7, 16, 200, 5000])
def test_an_answer_that_stops_half_way_is_an_error_and_the_link_recovers(hold_after, hasty):
    """In a header, behind one, in a frame, in bulk: pyvisa-py has lost its place after all."""
    window = MemoryWindow()
    window.words[TABLE // 4 : TABLE // 4 + 4000] = np.arange(4000)
    with HislipServer(Agent(window), port=0) as server, Proxy(server.port) as proxy:
        link = open_transport(url(proxy.port, "?timeout=0.5"))
        proxy.hold_after = hold_after
        answers = []
        for _ in range(2):
            try:
                answers.append(link.read(TABLE, 4000))
            except LinkError:
                answers.append(None)
        assert proxy.held.is_set()
        for answer in answers:
            assert answer is None or np.array_equal(answer, np.arange(4000))
        link.write(SCRATCH, words(6))
        assert link.read(SCRATCH, 1)[0] == 6
        assert np.array_equal(link.read(TABLE, 4000), np.arange(4000))
        link.close()


@pytest.mark.parametrize("with_key", [False, True])
def test_a_server_that_was_restarted_is_noticed_and_then_used(with_key, tmp_path):
    make_key(tmp_path / "key")
    key = load_key(tmp_path / "key") if with_key else None
    window = MemoryWindow()
    with HislipServer(Agent(window), port=0, key=key) as server:
        port = server.port
        link = open_transport(url(port, f"?key={tmp_path}/key"))
        link.write(SCRATCH, words(1))
    with pytest.raises(LinkError):
        link.write(SCRATCH, words(2))
    with pytest.raises(LinkError, match="is nobody"):
        link.read(SCRATCH, 1)
    with HislipServer(Agent(window), port=port, key=key):
        assert link.read(SCRATCH, 1)[0] == 1
        link.write(SCRATCH, words(3))
        assert window.writes == [(SCRATCH, [1]), (SCRATCH, [3])]
        link.close()
        with pytest.raises(LinkError):
            link.read(SCRATCH, 1)


# ---- opening --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "word"),
    [
        ("hislip0,99999", "port 99999 is outside 1..65535"),
        ("hislip0,", "port  is outside"),
        ("hislip0,5025.5", "port 5025.5 is outside"),
    ],
)
def test_bad_hislip_names_are_refused(device, word):
    with pytest.raises(InputError) as refused:
        open_transport(f"visa://TCPIP::127.0.0.1::{device}::INSTR")
    assert word in str(refused.value)


def test_where_nobody_listens_that_is_said():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LinkError, match=f"at 127.0.0.1 port {port} is nobody: .*refused"):
        open_transport(url(port))
    assert visa.HISLIP_PORT == 4880


@contextmanager
def hanging_up(answer):
    """Answers the first message of each client so, and hangs up."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while not stop.is_set():
                if select.select([listener], [], [], 0.02)[0]:
                    client, _ = listener.accept()
                    with client:
                        client.recv(4096)
                        client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is no HiSLIP server: it answers b'HTTP/1.1 400"),
        (b"", "is no HiSLIP server: it hangs up"),
        (b"HS\2\4" + bytes(11) + b"\x10too many clients", "refuses: too many clients"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_told_as_such(answer, word):
    with hanging_up(answer) as port, pytest.raises(LinkError) as told:
        open_transport(url(port))
    assert word in str(told.value)
