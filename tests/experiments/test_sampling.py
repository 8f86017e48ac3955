"""The sampling service: batches of their own seeds, one chain, one file, whatever happens."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rram_host import open_board
from rram_host.errors import InputError
from rram_host.experiments import sample_lattice
from rram_host.experiments.deploy_flow import DeployPlan
from rram_host.experiments.sampling import shown
from rram_host.experiments.sampling.draws import draw, draw_batch, draw_split
from rram_host.experiments.sampling.load import load_samples
from rram_host.experiments.sampling.on_boards import Job
from rram_host.experiments.sampling.plan import DrawPlan
from rram_host.experiments.sampling.recording import Origin, fingerprint
from rram_host.experiments.sampling.report import exact_values, results
from rram_host.experiments.sampling.service import sample_flow
from rram_host.experiments.sampling.target import check_lattice, target_action
from rram_host.experiments.steps import Silent, Steps
from rram_host.flows import checkpoint
from rram_host.flows.checkpoint import LoadedFlow
from rram_host.lattice.actions import GrapheneAction, Phi4Action
from rram_host.lattice.metropolis import independence_chain
from rram_host.lattice.reference import reference
from rram_host.records.run_file import RunFile
from sim import EmulatedBoard

PLAN = DrawPlan(n=1000, batch=192, seed=5)  # six batches, the last one smaller
GIVEN = {"n": PLAN.n, "batch": PLAN.batch, "seed": PLAN.seed}


@pytest.fixture(scope="module")
def loaded() -> LoadedFlow:
    return checkpoint.load(checkpoint.resolve("phi4_L4"))


@pytest.fixture(scope="module")
def whole(loaded: LoadedFlow):
    """The run in memory, uninterrupted."""
    return sample_flow(loaded.flow, loaded.action, **GIVEN)


def same(path: Path, whole, rows: int = PLAN.n) -> None:
    found = RunFile(path).data()
    assert set(found) == set(whole.columns)
    for name, values in whole.columns.items():
        np.testing.assert_array_equal(found[name], values[:rows], err_msg=name)


# ---- random numbers -----------------------------------------------------------------------------


def test_no_two_batches_share_a_seed_of_the_32_bits_that_the_generator_takes():
    plan = DrawPlan(n=10**8, batch=4000, seed=3)
    seeds = {plan.prior_seed(index) for index in range(plan.batches)}
    assert len(seeds) == plan.batches == 25_000
    assert max(seeds) < 2**32
    assert DrawPlan(seed=4).prior_seed(0) != plan.prior_seed(0)


def test_batches_have_accept_reject_numbers_of_their_own():
    numbers = [PLAN.uniforms(index) for index in range(PLAN.batches)]
    assert [len(n) for n in numbers] == [192] * 5 + [40]
    assert len(np.unique(np.concatenate(numbers))) == PLAN.n


def test_a_batch_can_be_drawn_alone(loaded: LoadedFlow):
    batches = list(draw(loaded.flow, loaded.action, PLAN))
    alone = draw_batch(loaded.flow, loaded.action, PLAN, 4)
    np.testing.assert_array_equal(alone.phi, batches[4].phi)
    np.testing.assert_array_equal(alone.log_q, batches[4].log_q)
    (rest,) = draw(loaded.flow, loaded.action, PLAN, start=5)
    np.testing.assert_array_equal(rest.log_w, batches[5].log_w)


def test_draws_do_not_depend_on_the_threads_of_the_process(loaded: LoadedFlow):
    before = torch.get_num_threads()
    one = draw_batch(loaded.flow, loaded.action, PLAN, 0)
    try:
        torch.set_num_threads(2)
        two = draw_batch(loaded.flow, loaded.action, PLAN, 0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(one.log_q, two.log_q)


def test_processes_draw_the_same_batches_in_the_same_order(loaded: LoadedFlow):
    split = draw_split(loaded.flow, loaded.action, PLAN, 2)
    for one, other in zip(draw(loaded.flow, loaded.action, PLAN), split, strict=True):
        np.testing.assert_array_equal(one.phi, other.phi)
        np.testing.assert_array_equal(one.log_w, other.log_w)


def test_a_flow_that_cannot_be_copied_is_refused(loaded: LoadedFlow):
    class Local(Phi4Action):
        pass

    with pytest.raises(InputError, match="cannot be copied"):
        next(draw_split(loaded.flow, Local(-4.0, 5.5), PLAN, 2))


# ---- the chain ----------------------------------------------------------------------------------


def test_the_sample_is_the_chain_over_all_draws(loaded: LoadedFlow, whole):
    log_w = np.concatenate([b.log_w for b in draw(loaded.flow, loaded.action, PLAN)])
    np.testing.assert_array_equal(whole.log_w, log_w)

    class Given:
        def random(self, shape: tuple[int]) -> np.ndarray:
            return np.concatenate([PLAN.uniforms(i) for i in range(PLAN.batches)])

    chain = independence_chain(log_w, Given())  # type: ignore[arg-type]
    np.testing.assert_array_equal(whole.chain.indices, chain.indices)
    np.testing.assert_array_equal(whole.phi, whole.columns["phi"][chain.indices])


def test_observables_and_log_z_are_exact_within_errors(loaded: LoadedFlow):
    found = results(sample_flow(loaded.flow, loaded.action, n=16_384, seed=1))
    # Ten numbers of one run, most of them functions of the same modes: 4 standard errors.
    assert abs(found["log_z_sigma"]) < 4
    for name, row in found["observables"].items():
        assert row["reference_source"] == "exact", name
        assert abs(row["sigma"]) < 4, name
        assert row["effective_per_s"] > 0


def test_weights_lead_to_another_coupling_than_the_model_was_trained_for(loaded: LoadedFlow):
    action = target_action(loaded, {"lam": 6.0})
    found = results(sample_flow(loaded.flow, action, n=16_384, seed=2))
    assert found["ess"] < 0.95  # of another target
    assert abs(found["log_z_sigma"]) < 4  # but to lam = 6, as above
    assert abs(found["observables"]["chi2"]["sigma"]) < 4


def test_references_are_taken_in_order_exact_then_stored_then_none(whole):
    rows = results(whole)["observables"]
    assert rows["|M|"]["reference"] == exact_values(whole.action, (4, 4))["|M|"]
    assert exact_values(GrapheneAction(1.0, 0.0), (6, 6))["chi2"] == pytest.approx(math.pi)
    assert exact_values(GrapheneAction(1.0, 0.2), (6, 6)) is None
    assert exact_values(Phi4Action(-4.0, 5.0), (6, 6)) is None
    # a list of lengths, as JSON has it, is the same lattice
    for known in (exact_values, reference):
        assert known(Phi4Action(-4.0, 5.0), [4, 4]) is not None
    elsewhere = type(whole)(**{**vars(whole), "action": Phi4Action(-4.0, 5.7)})
    rows = results(elsewhere)["observables"]
    assert rows["M"]["reference_source"] == "exact"  # by symmetry
    assert math.isnan(rows["|M|"]["sigma"]) and rows["|M|"]["reference_source"] == ""


def test_draws_without_a_weight_are_refused(loaded: LoadedFlow):
    class Broken:
        shape = (4, 4)

        def draw(self, n, generator):
            return loaded.flow.draw(n, generator)

        def push(self, z):
            phi, log_q = loaded.flow.push(z)
            return phi, log_q * math.nan

    with pytest.raises(InputError, match="batch 0 of the draws: .*NaN"):
        sample_flow(Broken(), loaded.action, n=100)


# ---- the file -----------------------------------------------------------------------------------


def test_a_recorded_run_holds_everything_and_loads_again(loaded: LoadedFlow, whole, tmp_path):
    path = tmp_path / "s.h5"
    made = sample_flow(loaded.flow, loaded.action, **GIVEN, out=path)
    same(path, whole)
    assert made.figures() == whole.figures()
    phi, log_q, log_p, chain, metadata = load_samples(path)
    np.testing.assert_array_equal(chain.indices, whole.chain.indices)
    # float64 fields: log p from the file's fields, to the last bit
    np.testing.assert_array_equal(-loaded.action(torch.from_numpy(phi)).numpy(), log_p)
    assert metadata["plan"]["action"] == {"name": "phi4", "m2": -4.0, "lam": 5.5}
    assert metadata["prior_seeds"] == [PLAN.prior_seed(i) for i in range(PLAN.batches)]
    assert metadata["board"] == "software" and metadata["status"] == "done"
    assert log_q.shape == (PLAN.n,)
    found = {finding.name: finding.value for finding in shown.findings(RunFile(path))}
    assert found["ESS"] == pytest.approx(whole.figures()["ess"])
    shown.save(tmp_path / "s.png", RunFile(path), results(made)["observables"])
    assert (tmp_path / "s.png").stat().st_size > 20_000


def killed_after(loaded: LoadedFlow, path: Path, units: int, resume: bool = False) -> None:
    """Record in a process of its own, killed as soon as so many batches are committed."""
    there, here = os.pipe()
    pid = os.fork()
    if not pid:
        try:

            def announce(done: int, total: int) -> None:
                if done >= units * PLAN.batch:
                    os.write(here, b".")
                    signal.pause()

            sample_flow(
                loaded.flow, loaded.action, **GIVEN, out=path, resume=resume, progress=announce
            )
        finally:
            os._exit(1)
    os.close(here)
    assert os.read(there, 1) == b"."
    os.close(there)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_killed_run_goes_on_bit_for_bit(loaded: LoadedFlow, whole, tmp_path):
    path = tmp_path / "s.h5"
    killed_after(loaded, path, 2)
    state = RunFile(path).state
    assert (state.status, state.reason, state.units) == ("interrupted", "killed", 2)
    same(path, whole, 2 * PLAN.batch)
    assert len(load_samples(path).log_q) == 2 * PLAN.batch
    killed_after(loaded, path, 5, resume=True)
    same(path, whole, 5 * PLAN.batch)
    made = sample_flow(loaded.flow, loaded.action, **GIVEN, out=path, resume=True)
    assert made.drawn == PLAN.n - 5 * PLAN.batch
    same(path, whole)
    assert made.figures() == whole.figures()
    again = sample_flow(loaded.flow, loaded.action, **GIVEN, out=path, resume=True)
    assert again.drawn == 0  # nothing was left to do
    assert math.isnan(results(again)["draws_per_s"])


def test_a_run_that_was_asked_to_stop_goes_on(loaded: LoadedFlow, whole, tmp_path):
    path, asked = tmp_path / "s.h5", iter([False, True])
    part = sample_flow(
        loaded.flow, loaded.action, **GIVEN, out=path, should_stop=lambda: next(asked)
    )
    assert part.n == 2 * PLAN.batch and RunFile(path).state.status == "interrupted"
    sample_flow(loaded.flow, loaded.action, **GIVEN, out=path, resume=True)
    same(path, whole)


def test_other_settings_another_model_and_other_files_are_refused(loaded, tmp_path):
    path = tmp_path / "s.h5"
    asked = iter([True])
    sample_flow(loaded.flow, loaded.action, **GIVEN, out=path, should_stop=lambda: next(asked))
    with pytest.raises(InputError, match="resume it or record into another file"):
        sample_flow(loaded.flow, loaded.action, **GIVEN, out=path)
    with pytest.raises(InputError, match="seed is 5 there, 6 here"):
        sample_flow(loaded.flow, loaded.action, **{**GIVEN, "seed": 6}, out=path, resume=True)
    with pytest.raises(InputError, match="action"):
        sample_flow(loaded.flow, Phi4Action(-4.0, 6.0), **GIVEN, out=path, resume=True)
    other = checkpoint.load(checkpoint.resolve("phi4_L4")).flow
    with torch.no_grad():
        next(iter(other.parameters())).add_(1e-6)
    with pytest.raises(InputError, match="weights_sha256"):
        sample_flow(other, loaded.action, **GIVEN, out=path, resume=True)
    with pytest.raises(InputError, match="name the run file"):
        sample_flow(loaded.flow, loaded.action, **GIVEN, resume=True)


# ---- on a board ---------------------------------------------------------------------------------


def test_on_a_board_the_file_says_which_and_in_what_state(loaded: LoadedFlow, tmp_path):
    path, plan = tmp_path / "b.h5", DrawPlan(n=300, batch=100, seed=5)
    deploy = DeployPlan(lora_steps=0, calibration_turns=0, read_average=1)
    steps, asked = Steps(Silent()), iter([False, True])
    job = Job(loaded, "phi4_L4", loaded.action, plan, path, should_stop=lambda: next(asked))
    with open_board(EmulatedBoard(preset="ideal", seed=3)) as board:
        made, deployed = job.on_boards([board], deploy, steps)
        assert made.n == 200
        origin = Origin("phi4_L4", fingerprint(loaded.flow), (board,), asdict(deploy))
        rest = replace(job, resume=True, should_stop=None)
        done = rest.draw(deployed.flow, origin, steps)
    assert done.n == 300 and done.drawn == 100
    # after a pause the flow on an array is another one: its chain begins with its first proposal
    assert done.chain.accepted[0] and done.chain.accepted[200]
    run = RunFile(path)
    assert run.header.map_siemens.shape == (32, 32) and run.start() is not None
    assert run.header.plan["deploy"]["lora_steps"] == 0
    clock_s = run.column("board_clock_s")
    assert (np.diff(clock_s[::100]) > 0).all()
    assert run.resumed_at() == [2]
    with pytest.raises(InputError, match="drawn"):
        sample_flow(loaded.flow, loaded.action, 300, 5, 100, out=path, resume=True)


# ---- what was asked -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n": 0}, "n = 0 .* outside 4"),
        ({"n": 3}, "n = 3"),
        ({"n": 10**9}, "outside"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**63}, "seed"),
        ({"batch": 0}, "batch = 0"),
        ({"n": 100.0}, "n = 100.0 is not a whole number"),
        ({"batch": 10.5}, "batch = 10.5 is not a whole number"),
        ({"seed": 1.5}, "seed = 1.5 is not a whole number"),
        ({"batch": 2**21}, "batch"),
    ],
)
def test_plans_that_cannot_run_are_refused(values: dict, message: str):
    with pytest.raises(InputError, match=message):
        DrawPlan(**values)


@pytest.mark.parametrize("processes", [0, -1, 1000])
def test_numbers_of_processes_out_of_range_are_refused(loaded, processes: int):
    with pytest.raises(InputError, match=f"processes = {processes}"):
        sample_flow(loaded.flow, loaded.action, n=100, processes=processes)


def test_a_model_is_of_its_lattice_and_near_its_action(loaded: LoadedFlow):
    check_lattice(loaded, None)
    check_lattice(loaded, (4, 4))
    with pytest.raises(InputError, match="draws 4 x 4 sites, asked 12 x 12"):
        check_lattice(loaded, (12, 12))
    assert target_action(loaded, {}) == loaded.action
    assert target_action(loaded, {"lam": 6.0}) == Phi4Action(-4.0, 6.0)
    with pytest.raises(InputError, match="phi4, which has no g; it has m2, lam"):
        target_action(loaded, {"g": 1.0})
    with pytest.raises(InputError, match="lam = 9 is outside .* trained at 5.5"):
        target_action(loaded, {"lam": 9.0})
    assert target_action(loaded, {"lam": 9.0}, force=True) == Phi4Action(-4.0, 9.0)
    with pytest.raises(InputError, match="lam must be > 0"):
        target_action(loaded, {"lam": -1.0}, force=True)


def test_a_model_may_state_its_range(loaded: LoadedFlow):
    stated = {**loaded.metadata, "extra": {"range": {"lam": [5.4, 5.6]}}}
    narrow = LoadedFlow(loaded.flow, loaded.action, stated)
    assert target_action(narrow, {"lam": 5.6}) == Phi4Action(-4.0, 5.6)
    with pytest.raises(InputError, match=r"outside 5.4..5.6"):
        target_action(narrow, {"lam": 6.0})


# ---- in a notebook, step by step ----------------------------------------------------------------


def test_batches_are_taken_once_and_a_chain_is_of_its_plan(loaded: LoadedFlow):
    plan = sample_lattice.SamplePlan(n=96, batch=64)
    batches = sample_lattice.draw(loaded.flow, loaded.action, plan)
    draws = sample_lattice.collect(batches, plan)
    with pytest.raises(InputError, match="no batch to collect"):
        sample_lattice.collect(batches, plan)
    for n in (64, 128):
        with pytest.raises(InputError, match="over 96 proposals needs as many uniforms"):
            sample_lattice.metropolis(draws, replace(plan, n=n))


def test_a_chain_that_never_moved_has_no_deviation():
    still = sample_lattice.estimate({"E": np.full(8, 0.2)})
    moving = sample_lattice.estimate({"E": np.arange(8.0)})
    (row,) = sample_lattice.table(still, moving, {"E": 0.1})
    assert math.isnan(row["array_sigma"]) and math.isfinite(row["hmc_sigma"])
    (row,) = sample_lattice.table(still, still, None)
    assert math.isnan(row["array_sigma"]) and math.isnan(row["hmc_sigma"])
