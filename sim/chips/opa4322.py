"""OPA4322 as transimpedance amplifier: output, virtual ground, and what is left when it clamps.

A source line is a Thevenin source of open-circuit voltage V_oc and conductance G at the inverting
input; the output holds that input at V_vg = V_bias + V_OS through R_f.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware_bridge.chips import opa4322 as facts
from firmware_bridge.errors import InputError

Array = npt.NDArray[np.float64]


class Tia:
    """One amplifier, or many: every argument may be an array, and they broadcast.

    Args:
        feedback_ohm: nominal R_f.
        bias_v: at the non-inverting input.
        supply_v: single supply.
        offset_v: V_OS, input referred.
        gain: real R_f over nominal R_f.

    Raises:
        InputError: R_f is not positive, the supply is outside 1.8 to 5.5 V, or the output cannot
            come to the bias.
    """

    def __init__(
        self,
        feedback_ohm: npt.ArrayLike,
        bias_v: float,
        supply_v: float,
        offset_v: npt.ArrayLike = 0.0,
        gain: npt.ArrayLike = 1.0,
    ) -> None:
        self.feedback_ohm: Array = np.asarray(feedback_ohm, dtype=np.float64) * np.asarray(
            gain, dtype=np.float64
        )
        self.virtual_ground_v: Array = bias_v + np.asarray(offset_v, dtype=np.float64)
        self.low_v, self.high_v = facts.HEADROOM_V, supply_v - facts.HEADROOM_V
        if not facts.SUPPLY_MIN_V <= supply_v <= facts.SUPPLY_MAX_V:
            raise InputError(f"OPA4322: supply {supply_v:g} V is outside 1.8 to 5.5 V")
        if not (self.feedback_ohm > 0).all():
            raise InputError(f"OPA4322: feedback of {self.feedback_ohm} ohm must be positive")
        if not self.low_v < bias_v < self.high_v:
            raise InputError(
                f"OPA4322: bias {bias_v:g} V is outside the output's "
                f"{self.low_v:g} to {self.high_v:g} V"
            )

    def output_v(self, current_a: npt.ArrayLike) -> Array:
        """V_bias + V_OS - I R_f, held to 10 mV from either rail; I flows into the amplifier."""
        wanted = self.virtual_ground_v - np.asarray(current_a, dtype=np.float64) * self.feedback_ohm
        return np.asarray(np.clip(wanted, self.low_v, self.high_v))

    def input_v(self, open_circuit_v: npt.ArrayLike, source_siemens: npt.ArrayLike) -> Array:
        """Voltage of the source line.

        V_vg while the output can follow. With the output at its clamp V_c the loop is open and
        R_f is a resistor to V_c: V = (G R_f V_oc + V_c) / (G R_f + 1). Both agree at the onset.
        Every other reader of that line sees the wrong voltage then. The part's input diodes, which
        conduct 0.5 V beyond the rails, are not modelled.

        Args:
            open_circuit_v: of the line, nothing connected to it; finite, even where G is 0.
            source_siemens: conductance of the line towards its sources; 0 for an open one.
        """
        return self._solve(open_circuit_v, source_siemens)[0]

    def current_a(self, open_circuit_v: npt.ArrayLike, source_siemens: npt.ArrayLike) -> Array:
        """Current from the line into the amplifier: G (V_oc - V_input)."""
        line_v = self.input_v(open_circuit_v, source_siemens)
        return np.asarray(
            np.asarray(source_siemens, dtype=np.float64)
            * (np.asarray(open_circuit_v, dtype=np.float64) - line_v)
        )

    def saturated(
        self, open_circuit_v: npt.ArrayLike, source_siemens: npt.ArrayLike
    ) -> npt.NDArray[np.bool_]:
        """Whether the output clamps and the virtual ground is lost."""
        return self._solve(open_circuit_v, source_siemens)[1]

    def _solve(
        self, open_circuit_v: npt.ArrayLike, source_siemens: npt.ArrayLike
    ) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Input voltage, and whether the output clamps."""
        source_v = np.asarray(open_circuit_v, dtype=np.float64)
        load = np.asarray(source_siemens, dtype=np.float64) * self.feedback_ohm
        wanted = self.virtual_ground_v - load * (source_v - self.virtual_ground_v)
        output = np.clip(wanted, self.low_v, self.high_v)
        lost = np.asarray(output != wanted)
        divided = (load * source_v + output) / (1.0 + load)
        return np.where(lost, divided, self.virtual_ground_v), lost


def settled(
    previous_v: npt.ArrayLike, final_v: npt.ArrayLike, t_s: npt.ArrayLike, bandwidth_hz: float
) -> Array:
    """Output at `t_s` after a step, one pole with a limited slope.

    dV/dt = (V_final - V) / tau, at most 10 V/us, with tau = 1 / (2 pi f): a large step slews until
    S tau is left, which then decays as exp(-t / tau).

    Args:
        previous_v: output before the step.
        final_v: output after all time.
        t_s: time since the step; before it nothing has moved.
        bandwidth_hz: `firmware_bridge.chips.opa4322.bandwidth_hz` of the amplifier.
    """
    final, tau = np.asarray(final_v, dtype=np.float64), 1.0 / (2.0 * np.pi * bandwidth_hz)
    step = final - np.asarray(previous_v, dtype=np.float64)
    t = np.maximum(np.asarray(t_s, dtype=np.float64), 0.0)
    size = np.abs(step)
    slewing_s = np.maximum(size / facts.SLEW_V_PER_S - tau, 0.0)
    slewed = size - facts.SLEW_V_PER_S * np.minimum(t, slewing_s)
    left = slewed * np.exp(-np.maximum(t - slewing_s, 0.0) / tau)
    return np.asarray(final - np.sign(step) * left)
