"""rram sample as it is called: what it prints, keeps, refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click import BadParameter
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from rram_host.cli import cli, main, sample_command
from rram_host.cli.experiment_command import number
from rram_host.cli.file_names import FolderName
from rram_host.errors import InputError
from rram_host.experiments.sample_lattice import load_samples
from rram_host.flows import checkpoint

FEW = ("--software", "-n", "600", "--batch", "200", "--baseline", "none", "--no-picture")


def rram(*arguments: object) -> str:
    """Standard output of a command; its errors are raised."""
    command = ["sample", *map(str, arguments)]
    done = CliRunner().invoke(cli, command, standalone_mode=False, catch_exceptions=True)
    if done.exception:
        raise done.exception
    return done.stdout


def the_json(*arguments: object) -> dict:
    return json.loads(rram(*arguments, "--json").strip().splitlines()[-1])


def test_one_json_object_tells_everything(tmp_path: Path):
    path = tmp_path / "s.h5"
    values = the_json("--software", "-n", 4096, "--out", path)
    assert values["status"] == "done" and values["file"] == str(path)
    assert (tmp_path / "s.png").stat().st_size > 20_000
    assert values["n"] == 4096 and 0.9 < values["ess"] <= 1 and values["longest_rejection"] < 100
    for name in ("M", "|M|", "chi2", "E"):
        row = values["observables"][name]
        assert row["tau"] >= 0.5 and row["tau_error"] > 0 and row["reference_source"] == "exact"
        # both beside each other, five standard errors for four observables of two samplers
        assert abs(row["sigma"]) < 5 and abs(row["baseline"]["sigma"]) < 5
        assert row["effective_per_s"] > 0 and row["baseline"]["effective_per_s"] > 0
    assert values["baseline"]["name"] == "hmc" and values["array"] is None


def test_the_table_tells_the_same_to_people(tmp_path: Path):
    text = rram(*FEW, "--out", tmp_path / "s.h5")
    for word in ("N 600: ESS", "log Z", "σ from exact", "chi2", "exact", "ns a proposal"):
        assert word in text


def test_a_board_s_own_time_stands_beside_the_wall_time(tmp_path: Path):
    few = ("-n", 256, "--batch", 256, "--baseline", "none", "--no-picture", "--lora-steps", 0)
    board = ("--board", "sim://?preset=ideal&seed=7")
    text = rram(*few, *board, "--out", tmp_path / "s.h5")
    found = re.search(r"board time of these draws ([\d.]+) s: ([\d.]+) effective", text)
    assert found
    # 16 half steps and more, each at least one product of 94 us a vector
    assert 256 * 16 * 94e-6 < float(found[1]) < 5
    assert 0 < float(found[2]) < 2 * 256 / float(found[1])  # tau scatters about 1/2


def test_a_run_is_resumed_by_its_file_alone_or_with_out(tmp_path: Path):
    path = tmp_path / "s.h5"
    rram(*FEW, "--seed", 9, "--lam", 6, "--out", path)
    for how in (("--resume", path), ("--out", path, "--resume")):
        values = the_json(*how, "--baseline", "none", "--no-picture")
        assert values["n"] == 600 and values["drawn_now"] == 0
    assert load_samples(path).metadata["plan"]["action"]["lam"] == 6.0
    with pytest.raises(InputError, match="seed is 9 there, 3 here"):
        rram("--resume", path, "--seed", 3)
    with pytest.raises(InputError, match="which is done"):
        rram(*FEW, "--out", path)
    with pytest.raises(InputError, match="which run"):
        rram("--resume")
    with pytest.raises(InputError, match="goes on in its own file"):
        rram("--resume", path, "--out", path)


def test_runs_show_and_plot_know_these_files(tmp_path: Path):
    path = tmp_path / "s.h5"
    rram(*FEW, "--out", path)
    for command, word in (("show", "acceptance"), ("plot", "s.png")):
        done = CliRunner().invoke(cli, ["runs", command, str(path)], standalone_mode=False)
        assert done.exception is None and word in done.stdout
    assert (tmp_path / "s.png").stat().st_size > 20_000


def test_counts_are_printed_whole():
    assert number(200_000, None, "") == "200000"
    assert number(123_456.0, None, "proposals") == "123456 proposals"
    assert number(0.123456, None, "") == "0.1235"
    assert number(200_000.0, 1300.0, "") == "200000 ± 1300"
    assert number(float("inf"), None, "") == "not known"


@pytest.mark.parametrize("command", [("sample", "--software"), ("iv",)])
def test_a_run_file_of_another_ending_is_refused_at_once(command: tuple[str, ...], tmp_path: Path):
    arguments = [*command, "--out", str(tmp_path / "x.csv")]
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert isinstance(done.exception, BadParameter)
    assert "x.csv: the name of a run file ends in .h5" in done.exception.format_message()


@pytest.mark.parametrize("command", ["train", "check-physics", "read", "figures fig3"])
def test_a_folder_that_is_called_like_a_file_is_refused_at_once(command: str, tmp_path: Path):
    arguments = [*command.split(), "--out", str(tmp_path / "x.csv")]
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert isinstance(done.exception, BadParameter)
    assert "this must be a folder, not a .csv file" in done.exception.format_message()


def test_a_folder_may_have_a_dot_in_its_name(tmp_path: Path):
    (tmp_path / "old.csv").mkdir()
    for name in ("x", "lam5.2", "old.csv"):
        assert FolderName().convert(str(tmp_path / name), None, None) == tmp_path / name


def test_several_emulated_arrays_are_told_of_beforehand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def opened(*_: object) -> None:
        raise InputError("this far")

    monkeypatch.setattr(sample_command, "_opened", opened)
    for model, told in (("realnvp_phi4_L4", "13 arrays are needed, emulated"), ("phi4_L4", "")):
        with pytest.raises(SystemExit):
            main(["sample", "--model", model, "--board", "sim://?seed=7", "--json"])
        found = capsys.readouterr()
        assert found.out == "" and told in found.err
        assert ("emulated" in found.err) is bool(told)


def nan_model(tmp_path: Path) -> Path:
    file = checkpoint.resolve("phi4_L4")
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] = torch.nan
    from safetensors import safe_open

    with safe_open(str(file), framework="pt") as opened:
        save_file(tensors, tmp_path / "nan.safetensors", opened.metadata())
    return tmp_path / "nan.safetensors"


def test_what_cannot_be_sampled_is_refused_in_one_line(tmp_path: Path):
    out = ("--out", tmp_path / "s.h5")
    refused = {
        "n = 0": ("-n", 0),
        "batch = 0": ("--batch", 0),
        "asked 12 x 12": ("--L", 12),
        "asked 4 x 6": ("--L", "4x6"),
        "a length, or two": ("--L", "large"),
        "lam = 8 is outside": ("--lam", 8),
        "has no g": ("--g", 1),
        "has no m_over_g": ("--m-over-g", 0.2),
        "processes 0": ("--processes", 0),
        "exclude each other": ("--board", "sim://?seed=1"),
        "not finite": ("--model", nan_model(tmp_path)),
        "phi5": ("--model", "phi5"),
        "no folder": ("--out", tmp_path / "nowhere" / "s.h5"),
    }
    for message, arguments in refused.items():
        with pytest.raises(InputError) as found:
            rram(*FEW, *out, *arguments)
        assert message in str(found.value) and "\n" not in str(found.value)
    with pytest.raises(InputError, match="goes with --software"):
        rram("-n", 600, "--processes", 2, *out)
    with pytest.raises(BadParameter, match="-1 is not in the range"):
        rram(*FEW, "--seed", -1, *out)
    assert not (tmp_path / "s.h5").exists()


def test_a_flow_that_no_array_can_hold_is_refused_with_exit_code_2(
    capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(SystemExit) as ended:
        main(["sample", "--model", "continuous_phi4_L4", "--board", "sim://?preset=ideal&seed=7"])
    assert ended.value.code == 2
    assert "does not go onto arrays" in capsys.readouterr().err


def test_a_file_of_something_else_is_not_resumed(tmp_path: Path):
    (tmp_path / "x.h5").write_bytes(b"something else")
    with pytest.raises(InputError, match="not a run file"):
        rram("--resume", tmp_path / "x.h5")
    with pytest.raises(InputError, match="exists and is not a run file"):
        rram(*FEW, "--out", tmp_path / "x.h5")


def test_a_coupling_out_of_range_can_be_forced(tmp_path: Path):
    values = the_json(*FEW, "--lam", 9, "--force", "--out", tmp_path / "s.h5")
    assert 0 < values["ess"] < 0.9
    assert np.isfinite(values["log_z"])
