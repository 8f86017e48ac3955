"""Several boards calibrated and programmed: what is told of the time that they take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rram_host.experiments import boards, steps
from rram_host.experiments.boards import calibrate_boards, telling_how_long
from rram_host.experiments.steps import Silent, Steps

PROGRAM_S, CALIBRATE_S = 2.0, 3.0


class Clock:
    """Time that passes only when a board works."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Slow:
    """A board that takes its time."""

    def __init__(self, clock: Clock, measured: bool = False, program_s: float = PROGRAM_S) -> None:
        self.clock, self.shape, self.array, self.program_s = clock, (32, 32), self, program_s
        self.calibration = SimpleNamespace(measured=measured)

    def program(self, cells: Any, policy: Any, progress: Any) -> Any:
        self.clock.now_s += self.program_s
        progress(1024, 1024)
        return SimpleNamespace(failed=[])

    def calibrate(self, plan: Any, progress: Any) -> Any:
        self.clock.now_s += CALIBRATE_S
        self.calibration.measured = True
        lines = SimpleNamespace(row_ohm=np.ones(32), bl_segment_ohm=1.0, sl_segment_ohm=1.0)
        return SimpleNamespace(lines=lines)


class Told(Silent):
    """An observer that keeps what it is told, and when."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.lines = clock, list[tuple[float, str]]()

    def tell(self, text: str) -> None:
        self.lines.append((self.clock.now_s, text))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    for module in (boards, steps):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=found))
    return found


@pytest.mark.parametrize("compiling_s", [0.0, 33.0])
def test_when_the_second_board_is_prepared_the_rest_is_told(clock: Clock, compiling_s: float):
    first = Slow(clock, program_s=compiling_s + PROGRAM_S)
    told, many = Told(clock), [first, *(Slow(clock) for _ in range(60))]
    work = Steps(told)
    assert calibrate_boards(many, 8, 1, work)  # type: ignore[arg-type]
    # 59 more to prepare, 60 to calibrate, and 61 to program with weights: 420 s
    then_s = compiling_s + 2 * PROGRAM_S + CALIBRATE_S
    assert told.lines == [(then_s, "61 arrays: about 7 min to calibrate and program them")]
    assert clock.now_s == compiling_s + 61 * (PROGRAM_S + CALIBRATE_S)
    names = [step.name for step in work.done]
    assert names == ["program random cells", "calibrate"] * 2
    assert "the first of 61" in work.done[0].note and "the other 60" in work.done[3].note


@pytest.mark.parametrize(("known", "turns"), [(61, 8), (60, 8), (0, 0)])
def test_with_one_or_none_to_calibrate_nothing_is_told(clock: Clock, known: int, turns: int):
    told = Told(clock)
    many = [Slow(clock, number < known) for number in range(61)]
    assert not calibrate_boards(many, turns, 1, Steps(told))  # type: ignore[arg-type]
    assert told.lines == []


def test_programming_alone_is_told_once_the_first_array_is_done(clock: Clock):
    told, seen = Told(clock), []
    progress = telling_how_long(Steps(told), 5, 100, lambda *at: seen.append(at))
    for done in (50, 100, 125, 250, 500):
        clock.now_s += 4.0
        progress(done, 500)
    assert told.lines == [(12.0, "5 arrays: about 36 s to program them")]
    assert seen == [(50, 500), (100, 500), (125, 500), (250, 500), (500, 500)]


def test_a_single_array_is_not_told_of(clock: Clock):
    told = Told(clock)
    progress = telling_how_long(Steps(told), 1, 100, lambda *_: None)
    progress(50, 100)
    progress(100, 100)
    assert told.lines == []
