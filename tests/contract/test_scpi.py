"""The grammar of the text dialect: messages, headers, arguments, blocks, status."""

import struct
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.errors import InputError
from firmware_bridge.text import scpi
from firmware_bridge.text.scpi import Sort
from firmware_bridge.text.status import QUEUE_ENTRIES, ScpiError, Status

NOISE = st.binary(max_size=300) | st.lists(
    st.sampled_from(
        [b"#", b"#1", b"#29", b"#9999999999", b"'", b'"', b"\n", b"\r", b";", b",", b" ", b":"]
        + [b"REG", b"*", b"?", b"1e", b"#H", b"0x", b"\0", b"\xff", b"5"]
    ),
    max_size=40,
).map(b"".join)


def number_of(call, *arguments):
    with pytest.raises(ScpiError) as caught:
        call(*arguments)
    return caught.value.number


# ---- messages -----------------------------------------------------------------------------------


@given(st.binary(max_size=2000), st.booleans(), st.integers(1, 50))
def test_blocks_round_trip_in_any_pieces(data, crc, piece):
    sent = b"REG 0x50, " + scpi.block(data, crc) + b" ;*IDN?\r\nnext"
    buffer, found = bytearray(), []
    for at in range(0, len(sent), piece):
        buffer += sent[at : at + piece]
        message = scpi.take_message(buffer)
        found += [message] if message is not None else []
    assert (found, bytes(buffer)) == ([sent[:-6]], b"next")
    units = list(scpi.split(found[0], ";"))
    assert units[1] == b"*IDN?"
    arguments = scpi.arguments(scpi.header_of(units[0])[1])
    assert arguments[0].number == 0x50
    assert scpi.unpack(arguments[1].data, crc) == data


def test_a_block_is_what_the_standard_says():
    assert scpi.block(bytes(range(10))) == b"#210" + bytes(range(10))
    checked = scpi.block(b"abc", crc=True)
    assert checked == b"#17abc" + struct.pack("<I", zlib.crc32(b"abc"))
    damaged = bytearray(checked[3:])
    damaged[1] ^= 4
    assert number_of(scpi.unpack, bytes(damaged), True) == -161
    assert number_of(scpi.unpack, b"abc", True) == -161


@given(NOISE)
def test_any_bytes_are_messages_sooner_or_later(data):
    buffer, messages = bytearray(data + b"\n" * 3), 0
    while scpi.take_message(buffer) is not None:
        messages += 1
        assert messages <= len(data) + 3
    if buffer:  # only a block keeps newlines to itself
        assert scpi.missing(buffer) > 0 or b"#9999999999" in data


def test_a_quote_that_nobody_closes_does_not_swallow_the_next_message():
    buffer = bytearray(b"REG \"abc\n*IDN?\nREG 'a\n#13',1\n")
    found = [scpi.take_message(buffer) for _ in range(4)]
    assert found == [b'REG "abc', b"*IDN?", b"REG 'a", b"#13',1"]


@pytest.mark.parametrize("begin", [b"REG 0x50,", b"REG 0x50,#9001100000", b"A" * 20 + b" '"])
def test_a_message_is_never_longer_than_its_limit(begin):
    buffer = bytearray(begin)
    with pytest.raises(InputError, match="bytes"):
        while len(buffer) < 2 * scpi.MAX_MESSAGE_BYTES:
            buffer += b"x" * 100_000
            scpi.take_message(buffer)
    assert len(buffer) < scpi.MAX_MESSAGE_BYTES + 200_000


def test_a_block_beyond_the_limit_is_refused_at_once():
    with pytest.raises(InputError, match="999999999"):
        scpi.take_message(bytearray(b"REG 0x50,#9999999999\n"))
    assert scpi.missing(b"REG 0x50,#9999999999") == 0


@pytest.mark.parametrize(
    ("seed", "tail"),
    [
        (b'"', b"\n"),
        (b"' \"", b"\n"),
        (b" #10", b"\n"),
        (b";", b""),
        (b"#", b"\n"),
        (b" #11\n", b""),
    ],
)
def test_hostile_messages_take_time_in_proportion(seed, tail):
    def seconds(count):
        message = bytearray(b"REG " + seed * (count // len(seed)) + tail)
        begun = time.process_time()
        for _ in range(3):
            scpi.take_message(bytearray(message))
            sum(len(unit) for unit in scpi.split(bytes(message), ";"))
        return time.process_time() - begun

    # Quadratic work would be 256 times as much, and minutes: the bound has room for any machine.
    assert seconds(400_000) < 100 * max(seconds(25_000), 1e-3)


# ---- headers ------------------------------------------------------------------------------------


def test_short_and_long_forms():
    found = scpi.spellings("SYSTem:ERRor[:NEXT]?")
    assert {"SYST:ERR?", "SYSTEM:ERROR?", "SYST:ERROR:NEXT?", "SYSTEM:ERR:NEXT?"} < found
    assert len(found) == 8
    assert scpi.spellings("*IDN?") == {"*IDN?"}
    assert scpi.spellings("SAFE") == {"SAFE"}


def test_compound_headers_go_on_from_the_last():
    path = ()
    whole = []
    for unit in (b"SYST:ERR:COUN?", b"*ESR?", b"NEXT?", b":REG? 0", b"READ? 1,1"):
        header, _ = scpi.header_of(unit)
        found, path = scpi.resolve(header, path)
        whole.append(found)
    assert whole == ["SYST:ERR:COUN?", "*ESR?", "SYST:ERR:NEXT?", "REG?", "READ?"]


@pytest.mark.parametrize(
    ("unit", "number"),
    [
        (b"5VOLT", -102),
        (b"SYST::ERR?", -102),
        (b"SYST\xe9:ERR?", -101),
        (b"REG?? 1", -102),
        (b"ABCDEFGHIJKLM", -112),
        (b"(1)", -101),
    ],
)
def test_bad_headers(unit, number):
    assert number_of(scpi.header_of, unit) == number


# ---- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"12", 12),
        (b" -3 ", -3),
        (b"+.5", 0.5),
        (b"2.", 2.0),
        (b"1.5e-3", 0.0015),
        (b"1 E 3", 1000.0),
        (b"#H1F", 31),
        (b"#b101", 5),
        (b"#Q17", 15),
        (b"0x50", 80),
    ],
)
def test_numbers(text, value):
    found = scpi.argument(text)
    assert (found.sort, found.number) == (Sort.NUMBER, value)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"", -109),
        (b"1V", -138),
        (b"1.2.3", -138),
        (b"#HXY", -121),
        (b"#H", -121),
        (b"1$", -121),
        (b"$", -104),
        (b"'abc", -151),
        (b"'ab'c'", -151),
        (b"#0abc", -161),
        (b"#15abc", -161),
        (b"#13abcd", -161),
        (b"#3zzz", -161),
    ],
)
def test_bad_arguments(text, number):
    assert number_of(scpi.argument, text) == number


def test_strings_and_names():
    assert scpi.argument(b"'it''s' ") == scpi.Argument(Sort.STRING, "it's")
    assert scpi.argument(b" STATUS ") == scpi.Argument(Sort.NAME, "STATUS")
    parts = scpi.arguments(b'\'a,b\', "c""d" ,3')
    assert [part.text for part in parts] == ["a,b", 'c"d', "3"]
    assert scpi.arguments(b"  ") == []
    assert number_of(scpi.arguments, b"1," * 400_000) == -108


@given(NOISE)
def test_any_unit_is_parsed_or_refused(data):
    for unit in scpi.split(data, ";"):
        try:
            _, rest = scpi.header_of(unit)
            arguments = scpi.arguments(rest)
        except ScpiError as error:
            assert -170 < error.number <= -100
        else:
            assert len(arguments) <= scpi.MAX_ARGUMENTS


# ---- status -------------------------------------------------------------------------------------


def test_the_queue_overflows_as_the_standard_says():
    status = Status()
    for index in range(QUEUE_ENTRIES + 5):
        status.put(-222, f"value {index}")
    found = [status.take() for _ in range(QUEUE_ENTRIES + 1)]
    assert found[0] == '-222,"Data out of range; value 0"'
    assert found[-2:] == ['-350,"Queue overflow"', '0,"No error"']


def test_event_bits_and_summaries():
    status = Status()
    assert status.take_event() == 128  # power on
    for number, bit in ((-113, 32), (-222, 16), (-310, 8), (-410, 4)):
        status.put(number)
        assert status.take_event() == bit
    assert status.byte(message=False) == 4
    status.put(-113)
    status.event_enable, status.service_enable = 32, 32
    assert status.byte(message=True) == 4 | 16 | 32 | 64
    status.clear()
    assert (len(status), status.byte(message=False)) == (0, 0)


@given(st.text(max_size=400))
def test_errors_are_one_line_of_ascii(detail):
    status = Status()
    status.put(-240, detail)
    line = status.take()
    assert line.isascii() and line.isprintable() and line.count('"') == 2
    assert len(line) <= 255 + 7
