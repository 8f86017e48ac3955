"""One CD4051B: which channel its control lines close, and what that channel is like."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge.chips import cd4051b as facts


class Cd4051b:
    """A multiplexer between 0 V and `supply_v`.

    Args:
        supply_v: V_DD, with V_EE = V_SS = 0 V: 5, 10 or 15 V.
        control_high_v: what drives A, B, C and INH high.
        deviation_ohm: of this part's on-resistance from the typical one, at every signal.
        leakage_a: current of an open channel.

    Raises:
        InputError: the control lines do not reach V_IH, or the datasheet has no such supply.
    """

    def __init__(
        self,
        supply_v: float,
        control_high_v: float,
        *,
        deviation_ohm: float = 0.0,
        leakage_a: float = facts.LEAKAGE_CHANNEL_A[0],
    ) -> None:
        facts.check_levels(supply_v, control_high_v)
        self.supply_v, self.deviation_ohm, self.leakage_a = supply_v, deviation_ohm, leakage_a

    def channel(self, a: int, b: int, c: int, inhibit: int) -> int | None:
        """Channel that these levels close, None for none."""
        return facts.channel(a, b, c, inhibit)

    def r_on_ohm(self, signal_v: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """On-resistance of the closed channel at signal voltages, never negative.

        Raises:
            InputError: a signal is further than 0.5 V outside the rails.
        """
        typical = facts.r_on_ohm(self.supply_v, signal_v)
        return np.asarray(np.maximum(typical + self.deviation_ohm, 0.0))

    def current_a(
        self, closed: int | None, channel: int, channel_v: npt.ArrayLike, common_v: npt.ArrayLike
    ) -> npt.NDArray[np.float64]:
        """Current from a channel into the common pin.

        I = (V_channel - V_common) / R_on, R_on at the mean of both, where `channel` is the closed
        one; the leakage, into the pin of lower voltage, where it is not.

        Raises:
            InputError: a voltage is further than 0.5 V outside the rails.
        """
        here = np.asarray(channel_v, dtype=np.float64)
        there = np.asarray(common_v, dtype=np.float64)
        for volts in (here, there):
            facts.check_signal(self.supply_v, volts)
        if channel != closed:
            return np.asarray(self.leakage_a * np.sign(here - there))
        return np.asarray((here - there) / self.r_on_ohm((here + there) / 2.0))
