"""Executed once, answered as often as asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge import registers
from firmware_bridge.agent import MAX_SESSIONS, Agent
from firmware_bridge.errors import InputError
from firmware_bridge.frames import MAX_IN_FLIGHT, MAX_WORDS, ErrorCode, Frame, Kind
from tests.doubles import MemoryWindow

SCRATCH = registers.offset("SCRATCH")


def hello(session=1):
    return Frame(Kind.READ, session, 0, 0, 0)


def write(sequence, *words, address=SCRATCH, session=1):
    payload = np.array(words, dtype="<u4").tobytes()
    return Frame(Kind.WRITE, session, sequence, address, len(words), payload)


def agent_of(window, **options):
    """An agent whose sessions begin with request 1."""
    return Agent(window, draw_first=lambda: 1, **options)


def code(reply):
    return reply.reason()[0]


@pytest.fixture
def window():
    return MemoryWindow()


@pytest.fixture
def agent(window):
    agent = agent_of(window)
    agent.handle(hello())
    return agent


def test_a_write_then_a_read(agent, window):
    assert agent.handle(write(1, 5, 6)).kind is Kind.REPLY
    reply = agent.handle(Frame(Kind.READ, 1, 2, SCRATCH, 2))
    assert reply.words.tolist() == [5, 6]
    assert window.writes == [(SCRATCH, [5, 6])]


def test_a_repeated_request_is_answered_and_not_executed(agent, window):
    first = agent.handle(write(1, 5))
    assert [agent.handle(write(1, 5)) for _ in range(3)] == [first] * 3
    assert window.writes == [(SCRATCH, [5])]
    assert agent.repeated == 3


def test_a_repeated_read_shows_what_was_there_then(agent, window):
    old = agent.handle(Frame(Kind.READ, 1, 1, SCRATCH, 1))
    agent.handle(write(2, 9))
    assert agent.handle(Frame(Kind.READ, 1, 1, SCRATCH, 1)) == old


def test_a_failed_request_is_not_tried_again_either():
    class Moody(MemoryWindow):
        def write(self, address, words):
            super().write(address, words)
            raise OSError("bus error")

    window = Moody()
    agent = agent_of(window)
    agent.handle(hello())
    first = agent.handle(write(1, 5))
    assert first.reason() == (ErrorCode.BOARD, "OSError: bus error")
    assert agent.handle(write(1, 5)) == first
    assert len(window.writes) == 1


def test_requests_run_in_order_only(agent, window):
    assert code(agent.handle(write(2, 2))) == ErrorCode.ORDER
    for sequence in (1, 2, 3):
        agent.handle(write(sequence, sequence))
    assert [words for _, words in window.writes] == [[1], [2], [3]]


def test_too_old_to_be_remembered_is_not_executed(agent, window):
    for sequence in range(1, MAX_IN_FLIGHT + 3):
        agent.handle(write(sequence, sequence))
    count = len(window.writes)
    assert code(agent.handle(write(1, 1))) == ErrorCode.ORDER
    assert len(window.writes) == count


def test_a_number_used_twice_for_different_things(agent, window):
    agent.handle(write(1, 5))
    assert code(agent.handle(write(1, 5, address=SCRATCH + 4))) == ErrorCode.REFUSED
    assert window.writes == [(SCRATCH, [5])]


def test_no_write_opens_a_session(window):
    agent = agent_of(window)
    for frame in (write(0, 5), write(7, 5), Frame(Kind.READ, 1, 0, SCRATCH, 1)):
        assert code(agent.handle(frame)) == ErrorCode.SESSION
    assert window.writes == []


def test_sessions_are_bounded_and_the_forgotten_one_is_refused(agent, window):
    agent.handle(write(1, 5))
    for session in range(100, 100 + MAX_SESSIONS):
        agent.handle(hello(session))
    assert code(agent.handle(write(1, 5))) == ErrorCode.SESSION
    assert window.writes == [(SCRATCH, [5])]


@pytest.mark.parametrize(
    ("frame", "word"),
    [
        (write(1, 5, address=SCRATCH + 1), "multiple of 4"),
        (write(1, 5, address=registers.WINDOW_BYTES), "window"),
        (write(1, 5, 6, address=registers.WINDOW_BYTES - 4), "2 words"),
        (Frame(Kind.READ, 1, 1, 0, MAX_WORDS + 1), str(MAX_WORDS)),
        (Frame(Kind.READ, 1, 1, 0, 2**32 - 1), "limit"),
        (Frame(Kind.WRITE, 1, 1, 0, 2, bytes(4)), "2 words came with 4 bytes"),
        (Frame(Kind.REPLY, 1, 1, 0, 0), "not a request"),
    ],
)
def test_bad_requests_are_refused_with_the_reason(agent, window, frame, word):
    reply = agent.handle(frame)
    assert code(reply) == ErrorCode.REFUSED
    assert word in reply.reason()[1]
    assert window.writes == []


def test_another_protocol_is_told_so(agent):
    reply = agent.handle(Frame(Kind.READ, 1, 1, 0, 0, version=9))
    assert code(reply) == ErrorCode.VERSION


@pytest.mark.parametrize("wrong", [np.zeros(3, np.uint32), None, InputError("no"), 1 / 3])
def test_whatever_the_window_does_becomes_a_reply(wrong):
    class Broken(MemoryWindow):
        def read(self, address, count):
            if isinstance(wrong, Exception):
                raise wrong
            return wrong

    agent = agent_of(Broken())
    agent.handle(hello())
    assert agent.handle(Frame(Kind.READ, 1, 1, 0, 2)).kind is Kind.ERROR


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 12)), max_size=60))
def test_any_order_of_arrivals_executes_a_prefix_once(arrivals):
    window = MemoryWindow()
    agent = agent_of(window)
    for session, sequence in arrivals:
        frame = hello(session)
        if sequence:
            frame = write(sequence, sequence, address=0x100 * session, session=session)
        reply = agent.handle(frame)
        assert (reply.session, reply.sequence) == (session, sequence)
    for session in (1, 2, 3):
        ran = [words[0] for address, words in window.writes if address == 0x100 * session]
        assert ran == list(range(1, len(ran) + 1))
