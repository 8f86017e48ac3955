"""One peer of the bridge: bytes in, answers out."""

import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import registers
from firmware_bridge.agent import Agent
from firmware_bridge.client import MAX_ANSWER_BYTES, Client
from firmware_bridge.frames import MAX_WORDS, REQUESTS, Frame, Kind, decode, encode
from tests.doubles import MemoryWindow

SCRATCH, STATUS, CTRL = (registers.offset(name) for name in ("SCRATCH", "STATUS", "CTRL"))
HELLO = Frame(Kind.READ, 7, 0, 0, 0)


def read(sequence, count=1, address=SCRATCH):
    return Frame(Kind.READ, 7, sequence, address, count)


def write(sequence, *words, session=7):
    payload = np.array(words, dtype="<u4").tobytes()
    return Frame(Kind.WRITE, session, sequence, SCRATCH, len(words), payload)


def replies(answers):
    return [decode(answer[1:-1]) for answer in answers]


@pytest.fixture
def window():
    return MemoryWindow()


@pytest.fixture
def agent(window):
    return Agent(window, draw_first=lambda: 1)


@pytest.fixture
def client(agent):
    return Client(agent, "somebody")


def test_frames_and_text_on_one_stream(client, window):
    stream = b"".join([encode(HELLO), b"*IDN?\n", encode(write(1, 5)), b"REG? SCRATCH\n"])
    first, identity, second, register = client.feed(stream)
    assert [reply.kind for reply in replies([first, second])] == [Kind.REPLY] * 2
    assert identity.startswith(b"RRAM,zc706,") and int(register, 0) == 5
    assert window.writes == [(SCRATCH, [5])]


def test_any_cut_gives_the_same_answers(window):
    frames = b"".join(map(encode, [HELLO, write(1, 5, 0, 9), read(2, 3)]))
    stream = frames + b"SYST:VERS?\n"
    whole = Client(Agent(window, draw_first=lambda: 1), "whole").feed(stream)
    bits = Client(Agent(MemoryWindow(), draw_first=lambda: 1), "bits")
    assert [one for byte in stream for one in bits.feed(bytes([byte]))] == whole
    assert len(whole) == 4


def test_a_message_may_end_with_its_carrier_instead_of_a_newline(client):
    assert client.feed(b"SYST:VERS?") == []
    assert client.feed(b"", end=True) == [b"1999.0\n"]
    assert client.feed(b"SYST:VERS?\n", end=True) == [b"1999.0\n"]


def test_answers_are_not_answered(client):
    frames = [Frame(kind, 7, 1, 0, 0) for kind in Kind if kind not in {*REQUESTS, Kind.AUTH}]
    assert len(frames) == 2
    assert client.feed(b"".join(map(encode, frames))) == []


def test_its_end_makes_the_rails_safe(client, window):
    client.feed(encode(HELLO) + encode(write(1, 5)))
    window.words[STATUS // 4] = registers.STATUS_LIVE
    client.close()
    client.close()
    assert window.writes[1:] == [(CTRL, [registers.CTRL_SAFE])]
    assert client.feed(encode(read(2)) + b"*IDN?\n") == []


def test_text_counts_as_a_writer(agent, window):
    anna, berta = Client(agent, "anna"), Client(agent, "berta")
    anna.feed(b"REG SCRATCH,1\n")
    berta.feed(b"REG SCRATCH,2\n")
    (error,) = berta.feed(b"SYST:ERR?\n")
    assert error.startswith(b'-221,"Settings conflict; anna writes')
    assert berta.feed(b"REG? SCRATCH\n") == anna.feed(b"REG? SCRATCH\n")
    anna.close()
    berta.feed(b"REG SCRATCH,2\n")
    assert [words for _, words in window.writes] == [[1], [2]]


def test_safe_in_text_is_for_everybody(agent, window):
    anna, berta = Client(agent, "anna"), Client(agent, "berta")
    anna.feed(b"REG SCRATCH,1\n")
    berta.feed(b"SAFE\n")
    assert (CTRL, [registers.CTRL_SAFE]) in window.writes
    assert berta.feed(b"SYST:ERR?\n") == [b'0,"No error"\n']


def test_a_wait_for_the_board_ends_with_the_link(window):
    window.words[STATUS // 4] = registers.STATUS_BUSY
    waiting = threading.Event()
    read = window.read

    def look(address, count):
        if address <= STATUS < address + 4 * count:
            waiting.set()
        return read(address, count)

    window.read = look
    client = Client(Agent(window), "somebody")
    answers = []
    thread = threading.Thread(target=lambda: answers.extend(client.feed(b"*OPC?\n")))
    thread.start()
    assert waiting.wait(30)
    client.cancel()
    thread.join(30)
    assert not thread.is_alive() and answers == []


def test_a_board_that_raises_is_answered_for(window, client):
    window.read = lambda address, count: 1 / 0
    replied = replies(client.feed(encode(HELLO) + encode(read(1))))
    assert replied[1].kind is Kind.ERROR and "ZeroDivisionError" in replied[1].reason()[1]
    assert client.feed(b"REG? SCRATCH\nSYST:ERR?\n")[0].startswith(b"-310")


# ---- bounds ---------------------------------------------------------------------------------


def test_small_requests_for_much_are_answered_one_by_one(client):
    """A chunk of 64 KiB holds requests for 150 MB."""
    client.feed(encode(HELLO))
    wire = encode(read(1, MAX_WORDS, registers.TABLE.offset))
    client.feed(wire)  # what is loaded or compiled at the first large frame is not meant here
    tracemalloc.start()
    try:
        size = sum(map(len, client.answers(wire * 300)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 300 * 4 * MAX_WORDS
    assert peak < 8 << 20


def test_one_call_gives_back_a_bounded_lot(client):
    client.feed(encode(HELLO))
    wire = encode(read(1, MAX_WORDS, registers.TABLE.offset))
    answered = client.feed(wire * 1000)
    assert sum(map(len, answered)) <= MAX_ANSWER_BYTES + len(answered[0])
    assert client.dropped == 1
    assert client.feed(encode(read(1, MAX_WORDS, registers.TABLE.offset))) == answered[:1]


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_no_bytes_raise_and_none_but_frames_write(pieces):
    window = MemoryWindow()
    client = Client(Agent(window), "somebody")
    for piece in pieces:
        client.feed(piece)
    client.close()
    assert all(address % 4 == 0 for address, _ in window.writes)
