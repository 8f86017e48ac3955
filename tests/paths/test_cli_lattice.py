"""`rram hmc` and `rram check-physics` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

from rram_host.cli import cli
from rram_host.errors import InputError
from rram_host.experiments import physics_check
from rram_host.experiments.physics_check import Comparison, Report
from tests.paths.test_cli import refused, rram, the_json


def _run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, list(map(str, arguments)), standalone_mode=False)


def test_hmc_in_a_process_of_its_own_gives_one_json_object(tmp_path: Path):
    where = tmp_path / "wire.npz"
    values = the_json(
        rram("hmc", "--action", "graphene", "--L", 4, "--L1", 6, "--g", 1, "--m-over-g", 0,
             "--sampler", "fourier-hmc", "-n", 6400, "--json", "--out", where)
    )  # fmt: skip
    found = values["observables"]["chi2"]
    assert abs(found["mean"] - np.pi) < 4 * found["error"]  # chi2 = pi / g^2, a seed of its own
    assert found["tau"] == pytest.approx(0.5, abs=0.1)  # independent samples at u = 0
    assert values["notes"] == ["L g = 4 is below 6: " + values["notes"][0].split(": ")[1]]
    assert values["settings"]["chains"] * values["settings"]["kept"] == values["n"] == 6400
    assert {"gap", "xi_eq27", "xi_2nd", "xi_cosh", "condensate", "U4"} <= set(values["derived"])
    with np.load(where) as saved:
        assert saved["phi"].shape == (64, 100, 4, 6)
        assert saved["G"].shape == (64, 100, 4)


def test_hmc_leaves_a_folder_with_a_picture_and_prints_a_table(tmp_path: Path):
    done = _run(
        "hmc", "--L", 4, "--lam", 5, "-n", 640, "--sampler", "wolff", "--out", tmp_path / "w"
    )
    assert done.exception is None, done.exception
    assert "absM" in done.output and "xi_2nd" in done.output and "effective / s" in done.output
    assert "xi_eq27    xi by eq. 27 of the paper" in done.output
    assert "condensate" not in done.output  # that is a graphene wire's
    assert {each.name for each in (tmp_path / "w").iterdir()} == {
        "run.json",
        "samples.npz",
        "history.png",
    }
    record = json.loads((tmp_path / "w" / "run.json").read_text())
    assert record["status"] == "done" and record["results"]["action"]["lam"] == 5.0


def test_help_explains_what_is_derived():
    text = _run("hmc", "--help").output
    for line in ("Binder cumulant", "xi as 1 / gap", "eq. 27 of the paper", "L >> xi"):
        assert line in text
    explained = text.partition("second part:")[2].splitlines()
    assert len(explained) == 8 and max(map(len, explained)) <= 80  # a line each


def test_out_is_an_npz_file_or_a_folder(tmp_path: Path):
    done = _run("hmc", "--L", 4, "-n", 640, "--out", tmp_path / "x.csv")
    assert isinstance(done.exception, click.BadParameter)
    assert "a file that ends in .npz, or a folder" in done.exception.format_message()


def test_the_same_seed_gives_the_same_numbers():
    runs = [
        json.loads(_run("hmc", "--L", 4, "-n", 640, "--seed", seed, "--json").output)["observables"]
        for seed in (1, 1, 2)
    ]
    means = [each["absM"]["mean"] for each in runs]
    assert means[0] == means[1] != means[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lam", 0), "lam must be > 0"),
        (("--lam", "nan"), "lam must be > 0"),
        (("--g", 1), "--g does not belong to --action phi4"),
        (("--mass-term", "euclidean"), "--mass-term does not belong"),
        (("--action", "graphene", "--lam", 5), "--lam does not belong to --action graphene"),
        (("--action", "graphene", "--g", 0), "g must be > 0"),
        (("--action", "graphene", "--mass-term", "printed"), "no normalisable weight"),
        (("-n", 100), "at least 4"),
        (("-n", 100_000_000), "GB"),
    ],
)
def test_what_cannot_be_sampled_is_refused(arguments: tuple[object, ...], message: str):
    done = _run("hmc", "--L", 12, *arguments)
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)


@pytest.mark.parametrize("arguments", [("-n", 0), ("--L", 0), ("--sampler", "heat-bath")])
def test_click_refuses_what_is_no_option(arguments: tuple[object, ...]):
    assert isinstance(_run("hmc", *arguments).exception, click.UsageError)


def test_refusals_are_one_line_and_nothing_is_overwritten(tmp_path: Path):
    (tmp_path / "a.npz").write_bytes(b"results")
    refused(rram("hmc", "--L", 4, "-n", 640, "--out", tmp_path / "a.npz"), "not overwritten")
    assert (tmp_path / "a.npz").read_bytes() == b"results"
    done = _run("hmc", "--L", 4, "-n", 640, "--out", tmp_path / "none" / "b.npz")
    assert "no folder" in str(done.exception)


def _row(passed: bool, repeated: bool = False) -> Comparison:
    action = {"name": "phi4", "m2": -4.0, "lam": 5.0}
    deviation = 0.5 if passed else 4.0
    measured = (1.0 + 0.01 * deviation, 0.01)
    return Comparison(
        "exact", action, (4, 4), "hmc", "E", (1.0, 0.0), measured, deviation, passed, repeated
    )


@pytest.mark.parametrize("failed", [False, True])
def test_check_physics_prints_the_table_and_its_verdict(
    failed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    again = (_row(not failed, True),)
    report = Report((_row(True), _row(False)), again)
    monkeypatch.setattr(physics_check, "check_physics", lambda *_: report)
    done = _run("check-physics", "--quick", "--out", tmp_path / "p")
    assert "2 comparisons" in done.output and "1 were" in done.output
    assert "1.0050 ± 0.010" in done.output.replace("1.005 ±", "1.0050 ±")
    assert ("OFF" in done.output) is failed
    assert (isinstance(done.exception, SystemExit) and done.exception.code == 1) is failed
    record = json.loads((tmp_path / "p" / "run.json").read_text())
    assert record["results"]["passed"] is not failed and len(record["results"]["rows"]) == 3


def test_check_physics_as_json(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(physics_check, "check_physics", lambda *_: Report((_row(True),), ()))
    values = json.loads(_run("check-physics", "--json").output)
    assert values["passed"] and values["rows"][0]["measured"] == [1.005, 0.01]
