"""References of the bit lines' DACs: near errors by least squares, far ones by moving chips.

An error of all outputs of a chip alike is an error of its reference. As long as it is small, the
zero-input currents of all rows tell it, with the measured responses. Where bit lines are so far
from the virtual ground that transistors saturate or amplifiers clamp, responses mean nothing; the
bit lines of one chip after another are then moved until the currents come down: the chip that has
to be told another voltage is the one that is wrong.
"""

from __future__ import annotations

import numpy as np

from rram_host.board.diagnosis.findings import Log
from rram_host.board.diagnosis.probe import COARSE, Array, Probe, Setting

# Errors of a chip's eight outputs together: 0.2 % of the reference (1.8 mV at 0.9 V) and a mean
# offset below 1.5 mV; a row that another fault holds at the rail shifts bit lines by up to 2.6 mV.
_ERROR_V = 6e-3
FAR_V = 0.12  # beyond, and with the read voltage on top, responses are not linear enough

_AT_CLAMP = 0.9  # of full scale
_LEVELS = 25
_TOP_V = 1.24  # of the 1.25 V range
_BETTER = 0.75  # the right chip at the right voltage brings currents down at least to this
_LEAST_A = 10e-6  # mean current of a row above which there is something to bring down


def chip_errors_v(probe: Probe, siemens: Array, zero_a: Array) -> dict[int, float] | None:
    """Mean error of each bit-line chip at the virtual ground, by least squares over rows.

    zero[r] = sum over chips (sum of the row's conductances on that chip) V_bias (f[chip] - 1),
    and responses are conductances times f, so the fit gives V_bias (1 - 1 / f).

    Args:
        probe: the board.
        siemens: responses, (n, cols).
        zero_a: zero-input currents freed of what the amplifiers' offsets drive, (n,).

    Returns:
        Volts by chip; None where fewer rows than chips were measured.
    """
    chips = np.array(probe.spec.bl_channel) // 8
    known = sorted(set(chips.tolist()))
    if len(siemens) < len(known):
        return None
    sums = np.array([siemens[:, chips == chip].sum(1) for chip in known]).T
    fitted = np.linalg.lstsq(sums, zero_a, rcond=None)[0] / probe.spec.tia_bias_v
    factors = 1 / (1 - np.clip(fitted, None, 0.9))
    errors = probe.spec.tia_bias_v * (factors - 1)
    return dict(zip(known, errors.tolist(), strict=True))


def check_references(probe: Probe, log: Log, errors_v: dict[int, float]) -> None:
    """Name chips whose bit lines are all off alike."""
    bias = probe.spec.tia_bias_v
    worst = max(abs(error) for error in errors_v.values())
    log.check("BL references", f"chips within {worst * 1e3:.2f} mV at {bias} V")
    for chip, error in errors_v.items():
        if abs(error) > _ERROR_V:
            log.find(
                "dac_reference",
                (chip,),
                f"the bit lines of DAC80508 {chip} are {error * 1e3:+.1f} mV off at {bias} V, all "
                f"alike: its reference is {1 + error / bias:.3f} of what it should be. Measure "
                "its REF pin",
            )


def clamped(probe: Probe, zero_a: Array) -> bool:
    """Whether half of the rows are at a clamp with all bit lines told the virtual ground."""
    full = _AT_CLAMP * probe.spec.full_scale_a(COARSE)
    return bool(np.median(np.abs(zero_a[probe.usable])) > full)


def find_far_chip(probe: Probe, log: Log, gates: Array) -> bool:
    """Name the chip of bit lines whose outputs are far off; whether one was found.

    Args:
        probe: usable rows known.
        log: where to.
        gates: gate voltages at which rows carry current, (rows,).
    """
    spec = probe.spec
    chips = np.array(spec.bl_channel) // 8
    known = sorted(set(chips.tolist()))
    levels = np.linspace(0.0, _TOP_V, _LEVELS)
    vectors = [probe.around_bias([[0.0]])]
    for chip in known:
        moved = np.full((_LEVELS, spec.cols), spec.tia_bias_v)
        moved[:, chips == chip] = levels[:, None]
        vectors.append(moved)
    setting = Setting(probe.all_at(spec.sl_tia), gates, np.concatenate(vectors))
    amperes = np.abs(probe.currents_a([setting], COARSE)[0][:, probe.usable]).mean(1)
    size = amperes[1:].reshape(len(known), _LEVELS)
    if amperes[0] < _LEAST_A or size.min() > _BETTER * amperes[0]:
        return False
    place, level = np.unravel_index(size.argmin(), size.shape)
    chip, needed = known[int(place)], float(levels[int(level)])
    at_end = int(level) == _LEVELS - 1
    factor = f"{'below' if at_end else 'about'} {spec.tia_bias_v / max(needed, 1e-3):.2f}"
    log.find(
        "dac_reference",
        (chip,),
        f"the bit lines of DAC80508 {chip} are far from {spec.tia_bias_v} V, and currents are "
        f"least when they are told {needed:.2f} V: its reference is {factor} of what it should "
        "be. Measure its REF pin",
    )
    return True
