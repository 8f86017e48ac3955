"""Slow read noise: 1/f fluctuation and telegraph cells, as factors of the conductances.

What fluctuates faster than a batch of conversions lasts is white noise, drawn in `sim.readout`.
Here is what stands still during a batch and differs between batches:

* 1/f noise: a sum of Ornstein-Uhlenbeck processes, one a decade of correlation time from 1 s to
  1000 s, each with the same variance, which is a 1/f spectrum over these decades;
* telegraph noise: a few cells have a trap that is filled or empty, with a correlation time of its
  own (log-uniform, 10 ms to 1000 s), which lowers their conductance by a log-normal amplitude.

Both laws are exact for any step of time, so how often `advance` is called does not matter. Fresh
Gaussians are those of `sim.readout`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from sim import kernels
from sim.presets import CellPreset

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
_F = TypeVar("_F", bound=Callable[..., object])

FLICKER_TIMES_S = np.array([1.0, 10.0, 100.0, 1000.0])
TELEGRAPH_TIMES_S = (1e-2, 1e3)
_SMALLEST_FACTOR = 0.05
_SHORTEST_S = 1e-3 * float(FLICKER_TIMES_S[0])  # moves the fastest walk by 5 % of its spread


class SlowNoise:
    """Slow read noise of an array of cells.

    Args:
        rows, cols: geometry.
        preset: amplitudes.
        rng: amplitudes are drawn from it now, fluctuations later.

    Attributes:
        factor: conductance now over its value without this noise, (rows, cols).
        version: counts changes of `factor`.
    """

    def __init__(self, rows: int, cols: int, preset: CellPreset, rng: np.random.Generator) -> None:
        p, shape = preset, (rows, cols)
        self._rng, self._now_s = rng, 0.0
        self.version = 0
        self.flicker = p.flicker * np.exp(p.flicker_spread * rng.standard_normal(shape))
        self.telegraph = np.where(
            rng.random(shape) < p.telegraph_share,
            np.minimum(p.telegraph * np.exp(p.telegraph_spread * rng.standard_normal(shape)), 0.9),
            0.0,
        )
        low, high = np.log(TELEGRAPH_TIMES_S)
        self.telegraph_time_s = np.exp(rng.uniform(low, high, shape))
        self.walks = rng.standard_normal((FLICKER_TIMES_S.size, *shape))
        self.filled = rng.random(shape) < 0.5
        self._quiet = not (p.flicker or (p.telegraph and p.telegraph_share))
        self.factor: Array = np.ones(shape)
        self._traps = self.telegraph.nonzero()  # few cells have one; of the others nothing is seen
        self._fresh = np.empty((FLICKER_TIMES_S.size * rows, cols), dtype=np.float32)
        self._refresh()

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """What a state file must hold."""
        kept = ("flicker", "telegraph", "telegraph_time_s", "walks", "filled")
        arrays = {f"noise_{name}": getattr(self, name) for name in kept}
        return {**arrays, "noise_now_s": np.array(self._now_s)}

    def restore(self, state: dict[str, npt.NDArray[np.generic]]) -> None:
        """Take over a saved state, checked by the caller against `state()`."""
        for name in ("flicker", "telegraph", "telegraph_time_s", "walks", "filled"):
            setattr(self, name, np.array(state[f"noise_{name}"]))
        self._now_s = float(state["noise_now_s"])
        self._traps = self.telegraph.nonzero()
        self._refresh()

    def advance(self, now_s: float) -> None:
        """Let the noise go on to `now_s`.

        x(t + dt) = e^(-dt / tau) x(t) + sqrt(1 - e^(-2 dt / tau)) N(0, 1); a trap differs from
        what it was with probability (1 - e^(-2 dt / tau)) / 2.
        """
        passed = now_s - self._now_s
        if self._quiet or passed <= _SHORTEST_S:
            return
        self._now_s = now_s
        kept = np.exp(-passed / FLICKER_TIMES_S)
        seed = np.array([self._rng.bit_generator.random_raw()], dtype=np.uint64)
        kernels.gaussians(kernels.quantiles(), seed, self._fresh)
        _walk(self.walks, self._fresh, kept, np.sqrt(1 - kept**2))
        rows, cols = self._traps
        _flip(self.filled, rows, cols, self.telegraph_time_s, passed, self._rng.random(rows.size))
        self._refresh()

    def _refresh(self) -> None:
        if self._quiet:
            return
        self.factor = np.empty_like(self.flicker)
        _factor(self.walks, self.flicker, self.telegraph, self.filled, self.factor)
        self.version += 1


def _compiled(function: _F) -> _F:
    return cast(_F, njit(cache=True, error_model="numpy")(function))


@_compiled
def _walk(walks: Array, fresh: npt.NDArray[np.float32], kept: Array, gain: Array) -> None:
    rows = walks.shape[1]
    for k in range(walks.shape[0]):
        for r in range(rows):
            for c in range(walks.shape[2]):
                walks[k, r, c] = kept[k] * walks[k, r, c] + gain[k] * fresh[k * rows + r, c]


@_compiled
def _flip(filled: Mask, rows: Rows, cols: Rows, time_s: Array, passed: float, draws: Array) -> None:
    for i in range(rows.size):
        r, c = rows[i], cols[i]
        filled[r, c] ^= draws[i] < -0.5 * np.expm1(-2 * passed / time_s[r, c])


@_compiled
def _factor(walks: Array, flicker: Array, telegraph: Array, filled: Mask, factor: Array) -> None:
    for r in range(factor.shape[0]):
        for c in range(factor.shape[1]):
            total = 0.0
            for k in range(walks.shape[0]):
                total += walks[k, r, c]
            lost = telegraph[r, c] if filled[r, c] else 0.0
            factor[r, c] = max(1.0 + flicker[r, c] * total - lost, _SMALLEST_FACTOR)
