"""Word lines: gates that stay open, and exchanged ones."""

from __future__ import annotations

import numpy as np

from rram_host.board.diagnosis.findings import Log, listed
from rram_host.board.diagnosis.probe import COARSE, Array, Mask, Probe, Setting, binary_patterns
from rram_host.board.diagnosis.switches import LIT_SIEMENS

_LIT_SHARE = 0.3  # of the most that the row ever showed


def check_word_lines(probe: Probe, log: Log, right: Mask, gates: Array) -> Mask:
    """Gates that stay open, and exchanged ones, by random subsets of open gates.

    Args:
        probe: usable rows known.
        log: where to.
        right: rows that carry current and follow their switch, (rows,).
        gates: gate voltages that open, (rows,).

    Returns:
        Rows that follow their gate, (rows,).
    """
    spec = probe.spec
    subsets = binary_patterns(spec.rows)
    drive = probe.around_bias([[spec.read_voltage_v], [-spec.read_voltage_v]])
    at = probe.all_at(spec.sl_tia)
    settings = [Setting(at, np.where(subset, gates, 0.0), drive) for subset in subsets]
    currents = probe.currents_a(settings, COARSE)
    siemens = np.array([(plus - minus) / (2 * spec.read_voltage_v) for plus, minus in currents])
    seen = siemens > np.maximum(LIT_SIEMENS, _LIT_SHARE * siemens.max(0))
    good: Mask = right & (seen == subsets).all(0)
    log.check("word lines", f"{int(good.sum())} of {int(right.sum())} rows follow their gate")
    left = np.flatnonzero(right & ~good).tolist()
    for row in list(left):
        if row not in left:
            continue
        fits = np.flatnonzero((subsets == seen[:, [row]]).all(0))
        channel = spec.wl_channel[row]
        if seen[:, row].all():
            log.find(
                "stuck_dac",
                (channel,),
                f"the gates of row {row} stay open whatever DAC channel {channel} (DAC80508 "
                f"{channel // 8}, output {channel % 8}) is told. Measure that output, look for a "
                "short",
            )
        elif fits.size and (subsets[:, row] == seen[:, fits[0]]).all():
            other = int(fits[0])
            pair = tuple(sorted((channel, spec.wl_channel[other])))
            log.find(
                "swapped_dac",
                pair,
                f"DAC channels {listed(pair)} are exchanged: WL{row} follows the codes of "
                f"WL{other} and the other way round. Cross the wires back",
            )
            left.remove(other)
        else:
            log.find(
                "open_wl",
                (row,),
                f"the gates of row {row} follow DAC channel {channel} at some steps only: look "
                "for a loose contact of the word line",
            )
    return good
