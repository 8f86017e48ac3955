"""The bridge as a program and as a pair of servers."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge import registers
from firmware_bridge.agent import Agent
from firmware_bridge.errors import InputError
from firmware_bridge.server import PtyServer, TcpServer
from rram_host.transports import open_transport
from tests.doubles import MemoryWindow

COMMAND = [sys.executable, "-m", "firmware_bridge"]
SCRATCH = registers.offset("SCRATCH")


def test_help():
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    for word in ("--board", "--pty", "--tcp", "sim://"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--board", "sim://?seed=7"], "--pty"),
        (["--board", "nothing://", "--pty", "rram0"], "sim://"),
        (["--board", "sim://?seed=7", "--tcp", "5025"], "HOST:PORT"),
        (["--board", "sim://?seed=7", "--tcp", "0.0.0.0:5025"], "loopback"),
        (["--board", "sim://?sed=7", "--pty", "rram0"], "'sed'"),
    ],
)
def test_bad_arguments_are_one_line(arguments, word, tmp_path):
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert word in done.stderr


def test_the_bridge_needs_numpy_and_nothing_else():
    code = (
        "import sys, numpy; known = set(sys.modules); import firmware_bridge.__main__;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - known};"
        "print(sorted(new - sys.stdlib_module_names - {'numpy', 'firmware_bridge'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_bridge_serves_and_stops_cleanly(tmp_path, number):
    board = f"sim://?preset=ideal&seed=7&state={tmp_path}/board.npz"
    arguments = ["--board", board, "--pty", "rram0", "--tcp", "127.0.0.1:0"]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as bridge:
        try:
            lines = [bridge.stdout.readline().split()[1] for _ in range(2)]
            assert lines[0] == "serial://rram0"
            urls = [f"serial://{tmp_path}/rram0", lines[1]]
            links = [open_transport(url) for url in urls]
            links[0].write(SCRATCH, np.array([77], dtype=np.uint32))
            assert links[1].read(SCRATCH, 1)[0] == 77
            assert links[1].read(0, 1)[0] == registers.IDENTITY
            for link in links:
                link.close()
        finally:
            bridge.send_signal(number)
        assert bridge.wait(10) == 0
    assert not os.path.lexists(tmp_path / "rram0")
    assert (tmp_path / "board.npz").exists()


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
