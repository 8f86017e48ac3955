"""key=FILE in the URL of every link that a bridge with a key may listen at."""

from contextlib import contextmanager

import numpy as np
import pytest

from firmware_bridge import registers
from firmware_bridge.agent import Agent
from firmware_bridge.auth import load_key, make_key
from firmware_bridge.hislip import HislipServer
from firmware_bridge.server import PtyServer, TcpServer
from rram_host.errors import InputError, LinkError
from rram_host.transports import open_transport
from tests.doubles import MemoryWindow, Rfc2217Server

# pyserial's RFC 2217 client names its threads in an old way
pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")

SCRATCH = registers.offset("SCRATCH")


@contextmanager
def at_pty(agent, key):
    with PtyServer(agent, key=key) as server:
        yield f"serial://{server.path}?"


@contextmanager
def at_socket(agent, key):
    with TcpServer(agent, key=key) as server:
        yield f"socket://127.0.0.1:{server.port}?"


@contextmanager
def at_rfc2217(agent, key):
    with PtyServer(agent, key=key) as pty, Rfc2217Server(pty.path) as remote:
        yield f"rfc2217://127.0.0.1:{remote.port}?baud=4000000&"


@contextmanager
def at_visa_socket(agent, key):
    with TcpServer(agent, key=key) as server:
        yield f"visa://TCPIP::127.0.0.1::{server.port}::SOCKET?"


@contextmanager
def at_visa_serial(agent, key):
    with PtyServer(agent, key=key) as server:
        yield f"visa://ASRL{server.path}::INSTR?"


@contextmanager
def at_visa_hislip(agent, key):
    with HislipServer(agent, port=0, key=key) as server:
        yield f"visa://TCPIP::127.0.0.1::hislip0,{server.port}::INSTR?"


LISTENERS = [at_pty, at_socket, at_rfc2217, at_visa_socket, at_visa_serial, at_visa_hislip]


@pytest.fixture
def key_file(tmp_path):
    make_key(tmp_path / "key")
    return tmp_path / "key"


@pytest.mark.parametrize("listener", LISTENERS)
def test_with_its_key_a_bridge_serves_and_with_another_or_none_it_does_not(
    listener, key_file, tmp_path
):
    make_key(tmp_path / "other")
    window = MemoryWindow()
    agent = Agent(window)
    with listener(agent, load_key(key_file)) as url:
        link = open_transport(f"{url}key={key_file}")
        link.write(SCRATCH, np.array([5], np.uint32))
        assert link.read(SCRATCH, 1)[0] == 5
        link.close()
    with listener(agent, load_key(key_file)) as url, pytest.raises(InputError, match="key=FILE"):
        open_transport(url.rstrip("?&"))
    with listener(agent, load_key(key_file)) as url, pytest.raises((InputError, LinkError)) as told:
        open_transport(f"{url}key={tmp_path}/other")
    assert "key" in str(told.value)
    assert window.writes == [(SCRATCH, [5])]


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_bridge_without_a_key_takes_a_host_with_one(listener, key_file):
    with listener(Agent(MemoryWindow()), None) as url:
        link = open_transport(f"{url}key={key_file}")
        assert link.read(SCRATCH, 1)[0] == 0
        link.close()
