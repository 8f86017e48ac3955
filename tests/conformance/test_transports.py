"""One suite over every way to a register window: each must behave like plain memory."""

import threading
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import serial
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge import registers
from firmware_bridge.server import PtyServer, TcpServer
from firmware_bridge.windows import DevMemWindow, PynqWindow
from rram_host.errors import InputError, LinkError, RramError
from rram_host.transports import Transport, open_transport
from rram_host.transports.mmio import MmioTransport
from tests.doubles import MemoryWindow, Rfc2217Server
from tests.pynq_device import EmulatedDevice, MappedDevice

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
def pynq_registers(_):
    device = EmulatedDevice(MemoryWindow())
    yield MmioTransport(PynqWindow(BASE, LENGTH, device))


@contextmanager
def pynq_mapped(_):
    device = MappedDevice(np.zeros(LENGTH // 4, np.uint32))
    yield MmioTransport(PynqWindow(BASE, LENGTH, device))


@contextmanager
def dev_mem(folder):
    path = folder / "mem"
    with path.open("wb") as file:
        file.truncate(0x1000 + 0x40 + LENGTH)
    yield MmioTransport(DevMemWindow(0x1000 + 0x40, LENGTH, path))


OPENERS = [in_memory, over_pty, over_socket, pynq_registers, pynq_mapped, dev_mem]


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

    assert not {EmulatedDevice, MappedDevice} & set(DeviceMeta._subclasses.values())
    assert not hasattr(Device, "_active_device")


@pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's
def test_a_remote_serial_port():
    window = MemoryWindow()
    with PtyServer(window) as pty, Rfc2217Server(pty.path) as remote:
        transport = open_transport(f"rfc2217://127.0.0.1:{remote.port}?baud=115200")
        transport.write(TABLE.offset, random_words(3000))
        assert np.array_equal(transport.read(TABLE.offset, 3000), random_words(3000))
        transport.close()
    assert len(window.writes) == 1


# ---- opening --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["", "ttyUSB0", "gpib://7", "sim:?seed=7", 3, None, "SERIAL:///dev/null"]
)
def test_what_is_no_board_is_refused_with_examples(target):
    with pytest.raises(InputError) as refused:
        open_transport(target)
    for example in ("serial:///dev/ttyUSB0", "socket://", "rfc2217://", "mmio://", "sim://"):
        assert example in str(refused.value)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("serial:///dev/ttyUSB0?baud=fast", "baud=fast"),
        ("serial:///dev/ttyUSB0?bad=1", "'bad'"),
        ("serial://?baud=9600", "names no port"),
        ("socket://127.0.0.1:1?timeout=0", "timeout=0"),
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


def test_a_bridge_that_goes_away_is_noticed():
    before = threading.active_count()
    with TcpServer(MemoryWindow()) as server:
        transport = open_transport(f"socket://127.0.0.1:{server.port}")
    with pytest.raises(LinkError):
        transport.write(SCRATCH, np.array([1], dtype=np.uint32))
        transport.read(SCRATCH, 1)
    transport.close()
    assert threading.active_count() == before


def test_dev_mem_that_is_too_short_or_missing_says_so(tmp_path):
    (tmp_path / "mem").write_bytes(bytes(100))
    with pytest.raises(RramError, match="cannot map"):
        DevMemWindow(0, 4096, tmp_path / "mem")
    with pytest.raises(RramError, match="cannot map"):
        DevMemWindow(0, 4096, tmp_path / "none")
    with pytest.raises(InputError, match="whole words"):
        DevMemWindow(2, 4096, tmp_path / "mem")
