"""What a lab measures of a board and its chip once: what reads undo, and what tells of its parts.

Drops along lines and gains of ranges are undone from then on. Offsets are not: reads of both signs,
and zero inputs before a batch, cancel them as they are at that moment.

`Calibration` holds it; `measure` finds it, with nothing but reads, so what is stored on the array
stays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware_bridge.board_spec import BoardSpec
from rram_host.array.compensation import LineResistances
from rram_host.errors import InputError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """Errors of a board and its chip, as far as the board itself can measure them.

    Attributes:
        tia_offset_v: output of every amplifier (and its converter) without current, above the
            bias, per range, (4, rows).
        range_gain: true over nominal current per range and row, (4, rows), relative to the range
            that cells are read in: without an outside standard nobody knows more.
        dac_offset_v, dac_offset_error_v: offset of every bit line's converter and its standard
            error, (cols,). An error near that of an unmeasured part means: not observable.
        lines: resistances of lines and switches.
        row_error_ohm: standard error of each `lines.row_ohm`, (rows,).
        measured: when, as an ISO date; empty for the values of the board file.
    """

    tia_offset_v: Array
    range_gain: Array
    dac_offset_v: Array
    dac_offset_error_v: Array
    lines: LineResistances
    row_error_ohm: Array
    measured: str = ""

    @staticmethod
    def nominal(spec: BoardSpec) -> Calibration:
        """What the board file says: ideal parts, typical switches, no wires."""
        return Calibration(
            tia_offset_v=np.zeros((4, spec.rows)),
            range_gain=np.ones((4, spec.rows)),
            dac_offset_v=np.zeros(spec.cols),
            dac_offset_error_v=np.full(spec.cols, np.inf),
            lines=LineResistances.typical(spec),
            row_error_ohm=np.full(spec.rows, np.inf),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return len(self.lines.row_ohm), len(self.dac_offset_v)

    def switch_ohm(self, spec: BoardSpec, signal_v: float) -> Array:
        """Resistance of the switches when they pass a voltage, (rows,).

        The on-resistance of a CD4051B depends on the signal; the ratio is the datasheet's.
        """
        ratio = spec.switch_ohm(signal_v) / spec.mux_r_on_ohm
        scaled: Array = self.lines.row_ohm * ratio
        return scaled

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; infinite errors become None."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, LineResistances):
                value = {k: _plain(v) for k, v in vars(value).items()}
            values[field.name] = _plain(value)
        return values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_dict`.

        Raises:
            InputError: a value is missing, unknown, or has another shape than the others.
        """
        try:
            kinds = {field.name for field in dataclasses.fields(Calibration)}
            if set(values) != kinds:
                raise ValueError(f"keys {sorted(set(values) ^ kinds)} missing or unknown")
            wires = {k: float(v) for k, v in values["lines"].items() if k != "row_ohm"}
            rest = {k: _array(v) for k, v in values.items() if k not in ("lines", "measured")}
            made = Calibration(
                **rest,
                lines=LineResistances(_array(values["lines"]["row_ohm"]), **wires),
                measured=str(values["measured"]),
            )
            made.check()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"not a calibration: {error}") from None
        return made

    def check(self) -> None:
        """Raise ValueError where shapes or values do not go together."""
        rows, cols = self.shape
        shapes = {
            "tia_offset_v": (4, rows),
            "range_gain": (4, rows),
            "dac_offset_v": (cols,),
            "dac_offset_error_v": (cols,),
            "row_error_ohm": (rows,),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value.shape != shape or np.isnan(value).any():
                raise ValueError(f"{name} must be {shape} numbers")
        for name in ("tia_offset_v", "dac_offset_v"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must be finite")
        lines = self.lines
        wires = (lines.bl_lead_ohm, lines.bl_segment_ohm, lines.sl_segment_ohm)
        if not (
            np.isfinite([*wires, *lines.row_ohm]).all() and min(*wires, lines.row_ohm.min()) >= 0
        ):
            raise ValueError("resistances must be finite and at least 0 ohm")
        if not (np.isfinite(self.range_gain).all() and self.range_gain.min() > 0):
            raise ValueError("range_gain must be finite and above 0")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if value == np.inf else value


def _array(value: Any) -> Array:
    nan = np.array(value, dtype=np.float64)  # None becomes nan, which is never stored as such
    result: Array = np.where(np.isnan(nan), np.inf, nan)
    return result
