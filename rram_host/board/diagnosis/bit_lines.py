"""Bit lines: which follow their DAC, which are stuck, broken, or exchanged with a word line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rram_host.board.diagnosis.bl_references import (
    FAR_V,
    check_references,
    chip_errors_v,
    find_far_chip,
)
from rram_host.board.diagnosis.findings import Log, listed
from rram_host.board.diagnosis.probe import (
    COARSE,
    Array,
    Mask,
    Probe,
    Rows,
    Setting,
    binary_patterns,
)
from rram_host.board.diagnosis.switches import LIT_SIEMENS

# A column that answers with less than this part of the median column does not follow its DAC.
_ANSWER_SHARE = 0.05
# A column without answer is stuck where it pulls by more than this; below, it cannot be told from
# a broken line. Errors of 32 DAC channels together look like 5 mV on one column.
_STUCK_V = 0.03
_GATE_STEP_V = 0.1


@dataclass(frozen=True)
class Columns:
    """Responses of rows to single columns, gates weakly open.

    Attributes:
        siemens: (rows, cols).
        zero_a: currents with all bit lines at the virtual ground, (rows,).
    """

    siemens: Array
    zero_a: Array


def measure_columns(probe: Probe, gates: Array) -> Columns:
    """Read voltage on one column after another, in the least sensitive range."""
    spec = probe.spec
    step = np.concatenate([np.zeros((4, spec.cols)), np.eye(spec.cols) * spec.read_voltage_v])
    setting = Setting(probe.all_at(spec.sl_tia), gates, probe.around_bias(step))
    amperes = probe.currents_a([setting], COARSE)[0]
    zero = amperes[:4].mean(0)
    return Columns(((amperes[4:] - zero) / spec.read_voltage_v).T, zero)


def check_bit_lines(
    probe: Probe, log: Log, columns: Columns, lit: Mask, gates: Array
) -> Mask | None:
    """Columns without answer, and why; wrong references of whole chips.

    Args:
        probe: usable rows known.
        log: where to.
        columns: responses with these gates.
        lit: rows that carry current, (rows,).
        gates: gate voltages, (rows,).

    Returns:
        Columns that follow their DAC, (cols,); None where bit lines are at voltages at which
        nothing else can be tested.
    """
    spec = probe.spec
    siemens = columns.siemens[lit]
    answer = siemens.sum(0)
    following: Mask = answer >= max(_ANSWER_SHARE * float(np.median(answer)), LIT_SIEMENS / 2)
    log.check("bit lines", f"{int(following.sum())} of {spec.cols} columns follow their DAC")
    # what flows at zero input beyond what the amplifiers' own offsets drive
    zero = columns.zero_a[lit] + siemens.sum(1) * probe.offset_v[lit]
    silent = np.flatnonzero(~following)
    errors_v = chip_errors_v(probe, siemens, zero)
    far = errors_v is not None and max(map(abs, errors_v.values())) > FAR_V
    many = silent.size > spec.cols // 4
    if (many or (far and not silent.size)) and find_far_chip(probe, log, gates):
        return None
    if silent.size:
        column_siemens = float(siemens[:, following].mean(1).sum())
        row = _followed_row(probe, lit, gates, column_siemens) if silent.size == 1 else None
        if row is not None:
            _name_followed(probe, log, int(silent[0]), row)
            return None
        _name_columns(probe, log, silent, float(zero.sum()) / column_siemens)
        return following
    if errors_v is None:
        log.skip("references of the bit lines' DACs: too few rows carry current")
    else:
        check_references(probe, log, errors_v)
    return following


def _name_columns(probe: Probe, log: Log, silent: Rows, pull_v: float) -> None:
    """Columns without answer, that pull the others by so many volts of one column together."""
    spec = probe.spec
    if _one_chip(probe, silent):
        chip = spec.bl_channel[int(silent[0])] // 8
        log.find(
            "dac_reference",
            (chip,),
            f"none of columns {listed(silent)} follows: all hang on DAC80508 {chip}, which "
            "answers. Check its reference, analog supply and connector",
        )
    elif silent.size > spec.cols // 4:
        log.skip(f"columns {listed(silent)} carry no current: not formed, as it seems")
    else:
        for column in silent.tolist():
            _name_silent(probe, log, column, pull_v / silent.size)


def _name_followed(probe: Probe, log: Log, column: int, row: int) -> None:
    spec = probe.spec
    pair = tuple(sorted((spec.bl_channel[column], spec.wl_channel[row])))
    log.find(
        "swapped_dac",
        pair,
        f"DAC channels {listed(pair)} are exchanged: BL{column} follows the codes of WL{row}. "
        "Cross the wires back before anything is programmed",
    )


def _one_chip(probe: Probe, silent: Rows) -> bool:
    chips = np.array(probe.spec.bl_channel) // 8
    first = chips == chips[silent[0]]
    return bool(first.sum() > 1 and np.array_equal(np.flatnonzero(first), silent))


def _name_silent(probe: Probe, log: Log, column: int, pull_v: float) -> None:
    spec = probe.spec
    channel, bias = spec.bl_channel[column], spec.tia_bias_v
    if abs(pull_v) > _STUCK_V:
        log.find(
            "stuck_dac",
            (channel,),
            f"BL{column} stays near {max(bias + pull_v, 0.0):.2f} V whatever DAC channel {channel} "
            f"(DAC80508 {channel // 8}, output {channel % 8}) is told. Measure that output, look "
            "for a short",
        )
        return
    log.find(
        "open_bl",
        (column,),
        f"BL{column} carries no current and pulls none: the line is broken between DAC channel "
        f"{channel} and the array (or the channel stays within {_STUCK_V * 1e3:.0f} mV of "
        f"{bias} V, or none of the column's cells is formed). Check the connector",
    )


def _followed_row(probe: Probe, lit: Mask, gates: Array, column_siemens: float) -> int | None:
    """Row whose gate codes move the silent column, if there is one.

    Each row's gate is raised a little in a subset of steps of its own; a bit line that follows
    one of them shifts all currents with its steps, by its `column_siemens`.
    """
    spec = probe.spec
    subsets = binary_patterns(spec.rows)
    bias = probe.around_bias([[0.0]])
    at = probe.all_at(spec.sl_tia)
    settings = [Setting(at, gates + _GATE_STEP_V * subset, bias) for subset in subsets]
    sums = np.array([part[0][lit].sum() for part in probe.currents_a(settings, COARSE)])
    bits = len(subsets) // 2
    change = sums[:bits] - sums[bits:]
    if np.abs(change).min() < _GATE_STEP_V * column_siemens / 2:
        return None
    row = int(((change > 0) << np.arange(bits)).sum())
    return row if row < spec.rows else None
