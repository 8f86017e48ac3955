"""--record and `rram replay`, as a user meets them: same, different, cannot be done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
import pytest

from firmware_bridge.recording import Recording
from firmware_bridge.traffic import TrafficDigest
from rram_host import open_board
from rram_host.cli import cli
from rram_host.experiments.catalogue import EXPERIMENTS
from rram_host.experiments.recording import record
from rram_host.experiments.rerun import emulated_url
from rram_host.experiments.retention import RetentionPlan
from rram_host.records.run_file import RunFile
from rram_host.records.run_writer import repair
from tests.records.quick import QUICK, QuickPlan

URL = "sim://?preset=taox_180nm&seed=5"
PLAN = QuickPlan(n_units=4, rows_a_unit=1)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPERIMENTS, "quick", QUICK)


def replayed(rram: Any, path: Path) -> tuple[int, dict[str, Any]]:
    code, out, err = rram("replay", path, "--json")
    assert out, err
    return code, json.loads(out)


def made(path: Path, url: str = URL, **more: Any) -> RunFile:
    with open_board(url, passport=more.pop("passport", None)) as board:
        return record(board, QUICK, PLAN, path, **more)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "run.h5"
    made(path)
    return path


@pytest.fixture
def path(kept: Path, tmp_path: Path) -> Path:
    """A run that is done."""
    return Path(shutil.copy(kept, tmp_path / "run.h5"))


def stop_after(units: int) -> Callable[[], bool]:
    """Asked before every unit."""
    asked = iter(range(100))
    return lambda: next(asked) >= units


# ---- runs ---------------------------------------------------------------------------------------


def test_a_run_is_the_same_again(path: Path, tmp_path: Path, rram: Any):
    before = path.read_bytes()
    code, out, _ = rram("replay", path)
    assert code == 0
    assert "4 of 4 units, 4 records, traffic same, records same" in out
    assert path.read_bytes() == before and [item.name for item in tmp_path.iterdir()] == ["run.h5"]


def test_a_resumed_run_is_the_same_again(kept: Path, tmp_path: Path, rram: Any):
    whole, path = RunFile(kept), tmp_path / "parts.h5"
    part = made(path, should_stop=stop_after(2))
    assert (part.state.status, part.state.units) == ("interrupted", 2)
    assert part.traffic() == whole.traffic()[:2]
    code, found = replayed(rram, path)
    assert (code, found["same"], found["units"], found["rows"]) == (0, True, 2, 2)
    with open_board(URL, check_map=False) as board:
        rest = record(board, QUICK, PLAN, path, resume=True)
    assert rest.traffic() == whole.traffic() and len(set(rest.traffic())) == 4
    assert rest.resumed_at() == [2] and whole.resumed_at() == []
    assert repair(path).start() == rest.start() is not None
    code, found = replayed(rram, path)
    assert (code, found["traffic"], found["units"]) == (0, "same", 4)


def test_what_an_experiment_looks_at_when_it_is_resumed_is_looked_at_again(
    tmp_path: Path, rram: Any
):
    """Retention asks for the board's clock, whether it was off."""
    retention, path = EXPERIMENTS["retention"], tmp_path / "run.h5"
    plan = RetentionPlan(cells=5, stop_s=1e3, points_per_decade=1)
    for resume in (False, True):
        with open_board(URL, check_map=False) as board:
            record(board, retention, plan, path, resume, should_stop=stop_after(2))
    with open_board(URL, check_map=False) as board:
        run = record(board, retention, plan, path, resume=True)
    assert run.resumed_at() == [2, 4] and run.state.status == "done"
    code, found = replayed(rram, path)
    assert (code, found["traffic"], found["records"]) == (0, "same", "same"), found


def test_where_a_run_began_is_in_its_file(tmp_path: Path, rram: Any):
    """A chip with a history, in a state file that has gone on since."""
    url = f"{URL}&state={tmp_path / 'chip.npz'}"
    with open_board(url) as board:
        board.array.form()
    made(tmp_path / "run.h5", url)
    with open_board(url) as board:
        board.array.set_cells(np.ones((32, 32), dtype=bool), np.full((32, 32), 1.8))
    state = (tmp_path / "chip.npz").read_bytes()
    code, found = replayed(rram, tmp_path / "run.h5")
    assert (code, found["traffic"], found["records"], found["differences"]) == (
        0,
        "same",
        "same",
        [],
    )
    assert (tmp_path / "chip.npz").read_bytes() == state


def test_how_fast_the_board_ran_does_not_matter(tmp_path: Path):
    """A paced board is looked at while it works, as silicon is: how often, nobody knows."""
    slow, trace, digests = f"{URL}&pace=20", tmp_path / "trace.jsonl", []
    fast, state = emulated_url(f"{slow}&state={tmp_path}/x", "this")
    assert fast == f"{URL}&pace=1e9" and state == f"{tmp_path}/x"
    for url, file in ((slow, trace), (fast, None), (f"replay://{trace}", None)):
        heard = TrafficDigest()
        with open_board(url, trace=file) as board, board.overheard(heard.note):
            board.wait(0.5)
            board.array.read()
        digests.append(heard.end_unit())
    assert digests == [digests[0]] * 3


def test_a_run_with_a_passport_is_run_on_a_copy_of_it(tmp_path: Path, rram: Any):
    passport = tmp_path / "chip.json"
    made(tmp_path / "run.h5", passport=passport)
    before = passport.read_bytes()
    code, found = replayed(rram, tmp_path / "run.h5")
    assert code == 0 and "was taken as it is now" in found["notes"][0]
    assert passport.read_bytes() == before
    passport.unlink()
    code, found = replayed(rram, tmp_path / "run.h5")
    assert code == 0 and "is gone" in found["notes"][0]


def test_a_record_that_differs_is_named(path: Path, rram: Any):
    with h5py.File(path, "r+") as file:
        file["conductance_siemens"][2, 1, 2] = np.nextafter(file["conductance_siemens"][2, 1, 2], 1)
        file["wl_v"][3] = 0
    code, out, _ = rram("replay", path)
    assert code == 1
    assert "records differ first in record 2 of 4: conductance_siemens [34] is " in out
    assert "traffic same, records different" in out


def test_traffic_that_differs_is_named(path: Path, rram: Any):
    with h5py.File(path, "r+") as file:
        file["state/traffic"][2:, 0] ^= np.uint8(1)
    code, found = replayed(rram, path)
    assert code == 1 and (found["traffic"], found["records"]) == ("different", "same")
    assert found["differences"] == ["traffic with the board differs first in unit 3 of 4"]


def test_other_settings_give_other_bits_and_other_versions_are_told(path: Path, rram: Any):
    with h5py.File(path, "r+") as file:
        plan = json.loads(file.attrs["plan"])
        file.attrs["plan"] = json.dumps(plan | {"set_wl_v": 1.7})
        file.attrs["versions"] = json.dumps(json.loads(file.attrs["versions"]) | {"numpy": "0.9"})
    code, found = replayed(rram, path)
    assert code == 1
    assert found["differences"][0] == "traffic with the board differs first in unit 1 of 4"
    assert any("versions numpy: 0.9 then" in text for text in found["notes"])


def older(path: Path) -> None:
    """As a version wrote it that kept neither traffic nor the board's start."""
    with h5py.File(path, "r+") as file:
        del file["state/traffic"], file["state/start"]


def test_an_older_file_is_compared_by_its_records(tmp_path: Path, rram: Any):
    path = tmp_path / "run.h5"
    made(path, should_stop=stop_after(2))
    older(path)
    with open_board(URL, check_map=False) as board:  # and goes on without
        record(board, QUICK, PLAN, path, resume=True)
    assert RunFile(path).traffic() == [] and RunFile(path).start() is None
    code, out, _ = rram("replay", path)
    assert code == 0
    assert "the file holds no digest of its traffic: only records were compared" in out
    with h5py.File(path, "r+") as file:
        file.attrs["board"] = URL.replace("seed=5", "seed=6")
    code, found = replayed(rram, path)
    assert code == 1 and found["traffic"] == "not in the file"
    assert "the array before the run already reads otherwise" in found["differences"][0]


def test_what_cannot_be_run_again_is_refused(tmp_path: Path, rram: Any):
    path, url = tmp_path / "run.h5", f"{URL}&state={tmp_path / 'chip.npz'}"
    made(path, url)
    older(path)
    code, _, err = rram("replay", path)
    assert code == 2 and "did not keep what the board held then" in err
    for board in ("serial:///dev/ttyUSB0", "EmulatedBoard", "replay:///run.jsonl"):
        with h5py.File(path, "r+") as file:
            file.attrs["board"] = board
        code, _, err = rram("replay", path)
        assert code == 2 and board in err and "--board replay:///FILE" in err
    made(tmp_path / "none.h5", should_stop=stop_after(0))
    code, _, err = rram("replay", tmp_path / "none.h5")
    assert code == 2 and "no committed unit" in err
    for name in ("gone", "text"):
        (tmp_path / "text").write_text("no recording\n")
        assert rram("replay", tmp_path / name)[0] == 2
    code, _, err = rram("replay", path, "--ignore", "RESULTS")
    assert code == 2 and "is a run file" in err


# ---- recordings ---------------------------------------------------------------------------------


def boards_commands() -> dict[str, click.Command]:
    found = {}
    for name, command in cli.commands.items():
        for sub, each in getattr(command, "commands", {"": command}).items():
            if any("--board" in item.opts for item in each.params) and name != "replay":
                found[f"{name} {sub}".strip()] = each
    return found


def test_every_command_with_a_board_can_be_recorded():
    commands = boards_commands()
    assert len(commands) > 15
    # one recording is of one board; these open many, one after another
    many = {"figures fig3", "figures fig4"}
    lacking = [
        name
        for name, command in commands.items()
        if name not in many and not any("--record" in item.opts for item in command.params)
    ]
    assert lacking == []


def test_a_command_is_recorded_replayed_and_compared(tmp_path: Path, rram: Any):
    trace = tmp_path / "read.jsonl"
    code, first, _ = rram("read", "--board", URL, "--json", "--record", trace)
    assert code == 0
    recording = Recording(trace)
    assert recording.text("board") == URL and recording.text("spec") == "zc706"
    assert len(list(recording)) > 10
    code, again, _ = rram("read", "--board", f"replay://{trace}", "--json")
    wall = ("wall_s", "board")  # what may differ
    a, b = ({k: v for k, v in json.loads(t).items() if k not in wall} for t in (first, again))
    assert code == 0 and a == b
    code, out, _ = rram("replay", trace)
    assert code == 0 and "all reads are the same" in out
    code, out, _ = rram("replay", trace, "--board", URL.replace("seed=5", "seed=6"), "--json")
    assert code == 1 and "RESULTS" in json.loads(out)["difference"]
    code, _, err = rram("replay", trace, "--board", "socket://127.0.0.1:1")
    assert code == 2 and "only an emulated board" in err


def test_another_command_on_a_recording_says_where_it_differs(tmp_path: Path, rram: Any):
    trace = tmp_path / "info.jsonl"
    assert rram("info", "--board", URL, "--record", trace)[0] == 0
    code, _, err = rram("read", "--board", f"replay://{trace}")
    assert code == 1 and "differs: recorded is a" in err


def test_a_recording_is_never_written_over(tmp_path: Path, rram: Any):
    trace = tmp_path / "info.jsonl"
    trace.write_text("mine")
    code, _, err = rram("info", "--board", URL, "--record", trace)
    assert code == 2 and "exists" in err and trace.read_text() == "mine"


def test_a_recording_of_no_board_is_refused(tmp_path: Path, rram: Any):
    passport = tmp_path / "chip.json"
    made(tmp_path / "run.h5", passport=passport)
    for words, why in (
        (("passport", passport), "without --board"),
        (("train",), "without --board"),
        (("figures", "fig2", "--runs", tmp_path), "with --runs"),
    ):
        code, _, err = rram(*words, "--record", tmp_path / "trace.jsonl")
        assert code == 2 and f"no traffic to record {why}" in err
    assert not (tmp_path / "trace.jsonl").exists()
