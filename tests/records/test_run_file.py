"""Run files: what is in them, who can read them, and what is refused before the first pulse."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import resource
import signal
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray

from rram_host import open_board
from rram_host.array.calibration import Calibration
from rram_host.errors import InputError, RecordError
from rram_host.experiments.recording import record
from rram_host.records import layout
from rram_host.records.columns import Column
from rram_host.records.export import export
from rram_host.records.layout import Header, lay_out
from rram_host.records.place import RESERVE_BYTES, check_place
from rram_host.records.process import Process
from rram_host.records.rebuild import rebuilt
from rram_host.records.run_file import RunFile
from rram_host.records.run_writer import RunWriter, repair
from tests.records.quick import QUICK, QuickPlan

URL = "sim://?preset=ideal&seed=3"
HEADER = Header(
    **{"experiment": "x", "title": "X", "plan": {}, "units": 9, "seed": None, "board": "b"},
    **{"info": {}, "spec": {}, "chip": "", "passport": "", "calibration": {}, "versions": {}},
    **{"started": "2026-01-01T00:00:00+00:00", "map_siemens": np.zeros((4, 5))},
)
COLUMNS = (
    Column("count", "", "a number", "i8"),
    Column("wl_v", "V", "gate voltage"),
    Column("flag", "", "yes or no", "bool"),
    Column("map_of_it_siemens", "S", "cells", "f8", ("row", "col"), (4, 5)),
    Column("trace_a", "A", "samples", "f4", ("sample",), (7,)),
    Column("word", "", "a text", "S6"),
)


def batch(n: int, first: int = 0) -> dict[str, np.ndarray]:
    k = np.arange(first, first + n)
    return {
        "count": k,
        "wl_v": 0.1 * k,
        "flag": k % 2 == 0,
        "map_of_it_siemens": k[:, None, None] * np.ones((4, 5)),
        "trace_a": (k[:, None] * np.ones(7)).astype("f4"),
        "word": np.array([f"w{i}".encode() for i in k], dtype="S6"),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunFile:
    path = tmp_path_factory.mktemp("run") / "quick.h5"
    with open_board(URL) as board:
        return record(board, QUICK, QuickPlan(n_units=3), path)


def test_h5py_finds_everything_that_is_to_be_known_of_a_run(whole: RunFile):
    with h5py.File(whole.path, "r") as file:
        about = file.attrs
        assert about["experiment"] == "quick" and about["board"] == URL and about["seed"] == 7
        assert json.loads(about["plan"])["set_wl_v"] == 1.6
        assert json.loads(about["spec"])["rows"] == 32
        assert {"python", "numpy", "h5py", "hdf5", "rram-bench"} <= set(
            json.loads(about["versions"])
        )
        calibration = Calibration.from_dict(json.loads(about["calibration"]))
        assert calibration.shape == (32, 32)
        values = file["map_siemens"][()]
        assert about["map_sha256"] == hashlib.sha256(values.tobytes()).hexdigest()
        assert file["conductance_siemens"].attrs["units"] == "S"
        assert file["conductance_siemens"].dims[1][0].name == "/row"
        assert file["state/status"][()] == b"done"
        assert file["state/commit"][()].tolist() == [3, 9]


def test_xarray_opens_the_file_itself_with_units_and_coordinates(whole: RunFile):
    mine = whole.dataset()
    with xarray.open_dataset(whole.path, engine="h5netcdf") as theirs:
        for name in mine.data_vars:
            np.testing.assert_array_equal(theirs[name], mine[name], strict=True)
            assert theirs[name].dims == mine[name].dims
            assert theirs[name].attrs["units"] == mine[name].attrs["units"]
            assert theirs[name].attrs["long_name"]
        assert theirs["above"].dtype == bool
        cells = theirs["conductance_siemens"].sel(record=4, row=3, col=4)
        assert float(cells) == whole.data()["conductance_siemens"][4, 3, 4]


def test_every_kind_of_column_comes_back_as_it_went_in(tmp_path: Path):
    path = tmp_path / "x.h5"
    with RunWriter(path) as writer:
        writer.begin(HEADER, COLUMNS)
        for first in range(0, 6000, 2000):
            writer.commit(batch(2000, first))
        writer.finish("done")
    run, wanted = RunFile(path), batch(6000)
    assert [(c.name, c.unit, c.dims, c.shape) for c in run.columns] == [
        (c.name, c.unit, c.dims, c.shape) for c in COLUMNS
    ]
    for name, values in run.data().items():
        np.testing.assert_array_equal(values, wanted[name], strict=True)
    assert path.stat().st_size < 3 * sum(item.nbytes for item in wanted.values())
    with xarray.open_dataset(path, engine="h5netcdf") as dataset:
        np.testing.assert_array_equal(dataset["trace_a"].isel(sample=3), wanted["trace_a"][:, 3])


def test_plan_and_wiring_are_rebuilt_from_the_file(whole: RunFile):
    assert rebuilt(QuickPlan, whole.header.plan) == QuickPlan(n_units=3)
    with open_board(URL) as board:
        assert rebuilt(type(board.spec), whole.header.spec) == board.spec
    with pytest.raises(InputError, match="has no nonsense"):
        rebuilt(QuickPlan, {"nonsense": 1})


def test_others_read_while_it_is_written_and_see_committed_records_only(tmp_path: Path):
    path, go_on, done = tmp_path / "x.h5", os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:  # the process that writes: two units, then rows of a third that is not committed
        try:
            with RunWriter(path) as writer:
                writer.begin(HEADER, COLUMNS)
                writer.commit(batch(3))
                writer.commit(batch(4, 3))
                for name, item in batch(5, 7).items():
                    if name != "flag":
                        writer._append(writer._sets[name], item)
                os.write(done[1], b"x")
                os.read(go_on[0], 1)
            os._exit(0)
        finally:
            os._exit(3)
    assert os.read(done[0], 1) == b"x"
    try:
        run = RunFile(path)
        assert (run.state.status, run.state.units, run.state.rows) == ("running", 2, 7)
        assert run.state.writer.pid == pid
        np.testing.assert_array_equal(run.data()["wl_v"], batch(7)["wl_v"])
        assert run.dataset().sizes["record"] == 7
        with h5py.File(path, "r", swmr=True) as file:
            assert file["wl_v"].shape == (12,)
        live = {"engine": "h5netcdf", "driver_kwds": {"swmr": True}}
        with xarray.open_dataset(path, **live) as dataset:
            np.testing.assert_array_equal(dataset["count"][:7], batch(7)["count"])
        with pytest.raises(InputError, match=f"that process {pid} .* is writing"):
            check_place(path)
        with pytest.raises(InputError, match="is being written by another process"):
            RunWriter(path)
    finally:
        os.write(go_on[1], b"x")
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0
    run = RunFile(path)
    assert (run.state.status, run.state.rows) == ("failed", 7)
    with h5py.File(path, "r") as file:  # rows that were not committed are gone
        assert {file[name].shape[0] for name in ("record", *(c.name for c in COLUMNS))} == {7}


def test_a_writer_in_another_life_of_the_same_number_is_dead(tmp_path: Path):
    path = tmp_path / "x.h5"
    pid = os.fork()
    if not pid:
        writer = RunWriter(path)
        writer.begin(HEADER, COLUMNS)
        writer.commit(batch(2))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert RunFile(path).state.text == "interrupted (killed)"
    told = asdict(Process.this())
    say_written_by(path, told | {"started_s": told["started_s"] - 3600})
    assert RunFile(path).state.text == "interrupted (killed)"
    say_written_by(path, told)
    assert RunFile(path).state.text == "running"
    say_written_by(path, told | {"boot": "an earlier one"})
    assert RunFile(path).state.text == "interrupted (killed)"
    say_written_by(path, told | {"boot": "another", "host": "elsewhere"})
    assert "on elsewhere" in RunFile(path).state.text


def test_a_writer_that_cannot_be_asked_is_taken_for_dead_only_with_force(tmp_path: Path):
    """A machine that got another name and was started anew is another machine."""
    path = tmp_path / "x.h5"
    plan = QuickPlan(n_units=3, rows_a_unit=1)

    def kill(done: int, total: int) -> None:
        if done == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if not pid:
        try:
            with open_board(URL) as board:
                record(board, QUICK, plan, path, progress=kill)
        finally:
            os._exit(3)
    os.waitpid(pid, 0)
    say_written_by(path, asdict(Process.this()) | {"boot": "earlier", "host": "old-name"})
    (tmp_path / "y.h5").write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="being written by process .* on old-name.*--force"):
        repair(path)
    mended = repair(path, force=True)
    assert mended.state.text == "interrupted (killed)" and mended.state.units == 1
    h5py.File(path, "r").close()
    # the same for a run that is resumed
    for snapshot in tmp_path.glob(".x.h5.snapshot-*"):
        snapshot.rename(tmp_path / snapshot.name.replace("x.h5", "y.h5"))
    with open_board(URL) as board:
        with pytest.raises(InputError, match="on old-name"):
            record(board, QUICK, plan, tmp_path / "y.h5", resume=True)
        done = record(board, QUICK, plan, tmp_path / "y.h5", resume=True, force=True)
    assert done.state.text == "done"


def test_force_does_not_take_a_file_from_a_process_that_lives(tmp_path: Path):
    path = tmp_path / "x.h5"
    with RunWriter(path) as writer:
        writer.begin(HEADER, COLUMNS)
        with pytest.raises(InputError, match="is being written"):
            repair(path, force=True)
        with pytest.raises(InputError, match="is being written"):
            writer.mend(force=True)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyboardInterrupt(), "interrupted (Ctrl-C)"),
        (SystemExit(143), "interrupted (SIGTERM)"),
        (ValueError("no"), "failed (ValueError: no)"),
    ],
)
def test_a_writer_that_is_left_by_an_error_says_which(error, text: str, tmp_path: Path):
    with pytest.raises(type(error)), RunWriter(tmp_path / "x.h5") as writer:
        writer.begin(HEADER, COLUMNS)
        raise error
    assert RunFile(tmp_path / "x.h5").state.text == text


def say_written_by(path: Path, process: dict) -> None:
    """Put another process into the file of a dead one."""
    with h5py.File(path, "r", swmr=True) as file:
        place, room = file[layout.WRITER].id.get_offset(), file[layout.WRITER].dtype.itemsize
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(json.dumps(process).encode().ljust(room, b"\0"))


# ---- refused before anything happens ------------------------------------------------------------


def read_only_folder(tmp_path: Path) -> Path:
    if os.getuid():
        (tmp_path / "r").mkdir(mode=0o500)
        return tmp_path / "r"
    return Path("/proc/sys")  # not even root makes files here


def test_places_where_nothing_can_be_recorded_are_refused(tmp_path: Path, whole: RunFile):
    with pytest.raises(InputError, match="there is no folder .*nowhere"):
        check_place(tmp_path / "nowhere" / "x.h5")
    with pytest.raises(InputError, match=r"cannot record into .*: (Permission|No such|Operation)"):
        check_place(read_only_folder(tmp_path) / "x.h5")
    with pytest.raises(InputError, match="holds a run of quick, which is done"):
        check_place(whole.path)
    (tmp_path / "y.h5").write_text("my notes")
    with pytest.raises(InputError, match="exists and is not a run file"):
        check_place(tmp_path / "y.h5")
    assert (tmp_path / "y.h5").read_text() == "my notes"
    assert [item.name for item in tmp_path.iterdir() if item.is_file()] == ["y.h5"]


@pytest.fixture
def limit_file_size():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda n_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_is_found_out_before_the_first_pulse(tmp_path: Path, limit_file_size):
    with open_board(URL) as board:
        before = board.info()["pulses_since_power_up"]
        limit_file_size(RESERVE_BYTES // 2)
        with pytest.raises(InputError, match=r"cannot record into .*4.2 MB are needed to begin"):
            record(board, QUICK, QuickPlan(), tmp_path / "x.h5")
        assert board.info()["pulses_since_power_up"] == before
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_ends_the_run_with_a_whole_file(tmp_path: Path, limit_file_size):
    path = tmp_path / "x.h5"
    with RunWriter(path) as writer:
        writer.begin(HEADER, COLUMNS)
        writer.commit(batch(1000))
        limit_file_size(path.stat().st_size + 10_000)
        with pytest.raises(RecordError, match=r"unit \d+ cannot be recorded in .*: File too large"):
            for first in range(1000, 100_000, 1000):
                writer.commit(batch(1000, first))
        units = writer.units
        writer.finish("failed", "disk full")
    run = RunFile(path)
    assert (run.state.units, run.state.text) == (units, "failed (disk full)")
    np.testing.assert_array_equal(run.data()["wl_v"], batch(1000 * units)["wl_v"])
    h5py.File(path, "r").close()  # closed well


def test_a_disk_that_goes_away_leaves_what_was_committed(tmp_path: Path):
    path = tmp_path / "x.h5"
    with pytest.raises(RecordError, match="unit 2 cannot be recorded"), RunWriter(path) as writer:
        writer.begin(HEADER, COLUMNS)
        writer.commit(batch(1000))
        with path.open("rb") as readable:  # every write fails from now on
            os.dup2(readable.fileno(), writer._file.id.get_vfd_handle())
        writer.commit(batch(1000, 1000))
    state = RunFile(path).state
    assert (state.units, state.rows) == (1, 1000)
    np.testing.assert_array_equal(RunFile(path).data()["wl_v"], batch(1000)["wl_v"])


def test_batches_that_do_not_fit_their_columns_are_refused(tmp_path: Path):
    good = batch(2)
    with RunWriter(tmp_path / "x.h5") as writer:
        writer.begin(HEADER, COLUMNS)
        for wrong, text in (
            ({k: v for k, v in good.items() if k != "flag"}, "differ in flag"),
            (good | {"wl_v": np.zeros(3)}, r"wl_v has shape \(3,\)"),
            (good | {"count": np.zeros(2)}, "count has shape .* of float64"),
        ):
            with pytest.raises(InputError, match=text):
                writer.commit(wrong)
        writer.commit(good)
        writer.finish("done")
    assert RunFile(tmp_path / "x.h5").state.rows == 2


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ((Column("row", "", "x"),), "same name: row"),
        ((Column("a", "", "x", "O"),), "type O cannot be recorded"),
        ((Column("a", "", "x", "f8", ("row",), (9,)),), "axis row has length 4 too"),
    ],
)
def test_columns_that_do_not_go_together_are_refused(columns, text, tmp_path: Path):
    with pytest.raises(InputError, match=text):
        lay_out(tmp_path / "x.h5", HEADER, columns, {})


def test_what_is_no_run_file_is_told_in_one_line(tmp_path: Path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    (tmp_path / "half.h5").write_bytes((tmp_path / "other.h5").read_bytes()[:100])
    for name, text in (
        ("no.h5", "no run file"),
        ("other.h5", "is not a run file"),
        ("half.h5", "is not a run"),
    ):
        with pytest.raises(InputError, match=text) as caught:
            RunFile(tmp_path / name)
        assert "\n" not in str(caught.value)


# ---- export -------------------------------------------------------------------------------------


def test_export_to_netcdf_and_csv_gives_the_same_numbers(whole: RunFile, tmp_path: Path):
    export(whole, tmp_path / "x.nc")
    with xarray.open_dataset(tmp_path / "x.nc") as dataset:
        xarray.testing.assert_identical(dataset.load(), whole.dataset())
    export(whole, tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    data = whole.data()
    wl_v = [float(row["wl_v"]) for row in rows[:: data["conductance_siemens"][0].size]]
    np.testing.assert_array_equal(wl_v, data["wl_v"])
    assert len(rows) == data["conductance_siemens"].size  # a line a cell
    cell = [
        float(row["conductance_siemens"]) for row in rows if (row["row"], row["col"]) == ("3", "4")
    ]
    np.testing.assert_array_equal(cell, data["conductance_siemens"][:, 3, 4])
    before = (tmp_path / "x.csv").read_bytes()
    with pytest.raises(InputError, match="exists"):
        export(whole, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_bytes() == before
    with pytest.raises(InputError, match=r"exported to \.csv or \.nc"):
        export(whole, tmp_path / "x.xlsx")
    with pytest.raises(InputError, match="cannot write"):
        export(whole, tmp_path / "nowhere" / "x.nc")
