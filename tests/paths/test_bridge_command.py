"""The bridge as a person starts it: `rram-bridge`."""

import os
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

from firmware_bridge import board_spec, registers
from firmware_bridge.__main__ import main
from firmware_bridge.lines import LineProgram
from rram_host.errors import InputError, LinkError
from rram_host.transports import open_transport

COMMAND = [sys.executable, "-m", "firmware_bridge"]
BOARD = "sim://?preset=ideal&seed=7"
SCRATCH = registers.offset("SCRATCH")
LIMIT_S = 60


@contextmanager
def bridge(folder, *arguments, board=BOARD, number=signal.SIGTERM):
    """A running bridge and the URLs that it says; ended by a signal, and well."""
    command = [*COMMAND, "--board", board, *map(str, arguments)]
    n_urls = sum(a in ("--tcp", "--hislip", "--pty", "--serial") for a in arguments)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    ) as process:
        try:
            process.urls = [process.stdout.readline().split(" ", 1)[1] for _ in range(n_urls)]
            process.urls = [url.split(" (")[0].strip() for url in process.urls]
            yield process
        finally:
            process.send_signal(number)
            try:
                process.errors = process.communicate(timeout=LIMIT_S)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode == 0, process.errors


def refused(capsys, *arguments):
    """The one line of a command that ends with exit code 2."""
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err


@pytest.fixture(autouse=True)
def signals():
    """`main` sets handlers; those of the tests come back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    kept = [(number, signal.getsignal(number)) for number in numbers]
    yield
    for number, handler in kept:
        signal.signal(number, handler)


def test_help():
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    for word in ("--board", "--pty", "--tcp", "--hislip", "--serial", "--key-file", "--make-key"):
        assert word in done.stdout
    assert "examples:" in done.stdout and "sim://" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "--board"),
        (["--board", BOARD], "--pty"),
        (["--board", "nothing://", "--pty", "rram0"], "sim://"),
        (["--board", "mmio://0x43C00000?via=devmem", "--spec", "zc7", "--pty", "rram0"], "zc7"),
        (["--board", BOARD, "--tcp", "5025"], "HOST:PORT"),
        (["--board", BOARD, "--tcp", "127.0.0.1:70000"], "65535"),
        (["--board", BOARD, "--hislip", "here:"], "HOST:PORT"),
        (["--board", BOARD, "--tcp", "0.0.0.0:5025"], "loopback"),
        (["--board", BOARD, "--hislip", "192.168.0.7:4880"], "--key-file"),
        (["--board", BOARD, "--serial", "/dev/ttyNOPE"], "no such port"),
        (["--board", BOARD, "--serial", "/dev/ttyPS1:123"], "115200"),
        (["--board", "sim://?sed=7", "--pty", "rram0"], "'sed'"),
        (["--board", BOARD, "--pty", "rram0", "--key-file", "nokey"], "nokey"),
        (["--board", BOARD, "--pty", "no/such/rram0"], "rram0"),
    ],
)
def test_bad_arguments_are_one_line(arguments, word, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert word in refused(capsys, *arguments)


def test_what_is_taken_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        assert place.split(":")[1] in refused(capsys, "--board", BOARD, "--tcp", place)
    (tmp_path / "trace").touch()
    assert "trace" in refused(capsys, "--board", BOARD, "--pty", "rram0", "--record", "trace")
    assert not os.path.lexists("rram0")


def test_a_window_without_our_board_is_refused(tmp_path, monkeypatch, capsys):
    class Nothing:
        def read(self, address, count):
            return np.full(count, 0xDEADBEEF, dtype=np.uint32)

        def close(self):
            pass

    monkeypatch.setattr("firmware_bridge.__main__.open_board", lambda url: Nothing())
    said = refused(capsys, "--board", "mmio://0x0", "--pty", tmp_path / "rram0")
    assert "0xdeadbeef" in said and "no RRAM board" in said


def test_the_bridge_needs_numpy_and_nothing_else():
    code = (
        "import sys, numpy; known = set(sys.modules); import firmware_bridge.__main__;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - known};"
        "print(sorted(new - sys.stdlib_module_names - {'numpy', 'firmware_bridge'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---- running --------------------------------------------------------------------------------


def test_ctrl_c_ends_it_well(tmp_path):
    with bridge(tmp_path, "--pty", "rram0", number=signal.SIGINT):
        assert os.path.lexists(tmp_path / "rram0")
    assert list(tmp_path.iterdir()) == []


def test_many_doors_around_one_board(tmp_path):
    board = f"{BOARD}&state={tmp_path}/board.npz"
    doors = ["--pty", "rram0", "--pty", "rram1", "--tcp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"]
    with bridge(tmp_path, *doors, "--hislip", "0", board=board) as running:
        assert running.urls[:2] == ["serial://rram0", "serial://rram1"]
        urls = [f"serial://{tmp_path}/rram{i}" for i in range(2)] + running.urls[2:]
        links = [open_transport(url) for url in urls]
        links[0].write(SCRATCH, np.array([77], dtype=np.uint32))
        for link in links:
            assert link.read(SCRATCH, 1)[0] == 77
            assert link.read(0, 1)[0] == registers.IDENTITY
        with pytest.raises(LinkError, match="rram0 writes"):
            links[2].write(SCRATCH, np.array([78], dtype=np.uint32))
        for link in links:
            link.close()
    assert not os.path.lexists(tmp_path / "rram0") and not os.path.lexists(tmp_path / "rram1")
    assert (tmp_path / "board.npz").exists()
    assert running.errors == ""


def test_a_key_from_making_it_to_signing_on(tmp_path):
    """Beyond loopback with a warning; without the key, and with another one, not."""
    for name in ("key", "other"):
        made = subprocess.run([*COMMAND, "--make-key", name], cwd=tmp_path, check=True)
        assert made.returncode == 0
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    with bridge(tmp_path, "--tcp", "0.0.0.0:0", "--key-file", "key") as running:
        (url,) = running.urls
        url = url.replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(InputError, match="demands a key"):
            open_transport(url)
        with pytest.raises(InputError, match="does not take this key"):
            open_transport(f"{url}?key={tmp_path}/other")
        link = open_transport(f"{url}?key={tmp_path}/key")
        assert link.read(0, 1)[0] == registers.IDENTITY
        link.close()
    assert "neither encrypted nor signed" in running.errors
    assert running.errors.count("wrong proof") == 1


def test_a_bridge_that_ends_leaves_the_rails_safe(tmp_path):
    """A gate is open when the signal comes; the state file tells what the board saw last."""
    record = tmp_path / "trace.jsonl"
    with bridge(tmp_path, "--tcp", "127.0.0.1:0", "--record", record) as running:
        link = open_transport(running.urls[0])
        link.write(registers.offset("WATCHDOG"), np.zeros(1, dtype=np.uint32))
        link.write(registers.LIMITS_OFFSET, np.full(64, 0xFFFF, dtype=np.uint32))
        link.write(registers.PROGRAM.offset, program_that_leaves_a_gate_open())
        link.write(registers.offset("CTRL"), np.array([registers.CTRL_START], dtype=np.uint32))
        status = int(link.read(registers.offset("STATUS"), 1)[0])
        assert status & registers.STATUS_LIVE, hex(status)
    link.close()
    written = re.findall(
        r'"op": "w", "at": "(0x[0-9a-f]+)".*?"words": \[([^]]*)\]', record.read_text()
    )
    assert written[-1] == (hex(registers.offset("CTRL")), str(registers.CTRL_SAFE))
    assert "rails safe" in running.errors


def program_that_leaves_a_gate_open():
    spec = board_spec.load()
    program = LineProgram(spec)
    program.initialise()
    program.wl.immediate(program, np.full(spec.rows, 0x4000, dtype=np.uint16))
    program.latch()
    program.settle()
    return program.words()


def test_who_comes_and_goes_is_said_when_wanted(tmp_path):
    with bridge(tmp_path, "--tcp", "127.0.0.1:0", "--verbose") as running:
        open_transport(running.urls[0]).close()
        until, seen = time.monotonic() + LIMIT_S, ""
        while "closed" not in seen and time.monotonic() < until:
            ready, _, _ = select.select([running.stderr], [], [], 0.1)
            seen += os.read(running.stderr.fileno(), 4096).decode() if ready else ""
    assert re.search(r"127\.0\.0\.1:\d+: connected\n(.*\n)*.*127\.0\.0\.1:\d+: closed", seen)


def test_a_terminal_that_closes_ends_it_well(tmp_path):
    with bridge(tmp_path, "--pty", "rram0", number=signal.SIGHUP):
        assert os.path.lexists(tmp_path / "rram0")
    assert not os.path.lexists(tmp_path / "rram0")


def test_the_terminal_of_a_running_bridge_is_not_taken_by_another(tmp_path, capsys):
    link = tmp_path / "rram0"
    with bridge(tmp_path, "--pty", link):
        terminal = link.readlink()
        said = refused(capsys, "--board", BOARD, "--pty", link)
        assert "another bridge" in said and str(link) in said
        assert link.readlink() == terminal
        board = open_transport(f"serial://{link}")
        assert board.read(registers.offset("IDENT"), 1)[0] == registers.IDENTITY
        board.close()
    assert not link.is_symlink()
