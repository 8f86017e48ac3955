"""rram estimate: three ledgers, of the published model and of a flow."""

import json
import sys

import pytest
from click.testing import CliRunner

from firmware_bridge import board_spec
from rram_host.cli import cli
from rram_host.errors import InputError
from rram_host.experiments.estimate import estimate, flow_workload, in_prefix, workload_of


def test_json_holds_three_ledgers_with_units_and_sources():
    result = CliRunner().invoke(cli, ["estimate", "--json"], catch_exceptions=False)
    values = json.loads(result.stdout)
    assert set(values) == {"workload", "paper", "paper_claims", "corrected", "board"}
    for ledger in ("paper", "corrected", "board"):
        assert all(line["unit"] and line["item"] for line in values[ledger])
    by_ohm = next(line for line in values["paper"] if line["item"] == "array, a MAC by Ohm")
    assert (by_ohm["value"], by_ohm["printed"]) == pytest.approx((20e-15, 2e-15))
    assert len(values["paper_claims"]) == 8


def test_tables_show_a_ratio_beside_its_bound():
    text = CliRunner().invoke(cli, ["estimate"], catch_exceptions=False).stdout
    for expected in ("456 fJ", "17.89 ns", "20 fJ", "16.7", "24.4", "implied", "94.35 µs", "96.03"):
        assert expected in text


def test_a_product_of_this_board_is_what_rram_cost_says():
    found = estimate(workload_of(None), board_spec.load("zc706"))
    assert found.board[0].value == pytest.approx(94.4e-6, abs=0.1e-6)
    vectors = found.work.vectors
    assert found.board[2].value == pytest.approx(vectors * found.board[0].value)


def test_a_flow_is_counted_by_drawing_from_it():
    pytest.importorskip("torch")
    from rram_host.flows.coupling import CouplingFlow
    from rram_host.flows.settings import FlowSettings

    flow = CouplingFlow(FlowSettings(shape=(4, 4), hidden=32, steps=8, lora_rank=1))
    work = flow_workload("small", flow)
    assert work.weights_analog == 768
    assert work.macs_analog == 8 * 768
    assert work.macs_digital == 8 * 3 * (32 + 8)
    assert work.arrays == 1
    assert work.rest > 8 * 2 * 32  # every step makes two pointwise functions of 32 hidden units


def test_an_unknown_flow_and_two_flows_are_refused():
    pytest.importorskip("torch")
    with pytest.raises(InputError, match="no flow 'nothing'"):
        workload_of("nothing")
    result = CliRunner().invoke(cli, ["estimate", "--published", "--model", "phi4_L4"])
    assert isinstance(result.exception, InputError)


def test_quantities_in_readable_prefixes():
    assert [in_prefix(value, "J") for value in (456e-15, 1.0, 9.9996e-4)] == [
        "456 fJ",
        "1 J",
        "1 mJ",
    ]
    assert in_prefix(17.89e-9, "s") == "17.89 ns"


def test_the_published_model_needs_no_torch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert workload_of(None).vectors > 0
