"""The main job at full size: what it must show, as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rram_host import open_board
from rram_host.analog.deploy import weights_of
from rram_host.experiments import sample_lattice as lattice
from rram_host.experiments.deploy_flow import compensate, deploy, program_flow
from rram_host.flows import checkpoint
from rram_host.lattice.samplers import HmcSettings
from sim import EmulatedBoard

PLAN = lattice.SamplePlan(n=32_768, seed=7)


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    loaded = checkpoint.load(checkpoint.resolve("phi4_L4"))
    with open_board(EmulatedBoard(preset="taox_180nm", seed=0)) as board:
        deployments = program_flow([board], loaded, PLAN)
        deployed = deploy(compensate(loaded, deployments, PLAN), deployments, PLAN)
        draws = lattice.collect(lattice.draw(deployed.flow, loaded.action, PLAN), PLAN)
        inputs = np.random.default_rng(0).uniform(-1, 1, (256, 8))
        products = inputs, deployed.engine.multiply("w1", inputs)
    software = lattice.collect(lattice.draw(loaded.flow, loaded.action, PLAN), PLAN)
    return {
        "loaded": loaded,
        "deployment": deployments[0],
        "deployed": deployed,
        "draws": draws,
        "products": products,
        "chain": lattice.metropolis(draws, PLAN),
        "software": lattice.quality(software, lattice.metropolis(software, PLAN)),
    }


def test_all_base_weights_are_on_one_array_at_once(job):
    blocks = job["deployment"].layout.placement.blocks
    weights = {name: p.weight().numel() for name, p in job["loaded"].flow.products().items()}
    assert sum(weights.values()) == sum(b.cells.area for b in blocks) == 768
    assert job["deployment"].report.share_within(1.5e-6) >= 0.99


def test_software_flow_is_as_good_as_promised(job):
    assert job["software"]["ess"] >= 0.95
    assert job["software"]["acceptance"] >= 0.88


def test_the_array_keeps_nine_tenths_of_the_effective_sample_size(job):
    array = lattice.quality(job["draws"], job["chain"])
    assert array["ess"] >= 0.9 * job["software"]["ess"]
    assert job["deployed"].engine.saturated == 0


def test_observables_and_log_z_are_exact_within_three_standard_errors(job):
    values = lattice.series(job["draws"].phi)
    found = lattice.estimate({n: v[job["chain"].indices] for n, v in values.items()})
    exact = lattice.exact_values(job["loaded"].action, (4, 4))
    assert exact is not None
    # Seven correlated numbers of one run at a fixed seed, within 3 standard errors.
    for name, estimate in found.items():
        assert abs(estimate["mean"] - exact[name]) < 3 * estimate["error"], name
        assert estimate["error"] < 0.01 * exact[name]
    quality = lattice.quality(job["draws"], job["chain"])
    assert abs(quality["log_z"] - exact["log Z"]) < 3 * quality["log_z_error"]


def test_the_table_sets_tau_beside_that_of_hmc(job):
    values = lattice.series(job["draws"].phi)
    array = lattice.estimate({n: v[job["chain"].indices] for n, v in values.items()})
    hmc, figures = lattice.hmc_reference(
        job["loaded"].action, (4, 4), HmcSettings(chains=64, kept=300), seed=1
    )
    exact = lattice.exact_values(job["loaded"].action, (4, 4))
    rows = lattice.table(array, hmc, exact)
    assert [row["name"] for row in rows] == list(lattice.OBSERVABLES)
    for row in rows:
        assert row["hmc_tau"][0] > row["array_tau"][0] >= 0.5
        assert abs(row["hmc_sigma"]) < 4
    assert figures["n"] == 64 * 300 and figures["wall_s"] > 0


def test_without_exact_values_the_two_samplers_are_compared_with_each_other():
    found = {"mean": 1.0, "error": 0.3, "tau": 0.5, "tau_error": 0.1}
    other = {"mean": 0.5, "error": 0.4, "tau": 0.5, "tau_error": 0.1}
    (row,) = lattice.table({"x": found}, {"x": other}, None)
    assert row["exact"] is None
    assert row["array_sigma"] == pytest.approx(1.0)
    assert row["hmc_sigma"] == pytest.approx(-1.0)
    assert (
        lattice.exact_values(checkpoint.load(checkpoint.resolve("phi4_L4")).action, (6, 6)) is None
    )


def test_products_of_the_deployed_flow_do_not_depend_on_the_digital_twin(job):
    x, y = job["products"]
    wanted = x @ weights_of([job["deployment"]])["w1"].T
    assert 0 < float((y - wanted).std() / wanted.std()) < 0.05
