"""Byte stuffing: against an independent COBS, compiled and not."""

from __future__ import annotations

import pytest
from cobs import cobs as independent
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import cobs
from firmware_bridge.errors import InputError

# Long runs without a zero are where COBS is intricate; plain random bytes have none. Eight parts
# of up to 764 bytes reach what is compiled.
RUNS = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.integers(0, 3).flatmap(
            lambda blocks: st.integers(-2, 2).map(lambda d: b"\x07" * max(0, 254 * blocks + d))
        ),
        st.integers(0, 300).map(bytes),
    ),
    max_size=8,
).map(b"".join)
LONG = RUNS.map(lambda data: data + bytes([5]) * (1024 - len(data) % 1024) + data)


@given(st.one_of(RUNS, LONG))
def test_encoded_is_what_others_encode(data: bytes) -> None:
    assert cobs.cobs_encode(data) == independent.encode(data)
    assert cobs.encode_plainly(data) == independent.encode(data)


@given(st.one_of(RUNS, LONG))
def test_decoded_is_what_was_encoded(data: bytes) -> None:
    encoded = independent.encode(data)
    assert cobs.cobs_decode(encoded) == cobs.decode_plainly(encoded) == data


@given(st.one_of(st.binary(min_size=1, max_size=600), LONG), st.integers(0, 255), st.data())
def test_what_others_refuse_is_refused(data: bytes, byte: int, draw: st.DataObject) -> None:
    damaged = bytearray(independent.encode(data))
    damaged[draw.draw(st.integers(0, len(damaged) - 1))] = byte
    for decode in (cobs.cobs_decode, cobs.decode_plainly):
        try:
            expected = independent.decode(bytes(damaged))
        except independent.DecodeError:
            with pytest.raises(InputError, match="COBS"):
                decode(bytes(damaged))
        else:
            assert decode(bytes(damaged)) == expected


def test_nothing_is_not_cobs() -> None:
    with pytest.raises(InputError, match="0 bytes are not COBS"):
        cobs.cobs_decode(b"")
    assert cobs.cobs_decode(cobs.cobs_encode(b"")) == b""


def test_without_numba_the_plain_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cobs, "compiled", lambda function: None)
    data = bytes(range(256)) * 20
    assert cobs.cobs_decode(cobs.cobs_encode(data)) == data
