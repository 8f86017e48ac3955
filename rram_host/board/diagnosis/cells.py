"""Cells: shorted, not formed, not switching; and columns against a map of what they held."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from firmware_bridge.readout import PRISTINE_SIEMENS
from rram_host.board.diagnosis.findings import Log, listed
from rram_host.board.diagnosis.probe import COARSE, Array, Mask, Probe, Setting
from rram_host.units import microsiemens

_MOVE_SIEMENS = 10e-6  # a SET after a RESET moves a good cell by 50 uS and more
_FAR_SIEMENS = 5e-6  # rms between a column and another one's map, far above programming errors
_SCALE = 1.25  # largest error of all references together that still leaves a map readable
_RESET_TO, _SET_TO = 25e-6, 85e-6
_READS = 4


class Switching(Protocol):
    """What moves cells: the crossbar."""

    def read(self, average: int = 4) -> Array:
        """Conductances, (rows, cols)."""
        ...

    def set_cells(self, cells: Mask, wl_v: Array, bl_v: float | None = None) -> Array:
        """One SET pulse on each cell of a mask, then a read."""
        ...

    def reset_cells(self, cells: Mask, reset_v: Array) -> Array:
        """One RESET pulse on each cell of a mask, then a read."""
        ...


def measure_cells(probe: Probe, good: Mask) -> Array:
    """Conductance of every cell with its gate fully on, before compensation, (rows, cols).

    Args:
        probe: a board whose bit lines all follow their DACs.
        good: rows whose switches and gates are right; the others stay open and closed.
    """
    spec = probe.spec
    step = np.eye(spec.cols) * spec.read_voltage_v
    inputs = np.where(good, spec.sl_tia, spec.sl_float)
    gates = np.where(good, spec.wl_read_v, 0.0)
    setting = Setting(inputs, gates, probe.around_bias(np.concatenate([step, -step])))
    amperes = probe.currents_a([setting], COARSE, _READS)[0]
    plus, minus = amperes[: spec.cols], amperes[spec.cols :]
    siemens: Array = (plus - minus).T / (2 * spec.read_voltage_v)
    return siemens


def compensated(probe: Probe, siemens: Array) -> Array:
    """Freed of the resistance of the rows' switches: g = G / (1 - R_on sum G)."""
    sums = np.maximum(siemens.sum(1), 0.0)
    freed: Array = siemens / (1 - probe.spec.mux_r_on_ohm * sums)[:, None]
    return freed


def check_cells(probe: Probe, log: Log, siemens: Array, good: Mask) -> tuple[Mask, Mask]:
    """Shorted cells, and cells that are not formed in an array that is.

    Args:
        probe: the board.
        log: where to.
        siemens: conductances, (rows, cols).
        good: rows that were measured, (rows,).

    Returns:
        Cells that are shorted, and cells that are formed, both (rows, cols).
    """
    limit = probe.spec.shorted_siemens
    shorted = good[:, None] & (siemens > limit)
    pristine = good[:, None] & (siemens < PRISTINE_SIEMENS)
    live = siemens[good]
    low, high = microsiemens(float(live.min())), microsiemens(float(live.max()))
    log.check("cells", f"{live.size} read, {low} to {high}")
    for row, col in np.argwhere(shorted).tolist():
        log.find(
            "shorted_cell",
            (row, col),
            f"cell row {row}, column {col}: {microsiemens(float(siemens[row, col]))}, the window "
            f"ends at {microsiemens(probe.spec.conductance_max_siemens)}: shorted. Map no weight "
            "there",
        )
    _name_pristine(log, pristine, int(good.sum()) * probe.spec.cols)
    return shorted, good[:, None] & ~pristine


def _name_pristine(log: Log, pristine: Mask, cells: int) -> None:
    found = np.argwhere(pristine).tolist()
    if len(found) > cells // 20:
        log.skip(f"{len(found)} cells below 1 µS: not formed, as it seems; form them, then test")
        return
    for row, col in found:
        log.find(
            "stuck_low",
            (row, col),
            f"cell row {row}, column {col}: below 1 µS while the array is formed: not formed, or "
            "stuck open. Try to form it; map no weight there if that fails",
        )


def check_order(probe: Probe, log: Log, siemens: Array, good: Mask, reference: Array) -> None:
    """Columns against a map of the chip: exchanged ones carry each other's conductances."""
    spec = probe.spec
    known = np.where(good[:, None], reference, np.nan)
    told = np.isfinite(known)
    distance = np.full((spec.cols, spec.cols), np.inf)
    for of_map in range(spec.cols):
        rows = told[:, of_map]
        if rows.any():
            wanted = known[rows, of_map][:, None]
            # a wrong reference scales all of a column alike
            scale = np.median(siemens[rows] / np.maximum(wanted, PRISTINE_SIEMENS), axis=0)
            gap = siemens[rows] - wanted * np.clip(scale, 1 / _SCALE, _SCALE)
            distance[:, of_map] = np.sqrt(np.median(gap**2, axis=0))
    best = distance.argmin(1)
    own = distance.diagonal()
    moved = np.isfinite(own) & (own > _FAR_SIEMENS) & (distance.min(1) < own / 2)
    same = np.isfinite(own) & (own <= _FAR_SIEMENS)
    log.check("BL order", f"{int(same.sum())} of {spec.cols} hold what the map says")
    for column in np.flatnonzero(moved).tolist():
        other = int(best[column])
        if best[other] != column or not moved[other] or other < column:
            continue
        pair = tuple(sorted((spec.bl_channel[column], spec.bl_channel[other])))
        log.find(
            "swapped_dac",
            pair,
            f"DAC channels {listed(pair)} are exchanged: BL{column} carries what the map has for "
            f"BL{other} and the other way round. Cross the wires back (or the map is of another "
            "chip)",
        )
    unknown = np.isfinite(own) & (own > _FAR_SIEMENS) & ~moved
    if unknown.any():
        log.skip(
            f"order of columns {listed(np.flatnonzero(unknown))}: they hold neither their own map "
            "nor another column's"
            + ("; is the map of this chip?" if unknown.sum() > spec.cols // 2 else "")
        )


def check_switching(probe: Probe, log: Log, array: Switching, cells: Mask) -> None:
    """RESET, then SET every cell; what moves in neither direction is stuck.

    A second, stronger pulse each goes to cells that have not moved.

    Args:
        probe: the board.
        log: where to.
        array: what gives pulses.
        cells: formed cells that are not shorted, (rows, cols).
    """
    p = probe.spec.pulses
    before = array.read(2)
    reset_v = p.reset_start_v + (p.reset_top_siemens - _RESET_TO) / p.reset_slope_siemens_per_v
    set_v = p.set_wl_offset_v + _SET_TO / p.set_wl_slope_siemens_per_v
    still = cells.copy()
    for reset, gate in (
        (min(reset_v, p.reset_stop_v), set_v),
        (p.reset_stop_v, set_v + _SET_TO / p.set_wl_slope_siemens_per_v / 4),
    ):
        if not still.any():
            break
        gate = min(gate, probe.spec.compliance_limit_v())
        low = array.reset_cells(still, np.full(cells.shape, reset))
        high = array.set_cells(still, np.full(cells.shape, gate))
        moved = np.maximum(np.abs(high - low), np.abs(low - before))
        still &= moved < _MOVE_SIEMENS
        before = high
    log.check("switching", f"{int((cells & ~still).sum())} of {int(cells.sum())} cells move")
    middle = (probe.spec.conductance_min_siemens + probe.spec.conductance_max_siemens) / 2
    for row, col in np.argwhere(still).tolist():
        g = float(before[row, col])
        kind = "stuck_high" if g > middle else "stuck_low"
        log.find(
            kind,
            (row, col),
            f"cell row {row}, column {col}: {microsiemens(g)} after RESET and after SET: it does "
            "not switch. Map no weight there",
        )
