"""One writer at a time, sessions that belong to a client, and rails safe when it goes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import registers
from firmware_bridge.agent import Agent
from firmware_bridge.errors import ReadOnlyError
from firmware_bridge.frames import ErrorCode, Frame, Kind
from firmware_bridge.sessions import MAX_SESSIONS, Mark
from tests.doubles import MemoryWindow

SCRATCH, CTRL, STATUS = (registers.offset(name) for name in ("SCRATCH", "CTRL", "STATUS"))
SAFE = [(CTRL, [registers.CTRL_SAFE])]


class Host:
    """One session on a role."""

    def __init__(self, agent, role, session):
        self.agent, self.role, self.session = agent, role, session
        self.opened = agent.handle(Frame(Kind.READ, session, 0, 0, 0), role)
        self.next = 1

    def _ask(self, kind, address, count, payload=b""):
        frame = Frame(kind, self.session, self.next, address, count, payload)
        self.next += 1
        reply = self.agent.handle(frame, self.role)
        return reply.kind if reply.kind is Kind.REPLY else ErrorCode(reply.reason()[0])

    def write(self, *words, address=SCRATCH):
        payload = np.array(words, dtype="<u4").tobytes()
        return self._ask(Kind.WRITE, address, len(words), payload)

    def read(self, address=SCRATCH):
        return self._ask(Kind.READ, address, 1)


class Bench:
    """A window, an agent, and a clock to turn."""

    def __init__(self):
        self.now_s, self.window = 0.0, MemoryWindow()
        self.agent = Agent(self.window, clock=lambda: self.now_s, draw_first=lambda: 1)
        self.roles = [self.agent.join(name) for name in ("anna", "berta")]
        self.a, self.b = (Host(self.agent, role, 7 + i) for i, role in enumerate(self.roles))

    def again(self, which, session):
        return Host(self.agent, self.roles[which], session)

    def status(self, bits):
        self.window.words[STATUS // 4] = bits


@pytest.fixture
def bench():
    return Bench()


def test_the_first_that_writes_is_the_writer_and_others_may_read(bench):
    assert bench.b.read() is Kind.REPLY
    assert bench.a.write(1) is Kind.REPLY
    assert bench.b.write(2) is ErrorCode.READONLY
    assert bench.b.read() is Kind.REPLY
    assert bench.window.writes == [(SCRATCH, [1])]
    assert bench.agent.writer == "anna"


def test_the_refusal_names_the_writer(bench):
    bench.a.write(1)
    reply = bench.agent.handle(Frame(Kind.WRITE, 8, 1, SCRATCH, 1, bytes(4)), bench.roles[1])
    assert "anna writes" in reply.reason()[1] and "10 s" in reply.reason()[1]


def test_a_writer_that_goes_leaves_its_place(bench):
    bench.a.write(1)
    bench.agent.leave(bench.roles[0])
    assert bench.b.write(2) is Kind.REPLY
    assert bench.a.read() is ErrorCode.SESSION


def test_a_silent_writer_loses_its_place_and_is_told_once(bench):
    bench.a.write(1)
    bench.now_s = 9.9
    assert bench.b.write(2) is ErrorCode.READONLY
    bench.b = bench.again(1, 9)
    bench.now_s = 10.0
    assert bench.b.write(3) is Kind.REPLY
    bench.agent.leave(bench.roles[1])
    assert bench.a.read() is Kind.REPLY
    # Nobody holds the pen now, yet what anna left on the board is gone.
    assert [bench.a.write(4), bench.a.write(5)] == [ErrorCode.READONLY] * 2
    assert bench.again(0, 10).write(6) is Kind.REPLY
    assert [words for _, words in bench.window.writes] == [[1], [3], [6]]


def test_a_writer_that_reads_is_not_silent(bench):
    bench.a.write(1)
    for bench.now_s in (8.0, 16.0):
        bench.a.read(STATUS)
    assert bench.b.write(2) is ErrorCode.READONLY


def test_a_board_that_takes_long_does_not_make_its_host_silent(bench):
    class Slow(MemoryWindow):
        def write(self, address, words):
            bench.now_s += 60
            super().write(address, words)

    agent = Agent(Slow(), clock=lambda: bench.now_s, draw_first=lambda: 1)
    a, b = (Host(agent, agent.join(name), i) for i, name in enumerate("ab"))
    assert a.write(1) is Kind.REPLY
    assert b.write(2) is ErrorCode.READONLY


def test_a_transfer_is_not_taken_in_parts(bench):
    """The pen is free again in the middle of it: what was refused once stays refused."""
    bench.a.write(1)
    refused = [bench.b.write(2)]
    bench.agent.leave(bench.roles[0])
    refused += [bench.b.write(3), bench.b.write(4)]
    assert refused == [ErrorCode.READONLY] * 3
    assert bench.again(1, 9).write(5) is Kind.REPLY


def test_everybody_may_make_the_board_safe_and_the_writer_hears_of_it(bench):
    bench.a.write(1)
    assert bench.b.write(registers.CTRL_SAFE, address=CTRL) is Kind.REPLY
    assert bench.window.writes[1:] == SAFE
    assert bench.agent.writer == "anna"
    assert bench.a.write(2) is ErrorCode.READONLY
    assert bench.a.write(registers.CTRL_SAFE, address=CTRL) is Kind.REPLY
    assert bench.again(0, 9).write(3) is Kind.REPLY


@pytest.mark.parametrize(
    "words", [[registers.CTRL_START], [registers.CTRL_SAFE | registers.CTRL_START], [2, 0]]
)
def test_only_safe_passes_as_safe(bench, words):
    bench.a.write(1)
    assert bench.b.write(*words, address=CTRL) is ErrorCode.READONLY


def test_the_writers_own_safe_disturbs_nobody(bench):
    bench.a.write(1)
    bench.a.write(registers.CTRL_SAFE, address=CTRL)
    assert bench.a.write(2) is Kind.REPLY


def test_text_clients_are_told_once_too(bench):
    agent, (anna, berta) = bench.agent, bench.roles
    word, mark, other = np.array([5], dtype=np.uint32), Mark(), Mark()
    agent.write(anna, mark, SCRATCH, word)
    with pytest.raises(ReadOnlyError, match="anna writes"):
        agent.write(berta, other, SCRATCH, word)
    bench.now_s = 11
    agent.write(berta, other, SCRATCH, word)
    with pytest.raises(ReadOnlyError, match="berta writes"):
        agent.write(anna, mark, SCRATCH, word)
    agent.leave(berta)
    with pytest.raises(ReadOnlyError, match="berta has written"):
        agent.write(anna, mark, SCRATCH, word)
    agent.write(anna, mark, SCRATCH, word)
    assert agent.writer == "anna"


# ---- sessions -------------------------------------------------------------------------------


def test_a_session_goes_on_nowhere_else(bench):
    """Not while its link lives, and not when it is gone: what is on its way there is lost."""
    bench.a.write(1)
    for _ in range(2):
        thief = bench.again(1, bench.a.session)
        assert thief.opened.reason()[0] == ErrorCode.SESSION
        assert thief.write(1) is ErrorCode.SESSION
        bench.agent.leave(bench.roles[0])
    assert bench.window.writes == [(SCRATCH, [1])]


def test_what_comes_late_of_an_older_session_is_not_done(bench):
    bench.a.write(1)
    given_up = Frame(Kind.WRITE, bench.a.session, 2, SCRATCH, 1, bytes(4))
    newer = bench.again(0, 9)
    assert newer.write(2) is Kind.REPLY
    assert bench.agent.handle(given_up, bench.roles[0]).reason()[0] == ErrorCode.SESSION
    assert bench.again(0, bench.a.session).opened.reason()[0] == ErrorCode.SESSION
    assert bench.window.writes == [(SCRATCH, [1]), (SCRATCH, [2])]


def test_a_late_hello_ends_nothing(bench):
    bench.a.write(1)
    bench.again(0, 99)
    assert bench.a.write(2) is Kind.REPLY


def test_no_client_makes_another_ones_session_forgotten(bench):
    bench.a.write(1)
    for number in range(100, 100 + 3 * MAX_SESSIONS):
        bench.again(1, number)
    assert bench.a.write(2) is Kind.REPLY


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4), st.integers(0, 6)), max_size=80))
def test_over_any_clients_a_session_is_done_once_and_by_one(arrivals):
    """Frames of four sessions come over two links in any order."""
    bench, spoken_for = Bench(), {}
    for link, session, sequence in arrivals:
        frame = Frame(Kind.READ, session, 0, 0, 0)
        if sequence:
            payload = np.array([link, sequence], dtype="<u4").tobytes()
            frame = Frame(Kind.WRITE, session, sequence, 0x100 * session, 2, payload)
        reply = bench.agent.handle(frame, bench.roles[link])
        if reply.kind is Kind.REPLY:
            assert spoken_for.setdefault(session, link) == link
    for session in range(1, 5):
        done = [words for address, words in bench.window.writes if address == 0x100 * session]
        assert len({link for link, _ in done}) <= 1
        assert [number for _, number in done] == list(range(1, len(done) + 1))


# ---- a writer that is gone ------------------------------------------------------------------


@pytest.mark.parametrize("bits", [registers.STATUS_LIVE, registers.STATUS_BUSY])
def test_the_rails_are_made_safe_when_the_writer_goes(bench, bits):
    bench.a.write(1)
    bench.status(bits)
    bench.agent.leave(bench.roles[1])
    assert bench.window.writes == [(SCRATCH, [1])], "berta did not write"
    bench.agent.leave(bench.roles[0])
    bench.agent.leave(bench.roles[0])
    assert bench.window.writes[1:] == SAFE


def test_rails_that_are_safe_are_left_alone(bench):
    bench.a.write(1)
    bench.status(registers.STATUS_DONE)
    bench.agent.leave(bench.roles[0])
    assert len(bench.window.writes) == 1


@pytest.mark.parametrize("last", ["safe", "poll"])
def test_where_the_writer_left_the_board_safe_not_even_a_register_is_read(bench, last):
    bench.a.write(1)
    if last == "safe":
        bench.a.write(registers.CTRL_SAFE, address=CTRL)
    else:
        bench.a.read(STATUS)
    executed = bench.agent.executed
    bench.window.read = None  # would fail loudly
    bench.agent.leave(bench.roles[0])
    assert bench.agent.executed == executed


def test_a_board_that_fails_just_then_does_not_stop_the_bridge(bench, caplog):
    bench.a.write(1)
    bench.window.read = lambda address, count: 1 / 0
    bench.agent.leave(bench.roles[0])
    assert "could not be made safe" in caplog.text and "anna" in caplog.text


def test_nobody_takes_results_of_another_ones_program_for_its_own(bench):
    results = registers.RESULTS.offset
    bench.a.write(1)
    assert bench.a.read(results) is Kind.REPLY
    assert bench.b.read(results) is Kind.REPLY  # it has written nothing that they could be of
    bench.now_s = 11
    bench.b.write(2)
    assert bench.a.read(results) is ErrorCode.READONLY
    assert bench.a.read() is Kind.REPLY
    assert bench.b.read(results) is Kind.REPLY
    assert bench.again(0, 99).read(results) is Kind.REPLY
