"""From readings to resistances of lines: the two fits of a calibration, without a board.

`bit_lines` compares cells read with their own row alone and with all rows open. `source_lines`
compares two gate voltages: the lower one adds the same resistance to every cell of a row, so
1/g' - 1/g must depend neither on g nor on the column.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rram_host.array.compensation import (
    LineResistances,
    conductances,
    effective,
    exactly_effective,
)

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

CONDUCTING = 5e-6  # cells below this tell nothing about lines, in siemens
# Weights of cells in `source_lines`: what mismatch of transistors adds, and the relative error of
# an averaged read.
MISMATCH_OHM, READ_ERROR = 4.0, 1.5e-4


def bit_lines(
    together: Array, alone: Array, beside: Array, row_ohm: Array, seen: Mask
) -> tuple[float, float]:
    """Lead and segment of bit lines, in ohm: least squares of ln(alone / beside).

    Args:
        together: T with all rows open, (rows, cols), siemens.
        alone: T of rows open one at a time, read in turn with
        beside: T of all rows.
        row_ohm: first guess of the rows' resistances, (rows,).
        seen: rows that count, (rows,).
    """
    use = (beside > CONDUCTING) & (alone > CONDUCTING) & seen[:, None]
    wanted = np.log(np.where(use, alone / np.where(use, beside, 1.0), 1.0))
    lead = segment = 0.0
    for _ in range(3):
        lines = LineResistances(row_ohm, lead, segment)
        g = conductances(together, lines, exact=True)
        now = _drop_by_others(g, lines)
        patterns = []
        for extra in ((1.0, 0.0), (0.0, 1.0)):
            more = LineResistances(row_ohm, lead + extra[0], segment + extra[1])
            patterns.append((_drop_by_others(g, more) - now)[use])
        step, *_ = np.linalg.lstsq(np.array(patterns).T, (wanted - now)[use], rcond=None)
        lead, segment = lead + float(step[0]), segment + float(step[1])
    return max(lead, 0.0), max(segment, 0.0)


def _drop_by_others(g: Array, lines: LineResistances) -> Array:
    """ln(T of a row alone / T with all rows open), (rows, cols)."""
    all_open = exactly_effective(g, lines)
    alone = np.zeros_like(g)
    for row in range(len(g)):
        one = np.zeros_like(g)
        one[row] = g[row]
        alone[row] = effective(one, lines)[row]
    result: Array = np.log(np.maximum(alone, 1e-12) / np.maximum(all_open, 1e-12))
    return result


@dataclass(frozen=True)
class RowResistances:
    """Resistance of every row with its standard error, (rows,), and the source-line segment."""

    row_ohm: Array
    error_ohm: Array
    segment_ohm: float


def source_lines(halves: list[list[Array]], lines: LineResistances, seen: Mask) -> RowResistances:
    """Gauss-Newton on the scatter of 1/g' - 1/g within rows.

    What a reading's noise does to `1/g' - 1/g` it also does to how that depends on the
    resistances, which would bias them by about an ohm; so two halves of the readings take turns
    as data and as instrument (instrumental variables).

    Args:
        halves: two of [T at the high gate, T at the low gate], (rows, cols), siemens.
        lines: bit lines, and a first guess of the rows.
        seen: rows that count, (rows,); the others get the mean of these.
    """
    use = np.all([t > CONDUCTING for half in halves for t in half], axis=0) & seen[:, None]
    together = np.mean([half[0] for half in halves], axis=0)
    weight = 1 / (MISMATCH_OHM**2 + (READ_ERROR / np.maximum(together, CONDUCTING)) ** 2)
    weight = np.where(use, weight, 0.0)
    row_ohm, segment = lines.row_ohm.copy(), 0.0
    for _ in range(4):
        guess = LineResistances(row_ohm, lines.bl_lead_ohm, lines.bl_segment_ohm, segment)
        moved = [_sensitivity(half, guess, weight) for half in halves]
        step, covariance = _fit_rows(moved, use)
        row_ohm, segment = row_ohm + step[:-1], segment + float(step[-1])
    return _shrunk(row_ohm, covariance, seen, max(segment, 0.0))


def _shrunk(row_ohm: Array, covariance: Array, seen: Mask, segment_ohm: float) -> RowResistances:
    """Rows drawn towards their mean as far as their spread is noise (empirical Bayes)."""
    n = int(seen.sum())
    covariance = covariance[np.ix_(seen, seen)]
    # what all rows have in common (the segment's error above all) and what each has of its own
    found, mean, common = row_ohm[seen], float(row_ohm[seen].mean()), float(covariance.mean())
    own = np.diag(covariance) - 2 * covariance.mean(1) + common
    # a spread below its own standard error cannot be told from that
    least = np.sqrt(2 / (n - 1)) * float(own.mean())
    spread = max(float(found.var(ddof=1) - own.mean()), least)
    weight = spread / (spread + own)
    best = np.full(len(row_ohm), mean)
    best[seen] = mean + weight * (found - mean)
    error = np.full(len(row_ohm), np.sqrt(spread + common))
    error[seen] = np.sqrt(np.maximum(weight * own + common, 0.0))
    return RowResistances(np.maximum(best, 0.0), error, segment_ohm)


def _sensitivity(half: list[Array], guess: LineResistances, weight: Array) -> tuple[Array, Array]:
    """What the lower gate adds to every cell, and its derivatives by row_ohm and segment.

    Both are centred within rows and weighted: (cells,) and (cells, rows + 1). A cell of small
    conductance shows its transistor's resistance less well, because errors of 1/g grow as 1/g;
    mismatch of transistors is the same for all.
    """

    def added(more_row_ohm: float = 0.0, more_segment_ohm: float = 0.0) -> Array:
        lines = replace(
            guess,
            row_ohm=guess.row_ohm + more_row_ohm,
            sl_segment_ohm=guess.sl_segment_ohm + more_segment_ohm,
        )
        high, low = (np.maximum(conductances(t, lines, exact=True), 1e-9) for t in half)
        difference: Array = 1 / low - 1 / high
        return difference

    def flat(values: Array) -> Array:
        total = np.maximum(weight.sum(1, keepdims=True), 1e-300)  # 0 for rows not seen
        mean = (values * weight).sum(1, keepdims=True) / total
        centred: Array = (values - mean) * np.sqrt(weight)
        return centred

    now = added()
    rows, cols = now.shape
    design = np.zeros((rows, cols, rows + 1))
    design[np.arange(rows), :, np.arange(rows)] = flat(added(more_row_ohm=1.0) - now)
    design[:, :, rows] = flat((added(more_segment_ohm=0.1) - now) / 0.1)
    return flat(-now).ravel(), design.reshape(rows * cols, rows + 1)


def _fit_rows(halves: list[tuple[Array, Array]], use: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
    """Steps that make the targets flat, and their covariance without the last one's.

    (Z^T X) step = Z^T y, each half (y, X) with the X of the other as its instrument Z; the mean of
    both. Noise of readings is a half's own, mismatch of transistors is the same in both: so the
    residues are averaged before they are squared.
    """
    steps, left, information = [], [], []
    for (target, design), (_, instrument) in (halves, halves[::-1]):
        cross = instrument.T @ design
        idle = np.diag(cross) == 0.0  # rows that are not seen stay where they are
        cross[idle, idle] = 1.0
        steps.append(np.linalg.solve(cross, instrument.T @ target))
        left.append(target - design @ steps[-1])
        information.append((cross + cross.T) / 2)
    residue = np.mean(left, axis=0)
    rows = int(use.any(1).sum())  # each has a mean and a resistance, all of them a segment
    variance = float(residue @ residue) / max(1, int(use.sum()) - 2 * rows - 1)
    covariance = np.linalg.inv(np.mean(information, axis=0)) * variance
    return np.mean(steps, axis=0), covariance[:-1, :-1]
