"""What cells have read since their last pulse: means, and how well they are known.

Readings x_1 .. x_n of a cell that is left alone have the mean m_n, and their scatter adds

    (n - 1) / n (x_n - m_{n-1})^2

to the sum of squares of the cell, with one degree of freedom. Read noise belongs to the cell, so
the sum goes on over pulses, while the mean starts anew. As long as there are few readings, a first
guess counts as `_GUESS_READINGS` of them: the standard error is

    se = sqrt((k s_0^2 + sum) / (k + degrees of freedom)) / sqrt(n)

as if readings were independent, which 1/f noise is only in part.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_GUESS_SIEMENS = 0.2e-6
_GUESS_READINGS = 4.0


class Watch:
    """Readings of cells between their pulses; arrays (rows, cols).

    Args:
        shape: (rows, cols).

    Attributes:
        mean: of the readings since the last pulse, siemens; 0 while there are none.
        count: how many these are.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.mean, self.count = np.zeros(shape), np.zeros(shape, dtype=np.int64)
        self._squares, self._freedom = np.zeros(shape), np.zeros(shape, dtype=np.int64)

    @property
    def standard_error(self) -> Array:
        """Of the means, siemens; infinite where there is none."""
        known = _GUESS_READINGS * _GUESS_SIEMENS**2 + self._squares
        variance = known / (_GUESS_READINGS + self._freedom)
        seen = np.maximum(self.count, 1)
        error: Array = np.where(self.count > 0, np.sqrt(variance / seen), np.inf)
        return error

    def see(self, g: Array) -> None:
        """Take in one reading of every cell, siemens."""
        again = self.count > 0
        self.count += 1
        step = g - self.mean
        self._squares += np.where(again, step**2 * (self.count - 1) / self.count, 0.0)
        self._freedom += again
        self.mean += step / self.count

    def forget(self, cells: Mask) -> None:
        """`cells` were pulsed: their means start anew; their scatter stays known."""
        self.mean[cells] = 0.0
        self.count[cells] = 0
