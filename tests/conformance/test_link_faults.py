"""Exactly once, over a line that drops, doubles, corrupts, delays and reorders."""

import time
from dataclasses import replace

import numpy as np
import pytest
import serial

from firmware_bridge import registers
from firmware_bridge.frames import ErrorCode, Frame, FrameDecoder, Kind, encode
from firmware_bridge.server import TcpServer
from rram_host.errors import ContractError, InputError, LinkError
from rram_host.transports.framed import FramedTransport, LinkSettings
from rram_host.transports.serial import SocketStream
from tests.doubles import MemoryWindow
from tests.lossy import Bridge, LossyLine, SimulatedTime

TABLE, SCRATCH = registers.TABLE, registers.offset("SCRATCH")
PATIENT = LinkSettings(timeout_s=1e12, connect_s=1e12, frame_words=2)  # up to twelve frames


def lossy(seed, rate, settings=PATIENT, piece=None):
    window = MemoryWindow()
    rng = np.random.default_rng(seed)
    clock = SimulatedTime()
    line = LossyLine(Bridge(window, clock).plug(), rng, rate, piece, time=clock)
    sessions = iter(range(1, 10**6))
    transport = FramedTransport(line, "lossy", settings, line.clock, lambda: next(sessions))
    return transport, line, window


@pytest.mark.parametrize("piece", [None, 40])
@pytest.mark.parametrize("rate", [0.05, 0.15, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_every_write_is_executed_once_and_every_answer_is_right(seed, rate, piece):
    transport, line, window = lossy(seed, rate, piece=piece)
    rng = np.random.default_rng(1000 + seed)
    model, expected = np.zeros(64, dtype=np.uint32), []
    for _ in range(25):
        start = int(rng.integers(0, 40))
        count = int(rng.integers(1, 24))
        if rng.random() < 0.6:
            words = rng.integers(0, 2**32, count, dtype=np.uint32)
            transport.write(TABLE.offset + 4 * start, words)
            model[start : start + count] = words
            for i in range(0, count, PATIENT.frame_words):
                part = words[i : i + PATIENT.frame_words].tolist()
                expected.append((TABLE.offset + 4 * (start + i), part))
        else:
            words = transport.read(TABLE.offset + 4 * start, count)
            assert np.array_equal(words, model[start : start + count])
    assert window.writes == expected
    assert line.hits > 0


@pytest.mark.parametrize("piece", [None, (1, 700)])
@pytest.mark.parametrize("seed", range(4))
def test_frames_that_are_not_stuffed_lose_time_and_nothing_else(seed, piece):
    """They are for lines without losses; on others what is missing is taken from what follows."""
    bulky = LinkSettings(timeout_s=1e12, connect_s=1e12, frame_words=128, bulk=True)
    transport, line, window = lossy(seed, 0.1, bulky, piece)
    rng, model = np.random.default_rng(seed), np.zeros(600, dtype=np.uint32)
    for _ in range(30):
        start, count = int(rng.integers(0, 200)), int(rng.integers(1, 400))
        model[start : start + count] = words = rng.integers(0, 2**32, count, dtype=np.uint32)
        transport.write(TABLE.offset + 4 * start, words)
        assert np.array_equal(transport.read(TABLE.offset, 600), model)
    assert line.hits > 0
    assert len(window.writes) < 30 * 5


@pytest.mark.parametrize("seed", range(6))
def test_what_was_given_up_is_executed_once_or_never(seed):
    hasty = LinkSettings(timeout_s=2.0, connect_s=8.0)
    transport, _, window = lossy(seed, 0.3, hasty)
    acknowledged = set()
    for value in range(60):
        try:
            transport.write(SCRATCH, np.array([value], dtype=np.uint32))
            acknowledged.add(value)
        except LinkError:
            continue
    executed = [words[0] for _, words in window.writes]
    assert len(set(executed)) == len(executed)
    assert acknowledged <= set(executed)
    assert 0 < len(acknowledged) < 60


def test_a_dead_line_is_given_up_and_says_what_is_unknown():
    transport, line, window = lossy(1, 0.0, LinkSettings())
    transport.write(SCRATCH, np.array([1], dtype=np.uint32))
    line.dead = True
    with pytest.raises(LinkError, match=r"write of 1 words at 0x50 for 30\.0 s.*unknown"):
        transport.write(SCRATCH, np.array([2], dtype=np.uint32))
    with pytest.raises(LinkError, match="nothing answers"):
        transport.read(SCRATCH, 1)
    line.dead = False
    assert transport.read(SCRATCH, 1)[0] == 1
    assert len(window.writes) == 1


class Babbling:
    """A stream on which something comes every millisecond, whatever was sent."""

    def __init__(self, clock, says):
        self.clock, self.says, self.sent = clock, says, []

    def write(self, data):
        self.sent += FrameDecoder().feed(data)

    def read(self, timeout_s):
        self.clock.now += min(timeout_s, 0.001)
        return self.says(self.sent[-1])

    def close(self):
        pass


@pytest.mark.parametrize(
    "says",
    [
        lambda _: b"\x07",
        lambda _: b"\0",
        lambda _: bytes(range(256)) * 16,
        encode,  # an echo
        lambda asked: encode(asked.error(ErrorCode.ORDER, "too early")),
        lambda asked: encode(replace(asked, sequence=asked.sequence + 1).reply()),
        lambda asked: encode(replace(asked, session=asked.session + 1).reply()),
        lambda asked: encode(
            asked.reply(np.zeros(64, np.uint32)),
        ),
        lambda asked: encode(Frame(Kind.REPLY, 1, 2, 3, 9000, bytes(36000), bulk=True))[:100],
    ],
    ids=["byte", "border", "noise", "echo", "order", "sequence", "session", "length", "unfinished"],
)
@pytest.mark.parametrize("kind", ["read", "write"])
def test_nothing_but_answers_keeps_a_host_waiting(says, kind):
    transport, line, _ = lossy(1, 0.0, LinkSettings(timeout_s=5.0))
    transport.write(SCRATCH, np.array([1], dtype=np.uint32))
    transport._stream = Babbling(line.clock, says)
    begun_s = line.clock()
    with pytest.raises(LinkError, match=rf"{kind} of 3 words.*unknown"):
        if kind == "read":
            transport.read(SCRATCH, 3)
        else:
            transport.write(SCRATCH, np.array([1, 2, 3], dtype=np.uint32))
    assert 5.0 <= line.clock() - begun_s <= 5.01


def test_a_restarted_bridge_is_noticed():
    transport, line, _ = lossy(1, 0.0)
    transport.write(SCRATCH, np.array([1], dtype=np.uint32))
    line.far = Bridge(MemoryWindow(), line.clock).plug()
    with pytest.raises(LinkError, match="restarted"):
        transport.write(SCRATCH, np.array([2], dtype=np.uint32))
    assert transport.read(SCRATCH, 1)[0] == 0


def test_an_interrupted_transfer_does_not_block_the_next(monkeypatch):
    transport, line, _ = lossy(1, 0.0)
    transport.write(SCRATCH, np.array([1], dtype=np.uint32))

    def interrupt(data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(line, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            transport.write(SCRATCH, np.array([2], dtype=np.uint32))
    transport.write(SCRATCH, np.array([3], dtype=np.uint32))
    assert transport.read(SCRATCH, 1)[0] == 3


def test_refusals_and_failures_of_the_board_arrive_with_their_text():
    class Moody(MemoryWindow):
        def write(self, address, words):
            raise InputError("limit 7 is locked") if words[0] else OSError("bus error")

    transport, line, _ = lossy(1, 0.0)
    line.far = Bridge(Moody(), line.clock).plug()
    with pytest.raises(InputError, match="limit 7 is locked"):
        transport.write(SCRATCH, np.array([1], dtype=np.uint32))
    with pytest.raises(LinkError, match="bus error"):
        transport.write(SCRATCH, np.array([0], dtype=np.uint32))
    assert transport.read(SCRATCH, 1)[0] == 0


def test_another_protocol_is_refused(monkeypatch):
    transport, _, _ = lossy(1, 0.0)
    monkeypatch.setattr("firmware_bridge.agent.PROTOCOL", 2)
    with pytest.raises(ContractError, match="protocol 2"):
        transport.connect()


@pytest.mark.parametrize(
    "fields",
    [{"timeout_s": 0}, {"resend_s": float("inf")}, {"in_flight": 9}, {"frame_words": 10**6}],
)
def test_link_settings_have_limits(fields):
    with pytest.raises(InputError, match=next(iter(fields))):
        LinkSettings(**fields)


def test_a_board_that_takes_its_time_is_asked_again_and_does_it_once():
    class Slow(MemoryWindow):
        def write(self, address, words):
            time.sleep(0.3)
            super().write(address, words)

    window = Slow()
    with TcpServer(window) as server:
        port = SocketStream(
            serial.serial_for_url(f"socket://127.0.0.1:{server.port}", timeout=0.02), "slow"
        )
        transport = FramedTransport(port, settings=LinkSettings(resend_s=0.05))
        transport.write(SCRATCH, np.array([3], dtype=np.uint32))
        assert transport.read(SCRATCH, 1)[0] == 3
        assert transport.resent >= 1
        transport.close()
    assert window.writes == [(SCRATCH, [3])]
