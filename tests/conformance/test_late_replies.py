"""A board that answers too late, a bridge that is started anew, a line that never falls silent.

Over the real libraries. Nothing here asserts how long something took, but that it ended, and with
whose answer.
"""

import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partialmethod

import numpy as np
import pytest

from firmware_bridge import registers
from firmware_bridge.agent import Agent
from firmware_bridge.frames import ErrorCode, FrameDecoder, Kind, encode
from firmware_bridge.hislip import HislipServer
from firmware_bridge.server import PtyServer, TcpServer
from rram_host.errors import LinkError
from rram_host.transports import open_transport
from rram_host.transports.framed import LinkSettings
from tests.doubles import Babbler, MemoryWindow, Relay, Rfc2217Server

SLOW, SCRATCH = registers.TABLE.offset, registers.offset("SCRATCH")
LIMIT_S = 30
pytestmark = pytest.mark.filterwarnings(
    "ignore:set(Daemon|Name):DeprecationWarning"  # pyserial's, in rfc2217
)


class SlowWindow(MemoryWindow):
    """A read of SLOW takes until `go` is set, and returns what was there when it began."""

    def __init__(self):
        super().__init__()
        self.go, self.asked = threading.Event(), 0

    def read(self, address, count):
        words = super().read(address, count)
        if address == SLOW:
            self.asked += 1
            self.go.wait(LIMIT_S)
        return words


# ---- ways to a bridge -----------------------------------------------------------------------

TERMINAL, PORT = True, False
WAYS = {
    "serial": (TERMINAL, "serial://{0.path}"),
    "visa-asrl": (TERMINAL, "visa://ASRL{0.path}::INSTR"),
    "rfc2217": (TERMINAL, "rfc2217://127.0.0.1:{0.port}"),
    "socket": (PORT, "socket://127.0.0.1:{0.port}"),
    "visa-socket": (PORT, "visa://TCPIP::127.0.0.1::{0.port}::SOCKET"),
}
ways = pytest.mark.parametrize("way", WAYS)
# Its connection ends with the server, and its library talks to nobody that does not speak HiSLIP.
HISLIP = {"visa-hislip": (PORT, "visa://TCPIP::127.0.0.1::hislip0,{0.port}::INSTR")}
all_ways = pytest.mark.parametrize("way", [*WAYS, *HISLIP])


@contextmanager
def opened(way, end):
    """A transport to what is at `end`, a terminal or a TCP port."""
    with ExitStack() as stack:
        if way == "rfc2217":
            end = stack.enter_context(Rfc2217Server(end.path))
        transport = open_transport((WAYS | HISLIP)[way][1].format(end))
        stack.callback(transport.close)
        yield transport


def bridge(way, window):
    if way in HISLIP:
        return HislipServer(Agent(window), port=0)
    return PtyServer(window) if WAYS[way][0] is TERMINAL else TcpServer(window)


def word(value):
    return np.array([value], dtype=np.uint32)


def be_hasty(transport):
    """Give up soon; how it was before."""
    before = transport._settings
    transport._settings = replace(before, timeout_s=0.3, connect_s=0.5, resend_s=0.05)
    return before


# ---- late replies ---------------------------------------------------------------------------


@all_ways
@pytest.mark.parametrize("early", [True, False], ids=["before", "while"])
def test_a_late_reply_is_not_the_answer_to_what_is_asked_next(way, early):
    """It comes before the next request is sent, or while its answer is waited for."""
    window = SlowWindow()
    with bridge(way, window) as server, opened(way, server) as transport:
        patient = be_hasty(transport)
        window.words[SLOW // 4] = 1
        with pytest.raises(LinkError, match=r"no answer to a read of 1 words at 0x80000.*unknown"):
            transport.read(SLOW, 1)
        window.words[SLOW // 4] = 2  # the same question, and another answer
        transport._settings = patient
        timer = threading.Timer(0.0 if early else 0.1, window.go.set)
        timer.start()
        if early:
            timer.join()
            time.sleep(0.05)
        assert transport.read(SLOW, 1)[0] == 2
        transport.write(SCRATCH, word(3))
        assert transport.read(SCRATCH, 1)[0] == 3
        timer.join()
    assert window.writes == [(SCRATCH, [3])]


# ---- restarts -------------------------------------------------------------------------------


@ways
def test_a_restart_of_the_bridge_is_noticed_where_the_line_outlives_it(way):
    before, after = MemoryWindow(), MemoryWindow()
    with (
        TcpServer(before) as old,
        TcpServer(after) as new,
        Relay(WAYS[way][0], old.port) as line,
        opened(way, line) as transport,
    ):
        transport.write(SCRATCH, word(1))
        line.connect(new.port)
        with pytest.raises(LinkError, match="restarted"):
            transport.write(SCRATCH, word(2))
        assert transport.read(SCRATCH, 1)[0] == 0
        transport.write(SCRATCH, word(3))
        assert transport.read(SCRATCH, 1)[0] == 3
    assert (before.writes, after.writes) == ([(SCRATCH, [1])], [(SCRATCH, [3])])


@all_ways
def test_a_bridge_that_ends_is_noticed_where_the_line_ends_with_it(way):
    with bridge(way, MemoryWindow()) as server, opened(way, server) as transport:
        transport.write(SCRATCH, word(1))
        be_hasty(transport)
        server.close()
        with pytest.raises(LinkError):
            transport.write(SCRATCH, word(2))


# ---- lines that never fall silent -----------------------------------------------------------


# What is said at a time: 100 times a second that is more than a port of 921600 baud carries.
SAID_BYTES = 1024


def noise(_):
    return np.random.default_rng(0).bytes(SAID_BYTES)


def a_byte(_):
    return b"\x07"


def refusals_of_what_is_asked(heard):
    """ "Too early", for ever: what a bridge says while an earlier request is missing."""
    asked = [f for f in FrameDecoder().feed(heard) if f.kind is Kind.READ]
    return b"".join(encode(f.error(ErrorCode.ORDER, "too early")) for f in asked[-1:])


STORIES = [noise, a_byte, refusals_of_what_is_asked]  # more of them: test_link_faults


@ways
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_line_that_never_falls_silent_keeps_nobody_waiting(way, story, monkeypatch):
    monkeypatch.setattr(
        LinkSettings, "__init__", partialmethod(LinkSettings.__init__, connect_s=0.2)
    )
    failed = []

    def attempt():
        try:
            with opened(way, end):
                pass
        except LinkError as error:
            failed.append(error)

    with Babbler(WAYS[way][0], story, 0.01) as end:
        host = threading.Thread(target=attempt)
        host.start()
        host.join(LIMIT_S)
        waits = host.is_alive()
    host.join()
    assert not waits
    assert len(failed) == 1
