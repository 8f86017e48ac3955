"""Board time that passes: to the cycle, with safe rails, and broken off cleanly."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import board_spec, microcode, registers
from rram_host import open_board
from rram_host.board import sequencer
from rram_host.board.sequencer import LONGEST_PAUSE_S, SHORTEST_PAUSE_S, pause_s
from rram_host.board.waiting import wait_cycles, wait_program
from rram_host.errors import InputError, LinkError
from rram_host.transports.base import Snapshots, Transport
from sim.board import EmulatedBoard

SPEC = board_spec.load()
CYCLE_S = 1e-8


@given(st.one_of(st.integers(1, 5000), st.integers(1, 2**30), st.integers(1, 10**15)))
def test_a_wait_is_a_short_program_of_exactly_its_cycles(cycles):
    program = wait_program(SPEC, cycles).instructions()
    assert microcode.total_cycles(program) == cycles
    assert len(program) < 60
    microcode.decode(microcode.encode(program))


@pytest.mark.parametrize(
    ("asked_s", "cycles"),
    [(0.0, 0), (1e-12, 1), (1e-8, 1), (2.4e-8, 2), (0.1, 10**7), (1e6, 10**14), (1e7, 10**15)],
)
def test_durations_are_rounded_to_cycles_and_never_to_nothing(asked_s, cycles):
    assert wait_cycles(asked_s) == cycles


@pytest.mark.parametrize("asked_s", [-1e-9, -1.0, math.nan, math.inf, 1.1e7])
def test_what_is_no_duration_is_refused(asked_s):
    with open_board("sim://?preset=ideal") as board:
        before = board.clock_s
        with pytest.raises(InputError, match="a wait of .* s was asked for; .* 0 to 1e.07 s"):
            board.wait(asked_s)
        assert board.clock_s == before


@pytest.mark.parametrize("asked_s", [1e-8, 1e-6, 2e-5, 0.1, 2.68435456, 3600.0, 1e6, 1e7])
def test_the_clock_moves_by_what_was_asked_and_no_wall_time_passes(asked_s):
    """Below 5 ms however long; the best of ten, for others run here too."""
    walls_s = []
    with open_board("sim://?preset=taox_180nm&seed=7") as board:
        for _ in range(10 if asked_s < 1e7 else 3):
            before_s, counted_s = board.clock_s, board.board_time_s
            begun = time.perf_counter()
            board.wait(asked_s)
            walls_s.append(time.perf_counter() - begun)
            passed_s = board.clock_s - before_s
            # doubles near 1e7 s are 2e-9 s apart: the nearest cycle is the one
            assert round(passed_s / CYCLE_S) == round(asked_s / CYCLE_S)
            assert board.board_time_s - counted_s == pytest.approx(asked_s, rel=1e-12, abs=4e-9)
    assert min(walls_s) < 5e-3


@pytest.mark.parametrize("asked_s", [1e-6, 1.0])
def test_rails_are_safe_after_and_through_a_wait_and_cells_are_not_touched(asked_s):
    emulated = EmulatedBoard("ideal", seed=1)
    emulated.bench.cells.g[:], emulated.bench.cells.formed[:] = 50e-6, True
    with open_board(emulated) as board:
        board.array.read()
        board.wait(asked_s)
        rails = emulated.truth.rails_v
        assert all(rails[f"{kind}{k}"] == 0.0 for kind in ("BL", "WL") for k in range(32))
        if asked_s == 1.0:
            assert all(rails[f"SL{k}"] == 0.0 for k in range(32))
    assert not emulated.truth.pulses.any()
    assert (emulated.truth.conductances_siemens == 50e-6).all()


def test_cells_relax_by_the_time_that_has_passed():
    """A day of drift of -0.03 uS a decade: mean of 1024 cells, 5 standard errors of 0.75 uS."""
    emulated = EmulatedBoard("taox_180nm", seed=1)
    emulated.bench.cells.g[:], emulated.bench.cells.formed[:] = 50e-6, True
    with open_board(emulated) as board:
        board.wait(86400.0)
        moved = emulated.truth.conductances_siemens - 50e-6
    decades = np.log10(1 + 86400 / 1e-3)
    assert abs(moved.mean() + 3e-8 * decades) < 5 * moved.std() / 32
    assert moved.std() == pytest.approx(np.sqrt(7e-14 * decades), rel=0.15)


# ---- a board that takes its time ----------------------------------------------------------------


class _Slow:
    """An emulated board whose programs take wall time, on a clock that only `sleep` moves."""

    def __init__(self, board: EmulatedBoard) -> None:
        self.board, self.now_s, self.done_s = board, 0.0, 0.0
        self.slept: list[float] = []
        self.hangs = False

    def read(self, address: int, count: int) -> np.ndarray:
        words = self.board.read(address, count)
        busy = self.hangs or self.now_s < self.done_s
        if busy and address == registers.offset("STATUS"):
            words[0] = registers.STATUS_BUSY
        return words

    def write(self, address: int, words: np.ndarray) -> None:
        before = self.board.clock.now_s
        self.board.write(address, words)
        if address == registers.offset("CTRL"):
            self.done_s = self.now_s + (self.board.clock.now_s - before)
        if address == registers.offset("CTRL") and words[0] == registers.CTRL_SAFE:
            self.done_s = self.now_s

    def close(self) -> None:
        self.board.close()

    def sleep(self, duration_s: float) -> None:
        self.slept.append(duration_s)
        self.now_s += duration_s


@pytest.fixture
def slow(monkeypatch) -> _Slow:
    link = _Slow(EmulatedBoard("ideal", seed=1))
    monkeypatch.setattr(sequencer.time, "sleep", link.sleep)
    monkeypatch.setattr(sequencer.time, "monotonic", lambda: link.now_s)
    return link


def test_a_slow_board_is_asked_ever_more_seldom_and_not_after_its_end(slow):
    """1 h: from 1 ms to 0.5 s between looks, some 7300 of them, and at most 1 ms too long."""
    told: list[tuple[float, float]] = []
    with open_board(slow) as board:
        slow.slept.clear()
        begun_s = slow.now_s
        board.wait(3600.0, lambda passed, whole: told.append((passed, whole)))
        took_s = slow.now_s - begun_s
    assert 3600.0 <= took_s <= 3600.0 + SHORTEST_PAUSE_S + 1e-6
    assert slow.slept[0] == SHORTEST_PAUSE_S and max(slow.slept) == LONGEST_PAUSE_S
    assert 7000 < len(slow.slept) < 7500
    passed = [one for one, _ in told]
    assert passed == sorted(passed) and passed[-1] <= 3600.0
    assert {whole for _, whole in told} == {3600.0}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_a_wait_that_is_broken_off_leaves_safe_rails(slow, stop):
    def progress(passed_s: float, whole_s: float) -> None:
        if passed_s > 1.0:
            raise stop

    with open_board(slow) as board:
        written = len(slow.slept)
        with pytest.raises(stop):
            board.wait(3600.0, progress)
        assert len(slow.slept) > written
        assert slow.now_s >= slow.done_s  # the safe program has taken the place of the wait
        board.wait(1e-3)  # and the board goes on


def test_a_crystal_that_is_slow_by_50_ppm_is_waited_for(slow, monkeypatch):
    """5e5 s last 25 s longer, far beyond the 5 s that short programs have."""

    def sleep(duration_s: float) -> None:  # leaps, but not at the end
        slow.now_s += 1000 if slow.now_s + 3000 < slow.done_s else duration_s

    write = slow.write

    def late(address: int, words: np.ndarray) -> None:
        before_s = slow.done_s
        write(address, words)
        if slow.done_s > before_s:
            slow.done_s += 50e-6 * (slow.done_s - slow.now_s)

    monkeypatch.setattr(sequencer.time, "sleep", sleep)
    monkeypatch.setattr(slow, "write", late)
    with open_board(slow) as board:
        begun_s = slow.now_s
        board.wait(5e5)
        assert slow.now_s - begun_s == pytest.approx(5e5 + 25, abs=1)


def test_a_board_that_does_not_come_back_is_an_error(slow):
    with open_board(slow) as board:
        slow.hangs = True
        with pytest.raises(LinkError, match="program of 2 s is not done after 5 s more"):
            board.wait(2.0)
        slow.hangs = False


@given(st.floats(0, 1e7), st.floats(0, 1e7))
def test_pauses_are_bounded_and_end_with_the_program(passed_s, takes_s):
    pause = pause_s(passed_s, takes_s)
    assert SHORTEST_PAUSE_S <= pause <= LONGEST_PAUSE_S
    if takes_s - passed_s > SHORTEST_PAUSE_S:
        assert passed_s + pause <= takes_s * (1 + 1e-15) + 1e-12


# ---- the clock ----------------------------------------------------------------------------------


class _Carrying:
    """A clock whose low word runs over between two looks at it."""

    def __init__(self, board: EmulatedBoard, words: list[int]) -> None:
        self._board, self._words = board, words

    def read(self, address: int, count: int) -> np.ndarray:
        if self._words and address in (
            registers.offset("CYCLES_HI"),
            registers.offset("CYCLES_LO"),
        ):
            return np.array([self._words.pop(0)], dtype=np.uint32)
        return self._board.read(address, count)

    def write(self, address: int, words: np.ndarray) -> None:
        self._board.write(address, words)

    def close(self) -> None:
        self._board.close()


def test_the_clock_is_read_whole_where_its_low_word_runs_over():
    """High 1, low 0 as the carry comes, high 2: the low word is read again."""
    link = _Carrying(EmulatedBoard("ideal"), [])
    with open_board(link) as board:
        link._words[:] = [1, 0xFFFF_FFFF, 2, 5, 2]
        assert board.clock_s == (2 * 2**32 + 5) / 1e8


# ---- snapshots ----------------------------------------------------------------------------------


def _all_sorts(board) -> list[np.ndarray]:
    """Pulses, reads, products and waits, over blocks of slow noise."""
    rng = np.random.default_rng(4)
    targets = np.full((32, 32), np.nan)
    targets[3:5] = rng.uniform(30e-6, 70e-6, (2, 32))
    board.array.program(targets)
    found = [board.array.read()]
    board.wait(12.5)
    found.append(board.array.read(average=3))
    targets[:] = np.nan
    targets[7, 9] = 50e-6
    board.array.program(targets)
    found.append(board.array.vmm(rng.uniform(-0.1, 0.1, (40, 32))))
    board.wait(1e5)
    return [*found, board.array.read()]


def test_another_board_goes_on_from_a_snapshot_to_the_bit():
    one, other = (EmulatedBoard("taox_180nm", seed=5) for _ in range(2))
    with open_board(one) as board, open_board(other) as again:
        board.array.form()
        _all_sorts(board)
        blob = board.snapshot()
        wanted = _all_sorts(board)
        again.restore(blob)
        found = _all_sorts(again)
        for left, right in zip(wanted, found, strict=True):
            assert np.array_equal(left, right)
        assert again.clock_s == board.clock_s
        assert np.array_equal(other.truth.conductances_siemens, one.truth.conductances_siemens)
        assert np.array_equal(other.truth.pulses, one.truth.pulses)
        assert again.snapshot() == board.snapshot()


def test_silicon_keeps_its_own_state(slow):
    assert isinstance(EmulatedBoard("ideal"), Snapshots)
    assert isinstance(slow, Transport) and not isinstance(slow, Snapshots)
    with open_board(slow) as board:
        assert board.snapshot() is None
        with pytest.raises(InputError, match="takes no snapshots: its chip keeps its own state"):
            board.restore(b"")
