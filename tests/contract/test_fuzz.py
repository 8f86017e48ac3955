"""Bytes from outside, valid, mutated and arbitrary: refused or taken, and nothing else.

bench_scripts/fuzz_bridge.py does the same with a million inputs, guided by coverage where atheris
is installed.
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz_targets import TARGETS, mutated, run

SLOW = {"board": 10, "board_text": 10}  # some ms each


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_valid_is_taken(name):
    target, seeds = TARGETS[name]
    for data in seeds:
        target(data)


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_input_is_refused_or_taken(name):
    rng = random.Random(1)
    for _ in range(1000 // SLOW.get(name, 1)):
        run(name, mutated(rng, TARGETS[name][1]))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=max(30, settings().max_examples // 2))
@given(data=st.binary(max_size=400))
def test_arbitrary_input_is_refused_or_taken(name, data):
    run(name, data)
