"""What a run records: columns with units, and batches of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError

Batch = Mapping[str, npt.NDArray[np.generic]]
Data = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Column:
    """One quantity of every record.

    Attributes:
        name: with its SI unit at the end, as everywhere ("conductance_siemens", "wl_v").
        unit: of the values ("S", "V", "s", "J"); empty for counts and flags.
        text: what it is, for axis labels and for readers of the file.
        dtype: of the values in the file.
        dims: names of the axes of one record's value; () for a number. "row" and "col" are the
            array's.
        shape: length of each of these axes.
    """

    name: str
    unit: str
    text: str
    dtype: str = "f8"
    dims: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse axes without a length."""
        if len(self.dims) != len(self.shape):
            raise InputError(f"column {self.name}: axes {self.dims} of lengths {self.shape}")
