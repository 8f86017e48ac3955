"""One suite over every way to a register window: each must behave like plain memory."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partialmethod
from types import SimpleNamespace

import numpy as np
import pytest
import pyvisa
import serial
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge import registers
from firmware_bridge.agent import Agent
from firmware_bridge.hislip import HislipServer
from firmware_bridge.recording import Recorder
from firmware_bridge.server import PtyServer, TcpServer, serve_stream
from firmware_bridge.windows import DevMemWindow, OverlayWindow, PynqWindow
from rram_host.errors import InputError, LinkError, RramError
from rram_host.transports import Transport, open_transport
from rram_host.transports.framed import LinkSettings
from rram_host.transports.mmio import MmioTransport
from tests.doubles import MemoryWindow, Rfc2217Server
from tests.pynq_device import (
    EmulatedDevice,
    MappedDevice,
    MappedZynqDevice,
    ZynqDevice,
    overlay_files,
)

# pyserial's RFC 2217 client names its threads in an old way
pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")

TABLE, SCRATCH, END = registers.TABLE, registers.offset("SCRATCH"), registers.WINDOW_BYTES
BASE, LENGTH = registers.WINDOW_BASE, registers.WINDOW_BYTES


@contextmanager
def in_memory(_):
    yield MmioTransport(MemoryWindow())


@contextmanager
def over_pty(_):
    with PtyServer(MemoryWindow()) as server:
        yield open_transport(f"serial://{server.path}")


@contextmanager
def over_socket(_):
    with TcpServer(MemoryWindow()) as server:
        yield open_transport(f"socket://{server.host}:{server.port}")


@contextmanager
def over_rfc2217(_):
    with PtyServer(MemoryWindow()) as pty, Rfc2217Server(pty.path) as remote:
        yield open_transport(f"rfc2217://127.0.0.1:{remote.port}?baud=4000000")


@contextmanager
def over_visa_socket(_):
    with TcpServer(MemoryWindow()) as server:
        yield open_transport(f"visa://TCPIP::{server.host}::{server.port}::SOCKET")


@contextmanager
def over_visa_serial(_):
    with PtyServer(MemoryWindow()) as server:
        yield open_transport(f"visa://ASRL{server.path}::INSTR?baud=921600")


@contextmanager
def over_visa_hislip(_):
    with HislipServer(Agent(MemoryWindow()), port=0) as server:
        yield open_transport(f"visa://TCPIP::{server.host}::hislip0,{server.port}::INSTR")


@contextmanager
def pynq_registers(_):
    device = EmulatedDevice(MemoryWindow())
    yield MmioTransport(PynqWindow(BASE, LENGTH, device))


@contextmanager
def pynq_mapped(_):
    device = MappedDevice(np.zeros(LENGTH // 4, np.uint32))
    yield MmioTransport(PynqWindow(BASE, LENGTH, device))


@contextmanager
def pynq_overlay(folder):
    device = MappedZynqDevice(np.zeros(LENGTH // 4, np.uint32))
    yield MmioTransport(OverlayWindow(overlay_files(folder), device=device))


@contextmanager
def dev_mem(folder):
    path = folder / "mem"
    with path.open("wb") as file:
        file.truncate(0x1000 + 0x40 + LENGTH)
    yield MmioTransport(DevMemWindow(0x1000 + 0x40, LENGTH, path))


OPENERS = [
    in_memory,
    over_pty,
    over_socket,
    over_rfc2217,
    over_visa_socket,
    over_visa_serial,
    over_visa_hislip,
    pynq_registers,
    pynq_mapped,
    pynq_overlay,
    dev_mem,
]


@pytest.fixture(scope="module", params=OPENERS, ids=lambda opener: opener.__name__)
def link(request, tmp_path_factory):
    with ExitStack() as stack:
        transport = stack.enter_context(request.param(tmp_path_factory.mktemp("link")))
        stack.callback(transport.close)
        yield transport


def random_words(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**32, count, dtype=np.uint32)


def test_is_a_transport(link):
    assert isinstance(link, Transport)
    assert open_transport(link) is link


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, END // 4 - 1),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=80),
)
def test_what_is_written_is_read(link, index, values):
    address = 4 * min(index, END // 4 - len(values))
    link.write(address, np.array(values, dtype=np.uint32))
    words = link.read(address, len(values))
    assert words.dtype == np.uint32
    assert words.tolist() == values
    assert words.flags.writeable


@pytest.mark.parametrize("kind", ["random", "zeros", "ones"])
def test_bulk(link, kind):
    words = {"random": random_words(65536), "zeros": np.zeros(65536, np.uint32)}.get(
        kind, np.full(65536, 0xFFFF_FFFF, np.uint32)
    )
    link.write(TABLE.offset, words)
    assert np.array_equal(link.read(TABLE.offset, 65536), words)


def test_neighbours_stay_as_they_are(link):
    link.write(TABLE.offset, np.arange(1, 11, dtype=np.uint32))
    link.write(TABLE.offset + 12, np.array([90, 91], dtype=np.uint32))
    assert link.read(TABLE.offset, 10).tolist() == [1, 2, 3, 90, 91, 6, 7, 8, 9, 10]


def test_later_writes_win(link):
    for value in range(40):
        link.write(SCRATCH, np.array([value], dtype=np.uint32))
        assert link.read(SCRATCH, 1)[0] == value
    link.write(TABLE.offset, random_words(40000, 1))
    link.write(TABLE.offset, random_words(40000, 2))
    assert np.array_equal(link.read(TABLE.offset, 40000), random_words(40000, 2))


def test_a_copy_is_returned(link):
    link.write(SCRATCH, np.array([5], dtype=np.uint32))
    first = link.read(SCRATCH, 1)
    link.write(SCRATCH, np.array([6], dtype=np.uint32))
    assert first[0] == 5


def test_nothing_is_a_valid_amount(link):
    link.write(SCRATCH, np.empty(0, dtype=np.uint32))
    assert link.read(SCRATCH, 0).shape == (0,)


def test_what_is_recorded_on_a_link_is_answered_by_a_replay(link, tmp_path):
    def job(board):
        board.write(SCRATCH, np.array([5], dtype=np.uint32))
        board.write(TABLE.offset, random_words(20_000, 3))
        words = board.read(TABLE.offset, 20_000)
        board.write(SCRATCH, words[:1])
        return np.concatenate([words, board.read(SCRATCH, 1)])

    recorder = Recorder(SimpleNamespace(read=link.read, write=link.write), tmp_path / "job.jsonl")
    recorded = job(recorder)
    recorder.close()
    replay = open_transport(f"replay://{tmp_path}/job.jsonl")
    assert isinstance(replay, Transport)
    assert np.array_equal(job(replay), recorded)
    assert replay.finished
    with pytest.raises(LinkError, match="ends"):
        replay.read(SCRATCH, 1)
    replay.close()


@pytest.mark.parametrize(
    ("address", "count", "word"),
    [
        (2, 1, "multiple of 4"),
        (-4, 1, "window"),
        (END, 1, "window"),
        (END - 4, 2, "2 words"),
        (0, -1, "window"),
        (0, 2**40, "window"),
        (0.5, 1, "whole numbers"),
    ],
)
def test_bad_addresses_are_refused(link, address, count, word):
    with pytest.raises(InputError, match=word):
        link.read(address, count)
    if 0 <= count < 100:
        with pytest.raises(InputError, match=word):
            link.write(address, np.zeros(count, dtype=np.uint32))


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (np.zeros((2, 2), np.uint32), "shape"),
        (np.array([0.5]), "float64"),
        (np.array([-1]), "-1"),
        (np.array([2**32]), "4294967296"),
    ],
)
def test_bad_words_are_refused(link, words, word):
    with pytest.raises(InputError, match=word):
        link.write(SCRATCH, words)


@pytest.mark.parametrize("opener", OPENERS, ids=lambda opener: opener.__name__)
def test_closed_is_closed(opener, tmp_path):
    with opener(tmp_path) as transport:
        assert transport.read(SCRATCH, 1)[0] == 0
        transport.close()
        transport.close()
        with pytest.raises(LinkError):
            transport.read(SCRATCH, 1)


def test_pynq_knows_nothing_of_the_emulated_devices():
    from pynq.pl_server.device import Device, DeviceMeta

    ours = {EmulatedDevice, MappedDevice, MappedZynqDevice, ZynqDevice}
    assert not ours & set(DeviceMeta._subclasses.values())
    assert not hasattr(Device, "_active_device")


# ---- opening --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["", "ttyUSB0", "gpib://7", "sim:?seed=7", 3, None, "SERIAL:///dev/null"]
)
def test_what_is_no_board_is_refused_with_examples(target):
    with pytest.raises(InputError) as refused:
        open_transport(target)
    for known in (
        "serial:///dev/ttyUSB0",
        "socket://",
        "rfc2217://",
        "visa://",
        "mmio://",
        "replay://",
        "sim://",
    ):
        assert known in str(refused.value)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("serial:///dev/ttyUSB0?baud=fast", "baud=fast"),
        ("serial:///dev/ttyUSB0?bad=1", "'bad'"),
        ("serial://?baud=9600", "names no port"),
        ("socket://127.0.0.1:1?timeout=0", "timeout=0"),
        ("visa://?baud=9600", "names no VISA resource"),
        ("visa://rubbish", "rubbish"),
        ("visa://TCPIP::127.0.0.1::99999::SOCKET", "port 99999 is outside 1..65535"),
        ("visa://TCPIP::127.0.0.1::5025::SOCKET?baud=9600", "'baud'"),
        ("visa://ASRL/dev/ttyUSB0::INSTR?speed=9600", "'speed'; known here: baud, key, library"),
        ("visa://ASRL/dev/ttyUSB0::INSTR?baud=9600.5", "baud=9600.5"),
        ("visa://ASRL/dev/ttyUSB0::INSTR?timeout=nan", "timeout=nan"),
        ("mmio://here", "mmio://0x43C00000"),
        ("mmio://0x43C00000?via=magic", "via=magic"),
        ("mmio://0x43C00000?speed=1", "mmio://0x43C00000"),
    ],
)
def test_bad_urls_are_refused(url, word):
    with pytest.raises(InputError) as refused:
        open_transport(url)
    assert word in str(refused.value)


def test_ports_that_do_not_open_say_why(tmp_path, monkeypatch):
    with pytest.raises(LinkError, match=r"no port /dev/ttyNONE.*serial ports of this machine"):
        open_transport("serial:///dev/ttyNONE")
    (tmp_path / "file").touch()
    with pytest.raises(LinkError, match="cannot open"):
        open_transport(f"serial://{tmp_path}/file")
    with pytest.raises(LinkError, match="refused"):
        open_transport("socket://127.0.0.1:1")
    with pytest.raises(LinkError, match="map"):
        monkeypatch.setattr("firmware_bridge.registers.WINDOW_BYTES", 1 << 62)
        open_transport("mmio://0x43C00000?via=devmem")


def test_a_forbidden_port_says_so(monkeypatch):
    def forbidden(*_, **__):
        raise serial.SerialException(13, "Permission denied")

    monkeypatch.setattr(serial, "serial_for_url", forbidden)
    with pytest.raises(LinkError, match="dialout"):
        open_transport("serial:///dev/ttyUSB0")


def test_a_busy_port_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with PtyServer(MemoryWindow(), "rram0"):
        first = open_transport("serial://./rram0")
        with pytest.raises(LinkError, match="in use"):
            open_transport("serial://rram0")
        first.close()
        second = open_transport(f"serial://{tmp_path}/rram0?baud=115200&timeout=2")
        assert second.read(SCRATCH, 1)[0] == 0
        second.close()


@pytest.mark.parametrize("url", ["socket://127.0.0.1:{}", "visa://TCPIP::127.0.0.1::{}::SOCKET"])
def test_a_bridge_that_goes_away_is_noticed(url):
    before = threading.active_count()
    with TcpServer(MemoryWindow()) as server:
        transport = open_transport(url.format(server.port))
    with pytest.raises(LinkError):
        transport.write(SCRATCH, np.array([1], dtype=np.uint32))
        transport.read(SCRATCH, 1)
    transport.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("url", ["serial://{}", "visa://ASRL{}::INSTR"])
def test_a_port_that_goes_away_is_noticed(url):
    with PtyServer(MemoryWindow()) as server:
        transport = open_transport(url.format(server.path))
    with pytest.raises(LinkError):
        transport.read(SCRATCH, 1)
    transport.close()


def test_dev_mem_that_is_too_short_or_missing_says_so(tmp_path):
    (tmp_path / "mem").write_bytes(bytes(100))
    with pytest.raises(RramError, match="cannot map"):
        DevMemWindow(0, 4096, tmp_path / "mem")
    with pytest.raises(RramError, match="cannot map"):
        DevMemWindow(0, 4096, tmp_path / "none")
    with pytest.raises(InputError, match="whole words"):
        DevMemWindow(2, 4096, tmp_path / "mem")


# ---- VISA -----------------------------------------------------------------------------------


APART = "apart@py"  # pyvisa-py again, with a resource manager that no other test's link holds open


def visa_manager():
    return pyvisa.highlevel.open_visa_library(APART).resource_manager


@pytest.mark.parametrize(
    ("resource", "word"),
    [
        ("TCPIP::127.0.0.1::1::SOCKET", "refused"),
        ("ASRL/dev/ttyNONE::INSTR", "could not open port /dev/ttyNONE"),
        ("ASRL/dev/null::INSTR", "/dev/null"),
        ("VXI0::1::INSTR", "cannot open VXI0::1::INSTR"),
    ],
)
def test_visa_resources_that_do_not_open_say_why(resource, word):
    with pytest.raises(LinkError) as failed:
        open_transport(f"visa://{resource}?library={APART}")
    assert word in str(failed.value)
    assert visa_manager() is None


@pytest.mark.parametrize("library", ["@none", "/none.so", "/none.so@ivi"])
def test_a_visa_library_that_does_not_load_says_so(library):
    with pytest.raises(LinkError, match=f"VISA library {library}; @py needs none"):
        open_transport(f"visa://TCPIP::127.0.0.1::5025::SOCKET?library={library}")


def test_a_visa_host_without_address_says_so(monkeypatch):
    def unknown(*_):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(LinkError, match=r"no host rram\.lab: .*not known"):
        open_transport("visa://TCPIP::rram.lab::5025::SOCKET")


def test_a_visa_resource_without_messages_is_refused(monkeypatch):
    def registers_only(manager, name, **_):
        return pyvisa.Resource(manager, name)

    monkeypatch.setattr(pyvisa.ResourceManager, "open_resource", registers_only)
    with pytest.raises(InputError, match="carries no messages"):
        open_transport(f"visa://TCPIP::127.0.0.1::5025::SOCKET?library={APART}")
    assert visa_manager() is None


def test_a_silent_visa_resource_is_given_back(monkeypatch):
    hasty = partialmethod(LinkSettings.__init__, connect_s=1)
    monkeypatch.setattr(LinkSettings, "__init__", hasty)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
        with pytest.raises(LinkError, match="nothing answers"):
            open_transport(f"visa://TCPIP::127.0.0.1::{port}::SOCKET?library={APART}")
    assert visa_manager() is None


def test_visa_links_leave_each_other_alone():
    with TcpServer(MemoryWindow()) as server, PtyServer(MemoryWindow()) as pty:
        first = open_transport(f"visa://TCPIP::127.0.0.1::{server.port}::SOCKET?library={APART}")
        second = open_transport(f"visa://ASRL{pty.path}::INSTR?library={APART}")
        first.close()
        first.close()
        assert second.read(SCRATCH, 1)[0] == 0
        second.close()
    assert visa_manager() is None


def test_visa_links_leave_other_instruments_alone():
    manager = pyvisa.ResourceManager(APART)
    with TcpServer(MemoryWindow()) as server, PtyServer(MemoryWindow()) as pty:
        other = manager.open_resource(f"ASRL{pty.path}::INSTR")
        link = open_transport(f"visa://TCPIP::127.0.0.1::{server.port}::SOCKET?library={APART}")
        link.close()
        assert other.bytes_in_buffer == 0
        assert visa_manager() is manager
    manager.close()


def test_visa_takes_replies_in_pieces_of_any_size():
    """Borders between reads and borders between frames need not meet."""
    agent, stop = Agent(MemoryWindow()), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip(data):
            for piece in (data[:1], data[1:28], data[28:-2], data[-2:]):
                client.sendall(piece)
                time.sleep(0.003)

        url = f"visa://TCPIP::127.0.0.1::{listener.getsockname()[1]}::SOCKET"
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(open_transport, url)
            client, _ = listener.accept()
            serving = threading.Thread(
                target=serve_stream, args=(agent, lambda: client.recv(4096) or None, drip, stop)
            )
            serving.start()
            link = opening.result()
        with client:
            link.write(TABLE.offset, random_words(500))
            for count in (1, 2, 3, 60, 500):
                assert np.array_equal(link.read(TABLE.offset, count), random_words(500)[:count])
            assert link.resent == link.strays == 0
            link.close()
            serving.join()


@pytest.mark.parametrize("url", ["socket://127.0.0.1:{}", "visa://TCPIP::127.0.0.1::{}::SOCKET"])
def test_the_end_of_what_is_sent_does_not_wait_for_the_far_end(url, monkeypatch):
    """Otherwise each program costs 40 ms: what is short behind what is long waits for an answer."""
    asked = []
    set_option = socket.socket.setsockopt

    def noted(sock, *option):
        asked.append(option)
        return set_option(sock, *option)

    with TcpServer(MemoryWindow()) as server:
        monkeypatch.setattr(socket.socket, "setsockopt", noted)
        link = open_transport(url.format(server.port))
        here = asked.count((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1))
        link.close()
    assert here == 2  # host and bridge, both in this process
