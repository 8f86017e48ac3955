"""CD4051B analog multiplexer (Texas Instruments SCHS047): on-resistance and switching times."""

from __future__ import annotations

from firmware_bridge.errors import InputError

# supply V -> (typical, maximum) ohm at 25 C; channel-to-channel difference, ohm
R_ON_OHM: dict[float, tuple[float, float]] = {5.0: (470, 1050), 10.0: (180, 400), 15.0: (125, 240)}
DELTA_R_ON_OHM: dict[float, float] = {5.0: 15, 10.0: 10, 15.0: 5}
SWITCH_ON_S: dict[float, float] = {5.0: 400e-9, 10.0: 160e-9, 15.0: 120e-9}


def typical_r_on_ohm(supply_v: float) -> float:
    """Typical on-resistance at one of the three supplies of the datasheet table.

    Raises:
        InputError: the table has no such supply.
    """
    if supply_v not in R_ON_OHM:
        raise InputError(f"CD4051B: no on-resistance at {supply_v} V; the table has 5, 10, 15 V")
    return float(R_ON_OHM[supply_v][0])
