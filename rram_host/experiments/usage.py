"""Was a chip used, or its board switched off, since a run stopped? What tells of it is named.

A run file keeps what board and passport have counted (`state/counts`): at its beginning, after
every unit, and when it stopped. What can be compared depends on the board:

* a passport counts all pulses of its chip, wherever they were given, and who opened it;
* an emulated board (one with snapshots) keeps its clock in its state file, if it has one;
* silicon counts pulses and time since power-up.

A killed run has given pulses after its last unit that nobody has counted apart. So without a
passport only a power cut of silicon is found then; with one, it is enough that somebody opened the
chip in between and that it has had pulses.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np

from rram_host.errors import InputError
from rram_host.passport import Passport
from rram_host.records.run_file import RunFile
from rram_host.session import Board

# Opening and closing a board takes 0.3 ms of board time, and nothing is lost by it; one pulse with
# the look at the array that goes with it takes 6 ms.
_NO_USE_S = 5e-3


@dataclass(frozen=True)
class Counts:
    """What was counted at one moment of a run.

    Attributes:
        stopped: the run had stopped; False: it went on, until its process was killed.
        clock_s: board clock.
        pulses: since the board's power-up.
        noted: pulses in the chip's passport, forming included; None without one.
        openings: of the chip, in its passport.
    """

    stopped: bool
    clock_s: float
    pulses: int
    noted: int | None
    openings: int


def _now(board: Board, stopped: bool) -> Counts:
    noted, openings = _noted(board.passport) if board.passport else (None, 0)
    return Counts(stopped, board.clock_s, board.pulses_since_power_up, noted, openings)


def _noted(passport: Passport) -> tuple[int, int]:
    known = passport.contents
    openings = sum(event.what.startswith("opened") for event in known.events)
    return int(np.sum(known.pulses) + np.sum(known.form_pulses)), openings


def counted(board: Board, stopped: bool) -> str:
    """What is counted now, for a run file.

    Args:
        board: of the run.
        stopped: the run gives no more pulses.

    Raises:
        LinkError: the board cannot be reached.
    """
    return json.dumps(asdict(_now(board, stopped)))


def check_unused(run: RunFile, board: Board) -> None:
    """Refuse to go on where the chip was used, or silicon switched off, since the run stopped.

    Raises:
        InputError: it was; says by what it is known.
    """
    try:
        then = Counts(**json.loads(run.state.counts))
    except (ValueError, TypeError):
        return  # a file of an earlier version
    now, emulated = _now(board, stopped=True), board.snapshot() is not None
    found = [] if emulated else _by_power(then, now)
    if then.noted is not None and now.noted is not None:
        found += _by_passport(then, now, now.noted - then.noted)
    elif emulated and then.stopped:
        found += _by_state(board.opened_clock_s - then.clock_s)
    if found:
        lost = "; to resume puts the chip back to where the run stopped" if emulated else ""
        raise InputError(
            f"{run.path} cannot simply go on: since the run stopped, {', and '.join(found)}{lost} "
            "(--force to go on all the same)"
        )


def _by_passport(then: Counts, now: Counts, given: int) -> list[str]:
    others = now.openings - then.openings - 1  # this opening is no other
    if not given or (not then.stopped and others < 1):
        return []
    if then.stopped:
        return [f"its passport has noted {given} pulses more"]
    return [
        f"its passport has noted {given} pulses more, those of the unit that was broken off among "
        f"them, and {others} openings of the chip in between"
    ]


def _by_state(ahead_s: float) -> list[str]:
    """An emulated board whose state file is ahead of the run; one without begins anew, behind."""
    return [f"the board has worked {ahead_s:.3g} s of board time"] if ahead_s > _NO_USE_S else []


def _by_power(then: Counts, now: Counts) -> list[str]:
    if now.clock_s < then.clock_s or now.pulses < then.pulses:
        return [
            f"the board was switched off: it counts {now.pulses} pulses and {now.clock_s:.4g} s "
            f"since power-up, the run {then.pulses} and {then.clock_s:.4g} s"
        ]
    given = now.pulses - then.pulses if then.stopped else 0
    return [f"the board has given {given} pulses more"] if given else []
