"""Batches against the columns that they belong to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError
from rram_host.records.columns import Batch, Column


def checked(batch: Batch, columns: tuple[Column, ...]) -> dict[str, npt.NDArray[np.generic]]:
    """The batch as arrays of its columns' types, (rows, *shape of one record).

    Raises:
        InputError: other columns, rows of different number, another shape or type.
    """
    if set(batch) != {column.name for column in columns}:
        differ = sorted(set(batch) ^ {column.name for column in columns})
        raise InputError(f"batch and columns differ in {', '.join(differ)}")
    values: dict[str, npt.NDArray[np.generic]] = {}
    n_rows = None
    for column in columns:
        item = np.asarray(batch[column.name])
        kind = np.dtype(column.dtype)
        n_rows = len(item) if n_rows is None and item.ndim else n_rows
        if item.shape != (n_rows, *column.shape) or not np.can_cast(item.dtype, kind, "same_kind"):
            raise InputError(
                f"batch: {column.name} has shape {item.shape} of {item.dtype}, its column wants "
                f"{(n_rows, *column.shape)} of {kind}"
            )
        values[column.name] = item.astype(kind)
    return values
