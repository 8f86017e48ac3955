"""DAC links, amplifiers and ADCs: everything that shows with the gates closed, and ADC gain."""

from __future__ import annotations

import numpy as np

from firmware_bridge.chips import ads8324, dac80508, opa4322
from firmware_bridge.lines import LineProgram
from rram_host.board.diagnosis.findings import Log, listed
from rram_host.board.diagnosis.probe import AT_RAIL, COARSE, FINE, Array, Mask, Probe, Setting
from rram_host.board.self_test import dac_faults

# Of the clamps, OPA4322's headroom (10 mV of 0.9 V, which a light load need not use up) is 1.1 %:
# a converter that reads them lower by 2 % is not what it should be.
GAIN_LOW = 0.98
_NOISE_READS = 32
# An ADC's own offset, "a few LSB", comes on top of the amplifier's.
_OFFSET_SLACK_LSB = 3
# Two addresses in two patterns: a stuck data line shows in one of them.
_PATTERNS = (0x1555, 0x0AAA)


def check_links(probe: Probe, log: Log) -> list[int]:
    """DEVICE ID and SYNC, then patterns in the DAC registers (not latched); chips that fail."""
    spec = probe.spec
    dead = dac_faults(probe.driver, spec)
    for chip, text in _pattern_errors(probe).items():
        dead.setdefault(chip, []).append(text)
    for chip, texts in sorted(dead.items()):
        lines = _lines_of(probe, chip)
        log.find(
            "dead_dac",
            (chip,),
            f"DAC80508 {chip} ({lines}) does not talk: {'; '.join(texts)}. "
            "Check its supply, chip select and SDO, then replace it",
        )
    log.check("DAC links", f"{spec.dac_chips - len(dead)} of {spec.dac_chips} DAC80508 answer")
    return sorted(dead)


def _lines_of(probe: Probe, chip: int) -> str:
    names = [f"BL{c}" for c, ch in enumerate(probe.spec.bl_channel) if ch // 8 == chip]
    names += [f"WL{r}" for r, ch in enumerate(probe.spec.wl_channel) if ch // 8 == chip]
    return f"{names[0]} to {names[-1]}" if names else "no line"


def _pattern_errors(probe: Probe) -> dict[int, str]:
    """Write codes behind the latch, read them back, put zeros there again.

    Nothing is latched, so no line moves; the codes are below 1 V all the same.
    """
    spec = probe.spec
    everyone = (1 << spec.dac_chips) - 1
    program = LineProgram(spec)
    places = [(dac80508.DAC0 + n, p << n % 2) for n in range(8) for p in _PATTERNS]
    for addr, code in places:
        program.dac_register(addr, code, everyone)
        program.read_dac_register(addr)
        program.dac_register(addr, 0, everyone)
    replies = probe.driver.run(program).reshape(len(places), spec.dac_chips, 2)
    wrong: dict[int, str] = {}
    for (addr, code), chips in zip(places, replies.tolist(), strict=True):
        for chip, (echo, data) in enumerate(chips):
            if (echo, data) != (0x80 | addr, code):
                wrong[chip] = f"register {addr} holds {data:#06x} after {code:#06x} was written"
    return wrong


def check_amplifiers(probe: Probe, log: Log) -> Array:
    """With all gates closed: outputs at a rail, offsets, converters that never move.

    The output is V_os + R_f (V_os G + I), whatever leaks through a gate that is not closed or a
    switch: two ranges tell the offset, at R_f = 0, from a current. Bit lines rest at the virtual
    ground, so that an open gate lets through next to nothing.

    Returns:
        Offsets in volts, (rows,); nan where they could not be told.
    """
    spec = probe.spec
    still = np.zeros((_NOISE_READS, 1))
    rest = Setting(probe.all_at(spec.sl_tia), probe.gates(0.0), probe.around_bias(still))
    coarse = probe.outputs_v([rest], COARSE)[0].mean((0, 1))
    fine = probe.outputs_v([rest], FINE)[0].mean((0, 1))
    if probe.moved.any():
        _note_dead(probe, log, ~probe.moved)
    railed = probe.usable & (np.abs([coarse, fine]).min(0) > AT_RAIL * probe.clamp_v)
    for row in np.flatnonzero(railed).tolist():
        rail = "upper" if coarse[row] > 0 else "lower"
        log.find(
            "tia_saturated",
            (row,),
            f"row {row}: amplifier output at its {rail} rail in every range with all gates closed. "
            "Check its feedback network and input, then replace the OPA4322",
        )
    probe.usable &= ~railed
    low, high = spec.tia_feedback_ohm[COARSE], spec.tia_feedback_ohm[FINE]
    offset: Array = coarse - (fine - coarse) * low / (high - low)
    offset[~probe.usable | (np.abs(fine) > AT_RAIL * probe.clamp_v)] = np.nan
    limit = opa4322.OFFSET_MAX_V + _OFFSET_SLACK_LSB * ads8324.lsb_v(spec.adc_reference_v)
    for row in np.flatnonzero(np.abs(np.nan_to_num(offset)) > limit).tolist():
        log.find(
            "tia_offset",
            (row,),
            f"row {row}: amplifier offset {offset[row] * 1e3:.2f} mV, an OPA4322 has at most "
            f"{opa4322.OFFSET_MAX_V * 1e3:.0f} mV. Replace it, or use calibrated products only",
        )
    probe.offset_v = np.nan_to_num(offset)
    worst = float(np.abs(np.nan_to_num(offset)).max())
    log.check("amplifiers", f"offsets within {worst * 1e3:.2f} mV, {int(railed.sum())} at a rail")
    return offset


def _note_dead(probe: Probe, log: Log, dead: Mask) -> None:
    """Name converters that never move, and leave their rows out from now on."""
    spec = probe.spec
    of_row = np.array(spec.adc_of_row)
    for adc in np.flatnonzero(dead).tolist():
        rows = np.flatnonzero(of_row == adc)
        log.find(
            "dead_adc",
            (adc,),
            f"ADS8324 {adc}: one constant code, without noise, on rows {listed(rows)}. Check its "
            "supply, reference, clock and DOUT, then replace it",
        )
        log.skip(f"rows {listed(rows)}: their converter is dead")
    probe.usable &= ~dead[of_row]


def check_still(probe: Probe, log: Log, lit: Mask) -> None:
    """On a board without noise, dead converters show once currents flow: all their rows are dark.

    Args:
        probe: with currents measured.
        log: where to.
        lit: rows with currents, (rows,).
    """
    of_row = np.array(probe.spec.adc_of_row)
    still = ~probe.moved & np.isin(np.arange(probe.spec.adcs), of_row[probe.usable])
    if still.any() and lit[~still[of_row] & probe.usable].all() and lit.any():
        _note_dead(probe, log, still)


def check_gain(probe: Probe, log: Log, plus_a: Array, minus_a: Array, weak: Array) -> None:
    """Drive amplifiers into both clamps, whose voltages are known, and read them.

    Args:
        probe: usable rows and offsets known.
        log: where to.
        plus_a: currents of every row with all bit lines at plus the read voltage, (rows,).
        minus_a: the same at minus the read voltage: both tell which rows reach the clamps.
        weak: gate voltages that they were measured with, (rows,).
    """
    spec = probe.spec
    enough = 1.5 * spec.full_scale_a(FINE)
    rows = np.flatnonzero(probe.usable & (plus_a > enough) & (minus_a < -enough))
    drive = probe.around_bias([[spec.read_voltage_v], [-spec.read_voltage_v]])
    setting = Setting(probe.all_at(spec.sl_tia), weak, drive)
    plus, minus = probe.outputs_v([setting], FINE, 8)[0].mean(0)
    gain = (minus - plus) / (2 * probe.clamp_v)
    of_row, end = np.array(spec.adc_of_row), spec.adc_reference_v / probe.clamp_v
    found = {adc: float(np.median(gain[rows[of_row[rows] == adc]])) for adc in set(of_row[rows])}
    top = end * (1 - 2 / ads8324.CODE_MAX)  # both ends clipped: gain is higher still
    wrong = {adc: value for adc, value in found.items() if not GAIN_LOW <= value < top}
    missing = sorted(set(of_row[probe.usable]) - set(found))
    if missing:
        log.skip(f"gain of ADCs {listed(missing)}: no row of theirs carries enough current")
    if not found:
        return
    spread = f"{min(found.values()):.4f} to {max(found.values()):.4f}"
    log.check("ADC gain", f"clamps of the amplifiers read as {spread} of their voltage")
    alike = max(found.values()) - min(found.values()) < 1 - GAIN_LOW
    if wrong and len(wrong) == len(found) and alike and len(found) > 1:
        mean = float(np.mean(list(found.values())))
        size = f"{'at least ' if mean >= top else ''}{mean:.3f}"
        log.find(
            "adc_reference",
            (),
            f"all ADS8324 read {size} of the amplifiers' clamps: their reference is not "
            f"{spec.adc_reference_v} V, or the amplifiers' supply is not {spec.tia_supply_v} V. "
            "Measure both",
        )
        return
    for adc, value in sorted(wrong.items()):
        size = f"{'at least ' if value >= top else ''}{value:.3f}"
        others = "the others are right" if len(found) > 1 else "there is no other to compare"
        log.find(
            "adc_gain",
            (int(adc),),
            f"ADS8324 {adc} reads {size} of the amplifiers' clamps, {others}: gain error. Check "
            "its reference pin and input network, then replace it",
        )
