"""Frames in bulk: the payload behind the border, as it is."""

from __future__ import annotations

import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import registers
from firmware_bridge.agent import Agent
from firmware_bridge.client import Client
from firmware_bridge.demux import STALE_S, Demux
from firmware_bridge.frames import MAX_WORDS, ErrorCode, Frame, FrameDecoder, Kind, encode
from rram_host.transports.framed import FramedTransport, LinkSettings
from tests.doubles import MemoryWindow
from tests.lossy import Bridge, LossyLine, SimulatedTime

WORDS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40)


def write(words: list[int], bulk: bool = True, sequence: int = 1) -> Frame:
    payload = np.array(words, dtype="<u4").tobytes()
    return Frame(Kind.WRITE, 7, sequence, 0x80000, len(words), payload, bulk=bulk)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(at)]


frames = st.lists(st.builds(write, WORDS, st.booleans(), st.integers(0, 99)), max_size=5)
places = st.lists(st.integers(0, 10_000), max_size=12)


def test_bytes_on_the_wire() -> None:
    wire = encode(write([0, 0xDEADBEEF]))
    head, payload, crc = wire[: -8 - 4], wire[-12:-4], wire[-4:]
    assert head[0] == head[-1] == 0 and 0 not in head[1:-1]
    assert payload.hex() == "00000000efbeadde"
    assert crc == zlib.crc32(payload).to_bytes(4, "little")
    assert len(encode(write([0, 0xDEADBEEF], bulk=False))) == len(wire) - 4


@given(frames, places)
def test_frames_of_both_kinds_in_any_cut(sent: list[Frame], at: list[int]) -> None:
    wire = b"".join(map(encode, sent))
    decoder, demux = FrameDecoder(), Demux(lambda: 0.0)
    found, pieces = [], []
    for part in cut(wire, at):
        found += decoder.feed(part)
        pieces += list(demux.feed(part))
    assert found == sent
    assert pieces == sent
    assert decoder.wanting == decoder.dropped == 0


@given(WORDS, st.integers(0, 10_000), st.integers(1, 255))
def test_damage_is_dropped_and_what_comes_next_is_not(words: list[int], at: int, bit: int) -> None:
    wire = bytearray(encode(write(words)))
    start = len(wire) - 4 * len(words) - 4
    wire[start + at % (len(wire) - start)] ^= bit
    decoder = FrameDecoder()
    assert decoder.feed(bytes(wire) + encode(write([5], sequence=2))) == [write([5], sequence=2)]
    assert decoder.dropped == 1


@given(WORDS, st.integers(1, 10_000), st.booleans())
def test_what_does_not_go_on_is_given_up_after_a_silence(
    words: list[int], lost: int, bulk: bool
) -> None:
    wire, now_s = encode(write(words)), [0.0]
    outside = 4 * len(words) + 4
    demux = Demux(lambda: now_s[0])
    assert list(demux.feed(wire[: len(wire) - 1 - lost % outside])) == []
    now_s[0] += STALE_S + 0.1
    again = write(words, bulk)
    assert list(demux.feed(encode(again))) == [again]


def test_a_count_beyond_the_limit_and_unknown_flags_are_no_frames() -> None:
    decoder = FrameDecoder()
    assert decoder.feed(encode(Frame(Kind.READ, 1, 1, 0, MAX_WORDS + 1, bulk=True))) == []
    assert decoder.feed(encode(Frame(Kind.WRITE, 1, 1, 0, 2**31, bulk=True))) == []
    assert (decoder.dropped, decoder.wanting) == (2, 0)


@pytest.mark.parametrize("bulk", [False, True])
def test_a_read_is_answered_as_it_was_asked(bulk: bool) -> None:
    client = Client(Agent(MemoryWindow()), "host", clock=lambda: 0.0)
    (hello,) = FrameDecoder().feed(client.feed(encode(Frame(Kind.READ, 7, 0, 0, 0)))[0])
    first = int(hello.words[0])
    request = Frame(Kind.READ, 7, first, registers.TABLE.offset, 100, bulk=bulk)
    (answer,) = client.feed(encode(request))
    (reply,) = FrameDecoder().feed(answer)
    assert reply.bulk == bulk and reply.answers(request)
    assert (bytes(400) in answer) == bulk
    wrong = Frame(Kind.READ, 7, first + 1, 2, 100, bulk=bulk)
    (refusal,) = FrameDecoder().feed(client.feed(encode(wrong))[0])
    assert refusal.reason()[0] == ErrorCode.REFUSED and not refusal.bulk


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_exactly_once_also_where_a_line_loses_what_such_lines_never_lose(
    seed: int, rate: float
) -> None:
    time, window = SimulatedTime(), MemoryWindow()
    line = LossyLine(
        Bridge(window, time).plug(), np.random.default_rng(seed), rate, (100, 900), time=time
    )
    settings = LinkSettings(timeout_s=1e9, connect_s=1e9, frame_words=200, bulk=True)
    link = FramedTransport(line, "bulk", settings, time, lambda: 7)
    rng, sent = np.random.default_rng(seed), []
    for _ in range(6):
        words = rng.integers(0, 2**32, 500, dtype=np.uint32)
        link.write(registers.TABLE.offset, words)
        sent += [words[a : a + 200].tolist() for a in (0, 200, 400)]
        assert np.array_equal(link.read(registers.TABLE.offset, 500), words)
    assert [words for _, words in window.writes] == sent
    assert (line.hits > 0) == (rate > 0)
