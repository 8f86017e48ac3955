"""replay:///FILE answers as the board did, names what differs, and holds the host to a job."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge import registers
from firmware_bridge.agent import Agent
from firmware_bridge.microcode import Assembler, Op
from firmware_bridge.recording import Recorder, Recording
from firmware_bridge.server import TcpServer
from firmware_bridge.traffic import TrafficDigest
from rram_host import open_board
from rram_host.errors import ContractError, InputError, LinkError
from rram_host.transports import Transport, open_transport
from rram_host.transports.base import Snapshots
from rram_host.transports.framed import LinkSettings
from rram_host.transports.mmio import MmioTransport
from rram_host.transports.repeat import repeat
from sim import EmulatedBoard
from tests.conformance import first_light
from tests.doubles import MemoryWindow

STATUS, CTRL, KICK, SCRATCH, LIMITS = (
    registers.offset(name) for name in ("STATUS", "CTRL", "KICK", "SCRATCH", "LIMIT00")
)
PROGRAM, TABLE, RESULTS = (m.offset for m in registers.MEMORIES)
Job = Callable[[Transport], None]


def words(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint32)


def program(wait: int) -> np.ndarray:
    asm = Assembler()
    asm.add(Op.SHIFT, value=40, data=(1, 2))
    asm.add(Op.WAIT, value=wait)
    return asm.words()


def job(link: Transport) -> None:
    link.read(0, 5)
    link.write(PROGRAM, program(100))
    link.write(TABLE, np.arange(40_000, dtype=np.uint32))
    link.write(CTRL, words(1))
    link.read(STATUS, 5)
    link.read(RESULTS, 20_000)
    link.write(SCRATCH, words(7))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.jsonl"


def recorded(path: Path, work: Job = job) -> Path:
    recorder = Recorder(MemoryWindow(), path)
    work(MmioTransport(recorder))
    recorder.close()
    return path


def replay(path: Path):
    return open_transport(f"replay://{path}")


# ---- the same -----------------------------------------------------------------------------------


def test_it_is_a_transport_without_snapshots(path: Path):
    link = replay(recorded(path))
    assert isinstance(link, Transport) and not isinstance(link, Snapshots)
    assert open_transport(link) is link
    assert not link.finished
    link.close()
    link.close()
    with pytest.raises(LinkError, match="closed"):
        link.read(0, 5)


def test_the_same_job_gets_the_same_words(path: Path):
    board = MemoryWindow()
    board.words[:] = np.random.default_rng(0).integers(0, 2**32, board.words.size, np.uint32)
    recorder = Recorder(board, path)
    then = [recorder.read(RESULTS, 20_000), recorder.read(STATUS, 5)]
    recorder.close()
    link = replay(path)
    now = [link.read(RESULTS, 20_000), link.read(STATUS, 5)]
    for a, b in zip(then, now, strict=True):
        assert np.array_equal(a, b) and b.flags.writeable and b.dtype == np.uint32
    assert link.finished


@pytest.mark.parametrize("at", ["host", "bridge"])
def test_a_recording_made_over_a_link_is_that_of_the_host_without_it(path: Path, at: str):
    """The link carries long transfers in pieces; the bridge records those, the host the whole."""
    window = MemoryWindow()
    recorder = Recorder(window, path) if at == "bridge" else None
    with TcpServer(Agent(recorder or window)) as server:
        link = open_transport(f"visa://TCPIP::{server.host}::{server.port}::SOCKET")
        there = link if recorder else Recorder(link, path)
        job(there)
        there.close()
    if recorder:
        recorder.close()
    pieces = max(access.count for access in Recording(path))
    assert pieces == (LinkSettings.frame_words if at == "bridge" else 40_000)
    link = replay(path)
    job(link)
    assert link.finished
    whole = recorded(path.with_name("whole.jsonl"))
    assert digest(path) == digest(whole)


def digest(path: Path) -> bytes | None:
    found = TrafficDigest()
    for access in Recording(path):
        found.note(access.kind, access.address, access.words)
    return found.end_unit()


def test_a_replay_can_be_recorded(path: Path):
    link = Recorder(replay(recorded(path)), path.with_name("again.jsonl"))
    job(link)
    link.close()
    assert digest(path) == digest(path.with_name("again.jsonl"))


def test_accesses_that_are_none_are_refused_or_nothing(path: Path):
    link = replay(recorded(path))
    with pytest.raises(InputError, match="multiple of 4"):
        link.read(2, 1)
    with pytest.raises(InputError, match="window"):
        link.write(registers.WINDOW_BYTES, words(1))
    assert link.read(SCRATCH, 0).size == 0
    link.write(SCRATCH, words())
    job(link)
    assert link.finished


# ---- looking at a running program ---------------------------------------------------------------


class Running(MemoryWindow):
    """A program that is done when it has been looked at so often."""

    looks = 3

    def read(self, address, count):
        found = super().read(address, count)
        if address == STATUS:
            self.looks -= 1
            found[0] = 2 if self.looks <= 0 else 1
        return found


def look_until_done(link: Transport, more: int = 0, kick: bool = True) -> int:
    link.write(CTRL, words(1))
    looks = 1
    while not link.read(STATUS, 5)[0] & 2:
        if kick:
            link.write(KICK, words(0))
        looks += 1
    for _ in range(more):
        assert link.read(STATUS, 5)[0] == 2
    link.read(RESULTS, 2)
    return looks


@pytest.mark.parametrize("more", [0, 1, 9])
@pytest.mark.parametrize("kick", [True, False])
def test_a_host_may_look_more_or_less_often(path: Path, more: int, kick: bool):
    recorder = Recorder(Running(), path)
    assert look_until_done(recorder) == 3
    recorder.close()
    link = replay(path)
    assert look_until_done(link, more, kick) == 1
    link.write(KICK, words(0))
    assert link.finished


def test_a_program_that_was_given_up_stays_undone(path: Path):
    def given_up(link: Transport) -> None:
        for _ in range(2):
            assert link.read(STATUS, 5)[0] == 1
        link.write(CTRL, words(2))

    window = Running()
    window.looks = 100
    recorder = Recorder(window, path)
    given_up(recorder)
    recorder.close()
    link = replay(path)
    given_up(link)
    assert link.finished


def test_a_bridges_own_look_is_not_missed_and_a_hosts_is_answered(path: Path):
    recorder = Recorder(MemoryWindow(), path)
    recorder.write(SCRATCH, words(1))
    recorder.read(STATUS, 1)
    recorder.write(SCRATCH, words(2))
    recorder.read(STATUS, 1)
    recorder.close()
    for looks in (True, False):
        link = replay(path)
        link.write(SCRATCH, words(1))
        if looks:
            assert link.read(STATUS, 1)[0] == 0
        link.write(SCRATCH, words(2))
        assert link.finished


# ---- the first difference -----------------------------------------------------------------------


def begun(link: Transport) -> None:
    link.read(0, 5)


def test_an_instruction_that_differs_is_shown(path: Path):
    link = replay(recorded(path))
    begun(link)
    with pytest.raises(LinkError) as differs:
        link.write(PROGRAM, program(200))
    text = str(differs.value)
    assert text.startswith(f"{path}: transaction 2 differs: in a write to PROGRAM, PROGRAM[3] is ")
    assert "0x60000064 (WAIT 100) in the recording, 0x600000c8 (WAIT 200) here" in text


def test_a_literal_behind_an_instruction_is_shown_with_it(path: Path):
    link = replay(recorded(path))
    begun(link)
    other = program(100)
    other[2] = 9
    with pytest.raises(LinkError, match=r"PROGRAM\[2\] is 0x00000002 \(SHIFT bits=40 "):
        link.write(PROGRAM, other)


@pytest.mark.parametrize(
    ("work", "text"),
    [
        (lambda link: link.read(4, 1), "transaction 1 differs: recorded is a read of 5 words at "
         "IDENT; here came a read of 1 word at CONTRACT_HASH"),
        (lambda link: link.write(0, words(1)), "here came a write of 1 word to IDENT"),
        (lambda link: (link.read(0, 3), link.read(SCRATCH, 1)), "transaction 1 differs: recorded "
         "is a read of 5 words at IDENT, of which 3 were done; here came a read of 1 word at "
         "SCRATCH"),
        (lambda link: link.read(0, 6), "transaction 2 differs: recorded is a write of 5 words to "
         "PROGRAM; here came a read of 6 words at IDENT, of which 5 were done"),
        (lambda link: (begun(link), link.write(LIMITS + 12, words(1))), "here came a write of 1 "
         "word to LIMIT03"),
    ],
)  # fmt: skip
def test_another_access_is_named(path: Path, work: Job, text: str):
    link = replay(recorded(path))
    with pytest.raises(LinkError) as differs:
        work(link)
    assert text in str(differs.value)


def test_a_word_that_differs_in_the_middle_of_a_table_is_named(path: Path):
    link = replay(recorded(path))
    begun(link)
    link.write(PROGRAM, program(100))
    table = np.arange(40_000, dtype=np.uint32)
    table[33_333] += 1
    with pytest.raises(LinkError, match=r"TABLE\[33333\] is 0x00008235 in .*, 0x00008236 here"):
        link.write(TABLE, table)


def test_the_end_is_said(path: Path):
    link = replay(recorded(path))
    job(link)
    with pytest.raises(LinkError, match="ends after transaction 7; here came a read of 5 words at"):
        link.read(STATUS, 5)


def test_the_first_difference_stays_the_answer(path: Path):
    link = replay(recorded(path))
    with pytest.raises(LinkError) as first:
        link.read(SCRATCH, 1)
    for again in (lambda: link.read(0, 5), lambda: link.write(CTRL, words(2))):
        with pytest.raises(LinkError) as later:
            again()
        assert str(later.value) == str(first.value)
    assert not link.finished


def test_what_failed_then_fails_now(path: Path):
    window = MemoryWindow()
    recorder = Recorder(window, path)
    recorder.write(SCRATCH, words(1))
    window.words = window.words[:0]

    def stuck(*_):
        raise OSError("the bus is stuck")

    window.write = stuck
    with pytest.raises(OSError, match="stuck"):
        recorder.write(SCRATCH, words(2))
    recorder.close()
    link = replay(path)
    link.write(SCRATCH, words(1))
    with pytest.raises(LinkError, match="transaction 2 failed: OSError: the bus is stuck"):
        link.write(SCRATCH, words(2))
    assert link.finished


def test_what_cannot_be_replayed_is_refused(path: Path):
    with pytest.raises(InputError, match="names no recording"):
        open_transport("replay://")
    with pytest.raises(InputError, match="No such file"):
        open_transport(f"replay://{path}")
    lines = recorded(path).read_text().splitlines()
    header = json.loads(lines[0]) | {"contract": "0x00000001", "command": "rram iv --record x"}
    path.write_text("\n".join([json.dumps(header), *lines[1:], ""]))
    with pytest.raises(ContractError, match=r"make it anew; it was made by: rram iv --record x"):
        replay(path)


# ---- whole boards -------------------------------------------------------------------------------


def test_a_job_on_a_board_is_replayed_to_the_bit(path: Path):
    with open_board(first_light.URL, trace=path) as board:
        then = first_light.job(board)
    with open_board(f"replay://{path}") as board:
        now = first_light.job(board)
        assert board.snapshot() is None
    assert now == then
    with open_board(first_light.URL) as board:
        assert first_light.job(board) == then  # recording has changed nothing


def test_a_host_that_does_something_else_hears_where_it_began_to(path: Path):
    with open_board(first_light.URL, trace=path) as board:
        board.array.read()
    with (
        pytest.raises(LinkError, match=r"transaction \d+ differs: in a write to PROGRAM"),
        open_board(f"replay://{path}") as board,
    ):
        board.array.read(3)


def test_a_recorded_emulated_board_can_still_be_put_back(path: Path):
    with open_board(first_light.URL, trace=path) as board:
        start = board.snapshot()
        assert start is not None
        once = board.array.read()
        board.restore(start)
        assert np.array_equal(board.array.read(), once)
    link = EmulatedBoard("taox_180nm", seed=7)
    with pytest.raises(InputError, match="was put back to a snapshot, which is not recorded"):
        repeat(Recording(path), link)


def test_a_trace_is_not_written_over_and_not_begun_in_vain(path: Path):
    path.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        open_board(first_light.URL, trace=path)
    assert path.read_text() == "mine"
    with pytest.raises(InputError, match="seed"):
        open_board("sim://?seed=x", trace=path.with_name("other"))
    assert not path.with_name("other").exists()


def test_a_recording_is_compared_with_another_board(path: Path):
    with open_board(first_light.URL, trace=path) as board:
        board.array.read()
    same = repeat(Recording(path), EmulatedBoard("taox_180nm", seed=7))
    assert same.difference == "" and same.transactions > 10
    other = repeat(Recording(path), EmulatedBoard("taox_180nm", seed=8))
    assert "RESULTS" in other.difference and other.transactions < same.transactions
    ignored = repeat(Recording(path), EmulatedBoard("taox_180nm", seed=8), ignore=["RESULTS"])
    assert ignored == same
    with pytest.raises(InputError, match="no register NOISE"):
        repeat(Recording(path), EmulatedBoard("taox_180nm", seed=8), ignore=["NOISE"])


# ---- the kept recording -------------------------------------------------------------------------

KEPT = sorted(path.stem for path in first_light.FOLDER.glob("*.jsonl"))


@pytest.mark.parametrize("name", KEPT or ["none is kept"])
def test_the_kept_recording_still_replays(name: str):
    """A failure says what the host does differently now. If that is meant, or the contract has
    changed: `python -m tests.conformance.first_light` makes the emulated board's anew."""
    path = first_light.FOLDER / f"{name}.jsonl"
    link = replay(path)
    with open_board(link) as board:
        found = first_light.job(board)
    assert link.finished
    wanted = json.loads(path.with_suffix(".json").read_text())
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-9, err_msg=key)
