"""How cells respond to pulses, learnt cell by cell from every pulse.

    SET:    G = slope (V_WL - offset)             RESET:  G = top - slope_r (V - V_0 - shift)

Slopes are the board file's. `offset` and `V_0` belong to the cell; `shift` to one cycle: every SET
draws that of the RESETs which follow it. All are learnt, with their covariance P, by a Kalman
filter: a pulse that moved a cell shows their sum x with the variance of where pulses land,

    R = (floor^2 + (share dG)^2) / slope^2,        x += P / (P + R) (seen - x).

So the first pulses, of which nothing was known, teach nearly all that they show, and later ones, of
a well-known cell, hardly anything: their noise would only be repeated. A pulse that did nothing
shows that its end lay short of where the cell already was: x is pushed on to there, and farther
the less is known of it.

A RESET is the less certain of the two, and a SET can make up for one that went too far, so RESETs
aim below their target by part of what is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import PulseDefaults
from rram_host.errors import InputError

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Landing:
    """How well pulses are known beforehand: standard deviations.

    Attributes:
        offset_v: of offsets and of V_0, from cell to cell.
        reset_cycle_v: of the voltage of RESET, from cycle to cycle.
        floor_siemens: of where pulses end, whatever the move.
        share: the same, relative to the move.
        moved_siemens: a smaller move may be noise of the reads alone.
        least_push_v: how much stronger the next pulse is, at least, where one did nothing.
        reset_margin: RESETs aim so many standard deviations below their target.
    """

    offset_v: float = 0.05
    reset_cycle_v: float = 0.03
    floor_siemens: float = 0.5e-6
    share: float = 0.07
    moved_siemens: float = 0.3e-6
    least_push_v: float = 0.002
    reset_margin: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what no filter can work with.

        Raises:
            InputError: names the value.
        """
        for name in ("offset_v", "floor_siemens", "moved_siemens", "least_push_v"):
            if not 0 < getattr(self, name) < np.inf:
                raise InputError(f"{name} = {getattr(self, name)} must be above 0 and finite")
        for name in ("reset_cycle_v", "share", "reset_margin"):
            if not 0 <= getattr(self, name) < np.inf:
                raise InputError(f"{name} = {getattr(self, name)} must be at least 0 and finite")


_PUSH = 0.7  # of the standard deviation of an offset
_WIDER = 2.0  # and the variance grows so after a pulse that did nothing: pushes grow
_MOST_VARIANCE = 1.0  # V^2
_WANDER_V = 1e-3  # of an offset from pulse to pulse; a law with a wrong slope shows as such


class _Offsets:
    """Offsets of one of the two laws, (rows, cols): mean m, shift s, and their covariance."""

    def __init__(
        self, start_v: float, cycle_v: float, shape: tuple[int, ...], slope: float, know: Landing
    ) -> None:
        self._mean, self._shift = np.full(shape, start_v), np.zeros(shape)
        self._mm, self._ms = np.full(shape, know.offset_v**2), np.zeros(shape)
        self._ss = np.full(shape, cycle_v**2)
        self._cycle_v, self._slope, self._know = cycle_v, slope, know

    @property
    def volts(self) -> Array:
        """What is expected now."""
        return self._mean + self._shift

    @property
    def sigma_v(self) -> Array:
        """Its standard deviation."""
        deviation: Array = np.sqrt(self._mm + 2 * self._ms + self._ss)
        return deviation

    def new_cycle(self, cells: Mask) -> None:
        """The shift of `cells` has been drawn anew."""
        if self._cycle_v:
            for value, fresh in ((self._shift, 0.0), (self._ms, 0.0), (self._ss, self._cycle_v**2)):
                value[cells] = fresh

    def learn(self, cells: Mask, seen_v: Array, bound_v: Array, move: Array) -> None:
        """Take in pulses.

        Args:
            cells: which got one.
            seen_v: offset that would have ended the pulse where it ended.
            bound_v: offset that would have ended it where it began.
            move: how far the cell went in the direction of the pulse, siemens.
        """
        know, mm = self._know, self._mm + _WANDER_V**2
        total = mm + 2 * self._ms + self._ss
        noise = (know.floor_siemens**2 + (know.share * move) ** 2) / self._slope**2
        to_mean, to_shift = mm + self._ms, self._ms + self._ss
        moved = move > know.moved_siemens
        push = np.maximum(_PUSH * np.sqrt(total), know.least_push_v)
        short = np.maximum(bound_v - self.volts, 0.0) + push
        # what is learnt, or pushed, is shared as the two are uncertain
        step = np.where(moved, (seen_v - self.volts) / (total + noise), short / total)
        gain = 1.0 / (total + noise)
        wider = np.where(total < _MOST_VARIANCE, _WIDER, 1.0)
        self._put(cells, "_mean", self._mean + to_mean * step)
        self._put(cells, "_shift", self._shift + to_shift * step)
        self._put(cells, "_mm", np.where(moved, mm - gain * to_mean**2, wider * mm))
        self._put(cells, "_ss", np.where(moved, self._ss - gain * to_shift**2, wider * self._ss))
        both = gain * to_mean * to_shift
        self._put(cells, "_ms", np.where(moved, self._ms - both, wider * self._ms))

    def _put(self, cells: Mask, name: str, value: Array) -> None:
        setattr(self, name, np.where(cells, value, getattr(self, name)))


class ResponseModel:
    """What is known of each cell's response; arrays (rows, cols).

    Args:
        pulses: first guesses.
        shape: (rows, cols).
        know: how good they are.
    """

    def __init__(self, pulses: PulseDefaults, shape: tuple[int, ...], know: Landing) -> None:
        p = self._p = pulses
        self._margin = know.reset_margin
        self._set = _Offsets(p.set_wl_offset_v, 0.0, shape, p.set_wl_slope_siemens_per_v, know)
        self._reset = _Offsets(
            p.reset_start_v, know.reset_cycle_v, shape, p.reset_slope_siemens_per_v, know
        )

    def set_wl_v(self, target: Array) -> Array:
        """Gate voltage whose SET should end at the target."""
        volts: Array = self._set.volts + target / self._p.set_wl_slope_siemens_per_v
        return volts

    def reset_v(self, target: Array) -> Array:
        """RESET voltage that should end just below the target, as far as the board file tries."""
        p = self._p
        above_v = (p.reset_top_siemens - target) / p.reset_slope_siemens_per_v
        wanted: Array = self._reset.volts + above_v + self._margin * self._reset.sigma_v
        return np.minimum(np.maximum(wanted, p.reset_start_v), p.reset_stop_v)

    def learn_set(self, cells: Mask, wl_v: Array, before: Array, after: Array) -> None:
        """Take in what SET pulses did to `cells`: from `before` to `after`, siemens."""
        slope = self._p.set_wl_slope_siemens_per_v
        self._set.learn(cells, wl_v - after / slope, wl_v - before / slope, after - before)
        self._reset.new_cycle(cells)

    def learn_reset(self, cells: Mask, reset_v: Array, before: Array, after: Array) -> None:
        """Take in what RESET pulses did to `cells`: from `before` to `after`, siemens."""
        top, slope = self._p.reset_top_siemens, self._p.reset_slope_siemens_per_v
        seen, bound = (reset_v - (top - g) / slope for g in (after, before))
        self._reset.learn(cells, seen, bound, before - after)
