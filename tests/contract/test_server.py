"""Servers of byte streams: hosts come and go, and none of them stops the others."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge import registers
from firmware_bridge.agent import Agent
from firmware_bridge.errors import InputError
from firmware_bridge.frames import Frame, FrameDecoder, Kind, encode
from firmware_bridge.serial_line import SerialServer, device_baud
from firmware_bridge.server import PtyServer, TcpServer
from rram_host.transports import open_transport
from tests.doubles import MemoryWindow
from tests.sockets import ask_text, eventually

SCRATCH = registers.offset("SCRATCH")


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_servers_leave_no_thread_and_no_file(tmp_path):
    threads, files = threading.active_count(), open_files()
    for _ in range(3):
        with PtyServer(MemoryWindow(), tmp_path / "rram0"), TcpServer(MemoryWindow()):
            assert threading.active_count() == threads + 2
            assert (tmp_path / "rram0").exists()
    assert threading.active_count() == threads
    assert open_files() == files
    assert list(tmp_path.iterdir()) == []


def test_hosts_may_come_and_go():
    window = MemoryWindow()
    with PtyServer(window) as server:
        for value in range(3):
            link = open_transport(f"serial://{server.path}")
            assert link.read(SCRATCH, 1)[0] == value
            link.write(SCRATCH, np.array([value + 1], dtype=np.uint32))
            link.close()
    assert [words for _, words in window.writes] == [[1], [2], [3]]


def test_a_host_that_vanishes_in_the_middle_harms_nobody():
    with PtyServer(MemoryWindow()) as server:
        fd = os.open(server.path, os.O_RDWR | os.O_NOCTTY)
        os.write(fd, b"\0\x14\x01\x01half a frame")
        os.close(fd)
        link = open_transport(f"serial://{server.path}")
        assert link.read(SCRATCH, 1)[0] == 0
        link.close()


def test_one_agent_serves_two_doors():
    agent = Agent(MemoryWindow())
    with PtyServer(agent) as pty, TcpServer(agent) as tcp:
        near = open_transport(f"serial://{pty.path}")
        far = open_transport(f"socket://127.0.0.1:{tcp.port}")
        near.write(SCRATCH, np.array([9], dtype=np.uint32))
        assert far.read(SCRATCH, 1)[0] == 9
        near.close()
        far.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "::", "example.org", ""])
def test_nothing_listens_beyond_loopback(host):
    with pytest.raises(InputError, match=r"loopback|127\.0\.0\.1"):
        TcpServer(MemoryWindow(), host)


def test_with_a_key_it_may():
    with TcpServer(MemoryWindow(), "0.0.0.0", key=b"k" * 32) as server:
        assert server.url == f"socket://0.0.0.0:{server.port}"
        assert ask_text(server.port, b"*IDN?\n").startswith(b"RRAM")
        assert ask_text(server.port, b"REG? 0;:SYST:ERR?\nSYST:ERR?\n").startswith(b"-203")


def test_what_is_taken_is_refused(tmp_path):
    taken = tmp_path / "rram0"
    taken.write_text("a file of somebody")
    with pytest.raises(InputError, match="rram0"):
        PtyServer(MemoryWindow(), taken)
    assert taken.read_text() == "a file of somebody"
    with TcpServer(MemoryWindow()) as server, pytest.raises(InputError, match=str(server.port)):
        TcpServer(MemoryWindow(), port=server.port)


def test_a_stale_link_is_replaced(tmp_path):
    link = tmp_path / "rram0"
    link.symlink_to("/dev/pts/does-not-exist")
    with PtyServer(MemoryWindow(), link) as server:
        assert str(link.readlink()) == server.path
    assert not os.path.lexists(link)


# ---- the end of a writer --------------------------------------------------------------------


def live_window():
    window = MemoryWindow()
    window.words[registers.offset("STATUS") // 4] = registers.STATUS_LIVE
    return window


MADE_SAFE = (registers.offset("CTRL"), [registers.CTRL_SAFE])


def test_a_host_that_hangs_up_while_rails_are_live_leaves_them_safe():
    window = live_window()
    with TcpServer(window) as server:
        link = open_transport(server.url)
        link.write(SCRATCH, np.array([1], dtype=np.uint32))
        assert MADE_SAFE not in window.writes
        link.close()
        eventually(lambda: MADE_SAFE in window.writes)


@pytest.mark.parametrize("make", [TcpServer, PtyServer])
def test_a_server_that_stops_leaves_them_safe_too(make):
    window = live_window()
    with make(window) as server:
        link = open_transport(server.url)
        link.write(SCRATCH, np.array([1], dtype=np.uint32))
        link.close()
    assert window.writes[-1] == MADE_SAFE


# ---- serial ports ---------------------------------------------------------------------------


def test_a_serial_port_is_served_through_termios():
    master, slave = os.openpty()
    try:
        with (
            SerialServer(MemoryWindow(), os.ttyname(slave), 115200),
            os.fdopen(os.dup(master), "r+b", buffering=0) as far,
        ):
            far.write(b"SYST:VERS?\n" + encode(Frame(Kind.READ, 9, 0, 0, 0)))
            data = b""
            while len(data) < 8 or not data.endswith(b"\0"):
                data += far.read(64)
        assert data.startswith(b"1999.0\n\0")
        assert len(FrameDecoder().feed(data[7:])) == 1
    finally:
        os.close(master)
        os.close(slave)


def test_a_serial_port_in_use_is_said():
    master, slave = os.openpty()
    try:
        path = os.ttyname(slave)
        with SerialServer(MemoryWindow(), path), pytest.raises(InputError, match="in use"):
            SerialServer(MemoryWindow(), path)
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize(
    ("device", "word"), [("/dev/ttyNOPE", "no such port"), ("/dev/null", "no serial port")]
)
def test_what_is_no_serial_port_is_refused(device, word):
    with pytest.raises(InputError, match=word):
        SerialServer(MemoryWindow(), device)


def test_devices_and_speeds():
    assert device_baud("/dev/ttyPS1") == ("/dev/ttyPS1", 921600)
    assert device_baud("/dev/ttyPS1:115200") == ("/dev/ttyPS1", 115200)
    for wrong in ("", ":115200", "/dev/ttyPS1:123"):
        with pytest.raises(InputError, match="115200"):
            device_baud(wrong)
