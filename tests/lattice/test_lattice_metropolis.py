"""Independence Metropolis on targets small enough to know."""

import math
import time

import numpy as np
import pytest

from rram_host.errors import InputError
from rram_host.lattice.metropolis import Chain, accept, independence_chain

_P = np.array([0.5, 0.3, 0.15, 0.05])
_Q = np.array([0.1, 0.2, 0.3, 0.4])


def _chain(n: int, seed: int) -> tuple[np.ndarray, Chain]:
    rng = np.random.default_rng(seed)
    states = rng.choice(4, size=n, p=_Q)
    chain = independence_chain(np.log(_P / _Q)[states], rng)
    return states[chain.indices], chain


def test_transitions_obey_detailed_balance_and_the_acceptance_rule() -> None:
    n = 400_000
    held, _ = _chain(n, 0)
    flow = np.zeros((4, 4))
    np.add.at(flow, (held[:-1], held[1:]), 1.0 / (n - 1))
    ratio = (_P / _Q)[None, :] / (_P / _Q)[:, None]
    expected = _P[:, None] * _Q[None, :] * np.minimum(1.0, ratio)
    off = ~np.eye(4, dtype=bool)
    # Counts of a transition are correlated in time; twice the Poisson error covers that, and 4 of
    # those cover 12 entries compared at once.
    error = 2 * np.sqrt(expected[off] / n)
    assert (np.abs(flow[off] - expected[off]) < 4 * error).all()
    assert (np.abs(flow - flow.T)[off] < 4 * np.sqrt(2) * error).all()


def test_stationary_distribution_is_the_target() -> None:
    n = 400_000
    held, _ = _chain(n, 1)
    share = np.bincount(held, minlength=4) / n
    # tau of this chain is about 5 (largest w is 5), so the error is sqrt(10 p / n); 4 of them.
    assert (np.abs(share - _P) < 4 * np.sqrt(10 * _P / n)).all()


def test_equal_weights_accept_everything() -> None:
    chain = independence_chain(np.zeros(1000), np.random.default_rng(2))
    assert chain.acceptance == 1.0
    assert chain.longest_rejection == 0
    assert (chain.indices == np.arange(1000)).all()


def test_a_forbidden_proposal_is_never_taken() -> None:
    log_w = np.array([0.0, -math.inf, 0.0, -math.inf, -math.inf])
    chain = independence_chain(log_w, np.random.default_rng(3))
    assert chain.indices.tolist() == [0, 0, 2, 2, 2]
    assert chain.longest_rejection == 2
    assert chain.acceptance == 0.25


def _slow(log_w: np.ndarray, uniforms: np.ndarray) -> list[bool]:
    """The definition, word for word: j replaces i with probability min(1, w_j / w_i)."""
    held, taken = None, []
    for weight, uniform in zip(log_w, uniforms, strict=True):
        ratio = 1.0 if held is None else min(1.0, math.exp(min(0.0, weight - held)))
        taken.append(1.0 - uniform <= ratio)
        held = weight if taken[-1] else held
    return taken


@pytest.mark.parametrize("spread", [0.0, 0.3, 2.0, 8.0])
def test_the_chain_is_that_of_the_plain_definition(spread: float) -> None:
    rng = np.random.default_rng(10)
    log_w, uniforms = spread * rng.standard_normal(20_000) - 300.0, rng.random(20_000)
    log_w[100:110] = -math.inf
    flags, held = accept(log_w, uniforms)
    assert flags.tolist() == _slow(log_w, uniforms)
    assert held == log_w[Chain.of(flags).indices[-1]]


def test_a_chain_in_pieces_is_the_chain_in_one_piece() -> None:
    rng = np.random.default_rng(11)
    log_w, uniforms = 2.0 * rng.standard_normal(5000), rng.random(5000)
    whole, last = accept(log_w, uniforms)
    pieces, held = [], -math.inf
    for part in np.split(np.arange(5000), [1, 17, 1000, 1001, 4999]):
        flags, held = accept(log_w[part], uniforms[part], held)
        pieces.append(flags)
    assert (np.concatenate(pieces) == whole).all()
    assert held == last


def test_a_piece_may_hold_forbidden_proposals_only() -> None:
    flags, held = accept([-math.inf, -math.inf], [0.1, 0.2], held=1.5)
    assert not flags.any()
    assert held == 1.5


def test_a_single_proposal_has_no_acceptance() -> None:
    assert math.isnan(independence_chain([0.0], np.random.default_rng(4)).acceptance)


def test_constants_do_not_matter() -> None:
    log_w = np.random.default_rng(5).standard_normal(500)
    one = independence_chain(log_w, np.random.default_rng(6))
    two = independence_chain(log_w + 1000.0, np.random.default_rng(6))
    assert (one.indices == two.indices).all()


def test_thirty_two_thousand_proposals_are_quick() -> None:
    log_w = np.random.default_rng(7).standard_normal(32_768)
    begin = time.perf_counter()
    independence_chain(log_w, np.random.default_rng(8))
    assert time.perf_counter() - begin < 1.0  # about 5 ms; a loaded machine gets its margin


@pytest.mark.parametrize("log_w", [[], [[0.0]], [0.0, math.nan], [0.0, math.inf], [-math.inf, 0.0]])
def test_refuses_weights_no_chain_can_use(log_w: list[float]) -> None:
    with pytest.raises(InputError, match="a chain needs"):
        independence_chain(log_w, np.random.default_rng(9))


@pytest.mark.parametrize(
    "uniforms", [0.3, [0.3], [0.1, 0.2], [[0.1], [0.2], [0.3]], [0.1, 0.2, 1.0], [0.1, -0.1, 0.2]]
)
def test_refuses_uniforms_that_are_not_one_a_proposal(uniforms: object) -> None:
    with pytest.raises(InputError, match="over 3 proposals needs as many uniforms"):
        accept([0.0, -1.0, 1.0], uniforms)  # type: ignore[arg-type]


@pytest.mark.parametrize("held", [math.nan, math.inf])
def test_refuses_to_go_on_from_no_weight(held: float) -> None:
    with pytest.raises(InputError, match="neither NaN nor"):
        accept([0.0, 1.0], [0.1, 0.2], held)
