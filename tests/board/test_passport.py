"""A chip's passport: what it keeps, what it refuses, and that it loses nothing."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from firmware_bridge import board_spec, registers
from rram_host import open_board
from rram_host.array.calibration import Calibration
from rram_host.array.policies import CoarseFine
from rram_host.errors import InputError, LinkError
from rram_host.passport import (
    ConductanceMap,
    Contents,
    DeadCell,
    Event,
    Forming,
    Limits,
    Passport,
)
from rram_host.passport.document import CalibrationEntry
from rram_host.passport.store import layout, parse
from sim.board import EmulatedBoard
from tests.array.rig import random_g, sparse

SPEC = board_spec.load()
MASK = np.zeros((32, 32), dtype=bool)
MASK[2:5, 6:9] = True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chip7.json"


@pytest.fixture
def emulated() -> EmulatedBoard:
    return EmulatedBoard("ideal", seed=1)


def given_in_all(contents: Contents) -> np.ndarray:
    return contents.pulses + contents.form_pulses


def formed_with(g: np.ndarray) -> EmulatedBoard:
    board = EmulatedBoard("ideal", seed=1)
    board.bench.cells.formed = g > 0
    board.bench.cells.g = np.where(g > 0, g, board.bench.cells.g)
    return board


# ---- round trips ----------------------------------------------------------------------------

SHAPE = (3, 4)
MOMENTS = st.datetimes(timezones=st.just(UTC))
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
CELLS = st.tuples(st.integers(0, 2), st.integers(0, 3))
COUNTS = arrays.arrays(np.int64, SHAPE, elements=st.integers(0, 2**53 - 1))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
MAPS = arrays.arrays(np.float64, SHAPE, elements=st.floats(allow_infinity=False))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
LIMITS = st.tuples(
    st.none() | st.floats(0, 1e-5),
    st.none() | st.floats(2e-5, 1e-3),
    st.none() | st.integers(0, 2**40),
)
CONTENTS = st.builds(
    Contents,
    chip=TEXTS,
    board_file=TEXTS,
    rows=st.just(SHAPE[0]),
    cols=st.just(SHAPE[1]),
    created=MOMENTS,
    updated=MOMENTS,
    calibration=st.none()
    | st.builds(CalibrationEntry, MOMENTS, st.dictionaries(st.text(max_size=3), PLAIN)),
    map=st.none() | st.builds(ConductanceMap, MOMENTS, MAPS),
    formed=arrays.arrays(np.bool_, SHAPE),
    pulses=COUNTS,
    form_pulses=COUNTS,
    dead=st.dictionaries(CELLS, st.tuples(TEXTS, MOMENTS)).map(
        lambda cells: tuple(DeadCell(*cell, *why) for cell, why in cells.items())
    ),
    forming=st.lists(
        st.builds(
            Forming,
            MOMENTS,
            st.integers(0, 12),
            st.integers(0, 10**6),
            st.lists(CELLS, max_size=3).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    limits=LIMITS.map(lambda values: Limits(*values)),
    events=st.lists(st.builds(Event, MOMENTS, TEXTS, TEXTS, TEXTS), max_size=3).map(tuple),
)


@given(CONTENTS)
def test_what_is_written_is_read_again_to_the_last_bit(contents: Contents):
    text = layout(contents.to_json())
    again = Contents.from_json(parse(text.encode(), "x"), "x")
    assert again.to_json() == contents.to_json() and layout(again.to_json()) == text
    if contents.map and again.map:
        known = ~np.isnan(contents.map.siemens)
        np.testing.assert_array_equal(np.isnan(again.map.siemens), ~known)
        before, after = contents.map.siemens[known], again.map.siemens[known]
        assert before.tobytes() == after.tobytes()
    assert again.dead == contents.dead and again.forming == contents.forming
    assert again.events == contents.events and again.limits == contents.limits


def test_a_saved_passport_is_the_same_when_loaded_and_dates_stay(path: Path):
    now = datetime(2025, 3, 1, 12, tzinfo=UTC)
    known = Passport.new(path, SPEC, clock=lambda: now)
    known.note_calibration(Calibration.nominal(SPEC).to_dict())
    known.note_dead(3, 4, "kaputt: leckt µA")
    known.save()
    again = Passport.load(path, clock=lambda: now + timedelta(days=2))
    assert again.contents.to_json() == known.contents.to_json()
    assert again.contents.chip == "chip7" and again.contents.board_file == SPEC.name
    assert again.calibration_age == timedelta(days=2)
    back = Calibration.from_dict(again.calibration or {})
    np.testing.assert_array_equal(back.dac_offset_error_v, np.full(32, np.inf))
    before = path.read_bytes()
    again.save()  # nothing was noted
    assert path.read_bytes() == before


def test_a_row_of_cells_is_a_line_of_the_file(path: Path):
    Passport.new(path, SPEC, chip="wafer 3, die 12").save()
    assert json.loads(path.read_text())["chip"] == "wafer 3, die 12"
    assert "\n  [" + ", ".join(["0"] * 32) + "],\n" in path.read_text()


def test_notes_do_not_change_what_was_handed_out_and_arrays_cannot_be_written(path: Path):
    known = Passport.new(path, SPEC)
    before = known.contents
    known.note_pulses(MASK)
    assert not before.pulses.any() and known.contents.pulses.sum() == MASK.sum()
    with pytest.raises(ValueError, match="read-only"):
        known.contents.pulses[0, 0] = 5


def test_logs_keep_the_last_thousand(path: Path):
    known = Passport.new(path, SPEC)
    for number in range(1003):
        known.note_event(f"event {number}")
    events = known.contents.events
    assert len(events) == 1000 and events[0].what == "event 3" and events[-1].what == "event 1002"


# ---- refused files --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("good") / "good.json"
    known = Passport.new(path, SPEC)
    known.note_read(random_g(0))
    known.note_calibration({"gain": [1.0]})
    known.note_dead(1, 2, "dead")
    known.note_event("was there")
    known.save()
    return json.loads(path.read_text())


WRONG = {
    "version 2": (("version",), 2, ("version 2", "reads version 1")),
    "version true": (("version",), True, ("version True",)),
    "no chip": (("chip",), "", ("chip", "a text")),
    "chip a number": (("chip",), 7, ("chip = 7",)),
    "rows 0": (("rows",), 0, ("rows = 0", "from 1 on")),
    "rows a text": (("rows",), "32", ("rows = '32'",)),
    "rows without end": (("rows",), 2**52, ("more than",)),
    "naive time": (("created",), "2025-01-01T00:00:00", ("created", "+00:00")),
    "time a number": (("updated",), 3, ("updated",)),
    "map of 31 rows": (("map", "siemens", slice(31, 32)), [], ("siemens", "32 rows")),
    "row of a map": (("map", "siemens", 4), [1e-5], ("row 4", "1;", "32 rows of 32")),
    "map with a text": (("map", "siemens", 4, 5), "x", ("(4, 5)", "'x'", "or null")),
    "map with true": (("map", "siemens", 4, 5), True, ("(4, 5)", "True")),
    "map without time": (("map",), {"siemens": []}, ("map", "'when' is missing")),
    "map a list": (("map",), [], ("map", "an object")),
    "pulses negative": (("pulses", 0, 0), -1, ("pulses", "(0, 0)", "-1")),
    "pulses broken": (("pulses", 0, 1), 1.5, ("pulses", "(0, 1)", "1.5")),
    "pulses unknown": (("form_pulses", 0, 1), None, ("form_pulses", "None")),
    "pulses too many": (("pulses", 0, 1), 2**70, ("pulses",)),
    "formed a number": (("formed", 2, 2), 1, ("formed", "(2, 2)", "true or false")),
    "dead cell outside": (("dead", 0, "row"), 32, ("dead[0]", "(32, 2)", "32 x 32")),
    "dead without reason": (("dead", 0, "reason"), " ", ("dead[0]", "reason")),
    "dead twice": (("dead", slice(1, 1)), ..., ("(1, 2)", "twice")),
    "dead a text": (("dead",), "none", ("dead", "a list")),
    "forming": (("forming",), [{}], ("forming[0]", "'when' is missing")),
    "limits typo": (("limits", "max_pulse"), 5, ("limits", "'max_pulse'", "max_pulses_per_cell")),
    "empty window": (("limits", "conductance_max_siemens"), 0, ("limits",)),
    "limit a text": (("limits", "max_pulses_per_cell"), "many", ("limits", "'many'")),
    "event": (("events", 0, "board"), None, ("events[0]", "board = None")),
    "calibration": (("calibration", "values"), [1], ("calibration", "values")),
    "unknown key": (("colour",), "red", ("'colour'",)),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_is_no_passport_is_refused_by_name_and_place(
    case: str, good: dict[str, Any], path: Path
):
    where, value, words = WRONG[case]
    wrong = copy.deepcopy(good)
    wrong["limits"]["conductance_min_siemens"] = 0.0
    place = wrong
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = list(wrong["dead"]) if value is ... else value
    path.write_text(json.dumps(wrong))
    with pytest.raises(InputError) as refusal:
        Passport.load(path)
    for word in (str(path), *words):
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "not JSON"),
        (b"rows = 32", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"version": 1, "rows": NaN}', "NaN"),
        (b'{"version": 1, "rows": -Infinity}', "Infinity"),
        (b"[1]", "no 'version'"),
        (b"{}", "no 'version'"),
        (b'{"version": 1}', "'chip' is missing"),
    ],
)
def test_what_is_not_json_or_not_whole_is_refused(content: bytes, word: str, path: Path):
    path.write_bytes(content)
    with pytest.raises(InputError, match=word):
        Passport.load(path)


def test_every_missing_key_is_named(good: dict[str, Any], path: Path):
    for key in set(good) - {"version"}:
        path.write_text(json.dumps({k: v for k, v in good.items() if k != key}))
        with pytest.raises(InputError, match=f"'{key}' is missing"):
            Passport.load(path)


def test_a_number_that_overflows_is_refused(good: dict[str, Any], path: Path):
    first = repr(good["map"]["siemens"][0][0])
    path.write_text(json.dumps(good).replace(first, "1e999", 1))
    with pytest.raises(InputError, match=r"siemens at \(0, 0\) is inf"):
        Passport.load(path)


@pytest.mark.parametrize(
    "values", [{"a": np.nan}, {"a": [np.ones(2)]}, {1: 2}, {"a": {"b": set()}}]
)
def test_a_calibration_that_json_cannot_hold_is_refused(values: dict, path: Path):
    known = Passport.new(path, SPEC)
    with pytest.raises(InputError, match="calibration"):
        known.note_calibration(values)
    assert known.calibration is None


def test_notes_of_another_shape_or_without_sense_are_refused(path: Path):
    known = Passport.new(path, SPEC)
    for g in (np.ones((3, 3)), np.full((32, 32), np.inf), "x"):
        with pytest.raises(InputError, match="conductances"):
            known.note_read(g)
    for cell in ((32, 0), (0, -1)):
        with pytest.raises(InputError, match="32 x 32"):
            known.note_dead(*cell, "why")
    with pytest.raises(InputError, match="reason"):
        known.note_dead(0, 0, " ")
    for limits in ((2e-5, 1e-5), (-1.0, None), (float("nan"), None), (None, None, -1)):
        with pytest.raises(InputError, match="limits"):
            Limits(*limits)


# ---- refused at the door --------------------------------------------------------------------


def _untouched(emulated: EmulatedBoard) -> None:
    assert emulated.clock.cycles == 0 and not emulated.truth.pulses.any()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("none/chip.json", ("there is no folder",)),
        (".", ("cannot be read",)),
        ("/proc/chip.json", ("cannot write into /proc",)),
        ("/proc/version/chip.json", ("cannot be read",)),
    ],
)
def test_a_passport_that_cannot_be_kept_is_refused_before_the_board_is_touched(
    place: str, words: tuple[str, ...], tmp_path: Path, emulated: EmulatedBoard
):
    with pytest.raises(InputError) as refusal:
        open_board(emulated, passport=tmp_path / place)
    for word in ("passport", *words):
        assert word in str(refusal.value)
    _untouched(emulated)


def test_a_passport_of_another_geometry_is_refused(path: Path, emulated: EmulatedBoard):
    narrow = {"rows": 2, "cols": 3, "formed": [[True] * 3] * 2}
    values = {**Contents.blank(SPEC, "x", datetime.now(UTC)).to_json(), **narrow}
    path.write_text(json.dumps({**values, "pulses": [[0] * 3] * 2, "form_pulses": [[0] * 3] * 2}))
    with pytest.raises(InputError, match=r"2 x 3 cells; board file zc706 has 32 x 32"):
        open_board(emulated, passport=path)
    _untouched(emulated)


def test_a_passport_is_written_by_one_board_at_a_time(path: Path, emulated: EmulatedBoard):
    with open_board(emulated, passport=path) as board:
        for passport in (path, str(path), board.passport):
            other = EmulatedBoard("ideal")
            with pytest.raises(InputError, match="in use"):
                open_board(other, passport=passport)
            _untouched(other)
        Passport.load(path)  # to look is allowed
    with open_board(emulated, passport=path):
        pass
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_board_that_does_not_open_leaves_the_passport_alone(path: Path, emulated: EmulatedBoard):
    with pytest.raises(InputError, match="hafnia"):
        open_board("sim://?preset=hafnia", passport=path)
    assert not path.exists()
    with open_board(emulated, passport=path):
        pass


_HOLD = """
import sys, time
from rram_host import open_board
board = open_board("sim://?preset=ideal", passport=sys.argv[1])
board.array.read()
print("open", flush=True)
time.sleep(60)
"""


def test_another_process_has_it_until_it_is_killed(path: Path, emulated: EmulatedBoard):
    job = subprocess.Popen([sys.executable, "-c", _HOLD, path], stdout=subprocess.PIPE, text=True)
    with job:
        try:
            assert job.stdout is not None and job.stdout.readline() == "open\n"
            with pytest.raises(InputError, match="in use"):
                open_board(emulated, passport=path)
        finally:
            job.kill()
    with open_board(emulated, passport=path) as board:
        assert board.passport is not None and board.passport.contents.map is not None


def test_what_someone_else_wrote_is_not_overwritten_and_ours_is_kept(
    path: Path, emulated: EmulatedBoard
):
    with pytest.raises(InputError, match="changed by someone else"):  # noqa: SIM117
        with open_board(emulated, passport=path) as board:
            theirs = path.read_text().replace('"chip7"', '"by hand"')
            path.write_text(theirs)
            board.array.form(MASK)
    assert path.read_text() == theirs
    (kept,) = path.parent.glob("chip7.json.kept-*")
    np.testing.assert_array_equal(Passport.load(kept).contents.form_pulses, emulated.truth.pulses)
    with open_board(emulated, passport=path) as board:
        assert board.info()["chip"] == "by hand"


def test_a_disk_that_refuses_leaves_the_old_file_whole(
    path: Path, emulated: EmulatedBoard, monkeypatch: pytest.MonkeyPatch
):
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with open_board(emulated, passport=path) as board:
        before = path.read_bytes()
        with monkeypatch.context() as broken:
            broken.setattr(Path, "replace", full)
            with pytest.raises(InputError, match="No space left"):
                board.array.form(MASK)
        assert path.read_bytes() == before
    # The next save has what the failed one had.
    np.testing.assert_array_equal(Passport.load(path).contents.form_pulses, emulated.truth.pulses)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_link_to_a_passport_stays_a_link(path: Path, tmp_path: Path, emulated: EmulatedBoard):
    Passport.new(path, SPEC).save()
    link = tmp_path / "link.json"
    link.symlink_to(path)
    with open_board(emulated, passport=link) as board:
        board.array.read()
    assert link.is_symlink() and Passport.load(path).contents.map is not None


# ---- pulses ---------------------------------------------------------------------------------


def test_every_pulse_of_a_life_is_counted_once_and_is_on_disk_at_once(
    path: Path, emulated: EmulatedBoard
):
    targets = np.where(MASK, 50e-6, np.nan)
    gate, reset = np.full((32, 32), 1.3), np.full((32, 32), 1.6)
    for _ in range(2):
        with open_board(emulated, passport=path) as board:
            for call in (
                lambda array: array.form(MASK),
                lambda array: array.program(targets),
                lambda array: array.set_cells(MASK, gate),
                lambda array: array.reset_cells(MASK, reset),
                lambda array: array.program(np.where(np.roll(MASK, 5), 30e-6, np.nan)),
            ):
                call(board.array)
                saved = Passport.load(path).contents
                np.testing.assert_array_equal(given_in_all(saved), emulated.truth.pulses)
    assert saved.form_pulses[MASK].all() and saved.pulses.any()
    assert len(saved.forming) == 2  # the second life finds all of them formed
    assert sum(entry.pulses for entry in saved.forming) == saved.form_pulses.sum()
    assert saved.forming[0].cells == MASK.sum()
    assert saved.formed.sum() == 2 * MASK.sum()


def test_the_map_is_what_was_read_last(path: Path, emulated: EmulatedBoard):
    with open_board(emulated, passport=path) as board:
        report = board.array.program(np.where(MASK, 50e-6, np.nan))
        known = Passport.load(path).contents.map
        assert known is not None
        np.testing.assert_array_equal(known.siemens[MASK], report.measured_siemens[MASK])
        assert (np.abs(known.siemens[~MASK]) < 1e-6).all()
        g = board.array.set_cells(MASK, np.full((32, 32), 1.6))
        np.testing.assert_array_equal(Passport.load(path).contents.map.siemens, g)
        g = board.array.read(8)
    np.testing.assert_array_equal(Passport.load(path).contents.map.siemens, g)


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_what_breaks_a_call_off_loses_no_pulse(
    kind: type[BaseException], path: Path, emulated: EmulatedBoard
):
    rounds = []

    def stop(done: int, total: int) -> None:
        rounds.append(done)
        if len(rounds) == 2:
            formed = Passport.load(path).contents.form_pulses
            np.testing.assert_array_equal(formed, np.where(MASK, formed, 0))
            assert formed.any()  # forming was saved when it ended
            raise kind

    with pytest.raises(kind), open_board(emulated, passport=path) as board:
        board.array.program(np.where(MASK, 30e-6, np.nan), progress=stop)
    saved = Passport.load(path).contents
    assert saved.pulses.any()
    np.testing.assert_array_equal(given_in_all(saved), emulated.truth.pulses)


class _Cut:
    """A link that is cut when a program has been started."""

    def __init__(self, board: EmulatedBoard) -> None:
        self._board, self.starts_left = board, 10**9

    def read(self, address: int, count: int) -> Any:
        if self.starts_left < 0:
            raise LinkError("cut")
        return self._board.read(address, count)

    def write(self, address: int, words: Any) -> None:
        self._board.write(address, words)
        if address == registers.offset("CTRL"):
            self.starts_left -= 1

    def close(self) -> None:
        pass


def test_pulses_of_a_program_whose_end_was_not_seen_are_counted(
    path: Path, emulated: EmulatedBoard
):
    link = _Cut(emulated)
    with pytest.raises(LinkError), open_board(link, passport=path) as board:
        board.array.form(MASK)
        link.starts_left = 0
        board.array.set_cells(MASK, np.full((32, 32), 1.3))
    np.testing.assert_array_equal(given_in_all(Passport.load(path).contents), emulated.truth.pulses)


class _Watched:
    """A link that looks into the passport's file whenever a program is started."""

    def __init__(self, board: EmulatedBoard, path: Path) -> None:
        self._board, self._path = board, path
        self.on_disk: list[int] = []

    def read(self, address: int, count: int) -> Any:
        return self._board.read(address, count)

    def write(self, address: int, words: Any) -> None:
        if address == registers.offset("CTRL") and self._path.exists():
            self.on_disk.append(int(Passport.load(self._path).contents.pulses.sum()))
        self._board.write(address, words)

    def close(self) -> None:
        pass


def test_loops_and_sweeps_are_on_disk_before_their_first_pulse(path: Path, emulated: EmulatedBoard):
    """Whoever kills the process meanwhile finds at least the pulses that the cells have had."""
    link = _Watched(emulated, path)
    one, gates = sparse({(3, 7): 1.0}) == 1.0, np.full((32, 32), 1.3)
    with open_board(link, passport=path) as board:
        board.array.form(MASK)
        board.array.cycle_cells(MASK, gates, gates, 50, np.full((32, 32), 50e-6))
        assert link.on_disk[-1] == 100 * MASK.sum()
        board.array.sweep((3, 7), np.array([1.0, 1.2, -1.1]), 1.3)
        assert link.on_disk[-1] == 100 * MASK.sum() + 3
        with pytest.raises(InputError):
            board.array.sweep((3, 7), np.array([1.0, 1.2]), 9.0)  # refused: not given, not counted
        board.array.set_cells(one, gates)
    saved = Passport.load(path).contents
    np.testing.assert_array_equal(given_in_all(saved), emulated.truth.pulses)


def test_pulses_that_were_refused_are_not_counted(path: Path, emulated: EmulatedBoard):
    with open_board(emulated, passport=path) as board:
        for call in (
            lambda: board.array.set_cells(MASK, np.full((32, 32), 9.0)),
            lambda: board.array.set_cells(MASK, np.full((32, 32), 1.3), bl_v=9.0),
            lambda: board.array.reset_cells(MASK, np.full((32, 32), -1.0)),
            lambda: board.array.program(np.full((32, 32), 1.0)),
        ):
            with pytest.raises(InputError):
                call()
    assert not given_in_all(Passport.load(path).contents).any()
    assert not emulated.truth.pulses.any()


def test_the_board_does_the_same_with_a_passport_and_without(path: Path):
    found = []
    for passport in (None, path):
        emulated = EmulatedBoard("ideal", seed=4)
        with open_board(emulated, passport=passport) as board:
            board.array.program(np.where(MASK, 40e-6, np.nan))
            board.array.read()
        found.append((emulated.clock.cycles, emulated.truth.conductances_siemens.tobytes()))
    assert found[0] == found[1]


# ---- dead and worn cells --------------------------------------------------------------------


def test_cells_that_do_not_form_are_dead_and_left_out_from_then_on(
    path: Path, emulated: EmulatedBoard
):
    emulated.bench.cells.form_v[3, 7] = 99.0
    targets = np.where(MASK, 50e-6, np.nan)
    with open_board(emulated, passport=path) as board:
        report = board.array.program(targets)
        assert report.unformed[3, 7] and board.left_out == {}
        (dead,) = Passport.load(path).contents.dead
        assert (dead.row, dead.col, dead.reason) == (3, 7, "not formed at 3.6 V")
        assert Passport.load(path).contents.forming[-1].unformed == ((3, 7),)
    before = emulated.truth.pulses[3, 7]
    with open_board(emulated, passport=path) as board:
        report = board.array.program(targets)
        assert board.left_out == {(3, 7): "not formed at 3.6 V"}
        assert np.isnan(report.targets_siemens[3, 7]) and report.asked.sum() == MASK.sum() - 1
        assert report.converged[MASK].sum() == MASK.sum() - 1 and report.failed == []
        board.array.form()  # of all cells
    assert emulated.truth.pulses[3, 7] == before
    assert (emulated.truth.conductances_siemens > 1e-6).sum() == 1023


def test_a_dead_cell_that_is_asked_for_by_name_and_forms_lives_again(
    path: Path, emulated: EmulatedBoard
):
    emulated.bench.cells.form_v[3, 7] = 99.0
    with open_board(emulated, passport=path) as board:
        board.array.form(MASK)
        emulated.bench.cells.form_v[3, 7] = 3.0
        board.passport.note_dead(2, 6, "marked by hand")
        board.array.form(MASK)
        assert [cell.reason for cell in board.passport.contents.dead] == ["marked by hand"]


def test_dead_cells_get_no_forming_pulse_from_a_mask_either(path: Path, emulated: EmulatedBoard):
    with open_board(emulated, passport=path) as board:
        board.passport.note_dead(3, 7, "leaks into its column")
        report = board.array.form(MASK)
        assert board.passport.dead[3, 7] and not report.pulses[3, 7]
    assert emulated.truth.pulses[3, 7] == 0
    assert (emulated.truth.pulses > 0).sum() == MASK.sum() - 1


def test_a_cell_that_the_passport_calls_formed_is_not_formed_again(
    path: Path, emulated: EmulatedBoard
):
    """A deep RESET may read like a pristine cell; its filament is there all the same."""
    with open_board(emulated, passport=path) as board:
        board.array.form(MASK)
        before = emulated.truth.pulses
        emulated.bench.cells.g[3, 7] = 0.1e-6
        emulated.bench.cells.version += 1
        report = board.array.form(MASK)
        assert report.measured_siemens[3, 7] < 0.3e-6 and not report.unformed[3, 7]
        np.testing.assert_array_equal(emulated.truth.pulses, before)
        assert not board.array.program(sparse({(3, 7): 50e-6})).failed


def test_a_board_that_is_put_back_may_be_formed_again(path: Path, emulated: EmulatedBoard):
    with open_board(emulated, passport=path) as board:
        board.array.form(sparse({(9, 9): 1.0}) == 1.0)
        blob = board.snapshot()
        board.array.form(MASK)
        board.restore(blob)
        known = board.passport.contents
        assert np.argwhere(known.formed).tolist() == [[9, 9]]
        assert np.isnan(known.map.siemens[MASK]).all() and np.isfinite(known.map.siemens[9, 9])
        assert (board.array.form(MASK).pulses > 0).sum() == MASK.sum()
    with open_board(emulated, check_map=False) as board:  # without a passport, the same snapshot
        board.restore(blob)
    assert (emulated.truth.conductances_siemens[MASK] < 0.3e-6).all()


def test_cells_that_are_given_up_are_dead_with_the_reason(path: Path, emulated: EmulatedBoard):
    cells = sparse({(3, 7): 1.0, (4, 8): 1.0}) == 1.0
    with open_board(emulated, passport=path) as board:
        board.passport.note_dead(4, 8, "leaks")
        board.array.give_up(cells, "stuck")
        dead = Passport.load(path).contents.dead
        assert [(d.row, d.col, d.reason) for d in dead] == [(4, 8, "leaks"), (3, 7, "stuck")]
        for wrong in (np.ones((2, 2), dtype=bool), cells):
            with pytest.raises(InputError):
                board.array.give_up(wrong, " ")
    with open_board(emulated) as board:
        board.array.give_up(cells, "nobody keeps it")


def test_shorted_cells_are_dead(path: Path):
    g = random_g(2)
    g[5, 6] = 400e-6
    with open_board(formed_with(g), passport=path) as board:
        board.array.form()
    (dead,) = Passport.load(path).contents.dead
    assert (dead.row, dead.col) == (5, 6) and dead.reason.startswith("shorted: reads ")


def test_limits_of_the_chip_hold(path: Path, emulated: EmulatedBoard):
    known = Passport.new(path, SPEC, chip="C7")
    known.note_limits(Limits(30e-6, 60e-6))
    with open_board(emulated, passport=known) as board:
        for value, words in ((20e-6, "20.00 µS"), (70e-6, "70.00 µS")):
            with pytest.raises(InputError) as refusal:
                board.array.program(sparse({(4, 9): value}))
            for word in (words, "(4, 9)", "'C7'", "at least 30.00 µS, at most 60.00 µS"):
                assert word in str(refusal.value)
        assert not emulated.truth.pulses.any()
        assert not board.array.program(sparse({(4, 9): 45e-6})).failed
    assert Passport.load(path).contents.limits == Limits(30e-6, 60e-6)


def test_no_cell_gets_more_pulses_than_its_passport_allows(path: Path, emulated: EmulatedBoard):
    known = Passport.new(path, SPEC)
    known.note_limits(Limits(max_pulses_per_cell=5))
    one = np.zeros((32, 32), dtype=bool)
    one[4, 9] = True
    gates = np.full((32, 32), 1.3)
    with open_board(emulated, passport=known) as board:
        board.array.form(one | MASK)
        for _ in range(3):
            board.array.set_cells(one, gates)
        # Two pulses are left for a job that wants many.
        settings = CoarseFine(tolerance_siemens=1e-12, accept_siemens=1e-12)
        report = board.array.program(sparse({(4, 9): 45e-6, (3, 7): 45e-6}), settings)
        assert report.pulses[4, 9] <= 2 and report.pulses[3, 7] <= 5
        while not board.passport.worn[4, 9]:
            board.array.set_cells(one, gates)
        for call in (board.array.set_cells, board.array.reset_cells):
            with pytest.raises(InputError, match=r"\(4, 9\) has had 5 .* allows 5"):
                call(one, gates)
        board.array.program(sparse({(4, 9): 30e-6, (2, 6): 30e-6}))
        assert board.left_out == {(4, 9): "worn: had 5 pulses"}
    pulses = known.contents.pulses
    assert pulses.max() == 5 and pulses[4, 9] == 5
    np.testing.assert_array_equal(given_in_all(known.contents), emulated.truth.pulses)


# ---- what is used from then on --------------------------------------------------------------


def test_the_calibration_of_the_passport_is_used(path: Path, emulated: EmulatedBoard):
    values = Calibration.nominal(SPEC).to_dict()
    values["lines"]["row_ohm"][3] = 321.0
    known = Passport.new(path, SPEC)
    known.note_calibration(values)
    known.save()
    with open_board(emulated, passport=path) as board:
        assert board.array.calibration.lines.row_ohm[3] == 321.0
    known = Passport.load(path)
    known.note_calibration({"gain": 3})
    known.save()
    with pytest.raises(InputError, match="not a calibration"):
        open_board(EmulatedBoard("ideal"), passport=path)
    with pytest.raises(InputError, match="not a calibration"):  # and not: in use
        open_board(EmulatedBoard("ideal"), passport=path)


# ---- another chip ---------------------------------------------------------------------------


def test_a_chip_that_cannot_be_the_same_is_refused(path: Path):
    g = random_g(1)
    known = Passport.new(path, SPEC)
    known.check_against(g)  # nothing is known yet
    known.note_read(g)
    known.check_against(g)
    known.check_against(g + np.random.default_rng(0).normal(0, 3e-6, g.shape))
    few = g.copy()
    few[0, :3] = 1e-9
    known.check_against(few)
    for other, word in (
        (np.full((32, 32), 1e-8), "1024 of 1024 cells that were formed read pristine"),
        (g[::-1], "off the map"),
    ):
        with pytest.raises(InputError, match=word):
            known.check_against(other)
    blank = Passport.new(path, SPEC)
    blank.note_read(np.full((32, 32), 1e-8))
    with pytest.raises(InputError, match="1024 of 1024 cells that were never formed conduct"):
        blank.check_against(g)
    with pytest.raises(InputError, match="conductances"):
        blank.check_against(np.zeros((3, 3)))


def test_a_board_without_a_passport_has_none(emulated: EmulatedBoard):
    with open_board(emulated) as board:
        assert board.passport is None and board.left_out == {}
        assert "passport" not in board.info()


def test_a_new_passport_is_not_put_over_an_old_one(path: Path):
    Passport.new(path, SPEC).save()
    with pytest.raises(InputError, match="there already"):
        Passport.new(path, SPEC)
    with pytest.raises(InputError, match="no passport"):
        Passport.load(path.with_name("none.json"))


# ---- the chip under it ----------------------------------------------------------------------


def test_another_chip_is_refused_before_anything_is_noted(path: Path):
    with open_board(formed_with(random_g(1)), passport=path) as board:
        board.array.read()
    before = path.read_bytes()
    with pytest.raises(InputError, match="is not of this chip"):
        open_board(formed_with(random_g(99)), passport=path)
    assert path.read_bytes() == before


def test_what_pulsed_cells_hold_is_unknown_until_they_are_read(path: Path):
    """An interrupted programming must not lock a chip out of its own passport."""
    emulated = formed_with(random_g(1))
    with open_board(emulated, passport=path) as board:
        board.array.read()
        pulsed = np.ones((32, 32), dtype=bool)
        pulsed[0] = False
        board.passport.note_pulses(pulsed)
        assert (np.isnan(board.passport.contents.map.siemens) == pulsed).all()
    emulated.bench.cells.g[1:] = random_g(2)[1:]  # what the interrupted program left
    emulated.bench.cells.version += 1
    with open_board(emulated, passport=path) as board:
        board.array.read()
        assert np.isfinite(board.passport.contents.map.siemens).all()


def test_exercise_leaves_dead_and_nearly_worn_cells_alone(path: Path):
    emulated = formed_with(random_g(3, 20e-6, 80e-6))
    with open_board(emulated, passport=path) as board:
        board.passport.note_dead(5, 6, "leaks")
        before = emulated.truth.pulses.copy()
        found = board.diagnose(exercise=True)
    given_to = emulated.truth.pulses - before
    assert given_to[5, 6] == 0
    assert given_to.max() >= 2
    assert any("1 cells switch" in text for text in found.not_tested)
