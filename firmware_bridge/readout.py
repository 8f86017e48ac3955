"""ADC words back to amperes, and the choice of an amplifier range."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from firmware_bridge import kernels
from firmware_bridge.board_spec import BoardSpec
from firmware_bridge.errors import InputError

# A cell that reads less has never been formed: a deep RESET leaves 1 uS, an oxide conducts 10 nS,
# and a reading scatters by 20 nS.
PRISTINE_SIEMENS = 0.3e-6
CELL_RANGE = 2  # 20 uA: one cell of 110 uS at 0.1 V, with the amplifier's offset
# A range is chosen so that the expected current fills at most this part of it.
FILL = 0.9
OFFSET_HEADROOM_V = 2e-3


def selects_for(spec: BoardSpec, rows: npt.NDArray[np.int64]) -> list[int]:
    """ADC multiplexer inputs that must be converted to read `rows`."""
    return sorted({spec.select_of_row[row] for row in rows.tolist()})


def conversions(spec: BoardSpec, rows: npt.NDArray[np.int64]) -> int:
    """How many conversions a vector takes to read `rows`."""
    return _places(spec.select_of_row, spec.adc_of_row, spec.adcs, rows.tobytes())[1]


def currents(
    words: npt.NDArray[np.uint16],
    spec: BoardSpec,
    rows: npt.NDArray[np.int64],
    tia_range: int,
    gain: npt.NDArray[np.float64] | float = 1.0,
    zeros: int = 0,
) -> tuple[npt.NDArray[np.float64], int]:
    """Currents into the amplifiers of `rows`.

    I = -code gain LSB / R_f: a current that flows from BL through the cell into the virtual
    ground pulls the amplifier's output below its bias.

    Args:
        words: ADC words of n vectors, n * selects * adcs of them.
        spec: the board.
        rows: rows that were converted.
        tia_range: 0..3.
        gain: true over nominal current of each of the rows, (len(rows),), or of all.
        zeros: so many vectors at the beginning are zero inputs: their mean is subtracted from the
            others, and they are left out.

    Returns:
        Amperes, (n - zeros, len(rows)), and how many conversions were at the end of the range.
    """
    place, taken = _places(spec.select_of_row, spec.adc_of_row, spec.adcs, rows.tobytes())
    mine = words.reshape(-1, taken)
    lsb = spec.current_lsb_a(tia_range)
    per_code = np.full(place.size, -lsb) * gain
    end = math.ceil(spec.full_scale_a(tia_range) / lsb - 1)
    amperes = np.empty((len(mine) - zeros, place.size))
    return amperes, kernels.decode(mine, zeros, place, per_code, end, amperes)


@lru_cache(maxsize=64)
def _places(
    select_of_row: tuple[int, ...], adc_of_row: tuple[int, ...], adcs: int, rows: bytes
) -> tuple[npt.NDArray[np.int64], int]:
    """Which conversion of a vector belongs to each of some rows, and how many a vector takes."""
    wanted = np.frombuffer(rows, dtype=np.int64).tolist()
    selects = sorted({select_of_row[row] for row in wanted})
    place = [selects.index(select_of_row[row]) * adcs + adc_of_row[row] for row in wanted]
    return np.array(place, dtype=np.int64), len(selects) * adcs


def choose_range(spec: BoardSpec, largest_a: float, largest_row_siemens: float) -> int:
    """Most sensitive range that holds `largest_a` and the amplifier's own offset.

    Args:
        spec: the board.
        largest_a: largest expected current, in amperes.
        largest_row_siemens: largest sum of conductances of a row: the offset of the virtual
            ground drives a current through all of them.

    Returns:
        Range index, least sensitive first. Range 0 where none is large enough.
    """
    needed = largest_a + OFFSET_HEADROOM_V * largest_row_siemens
    fits = [r for r in range(4) if needed <= FILL * spec.full_scale_a(r)]
    return max(fits, key=lambda r: spec.tia_feedback_ohm[r], default=0)


def check_range(tia_range: int) -> int:
    """A range index, checked."""
    if tia_range not in range(4):
        raise InputError(f"TIA range {tia_range} is outside 0..3")
    return tia_range
