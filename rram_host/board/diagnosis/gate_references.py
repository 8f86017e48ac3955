"""References of the word lines' DACs, from how far weak gates open.

A cell behind a weak gate is G in series with the transistor, so 1 / G_weak - 1 / G_strong is the
transistor alone, and its inverse, y = k (V - V_th), is linear in the gate voltage. Two weak
voltages give k; rows of one chip that all have too small a y have too low a gate voltage.
"""

from __future__ import annotations

import numpy as np

from rram_host.board.diagnosis.findings import Log
from rram_host.board.diagnosis.probe import Array, Mask, Probe

# Thresholds of single transistors differ by some 10 mV, means over a chip's 256 by 1 mV; the
# reference itself is within 0.2 %.
_REFERENCE_SHARE = 0.02
_LEAST_ROWS = 3


def check_gate_references(
    probe: Probe,
    log: Log,
    rows: Mask,
    weak_v: float,
    step_v: float,
    weak: Array,
    raised: Array,
    strong: Array,
) -> None:
    """Compare the chips that drive gates.

    Args:
        probe: the board.
        log: where to.
        rows: rows without any fault, (rows,).
        weak_v: weak gate voltage.
        step_v: how much higher the raised one is.
        weak: responses with weak gates, (rows, cols).
        raised: the same with raised gates.
        strong: the same with gates fully on.
    """
    spec = probe.spec
    r_on = spec.mux_r_on_ohm
    g_weak, g_raised, g_strong = (_freed(g, r_on) for g in (weak, raised, strong))
    y_weak = _opening(g_weak, g_strong, spec.conductance_min_siemens)
    y_raised = _opening(g_raised, g_strong, spec.conductance_min_siemens)
    ready = rows & np.isfinite(y_weak) & np.isfinite(y_raised)
    chips = np.array(spec.wl_channel) // 8
    by_chip = {
        chip: float(np.mean(y_weak[ready & (chips == chip)]))
        for chip in sorted(set(chips.tolist()))
        if (ready & (chips == chip)).sum() >= _LEAST_ROWS
    }
    slope = float(np.median((y_raised - y_weak)[ready])) / step_v if ready.any() else 0.0
    if len(by_chip) < 3 or slope <= 0:
        log.skip("references of the word lines' DACs: too few rows carry current to compare chips")
        return
    middle = float(np.median(list(by_chip.values())))
    shares = {chip: (y - middle) / slope / weak_v for chip, y in by_chip.items()}
    worst = max(abs(share) for share in shares.values())
    log.check("WL references", f"chips within {100 * worst:.2f} % of one another")
    for chip, share in shares.items():
        if abs(share) > _REFERENCE_SHARE:
            log.find(
                "dac_reference",
                (chip,),
                f"the gates of DAC80508 {chip} open as with {1 + share:.3f} of the voltage that "
                "they were told, all alike: its reference is wrong. Measure its REF pin",
            )


def _freed(siemens: Array, r_on_ohm: float) -> Array:
    """Responses freed of the series resistance of their source lines."""
    freed: Array = siemens / (1 - r_on_ohm * np.maximum(siemens.sum(1), 0.0))[:, None]
    return freed


def _opening(weak: Array, strong: Array, least: float) -> Array:
    """Median over a row of 1 / (1 / G_weak - 1 / G_strong), (rows,).

    Cells too small to tell are left out; nan where a row has no other.
    """
    told = (weak > least) & (strong > weak)
    rows = [
        np.median(w[t] * s[t] / (s[t] - w[t])) if t.any() else np.nan
        for w, s, t in zip(weak, strong, told, strict=True)
    ]
    return np.array(rows)
