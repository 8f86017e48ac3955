"""Is a run what the emulated board does? Run it again from where it began, and compare bits."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.errors import InputError
from rram_host.experiments.catalogue import experiment_named
from rram_host.experiments.recording import record_again
from rram_host.records.comparison import differing
from rram_host.records.rebuild import rebuilt
from rram_host.records.run_file import RunFile
from rram_host.session import open_board

SAME, DIFFERENT, UNKNOWN = "same", "different", "not in the file"
_EMULATED = "sim"
# A second run leaves the state file as it is. A board with a pace computes in another way than one
# without, and the same at any pace; nobody waits for it twice.
_STATE, _PACE, _FASTEST = "state", "pace", "1e9"


@dataclass(frozen=True)
class Verdict:
    """How a run and the same run again compare.

    Attributes:
        units: of work that were compared.
        rows: records that were compared.
        traffic: of the register window: SAME, DIFFERENT, or UNKNOWN (an older file).
        records: SAME or DIFFERENT.
        differences: where they differ first, in sentences.
        notes: what may explain a difference.
    """

    units: int
    rows: int
    traffic: str
    records: str
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def same(self) -> bool:
        """Nothing differs, as far as the file tells."""
        return not self.differences


def emulated_url(url: str, what: str) -> tuple[str, str]:
    """URL of a new emulated board like the one of `url`, and the state file that it leaves out.

    Args:
        url: of any board.
        what: begin of the message where it is not an emulated one.

    Raises:
        InputError: no emulated board.
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme != _EMULATED:
        raise InputError(
            f"{what} {url or 'a board without a URL'}: only an emulated board ({_EMULATED}://) can "
            "do it again. What a host did to another board can be replayed from a recording of the "
            "traffic: --record FILE, then --board replay:///FILE"
        )
    query = dict(parse_qsl(rest.lstrip("?"), keep_blank_values=True))
    state = query.pop(_STATE, "")
    query |= {_PACE: _FASTEST} if _PACE in query else {}
    return f"{scheme}://?{urlencode(query, safe=':/,')}", state


def rerun(
    run: RunFile, folder: Path, progress: Callable[[int, int], None] | None = None
) -> Verdict:
    """Run it again and compare: committed units only, bit for bit.

    Args:
        run: recorded on an emulated board that a URL named.
        folder: for what the second run writes; nothing else is written.
        progress: told of (units done, units to do).

    Raises:
        InputError: not an emulated board, nothing committed, or the file does not hold where the
            run began.
        RramError: the second run fails.
    """
    head = run.header
    url, state = emulated_url(head.board, f"{run.path} was recorded on")
    if not run.state.units:
        raise InputError(f"{run.path} has no committed unit: there is nothing to compare")
    if run.start() is None and state:
        raise InputError(
            f"{run.path} began on a board with a state file, {state}, and is of a "
            "version that did not keep what the board held then: it cannot be run again"
        )
    experiment = experiment_named(head.experiment)
    plan, spec = rebuilt(experiment.plan, head.plan), rebuilt(BoardSpec, head.spec)
    passport, notes = _passport(head.passport, folder)
    with open_board(url, spec, passport=passport, check_map=False) as board:
        again = record_again(board, experiment, plan, run, folder / "again.h5", progress)
    return _compared(run, again, notes)


def _passport(path: str, folder: Path) -> tuple[Path | None, list[str]]:
    """A copy of the run's passport, and what is to be said of it."""
    if not path:
        return None, []
    if not Path(path).is_file():
        return None, [f"the passport {path} is gone; run again without one"]
    copy = folder / "passport.json"
    shutil.copyfile(path, copy)
    return copy, [f"the passport {path} was taken as it is now; the run may have begun with less"]


# ---- comparing ----------------------------------------------------------------------------------


def _compared(run: RunFile, again: RunFile, notes: list[str]) -> Verdict:
    told, told_again = run.traffic(), again.traffic()
    lines = [*_maps(run, again), *_traffic(told, told_again)]
    traffic = UNKNOWN if not told else DIFFERENT if told != told_again else SAME
    found = _records(run, again)
    if lines or found:
        versions = [row for row in differing(run.header, again.header) if row["what"][:4] == "vers"]
        notes = [*notes, *(f"{row['what']}: {row['a']} then, {row['b']} now" for row in versions)]
    return Verdict(
        units=run.state.units,
        rows=run.state.rows,
        traffic=traffic,
        records=DIFFERENT if found else SAME,
        differences=(*lines, *found),
        notes=tuple(notes),
    )


def _maps(run: RunFile, again: RunFile) -> list[str]:
    if run.header.map_sha256 == again.header.map_sha256:
        return []
    return ["the array before the run already reads otherwise: the board was not as it is when new"]


def _traffic(told: list[bytes], again: list[bytes]) -> list[str]:
    if not told or told == again:
        return []
    for unit, (a, b) in enumerate(zip(told, again, strict=False), 1):
        if a != b:
            return [f"traffic with the board differs first in unit {unit} of {len(told)}"]
    return [f"traffic with the board was recorded for {len(told)} units, {len(again)} came again"]


def _records(run: RunFile, again: RunFile) -> list[str]:
    """The first record that differs, in the first column that does."""
    if run.state.rows != again.state.rows:
        return [f"{run.state.rows} records in the file, {again.state.rows} again"]
    there, here = run.data(), again.data()
    if set(there) != set(here):
        return ["columns: those of another version of the experiment"]
    places = [(*found, name) for name in there if (found := _first(there[name], here[name]))]
    if not places:
        return []
    record, element, name = min(places)
    a, b = (_element(data[name], record, element) for data in (there, here))
    unit = next(column.unit for column in run.columns if column.name == name)
    return [
        f"records differ first in record {record} of {run.state.rows}: {name}"
        f"{f' [{element}]' if there[name].ndim > 1 else ''} is {a} {unit} in the file, "
        f"{b} {unit} again"
    ]


def _first(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[int, int] | None:
    """Record and element of the first difference in bits; None where there is none."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return 0, 0
    bits = [np.ascontiguousarray(x).view(np.uint8).reshape(len(x), -1) for x in (a, b)]
    rows = np.flatnonzero((bits[0] != bits[1]).any(axis=1))
    if not rows.size:
        return None
    record = int(rows[0])
    at = int(np.flatnonzero(bits[0][record] != bits[1][record])[0])
    return record, at // a.dtype.itemsize


def _element(values: npt.NDArray[Any], record: int, element: int) -> Any:
    return values[record].ravel()[element].item()
