"""Shares: counted from what a flow does, equal to what one counts by hand."""

from __future__ import annotations

import pytest
import torch

from rram_host.analog.shares import product_counts, shares
from rram_host.flows.coupling import CouplingFlow, FlowSettings
from rram_host.flows.mixer import MixerFlow, MixerSettings


def test_a_coupling_flow_is_counted_as_by_hand():
    flow = CouplingFlow(FlowSettings(shape=(6, 6), hidden=18, steps=8, lora_rank=1))
    found = shares(flow)
    assert [(p.name, p.outputs, p.inputs, p.calls, p.rank) for p in found.products] == [
        ("w1", 18, 18, 8, 1),
        ("wt", 18, 18, 8, 1),
        ("ws", 18, 18, 8, 1),
    ]
    assert found.weights_analog == 972 and found.weights_lora == 3 * 36
    assert found.macs_analog == 8 * 972 and found.macs_lora == 8 * 108
    assert found.weight_share == pytest.approx(972 / 1080)
    every = sum(p.numel() for p in flow.parameters())
    assert found.weights_other == every - 972 - 108
    # Two real transforms of 36 numbers: 5/4 V log2 V each.
    assert found.macs_other == pytest.approx(2 * 1.25 * 36 * 5.169925)
    # Of each step, on 18 units or sites: the scale of u and its sum with the correction, tanh and
    # its square, and more; a lower bound, and an upper one that copies would break.
    assert 8 * 18 * 10 < found.operations < 8 * 18 * 40
    assert 0 < found.full_operation_share < found.mac_share


def _published():
    """The published architecture, and a run of it over all sites, as its own code does."""
    flow = MixerFlow(MixerSettings())

    def run(n: int) -> None:
        for step in range(flow.settings.steps):
            flow.net(step, torch.zeros(flow.settings.volume // 2, n), all_sites=True)

    return flow, run


def test_the_paper_s_weight_share_is_reproduced_and_its_mac_share_is_not():
    flow, run = _published()
    found = shares(flow, run)
    assert found.weights_analog == 43_360 and found.weights_lora == 1_792
    assert round(100 * found.weight_share, 1) == 96.0  # as printed
    # Printed: 98.9 %. One product at a time, 23 951 360 and 819 200 multiply-accumulates.
    assert (found.macs_analog, found.macs_lora) == (23_951_360, 819_200)
    assert round(100 * found.mac_share, 1) == 96.7
    # Evaluated at active sites alone, as our own code does, the regression is half of that.
    ours = shares(flow)
    assert found.macs_analog - ours.macs_analog == 20 * 72 * (64 * 32 + 32 * 32 + 32 * 2)
    assert round(100 * ours.mac_share, 1) == 96.0


def test_counts_leave_the_flow_as_it_was():
    flow = CouplingFlow(FlowSettings())
    hooks = [len(p.base._forward_hooks) for p in flow.products().values()]
    assert product_counts(flow) == shares(flow).products
    assert hooks == [len(p.base._forward_hooks) for p in flow.products().values()] == [0, 0, 0]


def test_the_table_by_layer_adds_up():
    found = shares(_published()[0])
    rows = found.rows()
    assert sum(row["macs"] for row in rows) == found.macs_analog
    assert sum(row["lora_weights"] for row in rows) == found.values()["weights_lora"]
