"""Frames and text on one stream: whatever lies between, both are found again."""

from collections import Counter
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.demux import STALE_S, Demux
from firmware_bridge.errors import InputError
from firmware_bridge.frames import MAX_ENCODED, MAX_WORDS, Frame, Kind, encode
from firmware_bridge.text import scpi

READ = Frame(Kind.READ, 0x0A0A0A0A, 5, 0x50, 10)  # newlines in it
BLOCK = bytes(range(256)) * 2


def write(words, sequence=1, bulk=False):
    payload = np.asarray(words, dtype="<u4").tobytes()
    return Frame(Kind.WRITE, 7, sequence, 0x50, len(payload) // 4, payload, bulk=bulk)


class Line:
    def __init__(self):
        self.now_s = 0.0
        self.demux = Demux(lambda: self.now_s)

    def __call__(self, *pieces):
        return [found for piece in pieces for found in self.demux.feed(piece)]


frames = st.builds(
    lambda session, words: Frame(
        Kind.WRITE, session, 1, 0, len(words), np.array(words, dtype="<u4").tobytes()
    ),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 2**32 - 1), max_size=40),
)
texts = st.one_of(
    st.just(b"*IDN?"),
    st.from_regex(rb"[A-Za-z*:][ -!$-&(-~]{0,30}", fullmatch=True),
    st.binary(max_size=300).map(lambda data: b"REG 0x50," + scpi.block(data)),
)


@given(st.lists(st.one_of(frames, texts), max_size=8), st.data())
def test_frames_and_messages_in_any_mixture_and_any_cut(sent, data):
    wire = [encode(item) if isinstance(item, Frame) else item + b"\n" for item in sent]
    stream = b"".join(wire)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pairs = zip([0, *cuts], [*cuts, len(stream)], strict=True)
    assert Line()(*(stream[start:end] for start, end in pairs)) == sent


@given(st.lists(st.binary(max_size=200), max_size=5), st.data())
def test_after_any_noise_a_frame_that_is_sent_again_arrives(noise, data):
    """As a host sends: once more after silence, ever longer."""
    line, arrived = Line(), []
    line(*noise)
    for pause_s in (0.0, 0.5, 1.0, 2.0):
        line.now_s += pause_s
        arrived += [found for found in line(encode(READ)) if isinstance(found, Frame)]
    assert READ in arrived
    assert set(arrived) <= {READ}


@given(st.binary(max_size=300))
def test_after_any_noise_a_line_of_text_arrives(noise):
    line = Line()
    line(noise)
    line.now_s += 2 * STALE_S
    line(b"*CLS\n")  # may still end what the noise began
    line.now_s += 2 * STALE_S
    assert line(b"*IDN?\n") == [b"*IDN?"]


@pytest.mark.parametrize("noise", [b"\xff", b"\x80\x81", b"A", b"*I", b'"', b"V 'x", b"#", b"9"])
def test_noise_without_a_block_costs_a_frame_nothing(noise):
    assert Line()(noise + encode(READ)) == [READ]


def test_a_lost_border_costs_one_frame_at_most():
    wire = encode(READ)
    line = Line()
    assert line(wire[:-1] + encode(write([1]))) == [READ, write([1])]
    assert line(wire[1:]) == [READ]
    assert line(wire[:-9] + encode(write([2]))) == [write([2])]
    assert line.demux.dropped == 1


def test_a_zero_ends_text_but_not_a_block():
    line = Line()
    assert line(b"SAFE" + encode(READ) + b"SAFE\n") == [READ, b"SAFE"]
    message = b"PROG:LOAD " + scpi.block(BLOCK)
    assert line(message + b"\n" + encode(READ)) == [message, READ]


def test_a_block_that_nobody_goes_on_with_is_given_up():
    line = Line()
    line(b"PROG:LOAD #6999999" + BLOCK)
    line.now_s = 0.9 * STALE_S
    assert line(encode(READ)) == [], "it might be part of the block"
    line.now_s += 1.1 * STALE_S
    assert line(encode(READ)) == [READ]


def test_who_only_listens_in_short_turns_keeps_no_block_and_no_bulk_waiting():
    for begun in (b"PROG:LOAD #6999999" + BLOCK, encode(write(range(9000), bulk=True))[:9000]):
        line = Line()
        line(begun)
        while line.now_s < 1.1 * STALE_S:  # as a server does, which looks whether it is to stop
            line.now_s += 0.1
            line(b"")
        assert line(encode(READ)) == [READ]


def test_a_host_that_died_within_a_frame_does_not_silence_a_person():
    line = Line()
    assert line(encode(write(range(500)))[:700]) == []
    line.now_s = 1.1 * STALE_S
    assert line(b"*IDN?\n") == [b"*IDN?"]


def test_a_person_may_type_slowly():
    line, found = Line(), []
    for letter in b"*IDN?\n":
        line.now_s += 10 * STALE_S
        found += line(bytes([letter]))
    assert found == [b"*IDN?"]


def test_too_long_messages_are_told_and_skipped():
    line = Line()
    found = line(*[b"A" * 65536] * 20, b"\n*IDN?\n")
    assert [type(item) for item in found] == [InputError, bytes]
    found = line(b"VMM? #9999999999,", b"xyz\n*CLS\n")
    assert [type(item) for item in found] == [InputError, bytes]


@pytest.mark.parametrize("byte", [b"\x03", b"A", b"\xff", b"\n", b"\0", b"#", b"A #"])
def test_nothing_makes_it_hold_more_than_one_frame_and_one_message(byte):
    line, most = Line(), 0
    for _ in range(40):  # more than twice the longest message
        line((byte * 65536)[:65536])
        held = len(line.demux._text) + len(line.demux._decoder._partial)
        most = max(most, held)
    assert most <= MAX_ENCODED + scpi.MAX_MESSAGE_BYTES + 65536
    line.now_s += 2 * STALE_S
    assert line(b"\0" + encode(READ))[-1:] == [READ]


def test_the_largest_of_both_pass():
    big = write(np.arange(MAX_WORDS))
    wire = encode(big)
    assert Line()(*(wire[at : at + 4096] for at in range(0, len(wire), 4096))) == [big]
    message = b"VMM? " + scpi.block(b"\0\n" * (1 << 19))
    text = message + b"\n"
    assert Line()(*(text[at : at + 65536] for at in range(0, len(text), 65536))) == [message]


def _steps(pieces):
    """How often a demultiplexer looks for a border in a message that comes in pieces."""
    looks = Counter()
    real = scpi._SPLITS

    class Counted:
        def __init__(self, stop):
            self.stop = stop

        def search(self, data, at):
            looks["n"] += 1
            return real[self.stop].search(data, at)

    with mock.patch.object(scpi, "_SPLITS", {stop: Counted(stop) for stop in real}):
        demux = Demux()
        found = [message for piece in pieces for message in demux.feed(piece)]
    return looks["n"], found


def test_a_message_of_many_blocks_or_strings_is_read_once():
    blocks = b"VMM? #11\n" + b",#11\n" * 2000
    looks, found = _steps([blocks + b"\r\n"])
    assert found == [blocks]
    assert looks < 10_000
    strings = b"A #" + b"''" * 2000
    looks, found = _steps([strings, *[b"#"] * 300, b"\n"])
    assert found == [strings + b"#" * 300]
    assert looks < 10_000
