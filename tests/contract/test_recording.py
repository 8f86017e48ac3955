"""Recordings of traffic: whole, readable after a kill, damaged ones refused; and its digest."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
import zlib
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import registers
from firmware_bridge.contract import contract_hash
from firmware_bridge.errors import InputError, RramError
from firmware_bridge.recording import Recorder, Recording
from firmware_bridge.traffic import READ, WRITE, Access, TrafficDigest, folded
from tests.doubles import MemoryWindow

STATUS, KICK, SCRATCH = (registers.offset(name) for name in ("STATUS", "KICK", "SCRATCH"))
PROGRAM, TABLE = registers.PROGRAM.offset, registers.TABLE.offset


def words(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint32)


def seen(path: Path) -> list[tuple]:
    return [(a.number, a.kind, a.address, a.words.tolist(), a.error) for a in Recording(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.jsonl"


# ---- what is written is read --------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.sampled_from([READ, WRITE]),
        st.integers(0, 60),
        st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40),
    ),
    max_size=12,
)


@given(steps)
def test_every_transaction_comes_back(tmp_path_factory: pytest.TempPathFactory, work: list):
    path = tmp_path_factory.mktemp("trace") / "trace.jsonl"
    recorder, plain, wanted = Recorder(MemoryWindow(), path), MemoryWindow(), []
    for number, (kind, index, values) in enumerate(work, 1):
        address = TABLE + 4 * index
        if kind == WRITE:
            recorder.write(address, words(*values))
            plain.write(address, words(*values))
        else:
            values = plain.read(address, len(values)).tolist()
            assert recorder.read(address, len(values)).tolist() == values
        wanted.append((number, kind, address, values, ""))
    recorder.close()
    assert (seen(path) if work else []) == wanted
    assert path.exists() == bool(work)  # a recording of nothing is no recording


@pytest.mark.parametrize("kind", ["random", "zeros", "steps"])
def test_long_transfers_come_back_and_are_packed(path: Path, kind: str):
    rng = np.random.default_rng(0)
    sent = {
        "random": rng.integers(0, 2**32, 65536, dtype=np.uint32),
        "zeros": np.zeros(65536, np.uint32),
        "steps": np.arange(65536, dtype=np.uint32) // 1000,
    }[kind]
    recorder = Recorder(MemoryWindow(), path)
    recorder.write(TABLE, sent)
    recorder.close()
    (access,) = Recording(path)
    assert np.array_equal(access.words, sent) and access.words.dtype == np.uint32
    line = json.loads(path.read_text().splitlines()[1])
    assert ("zlib" in line) == (kind != "random") and ("base64" in line) == (kind == "random")


def test_the_header_says_what_it_is_and_lines_say_where(path: Path):
    recorder = Recorder(MemoryWindow(), path, "sim://?seed=7", "zc706")
    recorder.write(PROGRAM + 12, words(7))
    recorder.read(registers.offset("LIMIT03"), 2)
    recorder.close()
    header, write, read = map(json.loads, path.read_text().splitlines())
    assert header["format"] == "rram recording" and header["version"] == 1
    assert header["contract"] == f"{contract_hash():#010x}"
    assert (header["board"], header["spec"]) == ("sim://?seed=7", "zc706")
    assert "numpy" in header["by"] and header["started"].endswith("+00:00")
    assert (write["op"], write["at"], write["name"]) == ("w", "0x1000c", "PROGRAM[3]")
    assert (write["count"], write["words"]) == (1, [7])
    assert (read["op"], read["name"], read["words"]) == ("r", "LIMIT03", [0, 0])
    assert 0 <= write["t_s"] <= read["t_s"]


def test_nothing_is_written_over(path: Path):
    path.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        Recorder(MemoryWindow(), path)
    assert path.read_text() == "mine"
    with pytest.raises(InputError, match="cannot record into"):
        Recorder(MemoryWindow(), path.parent / "none" / "trace.jsonl")


# ---- what goes wrong ----------------------------------------------------------------------------


class Failing(MemoryWindow):
    """Fails once it is told to."""

    error: Exception | None = None

    def write(self, address, words):
        if self.error:
            raise self.error
        super().write(address, words)


def test_what_failed_is_recorded_as_that_and_what_was_refused_is_not(path: Path):
    window = Failing()
    recorder = Recorder(window, path)
    window.error = OSError("the bus is stuck")
    with pytest.raises(OSError, match="stuck"):
        recorder.write(SCRATCH, words(5))
    window.error = InputError("not there")
    with pytest.raises(InputError):
        recorder.write(SCRATCH, words(6))
    window.error = None
    recorder.write(SCRATCH, words(7))
    recorder.close()
    assert seen(path) == [
        (1, "w", SCRATCH, [5], "OSError: the bus is stuck"),
        (2, "w", SCRATCH, [7], ""),
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_fails_one_transaction_and_hinders_none(path: Path):
    window = MemoryWindow()
    recorder = Recorder(window, path)
    recorder.write(SCRATCH, words(1))
    recorder._file.close()
    recorder._file = FileIO("/dev/full", "wb")
    with pytest.raises(RramError, match=r"ends before transaction 2: No space left"):
        recorder.write(SCRATCH, words(2))
    recorder.write(SCRATCH, words(3))  # the rails can still be made safe
    recorder.close()
    assert window.writes == [(SCRATCH, [1]), (SCRATCH, [2]), (SCRATCH, [3])]
    assert [access.number for access in Recording(path)] == [1]


def test_ctrl_c_while_a_line_is_made_leaves_a_recording_that_can_be_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(_words: np.ndarray) -> bytes:
        raise KeyboardInterrupt

    recorder = Recorder(MemoryWindow(), path)
    recorder.write(SCRATCH, words(1))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("firmware_bridge.recording._packed", interrupted)
        recorder.write(SCRATCH, words(2))
    recorder.write(SCRATCH, words(3))
    recorder.close()
    assert [access.words.tolist() for access in Recording(path)] == [[1], [3]]


def test_a_killed_process_leaves_what_the_board_has_seen(path: Path):
    code = (
        "import sys, numpy as np\n"
        "from firmware_bridge.recording import Recorder\n"
        "from tests.doubles import MemoryWindow\n"
        "recorder, n = Recorder(MemoryWindow(), sys.argv[1]), 0\n"
        "while True:\n"
        "    n += 1\n"
        "    recorder.write(0x80000, np.full(1 + n % 60, n, np.uint32))\n"
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=root)
    deadline = time.monotonic() + 30
    while not path.exists() or path.stat().st_size < 100_000:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = list(Recording(path))
    assert len(found) > 100
    for n, access in enumerate(found, 1):
        assert access.number == n and access.words.tolist() == [n] * (1 + n % 60)


@pytest.fixture
def three(path: Path) -> Path:
    recorder = Recorder(MemoryWindow(), path)
    for value in (1, 2, 3):
        recorder.write(SCRATCH, words(value))
    recorder.close()
    return path


def test_a_torn_last_line_is_left_out_wherever_it_is_torn(three: Path):
    whole = three.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in range(start, len(whole) + 1):
        three.write_bytes(whole[:end])
        # all but the line's end is all of it
        assert len(list(Recording(three))) == (3 if end >= len(whole) - 1 else 2)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"", "line 3"),
        (b"{}", "not transaction 2"),
        (b"[" * 100_000, "line 3"),
        (b'{"n": 2, "op": "w"', "line 3"),
        (b'{"n": 3, "op": "w", "at": "0x50", "count": 1, "t_s": 0, "words": [2]}', "line 3"),
        (b'{"n": 2, "op": "x", "at": "0x50", "count": 1, "t_s": 0, "words": [2]}', "op 'x'"),
        (b'{"n": 2, "op": "w", "at": "0x51", "count": 1, "t_s": 0, "words": [2]}', "window"),
        (b'{"n": 2, "op": "w", "at": 80, "count": 1, "t_s": 0, "words": [2]}', "line 3"),
        (b'{"n": 2, "op": "w", "at": "0x50", "count": 2, "t_s": 0, "words": [2]}', "2 words"),
        (b'{"n": 2, "op": "w", "at": "0x50", "count": 1, "t_s": 0, "words": [-2]}', "32 bits"),
        (b'{"n": 2, "op": "w", "at": "0x50", "count": 1, "t_s": 0, "words": [1e999]}', "line 3"),
        (b'{"n": 2, "op": "w", "at": "0x50", "count": 1, "t_s": 0}', "base64"),
        (b'{"n": 2, "op": "w", "at": "0x50", "count": 1, "t_s": 0, "base64": "?"}', "base64"),
        (b'{"n": 2, "op": "w", "at": "0x50", "count": 1, "t_s": 0, "zlib": "AAAA"}', "line 3"),
        (b'{"n": 2, "op": "w", "at": "0x50", "count": 4000000000, "t_s": 0}', "window"),
    ],
)
def test_a_damaged_line_is_named(three: Path, line: bytes, text: str):
    lines = three.read_bytes().splitlines()
    lines[2] = line
    three.write_bytes(b"\n".join(lines) + b"\n")
    found = iter(Recording(three))
    assert next(found).number == 1
    with pytest.raises(InputError, match="line 3 is damaged") as damaged:
        next(found)
    assert text in str(damaged.value)


def test_a_line_that_unpacks_to_more_than_it_says_is_refused(three: Path):
    bomb = base64.b64encode(zlib.compress(bytes(100_000_000), 9)).decode()
    line = {"n": 4, "op": "w", "at": "0x80000", "count": 100, "t_s": 0, "zlib": bomb}
    with three.open("a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(InputError, match=r"line 5 is damaged: 401 bytes instead of 100 words"):
        list(Recording(three))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "not a recording"),
        ("[1]\n", "not a recording"),
        ('{"format": "other"}\n', "not a recording"),
        ('{"format": "rram recording", "version": 2}\n', "version 2"),
    ],
)
def test_what_is_no_recording_is_refused(path: Path, text: str, word: str):
    path.write_text(text)
    with pytest.raises(InputError, match=word):
        Recording(path)
    with pytest.raises(InputError, match="No such file"):
        Recording(path.parent / "none")


# ---- one form, and its digest -------------------------------------------------------------------


def access(kind: str, address: int, *values: int, number: int = 1) -> Access:
    return Access(number, kind, address, len(values), words(*values))


def digest_of(*work: Access) -> bytes | None:
    digest = TrafficDigest()
    for each in work:
        digest.note(each.kind, each.address, each.words)
    return digest.end_unit()


@given(st.lists(st.integers(0, 9), min_size=2, max_size=12), st.data())
def test_how_words_are_cut_into_transactions_does_not_matter(
    values: list[int], data: st.DataObject
):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(values) - 1))))
    pieces = [
        access(WRITE, PROGRAM + 4 * a, *values[a:b])
        for a, b in zip([0, *cuts], [*cuts, len(values)], strict=True)
    ]
    assert digest_of(*pieces) == digest_of(access(WRITE, PROGRAM, *values))


def test_everything_else_matters():
    base = [access(WRITE, TABLE, 1, 2), access(READ, SCRATCH, 3)]
    others = [
        [],
        base[:1],
        base[::-1],
        [access(WRITE, TABLE, 1, 3), base[1]],
        [access(READ, TABLE, 1, 2), base[1]],
        [access(WRITE, TABLE + 4, 1, 2), base[1]],
        [access(WRITE, TABLE, 1, 2, 3), base[1]],
        [*base, base[1]],
        [access(WRITE, TABLE, 1), base[1], access(WRITE, TABLE + 4, 2)],
    ]
    digests = [digest_of(*work) for work in (base, *others)]
    assert len(set(digests)) == len(digests)
    assert digest_of(*base) == digests[0]


def test_of_polls_only_the_last_counts_and_kicks_do_not():
    busy, done, other = (access(READ, STATUS, n, 0) for n in (1, 2, 4))
    kick, start = access(WRITE, KICK, 1), access(WRITE, registers.offset("CTRL"), 1)
    once = [start, done, start, other]
    often = [start, busy, kick, busy, done, done, kick, start, busy, kick, other, kick]
    assert digest_of(*often) == digest_of(*once)
    assert list(folded(often)) == once
    assert digest_of(start, other) != digest_of(start, done)
    longer, look = access(READ, STATUS, 2, 0, 0), access(READ, STATUS, 2)
    assert list(folded([busy, longer])) == [busy, longer]
    assert digest_of(busy, longer) != digest_of(longer)
    assert list(folded([busy, look, done])) == [done, look]
    assert digest_of(busy, look, done, look) == digest_of(done)


def test_units_are_a_chain_that_can_go_on_and_stays_unknown_where_it_was():
    whole, first = TrafficDigest(), TrafficDigest()
    for each in (whole, first):
        each.note(WRITE, SCRATCH, words(1))
    middle = whole.end_unit()
    assert middle == first.end_unit() and middle is not None
    rest, lost = TrafficDigest(middle), TrafficDigest(None)
    for each in (whole, rest, lost):
        each.note(WRITE, SCRATCH, words(2))
    assert whole.end_unit() == rest.end_unit()
    assert lost.end_unit() is None and lost.end_unit() is None


def test_a_file_of_nothing_but_brackets_is_no_recording(tmp_path):
    path = tmp_path / "deep"
    path.write_bytes(b"[" * 200_000)
    with pytest.raises(InputError, match="not a recording"):
        Recording(path)
