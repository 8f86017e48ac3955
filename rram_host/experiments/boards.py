"""Several boards at once: opened from URLs that count up, calibrated where they are not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np

from rram_host.array.calibrate import CalibrationPlan
from rram_host.array.compensation import LineResistances
from rram_host.errors import InputError
from rram_host.experiments.steps import Step, Steps
from rram_host.session import Board, open_board

# Random conductances that a calibration sees well.
_PREPARED_SIEMENS = (20e-6, 80e-6)


def board_time_s(boards: Sequence[Board]) -> float:
    """Board time of several boards that take turns, in seconds: the sum."""
    return sum(board.board_time_s for board in boards)


def board_urls(urls: Sequence[str], needed: int) -> list[str]:
    """URLs of `needed` boards, from as many, or from one whose query counts up.

    An emulated board is another chip at another seed: `seed=7` becomes 7, 8, ...; `state=FILE`
    becomes FILE.0, FILE.1, ...

    Raises:
        InputError: neither enough URLs, nor one with a seed.

    >>> board_urls(["sim://?preset=ideal&seed=7"], 2)
    ['sim://?preset=ideal&seed=7', 'sim://?preset=ideal&seed=8']
    """
    if len(urls) >= needed:
        return list(urls[:needed])
    query = dict(parse_qsl(urlsplit(urls[0]).query)) if len(urls) == 1 else {}
    if "seed" not in query:
        raise InputError(
            f"{needed} boards are needed, {len(urls)} given: name each, or one emulated board "
            "with its seed (sim://?seed=7), from which seeds are counted up"
        )
    return [_counted(urls[0], query, number) for number in range(needed)]


def _counted(url: str, query: dict[str, str], number: int) -> str:
    try:
        values = {**query, "seed": str(int(query["seed"]) + number)}
    except ValueError:
        raise InputError(f"{url}: seed {query['seed']!r} is not a whole number") from None
    if "state" in query:
        values["state"] = f"{query['state']}.{number}"
    return f"{url.partition('?')[0]}?{urlencode(values, safe='/:,')}"


@contextmanager
def open_boards(
    urls: Sequence[str],
    needed: int,
    spec: str | Path | None = None,
    passports: Sequence[Path] = (),
) -> Iterator[list[Board]]:
    """Open as many boards as are needed; all are made safe and closed at the end.

    Args:
        urls: as for `board_urls`.
        needed: how many.
        spec: how the boards are wired.
        passports: of their chips, in order; none, or one for each.

    Raises:
        InputError: as `board_urls` and `open_board`, or another number of passports.
    """
    if passports and len(passports) != needed:
        raise InputError(f"{len(passports)} passports given for {needed} boards: one for each chip")
    with ExitStack() as stack:
        books: list[Path | None] = [*passports] or [None] * needed
        yield [
            stack.enter_context(open_board(url, spec, passport=book))
            for url, book in zip(board_urls(urls, needed), books, strict=True)
        ]


def calibrate_boards(boards: Sequence[Board], turns: int, seed: int, steps: Steps) -> bool:
    """Calibrate the boards that have no calibration, on random cells; what is stored is lost.

    A calibration needs rows that conduct and cells that differ. The weights of a model give neither
    for sure: its last array may be almost empty, and most of its weights may be small.

    Args:
        boards: open boards, which are to be programmed once more afterwards.
        turns: of `CalibrationPlan`; 0 for no calibration at all.
        seed: of the random cells.
        steps: is told of both steps, and of several boards how long they take, once the second one
            is prepared: the first one may have waited for kernels to be compiled.

    Returns:
        Whether that was told.

    Raises:
        BoardFault: too few cells of a board conduct.
    """
    todo = [board for board in boards if not board.array.calibration.measured] if turns else []
    if not todo:
        return False
    rng = np.random.default_rng(seed)
    _calibrate(todo[:1], turns, rng, steps, f"the first of {len(todo)}" if todo[1:] else "")
    if not todo[1:]:
        return False
    measure_s, others = steps.done[-1].wall_s, len(todo[1:])

    def tell(prepare_s: float) -> None:
        # the weights take about what random cells take
        left_s = others * measure_s + (others - 1 + len(boards)) * prepare_s
        steps.tell(f"{len(boards)} arrays: about {_about(left_s)} to calibrate and program them")

    _calibrate(todo[1:], turns, rng, steps, f"the other {others}", tell)
    return True


def _calibrate(
    boards: Sequence[Board],
    turns: int,
    rng: np.random.Generator,
    steps: Steps,
    which: str,
    prepared: Callable[[float], None] = lambda _: None,
) -> None:
    """`prepared` is told how many seconds it took to program random cells of the first board."""
    which = f"{which}; " if which else ""
    with steps("program random cells") as step:
        failed, start = 0, time.perf_counter()
        for number, board in enumerate(boards):
            cells = rng.uniform(*_PREPARED_SIEMENS, board.array.shape)
            report = board.array.program(cells, None, _part(number, len(boards), step))
            failed += len(report.failed)
            if number == 0:
                prepared(time.perf_counter() - start)
        step.note = f"{which}for a calibration; {failed} failed"
    with steps("calibrate") as step:
        for number, board in enumerate(boards):
            found = board.calibrate(CalibrationPlan(turns=turns), _part(number, len(boards), step))
        last = "the last one: " if boards[1:] else ""
        step.note = f"{which}{last}{_lines(found.lines)}"


def telling_how_long(
    steps: Steps, arrays: int, first_cells: int, advance: Callable[[int, int], None]
) -> Callable[[int, int], None]:
    """Progress of programming several arrays that says once, after the first, what the rest takes.

    Args:
        steps: is told.
        arrays: how many there are.
        first_cells: cells of the first one.
        advance: is told of the progress all the same.
    """
    start, told = time.perf_counter(), False

    def progress(done: int, total: int) -> None:
        nonlocal told
        advance(done, total)
        if done > first_cells and not told:
            told, left_s = True, (time.perf_counter() - start) * (total / done - 1.0)
            steps.tell(f"{arrays} arrays: about {_about(left_s)} to program them")

    return progress


def _about(duration_s: float) -> str:
    """A duration to wait for, roughly.

    >>> _about(8.3), _about(171.0)
    ('9 s', '3 min')
    """
    return f"{duration_s / 60:.0f} min" if duration_s >= 90 else f"{math.ceil(duration_s)} s"


def _part(number: int, parts: int, step: Step) -> Callable[[int, int], None]:
    """Progress of one of `parts` equal parts as progress of the whole."""
    return lambda done, total: step.advance(number * total + done, parts * total)


def _lines(lines: LineResistances) -> str:
    return (
        f"switches {lines.row_ohm.mean():.1f} ohm, wires {lines.bl_segment_ohm:.2f} (BL) and "
        f"{lines.sl_segment_ohm:.2f} (SL) ohm a cell"
    )
