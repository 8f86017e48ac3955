"""OPA4322 as transimpedance amplifier (Texas Instruments SBOS538): V_out = V_bias - I R_f."""

from __future__ import annotations

import math

from firmware_bridge.errors import InputError

SUPPLY_MIN_V, SUPPLY_MAX_V = 1.8, 5.5
OFFSET_TYPICAL_V = 0.5e-3
OFFSET_MAX_V = 2e-3
HEADROOM_V = 0.01  # output comes to within 10 mV of the rails
GAIN_BANDWIDTH_HZ = 20e6
SLEW_V_PER_S = 10e6
NOISE_V_PER_RTHZ = 8.5e-9  # at 1 kHz
BIAS_TYPICAL_A, BIAS_MAX_A = 0.2e-12, 10e-12
INPUT_FARAD = 9e-12  # 5 pF differential and 4 pF common mode; the line comes on top


def full_scale_a(feedback_ohm: float, bias_v: float, supply_v: float) -> float:
    """Largest current of either sign that the output can follow, in amperes."""
    swing = min(bias_v, supply_v - bias_v) - HEADROOM_V
    return swing / feedback_ohm


def bandwidth_hz(feedback_ohm: float, feedback_farad: float, input_farad: float) -> float:
    """Closed-loop bandwidth: the lower of what the feedback and what the amplifier allows.

    min(1 / (2 pi R_f C_f), sqrt(GBW / (2 pi R_f (C_in + C_f))))

    Args:
        feedback_ohm: R_f.
        feedback_farad: C_f, may be 0.
        input_farad: everything at the inverting input: amplifier, switch and line.

    Raises:
        InputError: no feedback resistor, or no capacitance at all, or a negative one.
    """
    if (
        feedback_ohm <= 0
        or min(feedback_farad, input_farad) < 0
        or feedback_farad == input_farad == 0
    ):
        raise InputError(
            f"OPA4322: R_f {feedback_ohm:g} ohm, C_f {feedback_farad:g} F, C_in {input_farad:g} F; "
            "R_f and one capacitance must be positive, none negative"
        )
    turn = 2.0 * math.pi * feedback_ohm
    loop = math.sqrt(GAIN_BANDWIDTH_HZ / (turn * (input_farad + feedback_farad)))
    return min(1.0 / (turn * feedback_farad), loop) if feedback_farad else loop


def settling_s(
    feedback_ohm: float, feedback_farad: float, input_farad: float, bits: int = 14
) -> float:
    """Time from a full-scale step until half an LSB of `bits` is left: ln(2^(bits + 1)) / (2 pi f).

    One pole at `bandwidth_hz`; slewing comes on top for steps above SLEW_V_PER_S / (2 pi f).

    Raises:
        InputError: as `bandwidth_hz`.
    """
    pole = 2.0 * math.pi * bandwidth_hz(feedback_ohm, feedback_farad, input_farad)
    return (bits + 1) * math.log(2.0) / pole


def noise_gain(feedback_ohm: float, source_siemens: float) -> float:
    """Gain of offset and input noise to the output, 1 + R_f G, with the line's conductance G."""
    return 1.0 + feedback_ohm * source_siemens
