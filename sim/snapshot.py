"""The state of an emulated board as bytes: for snapshots, and for state files.

Layout: magic, CRC-32 of all behind it, length of a JSON header, the header, the arrays one behind
the other. The header holds plain values (`meta`) and name, type and shape of every array. Nothing
in it is code, so a file from elsewhere can only be refused.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.bench import Bench
from sim.sequencer import Sequencer

Arrays = Mapping[str, npt.NDArray[Any]]

MAGIC = b"RRAMSIM\x02"
_HEAD = len(MAGIC) + 8


def pack(meta: Mapping[str, Any], arrays: Arrays) -> bytes:
    """Plain values and arrays as bytes."""
    ready = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    listed = [(name, array.dtype.str, array.shape) for name, array in ready.items()]
    header = json.dumps({"meta": meta, "arrays": listed}).encode()
    body = b"".join([header, *(array.tobytes() for array in ready.values())])
    length = len(header).to_bytes(4, "little")
    return MAGIC + zlib.crc32(length + body).to_bytes(4, "little") + length + body


def unpack(blob: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """The inverse of `pack`.

    Raises:
        ValueError: cut short, damaged, or nothing of the kind.
    """
    if len(blob) < _HEAD + 4 or not blob.startswith(MAGIC):
        raise ValueError("it does not begin as one")
    behind = memoryview(blob)[_HEAD - 4 :]
    if zlib.crc32(behind) != int.from_bytes(blob[_HEAD - 8 : _HEAD - 4], "little"):
        raise ValueError("it is cut short or damaged")
    place = 4 + int.from_bytes(behind[:4], "little")
    header = json.loads(bytes(behind[4:place]))
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, kind, shape in header["arrays"]:
        dtype = np.dtype(kind)
        size = int(np.prod(shape, dtype=np.int64))
        taken = np.frombuffer(behind, dtype, count=size, offset=place)
        arrays[name] = taken.reshape(shape).copy()
        place += size * dtype.itemsize
    return header["meta"], arrays


# ---- the parts around the array, which a state file leaves out: they are switched off with it ----


def parts(bench: Bench, sequencer: Sequencer) -> dict[str, Any]:
    """DACs, shift registers, direct lines, and when things last happened, as plain values."""
    return {
        # how often outputs have moved in all is of no consequence
        "dacs": [{k: v for k, v in vars(dac).items() if k != "updates"} for dac in bench.dacs],
        "chain": [bench.chain.shift.tolist(), bench.chain.storage.tolist()],
        "lines": [bench.latched, bench.enable, bench.tia_range, bench.oe],
        "moments": [sequencer.last_update, sequencer.last_closed, sequencer.last_shift],
        "resets": list(sequencer.last_reset),
    }


def put_parts(bench: Bench, sequencer: Sequencer, known: Mapping[str, Any]) -> None:
    """Put the parts into a state told by `parts`."""
    for dac, values in zip(bench.dacs, known["dacs"], strict=True):
        vars(dac).update(values)
    bench.chain.shift, bench.chain.storage = (np.array(b, np.uint8) for b in known["chain"])
    bench.latched, bench.enable, bench.tia_range, bench.oe = known["lines"]
    sequencer.last_update, sequencer.last_closed, sequencer.last_shift = known["moments"]
    sequencer.last_reset = list(known["resets"])
