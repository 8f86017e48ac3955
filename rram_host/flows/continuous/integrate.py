"""Runge-Kutta integration of several tensors at once."""

from collections.abc import Callable

from torch import Tensor

__all__ = ["State", "rk4"]

State = tuple[Tensor, ...]
Rates = Callable[[int, State], State]


def rk4(rates: Rates, state: State, steps: int, *, backward: bool = False) -> State:
    """Integrate over flow time 0 to 1, or 1 to 0, by the classical fourth-order method.

    Args:
        rates: d state / dt at a time, given as its number of half steps, 0..2 steps, and a state.
        state: where to begin.
        steps: equal steps, >= 1.
        backward: from 1 to 0.

    Returns:
        The state at the end; its error falls as steps^-4.
    """
    sign = -1 if backward else 1
    h = sign / steps
    place = 2 * steps if backward else 0
    for _ in range(steps):
        k1 = rates(place, state)
        k2 = rates(place + sign, _moved(state, k1, h / 2))
        k3 = rates(place + sign, _moved(state, k2, h / 2))
        k4 = rates(place + 2 * sign, _moved(state, k3, h))
        state = tuple(
            x + (h / 6) * (a + 2 * b + 2 * c + d)
            for x, a, b, c, d in zip(state, k1, k2, k3, k4, strict=True)
        )
        place += 2 * sign
    return state


def _moved(state: State, rate: State, step: float) -> State:
    return tuple(x + step * r for x, r in zip(state, rate, strict=True))
