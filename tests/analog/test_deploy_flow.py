"""Any flow onto arrays: as many boards as it takes, or one that is programmed again and again."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rram_host import open_board
from rram_host.analog.deploy import digital_twin, engine_of, program_layout
from rram_host.analog.reprogrammed import ReprogrammedArray
from rram_host.errors import InputError, UnsafeDensityError
from rram_host.experiments.deploy_flow import (
    DeployPlan,
    arrays_needed,
    board_urls,
    deploy_flow,
    open_boards,
)
from rram_host.experiments.steps import Silent, Steps
from rram_host.flows.checkpoint import LoadedFlow
from rram_host.flows.coupling import CouplingFlow, FlowSettings
from rram_host.flows.mixer import MixerFlow, MixerSettings
from rram_host.flows.realnvp import RealNvpFlow, RealNvpSettings
from rram_host.lattice.actions import Phi4Action
from rram_host.lattice.reweighting import log_z
from rram_host.mapping.engine import Layout
from rram_host.mapping.schemes import scheme
from sim import EmulatedBoard
from tests.analog.noisy import randomised

PLAN = DeployPlan(lora_steps=0, calibration_turns=0, read_average=4)
URL = "sim://?preset=taox_180nm&seed=7"
ACTION = Phi4Action(-4.0, 5.5)


def _loaded(flow) -> LoadedFlow:
    return LoadedFlow(flow, ACTION, {})


def _deployed(boards, flow, plan=PLAN):
    return deploy_flow(boards, _loaded(flow), plan, Steps(Silent()))


def _anf(hidden: int = 18, shape: tuple[int, int] = (6, 6), steps: int = 4) -> CouplingFlow:
    return randomised(CouplingFlow(FlowSettings(shape=shape, hidden=hidden, steps=steps)), 0.1)


def _mixer() -> MixerFlow:
    settings = MixerSettings(shape=(4, 4), patch=2, dim=8, hidden=8, blocks=2, steps=2, lora_rank=1)
    return randomised(MixerFlow(settings), 0.1)


def _realnvp() -> RealNvpFlow:
    settings = RealNvpSettings(shape=(4, 4), steps=2, hidden=(8, 8), lora_rank=1)
    return randomised(RealNvpFlow(settings), 0.1)


def _push(flow, n=2048, seed=1):
    with torch.no_grad():
        return flow.push(flow.draw(n, torch.Generator().manual_seed(seed)))


# Name of the kind, the flow, arrays that it takes.
FLOWS = [("anf", _anf, 1), ("mixer", _mixer, 2), ("realnvp", _realnvp, 2)]


@pytest.mark.parametrize(("kind", "build", "arrays"), FLOWS)
def test_every_kind_runs_on_emulated_boards_and_keeps_an_exact_density(kind, build, arrays):
    flow = build()
    assert flow.kind == kind and arrays_needed(flow) == arrays
    with open_boards([URL], arrays) as boards:
        deployed = _deployed(boards, flow)
        assert deployed.density_error_nats < 1e-5
        phi, log_q = _push(deployed.flow)
    values = deployed.values()
    assert (values["arrays"], values["boards"], values["reprogrammed"]) == (arrays, arrays, None)
    assert values["cells"] == sum(p.weight().numel() for p in flow.products().values())
    # The density of the twin is normalised, so its log Z is 0, whatever the reads did.
    # 3 standard errors: one test a kind at a fixed seed.
    value, error = log_z((deployed.twin.log_prob(phi) - log_q).numpy())
    assert 1e-4 < error < 0.05 and abs(value) < 3 * error


def test_an_almost_empty_array_of_equal_weights_is_calibrated_all_the_same():
    flow = CouplingFlow(FlowSettings(shape=(4, 4), hidden=2, steps=2))
    with torch.no_grad():
        for product in flow.products().values():
            product.weight().fill_(0.1)  # 48 cells, all alike: nothing that a calibration sees
    with open_board(URL) as board:
        steps = Steps(Silent())
        plan = DeployPlan(lora_steps=0, calibration_turns=8, read_average=4)
        deploy_flow([board], _loaded(flow), plan, steps)
        assert board.array.calibration.measured
    assert [step.name for step in steps.done] == [
        "program random cells",
        "calibrate",
        "program and read back",
        "LoRA compensation",
        "put the flow on the array",
    ]


# ---- one array for several ------------------------------------------------------------------


class Perfect:
    """A board whose array holds what it is told, at once, and counts."""

    def __init__(self, calibrated: bool = True) -> None:
        self.array, self.spec, self.shape = self, SimpleNamespace(read_voltage_v=0.1), (32, 32)
        self.calibration = SimpleNamespace(measured=calibrated)
        self.board_time_s, self.programmed = 0.0, []

    def program(self, targets_siemens, policy, progress):
        self.board_time_s += 2.0
        self.g = targets_siemens
        asked = ~np.isnan(targets_siemens)
        self.programmed.append(int(asked.sum()))
        return SimpleNamespace(
            pulses=np.ones(self.g.shape, dtype=int),
            asked=asked,
            targets_siemens=targets_siemens,
            failed=[],
            words=0,
            transactions=0,
        )

    def calibrate(self, plan, progress):
        self.calibration.measured = True
        return SimpleNamespace(
            lines=SimpleNamespace(row_ohm=np.ones(32), bl_segment_ohm=1.0, sl_segment_ohm=1.0)
        )

    def read(self, average):
        self.board_time_s += 1.0
        return self.g

    def products(self, voltages, rows, tia_range):
        self.board_time_s += 0.5
        currents = voltages @ np.nan_to_num(self.g)[rows].T
        return SimpleNamespace(currents_a=currents, tia_range=0, saturated=0)


def test_on_perfect_arrays_a_large_flow_draws_what_it_draws_in_software():
    flow, plan = _anf(64, (12, 12)), DeployPlan(lora_steps=0)
    boards = [Perfect(calibrated=number != 3) for number in range(15)]
    deployed = _deployed(boards, flow, plan)
    phi, log_q = _push(deployed.flow, 64)
    wanted, wanted_log_q = _push(flow, 64)
    # products in float64 against float32
    assert float((phi - wanted).abs().max()) < 1e-4
    assert float((log_q - wanted_log_q).abs().max()) < 1e-3
    assert deployed.density_error_nats < 1e-5
    # Programmed once; the one that was not calibrated once more; a board too many not at all.
    assert [len(board.programmed) for board in boards] == [1, 1, 1, 2] + [1] * 10 + [0]
    assert sum(board.programmed[-1] for board in boards[:14]) == 13_824
    assert all(board.calibration.measured for board in boards)


def test_an_array_is_programmed_only_when_it_lacks_what_is_asked_for():
    rng = np.random.default_rng(0)
    weights = {"a": rng.normal(size=(32, 40)), "b": rng.normal(size=(8, 8))}
    board = Perfect()
    array = ReprogrammedArray(board, Layout.on_arrays(weights, scheme("single"), (32, 32)))
    engine, x = array.engine(), rng.normal(size=(5, 40))
    np.testing.assert_allclose(engine.multiply("a", x), x @ weights["a"].T, atol=1e-9)
    assert array.programmings == 2 and array.held == 1
    # The layout that is there comes first: one programming for every further product of both.
    np.testing.assert_allclose(engine.multiply("a", x), x @ weights["a"].T, atol=1e-9)
    assert array.programmings == 3 and array.held == 0
    engine.multiply("b", x[:, :8])
    assert array.programmings == 4 and array.held == 1
    engine.multiply("b", x[:, :8])
    assert array.programmings == 4
    assert board.programmed == [1024, 320, 1024, 320]
    assert array.values() == {
        "tile_sets": 2,
        "programmings": 4,
        "pulses": 4 * 1024,
        "board_time_s": 4 * 3.0,
    }


def test_a_programming_that_breaks_off_leaves_nothing_to_rely_on():
    board = Perfect()
    array = ReprogrammedArray(
        board, Layout.on_arrays({"a": np.ones((32, 40))}, scheme("single"), (32, 32))
    )
    array.program(0)
    board.read = lambda average: 1 / 0
    with pytest.raises(ZeroDivisionError):
        array.program(1)
    assert array.held is None and array.programmings == 1


def _products(engine, x):
    with engine.probing():
        engine.multiply("w", x)
    return engine.multiply("w", x)


def test_one_board_programmed_in_turn_multiplies_as_two_boards_do():
    rng = np.random.default_rng(0)
    weights, x = rng.normal(size=(32, 40)), rng.normal(size=(256, 40))
    layouts = Layout.on_arrays({"w": weights}, scheme("single"), (32, 32))
    with open_boards([URL], 2) as boards:
        deployments = [program_layout(b, part) for b, part in zip(boards, layouts, strict=True)]
        two = _products(engine_of(deployments), x)
    with open_board(URL) as board:
        array = ReprogrammedArray(board, layouts)
        one = _products(array.engine(), x)
    wanted = x @ weights.T
    scale = wanted.std()
    # Programming errors and read noise: a few per cent of the output each. A tile that is lost, or
    # taken for the other, would be off by half of it and more.
    assert 0.005 < (one - wanted).std() / scale < 0.12
    assert 0.005 < (two - wanted).std() / scale < 0.12
    assert (one - two).std() / scale < 0.15


def test_a_flow_on_one_board_programmed_in_turn_is_exact_and_says_so():
    flow = _anf(48, (4, 4), steps=2)
    assert arrays_needed(flow) == 2
    with open_board(URL) as board:
        deployed = _deployed([board], flow, replace(PLAN, reprogram=True))
        phi, log_q = _push(deployed.flow)
        found = deployed.values()
        assert 0 < found["reprogrammed"]["board_time_s"] < board.board_time_s
    assert deployed.density_error_nats < 1e-5
    assert (found["arrays"], found["boards"], found["cells"]) == (2, 1, 1152)
    assert found["reprogrammed"]["tile_sets"] == 2
    # Once each, and at least once more in the probe, in the check and in the draw.
    assert found["reprogrammed"]["programmings"] >= 5
    value, error = log_z((flow.log_prob(phi) - log_q).numpy())
    assert 1e-4 < error < 0.05 and abs(value) < 3 * error  # one draw at a fixed seed


# ---- what is refused, and what is told ------------------------------------------------------


def test_too_few_boards_are_refused_with_how_many_it_takes():
    flow = _anf(64, (12, 12))
    assert arrays_needed(flow) == 14
    with (
        open_board(EmulatedBoard(preset="ideal")) as board,
        pytest.raises(InputError, match="13824 cells take 14 arrays.*1 is there.*programmed again"),
    ):
        _deployed([board], flow)


def test_no_board_at_all_is_refused():
    with pytest.raises(InputError, match="one board or more"):
        _deployed([], _anf())


def test_a_continuous_flow_is_refused_with_the_reason():
    class Continuous(CouplingFlow):
        kind = "continuous"
        exact_density = False

    with pytest.raises(UnsafeDensityError, match="slope of every product.*second read"):
        _deployed([], Continuous(FlowSettings()))


def test_weights_that_are_not_finite_are_refused_before_anything_is_programmed():
    flow = _anf()
    with torch.no_grad():
        flow.w1.weight()[0, 0] = math.nan
    with open_board(EmulatedBoard(preset="ideal")) as board:
        with pytest.raises(InputError, match="w1: 1 entries are not finite"):
            _deployed([board], flow)
        assert board.pulses_since_power_up == 0


def test_a_twin_of_several_arrays_holds_what_they_were_read_to_hold():
    flow = _realnvp()
    with open_boards(["sim://?preset=ideal&seed=3"], 2) as boards:
        deployed = _deployed(boards, flow)
    twin = digital_twin(flow, deployed.deployments)
    for name, product in flow.products().items():
        read, wanted = twin.products()[name].weight().detach(), product.weight().detach()
        # ideal cells are programmed to 1.5 uS of a span of 30 uS, or better
        assert float((read - wanted).abs().max()) < 0.06 * float(wanted.abs().max())
    assert np.isfinite(deployed.density_error_nats)


def test_urls_are_counted_up_from_one_with_a_seed():
    assert board_urls(["serial:///dev/ttyUSB0"], 1) == ["serial:///dev/ttyUSB0"]
    assert board_urls(["a://", "b://", "c://"], 2) == ["a://", "b://"]
    found = board_urls(["sim://?preset=ideal&seed=9&state=/tmp/x"], 2)
    assert found == [
        "sim://?preset=ideal&seed=9&state=/tmp/x.0",
        "sim://?preset=ideal&seed=10&state=/tmp/x.1",
    ]
    for urls in (["serial:///dev/ttyUSB0"], ["sim://?seed=1", "sim://?seed=2"], []):
        with pytest.raises(InputError, match="3 boards are needed"):
            board_urls(urls, 3)
    with pytest.raises(InputError, match="not a whole number"):
        board_urls(["sim://?seed=x"], 2)


@pytest.mark.parametrize(
    "values",
    [
        {"seed": -1},
        {"lora_steps": -1},
        {"read_average": 0},
        {"scheme": "none"},
        *[{name: 2.5} for name in ("seed", "lora_steps", "read_average", "calibration_turns")],
    ],
)
def test_a_plan_that_cannot_run_is_refused(values):
    with pytest.raises(InputError):
        DeployPlan(**values)
