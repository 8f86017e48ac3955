"""CD4051B, 8-channel analog multiplexer (Texas Instruments SCHS047), with V_EE = V_SS = 0 V.

All tables are the columns of the datasheet at 25 C: 5, 10 and 15 V. Nothing is interpolated, for
on-resistance and thresholds between the columns are nobody's promise.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from firmware_bridge.errors import InputError

N_CHANNELS = 8

# supply V -> (typical, maximum) ohm at 25 C; channel-to-channel difference, ohm
R_ON_OHM: dict[float, tuple[float, float]] = {5.0: (470, 1050), 10.0: (180, 400), 15.0: (125, 240)}
DELTA_R_ON_OHM: dict[float, float] = {5.0: 15, 10.0: 10, 15.0: 5}
# On-resistance peaks in mid-range and falls towards the rails; how far, and as a parabola, is
# assumed: the typical curves are not at hand.
RAIL_FALL = 0.4

# supply V -> highest voltage read as low, lowest voltage read as high, of A, B, C and INH
V_IL_MAX_V: dict[float, float] = {5.0: 1.5, 10.0: 3.0, 15.0: 4.0}
V_IH_MIN_V: dict[float, float] = {5.0: 3.5, 10.0: 7.0, 15.0: 11.0}

# supply V -> (typical, maximum) s
ADDRESS_S: dict[float, tuple[float, float]] = {
    5.0: (450e-9, 720e-9),
    10.0: (160e-9, 320e-9),
    15.0: (120e-9, 240e-9),
}
INHIBIT_ON_S: dict[float, tuple[float, float]] = {
    5.0: (400e-9, 720e-9),
    10.0: (160e-9, 320e-9),
    15.0: (120e-9, 240e-9),
}
INHIBIT_OFF_S: dict[float, tuple[float, float]] = {
    5.0: (200e-9, 450e-9),
    10.0: (90e-9, 210e-9),
    15.0: (70e-9, 160e-9),
}
SWITCH_ON_S: dict[float, float] = {supply: typ for supply, (typ, _) in INHIBIT_ON_S.items()}

# (typical, maximum) of either sign, one channel off; common with all channels off
LEAKAGE_CHANNEL_A = (0.01e-9, 100e-9)
LEAKAGE_COMMON_A = (0.08e-9, 200e-9)

BEYOND_RAIL_V = 0.5  # signals and controls may pass either rail by so much, then diodes conduct

_T = TypeVar("_T")


def _column(table: dict[float, _T], supply_v: float, what: str) -> _T:
    """Entry of one of the three supplies."""
    if supply_v not in table:
        raise InputError(f"CD4051B: no {what} at {supply_v} V; the table has 5, 10, 15 V")
    return table[supply_v]


def channel(a: int, b: int, c: int, inhibit: int) -> int | None:
    """Which channel is closed: 4 C + 2 B + A, or None with INH high.

    >>> channel(1, 0, 1, 0)
    5

    Raises:
        InputError: a level is not 0 or 1.
    """
    levels = {"A": a, "B": b, "C": c, "INH": inhibit}
    for name, level in levels.items():
        if level not in (0, 1):
            raise InputError(f"CD4051B: level of {name} is {level}, must be 0 or 1")
    return None if inhibit else 4 * c + 2 * b + a


def typical_r_on_ohm(supply_v: float) -> float:
    """Typical on-resistance at one of the three supplies of the datasheet table.

    Raises:
        InputError: the table has no such supply.
    """
    return float(_column(R_ON_OHM, supply_v, "on-resistance")[0])


def maximum_r_on_ohm(supply_v: float) -> float:
    """Largest on-resistance at 25 C at one of the three supplies.

    Raises:
        InputError: the table has no such supply.
    """
    return float(_column(R_ON_OHM, supply_v, "on-resistance")[1])


def r_on_ohm(supply_v: float, signal_v: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Typical on-resistance at signal voltages.

    R = R_typ (1 - RAIL_FALL u^2) with u = 2 V_IS / V_DD - 1: the typical value of the table is
    the peak, in mid-range; at the rails and beyond a fraction RAIL_FALL of it is gone (assumed).

    Raises:
        InputError: the table has no such supply, or a signal is further than 0.5 V outside the
            rails.
    """
    typical = typical_r_on_ohm(supply_v)
    check_signal(supply_v, signal_v)
    u = np.clip(2.0 * np.asarray(signal_v, dtype=np.float64) / supply_v - 1.0, -1.0, 1.0)
    return np.asarray(typical * (1.0 - RAIL_FALL * u * u))


def switching_max_s(supply_v: float) -> float:
    """Longest time until a channel is as its control lines say, whichever of them moved.

    Raises:
        InputError: the table has no such supply.
    """
    tables = (ADDRESS_S, INHIBIT_ON_S, INHIBIT_OFF_S)
    return max(_column(table, supply_v, "switching time")[1] for table in tables)


def check_signal(supply_v: float, signal_v: npt.ArrayLike) -> None:
    """Refuse signals that would open the part's diodes.

    Raises:
        InputError: names the part, the voltage and the range V_EE - 0.5 V to V_DD + 0.5 V.
    """
    low, high = -BEYOND_RAIL_V, supply_v + BEYOND_RAIL_V
    signals = np.atleast_1d(np.asarray(signal_v, dtype=np.float64))
    outside = signals[~((signals >= low) & (signals <= high))]
    if outside.size:
        raise InputError(
            f"CD4051B: signal of {outside.flat[0]:g} V is outside V_EE - 0.5 V to V_DD + 0.5 V, "
            f"here {low:g} to {high:g} V"
        )


def check_levels(supply_v: float, control_high_v: float) -> None:
    """Refuse control lines that the part would not take for high, or that overdrive it.

    3.3 V logic does not switch a part at 5 V: V_IH is 3.5 V there.

    Raises:
        InputError: names the part, V_IH and the level driven; or no such supply in the table.
    """
    needed = _column(V_IH_MIN_V, supply_v, "V_IH")
    if not control_high_v >= needed:
        raise InputError(
            f"CD4051B: A, B, C, INH driven high with {control_high_v:g} V, but V_IH at a supply of "
            f"{supply_v:g} V is {needed:g} V minimum; shift the level"
        )
    if control_high_v > supply_v + BEYOND_RAIL_V:
        raise InputError(
            f"CD4051B: A, B, C, INH driven high with {control_high_v:g} V, above V_DD + 0.5 V = "
            f"{supply_v + BEYOND_RAIL_V:g} V"
        )
