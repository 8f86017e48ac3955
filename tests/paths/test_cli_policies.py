"""rram program --policy: settings reach the policy, what it does not have is refused."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from rram_host.array.policies import CoarseFine, Ispp, MultiPass
from rram_host.cli import cli
from rram_host.cli.policy_options import policy_options
from rram_host.errors import InputError


def _asked(*options: str):
    """The policy that a command gets for some options, and its other argument."""
    got: dict = {}

    @click.command()
    @policy_options
    @click.option("--other", default=3)
    def command(policy, other) -> None:
        got.update(policy=policy, other=other)

    result = CliRunner().invoke(command, options, catch_exceptions=True)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    assert got["other"] == 3
    return got["policy"]


def test_options_become_the_settings_of_the_policy_in_si():
    assert _asked() == CoarseFine()
    assert _asked("--policy", "ispp", "--start", "0.9", "--max-pulses", "12") == Ispp(
        start_v=0.9, max_pulses=12
    )
    asked = _asked("--policy", "multi-pass", "--relax-wait", "10", "--retake", "0.8")
    assert isinstance(asked, MultiPass)
    assert asked.relax_wait_s == 10.0
    assert asked.retake_siemens == pytest.approx(0.8e-6)


def test_a_setting_of_another_policy_is_refused():
    with pytest.raises(InputError, match="coarse-fine has no setting 'start_v'"):
        _asked("--start", "0.9")


def test_program_records_which_policy_it_used(tmp_path: Path):
    targets = np.full((32, 32), np.nan)
    targets[2, :6] = 40e-6
    np.save(tmp_path / "t.npy", targets)
    out = tmp_path / "run"
    options = ["--policy", "multi-pass", "--passes", "2", "--relax-wait", "7", "--json"]
    board = ["--board", "sim://?preset=ideal", "--out", str(out)]
    result = CliRunner().invoke(cli, ["program", str(tmp_path / "t.npy"), *board, *options])
    assert result.exit_code == 0, result.output
    values = json.loads(result.output)
    assert values["policy"] == "multi-pass"
    assert values["energy_j"] > 0
    assert values["board_time_s"] > 7
    recorded = (out / "run.json").read_text(encoding="utf-8")
    assert json.loads(recorded)["settings"]["policy"]["inner"]["name"] == "coarse-fine"
    assert (np.load(out / "array.npz")["energy_j"][2, :6] > 0).all()
