"""The command line as a user meets it: in a process of its own, on an emulated board."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_bridge.server import PtyServer
from rram_host.cli import cli, main
from rram_host.experiments.sample_lattice import load_samples
from rram_host.records.status import ending
from sim import EmulatedBoard

COMMANDS = ("demo", "info", "program", "vmm", "read", "sample", "train")
IDEAL = "sim://?preset=ideal&seed=3"


def rram(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `rram` as installed with this interpreter."""
    command = [str(Path(sys.executable).with_name("rram")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


def the_json(done: subprocess.CompletedProcess[str]) -> dict:
    """The one JSON object on stdout, and nothing else there."""
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip().splitlines()) == 1
    return json.loads(done.stdout)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2, one line on stderr that says why, nothing on stdout, no traceback."""
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("rram: "), done.stderr
    for word in words:
        assert word in lines[0]


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    values = np.full((32, 32), np.nan)
    values[4:12, 20:30] = np.random.default_rng(0).uniform(20e-6, 80e-6, (8, 10))
    np.save(tmp_path / "targets.npy", values)
    return tmp_path / "targets.npy"


def test_help_names_every_command_and_every_command_has_help_with_an_example():
    overview = rram("--help")
    assert overview.returncode == 0
    for name in COMMANDS:
        assert name in overview.stdout
        text = rram(name, "--help")
        assert text.returncode == 0
        assert "--board" in text.stdout and "--json" in text.stdout
        examples = text.stdout.split("Options:")[0]
        assert f"\n  rram {name}" in examples and "\\b" not in text.stdout


def test_info_says_who_is_there():
    values = the_json(rram("info", "--board", IDEAL, "--json"))
    assert values["identity"] == "0x5252414d"
    assert (values["rows"], values["cols"]) == (32, 32)
    assert values["self_test_passed"] is True
    assert "self_test_passed" in rram("info", "--board", IDEAL).stdout


def test_a_state_file_carries_the_array_from_program_to_read(targets: Path, tmp_path: Path):
    board = f"sim://?preset=taox_180nm&seed=3&state={tmp_path / 'chip.npz'}"
    out = tmp_path / "p"
    report = the_json(rram("program", targets, "--board", board, "--json", "--out", out))
    assert report["cells"] == 80 and report["failed_cells"] == []
    assert report["share_within_1p5_microsiemens"] >= 0.99
    assert report["mean_pulses"] > 0 and report["transactions"] > 0 and report["words"] > 0
    assert (out / "array.png").stat().st_size > 10_000
    assert json.loads((out / "run.json").read_text())["status"] == "done"
    read = the_json(rram("read", "--board", board, "--json", "--out", tmp_path / "r"))
    g, wanted = np.load(tmp_path / "r" / "conductances.npy"), np.load(targets)
    np.testing.assert_array_equal(np.array(read["conductances_siemens"]), g)
    asked = ~np.isnan(wanted)
    assert (np.abs(g - wanted)[asked] < 2.5e-6).all()
    assert (g[~asked] < 1e-6).all()
    text = rram("program", targets, "--board", board)
    assert text.returncode == 0 and "80 of 80 cells converged" in text.stdout


def test_exit_code_is_one_and_cells_are_listed_when_too_few_converge(targets: Path):
    done = rram("program", targets, "--board", "sim://?seed=3", "--max-pulses", 1)
    assert done.returncode == 1
    assert "not converged: row " in done.stdout


@pytest.mark.parametrize("scheme", ["single", "differential"])
def test_vmm_writes_products_of_the_weights(scheme: str, tmp_path: Path):
    rng = np.random.default_rng(1)
    w, x = rng.normal(size=(32, 16)), rng.normal(size=(50, 16))
    np.save(tmp_path / "w.npy", w)
    np.save(tmp_path / "x.npy", x)
    arguments = [tmp_path / "w.npy", tmp_path / "x.npy", "--scheme", scheme]
    values = the_json(rram("vmm", *arguments, "--board", IDEAL, "--json", "--out", tmp_path / "v"))
    y = np.load(tmp_path / "v" / "outputs.npy")
    assert y.shape == (50, 32)
    # Tolerance of programming, 0.6 uS of 30 uS and on `ideal` the only error, on weights whose
    # rms is a third of the largest: 4 % and less.
    error = float(np.sqrt(((y - x @ w.T) ** 2).mean() / ((x @ w.T) ** 2).mean()))
    assert error < 0.06
    assert values["relative_rms_error"] == pytest.approx(error, rel=1e-6)
    assert values["relative_rms_error_of_read_back_weights"] < 0.01


def test_sample_gives_one_json_object_with_its_figures(tmp_path: Path):
    values = the_json(
        rram("sample", "--model", "phi4_L4", "--board", "sim://?seed=4", "-n", 2048, "--json",
             "--lora-steps", 20, "--out", tmp_path / "s.h5")
    )  # fmt: skip
    assert values["n"] == 2048 and 0.8 < values["ess"] <= 1 and 0.7 < values["acceptance"] < 1
    assert abs(values["log_z"] - values["exact"]["log Z"]) < 4 * values["log_z_error"]
    assert values["array"]["cells"] == 768 and values["board_time_s"] > 0
    saved = load_samples(tmp_path / "s.h5")
    assert saved.phi.shape == (2048, 4, 4)
    assert saved.chain.accepted.mean() == pytest.approx(values["acceptance"], abs=1e-3)


def test_demo_leaves_a_whole_run_folder(tmp_path: Path):
    done = rram("demo", "-n", 2048, "--out", tmp_path / "d", "--json")
    values = the_json(done)
    record = json.loads((tmp_path / "d" / "run.json").read_text())
    assert record["status"] == "done" and record["settings"]["sample"]["seed"] == 7
    steps = {step["step"]: step for step in record["steps"]}
    assert {"open the board", "self-test", "form the array", "draw configurations"} <= set(steps)
    assert steps["draw configurations"]["board_s"] > steps["draw configurations"]["wall_s"] > 0
    for name in ("array.png", "observables.png", "products_w1.png", "array.npz", "samples.npz"):
        assert (tmp_path / "d" / name).stat().st_size > 1000
    assert values["ess_ratio"] > 0.9
    assert values["share_within_1p5_microsiemens"] >= 0.99
    names = [row["name"] for row in values["observables"]]
    assert names == ["|M|", "chi2", "E", "phi^2", "G(0)", "G(1)", "G(2)"]


def test_demo_prints_the_table_for_people(tmp_path: Path):
    done = rram("demo", "-n", 256, "--out", tmp_path / "d")
    assert done.returncode == 0
    assert "log Z 4.8694903" in done.stdout and "|M|" in done.stdout
    assert "s board" in done.stderr and "run folder:" in done.stdout


def test_train_is_reproducible_from_its_seed(tmp_path: Path):
    for name in ("one", "two"):
        the_json(rram("train", "--steps", 30, "--seed", 5, "--json", "--out", tmp_path / name))
    weights = [(tmp_path / name / "phi4_L4.safetensors").read_bytes() for name in ("one", "two")]
    from safetensors.torch import load

    one, two = (load(content) for content in weights)
    assert all(bool((one[key] == two[key]).all()) for key in one)


def test_bad_input_is_one_clear_line_and_exit_code_two(targets: Path, tmp_path: Path):
    np.save(tmp_path / "small.npy", np.full((3, 3), 50e-6))
    np.save(tmp_path / "high.npy", np.full((32, 32), 500e-6))
    np.save(tmp_path / "w.npy", np.eye(32))
    np.save(tmp_path / "nan.npy", np.full((2, 32), np.nan))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    (tmp_path / "junk.npy").write_bytes(b"not an array")
    (tmp_path / "junk.safetensors").write_bytes(b"\x08")
    program = ["program", "--board", IDEAL]
    refused(rram(*program, tmp_path / "small.npy"), "(3, 3)", "(32, 32)")
    refused(rram(*program, tmp_path / "high.npy"), "500 µS", "5..110 µS")
    refused(rram(*program, tmp_path / "junk.npy"), "not a .npy file")
    refused(rram(*program, tmp_path / "text.npy"), "real numbers")
    refused(rram(*program, tmp_path / "none.npy"), "no file")
    refused(rram(*program, targets, "--max-pulses", 0), "max_pulses")
    refused(rram("vmm", tmp_path / "w.npy", tmp_path / "nan.npy", "--board", IDEAL), "not finite")
    refused(rram("vmm", tmp_path / "nan.npy", tmp_path / "w.npy", "--board", IDEAL), "not finite")
    refused(rram("vmm", tmp_path / "w.npy", tmp_path / "small.npy", "--board", IDEAL), "(n, 32)")
    refused(rram("read", "--board", "simulator"), "not a URL", "sim://")
    refused(rram("read", "--board", "gpib://7"), "gpib")
    refused(rram("read", "--board", "sim://?preset=hafnia"), "hafnia", "taox_180nm")
    (tmp_path / "mine.toml").write_text("[analog]\n")
    mine = f"sim://?preset={tmp_path / 'mine.toml'}"
    refused(rram("info", "--board", mine), "mine.toml", "[cells] is missing")
    refused(rram("read", "--board", "sim://?sed=1"), "sed")
    refused(rram("read", "--board", IDEAL, "--average", 0), "average")
    refused(rram("sample", "--model", "phi5", "--board", IDEAL), "phi5", "phi4_L4")
    refused(rram("sample", "--model", tmp_path / "junk.safetensors"), "safetensors")
    refused(rram("sample", "-n", 0), "n = 0")
    refused(rram("sample", "--scheme", "triple"), "triple")
    refused(rram("train", "--preset", "nothing"), "nothing")
    refused(rram("read", "--bord", "x"), "--bord")
    refused(rram("shake"), "shake")
    refused(rram("sample", "--seed", 2**64 - 1), "seed")
    refused(rram("read", "--board", IDEAL, "--spec", "zc707"), "zc707", "zc706")
    refused(rram("read", "--board", IDEAL, "--average", 10**11), "average")
    refused(rram("read", "--board", "socket://127.0.0.1:99999"), "99999")


def test_an_earlier_run_in_the_same_folder_is_kept_and_other_files_are_left_alone(tmp_path: Path):
    out = tmp_path / "r"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    assert rram("read", "--board", IDEAL, "--out", out).returncode == 0
    first = (out / "run.json").read_text()
    assert rram("read", "--board", IDEAL, "--out", out).returncode == 0
    assert (out / "earlier-1" / "run.json").read_text() == first
    assert (out / "earlier-1" / "conductances.npy").exists()
    assert (out / "conductances.npy").exists()
    assert (out / "thesis.txt").read_text() == "mine"
    (out / "run.json").write_text(json.dumps({"status": "running", "process": os.getpid()}))
    refused(rram("read", "--board", IDEAL, "--out", out), "still writing")
    (tmp_path / "file").write_text("")
    refused(rram("read", "--board", IDEAL, "--out", tmp_path / "file"), "file")


class OtherContract(EmulatedBoard):
    """A board whose gateware is of another version."""

    def read(self, address: int, count: int) -> Any:
        words = super().read(address, count)
        if address <= 4 < address + 4 * count:
            words[(4 - address) // 4] ^= 1
        return words


def test_a_board_of_another_contract_is_refused_and_left_alone():
    board = OtherContract(preset="ideal")
    with PtyServer(board) as server:
        refused(rram("read", "--board", f"serial://{server.path}"), "contract 0x", "versions")
    assert not board.truth.pulses.any()
    assert board.truth.rails_v["WL0"] == 0.0 and np.isnan(board.truth.rails_v["SL0"])


def test_a_port_that_is_not_there_is_said_plainly():
    done = rram("read", "--board", "serial:///dev/ttyNOPE")
    assert done.returncode == 1 and "ttyNOPE" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_leaves_the_rails_safe_and_the_record_whole(
    number: signal.Signals, code: int, tmp_path: Path
):
    command = [str(Path(sys.executable).with_name("rram")), "demo", "-n", "10000000"]
    command += [
        "--board",
        f"sim://?seed=1&state={tmp_path / 'chip.npz'}",
        "--out",
        str(tmp_path / "d"),
    ]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                           env={**os.environ, "COLUMNS": "120"})  # fmt: skip
    record = tmp_path / "d" / "array.npz"
    end = time.monotonic() + 60
    while not record.exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)
    job.send_signal(number)
    try:
        _, err = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode == code, err
    assert json.loads((tmp_path / "d" / "run.json").read_text())["status"] == "interrupted"
    # The state is saved by closing the board, after its safe program has run.
    assert (tmp_path / "chip.npz").exists()


def test_a_command_whose_package_is_missing_says_so_in_one_line(tmp_path: Path):
    script = (
        "import sys; sys.modules['h5py'] = None\n"
        "from rram_host.cli import main\n"
        f"main(['iv', '--cycles', '1', '--out', {str(tmp_path / 'x.h5')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "rram: this command needs the package h5py, which is not installed\n"


def test_the_base_install_programs_an_array_without_torch(targets: Path):
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from rram_host.cli import main\n"
        f"main(['program', {str(targets)!r}, '--board', {IDEAL!r}, '--json'])"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert the_json(done)["converged"] == 80
    sampling = script.replace(f"'program', {str(targets)!r}", "'sample'")
    refused(
        subprocess.run([sys.executable, "-c", sampling], capture_output=True, text=True),
        "needs PyTorch",
        "rram-bench[flow]",
    )


def test_a_command_that_needs_them_not_loads_neither_matplotlib_nor_torch():
    """They take longer to import than all else together."""
    script = "import sys, rram_host.cli\nprint(sorted({'matplotlib', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(143)])
def test_a_signal_inside_compiled_code_ends_a_command_as_elsewhere(
    raised: BaseException, monkeypatch: pytest.MonkeyPatch
):
    def within_numba(**_: object) -> None:
        raise SystemError("returned a result with an exception set") from raised

    monkeypatch.setattr(cli, "main", within_numba)
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == (130 if isinstance(raised, KeyboardInterrupt) else 143)
    assert ending(SystemError()) != ending(raised)
    error = SystemError()
    error.__cause__ = raised
    assert ending(error)[0] == "interrupted"
