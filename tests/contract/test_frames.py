"""The codec: against an independent COBS, and against damage."""

import numpy as np
import pytest
from cobs import cobs
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge import frames
from firmware_bridge.errors import InputError
from firmware_bridge.frames import ErrorCode, Frame, FrameDecoder, Kind, decode, encode

LIGHT = settings(max_examples=60, deadline=None)

uint32 = st.integers(0, 2**32 - 1)
requests = st.builds(
    lambda session, sequence, address, words: Frame(
        Kind.WRITE,
        session,
        sequence,
        address,
        len(words),
        np.array(words, dtype="<u4").tobytes(),
    ),
    uint32,
    uint32,
    uint32,
    st.lists(uint32, max_size=70),
)


@pytest.mark.parametrize("fill", [0, 1, 0xFFFF_FFFF])
def test_largest_frame_fits_its_bound(fill):
    payload = np.full(frames.MAX_WORDS, fill, dtype="<u4").tobytes()
    wire = encode(Frame(Kind.WRITE, 1, 2, 4, frames.MAX_WORDS, payload))
    assert len(wire) <= frames.MAX_ENCODED + 2
    assert cobs.decode(wire[1:-1])[20:-4] == payload
    assert FrameDecoder().feed(wire)[0].payload == payload


def crc32_by_definition(data):
    """IEEE 802.3: reflected polynomial 0xEDB88320, all ones in, inverted out."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB8_8320 if crc & 1 else 0)
    return crc ^ 0xFFFF_FFFF


def test_bytes_on_the_wire():
    frame = Frame(Kind.WRITE, 0x11223344, 5, 0x50, 1, bytes.fromhex("efbeadde"))
    raw = cobs.decode(encode(frame)[1:-1])
    assert encode(frame)[0] == encode(frame)[-1] == 0
    assert raw[:-4].hex(" ", 4) == "01020000 44332211 05000000 50000000 01000000 efbeadde"
    assert raw[-4:].hex() == "1c45045b"
    assert int.from_bytes(raw[-4:], "little") == crc32_by_definition(raw[:-4])


@LIGHT
@given(st.lists(requests, max_size=4), st.data())
def test_any_cut_of_the_stream_gives_the_same_frames(sent, data):
    stream = b"".join(encode(frame) for frame in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder, found = FrameDecoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += decoder.feed(stream[start:end])
    assert found == sent
    assert decoder.dropped == 0


@LIGHT
@given(requests, requests, st.integers(0, 10**6), st.integers(1, 255))
def test_a_damaged_frame_is_dropped_and_the_next_one_arrives(first, second, where, flip):
    wire = bytearray(encode(first))
    position = 1 + where % (len(wire) - 2)
    wire[position] ^= flip
    decoder = FrameDecoder()
    assert decoder.feed(bytes(wire) + encode(second)) == [second]
    assert decoder.dropped >= 1


def test_noise_without_end_takes_no_memory():
    decoder, sound = FrameDecoder(), Frame(Kind.READ, 1, 0, 0, 0)
    for _ in range(50):
        assert decoder.feed(b"\x55" * 8192) == []
        assert len(decoder._partial) <= frames.MAX_ENCODED
    assert decoder.feed(encode(sound)) == [sound]
    assert decoder.dropped == 1


def test_replies_answer_their_own_request_only():
    asked = Frame(Kind.READ, 7, 3, 0x40, 2)
    good = asked.reply(np.array([1, 2], dtype=np.uint32))
    assert good.answers(asked)
    assert decode(encode(good)[1:-1]) == good
    for name in ("session", "sequence", "address", "count"):
        other = Frame(**{**vars(asked), name: getattr(asked, name) + 1})
        assert not good.answers(other)
    assert not asked.reply().answers(asked), "words are missing"
    assert not asked.answers(asked), "an echo is no answer"


def test_error_replies_carry_code_and_text():
    asked = Frame(Kind.READ, 7, 3, 0x41, 2)
    answer = asked.error(ErrorCode.REFUSED, "0x41 is odd: ½ word")
    assert answer.answers(asked)
    assert answer.reason() == (ErrorCode.REFUSED, "0x41 is odd: ½ word")
    assert len(asked.error(ErrorCode.BOARD, "x" * 10**5).payload) <= 4 + frames.MAX_TEXT_BYTES


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"address": -4}, "address"),
        ({"sequence": 2**32}, "sequence"),
        ({"payload": b"abc"}, "whole"),
        ({"payload": bytes(4 * frames.MAX_WORDS + 4)}, str(frames.MAX_WORDS)),
    ],
)
def test_what_does_not_fit_the_wire_is_refused(fields, word):
    plain = {"kind": Kind.WRITE, "session": 1, "sequence": 1, "address": 0, "count": 0}
    with pytest.raises(InputError, match=word):
        Frame(**{**plain, **fields})
