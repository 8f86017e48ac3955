"""The command tree of the text dialect: IEEE 488.2, registers, one writer, whatever comes."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import firmware_bridge
from firmware_bridge import board_spec, registers
from firmware_bridge.text import scpi
from firmware_bridge.text.instrument import COMMANDS, MAX_ANSWER_BYTES, TextSession
from sim.board import EmulatedBoard
from tests.doubles import MemoryWindow
from tests.text_rig import Bench, DirectAccess, errors, unblock

SPEC = board_spec.load()


@pytest.fixture
def bench():
    bench = Bench(EmulatedBoard(preset="ideal", seed=7))
    yield bench
    bench.close()


# ---- IEEE 488.2 -----------------------------------------------------------------------------


def test_identity_and_versions(bench):
    ask = bench.client()
    assert len(ask("*IDN?").split(b",")) == 4
    assert ask("syst:vers?") == b"1999.0\n"
    assert ask("*OPC?;*STB?;*ESR?") == b"1;16;128\n"
    assert errors(ask) == []


def test_every_command_is_in_the_help_and_in_the_readme(bench):
    found = re.findall(r'"([^"]*)"', bench.client()("SYST:HELP?").decode())
    wanted = [f"{item.pattern} {item.usage}".rstrip() for item in COMMANDS]
    assert found == wanted
    readme = (Path(firmware_bridge.__file__).parent / "README.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", readme, re.MULTILINE)
    table = {command: about for command, about in rows if command.replace("\\|", "|") in wanted}
    assert {command.replace("\\|", "|") for command in table} == set(wanted)
    abouts = {f"{item.pattern} {item.usage}".rstrip(): item.about for item in COMMANDS}
    for command, about in table.items():
        assert about == abouts[command.replace("\\|", "|")]


def test_every_command_answers_or_says_why_not(bench):
    ask = bench.client()
    ask("*CLS")
    for item in COMMANDS:
        answered = ask(item.pattern.replace("[", "").replace("]", ""))
        said = errors(ask)
        assert bool(answered) == (item.pattern.endswith("?") and not said), item.pattern
        if item.least:
            assert said == [f'-109,"Missing parameter; {item.pattern} {item.usage}"']
    for item in COMMANDS:
        ask(item.pattern.replace("[", "").replace("]", ""), " 1,2,3")
        assert errors(ask)[0].startswith(("-108", "-104"))


def test_events_and_masks(bench):
    ask = bench.client()
    assert ask("*ESR?") == b"128\n"
    ask("*ESE 33;*SRE 255")
    assert ask("*ESE?;*SRE?") == b"33;191\n"
    ask("NONSENSE")
    assert ask("*STB?") == b"100\n"
    assert ask("*ESR?;*STB?") == b"32;84\n"
    ask("*CLS")
    assert ask("*STB?") == b"0\n"
    ask("*OPC")
    assert ask("*ESR?") == b"1\n"
    ask("*ESE 256")
    assert errors(ask) == ['-222,"Data out of range; *ESE 256 is outside 0..255"']


def test_a_message_stops_at_its_first_error(bench):
    ask = bench.client()
    assert ask("REG? SCRATCH;NONSENSE;REG SCRATCH,5") == b"0\n"
    assert ask("REG? SCRATCH") == b"0\n"
    assert errors(ask) == ['-113,"Undefined header; NONSENSE"']


def test_each_client_has_its_own_queue(bench):
    one, two = bench.client("one"), bench.client("two")
    one("NONSENSE")
    assert errors(two) == []
    assert len(errors(one)) == 1


# ---- registers ------------------------------------------------------------------------------


def test_registers_by_name_address_and_block(bench):
    ask = bench.client()
    assert ask("REG? IDENT") == b"%d\n" % registers.IDENTITY
    ask("REGISTER #H50,305419896")
    assert ask("REG? SCRATCH") == b"305419896\n"
    words = np.arange(40_000, dtype="<u4")
    ask("REG TABLE,", scpi.block(words.tobytes()))
    assert (unblock(ask("REG? table,40000"), "<u4") == words).all()
    assert errors(ask) == []


def test_blocks_carry_a_crc_when_asked(bench):
    ask = bench.client()
    ask("FORM:CRC ON")
    data = np.arange(3, dtype="<u4").tobytes()
    ask("REG TABLE,", scpi.block(data, crc=True))
    answer = ask("REG? TABLE,3")
    assert scpi.unpack(answer[4:-1], crc=True) == data
    damaged = bytearray(scpi.block(data, crc=True))
    damaged[9] ^= 1
    ask("REG TABLE,", bytes(damaged))
    assert ask("FORM:CRC?") == b"1\n"
    assert [line[:4] for line in errors(ask)] == ["-161"]
    ask("FORM:CRC OFF")
    assert (unblock(ask("REG? TABLE,3"), "<u4") == np.arange(3)).all()


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("REG? NOWHERE", -141),
        ("REG? 2", -222),
        ("REG? #H200000", -222),
        ("REG? -4", -222),
        ("REG? SCRATCH,0", -222),
        ("REG SCRATCH,1.5", -222),
        ("REG SCRATCH,1E99", -222),
        ("REG SCRATCH,ABC", -104),
        ("REG SCRATCH,#13abc", -161),
        ("REG SCRATCH,#14abc", -161),
        ("READ? 32,0", -222),
        ("READ? 0,'a'", -104),
        ("VMM? 1", -104),
        ("VMM? #14abcd", -161),
        ("PROG:RUN", -221),
        ("PROG:LOAD #14\xff\xff\xff\xff", -220),
        ("FORM:CRC MAYBE", -141),
    ],
)
def test_refusals(bench, line, number):
    ask = bench.client()
    assert ask(line.encode("latin-1")) == b""
    assert [int(said.split(",")[0]) for said in errors(ask)] == [number]


# ---- one writer, and the key ----------------------------------------------------------------


def test_another_client_reads_and_makes_safe_but_does_not_write(bench):
    one, two = bench.client("one"), bench.client("two")
    one("REG SCRATCH,1")
    two("REG SCRATCH,2")
    two("READ? 0,0")
    assert two("REG? SCRATCH") == b"1\n"
    found = errors(two)
    assert len(found) == 2
    assert all(said.startswith("-221") and "one writes" in said for said in found)
    two("SAFE")
    assert errors(two) == []


def test_a_read_goes_through_after_somebody_else_has_written(bench):
    one, two = bench.client("one"), bench.client("two")
    assert one("READ? 0,0")
    bench.clients[0].close()
    assert two("READ? 0,0")
    bench.clients[1].close()
    three = bench.client("three")
    assert three("READ? 0,0")
    assert errors(three) == []


def test_without_the_key_nothing_but_a_name():
    bench = Bench(MemoryWindow(), key=b"k" * 32)
    ask = bench.client()
    assert ask("*IDN?").count(b",") == 3
    for item in COMMANDS:
        if not item.open:
            assert ask(item.pattern.replace("[", "").replace("]", "")) == b""
            assert errors(ask)[0].startswith("-203")
    bench.close()


# ---- whatever comes -------------------------------------------------------------------------


_PIECES = [
    *(item.pattern.replace("[", "").replace("]", "").encode() for item in COMMANDS),
    *(b" ", b",", b";", b":", b"#13abc", b"#H", b"1", b"-1", b"'", b"STATUS", b"\xff", b"1E9"),
]


class Scratch(MemoryWindow):
    """Memory that is always done."""

    def read(self, address, count):
        words = super().read(address, count)
        if address == registers.offset("STATUS"):
            words[0] = registers.STATUS_DONE
        return words


@given(
    st.lists(
        st.binary(max_size=40) | st.lists(st.sampled_from(_PIECES), max_size=8).map(b"".join),
        max_size=6,
    )
)
def test_no_bytes_raise(messages):
    window = Scratch()
    window.spec = SPEC
    session = TextSession(DirectAccess(window))
    for message in messages:
        answer = session.execute(message)
        assert answer == b"" or answer.endswith(b"\n")
        assert len(answer) <= MAX_ANSWER_BYTES + 1
    assert len(session.status) <= 32


def test_answers_are_bounded():
    window = Scratch()
    window.spec = SPEC
    session = TextSession(DirectAccess(window))
    assert session.execute(b";".join([b"REG? RESULTS,131072"] * 100)) == b""
    assert session.execute(b"SYST:ERR?").startswith(b"-430")


def test_whatever_the_board_raises_becomes_an_error():
    class Broken(Scratch):
        def read(self, address, count):
            raise OSError("bus error")

    window = Broken()
    window.spec = SPEC
    session = TextSession(DirectAccess(window))
    assert session.execute(b"REG? 0") == b""
    assert session.execute(b"SYST:ERR?") == b'-310,"System error; OSError: bus error"\n'


def test_a_message_of_many_units_takes_as_long_as_its_units():
    session = TextSession(DirectAccess(EmulatedBoard(preset="ideal", seed=7)))
    one = session.execute(b"*IDN?")
    begun_s = time.monotonic()
    assert session.execute(b"*IDN?;" * 60_000) == b";".join([one[:-1]] * 60_000) + one[-1:]
    assert time.monotonic() - begun_s < 15
