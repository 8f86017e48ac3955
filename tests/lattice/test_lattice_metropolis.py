"""Independence Metropolis on targets small enough to know."""

import math
import time

import numpy as np
import pytest

from rram_host.errors import InputError
from rram_host.lattice.metropolis import Chain, independence_chain

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
