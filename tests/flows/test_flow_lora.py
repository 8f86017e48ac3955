"""Low-rank corrections: changing their rank, counting them, adapting with them."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from rram_host.errors import InputError
from rram_host.flows import checkpoint
from rram_host.flows.adapt import AdaptPlan, adapted, follow, with_errors
from rram_host.flows.checkpoint import LoadedFlow
from rram_host.flows.coupling import CouplingFlow, FlowSettings
from rram_host.flows.lora import attach, digital_parameters, ranks_of, set_rank, set_ranks, shares
from rram_host.flows.product import AdaptedLinear
from rram_host.flows.ship import figures
from rram_host.flows.training import FinetuneSettings, moving
from rram_host.lattice.actions import GrapheneAction, Phi4Action

Make = Callable[..., CouplingFlow]


def _product(rank: int) -> AdaptedLinear:
    product = AdaptedLinear(5, 7, rank).double()
    if product.lora_b is not None:
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(7, rank, generator=generator, dtype=torch.float64)
        product.lora_b.data.copy_(noise)
    return product


@pytest.mark.parametrize(("before", "after"), [(1, 3), (2, 2), (0, 4)])
def test_a_larger_rank_changes_nothing(before: int, after: int) -> None:
    product = _product(before)
    matrix = product.matrix().detach().clone()
    set_rank(product, after)
    assert product.rank == after
    torch.testing.assert_close(product.matrix(), matrix, rtol=0, atol=1e-14)
    assert {n for n, _ in product.named_parameters()} == {"base.weight", "lora_a", "lora_b"}
    assert product.lora_a is not None
    assert product.lora_a.shape == (after, 5)
    assert product.lora_a.dtype == torch.float64


def test_a_smaller_rank_keeps_the_nearest_matrix() -> None:
    product = _product(3)
    base, full = product.weight().detach(), product.matrix().detach().clone()
    left, values, right = torch.linalg.svd(full - base)
    set_rank(product, 1)
    nearest = values[0] * left[:, :1] @ right[:1]
    torch.testing.assert_close(product.matrix() - base, nearest)
    # Eckart and Young: what is lost is the other singular values, and no rank-1 matrix loses less
    lost = torch.linalg.norm(product.matrix() - full)
    assert float(lost.detach()) == pytest.approx(float(values[1:].norm()))


def test_no_rank_leaves_the_base() -> None:
    product = _product(2)
    set_rank(product, 0)
    assert product.matrix() is product.weight()
    assert [n for n, _ in product.named_parameters()] == ["base.weight"]


def test_a_correction_that_was_never_trained_stays_without_effect() -> None:
    flow = CouplingFlow(FlowSettings(lora_rank=3))
    set_ranks(flow, {"w1": 1})
    x = torch.ones(1, 8)
    assert torch.equal(flow.w1(x), flow.w1.base(x))


def test_settings_say_beside_which_products_corrections_are() -> None:
    flow = CouplingFlow(FlowSettings(lora_rank=2, lora_on=("wt",)))
    assert ranks_of(flow) == {"w1": 0, "wt": 2, "ws": 0}
    assert ranks_of(CouplingFlow(FlowSettings())) == {"w1": 1, "wt": 1, "ws": 1}


def test_attaching_and_counting() -> None:
    flow = CouplingFlow(FlowSettings(shape=(6, 6), hidden=18, steps=3))
    attach(flow, 2, ["wt"])
    assert ranks_of(flow) == {"w1": 0, "wt": 2, "ws": 0}
    found = shares(flow)
    assert found.base == 3 * 18 * 18
    assert found.lora == 2 * (18 + 18)
    assert found.lora_share == pytest.approx(72 / (972 + 72))
    # gains 3 x 18 a step, shift and three constants of the map a step, ten classes of momenta
    assert found.digital == 72 + 3 * 3 * 18 + 3 * 4 + 10
    assert sum(p.numel() for p in flow.parameters()) == found.base + found.digital


def test_a_tied_matrix_counts_as_the_cells_it_takes() -> None:
    flow = CouplingFlow(FlowSettings(hidden=16, channels=2, tied=True, lora_rank=0))
    assert shares(flow).base == 3 * 16 * 8
    assert not any(".base." in name for name in digital_parameters(flow))


@pytest.mark.parametrize(
    ("rank", "names", "words"),
    [(1, ["w9"], "w9"), (9, ["w1"], "0..8"), (0, None, "rank >= 1"), (1, [], "none named")],
)
def test_refuses_corrections_that_cannot_be(rank: int, names: list[str], words: str) -> None:
    flow = CouplingFlow(FlowSettings())
    with pytest.raises(InputError, match=words):
        attach(flow, rank, names)
    assert ranks_of(flow) == {"w1": 1, "wt": 1, "ws": 1}


def test_refuses_a_place_without_a_rank() -> None:
    with pytest.raises(InputError, match="not of which rank"):
        AdaptPlan(attach=("w1",))


def test_what_moves_is_what_was_named(flow: CouplingFlow) -> None:
    lora = {n for n, _ in flow.named_parameters() if ".lora_" in n}
    assert set(moving(flow, FinetuneSettings("lora"))) == lora
    some = moving(flow, FinetuneSettings("lora", ("prior", "bends")))
    assert set(some) == lora | {"prior.log_amplitude", "bends"}
    assert set(moving(flow, FinetuneSettings("digital"))) == set(digital_parameters(flow))
    with pytest.raises(InputError, match=r"'priors'.*prior"):
        moving(flow, FinetuneSettings("lora", ("priors",)))


def test_errors_have_the_size_asked_for_and_leave_the_flow_alone(loaded: LoadedFlow) -> None:
    old = copy.deepcopy(loaded.flow.state_dict())
    found = with_errors(loaded.flow, 0.025, 3)
    assert all(torch.equal(old[n], v) for n, v in loaded.flow.state_dict().items())
    products = loaded.flow.products()
    moved = torch.cat(
        [
            ((p.weight() - products[n].weight()) / products[n].weight().abs().max()).flatten()
            for n, p in found.products().items()
        ]
    )
    # 768 draws of N(0, 0.05^2): the error of their standard deviation is 1 / sqrt(2 * 768) = 2.6 %
    assert float(moved.std().detach()) == pytest.approx(0.05, rel=4 * 0.026)
    with pytest.raises(InputError, match="fraction >= 0"):
        with_errors(loaded.flow, -0.1, 0)


def test_errors_untie_a_tied_flow() -> None:
    flow = CouplingFlow(FlowSettings(hidden=16, channels=2, tied=True))
    found = with_errors(flow, 0.01, 0)
    weight = found.products()["w1"].weight().detach()
    assert len(torch.unique(weight)) == weight.numel()  # every weight has an error of its own


@pytest.mark.parametrize(
    "settings",
    [
        FinetuneSettings("lora", ("prior", "bends"), steps=60, batch=256, lr=2e-2, warmup=5),
        FinetuneSettings("digital", steps=40, batch=256, lr=1e-2, warmup=5),
    ],
)
def test_adapts_to_another_coupling_with_the_base_untouched(
    loaded: LoadedFlow, settings: FinetuneSettings
) -> None:
    action = Phi4Action(-4.0, 7.5)  # trained at 5.5
    flow = adapted(loaded.flow, action, AdaptPlan(1, ("wt",), settings))
    for name, product in flow.products().items():
        assert torch.equal(product.weight(), loaded.flow.products()[name].weight())
    before, after = (figures(f, action, 8192)["ess"] for f in (loaded.flow, flow))
    # The same prior draws in both: their ESS differ by much less noise than either has.
    assert after > before + 0.5 * (1 - before)


def test_repeats_from_its_seed(loaded: LoadedFlow) -> None:
    settings = FinetuneSettings("lora", steps=5, batch=32, warmup=0)
    plan = AdaptPlan(2, None, settings)
    one, two, other = (
        adapted(loaded.flow, loaded.action, p).state_dict()
        for p in (plan, plan, replace(plan, finetune=replace(settings, seed=1)))
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_following_a_free_wire_needs_no_training() -> None:
    """At m = 0 the prior is the theory, at any g: ESS 1 but for what training left undone."""
    flow = checkpoint.load(checkpoint.resolve("graphene_L6_g1_m0")).flow
    before, action = GrapheneAction(1.0, 0.0), GrapheneAction(0.5, 0.0)
    assert figures(flow, action, 4096)["ess"] < 0.7
    follow(flow, before, action, 64, 0)
    assert figures(flow, action, 4096)["ess"] > 0.99


@pytest.fixture(scope="module")
def wire() -> LoadedFlow:
    return checkpoint.load(checkpoint.resolve("graphene_L6_g1_m0.2"))


def test_following_never_raises_the_free_energy(wire: LoadedFlow) -> None:
    z = wire.flow.draw(256, torch.Generator().manual_seed(3))
    for action in (GrapheneAction(0.5, 0.2), GrapheneAction(1.0, 0.4), wire.action):
        flow = copy.deepcopy(wire.flow)
        follow(flow, wire.action, action, 256, 3)
        free_energy = []
        with torch.no_grad():
            for one in (wire.flow, flow):
                phi, log_q = one.push(z)
                free_energy.append(float((log_q + action(phi)).mean()))
        assert free_energy[1] <= free_energy[0]


def test_only_a_prior_that_may_move_follows(wire: LoadedFlow) -> None:
    action, name = GrapheneAction(0.5, 0.2), "prior.log_amplitude"
    for settings, moves in (
        (FinetuneSettings("lora", steps=1), False),
        (FinetuneSettings("lora", ("prior",), steps=1), True),
        (FinetuneSettings(steps=1), True),
    ):
        plan = AdaptPlan(1, None, settings)
        led = adapted(wire.flow, action, plan, trained_for=wire.action)
        left = adapted(wire.flow, action, plan)
        same = torch.equal(led.state_dict()[name], left.state_dict()[name])
        assert same != moves


def test_a_theory_without_a_free_part_is_not_followed(loaded: LoadedFlow) -> None:
    flow = copy.deepcopy(loaded.flow)
    follow(flow, loaded.action, Phi4Action(-4.0, 8.0), 64, 0)
    was = loaded.flow.state_dict()
    assert all(torch.equal(value, was[name]) for name, value in flow.state_dict().items())
