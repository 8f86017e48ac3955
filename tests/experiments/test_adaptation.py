"""Adaptation beside training from scratch: the arithmetic of the curves, and a board's errors."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from rram_host import open_board
from rram_host.errors import InputError
from rram_host.experiments import adaptation, adapted_board
from rram_host.experiments.adaptation import Case, Comparison, Curve, Lengths, Point
from rram_host.experiments.deploy_flow import DeployPlan
from rram_host.experiments.steps import Silent, Steps
from rram_host.flows import checkpoint
from rram_host.flows.adapt import AdaptPlan
from rram_host.flows.lora import Shares
from rram_host.flows.train_settings import FinetuneSettings
from rram_host.lattice.actions import Phi4Action


def _point(steps: int, ess: float) -> Point:
    return Point(steps, ess, 0.5, 1.0)


_FOUND = Comparison(
    "made up",
    _point(0, 0.3),
    (Curve("one", (_point(10, 0.4), _point(20, 0.7), _point(40, 0.95)), 50, Shares(950, 40, 90)),),
    (_point(100, 0.5), _point(200, 0.45), _point(400, 0.9)),
    1000,
)


def test_steps_from_scratch_are_interpolated_in_their_logarithm() -> None:
    assert math.isnan(_FOUND.scratch_steps(0.4))  # no run is short enough to tell
    assert _FOUND.scratch_steps(0.5) == 100
    assert _FOUND.scratch_steps(0.9) == 400
    # half of the way from 0.5 at 100 to 0.9 at 400 steps; the run that fell back does not count
    assert _FOUND.scratch_steps(0.7) == pytest.approx(200.0)
    assert _FOUND.scratch_steps(0.95) == math.inf


def test_ratios_and_shares() -> None:
    found = _FOUND.summary()["adaptations"][0]
    assert found["points"][0]["ratio"] is None
    assert [p["ratio"] for p in found["points"][1:]] == pytest.approx([0.1, 0.0])
    assert found["best"] == {"steps": 40, "ess": 0.95, "ratio": 0.0}
    assert found["trained_share"] == pytest.approx(0.05)
    assert found["lora_share"] == pytest.approx(40 / 990)
    assert found["digital_share"] == pytest.approx(90 / 1040)


def test_csv_has_a_row_a_run(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    adaptation.write_csv(path, [_FOUND])
    rows = path.read_text().splitlines()
    assert len(rows) == 1 + 1 + 3 + 3
    assert rows[3].split(",")[:4] == ["made up", "one", "20", "0.7"]


@pytest.mark.parametrize("bad", [{"adapt": ()}, {"scratch": (4, 2)}, {"samples": 1}])
def test_lengths_refuse_nonsense(bad: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        Lengths(**bad)  # type: ignore[arg-type]


def test_both_curves_are_measured() -> None:
    loaded = checkpoint.load(checkpoint.resolve("phi4_L4"))
    plan = AdaptPlan(1, ("wt",), FinetuneSettings(batch=128, lr=1e-2, log_every=100))
    case = Case(
        "lambda 5.5 to 8",
        loaded.flow,
        Phi4Action(-4.0, 8.0),
        {"digital": plan},
        adaptation.settings_from(loaded.metadata),
        loaded.action,
    )
    told: list[tuple[int, int]] = []
    lengths = Lengths((30,), (10, 20), samples=4096)
    found = adaptation.compare(case, lengths, lambda done, total, _: told.append((done, total)))
    assert [p.steps for p in found.scratch] == [10, 20]  # neither gets near
    best = found.curves[0].points[0].ess
    assert best > found.before.ess + 0.2
    assert best > found.scratch[-1].ess
    assert told[-1] == (60, 60)


def test_a_flow_is_adapted_to_the_weights_of_a_board() -> None:
    loaded = checkpoint.load(checkpoint.resolve("phi4_L4"))
    plan = AdaptPlan(None, None, FinetuneSettings("lora", steps=40, batch=128, lr=1e-2))
    deploy = DeployPlan(calibration_turns=0)
    with open_board("sim://?preset=taox_180nm&seed=5") as board:
        found = adapted_board.run(
            [board], loaded, loaded.action, plan, deploy, Steps(Silent()), samples=2048
        )
    ess = {name: values["ess"] for name, values in found.figures.items()}
    # without calibration the weights are far enough off to see it
    assert ess["as programmed"] < ess["adapted"]
    assert ess["on the array"] > 0.5
    assert found.deployed.density_error_nats < 1e-4
    read = found.flow.products()["w1"].weight()
    assert not torch.equal(read, loaded.flow.products()["w1"].weight())
