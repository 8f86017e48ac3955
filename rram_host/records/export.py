"""Runs as CSV and netCDF."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rram_host.errors import InputError
from rram_host.records import layout
from rram_host.records.run_file import RunFile

_NETCDF = (".nc", ".nc4", ".netcdf")


def export(run: RunFile, path: Path, replace: bool = False) -> None:
    """Write a run's records to a .csv or .nc file, as the name ends.

    Args:
        run: what to write.
        path: the file to make.
        replace: whether a file that is there may be replaced.

    Raises:
        InputError: another ending, a file that is there, or one that cannot be written.
    """
    ending = path.suffix.lower()
    if ending != ".csv" and ending not in _NETCDF:
        raise InputError(f"{path}: a run is exported to .csv or .nc")
    if path.resolve() == run.path.resolve():
        raise InputError(f"{path} is the run file itself")
    if path.exists() and not replace:
        raise InputError(f"{path} exists; --replace writes over it")
    try:
        if ending == ".csv":
            _csv(run, path)
        else:
            run.dataset().to_netcdf(path, engine="h5netcdf")
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot write {path}: {reason}") from None


def _csv(run: RunFile, path: Path) -> None:
    """SI units; a line a record, or, where records are arrays, a line an element of the largest.

    Such lines carry the element's place (row, col, cell, ...), and what several elements share
    again and again. Where the arrays of a record have axes that the largest has not, a line is a
    record and values stand in columns name[i,j].
    """
    kinds = {column.dims for column in run.columns}
    largest = max(kinds, key=len)
    if not largest or not all(set(largest) >= set(kind) for kind in kinds):
        _wide(run, path)
        return
    names = [column.name for column in run.columns]
    places = [layout.RECORD, *largest]
    table = run.dataset()[names].to_dataframe(dim_order=places).reset_index()
    table[[*places, *names]].to_csv(path, index=False)


def _wide(run: RunFile, path: Path) -> None:
    data = run.data()
    names, parts = [layout.RECORD], [np.arange(run.state.rows).astype(object)[:, None]]
    for column in run.columns:
        names += [column.name + place for place in _places(column.shape)]
        parts.append(_texts(data[column.name]).reshape(run.state.rows, -1))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        writer.writerows(np.concatenate(parts, axis=1))


def _texts(values: npt.NDArray[np.generic]) -> npt.NDArray[np.object_]:
    """Python's own numbers, which csv writes with all their digits; bytes as text."""
    if values.dtype.kind == "S":
        values = np.char.decode(values.astype(np.bytes_), "utf-8", "replace")
    made: npt.NDArray[np.object_] = values.astype(int if values.dtype == bool else values.dtype)
    return made.astype(object)


def _places(shape: tuple[int, ...]) -> Iterator[str]:
    if not shape:
        yield ""
        return
    for place in product(*map(range, shape)):
        yield f"[{','.join(map(str, place))}]"
