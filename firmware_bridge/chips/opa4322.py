"""OPA4322 as transimpedance amplifier (Texas Instruments SBOS538): V_out = V_bias - I R_f."""

from __future__ import annotations

OFFSET_TYPICAL_V = 0.5e-3
OFFSET_MAX_V = 2e-3
HEADROOM_V = 0.01  # output comes to within 10 mV of the rails


def full_scale_a(feedback_ohm: float, bias_v: float, supply_v: float) -> float:
    """Largest current of either sign that the output can follow, in amperes."""
    swing = min(bias_v, supply_v - bias_v) - HEADROOM_V
    return swing / feedback_ohm
