"""Profiles of the random tests: HYPOTHESIS_PROFILE=nightly looks harder than the default, ci."""

import os

from hypothesis import Phase, settings

# Examples may take as long as they need: the wall time of a busy machine is no law of the board.
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("nightly", deadline=None, max_examples=1000, print_blob=True)
# A first counterexample fast, and not the smallest.
settings.register_profile(
    "first", deadline=None, max_examples=400, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
