"""What tests of `rram train` and `rram finetune` share."""

from __future__ import annotations

from collections.abc import Callable

Rram = Callable[..., tuple[int, str, str]]


def tiny_recipe(steps: int) -> str:
    """A recipe's file: a flow of 4 x 4 that trains in a moment."""
    return f"""kind = "anf"
[flow]
shape = [4, 4]
hidden = 6
steps = 2
[action]
name = "phi4"
m2 = -4.0
lam = 5.5
[train]
steps = {steps}
batch = 16
warmup = 1
log_every = 2
"""
