"""What stands where in a run file, and the empty file that every run begins with.

Root: one dataset a column, of shape (records, *shape of one record), with dimension scales
`record`, `row`, `col`, ...; `map_siemens`, the array before the run; attributes that say what ran.
Group `state`: what changes while the run goes on, in datasets of fixed size, because a file that is
written and read at once (SWMR) takes no new objects or attributes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from h5py import h5f, h5p

from firmware_bridge.traffic import DIGEST_BYTES
from rram_host.errors import InputError
from rram_host.records.columns import Column

Array = npt.NDArray[np.float64]

FORMAT = 1
KIND = "rram run"
RECORD = "record"
MAP = "map_siemens"
COMMIT, STATUS, REASON, ENDED, WRITER, COUNTS, TRAFFIC, START = (
    f"state/{name}"
    for name in ("commit", "status", "reason", "ended", "writer", "counts", "traffic", "start")
)
# Of a unit in `state/traffic`: the digest, and 1 where a run that was broken off went on with it.
TRAFFIC_BYTES = DIGEST_BYTES + 1
_TEXT_BYTES = {STATUS: 16, REASON: 2000, ENDED: 40, WRITER: 400, COUNTS: 400}
# Small objects of the file never cross a page. A write inside a page is done whole or not at all
# when the process is killed.
_PAGE_BYTES = 4096
_CHUNK_BYTES = 1 << 15
_LIBVER = ("v110", "v110")  # the oldest format with SWMR: readable by every HDF5 since 2016
_DIM_TEXT = {RECORD: "record", "row": "row (WL, SL)", "col": "column (BL)"}
_ORDER = "columns"
_JSON = ("plan", "info", "spec", "calibration", "versions")


@dataclass(frozen=True)
class Header:
    """What a run is, known before its first record.

    Attributes:
        experiment, title: its name and its one line.
        plan: the plan's fields.
        units: units of work in all.
        seed: of the plan; None where it has none.
        board: URL, or name of the transport.
        info: what the board said of itself.
        spec: fields of the BoardSpec.
        chip, passport: of the chip and the passport's file; empty without one.
        calibration: in use; see `Calibration.to_dict`.
        versions: of Python, packages, HDF5, git revision.
        started: ISO time, UTC.
        map_siemens: the array before the first pulse, (rows, cols).
    """

    experiment: str
    title: str
    plan: Mapping[str, Any]
    units: int
    seed: int | None
    board: str
    info: Mapping[str, Any]
    spec: Mapping[str, Any]
    chip: str
    passport: str
    calibration: Mapping[str, Any]
    versions: Mapping[str, str]
    started: str
    map_siemens: Array

    @property
    def map_sha256(self) -> str:
        """SHA-256 of the map's values, float64, little-endian, row by row."""
        return hashlib.sha256(self.map_siemens.astype("<f8").tobytes()).hexdigest()


def to_json(value: Any) -> str:
    """JSON text that gives the same numbers back; NaN and Infinity are kept."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)


# ---- the empty file -----------------------------------------------------------------------------


def lay_out(
    path: Path,
    header: Header,
    columns: Sequence[Column],
    state: Mapping[str, str],
    start: bytes | None = None,
) -> None:
    """Write a file without records.

    Args:
        path: of the file.
        header: of the run.
        columns: of its records.
        state: texts of the state, by their place.
        start: snapshot of the board that the run begins on; None where it offers none.

    Raises:
        InputError: columns that do not go together.
        OSError: it cannot be written.
    """
    dims = _dims(header, columns)
    with h5py.File(
        path, "w", libver=_LIBVER, locking=False, fs_strategy="page", fs_page_size=_PAGE_BYTES
    ) as file:
        _put_attributes(file, header)
        _put_scales(file, dims)
        _put(file, MAP, header.map_siemens, ("row", "col"), "S", "conductance before the run")
        for column in columns:
            _put_column(file, column)
        file.attrs[_ORDER] = to_json([column.name for column in columns])
        file.create_dataset(COMMIT, data=np.zeros(2, dtype="i8"))
        file.create_dataset(TRAFFIC, data=np.zeros((header.units, TRAFFIC_BYTES), dtype="u1"))
        if start is not None:
            file.create_dataset(START, data=np.frombuffer(zlib.compress(start, 1), dtype="u1"))
        for name, size in _TEXT_BYTES.items():
            text = state.get(name, "").encode()[:size]
            file.create_dataset(name, data=np.array(text, dtype=f"S{size}"))


def _dims(header: Header, columns: Sequence[Column]) -> dict[str, int]:
    """Length of every axis but that of records."""
    dims = dict(zip(("row", "col"), header.map_siemens.shape, strict=True))
    names = [RECORD, MAP, "state", *dims]
    for column in columns:
        for name, length in zip(column.dims, column.shape, strict=True):
            if dims.setdefault(name, length) != length or name == RECORD:
                raise InputError(f"column {column.name}: axis {name} has length {dims[name]} too")
        if np.dtype(column.dtype).kind not in "biufS":
            raise InputError(f"column {column.name}: type {column.dtype} cannot be recorded")
        names.append(column.name)
    names += set(dims) - {"row", "col"}
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"columns or axes of the same name: {', '.join(twice)}")
    return dims


def _put_attributes(file: h5py.File, header: Header) -> None:
    attributes = {"kind": KIND, "format": FORMAT, "map_sha256": header.map_sha256}
    for field in dataclasses.fields(header):
        value = getattr(header, field.name)
        if field.name in _JSON:
            attributes[field.name] = to_json(value)
        elif field.name != MAP and value is not None:
            attributes[field.name] = value
    file.attrs.update(attributes)


def _put_scales(file: h5py.File, dims: Mapping[str, int]) -> None:
    record = file.create_dataset(
        RECORD, (0,), maxshape=(None,), chunks=(_CHUNK_BYTES // 8,), dtype="i8"
    )
    scales = {RECORD: record}
    scales |= {name: file.create_dataset(name, data=np.arange(n)) for name, n in dims.items()}
    for name, scale in scales.items():
        scale.make_scale(name)
        scale.attrs["long_name"] = _DIM_TEXT.get(name, name)


def _put(
    file: h5py.File, name: str, data: Array, dims: Sequence[str], unit: str, text: str
) -> None:
    _label(file, file.create_dataset(name, data=data), dims, unit, text)


def _put_column(file: h5py.File, column: Column) -> None:
    kind = np.dtype("i1" if column.dtype == "bool" else column.dtype)
    of_one = kind.itemsize * int(np.prod(column.shape))
    made = file.create_dataset(
        column.name,
        (0, *column.shape),
        maxshape=(None, *column.shape),
        chunks=(max(1, _CHUNK_BYTES // max(of_one, 1)), *(max(1, n) for n in column.shape)),
        dtype=kind,
        fillvalue=np.nan if kind.kind == "f" else None,
    )
    _label(file, made, (RECORD, *column.dims), column.unit, column.text)
    if column.dtype == "bool":
        made.attrs["dtype"] = "bool"  # xarray's way: files of netCDF have no flags


def _label(file: h5py.File, made: h5py.Dataset, dims: Sequence[str], unit: str, text: str) -> None:
    made.attrs["units"], made.attrs["long_name"] = unit or "1", text
    for axis, name in enumerate(dims):
        made.dims[axis].attach_scale(file[name])


# ---- opening ------------------------------------------------------------------------------------


def open_to_write(path: Path) -> h5py.File:
    """A laid out file, opened for writing while others read.

    h5py's own way sets the two flags of a file that is written one after the other; a process that
    is killed between them leaves a file that nobody can open. Here they are set at once.

    Raises:
        OSError: it is being written, or cannot be.
    """
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_libver_bounds(h5f.LIBVER_V110, h5f.LIBVER_V110)
    access.set_file_locking(False, True)  # a `Claim` keeps others out; readers are no hindrance
    return h5py.File(h5f.open(os.fsencode(path), h5f.ACC_RDWR | h5f.ACC_SWMR_WRITE, access))


def open_to_read(path: Path) -> h5py.File:
    """A file, whether it is whole, being written, or left by a killed process.

    Raises:
        OSError: it cannot be opened.
    """
    # without locks, so that no writer is hindered; with, where this process has it open so already
    for swmr in (None, True):
        for locking in (False, None):
            with contextlib.suppress(OSError):
                return h5py.File(path, "r", swmr=swmr, locking=locking)
    return h5py.File(path, "r", locking=False)  # says why


def header_of(file: h5py.File) -> Header:
    """The inverse of `lay_out`.

    Raises:
        KeyError, ValueError: something is missing.
    """
    if file.attrs.get("kind") != KIND:
        raise ValueError("it was not written by rram")
    if file.attrs["format"] != FORMAT:
        raise ValueError(f"its format is {file.attrs['format']}, this program reads {FORMAT}")
    values: dict[str, Any] = {MAP: file[MAP][()], "seed": None}
    for field in dataclasses.fields(Header):
        if field.name in file.attrs:
            value = file.attrs[field.name]
            values[field.name] = json.loads(value) if field.name in _JSON else _python(value)
    return Header(**values)


def _python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def columns_of(file: h5py.File) -> tuple[Column, ...]:
    """Columns in their order."""
    return tuple(_column(name, file[name]) for name in json.loads(file.attrs[_ORDER]))


def _column(name: str, item: h5py.Dataset) -> Column:
    unit = item.attrs["units"]
    return Column(
        name,
        "" if unit == "1" else str(unit),
        str(item.attrs["long_name"]),
        str(item.attrs.get("dtype", item.dtype.str.lstrip("<|="))),
        tuple(Path(item.dims[axis][0].name).name for axis in range(1, item.ndim)),
        item.shape[1:],
    )
