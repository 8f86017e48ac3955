"""Serial ports: found by USB numbers, and what is said where the bridge does not answer."""

import os
import select
import socket
import stat
import threading
import tty
from contextlib import contextmanager
from functools import partialmethod

import numpy as np
import pytest
import serial.tools.list_ports
from serial.tools.list_ports_common import ListPortInfo

from firmware_bridge import registers
from firmware_bridge.agent import Agent
from firmware_bridge.frames import FrameDecoder, encode
from firmware_bridge.server import PtyServer
from rram_host.errors import InputError, LinkError
from rram_host.transports import open_transport
from rram_host.transports.framed import LinkSettings
from tests.doubles import MemoryWindow

SCRATCH = registers.offset("SCRATCH")


def usb(device, vid=None, pid=None, product=None, number=None):
    port = ListPortInfo(device)
    port.vid, port.pid, port.product, port.serial_number = vid, pid, product, number
    return port


def plugged_in(monkeypatch, *ports):
    monkeypatch.setattr(serial.tools.list_ports, "comports", lambda: list(ports))


CONSOLE = usb("/dev/ttyS0")
FTDI = usb("/dev/ttyUSB9", 0x0403, 0x6001, "FT232R USB UART", "A50285BI")


def zc706(device, number="0001"):
    return usb(device, 0x10C4, 0xEA60, "CP2103 USB to UART Bridge Controller", number)


# ---- found by USB numbers -------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "usb",
        "?vid=10C4&pid=EA60",
        "?vid=0x10c4&pid=0xea60&baud=115200",
        "usb?serial=0002",
        "?serial=0002",
    ],
)
def test_the_port_is_found_by_its_usb_numbers(query, monkeypatch):
    with PtyServer(MemoryWindow()) as server:
        plugged_in(monkeypatch, CONSOLE, FTDI, zc706(server.path, "0002"))
        link = open_transport(f"serial://{query}")
        link.write(SCRATCH, np.array([7], np.uint32))
        assert link.read(SCRATCH, 1)[0] == 7
        link.close()


def test_of_several_ports_the_serial_number_decides(monkeypatch):
    with PtyServer(MemoryWindow()) as server:
        plugged_in(monkeypatch, zc706("/dev/ttyUSB0", "0001"), zc706(server.path, "0002"))
        with pytest.raises(LinkError) as several:
            open_transport("serial://usb")
        for word in ("2 ports", "10C4:EA60", "/dev/ttyUSB0", "0001", "0002", "serial=NUMBER"):
            assert word in str(several.value)
        open_transport("serial://usb?serial=0002").close()


def test_where_no_port_fits_all_are_listed(monkeypatch):
    plugged_in(monkeypatch, CONSOLE, FTDI)
    with pytest.raises(LinkError) as none:
        open_transport("serial://usb")
    assert "no port has USB numbers 10C4:EA60" in str(none.value)
    assert "/dev/ttyS0 (no USB)" in str(none.value)
    assert "/dev/ttyUSB9 (0403:6001, FT232R USB UART, serial number A50285BI)" in str(none.value)
    plugged_in(monkeypatch)
    with pytest.raises(LinkError, match="ports here: none"):
        open_transport("serial://?vid=0403&pid=6001")


def test_the_relative_path_usb_is_still_a_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    plugged_in(monkeypatch)
    window = MemoryWindow()
    with PtyServer(window, "usb"):
        link = open_transport("serial://./usb")
        link.write(0, np.array([7], dtype=np.uint32))
        link.close()
    assert window.writes == [(0, [7])]


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("serial://?vid=10C4", "vid and pid go together"),
        ("serial://usb?vid=10C4&pid=CP2103", "pid=CP2103 must be hexadecimal"),
        ("serial://?vid=110C4&pid=EA60", "vid=110C4 must be hexadecimal"),
        ("serial:///dev/ttyUSB0?vid=10C4&pid=EA60", "names the port /dev/ttyUSB0, so pid"),
        ("serial:///dev/ttyUSB0?key=", "key file"),
    ],
)
def test_bad_usb_numbers_are_refused(url, word):
    with pytest.raises(InputError) as refused:
        open_transport(url)
    assert word in str(refused.value)


# ---- ports that do not open -----------------------------------------------------------------


def test_a_missing_port_is_told_with_those_that_are_there(monkeypatch):
    plugged_in(monkeypatch, FTDI)
    with pytest.raises(LinkError, match=r"no port /dev/ttyNONE.*/dev/ttyUSB9 \(0403:6001, FT232R"):
        open_transport("serial:///dev/ttyNONE")


def test_a_forbidden_port_names_the_group_that_may(monkeypatch, tmp_path):
    port = tmp_path / "ttyUSB0"
    port.touch()

    def forbidden(*_, **__):
        raise serial.SerialException(13, "Permission denied")

    monkeypatch.setattr(serial, "serial_for_url", forbidden)
    with pytest.raises(LinkError, match=f"no permission.*for the group {port.group()};"):
        open_transport(f"serial://{port}")


# ---- ports where somebody else answers ------------------------------------------------------


@contextmanager
def impostor(answer):
    """A raw pseudo-terminal whose far end says `answer(data)` to whatever it is told."""
    far, near = os.openpty()
    tty.setraw(near)
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            if select.select([far], [], [], 0.02)[0]:
                os.write(far, answer(os.read(far, 4096)))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield os.ttyname(near)
    finally:
        stop.set()
        thread.join()
        os.close(far)
        os.close(near)


def as_a_console_echoes(data):
    """Control characters the way the line discipline of Linux shows them, then its prompt."""
    shown = b"".join(bytes([c]) if 32 <= c < 127 else b"^" + bytes([c % 32 + 64]) for c in data)
    return shown + b"\r\nPassword: "


def noise(data):
    return np.random.default_rng(len(data)).integers(128, 256, 3 * len(data), np.uint8).tobytes()


@pytest.fixture
def hasty(monkeypatch):
    """Give up after a second, so that the tests do not wait for five."""
    quick = partialmethod(LinkSettings.__init__, connect_s=1.0)
    monkeypatch.setattr(LinkSettings, "__init__", quick)


STRANGERS = {
    "echo": (bytes, ["an echo", "comes back"]),
    "console": (as_a_console_echoes, ["text comes back", "Password:"]),
    "login": (lambda _: b"\r\nPetaLinux 2022.1\r\nzc706 login: ", ["a console", "zc706 login:"]),
    "instrument": (lambda _: b"*** undefined header\r\n", ["instrument", "undefined header"]),
    "noise": (noise, ["no frames", "another speed"]),
}


@pytest.mark.parametrize(
    ("stranger", "url"),
    [*((name, "serial://{}") for name in STRANGERS), ("login", "visa://ASRL{}::INSTR")],
)
def test_who_answers_instead_of_the_bridge_is_told(stranger, url, hasty):
    answer, words = STRANGERS[stranger]
    with impostor(answer) as path, pytest.raises(LinkError) as told:
        open_transport(url.format(path))
    for word in ["no bridge answers there", *words]:
        assert word in str(told.value)


def test_the_first_bytes_of_noise_are_shown(hasty):
    with (
        impostor(lambda _: bytes([0x80, 0xFE, 0x9C] * 20)) as path,
        pytest.raises(LinkError, match="80 fe 9c 80 fe 9c"),
    ):
        open_transport(f"serial://{path}")


def test_a_port_where_nobody_speaks_is_told_as_such(hasty):
    with impostor(lambda _: b"") as path, pytest.raises(LinkError, match="nothing answers"):
        open_transport(f"serial://{path}")


def test_a_web_server_at_the_port_is_told_as_text(hasty):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            client, _ = listener.accept()
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(LinkError, match="text comes back.*Connection: close"):
            open_transport(f"socket://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()


def test_a_bridge_that_a_console_talks_over_is_still_found():
    agent, decoder = Agent(MemoryWindow()), FrameDecoder()

    def talked_over(data):
        replies = b"".join(encode(agent.handle(frame)) for frame in decoder.feed(data))
        return b"[    1.23] random: crng init done\r\n" + replies

    with impostor(talked_over) as path:
        link = open_transport(f"serial://{path}")
        link.write(SCRATCH, np.array([7], np.uint32))
        assert link.read(SCRATCH, 1)[0] == 7
        link.close()


def test_the_key_file_is_read_before_the_port_is_opened(tmp_path):
    for name, mode, content in (
        ("none", 0, b""),
        ("short", 0o600, b"x"),
        ("open", 0o644, b"k" * 64),
    ):
        path = tmp_path / name
        if mode:
            path.write_bytes(content)
            path.chmod(mode)
            assert stat.S_IMODE(path.stat().st_mode) == mode
        for url in (
            "serial:///dev/ttyNONE?key={}",
            "socket://127.0.0.1:1?key={}",
            "rfc2217://127.0.0.1:1?key={}",
            "visa://TCPIP::127.0.0.1::1::SOCKET?key={}",
        ):
            with pytest.raises(InputError, match="key file"):
                open_transport(url.format(path))


@pytest.mark.parametrize("url", ["socket://127.0.0.1:9?kee=a", "rfc2217://127.0.0.1:9?timeuot=1"])
def test_a_key_that_nobody_knows_is_named(url):
    with pytest.raises(InputError, match="unknown key '(kee|timeuot)'; known: "):
        open_transport(url)
