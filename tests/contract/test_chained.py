"""Requests that do not wait for each other: nothing follows what was not done."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_bridge import registers
from firmware_bridge.errors import InputError
from firmware_bridge.frames import ErrorCode, Frame, FrameDecoder, Kind, encode
from rram_host.errors import LinkError
from rram_host.transports.base import Chains, Transport, write_then_read
from rram_host.transports.framed import FramedTransport, LinkSettings
from rram_host.transports.mmio import MmioTransport
from rram_host.transports.tap import Tap
from tests.doubles import MemoryWindow
from tests.lossy import Bridge, LossyLine, SimulatedTime

TABLE, SCRATCH = registers.TABLE.offset, registers.offset("SCRATCH")
STATUS = registers.offset("STATUS")


class Picky(MemoryWindow):
    """Refuses words of 13, and fails at words of 14."""

    def write(self, address, words):
        if 13 in words:
            raise InputError("13 is refused")
        if 14 in words:
            raise OSError("14 breaks the bus")
        super().write(address, words)


def word(value: int) -> np.ndarray:
    return np.array([value], dtype=np.uint32)


def linked(window: MemoryWindow, rate: float = 0.0, seed: int = 0, **settings) -> FramedTransport:
    time = SimulatedTime()
    line = LossyLine(Bridge(window, time).plug(), np.random.default_rng(seed), rate, time=time)
    patient = LinkSettings(timeout_s=1e9, connect_s=1e9, frame_words=4, **settings)
    sessions = iter(range(1, 10**6))
    return FramedTransport(line, "line", patient, time, lambda: next(sessions))


def request(kind: Kind, sequence: int, values: list[int], chained: bool) -> Frame:
    payload = np.array(values, dtype="<u4").tobytes()
    return Frame(kind, 7, sequence, SCRATCH, len(values), payload, chained=chained)


def test_what_is_chained_to_a_failure_is_skipped_until_something_is_not() -> None:
    window = Picky()
    client = Bridge(window, SimulatedTime()).plug()
    (hello,) = FrameDecoder().feed(client.feed(encode(Frame(Kind.READ, 7, 0, 0, 0)))[0])
    first = int(hello.words[0])
    codes = []
    for at, (value, chained) in enumerate(
        [(13, False), (1, True), (2, True), (3, False), (4, True)]
    ):
        (answer,) = client.feed(encode(request(Kind.WRITE, first + at, [value], chained)))
        (reply,) = FrameDecoder().feed(answer)
        codes.append(reply.reason()[0] if reply.kind is Kind.ERROR else 0)
    assert codes == [ErrorCode.REFUSED, ErrorCode.SKIPPED, ErrorCode.SKIPPED, 0, 0]
    assert [words for _, words in window.writes] == [[3], [4]]


def test_the_flag_travels() -> None:
    for chained in (False, True):
        frame = request(Kind.WRITE, 3, [5], chained)
        assert FrameDecoder().feed(encode(frame)) == [frame]


@pytest.mark.parametrize(
    ("wrong", "error", "text"), [(13, InputError, "13 is refused"), (14, LinkError, "14 breaks")]
)
@pytest.mark.parametrize("place", range(3))
def test_nothing_follows_a_write_that_fails(place: int, wrong: int, error, text: str) -> None:
    window = Picky()
    link = linked(window, in_flight=8)
    values = [1, 2, 3]
    values[place] = wrong
    with pytest.raises(error, match=text):
        link.write_then_read([(SCRATCH, word(value)) for value in values], STATUS, 1)
    assert [words for _, words in window.writes] == [[value] for value in values[:place]]
    assert link.write_then_read([(SCRATCH, word(9))], SCRATCH, 1).tolist() == [9]


def test_a_long_write_stops_at_the_frame_that_fails() -> None:
    window = Picky()
    with pytest.raises(InputError):
        linked(window).write(TABLE, np.arange(6, 26, dtype=np.uint32))  # 13 in the second frame
    assert [words for _, words in window.writes] == [[6, 7, 8, 9]]


@pytest.mark.parametrize("rate", [0.0, 0.2])
@pytest.mark.parametrize("in_flight", [1, 4, 8])
def test_order_is_kept_and_all_is_done_once(in_flight: int, rate: float) -> None:
    window = MemoryWindow()
    link = linked(window, rate, seed=in_flight, in_flight=in_flight)
    expected = []
    for turn in range(20):
        long = np.arange(turn, turn + 10, dtype=np.uint32)
        found = link.write_then_read([(TABLE, long), (SCRATCH, word(turn))], SCRATCH, 1)
        assert found.tolist() == [turn] and found.flags.writeable
        expected += [long[a : a + 4].tolist() for a in (0, 4, 8)] + [[turn]]
    assert [words for _, words in window.writes] == expected


@pytest.mark.parametrize("chains", [True, False])
def test_every_link_does_the_same_and_is_overheard(chains: bool) -> None:
    window = MemoryWindow()
    inner: Transport = linked(window) if chains else MmioTransport(window)
    assert isinstance(inner, Chains) == chains
    tap, heard = Tap(inner), []
    tap.listener = lambda kind, address, words: heard.append((kind, address, words.tolist()))
    found = write_then_read(tap, [(TABLE, word(5)), (SCRATCH, word(6))], SCRATCH, 1)
    assert found.tolist() == [6]
    assert heard == [("w", TABLE, [5]), ("w", SCRATCH, [6]), ("r", SCRATCH, [6])]
    assert window.writes == [(TABLE, [5]), (SCRATCH, [6])]


def test_a_chain_is_answered_once() -> None:
    """And by as many answers as there are windows of requests, where it is longer."""
    for in_flight, answers in ((8, 1), (4, 2)):
        link = linked(MemoryWindow(), in_flight=in_flight)
        link.connect()
        line, replies = link._stream, []
        feed = line.far.feed
        line.far.feed = lambda data, feed=feed, replies=replies: (
            replies.extend(found := feed(data)) or found
        )
        link.write_then_read([(SCRATCH, word(value)) for value in range(6)], SCRATCH, 1)
        assert len(replies) == answers
